//! The sections `tcp` and `udp`. Their services have this node's own instances. A TCP service that has none here and some
//! elsewhere has this node as its server, which learns the service from the name that Traefik asks for in TLS. Datagrams say
//! nothing of the kind, so there is no way through this node to those of others.

use std::collections::btree_map::Entry;
use std::net::SocketAddr;

use constellation_config::dynamic::{
    StreamWeighted, TcpHealthCheck, TcpLoadBalancer, TcpMiddleware, TcpRouter, TcpService, UdpRouter,
    UdpService,
};
use constellation_table::TcpRule;
use serde_json::Value;

use super::names::Names;
use super::object::{Object, check_key};
use super::priority::{self, Contender, HIGHEST};
use super::routers::domains;
use super::services::weights;
use super::tls::Options;
use super::transports::{self, Transports};
use super::{Draft, Objects, Whereabouts, names_of, section};
use crate::sources::Section;

/// The section `tcp`.
pub(super) struct Tcp {
    pub(super) routers: Objects,
    pub(super) services: Objects,
    middlewares: Objects,
    transports: Objects,
}

impl Tcp {
    pub(super) fn section(self) -> Object {
        Object::default()
            .object("routers", Some(section(self.routers)))
            .object("services", Some(section(self.services)))
            .object("middlewares", Some(section(self.middlewares)))
            .object("serversTransports", Some(section(self.transports)))
    }
}

/// The section `udp`.
pub(super) struct Udp {
    pub(super) routers: Objects,
    pub(super) services: Objects,
}

impl Udp {
    pub(super) fn section(self) -> Object {
        Object::default()
            .object("routers", Some(section(self.routers)))
            .object("services", Some(section(self.services)))
    }
}

/// Resolves references to objects that are in the document.
struct Known<'n> {
    names: &'n Names,
    objects: &'n Objects,
}

impl<'n> Known<'n> {
    fn resolve(&self, reference: &str, provider: &str) -> Option<&'n str> {
        let bare = self.names.resolve(reference, provider)?;
        self.objects.contains_key(bare).then_some(bare)
    }
}

pub(super) fn tcp(draft: &mut Draft<'_>, options: &Options) -> Tcp {
    let mut transports = transports::tcp(draft);
    let (service_names, services) = tcp_services(draft, &mut transports);
    let (middleware_names, middlewares) = tcp_middlewares(draft);
    let context = TcpContext {
        services: Known {
            names: &service_names,
            objects: &services,
        },
        middlewares: Known {
            names: &middleware_names,
            objects: &middlewares,
        },
        options,
        cert_resolver: draft.terms.cert_resolver.as_deref(),
    };
    let routers = draft.each(|reading| &reading.dynamic.tcp.routers);
    let names = names_of(&routers);
    let mut written = Vec::new();
    for (provider, name, router) in routers {
        let Some(bare) = names.bare(provider, name) else {
            continue;
        };
        match check_key(name).and_then(|()| context.router(provider, bare, router)) {
            Ok(found) => written.push(found),
            Err(reason) => draft.leave_out("router tcp/", provider, name, reason),
        }
    }
    let priorities = priority::settle(written.iter().map(|(_, contender)| contender.clone()).collect());
    let routers = written.into_iter().map(|(object, contender)| {
        let priority = priorities.get(&contender.name).copied();
        (contender.name, object.number("priority", priority))
    });
    Tcp {
        routers: routers.collect(),
        services,
        middlewares,
        transports: transports.objects,
    }
}

struct TcpContext<'d> {
    services: Known<'d>,
    middlewares: Known<'d>,
    options: &'d Options,
    cert_resolver: Option<&'d str>,
}

