//! What counts as a failure of an endpoint, and what evidence of it is kept.

use std::fmt::{Display, Formatter, Result};
use std::time::{Duration, Instant};

use super::Outcome;
use crate::policy::Retry;

/// An attempt at the endpoint failed, and that says something about the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    ConnectFailed,
    ConnectTimeout,
    Broken,
    TimedOut,
    Status(u16),
}

/// What an outcome says of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// It serves.
    Good { latency: Duration },
    /// It does not.
    Bad(Failure),
    /// It leaves requests unanswered while its siblings answer. The requests still run, so none has failed.
    Unanswered,
    /// Nothing.
    None,
}

impl Evidence {
    pub(super) fn of(outcome: Outcome, policy: &Retry) -> Self {
        match outcome {
            // 403 and 429, which may be tried elsewhere too, say something about the client.
            Outcome::Answered { status, .. } if status >= 500 && policy.statuses.contains(&status) => {
                Self::Bad(Failure::Status(status))
            }
            Outcome::Answered { latency, .. } | Outcome::Connected { latency } => Self::Good { latency },
            Outcome::ConnectFailed => Self::Bad(Failure::ConnectFailed),
            Outcome::ConnectTimeout => Self::Bad(Failure::ConnectTimeout),
            Outcome::Broken => Self::Bad(Failure::Broken),
            Outcome::TimedOut => Self::Bad(Failure::TimedOut),
            Outcome::Unanswered => Self::Unanswered,
            Outcome::Abandoned => Self::None,
        }
    }
}

impl Failure {
    /// There was no connection at all.
    pub(super) fn is_connect(self) -> bool {
        matches!(self, Self::ConnectFailed | Self::ConnectTimeout)
    }

    /// It was an answer, if a bad one.
    pub(super) fn is_answer(self) -> bool {
        matches!(self, Self::Status(_))
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::ConnectFailed => f.write_str("no connection could be made"),
            Self::ConnectTimeout => f.write_str("no connection could be made in time"),
            Self::Broken => f.write_str("the connection broke before a response was complete"),
            Self::TimedOut => f.write_str("no response came in time"),
            Self::Status(status) => write!(f, "it answered {status}"),
        }
    }
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) count: u32,
    last: Option<Instant>,
}

impl Run {
    /// One more; failures further apart than `window` do not add up.
    pub(super) fn add(&mut self, window: Option<Duration>, now: Instant) {
        let apart = |last: Instant| window.is_some_and(|window| now.saturating_duration_since(last) > window);
        if self.last.is_some_and(apart) {
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.last = Some(now);
    }
}

/// Requests in a window, and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) failed: u32,
    pub(super) total: u32,
}

impl Rate {
    /// Whether it is at or above what the policy tolerates.
    pub(super) fn exceeds(self, policy: &crate::policy::ErrorRate) -> bool {
        self.total >= policy.min_requests.max(1)
            && u64::from(self.failed) * 100 >= u64::from(self.total) * u64::from(policy.percent)
    }
}

/// Why an endpoint was ejected, or its breaker opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// One failure was enough: a connect, or that of a probe.
    Failure(Failure),
    /// As many failures in a row, the last one this.
    Row(u32, Failure),
    /// Too many failures in the window.
    Rate(Rate, Duration),
    /// Requests stayed unanswered while its siblings answered.
    Unanswered,
}

impl Display for Cause {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Failure(failure) => failure.fmt(f),
            Self::Row(count, failure) => write!(f, "{count} failures in a row, the last: {failure}"),
            Self::Rate(Rate { failed, total }, window) => {
                write!(
                    f,
                    "{failed} of {total} requests failed within {} s",
                    window.as_secs_f64()
                )
            }
            Self::Unanswered => f.write_str("it leaves requests unanswered while its siblings answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::ErrorRate;

    #[test]
    fn what_counts_as_a_failure() {
        let latency = Duration::from_millis(3);
        let answered = |status| Outcome::Answered { status, latency };
        for (outcome, want) in [
            (answered(200), Evidence::Good { latency }),
            (answered(404), Evidence::Good { latency }),
            (answered(500), Evidence::Good { latency }),
            (answered(502), Evidence::Bad(Failure::Status(502))),
            (answered(503), Evidence::Bad(Failure::Status(503))),
            (answered(504), Evidence::Bad(Failure::Status(504))),
            (Outcome::Connected { latency }, Evidence::Good { latency }),
            (Outcome::ConnectFailed, Evidence::Bad(Failure::ConnectFailed)),
            (Outcome::ConnectTimeout, Evidence::Bad(Failure::ConnectTimeout)),
            (Outcome::Broken, Evidence::Bad(Failure::Broken)),
            (Outcome::TimedOut, Evidence::Bad(Failure::TimedOut)),
            (Outcome::Unanswered, Evidence::Unanswered),
            (Outcome::Abandoned, Evidence::None),
        ] {
            assert_eq!(Evidence::of(outcome, &Retry::default()), want, "{outcome:?}");
        }
    }

    #[test]
    fn what_is_tried_elsewhere_because_of_the_client_is_no_failure() {
        let latency = Duration::from_millis(3);
        let policy = Retry {
            statuses: [403, 429, 500].into_iter().collect(),
            ..Retry::default()
        };
        for (status, want) in [
            (403, Evidence::Good { latency }),
            (429, Evidence::Good { latency }),
            (500, Evidence::Bad(Failure::Status(500))),
            (503, Evidence::Good { latency }),
        ] {
            assert_eq!(
                Evidence::of(Outcome::Answered { status, latency }, &policy),
                want,
                "{status}"
            );
        }
    }

    #[test]
    fn failures_far_apart_do_not_add_up() {
        let start = Instant::now();
        let counts = |window: Option<u64>, at: &[u64]| {
            let mut run = Run::default();
            for second in at {
                run.add(
                    window.map(Duration::from_secs),
                    start + Duration::from_secs(*second),
                );
            }
            run.count
        };
        assert_eq!(counts(None, &[0, 100, 1000]), 3);
        assert_eq!(counts(Some(10), &[0, 10, 20]), 3);
        assert_eq!(counts(Some(10), &[0, 10, 21]), 1);
    }

    #[test]
    fn rates() {
        let policy = ErrorRate::default();
        for (failed, total, want) in [
            (0, 0, false),
            (19, 19, false),
            (10, 20, true),
            (9, 20, false),
            (20, 20, true),
        ] {
            assert_eq!(
                Rate { failed, total }.exceeds(&policy),
                want,
                "{failed} of {total}"
            );
        }
    }
}
