//! `edge`: how this node holds its addresses.

use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Chase, Guard};

/// `edge`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    /// Who takes clients.
    pub mode: EdgeMode,
    /// Who gives new connections to the listeners.
    pub steering: SteeringMode,
    /// Which nodes of a cluster answer.
    pub serve: Serve,
    /// What the others do with clients, where one answers.
    pub standby: Standby,
    /// For how long the kernel lets this node answer without hearing from it.
    pub lease: Lease,
    /// Whose packets come in at all.
    pub guard: Guard,
    /// Connections that stay with the node that had their address before.
    pub chase: Chase,
    /// Addresses that this node has while it is the holder, with their networks; no address twice.
    pub virtual_ips: Vec<IpNet>,
    /// The network device of them all; `None`: one that fits each.
    pub virtual_ip_device: Option<String>,
}

/// `edge.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeMode {
    /// This node, at its entry points.
    #[default]
    Direct,
    /// A Traefik, which reaches through this node what runs on others.
    BehindTraefik,
    /// A Traefik, which gets the document from this node and nothing else.
    ProviderOnly,
}

impl EdgeMode {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::BehindTraefik => "behind-traefik",
            Self::ProviderOnly => "provider-only",
        }
    }
}

/// `edge.steering`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SteeringMode {
    /// The eBPF program where it works; where it does not, the addresses are bound in the ordinary way alone.
    #[default]
    Auto,
    /// The eBPF program, or the node does not start.
    Ebpf,
    /// The addresses are bound in the ordinary way alone.
    Off,
}

impl SteeringMode {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ebpf => "ebpf",
            Self::Off => "off",
        }
    }
}

/// `edge.serve`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Serve {
    /// The holder of `lb_leader`.
    #[default]
    Holder,
    /// All; the lease says who has the virtual addresses.
    EveryNode,
}

/// `edge.standby`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Standby {
    /// Their connections are carried to the holder.
    #[default]
    Relay,
    /// They are refused.
    Closed,
}

/// `edge.lease`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// How long the kernel lets this node answer after a renewal, 500 ms to 1 min.
    pub ttl: Duration,
    /// Time between two renewals, 50 ms to half the TTL.
    pub renew: Duration,
}

impl Default for Lease {
    fn default() -> Self {
        Self {
            // Two renewals in a row may be late or lost before a client is refused.
            ttl: Duration::from_secs(3),
            renew: Duration::from_secs(1),
        }
    }
}
