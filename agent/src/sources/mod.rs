//! Sources: everything that says which routes exist. Each is one task that owns one watch channel.
//!
//! A source reads its world (Docker, files, certificates), turns it into a [`Contribution`] and sends the whole of it; it never edits
//! what it sent. The publisher takes the latest contribution of every source, compiles and publishes. A source that
//! can't read its world keeps its last contribution standing and says so in its [`SourceStatus`].

pub mod certificates;
pub mod docker;
pub mod file;
mod handle;
mod publication;
mod watched;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use constellation_config::dynamic::Dynamic;
use constellation_table::{Condition, EndpointSpec};

pub use handle::{Reload, SourceHandle};

/// What one source says now, over a `tokio::sync::watch` channel.
#[derive(Clone, Debug, Default)]
pub struct SourceState {
    /// The last complete reading; `None` until the first one.
    pub contribution: Option<Arc<Contribution>>,
    /// How often something left so far; a reading with a higher count is compiled without waiting for more.
    pub departures: u64,
    /// How the source fares.
    pub status: SourceStatus,
}

/// How a source fares, for status and `/health`.
#[derive(Clone, Debug, Default)]
pub struct SourceStatus {
    /// Whether the last reading worked. Starts false.
    pub connected: bool,
    /// What went wrong last, in words for the operator with the next step; cleared by success.
    pub error: Option<String>,
    /// When the last complete reading ended.
    pub last_read: Option<SystemTime>,
}

/// The complete reading of one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contribution {
    /// The provider's name, which qualifies every object in it: `docker`, `file`, `certificates`.
    pub provider: &'static str,
    /// Routers, services, transports, TLS: names without provider suffix.
    pub dynamic: Dynamic,
    /// What is known of servers beyond their URL or address: service -> server -> origin, the service by
    /// [`Section::key`], the server by its URL or address as written. A server that is absent here is ready and named by
    /// its URL or address.
    pub origins: BTreeMap<String, BTreeMap<String, ServerOrigin>>,
    /// Endpoints of other nodes, by [`Section::key`] of their service: they follow its servers.
    pub peers: BTreeMap<String, Vec<EndpointSpec>>,
    /// What could not be used, for `status`, `routes` and the log. A problem never hurts the other objects.
    pub problems: Vec<Problem>,
    /// Changes when something the objects only point at has changed, such as the content of a certificate file. A
    /// compile that keeps what it made from an unchanged object makes it anew when this differs.
    pub revision: u64,
}

/// A section of a document: services of different ones may have the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// `http`.
    Http,
    /// `tcp`.
    Tcp,
    /// `udp`.
    Udp,
}

impl Section {
    /// The section's key in documents and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// What stands in front of the names of its objects wherever those of all sections stand together.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Http => "",
            Self::Tcp => "tcp/",
            Self::Udp => "udp/",
        }
    }

    /// The name of one of its objects among those of all sections.
    pub fn key(self, name: &str) -> String {
        format!("{}{name}", self.prefix())
    }
}

/// Where a server of a service comes from and whether it can serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOrigin {
    /// The container's name.
    pub name: Arc<str>,
    /// Whether it can serve.
    pub condition: Condition,
}

/// Something of a source (or of compile) that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// What it is about: `container web-1`, `file /etc/x.yaml`, `router a@docker`.
    pub subject: String,
    /// What is wrong, the value seen, what was expected and the next step.
    pub message: String,
}
