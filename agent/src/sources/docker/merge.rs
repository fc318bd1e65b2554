//! The definitions of all containers to one contribution. Pure.
//!
//! Containers that serve come first and are merged as in Traefik: servers of services with the same name add up,
//! identical objects are one, different ones of the same name cancel each other everywhere. Containers that don't serve
//! (stopped, starting, removed lately) come after them, the newest first, and only fill gaps: they keep the routes that
//! nothing else defines, and never change, cancel or shadow those of a container that serves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use constellation_config::dynamic::{Dynamic, LoadBalancer, Router, Service, ServiceOptions};
use constellation_table::Condition;
use tracing::debug;

use super::container::Container;
use super::definition::Definition;
use crate::sources::{Contribution, Problem, ServerOrigin};

/// The name of the provider, which qualifies everything labels define.
pub(super) const PROVIDER: &str = "docker";

/// What one container adds.
pub(super) struct Part<'a> {
    pub(super) container: &'a Container,
    pub(super) definition: Definition,
}

/// A named object and the container that defined it first.
struct Owned<T> {
    object: T,
    owner: String,
}

#[derive(Default)]
struct Merger {
    routers: BTreeMap<String, Owned<Router>>,
    services: BTreeMap<String, Owned<Service>>,
    middlewares: BTreeMap<String, Owned<serde_json::Value>>,
    options: BTreeMap<String, Owned<Arc<ServiceOptions>>>,
    origins: BTreeMap<String, BTreeMap<String, ServerOrigin>>,
    /// Kind and name of what was defined differently, with the names of the containers.
    conflicts: BTreeMap<(&'static str, String), BTreeSet<String>>,
    dynamic: Dynamic,
}

/// Merges. The order of `parts` doesn't matter.
pub(super) fn merge(mut parts: Vec<Part<'_>>, mut problems: Vec<Problem>) -> Contribution {
    parts.sort_by(|a, b| {
        let rank = |part: &Part<'_>| part.container.condition() != Condition::Ready;
        let newest_first = || b.container.created.cmp(&a.container.created);
        let by_name = || a.container.name.cmp(&b.container.name);
        let order = rank(a).cmp(&rank(b));
        // Those that serve merge in a fixed order, so that a restart doesn't reorder servers.
        let order = if rank(a) {
            order.then_with(newest_first)
        } else {
            order
        };
        order
            .then_with(by_name)
            .then_with(|| a.container.id.cmp(&b.container.id))
    });
    let serving = parts
        .iter()
        .take_while(|part| part.container.condition() == Condition::Ready)
        .count();
    let idle = parts.split_off(serving);
    let mut merger = Merger::default();
    for part in parts {
        problems.extend(remarks(&part));
        merger.add_options(&part, Some(&mut problems));
        merger.add_serving(part);
    }
    merger.cancel_conflicts(&mut problems);
    let mut claimed = merger
        .routers
        .values()
        .map(|router| Claim::of(&router.object))
        .collect();
    for part in idle {
        problems.extend(remarks(&part));
        merger.add_options(&part, None);
        merger.fill_gaps(part, &mut claimed);
    }
    merger.finish(problems)
}

impl Merger {
    fn add_serving(&mut self, part: Part<'_>) {
        let owner = &part.container.name;
        for (name, service) in part.definition.services {
            self.add_origin(&name, &service, part.container);
            match self.services.get_mut(&name) {
                Some(known) if mergeable(&known.object, &service) => add_servers(&mut known.object, service),
                Some(known) => conflict(&mut self.conflicts, "service", &name, &known.owner, owner),
                None => insert(&mut self.services, name, service, owner),
            }
        }
        for (name, router) in part.definition.routers {
            match self.routers.get(&name) {
                Some(known) if known.object == router => {}
                Some(known) => conflict(&mut self.conflicts, "router", &name, &known.owner, owner),
                None => insert(&mut self.routers, name, router, owner),
            }
        }
        for (name, middleware) in part.definition.middlewares {
            match self.middlewares.get(&name) {
                Some(known) if known.object == middleware => {}
                Some(known) => conflict(&mut self.conflicts, "middleware", &name, &known.owner, owner),
                None => insert(&mut self.middlewares, name, middleware, owner),
            }
        }
        self.dynamic.tls.stores.extend(part.definition.stores);
    }

    /// Options cost no route: where containers differ the first counts, and of those that serve that is said.
    fn add_options(&mut self, part: &Part<'_>, problems: Option<&mut Vec<Problem>>) {
        let owner = &part.container.name;
        let mut differing = Vec::new();
        for (name, options) in &part.definition.options {
            match self.options.get(name) {
                Some(known) if known.object != *options => differing.push((name, known.owner.clone())),
                Some(_) => {}
                None => insert(&mut self.options, name.clone(), options.clone(), owner),
            }
        }
        if let Some(problems) = problems {
            problems.extend(differing.into_iter().map(|(name, first)| Problem {
                subject: format!("options of service {name}@{PROVIDER}"),
                message: format!(
                    "the labels constellation.http.services.{name} of the containers {first} and {owner} differ: those of \
                     {first} count; make them the same"
                ),
            }));
        }
    }

