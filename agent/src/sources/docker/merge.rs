//! The definitions of all containers to one contribution. Pure.
//!
//! Containers that serve come first and are merged as in Traefik: servers of services with the same name add up,
//! identical objects are one, different ones of the same name cancel each other everywhere. Containers that don't serve
//! (stopped, starting, removed lately) come after them, the newest first, and only fill gaps: they keep the routes that
//! nothing else defines, and never change, cancel or shadow those of a container that serves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use constellation_config::dynamic::{Dynamic, Middleware, ServiceOptions, TcpMiddleware, TlsStore};
use constellation_table::Condition;

use self::objects::{Claim, HttpObjects, Owned, Shared, TcpObjects, UdpObjects, insert, objects, shared};
use super::container::Container;
use super::definition::Definition;
use crate::sources::{Contribution, Problem, Section};

mod objects;

/// The name of the provider, which qualifies everything labels define.
pub(super) const PROVIDER: &str = "docker";

/// What one container adds.
pub(super) struct Part<'a> {
    pub(super) container: &'a Container,
    pub(super) definition: Definition,
}

#[derive(Default)]
struct Merger {
    http: HttpObjects,
    tcp: TcpObjects,
    udp: UdpObjects,
    middlewares: BTreeMap<String, Owned<Middleware>>,
    tcp_middlewares: BTreeMap<String, Owned<TcpMiddleware>>,
    options: BTreeMap<(Section, String), Owned<Arc<ServiceOptions>>>,
    shared: Shared,
    stores: BTreeMap<String, TlsStore>,
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
    let mut claimed = merger.claims();
    for part in idle {
        problems.extend(remarks(&part));
        merger.add_options(&part, None);
        merger.fill_gaps(part, &mut claimed);
    }
    merger.finish(problems)
}

impl Merger {
    fn add_serving(&mut self, part: Part<'_>) {
        let Part {
            container,
            definition,
        } = part;
        let owner = &container.name;
        let shared = &mut self.shared;
        self.http
            .add(definition.routers, definition.services, container, shared);
        let (tcp, udp) = (definition.tcp, definition.udp);
        self.tcp.add(tcp.routers, tcp.services, container, shared);
        self.udp.add(udp.routers, udp.services, container, shared);
        for (name, middleware) in definition.middlewares {
            let key = Section::Http.key(&name);
            shared.add_equal(&mut self.middlewares, "middleware", key, name, middleware, owner);
        }
        for (name, middleware) in tcp.middlewares {
            let key = Section::Tcp.key(&name);
            shared.add_equal(
                &mut self.tcp_middlewares,
                "middleware",
                key,
                name,
                middleware,
                owner,
            );
        }
        self.stores.extend(definition.stores);
    }

    /// What the routers of those that serve compete for.
    fn claims(&self) -> BTreeSet<Claim> {
        let claims = self.http.claims().chain(self.tcp.claims());
        claims.chain(self.udp.claims()).collect()
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
            problems.extend(differing.into_iter().map(|((section, name), first)| Problem {
                subject: format!("options of service {}@{PROVIDER}", section.key(name)),
                message: format!(
                    "the labels constellation.{}.services.{name} of the containers {first} and {owner} differ: those of \
                     {first} count; make them the same",
                    section.name()
                ),
            }));
        }
    }

    fn cancel_conflicts(&mut self, problems: &mut Vec<Problem>) {
        let shared = &mut self.shared;
        self.http.cancel(shared);
        self.tcp.cancel(shared);
        self.udp.cancel(shared);
        let conflicts = &shared.conflicts;
        let stays =
            |section: Section, name: &String| !conflicts.contains_key(&("middleware", section.key(name)));
        self.middlewares.retain(|name, _| stays(Section::Http, name));
        self.tcp_middlewares.retain(|name, _| stays(Section::Tcp, name));
        for ((kind, key), owners) in &shared.conflicts {
            let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
            problems.push(Problem {
                subject: format!("{kind} {key}@{PROVIDER}"),
                message: format!(
                    "defined multiple times with different configurations, so it is dropped: by containers {}; make \
                     their labels the same, or give each its own name",
                    owners.join(", ")
                ),
            });
        }
    }

    fn fill_gaps(&mut self, part: Part<'_>, claimed: &mut BTreeSet<Claim>) {
        let Part {
            container,
            definition,
        } = part;
        let owner = &container.name;
        let shared = &mut self.shared;
        let (tcp, udp) = (definition.tcp, definition.udp);
        self.http.fill(
            definition.routers,
            definition.services,
            container,
            shared,
            claimed,
        );
        self.tcp
            .fill(tcp.routers, tcp.services, container, shared, claimed);
        self.udp
            .fill(udp.routers, udp.services, container, shared, claimed);
        for (name, middleware) in definition.middlewares {
            let key = Section::Http.key(&name);
            shared.add_missing(&mut self.middlewares, "middleware", key, name, middleware, owner);
        }
        for (name, middleware) in tcp.middlewares {
            let key = Section::Tcp.key(&name);
            shared.add_missing(
                &mut self.tcp_middlewares,
                "middleware",
                key,
                name,
                middleware,
                owner,
            );
        }
    }

    fn finish(self, problems: Vec<Problem>) -> Contribution {
        let mut dynamic = Dynamic::default();
        (dynamic.http.routers, dynamic.http.services) = self.http.finish();
        (dynamic.tcp.routers, dynamic.tcp.services) = self.tcp.finish();
        (dynamic.udp.routers, dynamic.udp.services) = self.udp.finish();
        dynamic.http.middlewares = objects(self.middlewares).map(shared).collect();
        dynamic.tcp.middlewares = objects(self.tcp_middlewares).collect();
        dynamic.tls.stores = self.stores;
        let extensions = &mut dynamic.constellation;
        for ((section, name), options) in objects(self.options) {
            let of_section = match section {
                Section::Http => &mut extensions.http,
                Section::Tcp => &mut extensions.tcp,
                Section::Udp => &mut extensions.udp,
            };
            of_section.services.insert(name, options);
        }
        Contribution {
            provider: PROVIDER,
            dynamic,
            origins: self.shared.origins,
            problems,
            peers: BTreeMap::new(),
            revision: 0,
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
