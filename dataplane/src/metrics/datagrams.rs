//! Sessions of UDP routers: how many, how they ended, and what they carried.

use std::sync::{Arc, OnceLock};

use constellation_table::{EntryPointId, Snapshot};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::family::Family;
use super::handles::InFlight;
use super::labels::{DatagramDrop, DatagramDropLabels, Name, SessionEnd, SessionLabels, TrafficLabels};

/// The families of this file.
#[derive(Clone, Debug, Default)]
pub(super) struct DatagramFamilies {
    begun: Family<TrafficLabels, Counter>,
    open: Family<TrafficLabels, Gauge>,
    ended: Family<SessionLabels, Counter>,
    moved: Family<TrafficLabels, Counter>,
    received: CarriedFamilies,
    sent: CarriedFamilies,
    dropped: Family<DatagramDropLabels, Counter>,
}

/// The families of one direction.
#[derive(Clone, Debug, Default)]
struct CarriedFamilies {
    datagrams: Family<TrafficLabels, Counter>,
    bytes: Family<TrafficLabels, Counter>,
    joined: Family<TrafficLabels, Counter>,
    together: Family<TrafficLabels, Counter>,
}

impl DatagramFamilies {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "constellation_udp_sessions",
            "Sessions of UDP routers that began",
            self.begun.clone(),
        );
        registry.register(
            "constellation_udp_open_sessions",
            "Sessions of UDP routers that are open now",
            self.open.clone(),
        );
        registry.register(
            "constellation_udp_ended_sessions",
            "Sessions of UDP routers that ended, by reason",
            self.ended.clone(),
        );
        registry.register(
            "constellation_udp_moved_sessions",
            "Changes of a session's endpoint: the old one refused datagrams, has left, or is out and silent",
            self.moved.clone(),
        );
        let Self { received, sent, .. } = self;
        registry.register(
            "constellation_udp_received_datagrams",
            "Datagrams carried from clients to back ends",
            received.datagrams.clone(),
        );
        registry.register_with_unit(
            "constellation_udp_received",
            "Bytes carried from clients to back ends",
            Unit::Bytes,
            received.bytes.clone(),
        );
        registry.register(
            "constellation_udp_received_joined_datagrams",
            "Of the datagrams from clients, those that the kernel had joined (GRO)",
            received.joined.clone(),
        );
        registry.register(
            "constellation_udp_received_train_datagrams",
            "Of the datagrams from clients, those that left together for the back end (GSO)",
            received.together.clone(),
        );
        registry.register(
            "constellation_udp_sent_datagrams",
            "Datagrams carried from back ends to clients",
            sent.datagrams.clone(),
        );
        registry.register_with_unit(
            "constellation_udp_sent",
            "Bytes carried from back ends to clients",
            Unit::Bytes,
            sent.bytes.clone(),
        );
        registry.register(
            "constellation_udp_sent_joined_datagrams",
            "Of the datagrams from back ends, those that the kernel had joined (GRO)",
            sent.joined.clone(),
        );
        registry.register(
            "constellation_udp_sent_train_datagrams",
            "Of the datagrams from back ends, those that left together for the client (GSO)",
            sent.together.clone(),
        );
        registry.register(
            "constellation_udp_dropped_datagrams",
            "Datagrams that went nowhere, by reason",
            self.dropped.clone(),
        );
    }

    pub(super) fn route(&self, entry_point: &Name, router: &Name, service: &Name) -> UdpRouteMetrics {
        let traffic = TrafficLabels {
            entry_point: entry_point.clone(),
            service: service.clone(),
        };
        let carried = |families: &CarriedFamilies| CarriedMetrics {
            datagrams: families.datagrams.of(traffic.clone()),
            bytes: families.bytes.of(traffic.clone()),
            joined: families.joined.of(traffic.clone()),
            together: families.together.of(traffic.clone()),
        };
        UdpRouteMetrics {
            entry_point: entry_point.clone(),
            router: router.clone(),
            service: service.clone(),
            begun: self.begun.of(traffic.clone()),
            open: self.open.of(traffic.clone()),
            moved: self.moved.of(traffic.clone()),
            received: carried(&self.received),
            sent: carried(&self.sent),
            ends: [const { OnceLock::new() }; SessionEnd::ALL.len()],
            ended: self.ended.clone(),
        }
    }

    pub(super) fn drops(&self, entry_point: &Name) -> DropMetrics {
        DropMetrics {
            entry_point: entry_point.clone(),
            counters: [const { OnceLock::new() }; DatagramDrop::ALL.len()],
            dropped: self.dropped.clone(),
        }
    }

    /// Drops the series of routers and services that `snapshot` does not have.
    pub(super) fn retire(&self, snapshot: &Snapshot) {
        let routers = snapshot.all_udp_routers();
        let router = |name: &Name| routers.iter().any(|router| router.spec.name == name.0);
        let target = |name: &Name| routers.iter().any(|router| *router.spec.target.name() == name.0);
        self.ended.retain(|l| router(&l.router));
        for traffic in [&self.begun, &self.moved] {
            traffic.retain(|l| target(&l.service));
        }
        self.open.retain(|l| target(&l.service));
        for carried in [&self.received, &self.sent] {
            for family in [
                &carried.datagrams,
                &carried.bytes,
                &carried.joined,
                &carried.together,
            ] {
                family.retain(|l| target(&l.service));
            }
        }
    }
}