impl TcpContext<'_> {
    fn router(&self, provider: &str, bare: &str, router: &TcpRouter) -> Result<(Object, Contender), String> {
        if let Some(other) = router
            .rule_syntax
            .as_deref()
            .filter(|syntax| !["", "v3"].contains(syntax))
        {
            return Err(format!("ruleSyntax {other:?}: rewrite the rule in v3 syntax"));
        }
        let rule =
            TcpRule::parse(&router.rule).map_err(|error| format!("rule {:?}: {error}", router.rule))?;
        if rule.needs_tls() && router.tls.is_none() {
            return Err("its rule names hosts, which needs tls: add tls, or write HostSNI(`*`)".to_owned());
        }
        let service = self
            .services
            .resolve(&router.service, provider)
            .ok_or_else(|| format!("its service {:?} is not in the document either", router.service))?;
        let middlewares = router.middlewares.iter().map(|reference| {
            let resolved = self.middlewares.resolve(reference, provider);
            resolved.ok_or_else(|| format!("its middleware {reference:?} is not in the document either"))
        });
        let middlewares = middlewares.collect::<Result<Vec<&str>, String>>()?;
        let tls = match &router.tls {
            None => None,
            Some(tls) => {
                let options = match tls.options.as_deref().filter(|name| !name.is_empty()) {
                    None => None,
                    Some(name) => {
                        let resolved = self.options.resolve(name, provider);
                        Some(resolved.ok_or_else(|| {
                            format!("its tls.options {name:?} are not in the document either")
                        })?)
                    }
                };
                let resolver = tls
                    .cert_resolver
                    .as_deref()
                    .filter(|resolver| !resolver.is_empty());
                // Who passes the TLS on needs no certificate.
                let resolver = resolver.or(self.cert_resolver.filter(|_| !tls.passthrough));
                let object = Object::default()
                    .on("passthrough", tls.passthrough)
                    .text("options", options)
                    .text("certResolver", resolver);
                Some(match domains(&tls.domains) {
                    domains if domains.is_empty() => object,
                    domains => object.list("domains", domains),
                })
            }
        };
        let priority = match router.priority {
            0 => rule.default_priority(),
            priority if priority > HIGHEST => {
                return Err(format!(
                    "priority {priority} is out of range: write at most {HIGHEST}"
                ));
            }
            priority => priority,
        };
        let object = Object::default()
            .texts("entryPoints", router.entry_points.iter().map(String::as_str))
            .texts("middlewares", middlewares)
            .text("service", Some(service))
            .text("rule", Some(&router.rule))
            .presence("tls", tls);
        let contender = Contender {
            name: bare.to_owned(),
            priority,
            rule_length: router.rule.len(),
            // Of those that name a host it is not known whether they match under others as well.
            hosts: Vec::new(),
        };
        Ok((object, contender))
    }
}

fn tcp_services(draft: &mut Draft<'_>, transports: &mut Transports) -> (Names, Objects) {
    let all = draft.each(|reading| &reading.dynamic.tcp.services);
    let names = names_of(&all);
    let mut objects = Objects::new();
    let mut weighted = Vec::new();
    for (provider, name, service) in all {
        let Some(bare) = names.bare(provider, name) else {
            continue;
        };
        if let (None, Some(parts)) = (&service.load_balancer, &service.weighted) {
            weighted.push((provider, name, bare, parts));
            continue;
        }
        let whereabouts = Whereabouts::of(draft, provider, Section::Tcp, name);
        match check_key(name).and_then(|()| tcp_service(provider, service, &whereabouts, transports)) {
            Ok((object, has_servers)) => {
                let through = (!has_servers && whereabouts.elsewhere)
                    .then(|| through_this_node(draft, (provider, name), bare, transports))
                    .flatten();
                objects.insert(bare.to_owned(), through.unwrap_or(object));
            }
            Err(reason) => draft.leave_out("service tcp/", provider, name, reason),
        }
    }
    build(draft, "service tcp/", weighted, &names, &mut objects);
    (names, objects)
}

/// A service whose only server is this node. `None`: Traefik does not reach it, or the name is too long.
fn through_this_node(
    draft: &Draft<'_>,
    (provider, name): (&str, &str),
    bare: &str,
    transports: &mut Transports,
) -> Option<Object> {
    let address = draft.terms.failover.as_deref()?;
    let service = format!("{name}@{provider}");
    let host = constellation_dataplane::named::host(&service)?;
    let transport = format!("constellation-{bare}");
    check_key(&transport).ok()?;
    let tls = Object::default()
        .text("serverName", Some(&host))
        // Between two processes of one machine; the name is no address but says which service is meant.
        .on("insecureSkipVerify", true);
    let object = Object::default()
        .object(
            "proxyProtocol",
            Some(Object::default().number("version", Some(2))),
        )
        .object("tls", Some(tls));
    match transports.objects.entry(transport.clone()) {
        Entry::Vacant(place) => place.insert(object),
        // Somebody else's.
        Entry::Occupied(_) => return None,
    };
    let server = Object::default().text("address", Some(address)).on("tls", true);
    let balancer = Object::default()
        .list("servers", vec![server.into()])
        .text("serversTransport", Some(&transport));
    Some(Object::default().object("loadBalancer", Some(balancer)))
}

