//! Services of the sections `tcp` and `udp`: those with servers, then those built of others.

use std::collections::HashMap;
use std::sync::Arc;

use constellation_config::dynamic::{
    ServiceOptions, StreamWeighted, TcpLoadBalancer, TcpService, UdpService,
};
use constellation_table::{
    Child, Condition, Definition, Endpoint, EndpointSpec, Scheme, Service, ServiceSpec, Target, Transport,
    Weighted, WeightedSpec, nesting,
};

use super::{Around, Compiled, Input, Section, options, resolve, transports};
use crate::compile::names;
use crate::sources::{Problem, ServerOrigin};

/// Heaviest weight that the schedule takes.
const MAX_WEIGHT: i64 = 1_000_000;

/// Under which name a source says what is known of a service's servers.
fn origin_key(section: Section, service: &str) -> String {
    format!("{}{service}", section.prefix())
}

type Outcomes = HashMap<Arc<str>, Result<Target, String>>;
type Transports = HashMap<Arc<str>, Result<Arc<Transport>, String>>;

/// All services by qualified name. Those that are the same as in `previous` stay the same object.
pub(super) fn compile(
    around: &Around<'_>,
    transports: &Transports,
    previous: &HashMap<Arc<str>, Target>,
    compiled: &mut Compiled,
) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut kinds = Vec::new();
    for input in around.inputs {
        for (name, definition) in &input.tcp.services {
            let of = Of::new(around, Section::Tcp, input, name, previous);
            match tcp_kind(definition) {
                Kind::Weighted(weighted) => kinds.push((of, weighted)),
                Kind::Servers(balancer) => {
                    let servers = of.tcp(balancer, transports, compiled);
                    of.finish(servers, &mut outcomes, compiled);
                }
                Kind::Neither(why) => of.finish(Err(why.to_owned()), &mut outcomes, compiled),
            }
        }
        for (name, definition) in &input.udp.services {
            let of = Of::new(around, Section::Udp, input, name, previous);
            match udp_kind(definition) {
                Kind::Weighted(weighted) => kinds.push((of, weighted)),
                Kind::Servers(balancer) => {
                    let addresses = balancer.servers.iter();
                    let servers = addresses
                        .map(|server| (server.address.as_str(), Scheme::Udp))
                        .collect();
                    let transport = Ok(around.statics.default_stream_transport.clone());
                    let built = of.servers(servers, transport, ServiceOptions::default(), compiled);
                    of.finish(built, &mut outcomes, compiled);
                }
                Kind::Neither(why) => of.finish(Err(why.to_owned()), &mut outcomes, compiled),
            }
        }
        options::without_effect(input, around.inputs, compiled);
    }
    build_kinds(&kinds, &mut outcomes, compiled);
    let leaves = outcomes
        .values()
        .filter_map(|outcome| outcome.as_ref().ok()?.as_service());
    compiled.services = leaves.cloned().collect();
    compiled.services.sort_by(|a, b| a.name.cmp(&b.name));
    outcomes
}

enum Kind<'a, B> {
    Servers(&'a B),
    Weighted(&'a StreamWeighted),
    Neither(&'static str),
}

const SEVERAL: &str = "it has several kinds (loadBalancer, weighted): keep one";
const NONE: &str = "it has no kind: write loadBalancer with its servers";

fn tcp_kind(definition: &TcpService) -> Kind<'_, TcpLoadBalancer> {
    match (&definition.load_balancer, &definition.weighted) {
        (Some(balancer), None) => Kind::Servers(balancer),
        (None, Some(weighted)) => Kind::Weighted(weighted),
        (Some(_), Some(_)) => Kind::Neither(SEVERAL),
        (None, None) => Kind::Neither(NONE),
    }
}

fn udp_kind(definition: &UdpService) -> Kind<'_, constellation_config::dynamic::UdpLoadBalancer> {
    match (&definition.load_balancer, &definition.weighted) {
        (Some(balancer), None) => Kind::Servers(balancer),
        (None, Some(weighted)) => Kind::Weighted(weighted),
        (Some(_), Some(_)) => Kind::Neither(SEVERAL),
        (None, None) => Kind::Neither(NONE),
    }
}

