//! The routers and services of one section, while the definitions of containers come in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use constellation_config::dynamic::{
    LoadBalancer, Router, Service, TcpLoadBalancer, TcpRouter, TcpService, UdpLoadBalancer, UdpRouter,
    UdpService,
};
use tracing::debug;

use crate::sources::docker::container::Container;
use crate::sources::{Section, ServerOrigin};

/// A named object and the container that defined it first.
pub(super) struct Owned<T> {
    pub(super) object: T,
    pub(super) owner: String,
}

/// A kind of object and its name among those of all sections.
type Subject = (&'static str, String);

/// What the sections have in common.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) origins: BTreeMap<String, BTreeMap<String, ServerOrigin>>,
    /// What was defined differently, with the names of the containers.
    pub(super) conflicts: BTreeMap<Subject, BTreeSet<String>>,
}

impl Shared {
    fn conflict(&mut self, kind: &'static str, key: String, first: &str, second: &str) {
        let owners = self.conflicts.entry((kind, key)).or_default();
        owners.insert(first.to_owned());
        owners.insert(second.to_owned());
    }

    /// Adds an object; one of that name that is not the same is a conflict.
    pub(super) fn add_equal<T: PartialEq>(
        &mut self,
        objects: &mut BTreeMap<String, Owned<T>>,
        kind: &'static str,
        key: String,
        name: String,
        object: T,
        owner: &str,
    ) {
        match objects.get(&name) {
            Some(known) if known.object == object => {}
            Some(known) => self.conflict(kind, key, &known.owner, owner),
            None => insert(objects, name, object, owner),
        }
    }

    /// Adds an object of which there is none, and none was cancelled.
    pub(super) fn add_missing<T>(
        &self,
        objects: &mut BTreeMap<String, Owned<T>>,
        kind: &'static str,
        key: String,
        name: String,
        object: T,
        owner: &str,
    ) {
        if !self.conflicts.contains_key(&(kind, key)) && !objects.contains_key(&name) {
            insert(objects, name, object, owner);
        }
    }

    /// The first container at an address says how it is: a ready one comes before one that isn't.
    fn add_origins<S: Servers>(&mut self, service: &str, definition: &S, container: &Container) {
        for server in definition.servers() {
            let origins = self.origins.entry(service.to_owned()).or_default();
            origins.entry(server.to_owned()).or_insert_with(|| ServerOrigin {
                name: Arc::from(container.name.as_str()),
                condition: container.condition(),
            });
        }
    }
}

/// Routers and services of one section.
pub(super) struct Objects<R, S> {
    routers: BTreeMap<String, Owned<R>>,
    services: BTreeMap<String, Owned<S>>,
}

pub(super) type HttpObjects = Objects<Router, Service>;
pub(super) type TcpObjects = Objects<TcpRouter, TcpService>;
pub(super) type UdpObjects = Objects<UdpRouter, UdpService>;

impl<R, S> Default for Objects<R, S> {
    fn default() -> Self {
        Self {
            routers: BTreeMap::new(),
            services: BTreeMap::new(),
        }
    }
}

impl<R: Claims, S: Servers> Objects<R, S> {
    /// Adds what a container that serves defines.
    pub(super) fn add(
        &mut self,
        routers: BTreeMap<String, R>,
        services: BTreeMap<String, S>,
        container: &Container,
        shared: &mut Shared,
    ) {
        let owner = &container.name;
        for (name, service) in services {
            let key = R::SECTION.key(&name);
            shared.add_origins(&key, &service, container);
            match self.services.get_mut(&name) {
                Some(known) if mergeable(&known.object, &service) => known.object.add_servers(service),
                Some(known) => shared.conflict("service", key, &known.owner, owner),
                None => insert(&mut self.services, name, service, owner),
            }
        }
        for (name, router) in routers {
            let key = R::SECTION.key(&name);
            shared.add_equal(&mut self.routers, "router", key, name, router, owner);
        }
    }

    /// Drops what was defined differently.
    pub(super) fn cancel(&mut self, shared: &mut Shared) {
        let Shared { origins, conflicts } = shared;
        let conflicting = |kind, name: &str| conflicts.contains_key(&(kind, R::SECTION.key(name)));
        self.routers.retain(|name, _| !conflicting("router", name));
        self.services.retain(|name, _| {
            let stays = !conflicting("service", name);
            if !stays {
                origins.remove(&R::SECTION.key(name));
            }
            stays
        });
    }

    /// What the routers compete for.
    pub(super) fn claims(&self) -> impl Iterator<Item = Claim> {
        self.routers.values().map(|router| router.object.claim())
    }

    /// Adds what a container that doesn't serve defines and nothing else does.
    pub(super) fn fill(
        &mut self,
        routers: BTreeMap<String, R>,
        services: BTreeMap<String, S>,
        container: &Container,
        shared: &mut Shared,
        claimed: &mut BTreeSet<Claim>,
    ) {
        let owner = &container.name;
        for (name, service) in services {
            let key = R::SECTION.key(&name);
            if shared.conflicts.contains_key(&("service", key.clone())) {
                continue;
            }
            match self.services.get_mut(&name) {
                Some(known) if mergeable(&known.object, &service) => {
                    shared.add_origins(&key, &service, container);
                    known.object.add_servers(service);
                }
                Some(known) => debug!(
                    service = key,
                    container = owner,
                    serves = known.owner,
                    "superseded"
                ),
                None => {
                    shared.add_origins(&key, &service, container);
                    insert(&mut self.services, name, service, owner);
                }
            }
        }
        for (name, router) in routers {
            let cancelled = shared.conflicts.contains_key(&("router", R::SECTION.key(&name)));
            if !cancelled && !self.routers.contains_key(&name) && claimed.insert(router.claim()) {
                insert(&mut self.routers, name, router, owner);
            }
        }
    }