/// The service with the servers of this node, and whether it has any.
fn tcp_service(
    provider: &str,
    service: &TcpService,
    whereabouts: &Whereabouts<'_>,
    transports: &Transports,
) -> Result<(Object, bool), String> {
    let balancer = match (&service.load_balancer, &service.weighted) {
        (Some(balancer), None) => balancer,
        (Some(_), Some(_)) => return Err("it has several kinds: keep one".to_owned()),
        (None, _) => return Err("it has no kind: write loadBalancer with its servers".to_owned()),
    };
    let transport = match balancer
        .servers_transport
        .as_deref()
        .filter(|name| !name.is_empty())
    {
        None => None,
        Some(named) => {
            let resolved = transports.resolve(named, provider);
            Some(
                resolved
                    .ok_or_else(|| format!("its serversTransport {named:?} is not in the document either"))?,
            )
        }
    };
    let check = balancer.health_check.as_ref().map(tcp_check).transpose()?;
    let version = balancer.proxy_protocol.as_ref().map(|p| p.version.unwrap_or(2));
    let servers = tcp_servers(balancer, whereabouts);
    let has_servers = !servers.is_empty();
    let object = Object::default()
        .list("servers", servers)
        .text("serversTransport", transport)
        .object(
            "proxyProtocol",
            version.map(|v| Object::default().number("version", Some(v))),
        )
        .number("terminationDelay", balancer.termination_delay)
        .object("healthCheck", check);
    Ok((
        Object::default().object("loadBalancer", Some(object)),
        has_servers,
    ))
}

fn tcp_servers(balancer: &TcpLoadBalancer, whereabouts: &Whereabouts<'_>) -> Vec<Value> {
    let fit = balancer.servers.iter();
    let fit = fit.filter(|server| is_address(&server.address) && whereabouts.is_ready(&server.address));
    let mut servers: Vec<_> = fit.collect();
    servers.sort_by(|a, b| a.address.cmp(&b.address));
    servers.dedup_by(|a, b| a.address == b.address);
    let written = servers.into_iter().map(|server| {
        Object::default()
            .text("address", Some(&server.address))
            .on("tls", server.tls)
    });
    written.map(Into::into).collect()
}

/// `HOST:PORT`.
fn is_address(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok() {
        return true;
    }
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_name = host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        !host.is_empty() && is_name && port.parse::<u16>().is_ok()
    })
}

fn tcp_check(check: &TcpHealthCheck) -> Result<Object, String> {
    Object::default()
        .number("port", check.port)
        .text("send", check.send.as_deref())
        .text("expect", check.expect.as_deref())
        .duration("interval", check.interval.as_deref())?
        .duration("unhealthyInterval", check.unhealthy_interval.as_deref())?
        .duration("timeout", check.timeout.as_deref())
}

