//! What the request path holds: counters looked up once, and then only added to.
//!
//! A handle outlives the label sets it counts into: when a generation retires a router, the requests that still run
//! finish on counters that nobody reads any more.

use std::sync::OnceLock;
use std::time::Duration;

use constellation_table::EntryPointId;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::family::{DurationHistogram, Family};
use super::labels::{
    Code, EndpointFailure, EndpointFailureLabels, EndpointLabels, EntryPointLabels, HandshakeLabels,
    HandshakeOutcome, Method, Name, Protocol, Refusal, RefusalLabels, RequestLabels, TlsVersion,
};

/// Counters of one router, for its [`constellation_table::Slot`].
#[derive(Debug)]
pub struct RouterMetrics {
    pub(super) routes: Vec<(EntryPointId, RouteMetrics)>,
}

impl RouterMetrics {
    /// The counters for requests that came in through `entry_point`; `None` when the router does not answer there.
    pub fn on(&self, entry_point: EntryPointId) -> Option<&RouteMetrics> {
        self.routes
            .iter()
            .find(|(id, _)| *id == entry_point)
            .map(|(_, route)| route)
    }
}

/// Counters of one router on one entry point.
#[derive(Debug)]
pub struct RouteMetrics {
    pub(super) entry_point: Name,
    pub(super) router: Name,
    pub(super) service: Name,
    pub(super) requests: Family<RequestLabels, Counter>,
    pub(super) seen: Seen,
    pub(super) duration: DurationHistogram,
    pub(super) in_flight: Gauge,
    pub(super) request_bytes: Counter,
    pub(super) response_bytes: Counter,
}

/// What is known about a request when it ends.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// The method.
    pub method: Method,
    /// The status sent to the client, 100 to 599; 0 when the client left before there was one.
    pub status: u16,
    /// The protocol towards the client.
    pub protocol: Protocol,
    /// From the first byte of the request to the last of the response.
    pub duration: Duration,
    /// Request body bytes received.
    pub request_bytes: u64,
    /// Response body bytes sent.
    pub response_bytes: u64,
}

impl RouteMetrics {
    /// Counts the request as running until the guard is dropped.
    pub fn begin(&self) -> InFlight {
        InFlight::new(&self.in_flight)
    }

    /// Counts a request that ended.
    pub fn finish(&self, finished: &Finished) {
        self.requests_of(finished.method, Code::new(finished.status), finished.protocol)
            .inc();
        self.duration.observe(finished.duration);
        self.request_bytes.inc_by(finished.request_bytes);
        self.response_bytes.inc_by(finished.response_bytes);
    }

    fn requests_of(&self, method: Method, code: Code, protocol: Protocol) -> &Counter {
        self.seen.counter((method, code, protocol), || {
            self.requests.of(RequestLabels {
                entry_point: self.entry_point.clone(),
                router: self.router.clone(),
                service: self.service.clone(),
                method,
                code,
                protocol,
            })
        })
    }
}

/// The request counters a route has needed so far: a list that only grows, so that reading it takes no lock.
///
/// A route sees a handful of combinations; the labels bound the list (10 methods, about 60 codes, 3 protocols).
#[derive(Debug, Default)]
pub(super) struct Seen(OnceLock<Box<SeenCounter>>);

type Combination = (Method, Code, Protocol);

#[derive(Debug)]
struct SeenCounter {
    combination: Combination,
    counter: Counter,
    next: Seen,
}

impl Seen {
    fn counter(&self, combination: Combination, make: impl Fn() -> Counter) -> &Counter {
        let mut list = self;
        loop {
            let entry = list.0.get_or_init(|| {
                Box::new(SeenCounter {
                    combination,
                    counter: make(),
                    next: Self::default(),
                })
            });
            if entry.combination == combination {
                return &entry.counter;
            }
            list = &entry.next;
        }
    }
}

/// Counts something as running until it is dropped.
#[derive(Debug)]
#[must_use = "what it counts ends when it is dropped"]
pub struct InFlight(Gauge);

impl InFlight {
    pub(super) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counters of one endpoint of one service, for its [`constellation_table::Slot`].
#[derive(Debug)]
pub struct EndpointMetrics {
    pub(super) labels: EndpointLabels,
    pub(super) requests: Counter,
    pub(super) retries: Counter,
    pub(super) in_flight: Gauge,
    pub(super) failures: Family<EndpointFailureLabels, Counter>,
}

impl EndpointMetrics {
    /// Counts an attempt, as running until the guard is dropped.
    pub fn attempt(&self) -> InFlight {
        self.requests.inc();
        InFlight::new(&self.in_flight)
    }

    /// Attempts running now, over all workers.
    pub fn running(&self) -> i64 {
        self.in_flight.get()
    }

    /// Counts an attempt that failed.
    pub fn failed(&self, reason: EndpointFailure) {
        let EndpointLabels { service, endpoint } = self.labels.clone();
        self.failures
            .of(EndpointFailureLabels {
                service,
                endpoint,
                reason,
            })
            .inc();
    }

    /// Counts a request that was sent here after another attempt had failed.
    pub fn retried(&self) {
        self.retries.inc();
    }
}

/// Counters of one entry point.
#[derive(Debug)]
pub struct EntryPointMetrics {
    pub(super) name: Name,
    pub(super) open: Gauge,
    pub(super) connections: Counter,
    pub(super) refused: Family<RefusalLabels, Counter>,
    pub(super) accept_failures: Counter,
    pub(super) handshakes: Family<HandshakeLabels, Counter>,
    pub(super) unrouted: RouteMetrics,
}

impl EntryPointMetrics {
    pub(super) fn labels(name: &Name) -> EntryPointLabels {
        EntryPointLabels {
            entry_point: name.clone(),
        }
    }

    /// Counts an accepted connection, as open until the guard is dropped.
    pub fn connection(&self) -> InFlight {
        self.connections.inc();
        InFlight::new(&self.open)
    }

    /// Counts a connection or request refused before routing.
    pub fn refused(&self, reason: Refusal) {
        self.refused
            .of(RefusalLabels {
                entry_point: self.name.clone(),
                reason,
            })
            .inc();
    }

    /// Counts an attempt to accept a connection that failed for want of descriptors or memory.
    pub fn accept_failed(&self) {
        self.accept_failures.inc();
    }

    /// Counts a TLS handshake that ended, well or not.
    pub fn handshake(&self, version: TlsVersion, outcome: HandshakeOutcome) {
        self.handshakes
            .of(HandshakeLabels {
                entry_point: self.name.clone(),
                version,
                outcome,
            })
            .inc();
    }

    /// The counters for requests that no router took; router and service are empty labels.
    pub fn unrouted(&self) -> &RouteMetrics {
        &self.unrouted
    }
}
