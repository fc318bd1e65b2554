//! Changes of health in the log: each one, unless there are so many that they would drown everything else.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use constellation_table::{Service, Transition};
use tokio::sync::watch;

use crate::metrics::Metrics;

/// Lines written at once.
const BURST: u32 = 50;
/// After that, one line in this time.
const REFILL: Duration = Duration::from_millis(200);

/// Counts changes of what is known of endpoints, and writes them to the log. Takes locks, as changes are rare.
#[derive(Debug, Default)]
pub(crate) struct Log {
    allowance: Mutex<Allowance>,
    /// How many changes there were.
    count: watch::Sender<u64>,
}

/// How many lines may be written.
#[derive(Debug, Default)]
struct Allowance {
    used: u32,
    since: Option<Instant>,
    withheld: u64,
}

impl Log {
    /// Tells of all changes that one event brought.
    pub(crate) fn tell(&self, metrics: &Metrics, service: &Service, transitions: &[Transition]) {
        for transition in transitions {
            metrics.transition(&service.name, transition);
            self.write(&service.name, transition);
        }
        if !transitions.is_empty() {
            self.count.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Changes with each change, for whoever wants to look again then.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    fn write(&self, service: &str, transition: &Transition) {
        let allowed = {
            let mut allowance = self.allowance.lock().unwrap_or_else(PoisonError::into_inner);
            allowance.take(Instant::now())
        };
        let Some(withheld) = allowed else { return };
        if withheld > 0 {
            tracing::warn!(
                withheld,
                "the health of endpoints changed too often to write each change"
            );
        }
        let Transition {
            endpoint,
            fact,
            to,
            reason,
        } = transition;
        if is_for_the_worse(to) {
            tracing::warn!(service, %endpoint, fact, to, "{reason}");
        } else {
            tracing::info!(service, %endpoint, fact, to, "{reason}");
        }
    }
}

fn is_for_the_worse(to: &str) -> bool {
    ["unhealthy", "ejected", "open", "on"].contains(&to)
}

impl Allowance {
    /// Whether a line may be written, and how many were not since the last one.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let since = *self.since.get_or_insert(now);
        let refilled = now.saturating_duration_since(since).as_millis() / REFILL.as_millis();
        if refilled > 0 {
            self.used = self
                .used
                .saturating_sub(u32::try_from(refilled).unwrap_or(u32::MAX));
            self.since = Some(now);
        }
        if self.used >= BURST {
            self.withheld += 1;
            return None;
        }
        self.used += 1;
        Some(std::mem::take(&mut self.withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_told() {
        let start = Instant::now();
        let mut allowance = Allowance::default();
        let written = (0..1000).filter(|_| allowance.take(start).is_some()).count();
        assert_eq!(written, 50);
        assert_eq!(allowance.take(start + REFILL), Some(950));
        assert_eq!(allowance.take(start + REFILL), None);
        assert_eq!(allowance.take(start + Duration::from_secs(60)), Some(1));
    }
}