/// Services built of others: those first that have all they are built of.
fn build(
    draft: &mut Draft<'_>,
    kind: &str,
    mut weighted: Vec<(&'static str, &String, &str, &StreamWeighted)>,
    names: &Names,
    objects: &mut Objects,
) {
    loop {
        let before = weighted.len();
        weighted.retain(|(provider, name, bare, weighted)| {
            let known = Known { names, objects };
            let resolve = |reference: &str| known.resolve(reference, provider);
            let Some(parts) = weights(&weighted.services, &resolve).filter(|_| check_key(name).is_ok())
            else {
                return true;
            };
            let object = Object::default().list("services", parts);
            objects.insert(
                (*bare).to_owned(),
                Object::default().object("weighted", Some(object)),
            );
            false
        });
        if weighted.len() == before {
            break;
        }
    }
    for (provider, name, ..) in weighted {
        let reason = "it is built of a service that is not in the document either, or has a name that can't stand there";
        draft.leave_out(kind, provider, name, reason);
    }
}

fn tcp_middlewares(draft: &mut Draft<'_>) -> (Names, Objects) {
    let all = draft.each(|reading| &reading.dynamic.tcp.middlewares);
    let names = names_of(&all);
    let mut objects = Objects::new();
    for (provider, name, middleware) in all {
        let Some(bare) = names.bare(provider, name) else {
            continue;
        };
        match check_key(name).and_then(|()| tcp_middleware(middleware)) {
            Ok(object) => {
                objects.insert(bare.to_owned(), object);
            }
            Err(reason) => draft.leave_out("middleware tcp/", provider, name, reason),
        }
    }
    (names, objects)
}

fn tcp_middleware(middleware: &TcpMiddleware) -> Result<Object, String> {
    let list = middleware
        .ip_allow_list
        .as_ref()
        .or(middleware.ip_white_list.as_ref());
    let both = middleware.ip_allow_list.is_some() && middleware.ip_white_list.is_some();
    match (list, &middleware.in_flight_conn) {
        (Some(list), None) if !both => {
            if list.source_range.is_empty() {
                return Err("it allows nobody: write sourceRange".to_owned());
            }
            let ranges = list.source_range.iter().map(String::as_str);
            let object = Object::default().texts("sourceRange", ranges);
            Ok(Object::default().object("ipAllowList", Some(object)))
        }
        (None, Some(limit)) => {
            let object = Object::default().number("amount", Some(limit.amount));
            Ok(Object::default().object("inFlightConn", Some(object)))
        }
        (None, None) => Err("it has no kind: write ipAllowList or inFlightConn".to_owned()),
        _ => Err("it has several kinds: keep one".to_owned()),
    }
}

pub(super) fn udp(draft: &mut Draft<'_>) -> Udp {
    let all = draft.each(|reading| &reading.dynamic.udp.services);
    let names = names_of(&all);
    let mut services = Objects::new();
    let mut weighted = Vec::new();
    for (provider, name, service) in all {
        let Some(bare) = names.bare(provider, name) else {
            continue;
        };
        if let (None, Some(parts)) = (&service.load_balancer, &service.weighted) {
            weighted.push((provider, name, bare, parts));
            continue;
        }
        let whereabouts = Whereabouts::of(draft, provider, Section::Udp, name);
        match check_key(name).and_then(|()| udp_service(service, &whereabouts)) {
            Ok(object) => {
                services.insert(bare.to_owned(), object);
            }
            Err(reason) => draft.leave_out("service udp/", provider, name, reason),
        }
    }
    build(draft, "service udp/", weighted, &names, &mut services);
    let routers = draft.each(|reading| &reading.dynamic.udp.routers);
    let router_names = names_of(&routers);
    let mut written = Objects::new();
    for (provider, name, router) in routers {
        let Some(bare) = router_names.bare(provider, name) else {
            continue;
        };
        let known = Known {
            names: &names,
            objects: &services,
        };
        match check_key(name).and_then(|()| udp_router(provider, router, &known)) {
            Ok(object) => {
                written.insert(bare.to_owned(), object);
            }
            Err(reason) => draft.leave_out("router udp/", provider, name, reason),
        }
    }
    Udp {
        routers: written,
        services,
    }
}

fn udp_router(provider: &str, router: &UdpRouter, services: &Known<'_>) -> Result<Object, String> {
    let service = services
        .resolve(&router.service, provider)
        .ok_or_else(|| format!("its service {:?} is not in the document either", router.service))?;
    Ok(Object::default()
        .texts("entryPoints", router.entry_points.iter().map(String::as_str))
        .text("service", Some(service)))
}

fn udp_service(service: &UdpService, whereabouts: &Whereabouts<'_>) -> Result<Object, String> {
    let balancer = match (&service.load_balancer, &service.weighted) {
        (Some(balancer), None) => balancer,
        (Some(_), Some(_)) => return Err("it has several kinds: keep one".to_owned()),
        (None, _) => return Err("it has no kind: write loadBalancer with its servers".to_owned()),
    };
    let fit = balancer.servers.iter().map(|server| server.address.as_str());
    let fit = fit.filter(|address| is_address(address) && whereabouts.is_ready(address));
    let mut addresses: Vec<&str> = fit.collect();
    addresses.sort_unstable();
    addresses.dedup();
    let servers = addresses
        .into_iter()
        .map(|address| Object::default().text("address", Some(address)));
    let object = Object::default().list("servers", servers.map(Into::into).collect());
    Ok(Object::default().object("loadBalancer", Some(object)))
}
