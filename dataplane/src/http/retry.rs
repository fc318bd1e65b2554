//! Whether a failed attempt is followed by another one: one pure function.

use std::time::Duration;

use constellation_table::Policy;
use constellation_table::policy::Retry;
use http::Method;
use pingora_http::RequestHeader;

use crate::metrics::GaveUp;

/// Attempts at one request, all together. Enough to walk past a dead half of a large service, and an end for loops.
pub(crate) const MAX_ATTEMPTS: usize = 16;

/// Attempts at one endpoint that closes one connection after the other.
const MAX_AGAIN: usize = 4;

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection was made, so no byte of the request was sent.
    Connect {
        /// The time for it ran out.
        timed_out: bool,
    },
    /// The connection ended before the head of a response was complete.
    Broken {
        /// It came from the pool, so the back end may have closed it before it saw the request.
        reused: bool,
    },
    /// No response in time.
    Silent,
    /// What came was no sound response.
    Unsound,
    /// The back end refused the stream before it looked at the request (HTTP/2 GOAWAY, REFUSED_STREAM).
    NotProcessed,
    /// A sound response whose status is to be tried elsewhere.
    Status {
        /// At another service, as this one answered what is left to the next.
        leave: bool,
    },
    /// The endpoint left before there was a connection.
    Departed,
    /// Whatever can't be helped by another attempt.
    Final,
}

/// What is known when an attempt has failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// How it failed.
    pub(super) failure: Failure,
    /// Whether repeating the request has the effect of doing it once.
    pub(super) repeatable: bool,
    /// Whether the body read so far can be sent again.
    pub(super) replayable: bool,
    /// Attempts made, this one included.
    pub(super) made: usize,
    /// Attempts allowed.
    pub(super) most: usize,
    /// Whether another candidate is left.
    pub(super) others: bool,
    /// Whether an attempt before failed in a way that costs nothing once ([`Failure::is_excused_once`]).
    pub(super) excused: bool,
    /// Attempts that middlewares ask for after such a failure, at candidates that were tried as well; 0: none.
    pub(super) again: usize,
}

impl Failure {
    /// The back end did nothing for the request, as far as can be seen. A connection that was idle for too long, or is
    /// about to close, is met once; who meets it again is at a back end that closes or refuses whatever comes.
    pub(super) fn is_excused_once(self) -> bool {
        matches!(self, Self::Broken { reused: true } | Self::NotProcessed)
    }
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Another attempt, at the next candidate.
    Next {
        /// It costs a token of the retry budget.
        paid: bool,
    },
    /// Another attempt, at the same candidate over another connection. It costs nothing.
    Again,
    /// Another attempt, at candidates that were all tried.
    Round {
        /// It costs a token of the retry budget.
        paid: bool,
    },
    /// None: the client gets this status, or the response that is there.
    GiveUp(u16, GaveUp),
}

/// A client that sends it vouches that repeating the request has the effect of doing it once.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Why doing a request twice may have the effect of doing it once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repeatable {
    idempotent: bool,
    keyed: bool,
}

impl Repeatable {
    pub(super) fn of(request: &RequestHeader) -> Self {
        let idempotent = is_idempotent(&request.method);
        Self {
            idempotent,
            keyed: !idempotent && request.headers.contains_key(IDEMPOTENCY_KEY),
        }
    }

    /// Whether there is a reason.
    pub(super) fn is(self) -> bool {
        self.idempotent || self.keyed
    }

    /// Whether a service takes the reason.
    pub(super) fn by(self, policy: &Policy) -> bool {
        self.idempotent || (self.keyed && policy.retry.idempotency_key)
    }
}