/// One definition.
pub(super) struct Of<'a> {
    pub(super) around: &'a Around<'a>,
    pub(super) section: Section,
    pub(super) input: &'a Input,
    pub(super) name: &'a str,
    qualified: Arc<str>,
    /// What the last compile made of it.
    old: Option<&'a Target>,
}

impl<'a> Of<'a> {
    fn new(
        around: &'a Around<'a>,
        section: Section,
        input: &'a Input,
        name: &'a str,
        previous: &'a HashMap<Arc<str>, Target>,
    ) -> Self {
        let qualified = section.qualify(name, input.provider);
        Self {
            around,
            section,
            input,
            name,
            old: previous.get(&qualified),
            qualified,
        }
    }

    pub(super) fn warn(&self, compiled: &mut Compiled, message: impl Into<String>) {
        compiled.problems.push(Problem {
            subject: format!("service {}", self.qualified),
            message: message.into(),
        });
    }

    fn finish(&self, outcome: Result<Target, String>, outcomes: &mut Outcomes, compiled: &mut Compiled) {
        let outcome = match names::refusal(self.name) {
            Some(refusal) => Err(refusal),
            None => outcome,
        };
        if let Err(error) = &outcome {
            self.warn(compiled, error.clone());
        }
        outcomes.insert(self.qualified.clone(), outcome);
    }

    fn tcp(
        &self,
        balancer: &TcpLoadBalancer,
        transports: &Transports,
        compiled: &mut Compiled,
    ) -> Result<Target, String> {
        let transport = self.transport(balancer, transports)?;
        let servers = balancer.servers.iter();
        let servers: Vec<_> = servers
            .map(|server| {
                let scheme = if server.tls { Scheme::Tls } else { Scheme::Tcp };
                (server.address.as_str(), scheme)
            })
            .collect();
        if servers.iter().all(|(_, scheme)| *scheme == Scheme::Tcp)
            && !servers.is_empty()
            && let Some(reference) = &balancer.servers_transport
            && self.has_tls(reference)
        {
            self.warn(
                compiled,
                format!(
                    "the tls of its serversTransport {reference:?} has no effect, as in Traefik: TLS is spoken with servers \
                     that have tls: true; add it to them"
                ),
            );
        }
        let check = balancer.health_check.as_ref();
        let traefik = check
            .map(|check| options::health_check(self, check, compiled))
            .unwrap_or_default();
        self.servers(servers, Ok(transport), traefik, compiled)
    }

    /// The transport, with what the service itself says of it.
    fn transport(
        &self,
        balancer: &TcpLoadBalancer,
        transports: &Transports,
    ) -> Result<Arc<Transport>, String> {
        let reference = balancer
            .servers_transport
            .as_deref()
            .filter(|name| !name.is_empty());
        let named = match reference {
            None => self.around.statics.default_stream_transport.clone(),
            Some(reference) => resolve(
                self.section,
                "serversTransport",
                reference,
                self.input.provider,
                transports,
                self.around.inputs,
            )?,
        };
        let mut changed = Transport::clone(&named);
        if let Some(definition) = &balancer.proxy_protocol {
            changed.stream.proxy_protocol = Some(transports::version(definition)?);
        }
        if let Some(millis) = balancer.termination_delay {
            // Below zero means no limit.
            changed.stream.termination_delay =
                u64::try_from(millis).ok().map(std::time::Duration::from_millis);
        }
        let old = self.old.and_then(Target::as_service).map(|old| &old.transport);
        let known = [Some(&named), old]
            .into_iter()
            .flatten()
            .find(|known| ***known == changed);
        Ok(known.cloned().unwrap_or_else(|| Arc::new(changed)))
    }

    fn has_tls(&self, reference: &str) -> bool {
        let (name, owner) = names::split_reference(reference, self.input.provider);
        let mut owners = self.around.inputs.iter().filter(|input| input.provider == owner);
        owners.any(|input| {
            let transport = input.tcp.servers_transports.get(name);
            transport.is_some_and(|transport| transport.tls.is_some())
        })
    }

