//! Metrics of the data plane, declared once, with help and unit.
//!
//! The request path holds handles ([`RouterMetrics`], [`ServiceMetrics`], [`EndpointMetrics`], [`EntryPointMetrics`]) that were looked up
//! once and hang on the objects they count for; what it does per request is atomic additions. What can be read from
//! the published generation is not counted but read when somebody asks ([`register_generation`]), so it can't differ
//! from what serves. Series of routers, services and endpoints that a generation no longer has are dropped by
//! [`Metrics::retire`].

mod datagrams;
mod failover;
mod family;
mod generation;
mod handles;
mod labels;
mod mesh;
mod process;
mod streams;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::{Duration, SystemTime};

use constellation_table::{Action, EntryPointId, Router, Snapshot, TcpRouter, Transition, UdpRouter};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use datagrams::DatagramFamilies;
use failover::FailoverFamilies;
use family::{DurationHistogram, Family};
use labels::{
    EndpointFailureLabels, EndpointLabels, EntryPointLabels, HandshakeLabels, HealthCheckLabels, Name,
    RefusalLabels, RequestLabels, TrafficLabels,
};
use streams::StreamFamilies;

pub use datagrams::{Carried, DropMetrics, UdpRouteMetrics, UdpRouterMetrics};
pub use failover::ServiceMetrics;
pub use generation::register_generation;
pub use handles::{EndpointMetrics, EntryPointMetrics, Finished, InFlight, RouteMetrics, RouterMetrics};
pub use labels::{
    CheckOutcome, DatagramDrop, EndpointFailure, GaveUp, HandshakeOutcome, HedgeOutcome,
    MeshConnectionOutcome, MeshDirection, MeshKind, MeshOutcome, Method, Protocol, QueueRefusal, Refusal,
    RetryOutcome, SessionEnd, StreamEnd, StreamSide, TlsVersion,
};
pub use mesh::{MeshBytes, MeshMetrics};
pub use process::{register_build, register_process};
pub use streams::{StreamBytes, StreamRouteMetrics, StreamRouterMetrics};

/// The media type of [`encode`]'s output.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes every family of `registry` as OpenMetrics text.
pub fn encode(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(64 * 1024);
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    Ok(text)
}

/// Every metric family that something counts into.
#[derive(Debug)]
pub struct Metrics {
    entry_point_names: Vec<Name>,
    entry_points: Vec<EntryPointMetrics>,
    families: Families,
    reload_failures: Counter,
    reloaded: Gauge<f64, AtomicU64>,
    compile_duration: Gauge<f64, AtomicU64>,
    problems: Gauge<i64, AtomicI64>,
    access_log_dropped: Counter,
}

#[derive(Debug, Default)]
struct Families {
    requests: Family<RequestLabels, Counter>,
    durations: Family<TrafficLabels, DurationHistogram>,
    in_flight: Family<TrafficLabels, Gauge>,
    request_bytes: Family<TrafficLabels, Counter>,
    response_bytes: Family<TrafficLabels, Counter>,
    connections: Family<EntryPointLabels, Counter>,
    open_connections: Family<EntryPointLabels, Gauge>,
    refused: Family<RefusalLabels, Counter>,
    accept_failures: Family<EntryPointLabels, Counter>,
    handshakes: Family<HandshakeLabels, Counter>,
    endpoint_requests: Family<EndpointLabels, Counter>,
    endpoint_retries: Family<EndpointLabels, Counter>,
    endpoint_in_flight: Family<EndpointLabels, Gauge>,
    endpoint_failures: Family<EndpointFailureLabels, Counter>,
    failover: FailoverFamilies,
    health_checks: Family<HealthCheckLabels, Counter>,
    streams: StreamFamilies,
    datagrams: DatagramFamilies,
    mesh: MeshMetrics,
}

