//! Connections of TCP routers: how many, how they ended, and what they carried.

use std::sync::OnceLock;
use std::time::Duration;

use constellation_table::{EntryPointId, Snapshot};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::family::{DurationHistogram, Family};
use super::handles::InFlight;
use super::labels::{Name, StreamEnd, StreamLabels, StreamSide, StreamSideLabels, TrafficLabels};

/// The families of this file.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamFamilies {
    connections: Family<StreamLabels, Counter>,
    open: Family<TrafficLabels, Gauge>,
    received: Family<TrafficLabels, Counter>,
    sent: Family<TrafficLabels, Counter>,
    spliced: Family<TrafficLabels, Counter>,
    resets: Family<StreamSideLabels, Counter>,
    connects: Family<TrafficLabels, DurationHistogram>,
}

impl StreamFamilies {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "constellation_tcp_connections",
            "Connections of TCP routers that ended, by route and outcome",
            self.connections.clone(),
        );
        registry.register(
            "constellation_tcp_open_connections",
            "Connections of TCP routers that are open now",
            self.open.clone(),
        );
        registry.register_with_unit(
            "constellation_tcp_received",
            "Bytes carried from clients to back ends",
            Unit::Bytes,
            self.received.clone(),
        );
        registry.register_with_unit(
            "constellation_tcp_sent",
            "Bytes carried from back ends to clients",
            Unit::Bytes,
            self.sent.clone(),
        );
        registry.register_with_unit(
            "constellation_tcp_spliced",
            "Bytes of both directions that the kernel moved without a copy through this process",
            Unit::Bytes,
            self.spliced.clone(),
        );
        registry.register(
            "constellation_tcp_resets",
            "Connections that one side broke, by side",
            self.resets.clone(),
        );
        registry.register_with_unit(
            "constellation_tcp_connect_duration",
            "Time from the decision to a connection with a back end, all attempts together",
            Unit::Seconds,
            self.connects.clone(),
        );
    }

    pub(super) fn route(&self, entry_point: &Name, router: &Name, service: &Name) -> StreamRouteMetrics {
        let traffic = TrafficLabels {
            entry_point: entry_point.clone(),
            service: service.clone(),
        };
        StreamRouteMetrics {
            entry_point: entry_point.clone(),
            router: router.clone(),
            service: service.clone(),
            open: self.open.of(traffic.clone()),
            bytes: StreamBytes {
                received: self.received.of(traffic.clone()),
                sent: self.sent.of(traffic.clone()),
                spliced: self.spliced.of(traffic.clone()),
            },
            connect: self.connects.of(traffic),
            ends: [const { OnceLock::new() }; StreamEnd::ALL.len()],
            families: self.clone(),
        }
    }

    /// Drops the series of routers and services that `snapshot` does not have.
    pub(super) fn retire(&self, snapshot: &Snapshot) {
        let service = |name: &Name| snapshot.service(&name.0).is_some();
        // What other nodes send has no router of this one.
        let router = |name: &Name| {
            &*name.0 == crate::mesh::NAME || snapshot.all_tcp_routers().iter().any(|r| r.spec.name == name.0)
        };
        self.connections.retain(|l| router(&l.router));
        let targets: Vec<_> = snapshot
            .all_tcp_routers()
            .iter()
            .map(|router| router.spec.target.name())
            .collect();
        let target = |name: &Name| service(name) || targets.contains(&&name.0);
        self.open.retain(|l| target(&l.service));
        self.received.retain(|l| target(&l.service));
        self.sent.retain(|l| target(&l.service));
        self.spliced.retain(|l| target(&l.service));
        self.resets.retain(|l| target(&l.service));
        self.connects.retain(|l| target(&l.service));
    }
}

/// Counters of one TCP router, for its [`constellation_table::Slot`].
#[derive(Debug)]
pub struct StreamRouterMetrics {
    pub(super) routes: Vec<(EntryPointId, StreamRouteMetrics)>,
}

impl StreamRouterMetrics {
    /// The counters for connections that came in through `entry_point`; `None` when the router does not answer there.
    pub fn on(&self, entry_point: EntryPointId) -> Option<&StreamRouteMetrics> {
        let (_, route) = self.routes.iter().find(|(id, _)| *id == entry_point)?;
        Some(route)
    }
}

/// Counters of one TCP router on one entry point.
#[derive(Debug)]
pub struct StreamRouteMetrics {
    entry_point: Name,
    router: Name,
    service: Name,
    open: Gauge,
    bytes: StreamBytes,
    connect: DurationHistogram,
    ends: [OnceLock<Counter>; StreamEnd::ALL.len()],
    families: StreamFamilies,
}

/// Counters for the bytes of a route.
#[derive(Clone, Debug)]
pub struct StreamBytes {
    /// From clients.
    pub received: Counter,
    /// To clients.
    pub sent: Counter,
    /// Of both, those that were spliced.
    pub spliced: Counter,
}

impl StreamRouteMetrics {
    /// Counts a connection as open until the guard is dropped.
    pub fn begin(&self) -> InFlight {
        InFlight::new(&self.open)
    }

    /// Counters for the bytes of a connection.
    pub fn bytes(&self) -> &StreamBytes {
        &self.bytes
    }

    /// A back end was connected to after this time.
    pub fn connected(&self, after: Duration) {
        self.connect.observe(after);
    }

    /// Counts a connection that ended.
    pub fn finish(&self, end: StreamEnd) {
        if let Some(counter) = self.ends.get(end as usize) {
            let make = || {
                self.families.connections.of(StreamLabels {
                    entry_point: self.entry_point.clone(),
                    router: self.router.clone(),
                    service: self.service.clone(),
                    outcome: end,
                })
            };
            counter.get_or_init(make).inc();
        }
        let by = match end {
            StreamEnd::ClientReset => StreamSide::Client,
            StreamEnd::ServerReset => StreamSide::Server,
            _ => return,
        };
        self.families
            .resets
            .of(StreamSideLabels {
                entry_point: self.entry_point.clone(),
                service: self.service.clone(),
                by,
            })
            .inc();
    }
}
