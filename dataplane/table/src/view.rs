//! What the endpoints of one service may do right now: who takes requests and with which share, who is on probation,
//! who is left out and by which fact.
//!
//! A view is immutable. It combines each endpoint's [`crate::Condition`] and weight with its live facts
//! ([`crate::Live`]), and is computed anew only when a fact changes or its [`View::next_change`] has passed; a decision
//! only reads it.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::balance::Plan;
use crate::live::Verdict;
use crate::{Condition, Endpoint, Policy};

mod current;

pub(crate) use current::Current;
pub use current::ViewRef;

/// The usable endpoints of a service and the reasons against the others.
#[derive(Debug, Default)]
pub struct View {
    /// The count of changes it was computed at.
    pub(crate) epoch: u64,
    usable: SmallVec<[Usable; 4]>,
    probation: SmallVec<[Waiting; 1]>,
    /// Those that would be on probation, were it not for the panic.
    recovering: SmallVec<[Waiting; 1]>,
    excluded: SmallVec<[(u32, Exclusion); 1]>,
    panic: bool,
    next_change: Option<Instant>,
    plan: Plan,
}

/// An endpoint that takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usable {
    index: u32,
    /// Its effective weight in tenths: the configured weight times 10, or times 1 to 9 while it is eased in. Never 0.
    pub weight: u32,
}

impl Usable {
    /// Its place among the service's endpoints.
    pub fn index(&self) -> usize {
        self.index.try_into().unwrap_or(usize::MAX)
    }
}

/// An endpoint on probation: it takes one probe at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    index: u32,
    /// Since when it waits for a probe.
    pub(crate) since: Instant,
}

impl Waiting {
    pub(crate) fn index(&self) -> usize {
        self.index.try_into().unwrap_or(usize::MAX)
    }
}

/// The fact that keeps an endpoint from taking a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exclusion {
    /// Its [`crate::Condition`] says unavailable.
    Unavailable,
    /// Its [`crate::Condition`] says that it leaves.
    Draining,
    /// Its weight is zero.
    NoWeight,
    /// Active checks fail.
    CheckFailed,
    /// Live traffic shows that it does not serve.
    Ejected,
    /// Its circuit breaker is open.
    BreakerOpen,
    /// It is on probation, and this request is not its probe.
    Probation,
}

impl Exclusion {
    /// The fact in one word, for metrics and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Draining => "draining",
            Self::NoWeight => "no-weight",
            Self::CheckFailed => "check-failed",
            Self::Ejected => "ejected",
            Self::BreakerOpen => "breaker-open",
            Self::Probation => "probation",
        }
    }

    /// Why the endpoint was left out, in words.
    pub fn reason(self, endpoint: &Endpoint) -> &str {
        match (self, &endpoint.condition) {
            (Self::Unavailable, Condition::Unavailable(reason))
            | (Self::Draining, Condition::Draining(reason)) => reason,
            (Self::Unavailable, _) => "unavailable",
            (Self::Draining, _) => "draining",
            (Self::NoWeight, _) => "its weight is 0",
            (Self::CheckFailed, _) => "health checks fail",
            (Self::Ejected, _) => "ejected: live traffic shows that it does not serve",
            (Self::BreakerOpen, _) => "its circuit breaker is open",
            (Self::Probation, _) => "on probation: it takes one request at a time until that succeeds",
        }
    }

    /// What the endpoint's definition says, whatever is known of it from moment to moment.
    pub(crate) fn by_definition(endpoint: &Endpoint) -> Option<Self> {
        match endpoint.condition {
            Condition::Unavailable(_) => Some(Self::Unavailable),
            Condition::Draining(_) => Some(Self::Draining),
            Condition::Ready if endpoint.weight == 0 => Some(Self::NoWeight),
            Condition::Ready => None,
        }
    }
}

impl View {
    /// Combines all facts as of `now`.
    pub(crate) fn compute(endpoints: &[Arc<Endpoint>], policy: &Policy, now: Instant) -> Self {
        Self::combine(endpoints, policy, |endpoint| endpoint.live.verdict(policy, now))
    }