/// Counters of one UDP router, for its [`constellation_table::Slot`].
#[derive(Debug)]
pub struct UdpRouterMetrics {
    pub(super) routes: Vec<(EntryPointId, Arc<UdpRouteMetrics>)>,
}

impl UdpRouterMetrics {
    /// The counters for sessions that came in through `entry_point`; `None` when the router does not answer there.
    pub fn on(&self, entry_point: EntryPointId) -> Option<&Arc<UdpRouteMetrics>> {
        let (_, route) = self.routes.iter().find(|(id, _)| *id == entry_point)?;
        Some(route)
    }
}

/// Counters of one UDP router on one entry point.
#[derive(Debug)]
pub struct UdpRouteMetrics {
    entry_point: Name,
    router: Name,
    service: Name,
    begun: Counter,
    open: Gauge,
    moved: Counter,
    received: CarriedMetrics,
    sent: CarriedMetrics,
    ends: [OnceLock<Counter>; SessionEnd::ALL.len()],
    ended: Family<SessionLabels, Counter>,
}

#[derive(Debug)]
struct CarriedMetrics {
    datagrams: Counter,
    bytes: Counter,
    joined: Counter,
    together: Counter,
}

impl CarriedMetrics {
    fn add(&self, carried: Carried) {
        self.datagrams.inc_by(carried.datagrams);
        self.bytes.inc_by(carried.bytes);
        self.joined.inc_by(carried.joined);
        self.together.inc_by(carried.together);
    }
}

/// What was carried in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Datagrams.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that came joined with others.
    pub joined: u64,
    /// Those that left together with others.
    pub together: u64,
}

impl std::ops::AddAssign for Carried {
    fn add_assign(&mut self, more: Self) {
        self.datagrams += more.datagrams;
        self.bytes += more.bytes;
        self.joined += more.joined;
        self.together += more.together;
    }
}

impl UdpRouteMetrics {
    /// Counts a session that begins, as open until the guard is dropped.
    pub fn begin(&self) -> InFlight {
        self.begun.inc();
        InFlight::new(&self.open)
    }

    /// Counts a session that goes on at another endpoint.
    pub fn moved(&self) {
        self.moved.inc();
    }

    /// Counts what was carried since the last call, from clients and to clients.
    pub fn carried(&self, received: Carried, sent: Carried) {
        if received != Carried::default() {
            self.received.add(received);
        }
        if sent != Carried::default() {
            self.sent.add(sent);
        }
    }

    /// Counts a session that ended.
    pub fn finish(&self, reason: SessionEnd) {
        if let Some(counter) = self.ends.get(reason as usize) {
            let make = || {
                self.ended.of(SessionLabels {
                    entry_point: self.entry_point.clone(),
                    router: self.router.clone(),
                    service: self.service.clone(),
                    reason,
                })
            };
            counter.get_or_init(make).inc();
        }
    }
}

/// Counters of what an entry point drops.
#[derive(Debug)]
pub struct DropMetrics {
    entry_point: Name,
    counters: [OnceLock<Counter>; DatagramDrop::ALL.len()],
    dropped: Family<DatagramDropLabels, Counter>,
}

impl DropMetrics {
    /// Counts so many datagrams.
    pub fn dropped(&self, reason: DatagramDrop, datagrams: u64) {
        if let Some(counter) = self.counters.get(reason as usize) {
            let make = || {
                self.dropped.of(DatagramDropLabels {
                    entry_point: self.entry_point.clone(),
                    reason,
                })
            };
            counter.get_or_init(make).inc_by(datagrams);
        }
    }
}
