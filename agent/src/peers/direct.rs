//! Hosts of single nodes: where a rule names `SERVICE.DOMAIN`, `SERVICE.NODE.DOMAIN` leads to the instances of that node
//! and of no other, from whichever node it is asked. Pure.
//!
//! Such a router is the first one's twin: the same rule but for the host, so that what else the rule asks for, TLS and
//! middlewares hold for it as well.

use std::sync::Arc;

use constellation_config::dynamic::{LoadBalancer, Router, Service};
use constellation_table::Scheme;

use super::merge::endpoint;
use super::{Instances, Own, Peer, ProviderExport};
use crate::sources::Contribution;

/// Adds the routers and services of single nodes. `reading` is what this node alone has.
pub(super) fn add(
    own: &Own,
    reading: &Contribution,
    peers: &[(&Peer, &ProviderExport)],
    merged: &mut Contribution,
) {
    if own.domain.is_empty() {
        return;
    }
    let provider = reading.provider;
    let routers: Vec<(String, Arc<Router>)> = merged
        .dynamic
        .http
        .routers
        .iter()
        .filter(|(_, router)| router.rule.contains(&*own.domain))
        .map(|(name, router)| (name.clone(), router.clone()))
        .collect();
    for (name, router) in routers {
        let service = match router.service.rsplit_once('@') {
            Some((service, owner)) if owner == provider => service,
            Some(_) => continue,
            None => &*router.service,
        };
        let here = reading.dynamic.http.services.get(service);
        if let Some(definition) = here.filter(|service| service.load_balancer.is_some())
            && let Some(rule) = rule_for(&router.rule, &own.domain, &own.node)
        {
            let twin = format!("{service}-{}-direct", own.node);
            let origins = merged.origins.get(service).cloned();
            if add_twin(merged, &name, &router, &own.node, rule, definition.clone(), &twin)
                && let Some(origins) = origins
            {
                merged.origins.insert(twin, origins);
            }
        }
        for (peer, export) in peers {
            let definition = export.dynamic.http.services.get(service);
            let Some(definition) = definition.filter(|service| service.load_balancer.is_some()) else {
                continue;
            };
            let Some(rule) = rule_for(&router.rule, &own.domain, &peer.node) else {
                continue;
            };
            let twin = format!("{service}-{}-direct", peer.node);
            if add_twin(
                merged,
                &name,
                &router,
                &peer.node,
                rule,
                definition.clone(),
                &twin,
            ) {
                let none = Instances::default();
                let instances = export.instances.get(service).unwrap_or(&none);
                let endpoint = endpoint(own, peer, provider, service, instances, Scheme::Http);
                merged.peers.insert(twin, endpoint.into_iter().collect());
            }
        }
    }
}

/// Adds a router for one node, and its service where that is not there yet. Whether it was added: whatever has its name
/// already stays.
fn add_twin(
    merged: &mut Contribution,
    name: &str,
    router: &Router,
    node: &str,
    rule: String,
    definition: Arc<Service>,
    twin: &str,
) -> bool {
    let http = &mut merged.dynamic.http;
    let name = format!("{name}-{node}-direct");
    if http.routers.contains_key(&name) {
        return false;
    }
    let router = Router {
        rule,
        service: twin.to_owned(),
        ..router.clone()
    };
    http.routers.insert(name, Arc::new(router));
    if http.services.contains_key(twin) {
        return false;
    }
    // Passive checks and cookies are as good for one node as for all.
    let definition = Service {
        load_balancer: definition.load_balancer.clone().or(Some(LoadBalancer::default())),
        ..(*definition).clone()
    };
    http.services.insert(twin.to_owned(), Arc::new(definition));
    true
}

/// The rule with `SERVICE.NODE.DOMAIN` for every `SERVICE.DOMAIN` that it names; `None`: it names none.
fn rule_for(rule: &str, domain: &str, node: &str) -> Option<String> {
    let mut changed = false;
    let parts: Vec<String> = rule
        .split('`')
        .enumerate()
        .map(|(number, part)| {
            let label = part
                .strip_suffix(domain)
                .and_then(|front| front.strip_suffix('.'))
                .filter(|label| number % 2 == 1 && is_label(label) && *label != node);
            match label {
                Some(label) => {
                    changed = true;
                    format!("{label}.{node}.{domain}")
                }
                None => part.to_owned(),
            }
        })
        .collect();
    changed.then(|| parts.join("`"))
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_services_in_the_domain_are_changed() {
        let cases = [
            ("Host(`web.d.test`)", Some("Host(`web.n1.d.test`)")),
            (
                "(Host(`web.d.test`) || Host(`other.test`)) && PathPrefix(`/web.d.test/`)",
                Some("(Host(`web.n1.d.test`) || Host(`other.test`)) && PathPrefix(`/web.d.test/`)"),
            ),
            ("Host(`d.test`)", None),
            ("Host(`a.b.d.test`)", None),
            ("Host(`webd.test`)", None),
            ("Host(`n1.d.test`)", None),
            ("HostRegexp(`^.+\\.d\\.test$`)", None),
        ];
        for (rule, expected) in cases {
            assert_eq!(rule_for(rule, "d.test", "n1").as_deref(), expected, "{rule}");
        }
    }
}
