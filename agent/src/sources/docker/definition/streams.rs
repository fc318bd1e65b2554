//! What a container defines below `traefik.tcp` and `traefik.udp`.
//!
//! As in Traefik: without services there is one by default, without a router there is none; a TCP router without a rule
//! is dropped.

use std::collections::BTreeMap;

use constellation_config::dynamic::{
    TcpLoadBalancer, TcpMiddleware, TcpRouter, TcpServer, TcpService, UdpLoadBalancer, UdpRouter, UdpServer,
    UdpService,
};

use super::{Refusal, Site, link};
use crate::sources::Section;
use crate::sources::docker::address::Wanted;
use crate::sources::docker::labels::{LabelledTcp, LabelledTcpService, LabelledUdp, LabelledUdpService};

/// The TCP part of a definition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::sources::docker) struct TcpDefinition {
    /// Each with a rule and a service.
    pub(in crate::sources::docker) routers: BTreeMap<String, TcpRouter>,
    /// Each with one server: this container.
    pub(in crate::sources::docker) services: BTreeMap<String, TcpService>,
    pub(in crate::sources::docker) middlewares: BTreeMap<String, TcpMiddleware>,
    /// The port of the container that each service is at.
    pub(super) ports: BTreeMap<String, String>,
}

/// The UDP part of a definition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::sources::docker) struct UdpDefinition {
    /// Each with a service.
    pub(in crate::sources::docker) routers: BTreeMap<String, UdpRouter>,
    /// Each with one server: this container.
    pub(in crate::sources::docker) services: BTreeMap<String, UdpService>,
}

/// Completes what the labels say of TCP; `name` is that of the default service.
pub(super) fn tcp(
    labelled: LabelledTcp,
    name: &str,
    site: &Site<'_>,
    remarks: &mut Vec<String>,
) -> Result<TcpDefinition, Refusal> {
    let mut definition = TcpDefinition::default();
    if labelled.defines() {
        let mut services = labelled.services;
        if services.is_empty() {
            let service = LabelledTcpService {
                load_balancer: Some(TcpLoadBalancer::default()),
                ..LabelledTcpService::default()
            };
            services.insert(name.to_owned(), service);
        }
        for (name, labelled) in services {
            let (service, port) = tcp_service(&name, labelled, site, remarks)?;
            definition.ports.insert(name.clone(), port);
            definition.services.insert(name, service);
        }
    }
    definition.middlewares = labelled.middlewares;
    definition.routers = labelled.routers;
    let services = &definition.services;
    definition.routers.retain(|name, router| {
        let linked = if router.rule.is_empty() {
            Err(
                "it has no rule, and TCP routers have no default one; write one, HostSNI(`*`) for every connection"
                    .to_owned(),
            )
        } else {
            link(&mut router.service, services)
        };
        keep(Section::Tcp, name, linked, remarks)
    });
    Ok(definition)
}

fn tcp_service(
    name: &str,
    labelled: LabelledTcpService,
    site: &Site<'_>,
    remarks: &mut Vec<String>,
) -> Result<(TcpService, String), Refusal> {
    let Some(mut balancer) = labelled.load_balancer else {
        return Err(Refusal::NoLoadBalancer(Section::Tcp.key(name)));
    };
    let wanted = Wanted {
        section: Section::Tcp,
        service: name,
        port: &labelled.server.port,
    };
    let place = site.locate(wanted, remarks)?;
    balancer.servers = vec![TcpServer {
        address: place.address(),
        tls: labelled.server.tls,
    }];
    // The default is written out so that two containers agree when only one of them spells it.
    if let Some(protocol) = &mut balancer.proxy_protocol {
        protocol.version.get_or_insert(2);
    }
    let service = TcpService {
        load_balancer: Some(balancer),
        ..TcpService::default()
    };
    Ok((service, wanted.port(site.container).unwrap_or(place.port)))
}

/// Completes what the labels say of UDP; `name` is that of the default service.
pub(super) fn udp(
    labelled: LabelledUdp,
    name: &str,
    site: &Site<'_>,
    remarks: &mut Vec<String>,
) -> Result<UdpDefinition, Refusal> {
    let mut definition = UdpDefinition::default();
    if !labelled.defines() {
        return Ok(definition);
    }
    let mut services = labelled.services;
    if services.is_empty() {
        let service = LabelledUdpService {
            load_balancer: true,
            port: String::new(),
        };
        services.insert(name.to_owned(), service);
    }
    for (name, labelled) in services {
        if !labelled.load_balancer {
            return Err(Refusal::NoLoadBalancer(Section::Udp.key(&name)));
        }
        let wanted = Wanted {
            section: Section::Udp,
            service: &name,
            port: &labelled.port,
        };
        let address = site.locate(wanted, remarks)?.address();
        let service = UdpService {
            load_balancer: Some(UdpLoadBalancer {
                servers: vec![UdpServer { address }],
            }),
            ..UdpService::default()
        };
        definition.services.insert(name, service);
    }
    definition.routers = labelled.routers;
    let services = &definition.services;
    definition.routers.retain(|name, router| {
        let linked = link(&mut router.service, services);
        keep(Section::Udp, name, linked, remarks)
    });
    Ok(definition)
}

/// Whether a router stays; why not goes to the remarks.
fn keep(section: Section, name: &str, completed: Result<(), String>, remarks: &mut Vec<String>) -> bool {
    if let Err(reason) = &completed {
        let router = section.key(name);
        remarks.push(format!("router `{router}` is dropped: {reason}"));
    }
    completed.is_ok()
}
