//! `cluster` as written.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;
use crate::resolved::{Cluster, ClusterProfile};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawCluster {
    /// IP address by which the other nodes reach this one, best one of a private network. Empty: what `constellation init`
    /// or `join` found.
    pub(crate) advertise: String,
    /// What nodes say to each other over TCP, always with certificates of the cluster on both sides: the replicated log,
    /// joining, and requests that another node serves.
    pub(crate) raft: RawRaft,
    /// Who lives and what runs where, in encrypted datagrams.
    pub(crate) gossip: RawGossip,
    /// Nodes to ask first, as HOST or HOST:PORT of their gossip; a name may have several addresses. The members that the
    /// node knows are asked in any case.
    pub(crate) peers: Vec<String>,
    /// Socket of Tailscale's local API. Addresses of the tailnet's devices that are online are asked then, and those which
    /// answer as members of this cluster are used. Empty: off.
    pub(crate) tailscale_socket: String,
    /// `lan`: round trips of a few milliseconds; a dead leader is replaced within a second. `wan`: up to 200 ms, and
    /// several seconds.
    pub(crate) profile: ClusterProfile,
    /// How long a lease lasts without being renewed, 500ms to 1m. 0s: 1s with `lan`, 6s with `wan`.
    pub(crate) lease: Time,
    /// A node of lower `priority` takes a lease over from another that holds it only after both were there for so long,
    /// 0s to 1h.
    pub(crate) settle: Time,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawRaft {
    /// Where to listen, TCP. `:PORT`: at the address that this node is advertised by; an IP address is listened on as it
    /// is.
    pub(crate) address: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawGossip {
    /// Where to listen, UDP. `:PORT`: at the address that this node is advertised by.
    pub(crate) address: String,
}

impl Default for RawRaft {
    fn default() -> Self {
        Self {
            address: ":8300".to_owned(),
        }
    }
}

impl Default for RawGossip {
    fn default() -> Self {
        Self {
            address: ":7946".to_owned(),
        }
    }
}

impl Default for RawCluster {
    fn default() -> Self {
        Self {
            advertise: String::new(),
            raft: RawRaft::default(),
            gossip: RawGossip::default(),
            peers: Vec::new(),
            tailscale_socket: String::new(),
            profile: ClusterProfile::default(),
            lease: Duration::ZERO.into(),
            settle: Cluster::default().settle.into(),
        }
    }
}
