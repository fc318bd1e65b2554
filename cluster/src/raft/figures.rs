//! What a node counts of its replicated log: votes as they become durable, and how long the disk takes. Written by those who
//! do the work, read by whoever asks; nobody waits for anybody.
//!
//! Elections are counted where votes are written, not in openraft's metrics, which show the last of several changes only. A
//! vote of this node's own is written once when it stands, and once more when a majority has given theirs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::Vote;

use crate::state::NodeId;

/// Upper bounds of the buckets of [`Writes`], seconds: from a cache that does not wait to a disk that is about to fail.
pub const WRITE_BOUNDS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// What one node of the log has counted since it started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// How often it stood for election: its vote for itself was durable.
    pub elections_started: u64,
    /// How often it was elected.
    pub elections_won: u64,
    /// How often it learned of a leader, itself included, in another term than the one before; the same node elected anew
    /// counts.
    pub leader_changes: u64,
    /// The last entry that it has, applied or not.
    pub last_log: Option<u64>,
    /// The last entry that it has applied.
    pub applied: Option<u64>,
    /// What it took to make entries, votes and removals durable.
    pub writes: Writes,
}

impl Figures {
    /// How many entries it has and has not applied: those that no majority is known to have, and those it is late with.
    #[must_use]
    pub fn lag(&self) -> u64 {
        // Read one after the other, the second may be ahead.
        let next = |index: Option<u64>| index.map_or(0, |index| index.saturating_add(1));
        next(self.last_log).saturating_sub(next(self.applied))
    }
}

/// How long commits to the log's file took; each ends with an `fsync`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Writes {
    /// How many took no longer than each of [`WRITE_BOUNDS`] and longer than the one before; the last: longer than all.
    pub counts: [u64; WRITE_BOUNDS.len() + 1],
    /// All together.
    pub total: Duration,
    /// The longest of all.
    pub longest: Duration,
}

impl Writes {
    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long one took on average; nothing before the first.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        let count = u32::try_from(self.count()).unwrap_or(u32::MAX);
        self.total.checked_div(count)
    }
}

/// Where it is counted.
#[derive(Debug, Default)]
pub(super) struct Counting {
    elections_started: AtomicU64,
    elections_won: AtomicU64,
    leader_changes: AtomicU64,
    /// Not cumulative.
    writes: [AtomicU64; WRITE_BOUNDS.len() + 1],
    /// Nanoseconds: 584 years of waiting until it wraps.
    total: AtomicU64,
    longest: AtomicU64,
}

impl Counting {
    /// A vote of `node` is on disk. openraft writes none twice.
    pub(super) fn voted(&self, node: NodeId, vote: &Vote<NodeId>) {
        let own = vote.leader_id.voted_for() == Some(node);
        match (own, vote.committed) {
            (true, false) => self.elections_started.fetch_add(1, Ordering::Relaxed),
            (true, true) => {
                self.elections_won.fetch_add(1, Ordering::Relaxed);
                self.leader_changes.fetch_add(1, Ordering::Relaxed)
            }
            (false, true) => self.leader_changes.fetch_add(1, Ordering::Relaxed),
            // Given to somebody who may win or not.
            (false, false) => return,
        };
    }

    /// A commit took so long.
    pub(super) fn wrote(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = WRITE_BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.writes.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.total.fetch_add(nanos, Ordering::Relaxed);
        self.longest.fetch_max(nanos, Ordering::Relaxed);
    }

    /// What there is, beside the two indices, which openraft knows.
    pub(super) fn read(&self, last_log: Option<u64>, applied: Option<u64>) -> Figures {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            elections_started: of(&self.elections_started),
            elections_won: of(&self.elections_won),
            leader_changes: of(&self.leader_changes),
            last_log,
            applied,
            writes: Writes {
                counts: std::array::from_fn(|bucket| self.writes.get(bucket).map_or(0, of)),
                total: Duration::from_nanos(of(&self.total)),
                longest: Duration::from_nanos(of(&self.longest)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_are_elections_and_leaders() {
        let counting = Counting::default();
        let (own, other) = (NodeId(1), NodeId(2));
        let votes = [
            Vote::new(1, own),
            Vote::new(2, other),
            Vote::new_committed(2, other),
            Vote::new(3, own),
            Vote::new_committed(3, own),
        ];
        for vote in &votes {
            counting.voted(own, vote);
        }
        let figures = counting.read(None, None);
        let Figures {
            elections_started,
            elections_won,
            leader_changes,
            ..
        } = figures;
        assert_eq!((elections_started, elections_won, leader_changes), (2, 1, 2));
    }

    #[test]
    fn times_go_where_they_belong() {
        let counting = Counting::default();
        assert_eq!(counting.read(None, None).writes.mean(), None);
        for micros in [100, 101, 2_000, 7_000_000] {
            counting.wrote(Duration::from_micros(micros));
        }
        let writes = counting.read(None, None).writes;
        let mut expected = [0; WRITE_BOUNDS.len() + 1];
        (expected[0], expected[1], expected[4], expected[14]) = (1, 1, 1, 1);
        assert_eq!(writes.counts, expected);
        assert_eq!(writes.longest, Duration::from_secs(7));
        assert_eq!(writes.total, Duration::from_micros(7_002_201));
        assert_eq!(writes.mean(), Some(Duration::from_nanos(1_750_550_250)));
    }

    #[test]
    fn the_lag_is_what_is_there_and_not_applied() {
        let of = |last_log, applied| Counting::default().read(last_log, applied).lag();
        assert_eq!(of(None, None), 0);
        assert_eq!(of(Some(0), None), 1);
        assert_eq!(of(Some(9), Some(9)), 0);
        assert_eq!(of(Some(9), Some(4)), 5);
        assert_eq!(of(Some(4), Some(9)), 0);
    }
}
