//! What can happen, and when.

use constellation_cluster::state::{ClientId, Outcome, Request};

/// What can happen.
#[derive(Debug)]
pub(crate) enum Event {
    Wake(usize),
    /// The rest of what a process was doing when it was stopped.
    Resume(usize),
    Request {
        to: usize,
        from: usize,
        request: Request,
    },
    Answer {
        to: usize,
        client: ClientId,
        sequence: u64,
        outcome: Outcome,
    },
    Commit {
        term: u64,
        index: usize,
    },
    Apply {
        node: usize,
        index: usize,
    },
    StepDown {
        node: usize,
        term: u64,
    },
    Elect {
        term: u64,
    },
    Trouble,
    Calm,
    End,
}

/// When, in which order of those at the same time, and what.
pub(crate) struct Queued(pub(crate) u64, pub(crate) u64, pub(crate) Event);

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}