impl Metrics {
    /// Declares the families in `registry`; the position of a name is its [`EntryPointId`].
    pub fn register(registry: &mut Registry, entry_points: &[Arc<str>]) -> Self {
        let families = Families::default();
        families.register(registry);
        let entry_point_names: Vec<Name> = entry_points.iter().map(Name::new).collect();
        let metrics = Self {
            entry_points: entry_point_names
                .iter()
                .map(|name| families.entry_point(name))
                .collect(),
            entry_point_names,
            families,
            reload_failures: Counter::default(),
            reloaded: Gauge::default(),
            compile_duration: Gauge::default(),
            problems: Gauge::default(),
            access_log_dropped: Counter::default(),
        };
        registry.register(
            "constellation_reload_failures",
            "Configurations that could not be published; the last good one stayed",
            metrics.reload_failures.clone(),
        );
        registry.register_with_unit(
            "constellation_last_reload_success_timestamp",
            "When a configuration was published last, Unix time",
            Unit::Seconds,
            metrics.reloaded.clone(),
        );
        registry.register_with_unit(
            "constellation_compile_duration",
            "How long the last compile took, from the readings of all sources to tables ready to be published",
            Unit::Seconds,
            metrics.compile_duration.clone(),
        );
        registry.register(
            "constellation_configuration_problems",
            "Objects of the configuration that can't be used, as status lists them",
            metrics.problems.clone(),
        );
        registry.register(
            "constellation_access_log_dropped_lines",
            "Access log lines lost because the writer could not keep up or could not write",
            metrics.access_log_dropped.clone(),
        );
        metrics
    }

    /// The counters of an entry point; `None` for an id that was not declared.
    pub fn entry_point(&self, id: EntryPointId) -> Option<&EntryPointMetrics> {
        self.entry_points.get(usize::from(id.0))
    }

    /// The counters of a router, to be kept in its slot.
    pub fn router(&self, router: &Router) -> RouterMetrics {
        let name = Name::new(&router.spec.name);
        let service = match &router.spec.action {
            Action::Forward(target) => Name::new(target.name()),
            _ => Name("".into()),
        };
        let on = |id: &EntryPointId| {
            let entry_point = self.entry_point_names.get(usize::from(id.0))?;
            Some((*id, self.families.route(entry_point, &name, &service)))
        };
        RouterMetrics {
            routes: router.spec.entry_points.iter().filter_map(on).collect(),
        }
    }

    /// The counters of a TCP router, to be kept in its slot.
    pub fn stream_router(&self, router: &TcpRouter) -> StreamRouterMetrics {
        let name = Name::new(&router.spec.name);
        let service = Name::new(router.spec.target.name());
        let mesh = Name(crate::mesh::NAME.into());
        let on = |id: &EntryPointId| {
            let entry_point = match *id {
                crate::mesh::ENTRY_POINT => &mesh,
                id => self.entry_point_names.get(usize::from(id.0))?,
            };
            Some((*id, self.families.streams.route(entry_point, &name, &service)))
        };
        StreamRouterMetrics {
            routes: router.spec.entry_points.iter().filter_map(on).collect(),
        }
    }

    /// The counters of a UDP router, to be kept in its slot.
    pub fn udp_router(&self, router: &UdpRouter) -> UdpRouterMetrics {
        let name = Name::new(&router.spec.name);
        let service = Name::new(router.spec.target.name());
        let on = |id: &EntryPointId| {
            let entry_point = self.entry_point_names.get(usize::from(id.0))?;
            let route = self.families.datagrams.route(entry_point, &name, &service);
            Some((*id, Arc::new(route)))
        };
        UdpRouterMetrics {
            routes: router.spec.entry_points.iter().filter_map(on).collect(),
        }
    }

    /// Counts datagrams of an entry point that went nowhere.
    pub fn udp_drops(&self, entry_point: &Arc<str>) -> DropMetrics {
        self.families.datagrams.drops(&Name::new(entry_point))
    }

