//! Peers: what other nodes of the cluster serve, as another source of routes.
//!
//! What this node has is told to the others as an [`Export`]; what they tell comes back as [`Peer`]s, which somebody else
//! keeps up to date. [`merge()`] lays both together before compile: routers and services of all nodes, and for each service
//! one endpoint per node that has instances of it. [`Roster`] remembers the definitions of a node that is gone for a while.
//! All three are pure; the publisher calls them.

mod direct;
mod export;
mod merge;
mod roster;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use export::{Export, ExportError, Exported, Instances, MAX_BYTES, ProviderExport};
pub use merge::merge;
pub use roster::Roster;

/// Another node, and what it tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Its name.
    pub node: Arc<str>,
    /// Its region; empty: none.
    pub region: Arc<str>,
    /// Preference, the lower the better.
    pub priority: u32,
    /// `HOST:PORT` of its port for other nodes, in the order to try.
    pub addresses: Vec<String>,
    /// Whether it takes new connections.
    pub standing: Standing,
    /// What it serves, as it said last.
    pub export: Arc<Export>,
    /// How the instances of a service fare now, where that is known sooner than by the export; by the service's
    /// name among those of all sections, `web@docker` or `tcp/db@docker`.
    pub fit: BTreeMap<String, Fit>,
}

/// How the instances of a service fare at a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// How many take requests.
    pub ready: u32,
    /// How many run, and checks or traffic speak against them: that node tries them when it has no other.
    pub failing: u32,
}

/// Whether a node takes new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Ready,
    /// An operator has taken it out.
    Cordoned,
    /// It is about to stop.
    Draining,
    /// It is dead, or was removed.
    Gone,
}

/// This node, as far as it matters to what others have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its name.
    pub node: Arc<str>,
    /// Its region; empty: none.
    pub region: Arc<str>,
    /// The cluster's domain; empty: none, and so no host of a single node.
    pub domain: Arc<str>,
}

/// What the publisher needs to serve through other nodes.
#[derive(Debug)]
pub struct Exchange {
    /// This node.
    pub own: Own,
    /// The others as they are now; `None` until somebody knows. The first generation waits for it as for the sources, as
    /// a table without the routes of others would answer 404 for them.
    pub peers: watch::Receiver<Option<Arc<Vec<Peer>>>>,
    /// Where it is told what this node serves, `None` until all sources were heard. It changes only when that does.
    pub export: watch::Sender<Option<Exported>>,
    /// How long the routes of a node that is gone stay, with 503 where no other node has them.
    pub grace: Duration,
}