/// Methods whose repetition has the effect of doing them once (RFC 9110 section 9.2.2).
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// Decides what follows a failed attempt.
pub(super) fn retry_verdict(attempt: &Attempt) -> Verdict {
    let status = match attempt.failure {
        Failure::Connect { timed_out: true } | Failure::Silent => 504,
        _ => 502,
    };
    // A request that may have reached the back end is repeated only when that can do no harm.
    let may_repeat = match attempt.failure {
        Failure::Connect { .. } | Failure::Departed | Failure::NotProcessed => true,
        Failure::Broken { .. } | Failure::Silent | Failure::Unsound | Failure::Status { .. } => {
            attempt.repeatable
        }
        Failure::Final => false,
    };
    if !may_repeat {
        return Verdict::GiveUp(status, GaveUp::Unrepeatable);
    }
    if !attempt.replayable {
        return Verdict::GiveUp(status, GaveUp::Body);
    }
    if attempt.made >= attempt.most.max(attempt.again).min(MAX_ATTEMPTS) {
        return Verdict::GiveUp(status, GaveUp::Attempts);
    }
    // The back end did no work for it: another attempt adds no load.
    let excused = attempt.failure.is_excused_once() && !attempt.excused;
    let free = excused || matches!(attempt.failure, Failure::Connect { .. } | Failure::Departed);
    match attempt.failure {
        _ if attempt.others => Verdict::Next { paid: !free },
        Failure::Broken { reused: true } if excused => Verdict::Again,
        Failure::NotProcessed if attempt.made < MAX_AGAIN => Verdict::Again,
        _ if attempt.made < attempt.again => Verdict::Round { paid: !free },
        _ => Verdict::GiveUp(status, GaveUp::Candidates),
    }
}

/// The pause before the next attempt when so many were made: none before the second one, then a random part of one that
/// doubles.
pub(crate) fn pause(retry: &Retry, made: usize) -> Option<Duration> {
    let doublings = u32::try_from(made).ok()?.checked_sub(2)?;
    let longest = retry
        .backoff
        .saturating_mul(1 << doublings.min(16))
        .min(retry.max_backoff);
    Some(longest.mul_f64(random_share()))
}

