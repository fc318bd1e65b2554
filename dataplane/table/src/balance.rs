//! Balancing: the order in which the endpoints of a service are tried.
//!
//! Callers know one question, [`order`]. It reads the [`View`], so it never meets an endpoint that is out.

use std::sync::Arc;

use crate::{Candidate, Candidates, Endpoint, View};

pub mod cookie;
mod cursor;
pub(crate) mod rendezvous;
mod schedule;
mod sticky;

pub(crate) use cursor::{Cursor, Standing};
pub use schedule::Schedule;
pub(crate) use sticky::{Held, Sticky};
pub use sticky::{derived_name, sanitized_name};

/// Most endpoints that a decision offers to a real request: one that eight endpoints failed is not saved by a ninth,
/// and the list stays off the heap. `explain` shows them all.
pub const MAX_CANDIDATES: usize = 8;

/// Adds the usable endpoints to try, best first, until there are `limit` candidates.
pub(crate) fn order<'s>(
    endpoints: &'s [Arc<Endpoint>],
    view: &View,
    position: u64,
    limit: usize,
    candidates: &mut Candidates<'s>,
) {
    let left = limit.saturating_sub(candidates.order.len());
    let held = candidates.held;
    let turns = view.schedule().turns(view.usable().len(), position);
    let endpoints = turns
        .filter_map(|place| endpoints.get(view.usable().get(place)?.index()))
        .filter(|endpoint| held.is_none_or(|held| !Arc::ptr_eq(held, endpoint)));
    candidates.order.extend(
        held.into_iter()
            .chain(endpoints)
            .take(left)
            .map(|endpoint| Candidate {
                endpoint,
                probe: None,
            }),
    );
}
