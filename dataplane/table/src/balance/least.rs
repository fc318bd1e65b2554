//! The less busy of two: the one whose turn it is and one drawn by weight.
//!
//! Comparing two is nearly as good as comparing all, and several nodes or workers that know the same do not all run to
//! the same endpoint. Because the first of the two is the one whose turn it is, and keeps it when both are equal,
//! everybody gets exactly its share while there is nothing to choose by.

use super::schedule::scramble;
use super::{Group, Members};

/// The draw that decides about [`Timing::is_forgotten`].
const FORGOTTEN_DRAW: u64 = 1 << 33;

/// One turn in this many goes to the slower endpoint all the same, if nothing is at it: its latency could have changed.
const FORGOTTEN: u64 = 16;

/// Only an expected wait that is shorter by this factor beats the turn. Latencies are never equal, and a faster one by
/// a hair should not get everything.
const MARGIN: f64 = 1.1;

/// Fewer requests in flight per weight first.
pub(super) fn requests(
    members: Members<'_, '_>,
    group: &Group,
    position: u64,
) -> impl Iterator<Item = usize> {
    better_first(group.turns(position), move |one, other| {
        let (ours, theirs) = (members.in_flight(one), members.in_flight(other));
        u64::from(ours) * u64::from(members.weight(other))
            < u64::from(theirs) * u64::from(members.weight(one))
    })
}

/// Shorter expected wait first.
pub(super) fn time(members: Members<'_, '_>, group: &Group, position: u64) -> impl Iterator<Item = usize> {
    let timing = Timing {
        members,
        mean_weight: group.mean_weight(),
    };
    better_first(group.turns(position), move |one, other| {
        timing.wait(one) * MARGIN < timing.wait(other) && !timing.is_forgotten(other, position)
    })
}

/// Swaps the first two when the second is better.
fn better_first(
    mut turns: impl Iterator<Item = usize>,
    is_better: impl Fn(usize, usize) -> bool,
) -> impl Iterator<Item = usize> {
    let (first, second) = (turns.next(), turns.next());
    let (first, second) = match (first, second) {
        (Some(first), Some(second)) if is_better(second, first) => (Some(second), Some(first)),
        as_they_come => as_they_come,
    };
    first.into_iter().chain(second).chain(turns)
}

struct Timing<'s, 'v> {
    members: Members<'s, 'v>,
    mean_weight: f64,
}

impl Timing<'_, '_> {
    /// Its latency times the requests that would be at it, those in flight counted by weight. An endpoint without a
    /// sample goes before all others while nothing is at it, and after all others until that request is answered.
    fn wait(&self, place: usize) -> f64 {
        let in_flight = self.members.in_flight(place);
        let latency = self
            .members
            .endpoint(place)
            .and_then(|endpoint| endpoint.live.latency());
        match latency {
            None if in_flight == 0 => 0.0,
            None => f64::INFINITY,
            Some(latency) => {
                let weighed = f64::from(in_flight) * self.mean_weight / f64::from(self.members.weight(place));
                latency.as_secs_f64().max(1e-9) * (1.0 + weighed)
            }
        }
    }

    /// Whether it is to be asked again although it was slow: nothing is at it, so nothing would be learned of it.
    fn is_forgotten(&self, place: usize, position: u64) -> bool {
        self.members.in_flight(place) == 0 && scramble(position, FORGOTTEN_DRAW).is_multiple_of(FORGOTTEN)
    }
}
