//! Log lines that strangers can cause: one in a while, with how many were left out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(5);

/// Lets one through for each [`PAUSE`].
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Throttle {
    /// Whether to write a line now: then how many were left out since the last.
    pub(crate) fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < PAUSE)
        {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{PAUSE, Throttle};

    #[test]
    fn one_in_a_while_passes_and_tells_of_the_others() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let passed = [0, 0, 1, 9, 10, 10, 20].map(|tenths| throttle.pass(start + PAUSE * tenths / 10));
        assert_eq!(passed, [Some(0), None, None, None, Some(3), None, Some(1)]);
    }
}