    /// The view while nothing is known against any endpoint.
    pub(crate) fn untroubled(endpoints: &[Arc<Endpoint>], policy: &Policy) -> Self {
        Self::combine(endpoints, policy, |_| (Verdict::Usable { tenths: 10 }, None))
    }

    fn combine(
        endpoints: &[Arc<Endpoint>],
        policy: &Policy,
        verdict: impl Fn(&Endpoint) -> (Verdict, Option<Instant>),
    ) -> Self {
        let mut view = Self::default();
        let mut there = 0usize;
        for (index, endpoint) in (0u32..).zip(endpoints) {
            if let Some(exclusion) = Exclusion::by_definition(endpoint) {
                view.excluded.push((index, exclusion));
                continue;
            }
            there += 1;
            let (verdict, until) = verdict(endpoint);
            view.next_change = view.next_change.into_iter().chain(until).min();
            match verdict {
                Verdict::Usable { tenths } => view.usable.push(Usable {
                    index,
                    weight: endpoint.weight.saturating_mul(tenths),
                }),
                Verdict::Probation { since } => view.probation.push(Waiting { index, since }),
                Verdict::Excluded(exclusion) => view.excluded.push((index, exclusion)),
            }
        }
        if view.usable.len() * 100 < there * usize::from(policy.panic.threshold) {
            view.panic(endpoints);
        }
        view.plan = Plan::new(endpoints, &view.usable, policy);
        view
    }

    /// Too few are healthy: all that are there are used.
    fn panic(&mut self, endpoints: &[Arc<Endpoint>]) {
        self.panic = true;
        self.recovering = std::mem::take(&mut self.probation);
        self.usable.clear();
        self.excluded.clear();
        for (index, endpoint) in (0u32..).zip(endpoints) {
            match Exclusion::by_definition(endpoint) {
                Some(exclusion) => self.excluded.push((index, exclusion)),
                None => self.usable.push(Usable {
                    index,
                    weight: endpoint.weight.saturating_mul(10),
                }),
            }
        }
    }

    /// The endpoints that take requests, in definition order.
    pub fn usable(&self) -> &[Usable] {
        &self.usable
    }

    /// The endpoints on probation: each takes one probe at a time.
    pub(crate) fn probation(&self) -> &[Waiting] {
        &self.probation
    }

    /// The endpoints that would be on probation, were it not for the panic: where another service stands in for this
    /// one, they get a probe as well, or it would never be found to be back.
    pub(crate) fn recovering(&self) -> &[Waiting] {
        &self.recovering
    }

    /// The endpoints left out, by their places, with the reason; without those on probation.
    pub fn excluded(&self) -> impl Iterator<Item = (usize, Exclusion)> + '_ {
        self.excluded
            .iter()
            .map(|(index, exclusion)| ((*index).try_into().unwrap_or(usize::MAX), *exclusion))
    }

    /// Why an endpoint, by its place, is left out or takes only probes; `None`: it takes requests.
    pub(crate) fn exclusion(&self, place: usize) -> Option<Exclusion> {
        let waiting = self
            .probation
            .iter()
            .map(|waiting| (waiting.index(), Exclusion::Probation));
        self.excluded()
            .chain(waiting)
            .find_map(|(index, exclusion)| (index == place).then_some(exclusion))
    }

    /// Too few endpoints are healthy, so all that are there are used.
    pub fn is_panic(&self) -> bool {
        self.panic
    }

    /// When time alone changes the view: an ejection ends, an endpoint that is eased in gets its next share.
    pub fn next_change(&self) -> Option<Instant> {
        self.next_change
    }

    /// Who takes turns with whom.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether decisions by both are the same, now and later.
    fn is_like(&self, other: &Self) -> bool {
        self.usable == other.usable
            && self.probation == other.probation
            && self.recovering == other.recovering
            && self.excluded == other.excluded
            && self.panic == other.panic
            && self.next_change == other.next_change
    }

    /// Whether an endpoint, by its place, is among the usable ones.
    pub(crate) fn uses(&self, index: usize) -> bool {
        u32::try_from(index).is_ok_and(|index| {
            self.usable
                .binary_search_by_key(&index, |usable| usable.index)
                .is_ok()
        })
    }
}
