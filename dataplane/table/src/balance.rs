//! Balancing: the order in which the endpoints of a service are tried.
//!
//! Callers know one question, [`order`]. It reads the [`View`], so it never meets an endpoint that is out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Candidate, Candidates, Endpoint, Turn, View};

mod schedule;

pub use schedule::Schedule;

/// Most endpoints that a decision offers to a real request: one that eight endpoints failed is not saved by a ninth,
/// and the list stays off the heap. `explain` shows them all.
pub const MAX_CANDIDATES: usize = 8;

/// Adds the usable endpoints to try, best first, until there are `limit` candidates.
pub(crate) fn order<'s>(
    endpoints: &'s [Arc<Endpoint>],
    view: &View,
    cursor: &AtomicU64,
    turn: Turn,
    limit: usize,
    candidates: &mut Candidates<'s>,
) {
    let left = limit.saturating_sub(candidates.order.len());
    let robin = RoundRobin { view };
    robin.order(position(cursor, turn), left, |place| {
        candidates.order.extend(
            view.usable()
                .get(place)
                .and_then(|usable| endpoints.get(usable.index()))
                .map(|endpoint| Candidate {
                    endpoint,
                    probe: None,
                }),
        );
    });
}

fn position(cursor: &AtomicU64, turn: Turn) -> u64 {
    match turn {
        Turn::Take => cursor.fetch_add(1, Ordering::Relaxed),
        Turn::Look => cursor.load(Ordering::Relaxed),
        Turn::At(position) => position,
    }
}

/// Smooth weighted round robin over the usable endpoints: the share of one that is out spreads over the others by
/// their weights, and no neighbour inherits all of it.
struct RoundRobin<'v> {
    view: &'v View,
}

impl RoundRobin<'_> {
    /// Calls `push` with up to `limit` distinct endpoints: the one whose turn it is, then a second choice drawn by
    /// weight, then the others in a rotation that moves on with every turn. So when an endpoint fails without anybody
    /// knowing yet, its requests spread over its siblings instead of all falling on one.
    fn order(&self, position: u64, limit: usize, mut push: impl FnMut(usize)) {
        let Some(first) = self.view.schedule().at(position).filter(|_| limit > 0) else {
            return;
        };
        push(first);
        if self.view.usable().len() == 1 || limit == 1 {
            return;
        }
        let second = (1..=4)
            .filter_map(|draw| self.view.schedule().at(scramble(position, draw)))
            .find(|second| *second != first)
            .filter(|_| self.view.usable().len() > 2);
        if let Some(second) = second {
            push(second);
        }
        let count = self.view.usable().len();
        let turn = self.view.schedule().round(position).wrapping_add(position);
        let start = u64::try_from(count)
            .ok()
            .and_then(|count| usize::try_from(turn.checked_rem(count)?).ok());
        let start = start.unwrap_or(0);
        (start..count)
            .chain(0..start)
            .filter(|index| *index != first && Some(*index) != second)
            .take(limit - 1 - usize::from(second.is_some()))
            .for_each(push);
    }
}

/// A well mixed number from a position and a draw (the finaliser of SplitMix64).
fn scramble(position: u64, draw: u64) -> u64 {
    let mut x = position.wrapping_add(draw.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
