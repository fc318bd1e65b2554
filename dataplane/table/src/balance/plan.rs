//! Who takes turns with whom: the usable endpoints of one view, in groups by distance.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Schedule;
use super::schedule::scramble;
use crate::policy::Balance;
use crate::{Endpoint, Locality, Policy, Usable};

/// Parts into which requests are shared out among groups.
const WHOLE: u64 = 10_000;

/// The draw of [`scramble`] that shares requests out among groups; others are used within a group.
const GROUP_DRAW: u64 = 1 << 32;

/// The groups of a view, nearest first. The nearest takes all requests, unless the policy lets it spill over while a
/// part of it is out; the others follow for requests that fail there.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    groups: SmallVec<[Group; 1]>,
    /// Only turns matter. Said here, beside the turns, because looking it up in the policy would cost every decision
    /// a visit to memory that nothing else needs.
    round_robin: bool,
}

/// Endpoints that are equally far away.
#[derive(Debug)]
pub(crate) struct Group {
    /// Its places among the view's usable endpoints, ascending; `None`: all of them.
    places: Option<Box<[usize]>>,
    count: usize,
    /// The turns by weight, as numbers of members.
    schedule: Schedule,
    /// The weights' sum.
    weight: u64,
    /// Requests whose number is below this begin here or nearer.
    below: u64,
}

impl Plan {
    /// Groups the usable endpoints of `endpoints`.
    pub(crate) fn new(endpoints: &[Arc<Endpoint>], usable: &[Usable], policy: &Policy) -> Self {
        let locality = |usable: &Usable| endpoints.get(usable.index()).map(|endpoint| endpoint.locality);
        let first = usable.first().and_then(locality);
        let round_robin = policy.balance == Balance::RoundRobin;
        if usable.iter().all(|other| locality(other) == first) && policy.groups.overprovisioning.is_none() {
            let all = Group::new(None, usable.iter().map(|usable| usable.weight));
            return Self {
                groups: SmallVec::from_buf([all]),
                round_robin,
            };
        }
        let mut localities: Vec<Locality> = usable.iter().filter_map(locality).collect();
        localities.sort_unstable();
        localities.dedup();
        let mut groups: SmallVec<[Group; 1]> = localities
            .iter()
            .map(|wanted| {
                let members = usable.iter().enumerate();
                let members: Vec<_> = members
                    .filter(|(_, usable)| locality(usable) == Some(*wanted))
                    .collect();
                let weights = members.iter().map(|(_, usable)| usable.weight);
                Group::new(Some(members.iter().map(|(place, _)| *place).collect()), weights)
            })
            .collect();
        if let Some(percent) = policy.groups.overprovisioning {
            share_out(&mut groups, &localities, endpoints, percent);
        }
        Self { groups, round_robin }
    }

    /// The one group of a plan in which only turns matter: the common case.
    #[inline]
    pub(crate) fn only_turns(&self) -> Option<&Group> {
        match self.groups.as_slice() {
            [group] if self.round_robin => Some(group),
            _ => None,
        }
    }

    /// The groups in the order to try for the request with this number (or key): where it begins, then the others,
    /// nearest first.
    pub(crate) fn groups(&self, number: u64) -> impl Iterator<Item = &Group> {
        let first = match self.groups.len() {
            0 | 1 => 0,
            _ => {
                let draw = scramble(number, GROUP_DRAW) % WHOLE;
                self.groups
                    .iter()
                    .position(|group| draw < group.below)
                    .unwrap_or(0)
            }
        };
        let others = self
            .groups
            .iter()
            .enumerate()
            .filter(move |(place, _)| *place != first);
        self.groups
            .get(first)
            .into_iter()
            .chain(others.map(|(_, group)| group))
    }
}

/// Shares requests out: a group takes its part as long as its healthy weight times the factor covers the whole of it,
/// and of what is beyond that the next group takes its own part.
fn share_out(groups: &mut [Group], localities: &[Locality], endpoints: &[Arc<Endpoint>], percent: u32) {
    let parts: Vec<u64> = groups
        .iter()
        .zip(localities)
        .map(|(group, locality)| {
            // All that are defined, whyever some are out. Usable weights are in tenths.
            let defined = endpoints.iter().filter(|endpoint| endpoint.locality == *locality);
            let whole: u64 = defined.map(|endpoint| u64::from(endpoint.weight) * 10).sum();
            let covered = u128::from(group.weight) * u128::from(percent) * u128::from(WHOLE) / 100;
            let part = covered.checked_div(u128::from(whole)).unwrap_or(0);
            u64::try_from(part).unwrap_or(WHOLE).min(WHOLE)
        })
        .collect();
    let sum: u64 = parts.iter().sum();
    let mut below = 0;
    for (group, part) in groups.iter_mut().zip(parts) {
        let part = if sum < WHOLE {
            (part * WHOLE).checked_div(sum).unwrap_or(0)
        } else {
            part
        };
        below = (below + part).min(WHOLE);
        group.below = below;
    }
    // What rounding lost goes to the farthest.
    if let Some(last) = groups.last_mut() {
        last.below = WHOLE;
    }
}

impl Group {
    fn new(places: Option<Box<[usize]>>, weights: impl Iterator<Item = u32> + Clone) -> Self {
        Self {
            places,
            count: weights.clone().count(),
            weight: weights.clone().map(u64::from).sum(),
            schedule: Schedule::smooth(weights),
            below: WHOLE,
        }
    }

    /// The weights' mean.
    pub(crate) fn mean_weight(&self) -> f64 {
        self.weight as f64 / (self.count.max(1) as f64)
    }

    /// All members as places among the usable endpoints, each once, by [`Schedule::turns`].
    #[inline]
    pub(crate) fn turns(&self, position: u64) -> impl Iterator<Item = usize> {
        self.schedule
            .turns(self.count, position)
            .filter_map(|member| self.place(member))
    }

    /// All members as places among the usable endpoints, in definition order.
    pub(crate) fn members(&self) -> impl Iterator<Item = usize> {
        (0..self.count).filter_map(|member| self.place(member))
    }

    #[inline]
    fn place(&self, member: usize) -> Option<usize> {
        match &self.places {
            None => Some(member),
            Some(places) => places.get(member).copied(),
        }
    }
}
