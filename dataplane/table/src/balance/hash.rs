//! Consistent hashing: the same key goes to the same endpoint.

use std::collections::HashSet;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Group, Members, rendezvous};
use crate::Endpoint;

/// What stands for each endpoint: its name, so that a container that got a new address keeps its keys. Of several with
/// one name, those after the first are told apart by their URL, and then by their place.
pub(crate) fn identities(endpoints: &[Arc<Endpoint>]) -> Box<[u64]> {
    let mut seen = HashSet::with_capacity(endpoints.len());
    endpoints
        .iter()
        .zip(0u64..)
        .map(|(endpoint, place)| {
            let name = rendezvous::identity(&endpoint.name);
            let url = || rendezvous::mix(name ^ rendezvous::identity(&endpoint.url()));
            [name, url()]
                .into_iter()
                .find(|identity| seen.insert(*identity))
                .unwrap_or_else(|| rendezvous::mix(url().wrapping_add(place)))
        })
        .collect()
}

/// The first `most` members in the order in which the key prefers them. With a bound (percent of the mean load by
/// weight), those that one more request would lift above it go to the end.
pub(super) fn order(
    members: Members<'_, '_>,
    group: &Group,
    key: u64,
    bound: Option<u32>,
    most: usize,
) -> SmallVec<[usize; 8]> {
    let ranked = |places: &mut dyn Iterator<Item = usize>, most| {
        let members = places.map(|place| (place, members.identity(place), members.weight(place)));
        rendezvous::order(members, key, most)
    };
    let Some(bound) = bound else {
        return ranked(&mut group.members(), most);
    };
    let capacity = Capacity::of(members, group, bound);
    let has_room = |place: &usize| capacity.has_room(members, *place);
    let mut order = ranked(&mut group.members().filter(has_room), most);
    let left = most.saturating_sub(order.len());
    if left > 0 {
        order.extend(ranked(
            &mut group.members().filter(|place| !has_room(place)),
            left,
        ));
    }
    order
}

/// How much an endpoint may have at once.
struct Capacity {
    /// Load of the group with this request, times the bound in percent.
    load: u128,
    /// The weights' sum.
    weight: u128,
}

impl Capacity {
    fn of(members: Members<'_, '_>, group: &Group, bound: u32) -> Self {
        let load: u64 = group
            .members()
            .map(|place| u64::from(members.in_flight(place)))
            .sum();
        let weight: u64 = group
            .members()
            .map(|place| u64::from(members.weight(place)))
            .sum();
        Self {
            load: (u128::from(load) + 1) * u128::from(bound.max(100)),
            weight: u128::from(weight.max(1)),
        }
    }

    /// Whether one more request is within its part of the load, rounded up. The parts add up to the load at least, so
    /// somebody always has room.
    fn has_room(&self, members: Members<'_, '_>, place: usize) -> bool {
        let part = (self.load * u128::from(members.weight(place))).div_ceil(self.weight * 100);
        u128::from(members.in_flight(place)) < part
    }
}
