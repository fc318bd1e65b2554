//! When the next check of an endpoint is due.

use std::time::Duration;

use ahash::RandomState;
use constellation_table::policy::HealthCheck;

/// The checks that confirm a first failure follow after this long at the latest.
const CONFIRM: Duration = Duration::from_secs(1);
/// The first checks of many endpoints are spread over this long at the most.
const SPREAD: Duration = Duration::from_secs(1);

/// What the last check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The check itself.
    pub(super) good: bool,
    /// What the endpoint counts as now, by the thresholds.
    pub(super) healthy: bool,
}

/// From the start of one check to the start of the next. `part` of 0 to 999 says how much of the jitter is taken off.
pub(super) fn pause(check: &HealthCheck, found: Found, part: u32) -> Duration {
    let (length, jitter) = match found {
        Found {
            good: true,
            healthy: true,
        } => (check.interval, true),
        // Not known to be bad yet: the next checks say soon.
        Found {
            good: false,
            healthy: true,
        } => (check.interval.min(CONFIRM), false),
        Found { healthy: false, .. } => (check.unhealthy_interval, true),
    };
    if jitter {
        length - length / 10 * (part % 1000) / 1000
    } else {
        length
    }
}

/// How long the first check of one of `count` endpoints that come at once waits: about a millisecond for each, so that
/// few are asked at once and many are not asked together.
pub(super) fn first(check: &HealthCheck, count: usize, part: u32) -> Duration {
    let count = u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX);
    let spread = Duration::from_millis(1)
        .saturating_mul(count)
        .min(SPREAD)
        .min(check.interval);
    spread * (part % 1000) / 1000
}

/// Parts for the jitter: different for each endpoint, each check and each run.
#[derive(Debug, Default)]
pub(super) struct Jitter {
    seed: RandomState,
    count: u64,
}

impl Jitter {
    pub(super) fn next(&mut self) -> u32 {
        self.count += 1;
        u32::try_from(self.seed.hash_one(self.count) % 1000).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> HealthCheck {
        HealthCheck {
            interval: Duration::from_secs(30),
            unhealthy_interval: Duration::from_secs(10),
            ..HealthCheck::default()
        }
    }

    #[test]
    fn a_healthy_endpoint_is_asked_in_the_interval_less_a_tenth_at_most() {
        let found = Found {
            good: true,
            healthy: true,
        };
        assert_eq!(pause(&check(), found, 0), Duration::from_secs(30));
        assert_eq!(pause(&check(), found, 500), Duration::from_millis(28_500));
        assert!(pause(&check(), found, 999) > Duration::from_secs(27));
    }

    #[test]
    fn a_first_failure_is_confirmed_within_a_second() {
        let found = Found {
            good: false,
            healthy: true,
        };
        assert_eq!(pause(&check(), found, 700), Duration::from_secs(1));
        let quick = HealthCheck {
            interval: Duration::from_millis(100),
            ..check()
        };
        assert_eq!(pause(&quick, found, 700), Duration::from_millis(100));
    }

    #[test]
    fn an_unhealthy_endpoint_is_asked_in_its_own_interval() {
        for good in [true, false] {
            let found = Found { good, healthy: false };
            assert_eq!(pause(&check(), found, 0), Duration::from_secs(10));
        }
    }

    #[test]
    fn first_checks_come_at_once_and_many_are_spread() {
        assert_eq!(first(&check(), 1, 999), Duration::ZERO);
        assert!(first(&check(), 10, 999) < Duration::from_millis(10));
        assert!(first(&check(), 1_000_000, 999) < Duration::from_secs(1));
        assert_eq!(first(&check(), 1_000_000, 500), Duration::from_millis(500));
    }

    #[test]
    fn parts_differ() {
        let mut jitter = Jitter::default();
        let parts: std::collections::HashSet<u32> = (0..100).map(|_| jitter.next()).collect();
        assert!(parts.len() > 50, "{parts:?}");
        assert!(parts.iter().all(|part| *part < 1000));
    }
}
