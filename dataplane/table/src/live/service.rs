//! The live side of a service: what it learns from every attempt, and the candidates that follow from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::Outcome;
use crate::balance::{Cursor, Standing, Sticky};
use crate::service::Carried;
use crate::view::{Current, Waiting};
use crate::{
    Candidate, Candidates, Endpoint, Exclusion, RequestMeta, Service, Slot, Turn, View, ViewRef, balance,
};

/// How long an endpoint on probation waits for a repeatable request; then any request may be the probe.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most endpoints left out that a decision on a real request lists, so that the list stays off the heap.
const MAX_EXCLUDED: usize = 4;

/// The live side of a service.
#[derive(Debug, Default)]
pub struct ServiceLive {
    /// The turn of the round robin; beside the count of changes, because every decision reads both.
    pub(crate) cursor: Cursor,
    /// Counts changes of facts about its endpoints.
    epoch: AtomicU64,
    /// What the data plane hangs on the service's identity (retry budget, queue).
    pub slot: Slot,
}

/// The changes that one event brought.
pub type Transitions = SmallVec<[Transition; 1]>;

/// A change of one fact about an endpoint, for metrics and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The endpoint.
    pub endpoint: Arc<str>,
    /// Which fact: `breaker`, `outlier`, `check`, `panic`.
    pub fact: &'static str,
    /// What it is now: `open`, `half-open`, `closed`, `ejected`, `probation`, `healthy`, `unhealthy`.
    pub to: &'static str,
    /// Why, in words.
    pub reason: Box<str>,
}

impl Service {
    /// What its endpoints may do as of `now`.
    #[inline]
    pub fn view(&self, now: Instant) -> ViewRef<'_> {
        match self.current.read(self.epoch(), now) {
            Some(view) => view,
            None => self.renewed(now),
        }
    }

    #[cold]
    fn renewed(&self, now: Instant) -> ViewRef<'_> {
        self.current
            .renew(&self.endpoints, &self.policy, now, || self.epoch())
    }

    #[inline]
    fn epoch(&self) -> u64 {
        self.live.epoch.load(Ordering::Acquire)
    }

    /// The endpoints to try for this request, best first and at most `limit`, and those left out.
    #[inline]
    pub(crate) fn candidates(
        &self,
        request: &RequestMeta<'_>,
        limit: usize,
        standing: Standing,
    ) -> Candidates<'_> {
        let view = match request.turn {
            Turn::Take => self.view(request.now),
            Turn::Look | Turn::At(_) => self
                .current
                .read(self.epoch(), request.now)
                .unwrap_or_else(|| Current::compute(&self.endpoints, &self.policy, request.now)),
        };
        let mut candidates = Candidates::default();
        if let Some(sticky) = &self.sticky {
            self.hold(sticky, &view, request, &mut candidates);
        }
        if !view.probation().is_empty() && standing == Standing::First {
            self.probe(&view, request, &mut candidates);
        }
        balance::order(
            &self.endpoints,
            &view,
            self.live.cursor.position(request.turn, standing),
            limit,
            &mut candidates,
        );
        if view.usable().len() < self.endpoints.len() {
            self.exclude(&view, limit, &mut candidates);
        }
        candidates
    }

    /// Puts the usable endpoint first that the request's sticky cookie names.
    fn hold<'s>(
        &'s self,
        sticky: &Sticky,
        view: &View,
        request: &RequestMeta<'_>,
        candidates: &mut Candidates<'s>,
    ) {
        let held = sticky.held(request.headers);
        candidates.carried = Carried(held);
        candidates.held = held
            .filter(|held| view.uses(held.place))
            .and_then(|held| self.endpoints.get(held.place));
    }

    /// Makes the request the probe of one endpoint on probation; of all of them when no other endpoint is usable.
    fn probe<'s>(&'s self, view: &View, request: &RequestMeta<'_>, candidates: &mut Candidates<'s>) {
        let may = |waiting: &&Waiting| {
            request.turn == Turn::Take
                && (request.repeatable
                    || view.usable().is_empty()
                    || request.now.saturating_duration_since(waiting.since) >= PATIENCE)
        };
        for waiting in view.probation().iter().filter(may) {
            let Some(endpoint) = self.endpoints.get(waiting.index()) else {
                continue;
            };
            if let Some(probe) = endpoint.live.claim() {
                candidates.order.push(Candidate {
                    endpoint,
                    probe: Some(probe),
                });
                if !view.usable().is_empty() {
                    return;
                }
            }
        }
    }

    fn exclude<'s>(&'s self, view: &View, limit: usize, candidates: &mut Candidates<'s>) {
        let most = if limit == usize::MAX { limit } else { MAX_EXCLUDED };
        let waiting = view
            .probation()
            .iter()
            .map(|waiting| (waiting.index(), Exclusion::Probation));
        for (index, exclusion) in view.excluded().chain(waiting) {
            if candidates.excluded.len() == most {
                break;
            }
            if let Some(endpoint) = self.endpoints.get(index)
                && !candidates
                    .order
                    .iter()
                    .any(|candidate| candidate.probe.is_some() && Arc::ptr_eq(candidate.endpoint, endpoint))
            {
                candidates.excluded.push((endpoint, exclusion));
            }
        }
    }

    /// Takes in what became of an attempt at one of its endpoints, and says what changed by it.
    pub fn record(&self, endpoint: &Endpoint, outcome: Outcome, now: Instant) -> Transitions {
        endpoint.live.record(&self.policy, outcome, now);
        Transitions::new()
    }

    /// Takes in what an active check of one of its endpoints found (`Err`: why it is bad), and says what changed by it.
    pub fn set_checked(&self, _endpoint: &Endpoint, _result: Result<(), &str>, _now: Instant) -> Transitions {
        Transitions::new()
    }

    /// Whether an attempt that follows a failed one may go to this endpoint now: it was a candidate when the request
    /// was decided, and may have been excluded since. An endpoint on probation is left to probes; a candidate that
    /// holds a [`crate::Probe`] may be tried without asking.
    pub fn may_try(&self, endpoint: &Endpoint, now: Instant) -> bool {
        !endpoint.live.departed()
            && self
                .endpoints
                .iter()
                .position(|own| std::ptr::eq(&raw const **own, endpoint))
                .is_none_or(|index| self.view(now).uses(index))
    }
}
