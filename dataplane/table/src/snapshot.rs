//! One immutable generation of the routing tables.

use std::any::Any;
use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

use crate::index::{Draft, Table};
use crate::stream::Streams;
use crate::{Rule, Service, Slot, Target, TcpRouter, UdpRouter};

/// The position of an entry point in the static configuration; stable for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryPointId(pub u16);

/// What a matching router does with the request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Forward to a service, or to a kind of service built of others.
    Forward(Target),
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
    /// What is done with requests before that, and with responses after it.
    pub middlewares: Option<Arc<dyn Steps>>,
}

/// What a router does with requests on their way to its service and with responses on their way back. The routing core
/// only names it; the data plane knows what it is.
pub trait Steps: Any + fmt::Debug + Send + Sync {
    /// The qualified names of the middlewares, in the order in which requests meet them.
    fn names(&self) -> Vec<Arc<str>>;
    /// Whether both do the same with the same state.
    fn is_same(&self, other: &dyn Steps) -> bool;
}

/// A router in a snapshot.
#[derive(Debug)]
pub struct Router {
    /// What `compile` said.
    pub spec: RouterSpec,
    /// What the data plane hangs on this router (counters), kept across generations with it.
    pub slot: Slot,
}

impl Router {
    /// A router with an empty slot.
    pub fn new(spec: RouterSpec) -> Self {
        Self {
            spec,
            slot: Slot::default(),
        }
    }

    /// The qualified name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What it forwards to; `None` when it redirects.
    pub fn target(&self) -> Option<&Target> {
        match &self.spec.action {
            Action::Forward(target) => Some(target),
            Action::Redirect(_) => None,
        }
    }

    /// The service it forwards to; `None` when it redirects, or forwards to a kind of service built of others.
    pub fn service(&self) -> Option<&Arc<Service>> {
        self.target()?.as_service()
    }
}

/// One immutable generation: routers sorted and indexed by host, services with their endpoints.
///
/// Order among routers that match: higher priority, then longer rule text, then an exact host before a wildcard or a
/// pattern, then name. Traefik leaves ties to chance; here they are deterministic.
#[derive(Debug, Default)]
pub struct Snapshot {
    generation: u64,
    routers: Vec<Arc<Router>>,
    /// What a decision reads of every router, in the same order.
    briefs: Box<[Brief]>,
    services: Vec<Arc<Service>>,
    /// For entry point `n` the plain table at `2n`, the TLS table at `2n + 1`.
    tables: Box<[Table]>,
    /// Routers of TCP and UDP.
    pub(crate) streams: Streams,
}

/// The pointers that a decision follows, side by side: a processor fetches what is behind both at once, where going
/// through the router would make it wait for one after the other.
#[derive(Debug)]
struct Brief {
    rule: Arc<Rule>,
    /// `None`: the router does not forward straight to a service.
    service: Option<Arc<Service>>,
}

impl Brief {
    fn of(router: &Arc<Router>) -> Self {
        Self {
            rule: router.spec.rule.clone(),
            service: router.service().cloned(),
        }
    }
}

/// A router that may match.
#[derive(Clone, Copy)]
pub(crate) struct Found<'s> {
    pub(crate) router: &'s Arc<Router>,
    pub(crate) rule: &'s Rule,
    pub(crate) service: Option<&'s Arc<Service>>,
}

