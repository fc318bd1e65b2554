//! What the publisher knows about the last compile: the one thing that status, health, `routes` and metrics read.
//!
//! The publisher owns the sending side of a `tokio::sync::watch<Arc<Report>>`; everybody else only reads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::sources::{Problem, SourceStatus};

/// The state of configuration at one moment. Sent whenever any part of it changes.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Number of the generation that serves now; 0 before the first one.
    pub generation: u64,
    /// When that generation was published.
    pub published: Option<SystemTime>,
    /// How long the last compile took; `None` before the first one.
    pub compile_duration: Option<Duration>,
    /// Whether every enabled source had its first complete reading, or the bounded wait for it ended.
    pub ready: bool,
    /// Everything that could not be used, from sources and from compile, ordered by subject.
    pub problems: Vec<Problem>,
    /// Routers that are defined but not served, by name.
    pub disabled: Vec<DisabledRouter>,
    /// How each enabled source fares, by provider name.
    pub sources: Vec<(&'static str, SourceStatus)>,
    /// Compiles that failed as a whole since start: the last good generation stayed.
    pub failures: u64,
    /// What the last failed compile said; `None` after a good one.
    pub last_failure: Option<String>,
}

/// A router that is defined but not served: requests fall to the next matching router, else 404.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DisabledRouter {
    /// Qualified name, `NAME@PROVIDER`.
    pub name: String,
    /// The rule as written.
    pub rule: String,
    /// Why, and what to do about it.
    pub reason: String,
}

/// What the node is and listens on; fixed once it runs.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// Name of the node.
    pub name: String,
    /// Domain of the cluster; `None`: it has none.
    pub domain: Option<String>,
    /// Region of the node; `None`: it has none.
    pub region: Option<String>,
    /// Preference among nodes, the lower the better.
    pub priority: u16,
    /// Version of the binary.
    pub version: &'static str,
    /// When the process started.
    pub started: SystemTime,
    /// The configuration file, if there is one.
    pub config_file: Option<String>,
    /// Entry point name and real address of every listener.
    pub entry_points: Vec<(Arc<str>, SocketAddr)>,
}
