//! How many sessions may begin: so many a second, and a second's worth at once.

use std::time::{Duration, Instant};

/// An allowance that fills up with time.
#[derive(Debug)]
pub(super) struct Rate {
    each: Duration,
    /// When everything that was taken is earned.
    earned: Option<Instant>,
}

impl Rate {
    /// So many a second, at least one.
    pub(super) fn new(a_second: u32) -> Self {
        Self {
            each: Duration::from_secs(1) / a_second.max(1),
            earned: None,
        }
    }

    /// Takes one, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let earned = self.earned.map_or(now, |earned| earned.max(now)) + self.each;
        let allowed = earned.saturating_duration_since(now) <= Duration::from_secs(1);
        if allowed {
            self.earned = Some(earned);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let mut rate = Rate::new(1000);
        let taken = |rate: &mut Rate, milliseconds: u64| {
            let now = start + Duration::from_millis(milliseconds);
            (0..5000).filter(|_| rate.take(now)).count()
        };
        assert_eq!(taken(&mut rate, 0), 1000);
        assert_eq!(taken(&mut rate, 0), 0);
        assert_eq!(taken(&mut rate, 10), 10);
        assert_eq!(taken(&mut rate, 60_000), 1000);
    }
}