impl Snapshot {
    /// Sorts and indexes. Routers and services given as the same `Arc` as in an earlier generation keep their slots.
    ///
    /// `entry_points` is how many there are; a router on an entry point beyond that is indexed all the same.
    /// Costs least when both lists come sorted by name.
    pub fn build(
        generation: u64,
        entry_points: usize,
        routers: Vec<Arc<Router>>,
        mut services: Vec<Arc<Service>>,
    ) -> Self {
        if !services.is_sorted_by(|a, b| a.name <= b.name) {
            services.sort_by(|a, b| a.name.cmp(&b.name));
        }
        let routers = sort(routers);
        let named = routers.iter().flat_map(|router| &router.spec.entry_points).max();
        let entry_points = entry_points.max(named.map_or(0, |id| usize::from(id.0) + 1));
        let mut drafts: Vec<Draft> = (0..entry_points * 2).map(|_| Draft::default()).collect();
        for (rank, router) in (0u32..).zip(&routers) {
            for id in &router.spec.entry_points {
                if let Some(draft) = drafts.get_mut(table_index(*id, router.spec.tls)) {
                    draft.add(rank, router.spec.rule.keys());
                }
            }
        }
        Self {
            generation,
            briefs: routers.iter().map(Brief::of).collect(),
            routers,
            services,
            tables: drafts.into_iter().map(Draft::finish).collect(),
            streams: Streams::default(),
        }
    }

    /// The same generation with TCP and UDP routers. Their services are among those given to [`Snapshot::build`].
    #[must_use]
    pub fn with_streams(mut self, tcp: Vec<Arc<TcpRouter>>, udp: Vec<Arc<UdpRouter>>) -> Self {
        self.streams = Streams::build(self.tables.len() / 2, &self.routers, tcp, udp);
        self
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

    /// The service of that qualified name.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        let found = self
            .services
            .binary_search_by(|service| (*service.name).cmp(name))
            .ok()?;
        self.services.get(found)
    }

    /// The routers of one table that may match the host, best first.
    pub(crate) fn candidates<'s>(
        &'s self,
        entry_point: EntryPointId,
        tls: bool,
        host: &str,
    ) -> impl Iterator<Item = Found<'s>> + use<'s> {
        let table = self.tables.get(table_index(entry_point, tls));
        let ranks = table.map(|table| table.candidates(host)).unwrap_or_default();
        ranks.filter_map(|rank| {
            let rank = usize::try_from(rank).ok()?;
            let (router, brief) = (self.routers.get(rank)?, self.briefs.get(rank)?);
            Some(Found {
                router,
                rule: &brief.rule,
                service: brief.service.as_ref(),
            })
        })
    }

    /// Every table there is.
    pub(crate) fn table_ids(&self) -> impl Iterator<Item = (EntryPointId, bool)> + use<> {
        let entry_points = u16::try_from(self.tables.len() / 2).unwrap_or(u16::MAX);
        (0..entry_points).flat_map(|id| [(EntryPointId(id), false), (EntryPointId(id), true)])
    }

    /// How many routers a table has.
    pub(crate) fn table_len(&self, entry_point: EntryPointId, tls: bool) -> usize {
        self.tables
            .get(table_index(entry_point, tls))
            .map_or(0, Table::len)
    }
}

fn table_index(entry_point: EntryPointId, tls: bool) -> usize {
    usize::from(entry_point.0) * 2 + usize::from(tls)
}

/// The order of routers but for their names; smaller is better.
pub(crate) fn rank(router: &Router) -> (Reverse<i64>, Reverse<usize>, bool) {
    let rule = &router.spec.rule;
    (
        Reverse(router.spec.priority),
        Reverse(rule.text().len()),
        !rule.names_its_hosts(),
    )
}

/// Sorts best first. The keys are gathered in one pass, so that comparing does not chase pointers; the place in the
/// list by name stands for the name.
fn sort(mut routers: Vec<Arc<Router>>) -> Vec<Arc<Router>> {
    if !routers.is_sorted_by(|a, b| a.spec.name <= b.spec.name) {
        routers.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    }
    let mut keys: Vec<_> = routers
        .iter()
        .enumerate()
        .map(|(place, router)| (rank(router), place))
        .collect();
    keys.sort_unstable();
    let mut by_name: Vec<_> = routers.into_iter().map(Some).collect();
    keys.into_iter()
        .filter_map(|(_, place)| by_name.get_mut(place)?.take())
        .collect()
}