    fn servers(
        &self,
        servers: Vec<(&str, Scheme)>,
        transport: Result<Arc<Transport>, String>,
        traefik: ServiceOptions,
        compiled: &mut Compiled,
    ) -> Result<Target, String> {
        let transport = transport?;
        let old = self.old.and_then(Target::as_service);
        let origins = self.input.origins.get(&origin_key(self.section, self.name));
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::with_capacity(servers.len());
        let mut wrong = Vec::new();
        for (address, scheme) in &servers {
            let origin = origins.and_then(|origins| origins.get(*address));
            match endpoint(address, *scheme, origin).and_then(|spec| self.leads_on(spec)) {
                Ok(spec) => {
                    let mut known = old.iter().flat_map(|old| &old.endpoints);
                    let known = known.find(|known| known.matches(&spec)).cloned();
                    endpoints.push(known.unwrap_or_else(|| Arc::new(Endpoint::new(spec))));
                }
                Err(error) => wrong.push(error),
            }
        }
        if endpoints.is_empty() && !wrong.is_empty() {
            return Err(wrong.join("; "));
        }
        let peers = self.input.peers.get(&origin_key(self.section, self.name));
        for spec in peers.into_iter().flatten() {
            let mut known = old.iter().flat_map(|old| &old.endpoints);
            let known = known.find(|known| known.matches(spec)).cloned();
            endpoints.push(known.unwrap_or_else(|| Arc::new(Endpoint::new(spec.clone()))));
        }
        for error in wrong {
            self.warn(compiled, error);
        }
        let policy = options::policy(self, &traefik, old, compiled);
        let retry_after = self.around.statics.retry_after;
        if let Some(old) = old
            && old.retry_after == retry_after
            && Arc::ptr_eq(&old.transport, &transport)
            && Arc::ptr_eq(&old.policy, &policy)
            && old.endpoints.len() == endpoints.len()
            && old
                .endpoints
                .iter()
                .zip(&endpoints)
                .all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return Ok(Target::Service(old.clone()));
        }
        let spec = ServiceSpec {
            name: self.qualified.clone(),
            endpoints,
            pass_host_header: true,
            transport,
            retry_after,
            policy,
        };
        Ok(Target::Service(Arc::new(Service::new(
            spec,
            old.map(AsRef::as_ref),
        ))))
    }
}

impl Of<'_> {
    /// A datagram that comes back would be sent again, and again.
    fn leads_on(&self, spec: EndpointSpec) -> Result<EndpointSpec, String> {
        let statics = self.around.statics;
        match statics.datagrams_at(&spec.host, spec.port) {
            Some(entry_point) if spec.scheme == Scheme::Udp => Err(format!(
                "server address {:?}: there this node's own entry point {:?} listens, and datagrams would go round in circles; \
                 write the address of the server behind it",
                spec.url_as_written, entry_point.name
            )),
            _ => Ok(spec),
        }
    }
}

fn endpoint(address: &str, scheme: Scheme, origin: Option<&ServerOrigin>) -> Result<EndpointSpec, String> {
    let (host, port) = host_and_port(address)?;
    Ok(EndpointSpec {
        name: origin.map_or_else(|| Arc::from(address), |origin| origin.name.clone()),
        scheme,
        host: host.into(),
        port,
        base_path: "".into(),
        weight: 1,
        condition: origin.map_or(Condition::Ready, |origin| origin.condition.clone()),
        url_as_written: address.into(),
        locality: Default::default(),
        peer: None,
    })
}

