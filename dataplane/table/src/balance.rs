//! Balancing: the order in which the endpoints of a service are tried.
//!
//! Callers know one question, [`order`]. It reads the [`View`], so it never meets an endpoint that is out. Each
//! algorithm ranks the members of one group; the groups follow each other.

use std::sync::Arc;

use http::HeaderMap;

use crate::policy::{Balance, HashKey};
use crate::{Candidate, Candidates, Endpoint, RequestMeta, Service, View};

pub mod cookie;
mod cursor;
mod hash;
mod least;
mod plan;
pub(crate) mod rendezvous;
mod schedule;
mod sticky;

pub(crate) use cursor::{Cursor, Standing};
pub(crate) use hash::identities;
pub(crate) use plan::{Group, Plan};
pub use schedule::Schedule;
pub(crate) use sticky::{Held, Sticky};
pub use sticky::{derived_name, sanitized_name};

/// Most endpoints that a decision offers to a real request: one that eight endpoints failed is not saved by a ninth,
/// and the list stays off the heap. `explain` shows them all.
pub const MAX_CANDIDATES: usize = 8;

/// Adds the usable endpoints to try, best first, until there are `limit` candidates.
#[inline]
pub(crate) fn order<'s>(
    service: &'s Service,
    view: &View,
    request: &RequestMeta<'_>,
    position: u64,
    limit: usize,
    candidates: &mut Candidates<'s>,
) {
    let members = Members { service, view };
    let mut queue = Queue {
        members,
        limit,
        candidates,
    };
    if let Some(held) = queue.candidates.held {
        queue.push(held);
    }
    if let Some(group) = view.plan().only_turns() {
        queue.extend(group.turns(position));
        return;
    }
    informed(members, request, position, &mut queue);
}

/// Whatever looks at more than the turn.
fn informed(
    members: Members<'_, '_>,
    request: &RequestMeta<'_>,
    position: u64,
    queue: &mut Queue<'_, '_, '_>,
) {
    let plan = members.view.plan();
    match &members.service.policy.balance {
        Balance::RoundRobin => {
            for group in plan.groups(position) {
                queue.extend(group.turns(position));
            }
        }
        Balance::LeastRequests => {
            for group in plan.groups(position) {
                queue.extend(least::requests(members, group, position));
            }
        }
        Balance::LeastTime => {
            for group in plan.groups(position) {
                queue.extend(least::time(members, group, position));
            }
        }
        Balance::Hash { key, bound } => {
            let key =
                key_of(key, request.headers).unwrap_or_else(|| rendezvous::key_of_address(request.client));
            for group in plan.groups(key) {
                let most = queue.room();
                queue.extend(hash::order(members, group, key, *bound, most));
            }
        }
    }
}

/// What the request has of the key; `None`: the client's address stands in.
fn key_of(key: &HashKey, headers: &HeaderMap) -> Option<u64> {
    let bytes = match key {
        HashKey::ClientAddress => return None,
        HashKey::Header(name) => headers.get(name)?.as_bytes(),
        HashKey::Cookie(name) => cookie::value(headers, name)?,
    };
    (!bytes.is_empty()).then(|| rendezvous::key_of_bytes(bytes))
}

/// The usable endpoints of a service by their places in its view.
#[derive(Clone, Copy)]
pub(crate) struct Members<'s, 'v> {
    service: &'s Service,
    view: &'v View,
}

impl<'s> Members<'s, '_> {
    fn endpoint(&self, place: usize) -> Option<&'s Arc<Endpoint>> {
        self.service.endpoints.get(self.view.usable().get(place)?.index())
    }

    /// Requests at it now.
    fn in_flight(&self, place: usize) -> u32 {
        self.endpoint(place)
            .map_or(0, |endpoint| endpoint.live.in_flight())
    }

    /// Its effective weight, at least 1.
    fn weight(&self, place: usize) -> u32 {
        self.view
            .usable()
            .get(place)
            .map_or(1, |usable| usable.weight.max(1))
    }

    /// What stands for it in hashing.
    fn identity(&self, place: usize) -> u64 {
        let index = self.view.usable().get(place).map(crate::Usable::index);
        index
            .and_then(|index| self.service.identities.get(index))
            .copied()
            .unwrap_or(0)
    }
}

/// The candidates as they line up.
struct Queue<'q, 's, 'v> {
    members: Members<'s, 'v>,
    limit: usize,
    candidates: &'q mut Candidates<'s>,
}

impl<'s> Queue<'_, 's, '_> {
    fn room(&self) -> usize {
        self.limit.saturating_sub(self.candidates.order.len())
    }

    fn push(&mut self, endpoint: &'s Arc<Endpoint>) {
        if self.room() > 0 {
            self.candidates.order.push(Candidate {
                endpoint,
                probe: None,
            });
        }
    }

    /// Adds endpoints by their places but for the one that went first because a cookie names it.
    #[inline]
    fn extend(&mut self, places: impl IntoIterator<Item = usize>) {
        for place in places {
            if self.candidates.order.len() >= self.limit {
                return;
            }
            if let Some(endpoint) = self.members.endpoint(place)
                && self
                    .candidates
                    .held
                    .is_none_or(|held| !Arc::ptr_eq(held, endpoint))
            {
                self.candidates.order.push(Candidate {
                    endpoint,
                    probe: None,
                });
            }
        }
    }
}
