//! Balancing: the order in which the endpoints of a service are tried.
//!
//! Callers know one question, [`Balancer::candidates`]. A later algorithm is a new variant of [`Balancer`]; what it
//! must know of the request is in the [`RequestMeta`] it gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::SmallVec;

use crate::{Candidate, Candidates, Condition, Endpoint, Exclusion, RequestMeta, Turn};

mod schedule;

pub use schedule::Schedule;

/// Most endpoints that a decision offers to a real request: one that eight endpoints failed is not saved by a ninth,
/// and the list stays off the heap. `explain` shows them all.
pub const MAX_CANDIDATES: usize = 8;

/// How a service spreads its requests, with the state that takes.
#[derive(Debug)]
pub enum Balancer {
    /// Smooth weighted round robin.
    RoundRobin(RoundRobin),
}

/// Smooth weighted round robin over the endpoints that can serve.
///
/// The schedule holds only endpoints that are ready and have a weight, so the share of one that is out spreads over
/// the others by their weights, and no neighbour inherits all of it.
#[derive(Debug)]
pub struct RoundRobin {
    schedule: Schedule,
    usable: Usable,
    cursor: Arc<AtomicU64>,
}

/// The endpoints that have turns.
#[derive(Debug)]
enum Usable {
    /// All of them, this many.
    All(usize),
    /// These, ascending.
    Some(Box<[usize]>),
}

impl Usable {
    fn of(endpoints: &[Arc<Endpoint>]) -> Self {
        let usable = |(_, endpoint): &(usize, &Arc<Endpoint>)| exclusion(endpoint).is_none();
        let some: Box<[usize]> = endpoints
            .iter()
            .enumerate()
            .filter(usable)
            .map(|(index, _)| index)
            .collect();
        if some.len() == endpoints.len() {
            Self::All(some.len())
        } else {
            Self::Some(some)
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::All(count) => *count,
            Self::Some(some) => some.len(),
        }
    }

    fn get(&self, place: usize) -> Option<usize> {
        match self {
            Self::All(count) => Some(place).filter(|place| place < count),
            Self::Some(some) => some.get(place).copied(),
        }
    }
}

impl Balancer {
    /// Round robin; the cursor of `previous` goes on, so that a configuration change does not restart the round.
    pub(crate) fn round_robin(endpoints: &[Arc<Endpoint>], previous: Option<&Balancer>) -> Self {
        let weights = endpoints.iter().map(|endpoint| match exclusion(endpoint) {
            None => endpoint.weight,
            Some(_) => 0,
        });
        Self::RoundRobin(RoundRobin {
            schedule: Schedule::smooth(weights),
            usable: Usable::of(endpoints),
            cursor: previous
                .map(|Self::RoundRobin(previous)| previous.cursor.clone())
                .unwrap_or_default(),
        })
    }

    /// The endpoints to try for this request, best first, at most `limit`; and all that are left out.
    pub(crate) fn candidates<'s>(
        &self,
        endpoints: &'s [Arc<Endpoint>],
        request: &RequestMeta<'_>,
        limit: usize,
    ) -> Candidates<'s> {
        let Self::RoundRobin(robin) = self;
        let mut candidates = Candidates::default();
        robin.order(robin.position(request.turn), limit, |index| {
            candidates
                .order
                .extend(endpoints.get(index).map(|endpoint| Candidate { endpoint, probe: None }));
        });
        if robin.usable.len() < endpoints.len() {
            candidates.excluded = excluded(endpoints);
        }
        candidates
    }
}

/// Why an endpoint takes no new request now; `None` when it does.
fn exclusion(endpoint: &Endpoint) -> Option<Exclusion> {
    match endpoint.condition {
        Condition::Unavailable(_) => Some(Exclusion::Unavailable),
        Condition::Ready if endpoint.weight == 0 => Some(Exclusion::NoWeight),
        Condition::Ready => None,
    }
}

fn excluded(endpoints: &[Arc<Endpoint>]) -> SmallVec<[(&Arc<Endpoint>, Exclusion); 4]> {
    endpoints
        .iter()
        .filter_map(|endpoint| Some((endpoint, exclusion(endpoint)?)))
        .collect()
}

impl RoundRobin {
    fn position(&self, turn: Turn) -> u64 {
        match turn {
            Turn::Take => self.cursor.fetch_add(1, Ordering::Relaxed),
            Turn::Look => self.cursor.load(Ordering::Relaxed),
            Turn::At(position) => position,
        }
    }

    /// Calls `push` with up to `limit` distinct endpoints: the one whose turn it is, then a second choice drawn by
    /// weight, then the others in a rotation that moves on with every turn. So when an endpoint fails without anybody
    /// knowing yet, its requests spread over its siblings instead of all falling on one.
    fn order(&self, position: u64, limit: usize, mut push: impl FnMut(usize)) {
        let Some(first) = self.schedule.at(position).filter(|_| limit > 0) else {
            return;
        };
        push(first);
        if self.usable.len() == 1 || limit == 1 {
            return;
        }
        let second = (1..=4)
            .filter_map(|draw| self.schedule.at(scramble(position, draw)))
            .find(|second| *second != first)
            .filter(|_| self.usable.len() > 2);
        if let Some(second) = second {
            push(second);
        }
        let count = self.usable.len();
        let turn = self.schedule.round(position).wrapping_add(position);
        let start = u64::try_from(count)
            .ok()
            .and_then(|count| usize::try_from(turn.checked_rem(count)?).ok());
        let start = start.unwrap_or(0);
        (start..count)
            .chain(0..start)
            .filter_map(|place| self.usable.get(place))
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