    fn cancel_conflicts(&mut self, problems: &mut Vec<Problem>) {
        for ((kind, name), owners) in &self.conflicts {
            match *kind {
                "service" => drop((self.services.remove(name), self.origins.remove(name))),
                "router" => drop(self.routers.remove(name)),
                _ => drop(self.middlewares.remove(name)),
            }
            let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
            problems.push(Problem {
                subject: format!("{kind} {name}@{PROVIDER}"),
                message: format!(
                    "defined multiple times with different configurations, so it is dropped: by containers {}; make \
                     their labels the same, or give each its own name",
                    owners.join(", ")
                ),
            });
        }
    }

    fn fill_gaps(&mut self, part: Part<'_>, claimed: &mut BTreeSet<Claim>) {
        let owner = &part.container.name;
        for (name, service) in part.definition.services {
            if self.conflicts.contains_key(&("service", name.clone())) {
                continue;
            }
            match self.services.get_mut(&name) {
                Some(known) if mergeable(&known.object, &service) => {
                    add_servers(&mut known.object, service.clone());
                    self.add_origin(&name, &service, part.container);
                }
                Some(known) => debug!(
                    service = name,
                    container = owner,
                    serves = known.owner,
                    "superseded"
                ),
                None => {
                    self.add_origin(&name, &service, part.container);
                    insert(&mut self.services, name, service, owner);
                }
            }
        }
        for (name, router) in part.definition.routers {
            let cancelled = self.conflicts.contains_key(&("router", name.clone()));
            if !cancelled && !self.routers.contains_key(&name) && claimed.insert(Claim::of(&router)) {
                insert(&mut self.routers, name, router, owner);
            }
        }
        for (name, middleware) in part.definition.middlewares {
            let cancelled = self.conflicts.contains_key(&("middleware", name.clone()));
            if !cancelled && !self.middlewares.contains_key(&name) {
                insert(&mut self.middlewares, name, middleware, owner);
            }
        }
    }

    /// The first container at a URL says how it is: a ready one comes before one that isn't.
    fn add_origin(&mut self, service: &str, definition: &Service, container: &Container) {
        let servers = definition
            .load_balancer
            .iter()
            .flat_map(|balancer| &balancer.servers);
        for server in servers {
            let origins = self.origins.entry(service.to_owned()).or_default();
            origins.entry(server.url.clone()).or_insert_with(|| ServerOrigin {
                name: Arc::from(container.name.as_str()),
                condition: container.condition(),
            });
        }
    }

    fn finish(self, problems: Vec<Problem>) -> Contribution {
        let mut dynamic = self.dynamic;
        dynamic.http.routers = objects(self.routers).map(shared).collect();
        dynamic.http.services = objects(self.services).map(shared).collect();
        dynamic.http.middlewares = objects(self.middlewares).collect();
        dynamic.constellation.http.services = objects(self.options).collect();
        Contribution {
            provider: PROVIDER,
            dynamic,
            origins: self.origins,
            problems,
            revision: 0,
        }
    }
}

fn insert<T>(objects: &mut BTreeMap<String, Owned<T>>, name: String, object: T, owner: &str) {
    let owner = owner.to_owned();
    objects.insert(name, Owned { object, owner });
}

fn objects<T>(owned: BTreeMap<String, Owned<T>>) -> impl Iterator<Item = (String, T)> {
    owned.into_iter().map(|(name, owned)| (name, owned.object))
}

fn shared<T>((name, object): (String, T)) -> (String, Arc<T>) {
    (name, Arc::new(object))
}

fn conflict(
    conflicts: &mut BTreeMap<(&'static str, String), BTreeSet<String>>,
    kind: &'static str,
    name: &str,
    first: &str,
    second: &str,
) {
    let owners = conflicts.entry((kind, name.to_owned())).or_default();
    owners.insert(first.to_owned());
    owners.insert(second.to_owned());
}

/// Whether two services differ in nothing but their servers.
fn mergeable(a: &Service, b: &Service) -> bool {
    let bare = |service: &Service| {
        let balancer = service.load_balancer.as_ref().map(|balancer| LoadBalancer {
            servers: Vec::new(),
            strategy: balancer.strategy.clone().filter(|strategy| strategy != "wrr"),
            ..balancer.clone()
        });
        Service {
            load_balancer: balancer,
            ..service.clone()
        }
    };
    bare(a) == bare(b)
}

fn add_servers(known: &mut Service, service: Service) {
    let Some(known) = &mut known.load_balancer else {
        return;
    };
    for server in service
        .load_balancer
        .into_iter()
        .flat_map(|balancer| balancer.servers)
    {
        if known.servers.iter().all(|known| known.url != server.url) {
            known.servers.push(server);
        }
    }
}

/// The requests a router competes for. Two routers with the same claim at the same priority would leave it to chance,
/// or to their names, whether a request meets the container that serves.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    rule: String,
    priority: i64,
    tls: bool,
    entry_points: BTreeSet<String>,
}

impl Claim {
    fn of(router: &Router) -> Self {
        Self {
            rule: router.rule.clone(),
            priority: router.priority,
            tls: router.tls.is_some(),
            entry_points: router.entry_points.iter().cloned().collect(),
        }
    }
}

fn remarks(part: &Part<'_>) -> Vec<Problem> {
    let remarks = part.definition.remarks.iter();
    let problems = remarks.map(|remark| Problem {
        subject: format!("container {}", part.container.name),
        message: remark.clone(),
    });
    problems.collect()
}
