//! The live side of a service: what it learns from every attempt, and the candidates that follow from it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::{Changes, Fact, Outcome, Standing};
use crate::balance::{self, Cursor, Sticky};
use crate::service::Carried;
use crate::view::{Current, Waiting};
use crate::{
    Candidate, Candidates, Endpoint, Exclusion, Policy, RequestMeta, Service, Slot, Turn, View, ViewRef,
};

/// How long an endpoint on probation waits for a repeatable request whose sticky cookie names no other endpoint; then
/// any request may be the probe.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most endpoints left out that a decision on a real request lists, so that the list stays off the heap.
const MAX_EXCLUDED: usize = 4;

/// Most changes kept for whoever comes to fetch them: about as many as a large service can have at once.
const MAX_UNFETCHED: usize = 1024;

/// The live side of a service.
#[derive(Debug, Default)]
pub struct ServiceLive {
    /// The turn of the round robin; beside the count of changes, because every decision reads both.
    pub(crate) cursor: Cursor,
    /// Counts changes of facts about its endpoints.
    epoch: AtomicU64,
    /// Changes that time or a renewed view brought are waiting to be fetched.
    news: AtomicBool,
    /// The newest generation speaks for the service; older ones may know endpoints that are gone.
    newest: AtomicU64,
    panic: AtomicBool,
    unfetched: Mutex<Transitions>,
    /// What the data plane hangs on the service's identity (retry budget, queue).
    pub slot: Slot,
}

/// The changes that one event brought.
pub type Transitions = SmallVec<[Transition; 1]>;