    /// The routers and services by name.
    pub(super) fn finish(self) -> (BTreeMap<String, Arc<R>>, BTreeMap<String, Arc<S>>) {
        (
            objects(self.routers).map(shared).collect(),
            objects(self.services).map(shared).collect(),
        )
    }
}

pub(super) fn insert<K: Ord, T>(objects: &mut BTreeMap<K, Owned<T>>, name: K, object: T, owner: &str) {
    let owner = owner.to_owned();
    objects.insert(name, Owned { object, owner });
}

pub(super) fn objects<K, T>(owned: BTreeMap<K, Owned<T>>) -> impl Iterator<Item = (K, T)> {
    owned.into_iter().map(|(name, owned)| (name, owned.object))
}

pub(super) fn shared<T>((name, object): (String, T)) -> (String, Arc<T>) {
    (name, Arc::new(object))
}

/// What a router competes for. Two routers with the same claim at the same priority would leave it to chance, or to
/// their names, whether a client meets the container that serves.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    section: Section,
    rule: String,
    priority: i64,
    tls: bool,
    entry_points: BTreeSet<String>,
}

/// A router of one section.
pub(super) trait Claims: PartialEq {
    /// The section.
    const SECTION: Section;

    /// What it competes for.
    fn claim(&self) -> Claim;
}

impl Claims for Router {
    const SECTION: Section = Section::Http;

    fn claim(&self) -> Claim {
        Claim {
            section: Self::SECTION,
            rule: self.rule.clone(),
            priority: self.priority,
            tls: self.tls.is_some(),
            entry_points: self.entry_points.iter().cloned().collect(),
        }
    }
}

impl Claims for TcpRouter {
    const SECTION: Section = Section::Tcp;

    fn claim(&self) -> Claim {
        Claim {
            section: Self::SECTION,
            rule: self.rule.clone(),
            priority: self.priority,
            tls: self.tls.is_some(),
            entry_points: self.entry_points.iter().cloned().collect(),
        }
    }
}

impl Claims for UdpRouter {
    const SECTION: Section = Section::Udp;

    fn claim(&self) -> Claim {
        Claim {
            section: Self::SECTION,
            rule: String::new(),
            priority: 0,
            tls: false,
            entry_points: self.entry_points.iter().cloned().collect(),
        }
    }
}

/// A service with servers.
pub(super) trait Servers: PartialEq + Clone {
    /// Its servers as written.
    fn servers(&self) -> Vec<&str>;

    /// The service without its servers.
    fn bare(&self) -> Self;

    /// Adds those servers of `other` that it has not.
    fn add_servers(&mut self, other: Self);
}

/// Whether two services differ in nothing but their servers.
fn mergeable<S: Servers>(a: &S, b: &S) -> bool {
    a.bare() == b.bare()
}

impl Servers for Service {
    fn servers(&self) -> Vec<&str> {
        let servers = self.load_balancer.iter().flat_map(|balancer| &balancer.servers);
        servers.map(|server| server.url.as_str()).collect()
    }

    fn bare(&self) -> Self {
        let balancer = self.load_balancer.as_ref().map(|balancer| LoadBalancer {
            servers: Vec::new(),
            strategy: balancer.strategy.clone().filter(|strategy| strategy != "wrr"),
            ..balancer.clone()
        });
        Self {
            load_balancer: balancer,
            ..self.clone()
        }
    }

    fn add_servers(&mut self, other: Self) {
        let servers = other.load_balancer.into_iter().flat_map(|other| other.servers);
        let known = self.load_balancer.as_mut().map(|known| &mut known.servers);
        add(known, servers, |server| &server.url);
    }
}

impl Servers for TcpService {
    fn servers(&self) -> Vec<&str> {
        let servers = self.load_balancer.iter().flat_map(|balancer| &balancer.servers);
        servers.map(|server| server.address.as_str()).collect()
    }

    fn bare(&self) -> Self {
        let balancer = self.load_balancer.as_ref().map(|balancer| TcpLoadBalancer {
            servers: Vec::new(),
            ..balancer.clone()
        });
        Self {
            load_balancer: balancer,
            ..self.clone()
        }
    }

    fn add_servers(&mut self, other: Self) {
        let servers = other.load_balancer.into_iter().flat_map(|other| other.servers);
        let known = self.load_balancer.as_mut().map(|known| &mut known.servers);
        add(known, servers, |server| &server.address);
    }
}

impl Servers for UdpService {
    fn servers(&self) -> Vec<&str> {
        let servers = self.load_balancer.iter().flat_map(|balancer| &balancer.servers);
        servers.map(|server| server.address.as_str()).collect()
    }

    fn bare(&self) -> Self {
        Self {
            load_balancer: self.load_balancer.as_ref().map(|_| UdpLoadBalancer::default()),
            ..self.clone()
        }
    }

    fn add_servers(&mut self, other: Self) {
        let servers = other.load_balancer.into_iter().flat_map(|other| other.servers);
        let known = self.load_balancer.as_mut().map(|known| &mut known.servers);
        add(known, servers, |server| &server.address);
    }
}

fn add<T>(known: Option<&mut Vec<T>>, servers: impl Iterator<Item = T>, place: fn(&T) -> &String) {
    let Some(known) = known else { return };
    for server in servers {
        if known.iter().all(|known| place(known) != place(&server)) {
            known.push(server);
        }
    }
}
