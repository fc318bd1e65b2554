//! Whether a document may be told. Pure, with time passed in.
//!
//! To a Traefik a document without routers means to forget all it had. A source that fails keeps what it has read, so while a
//! node runs such a document is meant. Just after a start it may as well be that the world is not there yet: a container
//! engine that has not come up with its containers, a folder that is not mounted. So a process whose predecessor has told
//! routers, and that finds none, waits for as long as the routes of removed containers stay.

use std::time::Duration;

use tokio::time::Instant;

/// What is to be done with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is told.
    Tell,
    /// It is not, until this time; what was told before stays.
    Wait(Instant),
}

/// Remembers what was told.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Since when there have been no routers although the process before this one had some.
    missing: Option<Instant>,
    /// Whether the process before this one told any.
    expected: bool,
    patience: Duration,
}

impl Keeper {
    /// `expected`: whether the process before this one told routers.
    pub(super) fn new(expected: bool, patience: Duration) -> Self {
        Self {
            missing: None,
            expected,
            patience,
        }
    }

    /// Judges a document with so many routers.
    pub(super) fn judge(&mut self, routers: usize, now: Instant) -> Verdict {
        if routers > 0 || !self.expected {
            self.expected = false;
            return Verdict::Tell;
        }
        let until = *self.missing.get_or_insert(now) + self.patience;
        if now < until {
            return Verdict::Wait(until);
        }
        self.expected = false;
        Verdict::Tell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(600);

    #[test]
    fn an_empty_document_after_a_start_is_waited_with() {
        let now = Instant::now();
        let mut keeper = Keeper::new(true, PATIENCE);
        assert_eq!(keeper.judge(0, now), Verdict::Wait(now + PATIENCE));
        assert_eq!(keeper.judge(0, now + PATIENCE / 2), Verdict::Wait(now + PATIENCE));
        assert_eq!(keeper.judge(0, now + PATIENCE), Verdict::Tell);
        assert_eq!(keeper.judge(0, now + PATIENCE), Verdict::Tell);
    }

    #[test]
    fn once_there_were_routers_it_is_meant() {
        let now = Instant::now();
        let mut keeper = Keeper::new(true, PATIENCE);
        assert_eq!(keeper.judge(0, now), Verdict::Wait(now + PATIENCE));
        assert_eq!(keeper.judge(3, now), Verdict::Tell);
        assert_eq!(keeper.judge(0, now), Verdict::Tell);
    }

    #[test]
    fn who_never_told_any_tells_none() {
        assert_eq!(
            Keeper::new(false, PATIENCE).judge(0, Instant::now()),
            Verdict::Tell
        );
    }
}
