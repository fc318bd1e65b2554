//! What is to be done next, and when.

use std::time::Duration;

use tokio::time::Instant;

/// How long a request waits for a token of the budget that is out.
const TOKEN_WAIT: Duration = Duration::from_secs(10);

/// What is to be done next.
pub(super) enum Next {
    /// Nothing but to wait for what runs.
    Nothing,
    /// An attempt as soon as the time has come and, when it is paid, a token was had.
    Attempt {
        candidate: usize,
        at: Option<Instant>,
        paid: bool,
        fresh: bool,
        /// The end of waiting for a token, once one is waited for.
        give_up: Option<Instant>,
    },
}

impl Next {
    /// Whether the time of the attempt has come. Its pause is over then and is not looked at again.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let Self::Attempt { at, .. } = self else {
            return false;
        };
        if at.is_some_and(|at| at > now) {
            return false;
        }
        *at = None;
        true
    }

    /// Begins to wait for a token, unless it does already.
    pub(super) fn wait_for_token(&mut self, now: Instant) {
        if let Self::Attempt { give_up, .. } = self {
            give_up.get_or_insert(now + TOKEN_WAIT);
        }
    }

    pub(super) fn waits_for_token(&self) -> bool {
        matches!(self, Self::Attempt { give_up: Some(_), .. })
    }

    /// Whether it has waited for a token for too long.
    pub(super) fn has_given_up(&self, now: Instant) -> bool {
        matches!(self, Self::Attempt { give_up: Some(end), .. } if *end <= now)
    }

    /// When it is to be looked at.
    pub(super) fn wake(&self) -> Option<Instant> {
        match self {
            Self::Attempt { at, give_up, .. } => at.or(*give_up),
            Self::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A time that has passed and stays would wake the request again and again, for as long as tokens are out.
    #[test]
    fn a_pause_that_is_over_wakes_nobody_while_a_token_is_waited_for() {
        let now = Instant::now();
        let later = now + Duration::from_millis(20);
        let mut next = Next::Attempt {
            candidate: 0,
            at: Some(later),
            paid: true,
            fresh: false,
            give_up: None,
        };
        assert!(!next.is_due(now));
        assert_eq!((next.wake(), next.waits_for_token()), (Some(later), false));
        assert!(next.is_due(later));
        next.wait_for_token(later);
        let end = later + TOKEN_WAIT;
        assert_eq!((next.wake(), next.waits_for_token()), (Some(end), true));
        // Whoever asks later has no more time.
        assert!(next.is_due(end));
        next.wait_for_token(end);
        assert!(next.has_given_up(end) && !next.has_given_up(later));
    }
}