    /// The counters of an endpoint, to be kept in its slot.
    pub fn endpoint(&self, service: &Arc<str>, endpoint: &Arc<str>) -> EndpointMetrics {
        let labels = EndpointLabels {
            service: Name::new(service),
            endpoint: Name::new(endpoint),
        };
        EndpointMetrics {
            requests: self.families.endpoint_requests.of(labels.clone()),
            retries: self.families.endpoint_retries.of(labels.clone()),
            in_flight: self.families.endpoint_in_flight.of(labels.clone()),
            failures: self.families.endpoint_failures.clone(),
            labels,
        }
    }

    /// The counters of a service for what happens beyond first attempts, to be kept with the service.
    pub fn service(&self, service: &Arc<str>) -> ServiceMetrics {
        self.families.failover.service(service)
    }

    /// Counts a change of one fact about an endpoint of `service`. Takes a lock: changes are rare.
    pub fn transition(&self, service: &Arc<str>, transition: &Transition) {
        self.families.failover.transition(service, transition);
    }

    /// Counts an active health check that ended. Takes a lock: checks are rare beside requests.
    pub fn checked(&self, service: &Arc<str>, endpoint: &Arc<str>, outcome: CheckOutcome) {
        self.families
            .health_checks
            .of(HealthCheckLabels {
                service: Name::new(service),
                endpoint: Name::new(endpoint),
                outcome,
            })
            .inc();
    }

    /// Drops the series of everything that `snapshot` does not have. Called after each publish.
    ///
    /// A request that still runs on a retired router can bring a series back; the next call drops it again.
    pub fn retire(&self, snapshot: &Snapshot) {
        let families = &self.families;
        families.failover.retire(snapshot);
        families.streams.retire(snapshot);
        families.datagrams.retire(snapshot);
        let service = |name: &Name| name.0.is_empty() || snapshot.service(&name.0).is_some();
        let endpoint = |service: &Name, endpoint: &Name| {
            let service = snapshot.service(&service.0);
            service.is_some_and(|s| s.endpoints.iter().any(|e| e.name == endpoint.0))
        };
        // Most routes of a large table have seen no request: what is looked up are the series, not the routes.
        let mut counted = HashSet::new();
        families.requests.each(|labels| {
            counted.insert(Arc::clone(&labels.router.0));
        });
        let routers = snapshot.routers().iter();
        let served: HashSet<Arc<str>> = routers
            .filter_map(|router| counted.take(&router.spec.name))
            .collect();
        let router = |name: &Name| name.0.is_empty() || served.contains(&name.0);
        families
            .requests
            .retain(|l| router(&l.router) && service(&l.service));
        families.durations.retain(|l| service(&l.service));
        families.in_flight.retain(|l| service(&l.service));
        families.request_bytes.retain(|l| service(&l.service));
        families.response_bytes.retain(|l| service(&l.service));
        families
            .endpoint_requests
            .retain(|l| endpoint(&l.service, &l.endpoint));
        families
            .endpoint_retries
            .retain(|l| endpoint(&l.service, &l.endpoint));
        families
            .endpoint_in_flight
            .retain(|l| endpoint(&l.service, &l.endpoint));
        families
            .endpoint_failures
            .retain(|l| endpoint(&l.service, &l.endpoint));
        families
            .health_checks
            .retain(|l| endpoint(&l.service, &l.endpoint));
    }

    /// What is counted between nodes.
    pub fn mesh(&self) -> &MeshMetrics {
        &self.families.mesh
    }

    /// A configuration was published at `when`.
    pub fn reloaded(&self, when: SystemTime) {
        self.reloaded.set(generation::unix_seconds(when));
    }

    /// A compile took this long, whether or not it gave something to publish.
    pub fn compiled(&self, duration: Duration) {
        self.compile_duration.set(duration.as_secs_f64());
    }

    /// A configuration could not be published.
    pub fn reload_failed(&self) {
        self.reload_failures.inc();
    }

