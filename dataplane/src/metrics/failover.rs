//! What happens to the requests of a service beyond their first attempt, and to its endpoints: counted per service.
//!
//! [`ServiceMetrics`] hangs on what lives as long as the service. Counting takes no lock: the counter of a label is
//! looked up when it is first needed.

use std::sync::{Arc, OnceLock};

use constellation_table::{Snapshot, Transition};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::family::Family;
use super::handles::InFlight;
use super::labels::{
    EndpointFailure, GaveUp, HedgeOutcome, Name, OutcomeLabels, QueueRefusal, ReasonLabels, RetryOutcome,
    ServiceLabels, TransitionLabels,
};

/// The families of this file.
#[derive(Clone, Debug, Default)]
pub(super) struct FailoverFamilies {
    transitions: Family<TransitionLabels, Counter>,
    retries: Family<ReasonLabels, Counter>,
    retried: Family<OutcomeLabels, Counter>,
    gave_up: Family<ReasonLabels, Counter>,
    hedges: Family<OutcomeLabels, Counter>,
    budget_denied: Family<ServiceLabels, Counter>,
    queued: Family<ServiceLabels, Gauge>,
    queue_refused: Family<ReasonLabels, Counter>,
}

impl FailoverFamilies {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "constellation_endpoint_transitions",
            "Changes of what is known of an endpoint, by fact and new value",
            self.transitions.clone(),
        );
        registry.register(
            "constellation_retries",
            "Attempts that followed a failed one, by how that one failed",
            self.retries.clone(),
        );
        registry.register(
            "constellation_retried_requests",
            "Requests that needed more than one attempt, by how they ended",
            self.retried.clone(),
        );
        registry.register(
            "constellation_retries_refused",
            "Failed attempts that were not followed by another one, by reason",
            self.gave_up.clone(),
        );
        registry.register(
            "constellation_hedges",
            "Second attempts started while the first still ran, by outcome",
            self.hedges.clone(),
        );
        registry.register(
            "constellation_retry_budget_denied",
            "Attempts that were not made because the retry budget was spent",
            self.budget_denied.clone(),
        );
        registry.register(
            "constellation_service_queue_length",
            "Requests waiting for a place in the service",
            self.queued.clone(),
        );
        registry.register(
            "constellation_service_queue_refused",
            "Requests sent away with 503 because the service took no more, by reason",
            self.queue_refused.clone(),
        );
    }

    /// Counts a change of one fact about an endpoint. Takes a lock: changes are rare.
    pub(super) fn transition(&self, service: &Arc<str>, transition: &Transition) {
        self.transitions
            .of(TransitionLabels {
                service: Name::new(service),
                endpoint: Name::new(&transition.endpoint),
                fact: transition.fact,
                to: transition.to,
            })
            .inc();
    }

    pub(super) fn service(&self, service: &Arc<str>) -> ServiceMetrics {
        let service = Name::new(service);
        let labels = ServiceLabels {
            service: service.clone(),
        };
        ServiceMetrics {
            budget_denied: self.budget_denied.of(labels.clone()),
            queued: self.queued.of(labels),
            retries: Lazy::default(),
            retried: Lazy::default(),
            gave_up: Lazy::default(),
            hedges: Lazy::default(),
            queue_refused: Lazy::default(),
            families: self.clone(),
            service,
        }
    }

    /// Drops the series of services and endpoints that `snapshot` does not have.
    pub(super) fn retire(&self, snapshot: &Snapshot) {
        let service = |name: &Name| snapshot.service(&name.0).is_some();
        self.transitions.retain(|labels| {
            snapshot.service(&labels.service.0).is_some_and(|service| {
                // What concerns the service as a whole names no endpoint.
                labels.endpoint.0.is_empty() || service.endpoints.iter().any(|e| e.name == labels.endpoint.0)
            })
        });
        self.retries.retain(|l| service(&l.service));
        self.retried.retain(|l| service(&l.service));
        self.gave_up.retain(|l| service(&l.service));
        self.hedges.retain(|l| service(&l.service));
        self.budget_denied.retain(|l| service(&l.service));
        self.queued.retain(|l| service(&l.service));
        self.queue_refused.retain(|l| service(&l.service));
    }
}

/// Counters of one service, to be kept with what lives as long as the service does.
#[derive(Debug)]
pub struct ServiceMetrics {
    service: Name,
    families: FailoverFamilies,
    retries: Lazy<{ EndpointFailure::ALL.len() }>,
    retried: Lazy<{ RetryOutcome::ALL.len() }>,
    gave_up: Lazy<{ GaveUp::ALL.len() }>,
    hedges: Lazy<{ HedgeOutcome::ALL.len() }>,
    queue_refused: Lazy<{ QueueRefusal::ALL.len() }>,
    budget_denied: Counter,
    queued: Gauge,
}

impl ServiceMetrics {
    /// Counts an attempt that follows one which failed for `reason`.
    pub fn retry(&self, reason: EndpointFailure) {
        self.retries.inc(reason as usize, || {
            self.families.retries.of(self.because(reason.as_str()))
        });
    }

    /// Counts the end of a request that needed more than one attempt.
    pub fn retried(&self, outcome: RetryOutcome) {
        self.retried.inc(outcome as usize, || {
            self.families.retried.of(self.ended(outcome.as_str()))
        });
    }

    /// Counts a failed attempt that is not followed by another one. [`GaveUp::Budget`] counts as a denial of the
    /// budget as well.
    pub fn gave_up(&self, reason: GaveUp) {
        self.gave_up.inc(reason as usize, || {
            self.families.gave_up.of(self.because(reason.as_str()))
        });
        if reason == GaveUp::Budget {
            self.budget_denied();
        }
    }

    /// Counts what became of a hedge.
    pub fn hedge(&self, outcome: HedgeOutcome) {
        self.hedges.inc(outcome as usize, || {
            self.families.hedges.of(self.ended(outcome.as_str()))
        });
    }

    /// Counts an attempt that was not made because the retry budget was spent.
    pub fn budget_denied(&self) {
        self.budget_denied.inc();
    }

    /// Counts a request as waiting for a place in the service until the guard is dropped.
    pub fn queued(&self) -> InFlight {
        InFlight::new(&self.queued)
    }

    /// Counts a request that was sent away because the service took no more.
    pub fn queue_refused(&self, reason: QueueRefusal) {
        self.queue_refused.inc(reason as usize, || {
            self.families.queue_refused.of(self.because(reason.as_str()))
        });
    }

    fn because(&self, reason: &'static str) -> ReasonLabels {
        ReasonLabels {
            service: self.service.clone(),
            reason,
        }
    }

    fn ended(&self, outcome: &'static str) -> OutcomeLabels {
        OutcomeLabels {
            service: self.service.clone(),
            outcome,
        }
    }
}

/// Counters by the position of a label's value, each made when it is first needed.
#[derive(Debug)]
struct Lazy<const N: usize>([OnceLock<Counter>; N]);

impl<const N: usize> Default for Lazy<N> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; N])
    }
}

impl<const N: usize> Lazy<N> {
    fn inc(&self, position: usize, make: impl FnOnce() -> Counter) {
        if let Some(counter) = self.0.get(position) {
            counter.get_or_init(make).inc();
        }
    }
}
