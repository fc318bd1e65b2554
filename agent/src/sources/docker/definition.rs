//! One container to the routers, services and middlewares that it defines. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use constellation_config::dynamic::{
    LoadBalancer, Middleware, Router, Server, Service, ServiceOptions, TlsStore,
};

use super::address::{Neighbours, Place, Unreachable, Wanted, locate};
use super::container::{Container, State};
use super::labels::{
    ContainerOptions, LabelError, LabelledOptions, LabelledRoutes, LabelledServer, LabelledService,
};
use super::name::service_name;
use super::policy::Policy;
use super::template::Model;
use crate::sources::Section;

mod contract;
mod streams;

pub(super) use self::streams::{TcpDefinition, UdpDefinition};

/// What a container defines.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Definition {
    /// Each with a rule and a service.
    pub(super) routers: BTreeMap<String, Router>,
    /// Each with one server: this container.
    pub(super) services: BTreeMap<String, Service>,
    pub(super) middlewares: BTreeMap<String, Middleware>,
    pub(super) stores: BTreeMap<String, TlsStore>,
    pub(super) tcp: TcpDefinition,
    pub(super) udp: UdpDefinition,
    /// Options of services, of this container's or of others.
    pub(super) options: BTreeMap<(Section, String), Arc<ServiceOptions>>,
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

/// A container and what decides where it is reached.
struct Site<'a> {
    container: &'a Container,
    options: &'a ContainerOptions,
    policy: &'a Policy,
    neighbours: &'a Neighbours<'a>,
}

impl Site<'_> {
    /// Where the server of a service is.
    fn locate(&self, wanted: Wanted<'_>, remarks: &mut Vec<String>) -> Result<Place, Refusal> {
        locate(
            self.container,
            self.options,
            self.policy,
            self.neighbours,
            wanted,
            remarks,
        )
        .map_err(|error| Refusal::Unreachable {
            service: wanted.section.key(wanted.service),
            error,
        })
    }
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
    let mut labelled_options = LabelledOptions::read(&container.labels);
    let unused = labelled_options.errors.iter();
    remarks.extend(unused.map(|error| format!("{error}\n    the option is not used, its default counts")));
    let name = service_name(&container.name, &container.labels);
    let site = Site {
        container,
        options,
        policy,
        neighbours,
    };
    let only_streams = (routes.tcp.defines() || routes.udp.defines())
        && routes.routers.is_empty()
        && routes.services.is_empty()
        && routes.middlewares.is_empty();
    let tcp = streams::tcp(routes.tcp, &name, &site, &mut remarks)?;
    let udp = streams::udp(routes.udp, &name, &site, &mut remarks)?;
    contract::check(container, &tcp, &mut labelled_options.services, &mut remarks);
    let mut definition = Definition {
        middlewares: routes.middlewares,
        stores: routes.stores,
        tcp,
        udp,
        options: labelled_options.services,
        ..Definition::default()
    };
    if !only_streams {
        let model = Model {
            name: &name,
            container_name: &container.name,
            labels: &container.labels,
        };
        definition.services = http_services(routes.services, &name, &site, &mut remarks)?;
        definition.routers = http_routers(routes.routers, &definition.services, policy, &model, &mut remarks);
    }
    // Several services of one container say the same about its network.
    let mut said = BTreeSet::new();
    remarks.retain(|remark| said.insert(remark.clone()));
    definition.remarks = remarks;
    Ok(definition)
}

/// The services, or a default one.
fn http_services(
    mut labelled: BTreeMap<String, LabelledService>,
    name: &str,
    site: &Site<'_>,
    remarks: &mut Vec<String>,
) -> Result<BTreeMap<String, Service>, Refusal> {
    if labelled.is_empty() {
        labelled.insert(
            name.to_owned(),
            LabelledService {
                load_balancer: Some(LoadBalancer::default()),
                ..LabelledService::default()
            },
        );
    }
    let mut services = BTreeMap::new();
    for (service, labelled) in labelled {
        let defined = complete_service(&service, labelled, site, remarks)?;
        services.insert(service, defined);
    }
    Ok(services)
}

/// The routers that can be completed, or a default one.
fn http_routers(
    mut routers: BTreeMap<String, Router>,
    services: &BTreeMap<String, Service>,
    policy: &Policy,
    model: &Model<'_>,
    remarks: &mut Vec<String>,
) -> BTreeMap<String, Router> {
    if routers.is_empty() {
        if services.len() > 1 {
            remarks
                .push("it has several services and no router, so it gets no route; add a router".to_owned());
        } else {
            routers.insert(model.name.to_owned(), Router::default());
        }
    }
    routers.retain(
        |router_name, router| match complete_router(router, services, policy, model) {
            Ok(()) => true,
            Err(reason) => {
                remarks.push(format!("router `{router_name}` is dropped: {reason}"));
                false
            }
        },
    );
    routers
}

fn complete_service(
    name: &str,
    labelled: LabelledService,
    site: &Site<'_>,
    remarks: &mut Vec<String>,
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
        let wanted = Wanted {
            section: Section::Http,
            service: name,
            port: &port,
        };
        let place = site.locate(wanted, remarks)?;
        let scheme = if scheme.is_empty() { "http" } else { &scheme };
        format!("{scheme}://{}", place.address())
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
    link(&mut router.service, services)
}

/// Gives a router without service the only one that there is.
fn link<S>(service: &mut String, services: &BTreeMap<String, S>) -> Result<(), String> {
    if !service.is_empty() {
        return Ok(());
    }
    let mut names = services.keys();
    match (names.next(), names.next()) {
        (Some(only), None) => {
            service.clone_from(only);
            Ok(())
        }
        _ => {
            let names: Vec<&str> = services.keys().map(String::as_str).collect();
            Err(format!(
                "it cannot be linked automatically with several services ({}); set its `service`",
                names.join(", ")
            ))
        }
    }
}