    /// How many objects of the configuration can't be used now.
    pub fn problems(&self, count: usize) {
        self.problems.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The counter of lost access log lines, for [`crate::access_log::AccessLog::start`].
    pub fn access_log_dropped(&self) -> Counter {
        self.access_log_dropped.clone()
    }

    /// Requests counted so far, over all series that exist now. For the JSON summary.
    pub fn requests(&self) -> u64 {
        self.families.requests.sum(Counter::get)
    }

    /// Requests running now.
    pub fn in_flight(&self) -> i64 {
        self.families.in_flight.sum(Gauge::get)
    }

    /// Connections open now.
    pub fn open_connections(&self) -> i64 {
        self.families.open_connections.sum(Gauge::get)
    }
}

impl Families {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "constellation_requests",
            "Requests that ended, by route and outcome",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "constellation_request_duration",
            "Time from the first byte of a request to the last of its response",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "constellation_requests_in_flight",
            "Requests running now",
            self.in_flight.clone(),
        );
        registry.register_with_unit(
            "constellation_request_body",
            "Request body bytes received from clients",
            Unit::Bytes,
            self.request_bytes.clone(),
        );
        registry.register_with_unit(
            "constellation_response_body",
            "Response body bytes sent to clients",
            Unit::Bytes,
            self.response_bytes.clone(),
        );
        registry.register(
            "constellation_connections",
            "Connections accepted from clients",
            self.connections.clone(),
        );
        registry.register(
            "constellation_open_connections",
            "Connections from clients that are open now",
            self.open_connections.clone(),
        );
        registry.register(
            "constellation_refused",
            "Connections and requests refused before routing, by reason",
            self.refused.clone(),
        );
        registry.register(
            "constellation_accept_failures",
            "Attempts to accept a connection that failed, mostly for want of file descriptors",
            self.accept_failures.clone(),
        );
        registry.register(
            "constellation_tls_handshakes",
            "TLS handshakes with clients, by version and outcome",
            self.handshakes.clone(),
        );
        registry.register(
            "constellation_endpoint_requests",
            "Attempts to have an endpoint serve a request",
            self.endpoint_requests.clone(),
        );
        registry.register(
            "constellation_endpoint_retries",
            "Attempts that followed a failed one of the same request",
            self.endpoint_retries.clone(),
        );
        registry.register(
            "constellation_endpoint_requests_in_flight",
            "Attempts running now",
            self.endpoint_in_flight.clone(),
        );
        registry.register(
            "constellation_endpoint_failures",
            "Attempts that failed, by reason",
            self.endpoint_failures.clone(),
        );
        self.failover.register(registry);
        self.streams.register(registry);
        self.datagrams.register(registry);
        self.mesh.register(registry);
        registry.register(
            "constellation_endpoint_health_checks",
            "Active health checks that ended, by outcome",
            self.health_checks.clone(),
        );
    }

    fn entry_point(&self, name: &Name) -> EntryPointMetrics {
        let labels = EntryPointMetrics::labels(name);
        EntryPointMetrics {
            open: self.open_connections.of(labels.clone()),
            connections: self.connections.of(labels.clone()),
            accept_failures: self.accept_failures.of(labels),
            refused: self.refused.clone(),
            handshakes: self.handshakes.clone(),
            unrouted: self.route(name, &Name("".into()), &Name("".into())),
            name: name.clone(),
        }
    }

    fn route(&self, entry_point: &Name, router: &Name, service: &Name) -> RouteMetrics {
        let traffic = TrafficLabels {
            entry_point: entry_point.clone(),
            service: service.clone(),
        };
        RouteMetrics {
            entry_point: entry_point.clone(),
            router: router.clone(),
            service: service.clone(),
            requests: self.requests.clone(),
            seen: handles::Seen::default(),
            duration: self.durations.of(traffic.clone()),
            in_flight: self.in_flight.of(traffic.clone()),
            request_bytes: self.request_bytes.of(traffic.clone()),
            response_bytes: self.response_bytes.of(traffic),
        }
    }
}
