//! One container to the routers, services and middlewares that it defines. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use constellation_config::dynamic::{LoadBalancer, Router, Server, Service, ServiceOptions, TlsStore};
use serde_json::Value;

use super::address::{Neighbours, Place, Unreachable, locate};
use super::container::{Container, State};
use super::labels::{
    ContainerOptions, LabelError, LabelledOptions, LabelledRoutes, LabelledServer, LabelledService,
};
use super::name::service_name;
use super::policy::Policy;
use super::template::Model;

/// What a container defines.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Definition {
    /// Each with a rule and a service.
    pub(super) routers: BTreeMap<String, Router>,
    /// Each with one server: this container.
    pub(super) services: BTreeMap<String, Service>,
    pub(super) middlewares: BTreeMap<String, Value>,
    pub(super) stores: BTreeMap<String, TlsStore>,
    /// Options of services, of this container's or of others.
    pub(super) options: BTreeMap<String, Arc<ServiceOptions>>,
    /// What deserves a look although the container is used.
    pub(super) remarks: Vec<String>,
}

/// What becomes of a container.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It doesn't want to be exposed, or the operator doesn't want it.
    Hidden,
    /// It can't be used, and why.
    Refused(String),
    /// It defines routes.
    Defined(Box<Definition>),
}

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Label(#[from] LabelError),
    #[error("service `{0}`: load-balancer is not defined: labels can only define `loadbalancer` services")]
    NoLoadBalancer(String),
    #[error("service `{0}`: defining scheme or port is not allowed when url is defined; remove one of them")]
    UrlAndPort(String),
    #[error("service `{service}`: {error}")]
    Unreachable { service: String, error: Unreachable },
}

/// Reads the labels of `container` and finds its address.
pub(super) fn define(container: &Container, policy: &Policy, neighbours: &Neighbours<'_>) -> Verdict {
    let options = match ContainerOptions::read(&container.labels) {
        Ok(options) => options,
        Err(error) => return Verdict::Refused(format!("{error}; the container is not used")),
    };
    let wanted = options.enable.unwrap_or(policy.exposed_by_default);
    let allowed = policy
        .constraint
        .as_ref()
        .is_none_or(|constraint| constraint.matches(&container.labels));
    if !wanted || !allowed {
        return Verdict::Hidden;
    }
    match definition(container, &options, policy, neighbours) {
        Ok(definition) => Verdict::Defined(Box::new(definition)),
        // Nobody can say what a stopped container would listen on, and it hurts nobody: it never had a route.
        Err(Refusal::Unreachable { .. }) if container.state != State::Running => Verdict::Hidden,
        Err(refusal) => Verdict::Refused(format!("{refusal}; the container is not used")),
    }
}

fn definition(
    container: &Container,
    options: &ContainerOptions,
    policy: &Policy,
    neighbours: &Neighbours<'_>,
) -> Result<Definition, Refusal> {
    let routes = LabelledRoutes::read(&container.labels)?;
    let mut remarks = Vec::new();
    if routes.tcp || routes.udp {
        remarks.push(
            "its `traefik.tcp` and `traefik.udp` labels are read but not served by this version".to_owned(),
        );
        if routes.routers.is_empty() && routes.services.is_empty() && routes.middlewares.is_empty() {
            return Ok(Definition {
                remarks,
                ..Definition::default()
            });
        }
    }
    let options_of_services = LabelledOptions::read(&container.labels);
    let unused = options_of_services.errors.iter();
    remarks.extend(unused.map(|error| format!("{error}\n    the option is not used, its default counts")));
    let name = service_name(&container.name, &container.labels);
    let mut labelled = routes.services;
    if labelled.is_empty() {
        labelled.insert(
            name.clone(),
            LabelledService {
                load_balancer: Some(LoadBalancer::default()),
                ..LabelledService::default()
            },
        );
    }
    let mut services = BTreeMap::new();
    for (service, labelled) in labelled {
        let defined = complete_service(&service, labelled, |port| {
            locate(
                container,
                options,
                policy,
                neighbours,
                &service,
                port,
                &mut remarks,
            )
        })?;
        services.insert(service, defined);
    }
    // Several services of one container say the same about its network.
    remarks.dedup();
    let mut routers = routes.routers;
    if routers.is_empty() {
        if services.len() > 1 {
            remarks
                .push("it has several services and no router, so it gets no route; add a router".to_owned());
        } else {
            routers.insert(name.clone(), Router::default());
        }
    }
    let model = Model {
        name: &name,
        container_name: &container.name,
        labels: &container.labels,
    };
    routers.retain(
        |router_name, router| match complete_router(router, &services, policy, &model) {
            Ok(()) => true,
            Err(reason) => {
                remarks.push(format!("router `{router_name}` is dropped: {reason}"));
                false
            }
        },
    );
    Ok(Definition {
        routers,
        services,
        middlewares: routes.middlewares,
        stores: routes.stores,
        options: options_of_services.services,
        remarks,
    })
}

fn complete_service(
    name: &str,
    labelled: LabelledService,
    locate: impl FnOnce(&str) -> Result<Place, Unreachable>,
) -> Result<Service, Refusal> {
    let Some(mut balancer) = labelled.load_balancer else {
        return Err(Refusal::NoLoadBalancer(name.to_owned()));
    };
    let LabelledServer {
        url,
        scheme,
        port,
        weight,
        preserve_path,
    } = labelled.server;
    let url = if url.is_empty() {
        let place = locate(&port).map_err(|error| Refusal::Unreachable {
            service: name.to_owned(),
            error,
        })?;
        let scheme = if scheme.is_empty() { "http" } else { &scheme };
        // As Go's JoinHostPort: brackets around what has a colon.
        if place.host.contains(':') {
            format!("{scheme}://[{}]:{}", place.host, place.port)
        } else {
            format!("{scheme}://{}:{}", place.host, place.port)
        }
    } else if scheme.is_empty() && port.is_empty() {
        url
    } else {
        return Err(Refusal::UrlAndPort(name.to_owned()));
    };
    balancer.servers = vec![Server {
        url,
        weight,
        preserve_path,
    }];
    // The default is written out so that two containers agree when only one of them spells it.
    balancer.pass_host_header.get_or_insert(true);
    Ok(Service {
        load_balancer: Some(balancer),
        middlewares: labelled.middlewares,
        ..Service::default()
    })
}

fn complete_router(
    router: &mut Router,
    services: &BTreeMap<String, Service>,
    policy: &Policy,
    model: &Model<'_>,
) -> Result<(), String> {
    if router.rule.is_empty() {
        router.rule = policy
            .default_rule
            .render(model)
            .map_err(|error| format!("providers.docker.defaultRule: {error}"))?;
        if router.rule.is_empty() {
            return Err("it has no rule, and providers.docker.defaultRule gives an empty one".to_owned());
        }
    }
    if router.service.is_empty() {
        let mut names = services.keys();
        match (names.next(), names.next()) {
            (Some(only), None) => router.service.clone_from(only),
            _ => {
                let names: Vec<&str> = services.keys().map(String::as_str).collect();
                return Err(format!(
                    "it cannot be linked automatically with several services ({}); set its `service`",
                    names.join(", ")
                ));
            }
        }
    }
    Ok(())
}
