//! Whether what clients saw can be explained by one order of their operations: Wing and Gong's search, with Lowe's memory
//! of what was tried, for one object. (J. Wing, C. Gong: Testing and verifying concurrent objects, 1993; G. Lowe: Testing for
//! linearizability, 2017.)
//!
//! The simulation checks the simulated cluster by it, and the laboratory the real one.

use std::collections::HashSet;
use std::hash::Hash;

/// What an object does when it is used by one client after the other.
pub trait Object {
    /// What it is in between.
    type State: Clone + Eq + Hash + Default;

    /// The state after this operation with what it came to, if it can have come to that; with nothing, if it took effect and
    /// nobody heard.
    fn next(&self, state: &Self::State) -> Option<Self::State>;
}

/// An operation as its client saw it. Times only need an order.
#[derive(Clone, Debug)]
pub struct Operation<O> {
    /// When it was begun.
    pub called: u64,
    /// Nothing if no answer came: it may have taken effect at any time since, or not at all.
    pub returned: Option<u64>,
    /// What it was, and what came of it.
    pub what: O,
}

/// What the search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none.
    Not,
    /// Given up after as many steps as were allowed.
    Undecided,
}

/// Searches an order in at most `steps` steps.
pub fn check<O: Object>(history: &[Operation<O>], steps: usize) -> Verdict {
    let mut operations: Vec<_> = history.iter().collect();
    operations.sort_by_key(|operation| operation.called);
    let answered = operations
        .iter()
        .filter(|operation| operation.returned.is_some())
        .count();
    let mut seen = HashSet::new();
    let mut open = vec![(
        vec![0_u64; operations.len().div_ceil(64)],
        0,
        0,
        O::State::default(),
    )];
    let mut left = steps;
    while let Some((done, first, found, state)) = open.pop() {
        if found == answered {
            return Verdict::Linearizable;
        }
        if left == 0 {
            return Verdict::Undecided;
        }
        left -= 1;
        let is_done = |at: usize| done[at / 64] >> (at % 64) & 1 == 1;
        // Only what was called before the first answer among the rest can be next.
        let mut until = u64::MAX;
        let mut candidates = Vec::new();
        for (at, operation) in operations.iter().enumerate().skip(first) {
            if operation.called > until {
                break;
            }
            if !is_done(at) {
                until = until.min(operation.returned.unwrap_or(u64::MAX));
                candidates.push(at);
            }
        }
        // The last pushed is tried first: who was answered earliest. One that nobody heard of comes last.
        candidates.sort_by_key(|at| operations[*at].returned.unwrap_or(u64::MAX));
        for at in candidates.into_iter().rev() {
            let operation = operations[at];
            if operation.called > until {
                continue;
            }
            if let Some(state) = operation.what.next(&state) {
                let mut done = done.clone();
                done[at / 64] |= 1 << (at % 64);
                if seen.insert((done.clone(), state.clone())) {
                    let first = (first..operations.len()).find(|at| done[at / 64] >> (at % 64) & 1 == 0);
                    let found = found + usize::from(operation.returned.is_some());
                    open.push((done, first.unwrap_or(operations.len()), found, state));
                }
            }
        }
    }
    Verdict::Not
}

/// A register that is written and read whole.
#[derive(Clone, Debug)]
pub enum Register {
    /// It was written.
    Write(u64),
    /// It was read.
    Read(u64),
}

impl Object for Register {
    type State = u64;

    fn next(&self, state: &u64) -> Option<u64> {
        match self {
            Self::Write(value) => Some(*value),
            Self::Read(value) => (value == state).then_some(*state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Operation, Register, Verdict, check};

    const STEPS: usize = 10_000;

    fn register(history: &[(u64, Option<u64>, Register)]) -> Verdict {
        let operation = |(called, returned, what): &(u64, Option<u64>, Register)| Operation {
            called: *called,
            returned: *returned,
            what: what.clone(),
        };
        check(&history.iter().map(operation).collect::<Vec<_>>(), STEPS)
    }

    #[test]
    fn histories_of_a_register() {
        use Register::{Read, Write};
        let good = [
            vec![(0, Some(1), Write(1)), (2, Some(3), Read(1))],
            // Concurrent with the write, a read may see either.
            vec![
                (0, Some(10), Write(1)),
                (1, Some(2), Read(0)),
                (3, Some(4), Read(1)),
            ],
            // A write that nobody heard of takes effect late, or never.
            vec![(0, None, Write(1)), (1, Some(2), Read(0)), (3, Some(4), Read(1))],
            vec![(0, None, Write(1)), (1, Some(2), Read(0)), (3, Some(4), Read(0))],
        ];
        for history in &good {
            assert_eq!(register(history), Verdict::Linearizable, "{history:?}");
        }
        let bad = [
            // A stale read.
            vec![(0, Some(1), Write(1)), (2, Some(3), Read(0))],
            // Back again.
            vec![
                (0, Some(10), Write(1)),
                (1, Some(2), Read(1)),
                (3, Some(4), Read(0)),
            ],
            // A value that nobody wrote.
            vec![(0, Some(1), Write(1)), (2, Some(3), Read(2))],
            // A lost write.
            vec![
                (0, Some(1), Write(1)),
                (2, Some(3), Write(2)),
                (4, Some(5), Read(1)),
            ],
        ];
        for history in &bad {
            assert_eq!(register(history), Verdict::Not, "{history:?}");
        }
    }

    #[test]
    fn a_search_that_is_too_long_is_given_up_and_not_taken_for_good() {
        let mut history: Vec<_> = (0..20).map(|at| (at, None, Register::Write(at + 1))).collect();
        history.push((100, Some(101), Register::Read(99)));
        assert_eq!(register(&history), Verdict::Undecided);
    }
}