/// A change of one fact about an endpoint, for metrics and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The endpoint; empty for a fact about the service as a whole.
    pub endpoint: Arc<str>,
    /// Which fact: `breaker`, `outlier`, `check`, `panic`, `condition`.
    pub fact: &'static str,
    /// What it is now: `open`, `half-open`, `closed`, `ejected`, `probation`, `healthy`, `unhealthy`, `on`, `off`.
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
        let compute = || {
            for endpoint in &self.endpoints {
                let changes = endpoint.live.advance(now);
                self.live.announce(transitions(&endpoint.name, changes));
            }
            let view = View::compute(&self.endpoints, &self.policy, now);
            if self.current.generation() == self.live.newest.load(Ordering::Relaxed)
                && self.live.panic.swap(view.is_panic(), Ordering::Relaxed) != view.is_panic()
            {
                self.live.announce([panic_transition(&view, &self.policy)]);
            }
            view
        };
        self.current.renew(now, || self.epoch(), compute)
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
        standing: balance::Standing,
    ) -> Candidates<'_> {
        let view = match request.turn {
            Turn::Take => self.view(request.now),
            Turn::Look | Turn::At(_) => self.look(request.now),
        };
        let mut candidates = Candidates {
            panic: view.is_panic(),
            ..Candidates::default()
        };
        if let Some(sticky) = &self.sticky {
            self.hold(sticky, &view, request, &mut candidates);
        }
        if !view.probation().is_empty() && standing == balance::Standing::First {
            self.probe(&view, request, &mut candidates);
        }
        balance::order(
            self,
            &view,
            request,
            self.live.cursor.position(request.turn, standing),
            limit,
            &mut candidates,
        );
        if view.usable().len() < self.endpoints.len() {
            self.exclude(&view, limit, &mut candidates);
        }
        candidates
    }

    /// Makes the request the probe of an endpoint of a service in panic, for which another service stands in.
    pub(crate) fn trial(&self, request: &RequestMeta<'_>) -> Option<Candidate<'_>> {
        if request.turn != Turn::Take {
            return None;
        }
        let view = self.view(request.now);
        let patient = |waiting: &&Waiting| {
            request.repeatable || request.now.saturating_duration_since(waiting.since) >= PATIENCE
        };
        view.recovering().iter().filter(patient).find_map(|waiting| {
            let endpoint = self.endpoints.get(waiting.index())?;
            let probe = endpoint.live.claim(request.now)?;
            Some(Candidate {
                endpoint,
                probe: Some(probe),
            })
        })
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
        let held = candidates.held.is_some();
        let may = |waiting: &&Waiting| {
            request.turn == Turn::Take
                && (request.repeatable && !held
                    || view.usable().is_empty()
                    || request.now.saturating_duration_since(waiting.since) >= PATIENCE)
        };
        for waiting in view.probation().iter().filter(may) {
            let Some(endpoint) = self.endpoints.get(waiting.index()) else {
                continue;
            };
            if let Some(probe) = endpoint.live.claim(request.now) {
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
        let changes = endpoint.live.record(&self.policy, outcome, now);
        if changes.is_empty() && !self.live.news.load(Ordering::Relaxed) {
            return Transitions::new();
        }
        self.changed(endpoint, changes, now)
    }

    /// Takes in what an active check of one of its endpoints found (`Err`: why it is bad), and says what changed by it.
    /// Nothing where the policy has no checks.
    pub fn set_checked(&self, endpoint: &Endpoint, result: Result<(), &str>, now: Instant) -> Transitions {
        let Some(check) = &self.policy.health_check else {
            return Transitions::new();
        };
        let changes = endpoint.live.checked(&self.policy, check, result, now);
        self.changed(endpoint, changes, now)
    }

    /// What time alone has changed since anybody asked: an ejection that is over, an end of panic. For whoever shows
    /// the state of services that nobody uses; [`Service::record`] says the same.
    pub fn transitions(&self, now: Instant) -> Transitions {
        drop(self.view(now));
        self.live.fetch()
    }

    #[cold]
    fn changed(&self, endpoint: &Endpoint, changes: Changes, now: Instant) -> Transitions {
        let mut all = self.live.fetch();
        if !changes.is_empty() {
            all.extend(transitions(&endpoint.name, changes));
            self.live.epoch.fetch_add(1, Ordering::Release);
            drop(self.view(now));
            all.extend(self.live.fetch());
        }
        all
    }

    /// Where an endpoint stands as of `now`, with the evidence. Changes nothing.
    pub fn standing(&self, endpoint: &Endpoint, now: Instant) -> Standing {
        let view = self.look(now);
        let excluded = self.place(endpoint).and_then(|place| view.exclusion(place));
        endpoint
            .live
            .standing(&self.policy, excluded, view.is_panic(), now)
    }

    /// Whether too few endpoints are healthy, so that all are used. Changes nothing.
    pub fn is_panic(&self, now: Instant) -> bool {
        self.look(now).is_panic()
    }

    /// What its endpoints may do as of `now`, without changing anything.
    fn look(&self, now: Instant) -> ViewRef<'_> {
        self.current
            .read(self.epoch(), now)
            .unwrap_or_else(|| Current::compute(&self.endpoints, &self.policy, now))
    }

    fn place(&self, endpoint: &Endpoint) -> Option<usize> {
        self.endpoints
            .iter()
            .position(|own| std::ptr::eq(&raw const **own, endpoint))
    }

    /// Whether an attempt that follows a failed one may go to this endpoint now: it was a candidate when the request
    /// was decided, and may have been excluded since. An endpoint on probation is left to probes; a candidate that
    /// holds a [`crate::Probe`] may be tried without asking.
    pub fn may_try(&self, endpoint: &Endpoint, now: Instant) -> bool {
        !endpoint.live.departed()
            && self
                .place(endpoint)
                .is_none_or(|place| self.view(now).uses(place))
    }
}

impl ServiceLive {
    /// The number of a new generation of the service, which speaks for it from now on.
    pub(crate) fn next_generation(&self) -> u64 {
        self.newest.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Keeps changes until somebody fetches them.
    fn announce(&self, news: impl IntoIterator<Item = Transition>) {
        let mut news = news.into_iter().peekable();
        if news.peek().is_none() {
            return;
        }
        let mut unfetched = self.unfetched.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_UNFETCHED.saturating_sub(unfetched.len());
        unfetched.extend(news.take(room));
        self.news.store(true, Ordering::Relaxed);
    }

    fn fetch(&self) -> Transitions {
        if !self.news.load(Ordering::Relaxed) {
            return Transitions::new();
        }
        let mut unfetched = self.unfetched.lock().unwrap_or_else(PoisonError::into_inner);
        self.news.store(false, Ordering::Relaxed);
        std::mem::take(&mut *unfetched)
    }
}

fn transitions(endpoint: &Arc<str>, changes: Changes) -> impl Iterator<Item = Transition> {
    changes.into_iter().map(|change| Transition {
        endpoint: endpoint.clone(),
        fact: change.fact.word(),
        to: change.to,
        reason: change.reason,
    })
}

fn panic_transition(view: &View, policy: &Policy) -> Transition {
    let threshold = policy.panic.threshold;
    let (to, reason) = if view.is_panic() {
        (
            "on",
            format!("less than {threshold} % of the endpoints are healthy, so all are used"),
        )
    } else {
        (
            "off",
            format!("at least {threshold} % of the endpoints are healthy"),
        )
    };
    Transition {
        endpoint: Arc::default(),
        fact: Fact::Panic.word(),
        to,
        reason: reason.into(),
    }
}