/// `HOST:PORT`, an IPv6 address in brackets.
pub(super) fn host_and_port(address: &str) -> Result<(&str, u16), String> {
    let refuse = |what: &str| {
        Err(format!(
            "server address {address:?}: {what}; expected HOST:PORT, such as 10.0.0.5:5432 or [fd00::5]:5432"
        ))
    };
    if address.contains("://") {
        return refuse("it is a URL");
    }
    let Some((host, port)) = address.rsplit_once(':') else {
        return refuse("it has no port");
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let host = match bare {
        Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
        Some(_) => return refuse("the brackets hold no IPv6 address"),
        None if host.is_empty() => return refuse("it has no host"),
        None if host.contains(':') => return refuse("an IPv6 address needs brackets"),
        None if !host.bytes().all(allowed) => {
            return refuse("the host holds a character that no host name has");
        }
        None => host,
    };
    match port.parse::<u16>() {
        Ok(number) if number > 0 && port.bytes().all(|b| b.is_ascii_digit()) => Ok((host, number)),
        _ => refuse("the port is not a number from 1 to 65535"),
    }
}

fn build_kinds(kinds: &[(Of<'_>, &StreamWeighted)], outcomes: &mut Outcomes, compiled: &mut Compiled) {
    let uses: Vec<Vec<Arc<str>>> = kinds
        .iter()
        .map(|(of, weighted)| {
            let children = weighted.services.iter();
            let qualified = children.map(|child| {
                let (name, owner) = names::split_reference(&child.name, of.input.provider);
                of.section.qualify(name, owner)
            });
            qualified.collect()
        })
        .collect();
    let definitions: Vec<Definition<'_>> = kinds
        .iter()
        .zip(&uses)
        .map(|((of, _), uses)| Definition {
            name: &of.qualified,
            uses: uses.iter().map(AsRef::as_ref).collect(),
        })
        .collect();
    let nesting = nesting(&definitions);
    let by_name: HashMap<&str, &(Of<'_>, &StreamWeighted)> =
        kinds.iter().map(|kind| (&*kind.0.qualified, kind)).collect();
    let find = |name: &str| by_name.get(name).copied();
    for (name, error) in &nesting.refused {
        if let Some((of, _)) = find(name) {
            of.finish(Err(error.to_string()), outcomes, compiled);
        }
    }
    for name in &nesting.order {
        if let Some((of, weighted)) = find(name) {
            let built = weighted_target(of, weighted, outcomes);
            of.finish(built, outcomes, compiled);
        }
    }
}

fn weighted_target(of: &Of<'_>, definition: &StreamWeighted, outcomes: &Outcomes) -> Result<Target, String> {
    let child = |service: &constellation_config::dynamic::WeightedService| {
        let (provider, inputs) = (of.input.provider, of.around.inputs);
        let weight = service.weight.unwrap_or(1);
        let fitting = u32::try_from(weight).ok().filter(|_| weight <= MAX_WEIGHT);
        Ok::<_, String>(Child {
            name: service.name.as_str().into(),
            target: resolve(of.section, "service", &service.name, provider, outcomes, inputs)?,
            weight: fitting.ok_or_else(|| {
                format!(
                    "services: the weight {weight} of {} is out of range: write 0 to {MAX_WEIGHT}",
                    service.name
                )
            })?,
        })
    };
    let spec = WeightedSpec {
        name: of.qualified.clone(),
        children: definition.services.iter().map(child).collect::<Result<_, _>>()?,
        sticky: None,
    };
    let previous = match of.old {
        Some(Target::Weighted(old)) if old.spec == spec => return Ok(Target::Weighted(old.clone())),
        Some(Target::Weighted(old)) => Some(old.as_ref()),
        _ => None,
    };
    Weighted::new(spec, previous)
        .map(|weighted| Target::Weighted(Arc::new(weighted)))
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for (address, expected) in [
            ("10.0.0.5:5432", Ok(("10.0.0.5", 5432))),
            ("db_1.internal:1", Ok(("db_1.internal", 1))),
            ("[fd00::5]:65535", Ok(("fd00::5", 65535))),
            ("fd00::5:80", Err("an IPv6 address needs brackets")),
            ("[db]:80", Err("the brackets hold no IPv6 address")),
            ("tcp://a:80", Err("it is a URL")),
            ("a", Err("it has no port")),
            (":80", Err("it has no host")),
            ("a:0", Err("the port is not a number")),
            ("a:65536", Err("the port is not a number")),
            ("a b:80", Err("the host holds a character")),
        ] {
            match (host_and_port(address), expected) {
                (Ok(read), Ok(expected)) => assert_eq!(read, expected),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
                (read, expected) => panic!("{address}: {read:?}, not {expected:?}"),
            }
        }
    }
}