/// A random number from 0 to 1.
pub(super) fn random_share() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(()) >> 40;
    let bits = u32::try_from(bits).unwrap_or(0);
    f64::from(bits) / f64::from(1u32 << 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_failed_attempt() {
        use Failure::{Broken, Connect, Departed, Final, NotProcessed, Silent, Unsound};
        use GaveUp::{Attempts, Body, Candidates, Unrepeatable};
        use Verdict::{Again, GiveUp, Next};
        let refused = Connect { timed_out: false };
        let late = Connect { timed_out: true };
        let bad = Failure::Status { leave: false };
        let free = Next { paid: false };
        let paid = Next { paid: true };
        // failure, repeatable, replayable, made, others, verdict
        let cases = [
            (refused, false, true, 1, true, free),
            (refused, true, true, 1, false, GiveUp(502, Candidates)),
            (late, false, true, 1, true, free),
            (late, true, true, 1, false, GiveUp(504, Candidates)),
            (refused, true, true, MAX_ATTEMPTS, true, GiveUp(502, Attempts)),
            (refused, true, false, 2, true, GiveUp(502, Body)),
            (Broken { reused: false }, true, true, 1, true, paid),
            (
                Broken { reused: false },
                true,
                true,
                1,
                false,
                GiveUp(502, Candidates),
            ),
            (Broken { reused: true }, true, true, 1, true, free),
            (Broken { reused: true }, true, true, 1, false, Again),
            (
                Broken { reused: true },
                false,
                true,
                1,
                true,
                GiveUp(502, Unrepeatable),
            ),
            (
                Broken { reused: false },
                false,
                true,
                1,
                true,
                GiveUp(502, Unrepeatable),
            ),
            (Broken { reused: true }, true, false, 1, true, GiveUp(502, Body)),
            (Silent, true, true, 1, true, paid),
            (Silent, true, true, 1, false, GiveUp(504, Candidates)),
            (Silent, false, true, 1, true, GiveUp(504, Unrepeatable)),
            (Unsound, true, true, 1, true, paid),
            (Unsound, false, true, 1, true, GiveUp(502, Unrepeatable)),
            (Departed, false, true, 1, true, free),
            (Departed, true, true, 1, false, GiveUp(502, Candidates)),
            (NotProcessed, false, true, 1, false, Again),
            (
                NotProcessed,
                false,
                true,
                MAX_AGAIN,
                false,
                GiveUp(502, Candidates),
            ),
            (NotProcessed, false, true, 1, true, free),
            (bad, true, true, 1, true, paid),
            (bad, true, true, 1, false, GiveUp(502, Candidates)),
            (bad, false, true, 1, true, GiveUp(502, Unrepeatable)),
            (bad, true, false, 1, true, GiveUp(502, Body)),
            (Final, true, true, 1, true, GiveUp(502, Unrepeatable)),
        ];
        for (failure, repeatable, replayable, made, others, verdict) in cases {
            let attempt = Attempt {
                failure,
                repeatable,
                replayable,
                made,
                most: MAX_ATTEMPTS,
                others,
                excused: false,
                again: 0,
            };
            assert_eq!(retry_verdict(&attempt), verdict, "{attempt:?}");
        }
    }

    /// A back end that closes or refuses whatever comes would get any number of requests for free.
    #[test]
    fn an_idle_connection_that_was_closed_is_an_excuse_once() {
        for (failure, others, verdict) in [
            (
                Failure::Broken { reused: true },
                true,
                Verdict::Next { paid: true },
            ),
            (
                Failure::Broken { reused: true },
                false,
                Verdict::GiveUp(502, GaveUp::Candidates),
            ),
            (Failure::NotProcessed, true, Verdict::Next { paid: true }),
            (Failure::NotProcessed, false, Verdict::Again),
        ] {
            let attempt = Attempt {
                failure,
                repeatable: true,
                replayable: true,
                made: 2,
                most: MAX_ATTEMPTS,
                others,
                excused: true,
                again: 0,
            };
            assert_eq!(retry_verdict(&attempt), verdict, "{attempt:?}");
        }
    }

    #[test]
    fn the_policy_bounds_the_attempts() {
        let attempt = Attempt {
            failure: Failure::Silent,
            repeatable: true,
            replayable: true,
            made: 2,
            most: 2,
            others: true,
            excused: false,
            again: 0,
        };
        assert_eq!(retry_verdict(&attempt), Verdict::GiveUp(504, GaveUp::Attempts));
        let attempt = Attempt { most: 3, ..attempt };
        assert_eq!(retry_verdict(&attempt), Verdict::Next { paid: true });
    }

    #[test]
    fn middlewares_ask_for_attempts_where_all_were_tried() {
        use Verdict::{GiveUp, Next, Round};
        let refused = Failure::Connect { timed_out: false };
        let bad = Failure::Status { leave: false };
        // failure, repeatable, made, attempts of the policy, others, attempts asked for, verdict
        let cases = [
            (refused, true, 1, 16, false, 3, Round { paid: false }),
            (refused, false, 2, 16, false, 3, Round { paid: false }),
            (refused, true, 3, 16, false, 3, GiveUp(502, GaveUp::Candidates)),
            (refused, true, 1, 16, true, 3, Next { paid: false }),
            (bad, true, 1, 0, false, 3, Round { paid: true }),
            (bad, true, 2, 0, true, 3, Next { paid: true }),
            (bad, true, 3, 0, true, 3, GiveUp(502, GaveUp::Attempts)),
            (bad, false, 1, 0, false, 3, GiveUp(502, GaveUp::Unrepeatable)),
            (
                bad,
                true,
                MAX_ATTEMPTS,
                0,
                true,
                99,
                GiveUp(502, GaveUp::Attempts),
            ),
        ];
        for (failure, repeatable, made, most, others, again, verdict) in cases {
            let attempt = Attempt {
                failure,
                repeatable,
                replayable: true,
                made,
                most,
                others,
                excused: false,
                again,
            };
            assert_eq!(retry_verdict(&attempt), verdict, "{attempt:?}");
        }
    }

    #[test]
    fn only_idempotent_methods_repeat() {
        for (method, expected) in [
            ("GET", true),
            ("PUT", true),
            ("DELETE", true),
            ("POST", false),
            ("PATCH", false),
            ("PURGE", false),
        ] {
            assert_eq!(
                is_idempotent(&Method::from_bytes(method.as_bytes()).unwrap()),
                expected,
                "{method}"
            );
        }
    }
}
