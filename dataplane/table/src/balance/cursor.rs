//! Whose turn it is.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Turn;

/// Counts turns. Shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    turns: AtomicU64,
    asides: AtomicU64,
}

/// Whether a request goes to what is chosen, or goes there only when something before it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It goes there.
    First,
    /// It may go there later. Such choices have a count of their own: they would shift the turns of those that go.
    Further,
}

impl Cursor {
    /// The number of this turn.
    #[inline]
    pub(crate) fn position(&self, turn: Turn, standing: Standing) -> u64 {
        let count = match standing {
            Standing::First => &self.turns,
            Standing::Further => &self.asides,
        };
        match turn {
            Turn::Take => count.fetch_add(1, Ordering::Relaxed),
            Turn::Look => count.load(Ordering::Relaxed),
            Turn::At(position) => position,
        }
    }
}
