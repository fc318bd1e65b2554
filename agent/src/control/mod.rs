//! The control server: health, metrics and the API.
//!
//! It runs on a thread and a runtime of its own, so that it answers while the proxy is saturated and until the very
//! end of a drain. It reads the published generation, the publisher's [`Report`] and the metrics registry; all it changes
//! is the set of drained endpoints, and the process that serves.
//!
//! | path | answer |
//! |---|---|
//! | `/health`, `/health/live`, `/health/ready`, `/api/v1/health` | named conditions, 200 or 503 |
//! | `/metrics` | OpenMetrics text |
//! | `/api/v1/status`, `/routes`, `/services`, `/services/{name}`, `/metrics` | JSON |
//! | POST `/api/v1/services/{name}/endpoints/{endpoint}/drain`, `/undrain` | the endpoint as it stands then |
//! | `/api/v1/chase`; POST `/chase/on`, `/chase/off` | addresses that moved here, and whose connections stay where they are |
//! | `/api/v1/nodes`, `/nodes/{name}`, `/cluster`, `/raft/status`, `/raft/leader`, `/leases` | the cluster as this node sees it; the first three with `?consistency=linearizable` miss nothing that was acknowledged before |
//! | POST `/nodes/{name}/cordon`, `/drain`, `/uncordon`, `/remove`; `/leases/{lease}/transfer`; `/tokens`; `/cluster/leave`, `/cluster/rotate-gossip-key`, `/cluster/renew-certificate` | what is wanted of it |
//! | `/api/v1/guard`, `/guard/lists` | the guard, and who is denied and allowed |
//! | POST `/api/v1/guard/deny`, `/undeny`, `/allow`, `/disallow`, `/attack` | what came of it |
//! | POST `/api/v1/upgrade` | the process that serves from now on |
//! | `/api/v1/explain?url=` | the decision for a request, a connection or datagrams, with its reasons |
//!
//! Whoever changes something sends a token, from this machine too: any program here could call otherwise, and so could
//! a page in a browser. Errors are problem+json (RFC 9457).

mod api;
mod chase;
mod cluster;
mod drain;
mod edge_guard;
mod explain;
mod guard;
mod health;
mod problem;
mod routes;
mod server;
mod services;
mod status;
mod upgrade;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::SystemTime;

use constellation_config::{EdgeMode, Secret};
use constellation_dataplane::metrics::Metrics;
use constellation_dataplane::{Published, Workers};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::chase::Chase;
use crate::cluster::Cluster;
use crate::drains::Drains;
use crate::edge::Edge;
use crate::guard::Guard;
use crate::provider::Provider;
use crate::report::{NodeFacts, Report};
use crate::steering::Steering;

pub use explain::{Answer, EntryPointFacts, Question, QuestionError};
pub(crate) use guard::is_own_host;
pub(crate) use problem::Problem;
pub use server::ControlServer;
pub use upgrade::{UpgradeRequest, Upgrades};

/// What the control server reads.
#[derive(Clone, Debug)]
pub struct ControlState {
    /// What the node is.
    pub facts: Arc<NodeFacts>,
    /// Every entry point, at the position that is its id.
    pub entry_points: Arc<[EntryPointFacts]>,
    /// The generation that serves.
    pub published: Published,
    /// Every metric family.
    pub registry: Arc<Registry>,
    /// For the JSON summary.
    pub metrics: Arc<Metrics>,
    /// How configuration fares.
    pub report: watch::Receiver<Arc<Report>>,
    /// Cancelled when the node begins to drain: from then on it is alive, but not ready.
    pub draining: CancellationToken,
    /// Host names by which the server may be called, beside IP addresses and `localhost`.
    pub host_names: Vec<String>,
    /// Whether the threads of the proxy are all there.
    pub workers: Workers,
    /// What callers from other machines have to send; `None`: nothing.
    pub token: Option<Secret>,
    /// What a caller that changes something may send instead of `token`; `None`: nothing but `token` will do.
    pub change_token: Option<Secret>,
    /// Endpoints that operators have drained.
    pub drains: Drains,
    /// Where a wish for a new process goes.
    pub upgrades: Upgrades,
    /// Whether the kernel gives connections to this node.
    pub steering: Steering,
    /// Whose packets come in at all.
    pub guard: Guard,
    /// Connections that stay with the node that had their address before.
    pub chase: Chase,
    /// The other nodes.
    pub cluster: Cluster,
    /// What this node does as the holder of the edge.
    pub edge: Arc<Edge>,
    /// Who takes clients.
    pub mode: EdgeMode,
    /// The document for a Traefik.
    pub provider: Provider,
}

/// RFC 3339 in UTC, to the second.
fn rfc3339(when: SystemTime) -> String {
    humantime::format_rfc3339_seconds(when).to_string()
}
