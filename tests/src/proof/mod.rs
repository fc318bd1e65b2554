//! What failover and the relay of streams promise, shown on the real binary from the outside.
//!
//! A proof makes back ends fail under load, or sends bytes whose every position is known, and looks at both ends: what
//! clients got, what back ends saw. The end-to-end tests run each once and small; the program `proof` (`cargo xtask
//! faults`, `bodies`, `storm`, `streams`, `upgrades`) runs them at length and prints figures.

pub mod attack;
pub mod bodies;
pub mod faults;
pub mod hostile;
pub mod peer;
pub mod silence;
pub mod storm;
pub mod streams;
pub mod upgrades;
mod verdict;

pub use verdict::Verdict;

use crate::fault::FaultBackend;
use crate::node::{Node, NodeBuilder, route};

/// The host that every proof asks for.
pub const HOST: &str = "app.test";

/// How a phase of a run ends.
#[derive(Clone, Copy, Debug)]
pub enum Phase {
    /// After so many requests: for tests, which depend on no clock.
    Requests(usize),
    /// After so long: for measurements.
    Time(std::time::Duration),
}

impl Phase {
    pub(crate) async fn pass(self, fleet: &crate::fleet::Fleet) {
        match self {
            Self::Requests(count) => fleet.more(count).await,
            Self::Time(time) => tokio::time::sleep(time).await,
        }
    }
}

/// A node with the default configuration in front of these back ends.
pub(crate) async fn node(backends: &[&FaultBackend]) -> Node {
    builder(backends).start().await
}

pub(crate) fn builder(backends: &[&FaultBackend]) -> NodeBuilder {
    let urls: Vec<String> = backends.iter().map(|backend| backend.url()).collect();
    // The number of workers is the machine's, as by default.
    Node::builder()
        .config(serde_json::json!({ "proxy": null }))
        .dynamic("routes.json", &route(HOST, &urls).to_string())
}
