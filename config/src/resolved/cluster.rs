//! `cluster`: how this node and the others reach each other. Whether it is in a cluster at all is no matter of
//! configuration: `constellation init` and `join` decide that, once.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// By which address others reach this node; `None`: as it was found when the node joined.
    pub advertise: Option<IpAddr>,
    /// Where the links between nodes are accepted.
    pub raft: ListenAt,
    /// Where gossip is received.
    pub gossip: ListenAt,
    /// Whom to ask first, as `HOST:PORT`.
    pub peers: Vec<String>,
    /// Tailscale's local API; `None`: not asked.
    pub tailscale_socket: Option<PathBuf>,
    /// How far away the others are.
    pub profile: ClusterProfile,
    /// How long a lease lasts without renewal; within [`Self::LEASE`].
    pub lease: Duration,
    /// How long both have to be there before a better node takes a lease over; within [`Self::SETTLE`].
    pub settle: Duration,
}

/// A port, and where it is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAt {
    /// `None`: the address that the node is advertised by.
    pub ip: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

/// `cluster.profile`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ClusterProfile {
    /// Round trips of a few milliseconds.
    #[default]
    Lan,
    /// Round trips of up to 200 ms.
    Wan,
}

impl Cluster {
    /// A shorter lease is lost with every hiccup, a longer one leaves the edge alone for too long.
    pub const LEASE: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(60);
    /// Zero: a better node takes over at once.
    pub const SETTLE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
}

impl ClusterProfile {
    /// How long a lease lasts where nobody says otherwise.
    pub fn lease(self) -> Duration {
        match self {
            Self::Lan => Duration::from_secs(1),
            Self::Wan => Duration::from_secs(6),
        }
    }
}

impl ListenAt {
    /// With the address that stands in where none is given.
    pub fn or(self, advertised: IpAddr) -> SocketAddr {
        SocketAddr::new(self.ip.unwrap_or(advertised), self.port)
    }
}

impl Default for Cluster {
    fn default() -> Self {
        let at = |port| ListenAt { ip: None, port };
        Self {
            advertise: None,
            raft: at(8300),
            gossip: at(7946),
            peers: Vec::new(),
            tailscale_socket: None,
            profile: ClusterProfile::Lan,
            lease: ClusterProfile::Lan.lease(),
            settle: Duration::from_secs(30),
        }
    }
}
