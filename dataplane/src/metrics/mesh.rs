//! Connections and streams between nodes: how many, how they went, and what they carried.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::family::Family;
use super::handles::InFlight;
use super::labels::{MeshConnectionOutcome, MeshDirection, MeshKind, MeshOutcome};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabels {
    direction: MeshDirection,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionLabels {
    direction: MeshDirection,
    outcome: MeshConnectionOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    direction: MeshDirection,
    kind: MeshKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabels {
    direction: MeshDirection,
    kind: MeshKind,
    outcome: MeshOutcome,
}

/// What is counted between nodes, whichever node it is.
#[derive(Clone, Debug, Default)]
pub struct MeshMetrics {
    connections: Family<ConnectionLabels, Counter>,
    open_connections: Family<DirectionLabels, Gauge>,
    streams: Family<StreamLabels, Counter>,
    open_streams: Family<KindLabels, Gauge>,
    resumed: Counter,
    received: Counter,
    sent: Counter,
}

/// Counts the bytes of one connection.
#[derive(Clone, Debug)]
pub struct MeshBytes {
    received: Counter,
    sent: Counter,
}

impl MeshBytes {
    /// So many came.
    pub fn received(&self, count: usize) {
        self.received.inc_by(count as u64);
    }

    /// So many went.
    pub fn sent(&self, count: usize) {
        self.sent.inc_by(count as u64);
    }
}

impl MeshMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "constellation_mesh_connections",
            "Connections between nodes that were made, or were to be made, by outcome",
            self.connections.clone(),
        );
        registry.register(
            "constellation_mesh_open_connections",
            "Connections between nodes that are open now",
            self.open_connections.clone(),
        );
        registry.register(
            "constellation_mesh_streams",
            "Requests and tunnels between nodes that were taken or refused, by kind and outcome",
            self.streams.clone(),
        );
        registry.register(
            "constellation_mesh_open_streams",
            "Requests and tunnels between nodes that are open now",
            self.open_streams.clone(),
        );
        registry.register(
            "constellation_mesh_resumed_connections",
            "Connections of clients that went on at another node after the holder of the edge was lost",
            self.resumed.clone(),
        );
        registry.register_with_unit(
            "constellation_mesh_received",
            "Bytes received from other nodes, inside of TLS",
            Unit::Bytes,
            self.received.clone(),
        );
        registry.register_with_unit(
            "constellation_mesh_sent",
            "Bytes sent to other nodes, inside of TLS",
            Unit::Bytes,
            self.sent.clone(),
        );
    }

    /// A connection was made, or was to be made.
    pub fn connection(&self, direction: MeshDirection, outcome: MeshConnectionOutcome) {
        self.connections.of(ConnectionLabels { direction, outcome }).inc();
    }

    /// Counts an open connection until it is dropped.
    pub fn connected(&self, direction: MeshDirection) -> InFlight {
        InFlight::new(&self.open_connections.of(DirectionLabels { direction }))
    }

    /// A stream was taken or refused.
    pub fn stream(&self, direction: MeshDirection, kind: MeshKind, outcome: MeshOutcome) {
        self.streams
            .of(StreamLabels {
                direction,
                kind,
                outcome,
            })
            .inc();
    }

    /// A client's connection goes on at another node than it began.
    pub(crate) fn resumed(&self) {
        self.resumed.inc();
    }

    /// Counts an open stream until it is dropped.
    pub fn open(&self, direction: MeshDirection, kind: MeshKind) -> InFlight {
        InFlight::new(&self.open_streams.of(KindLabels { direction, kind }))
    }

    /// What counts the bytes of a connection.
    pub fn bytes(&self) -> MeshBytes {
        MeshBytes {
            received: self.received.clone(),
            sent: self.sent.clone(),
        }
    }
}
