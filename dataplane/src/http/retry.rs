//! Whether a failed attempt is followed by another one: one pure function.

use http::Method;

/// Attempts at one request, all together. Enough to walk past a dead half of a large service, and an end for loops.
pub(super) const MAX_ATTEMPTS: usize = 16;

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection was made, so no byte of the request was sent.
    Connect {
        /// The time for it ran out.
        timed_out: bool,
    },
    /// The connection ended before the first byte of a response.
    Broken {
        /// It came from the pool, so the back end may have closed it before it saw the request.
        reused: bool,
    },
    /// No response in time.
    Silent,
    /// The back end refused the stream before it looked at the request (HTTP/2 GOAWAY, REFUSED_STREAM).
    NotProcessed,
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
    /// Whether the body read so far can be sent again from the buffer.
    pub(super) replayable: bool,
    /// Whether a part of the response has reached the client.
    pub(super) answered: bool,
    /// Attempts made, this one included.
    pub(super) made: usize,
    /// Whether another candidate (or another address of this one) is left.
    pub(super) others: bool,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Another attempt, at the next candidate.
    Next,
    /// Another attempt, at the same candidate over another connection.
    Again,
    /// None: the client gets this status.
    GiveUp(u16),
}

/// Methods whose repetition has the effect of doing them once (RFC 9110 section 9.2.2).
pub(super) fn is_idempotent(method: &Method) -> bool {
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
    if attempt.answered || attempt.made >= MAX_ATTEMPTS || !attempt.replayable {
        return Verdict::GiveUp(status);
    }
    // A request that may have reached the back end is repeated only when that can do no harm.
    let may_repeat = match attempt.failure {
        Failure::Connect { .. } | Failure::NotProcessed => true,
        Failure::Broken { .. } | Failure::Silent => attempt.repeatable,
        Failure::Final => false,
    };
    match attempt.failure {
        _ if !may_repeat => Verdict::GiveUp(status),
        _ if attempt.others => Verdict::Next,
        Failure::Broken { reused: true } | Failure::NotProcessed => Verdict::Again,
        _ => Verdict::GiveUp(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_failed_attempt() {
        use Failure::{Broken, Connect, Final, NotProcessed, Silent};
        use Verdict::{Again, GiveUp, Next};
        let refused = Connect { timed_out: false };
        let late = Connect { timed_out: true };
        // failure, repeatable, replayable, answered, made, others, verdict
        let cases = [
            (refused, false, true, false, 1, true, Next),
            (refused, true, true, false, 1, false, GiveUp(502)),
            (late, false, true, false, 1, true, Next),
            (late, true, true, false, 1, false, GiveUp(504)),
            (refused, true, true, false, MAX_ATTEMPTS, true, GiveUp(502)),
            (refused, true, false, false, 2, true, GiveUp(502)),
            (Broken { reused: false }, true, true, false, 1, true, Next),
            (Broken { reused: false }, true, true, false, 1, false, GiveUp(502)),
            (Broken { reused: true }, true, true, false, 1, true, Next),
            (Broken { reused: true }, true, true, false, 1, false, Again),
            (Broken { reused: true }, false, true, false, 1, true, GiveUp(502)),
            (Broken { reused: false }, false, true, false, 1, true, GiveUp(502)),
            (Broken { reused: true }, true, false, false, 1, true, GiveUp(502)),
            (Broken { reused: true }, true, true, true, 1, true, GiveUp(502)),
            (Silent, true, true, false, 1, true, Next),
            (Silent, true, true, false, 1, false, GiveUp(504)),
            (Silent, false, true, false, 1, true, GiveUp(504)),
            (NotProcessed, false, true, false, 1, false, Again),
            (NotProcessed, false, true, false, 1, true, Next),
            (NotProcessed, false, true, true, 1, true, GiveUp(502)),
            (Final, true, true, false, 1, true, GiveUp(502)),
        ];
        for (failure, repeatable, replayable, answered, made, others, verdict) in cases {
            let attempt = Attempt {
                failure,
                repeatable,
                replayable,
                answered,
                made,
                others,
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
