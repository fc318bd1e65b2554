//! The replicated log, as a model: what the current leader has, and how much of it is committed.

use constellation_cluster::state::Request;
use fastrand::Rng;

/// An entry; the first of each term carries nothing.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) term: u64,
    pub(crate) request: Option<Request>,
}

#[derive(Debug)]
pub(crate) struct Log {
    /// Index 1 is the first. What is beyond `committed` only the leader has for sure.
    entries: Vec<Entry>,
    committed: usize,
    pub(crate) term: u64,
    pub(crate) leader: usize,
}

impl Log {
    pub(crate) fn new(leader: usize) -> Self {
        Self {
            entries: vec![Entry {
                term: 1,
                request: None,
            }],
            committed: 0,
            term: 1,
            leader,
        }
    }

    pub(crate) fn last(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn committed(&self) -> usize {
        self.committed
    }

    pub(crate) fn get(&self, index: usize) -> &Entry {
        &self.entries[index - 1]
    }

    /// Appends for the leader of `term`; one that was replaced appends to a log that nobody will see.
    pub(crate) fn append(&mut self, term: u64, request: Request) -> bool {
        let current = term == self.term;
        if current {
            self.entries.push(Entry {
                term,
                request: Some(request),
            });
        }
        current
    }

    /// Commits up to `index`, if the term is still the one it was replicated in. The indices that are new.
    pub(crate) fn commit(&mut self, term: u64, index: usize) -> std::ops::RangeInclusive<usize> {
        let from = self.committed + 1;
        if term == self.term {
            self.committed = self.committed.max(index);
        }
        from..=self.committed
    }

    /// Another leader, that has all that is committed and a prefix of what is not.
    pub(crate) fn elect(&mut self, leader: usize, rng: &mut Rng) {
        let kept = rng.usize(self.committed..=self.entries.len());
        self.entries.truncate(kept);
        self.term += 1;
        self.leader = leader;
        self.entries.push(Entry {
            term: self.term,
            request: None,
        });
    }
}
