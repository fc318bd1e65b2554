//! `edge` as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RawChase, RawGuard, Time};
use crate::resolved::{EdgeMode, Lease, Serve, Standby, SteeringMode};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawEdge {
    /// Who takes clients. `direct`: this node, at its entry points; `behind-traefik`: a Traefik that polls the document of
    /// `traefikProvider`, and reaches through this node what runs on others; `provider-only`: such a Traefik alone. In the
    /// last two `entryPoints` are those of Traefik, and nothing listens there.
    pub(crate) mode: EdgeMode,
    /// Who gives new connections to the listeners. `auto`: an eBPF program in the kernel, for as long as the lease lasts,
    /// and the ordinary way where that does not work; `ebpf`: that program, or the node does not start; `off`: the ordinary
    /// way. The addresses are bound in any case.
    pub(crate) steering: SteeringMode,
    /// Which nodes of a cluster answer at the entry points. `holder`: the one that has the lease `lb_leader`; `every-node`: all,
    /// and the lease says who has the virtual addresses.
    pub(crate) serve: Serve,
    /// What the others do with clients that come to them, with `serve: holder`. `relay`: they carry their connections to the
    /// holder; `closed`: they refuse them.
    pub(crate) standby: Standby,
    /// For how long the program lets this node answer without hearing from it.
    pub(crate) lease: RawLease,
    /// Whose packets come in at all.
    pub(crate) guard: RawGuard,
    /// Connections of addresses that move here from another node.
    pub(crate) chase: RawChase,
    /// Addresses of the cluster that this node has while it is the holder, with the length of their network, such as
    /// `192.0.2.10/24` or `2001:db8::10/64`. Nobody else may configure them. Needs `CAP_NET_ADMIN` and `CAP_NET_RAW`.
    pub(crate) virtual_ips: Vec<String>,
    /// The network device that they are put on. Empty: the one whose network has the address, else that of the default
    /// route.
    pub(crate) virtual_ip_device: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawLease {
    /// How long it does after a renewal, 500ms to 1m. A node that hangs or was stopped refuses new connections after that.
    pub(crate) ttl: Time,
    /// Time between two renewals, 50ms to half of `ttl`.
    pub(crate) renew: Time,
}

impl Default for RawLease {
    fn default() -> Self {
        Self {
            ttl: Lease::default().ttl.into(),
            renew: Lease::default().renew.into(),
        }
    }
}
