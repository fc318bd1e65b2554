//! The circuit breaker of an endpoint.

use std::time::Instant;

use super::failure::{Cause, Failure, Rate, Run};
use crate::policy;

/// The fact, with its evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Breaker {
    /// `None`: closed.
    pub(super) open: Option<Open>,
    pub(super) run: Run,
}

/// The endpoint takes no requests until a time; then it is half open, and takes one probe at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) cause: Cause,
    pub(super) since: Instant,
    pub(super) until: Instant,
    /// Successes since it opened.
    pub(super) successes: u32,
}

impl Breaker {
    /// Takes in a failure, with the rate of failures up to it. Whether that opened it.
    pub(super) fn failed(
        &mut self,
        policy: &policy::Breaker,
        failure: Failure,
        rate: Option<Rate>,
        now: Instant,
    ) -> bool {
        self.run.add(None, now);
        let cause = match &self.open {
            Some(open) if now < open.until => return false,
            Some(_) => Some(Cause::Failure(failure)),
            None => self.cause(policy, failure, rate),
        };
        let Some(cause) = cause else { return false };
        self.open = Some(Open {
            cause,
            since: now,
            until: now + policy.open,
            successes: 0,
        });
        true
    }

    fn cause(&self, policy: &policy::Breaker, failure: Failure, rate: Option<Rate>) -> Option<Cause> {
        if policy
            .consecutive_failures
            .is_some_and(|most| self.run.count >= most)
        {
            return Some(Cause::Row(self.run.count, failure));
        }
        let limit = policy.error_rate.as_ref()?;
        let rate = rate.filter(|rate| rate.exceeds(limit))?;
        Some(Cause::Rate(rate, limit.window))
    }

    /// Takes in a success of a request that began then. Whether that closed it.
    pub(super) fn succeeded(&mut self, policy: &policy::Breaker, began: Instant) -> bool {
        self.run = Run::default();
        if let Some(open) = self.open.as_mut().filter(|open| began >= open.since) {
            open.successes = open.successes.saturating_add(1);
        }
        self.open
            .take_if(|open| open.successes >= policy.successes.max(1))
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::ErrorRate;

    /// Plays `SECOND:EVENT ...` with `-` a failure, `+` a success of a request that has just begun, `<` of one that
    /// began 100 s ago; gives the state after each: `c` closed, `o` open, `h` half open.
    fn play(policy: &policy::Breaker, events: &str) -> String {
        let start = Instant::now() + Duration::from_secs(1000);
        let mut breaker = Breaker::default();
        let mut step = |event: &str| {
            let (at, event) = event.split_once(':').unwrap();
            let now = start + Duration::from_secs(at.parse().unwrap());
            match event {
                "-" => breaker.failed(policy, Failure::Broken, None, now),
                "+" => breaker.succeeded(policy, now),
                "<" => breaker.succeeded(policy, now - Duration::from_secs(100)),
                other => panic!("{other}"),
            };
            match breaker.open {
                None => 'c',
                Some(open) if now < open.until => 'o',
                Some(_) => 'h',
            }
        };
        events.split(' ').map(&mut step).collect()
    }

    #[test]
    fn transitions() {
        for (events, want) in [
            ("0:- 0:- 0:- 0:- 0:-", "cccco"),
            ("0:- 0:- 0:- 0:- 0:+ 0:- 0:- 0:- 0:- 0:-", "ccccccccco"),
            ("0:- 0:- 0:- 0:- 0:- 1:- 30:+ 30:+", "ccccoohc"),
            (
                "0:- 0:- 0:- 0:- 0:- 30:+ 30:- 31:- 60:+ 60:- 90:+ 90:+",
                "ccccohoohohc",
            ),
            // What was under way when it opened does not close it.
            ("0:- 0:- 0:- 0:- 0:- 1:< 1:< 1:<", "ccccoooo"),
            // In panic it is used although it is open; successes close it then, too.
            ("0:- 0:- 0:- 0:- 0:- 1:+ 2:+", "ccccooc"),
        ] {
            assert_eq!(play(&policy::Breaker::default(), events), want, "{events}");
        }
    }

    #[test]
    fn off() {
        let off = policy::Breaker {
            consecutive_failures: None,
            ..policy::Breaker::default()
        };
        assert_eq!(play(&off, "0:- 0:- 0:- 0:- 0:- 0:- 0:-"), "ccccccc");
    }

    #[test]
    fn a_rate_opens() {
        let policy = policy::Breaker {
            consecutive_failures: None,
            error_rate: Some(ErrorRate::default()),
            ..policy::Breaker::default()
        };
        let mut breaker = Breaker::default();
        let rate = |failed| Some(Rate { failed, total: 100 });
        assert!(!breaker.failed(&policy, Failure::TimedOut, rate(49), Instant::now()));
        assert!(breaker.failed(&policy, Failure::TimedOut, rate(50), Instant::now()));
    }
}
