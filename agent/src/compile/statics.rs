//! What compile takes from the static configuration: entry points with their defaults, and the default transport.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use constellation_config::dynamic::ServiceOptions;
use constellation_config::{Config, EntryPoint, EntryPointTls, RedirectionTarget};
use constellation_table::{EntryPointId, Policy, Redirect, StreamTransport, Timeouts, Transport};

use super::pem::PemFiles;
use super::policy;

/// Provider name of what nobody configured but the node itself.
pub(super) const INTERNAL: &str = "internal";

/// The part of the static configuration that shapes routers and services; fixed for the life of the process.
#[derive(Clone, Debug)]
pub struct Statics {
    /// One per entry point; the position is its [`EntryPointId`].
    pub entry_points: Vec<EntryPointRules>,
    /// Where connections of a Traefik come in that name their service.
    pub entrance: Option<EntryPointId>,
    /// The transport of services that name none.
    pub default_transport: Arc<Transport>,
    /// The transport of TCP services that name none.
    pub default_stream_transport: Arc<Transport>,
    /// Seconds of `Retry-After` while no endpoint of a service can serve.
    pub retry_after: u32,
    /// Options of services, as far as a service says nothing else.
    pub service_defaults: ServiceOptions,
    /// The policy that these make.
    pub default_policy: Arc<Policy>,
    /// The addresses of this host's interfaces, as they were when the node started.
    pub host_addresses: Vec<IpAddr>,
}

/// What an entry point gives to the routers on it.
#[derive(Clone, Debug, Default)]
pub struct EntryPointRules {
    /// Its name.
    pub name: Arc<str>,
    /// Whether routers that name no entry point are served here (`asDefault`).
    pub as_default: bool,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// Whether it takes datagrams.
    pub udp: bool,
    /// Makes routers without `tls` TLS routers (`http.tls`).
    pub tls: Option<EntryPointTls>,
    /// Redirects every request to another entry point.
    pub redirection: Option<Redirection>,
    /// Middlewares that come before those of each router.
    pub middlewares: Vec<String>,
}

/// `http.redirections.entryPoint` of an entry point.
#[derive(Clone, Debug)]
pub struct Redirection {
    /// Name of the target entry point, or its port.
    pub to: String,
    /// What the router answers.
    pub redirect: Redirect,
    /// Priority of the router.
    pub priority: i64,
}

impl Statics {
    /// Takes what compile needs out of `config`. `bound` has the real addresses of the listeners, so that a redirect
    /// to an entry point on port 0 names the port it got; without listeners (offline) the configured ports count.
    ///
    /// The error names a file of `serversTransport.rootCAs`, or an option of `serviceDefaults`, that can't be used.
    pub fn new(config: &Config, bound: &[(Arc<str>, SocketAddr)]) -> Result<Self, String> {
        let entry_points = config.entry_points.iter().map(|entry_point| EntryPointRules {
            name: entry_point.name.as_str().into(),
            addresses: addresses(entry_point, bound),
            as_default: entry_point.as_default,
            udp: entry_point.protocol == constellation_config::Protocol::Udp,
            tls: entry_point.tls.clone(),
            redirection: entry_point
                .redirection
                .as_ref()
                .map(|redirection| resolve_redirection(redirection, config, bound)),
            middlewares: entry_point.middlewares.clone(),
        });
        Ok(Self {
            entry_points: entry_points.collect(),
            entrance: crate::settings::entrance_id(config),
            default_transport: Arc::new(default_transport(&config.servers_transport)?),
            default_stream_transport: Arc::new(default_stream_transport(&config.tcp_servers_transport)?),
            retry_after: u32::try_from(config.proxy.retry_after.as_secs()).unwrap_or(u32::MAX),
            default_policy: Arc::new(default_policy(&config.service_defaults)?),
            service_defaults: config.service_defaults.clone(),
            host_addresses: host_addresses(),
        })
    }

    /// The entry point for datagrams that would get what is sent to this server.
    pub(super) fn datagrams_at(&self, host: &str, port: u16) -> Option<&EntryPointRules> {
        let local = |ip: IpAddr| {
            ip.is_loopback() || ip.is_unspecified() || self.host_addresses.contains(&ip.to_canonical())
        };
        let takes = |listening: &SocketAddr, ip: IpAddr| {
            let at = listening.ip().to_canonical();
            // Who sends to no address in particular reaches this host's loopback address.
            at == ip || at.is_unspecified() && local(ip) || ip.is_unspecified() && at.is_loopback()
        };
        let ips: Vec<IpAddr> = match host.parse::<IpAddr>() {
            Ok(ip) => vec![ip.to_canonical()],
            Err(_) if host.eq_ignore_ascii_case("localhost") => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Err(_) => Vec::new(),
        };
        let takes =
            |listening: &SocketAddr| listening.port() == port && ips.iter().any(|ip| takes(listening, *ip));
        let mut datagrams = self.entry_points.iter().filter(|entry_point| entry_point.udp);
        datagrams.find(|entry_point| entry_point.addresses.iter().any(takes))
    }

    /// Where HTTP and TCP routers without `entryPoints` are served: the default entry points, or all when none is
    /// marked; never those for datagrams.
    pub(super) fn default_entry_points(&self) -> Vec<EntryPointId> {
        let streams = || self.ids().filter(|(_, entry_point)| !entry_point.udp);
        let marked: Vec<_> = streams()
            .filter_map(|(id, entry_point)| entry_point.as_default.then_some(id))
            .collect();
        if marked.is_empty() {
            streams().map(|(id, _)| id).collect()
        } else {
            marked
        }
    }

    /// Where UDP routers without `entryPoints` are served: everywhere that datagrams are taken.
    pub(super) fn udp_entry_points(&self) -> Vec<EntryPointId> {
        let datagrams = self.ids().filter(|(_, entry_point)| entry_point.udp);
        datagrams.map(|(id, _)| id).collect()
    }

    /// Whether an entry point takes datagrams.
    pub(super) fn is_udp(&self, id: EntryPointId) -> bool {
        self.entry_point(id).is_some_and(|entry_point| entry_point.udp)
    }

    /// Every entry point with its id.
    pub(super) fn ids(&self) -> impl Iterator<Item = (EntryPointId, &EntryPointRules)> {
        self.entry_points
            .iter()
            .enumerate()
            .filter_map(|(position, rules)| Some((EntryPointId(u16::try_from(position).ok()?), rules)))
    }

    /// The entry point of an id.
    pub(super) fn entry_point(&self, id: EntryPointId) -> Option<&EntryPointRules> {
        self.entry_points.get(usize::from(id.0))
    }

    /// The id of an entry point.
    pub(super) fn id_of(&self, name: &str) -> Option<EntryPointId> {
        self.ids()
            .find(|(_, entry_point)| &*entry_point.name == name)
            .map(|(id, _)| id)
    }
}

/// Where an entry point listens: really, or, offline, as it is configured.
fn addresses(entry_point: &EntryPoint, bound: &[(Arc<str>, SocketAddr)]) -> Vec<SocketAddr> {
    let bound = bound.iter().filter(|(name, _)| **name == *entry_point.name);
    let bound: Vec<SocketAddr> = bound.map(|(_, address)| *address).collect();
    match bound.is_empty() {
        true => entry_point.addresses.clone(),
        false => bound,
    }
}

fn host_addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().inspect_err(
        |error| tracing::warn!(%error, "the addresses of this host can't be read: UDP services that lead back here go unnoticed"),
    );
    let of = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| Some(address.as_sockaddr_in6()?.ip().to_canonical()))
    };
    interfaces.into_iter().flatten().filter_map(of).collect()
}

fn default_policy(options: &ServiceOptions) -> Result<Policy, String> {
    let mut warnings = Vec::new();
    let policy = policy::policy(options, &mut warnings);
    match warnings.first() {
        None => Ok(policy),
        Some(warning) => Err(format!("serviceDefaults.{warning}")),
    }
}

fn resolve_redirection(
    redirection: &constellation_config::Redirection,
    config: &Config,
    bound: &[(Arc<str>, SocketAddr)],
) -> Redirection {
    let (to, port) = match &redirection.to {
        RedirectionTarget::Port(port) => (port.to_string(), Some(*port)),
        RedirectionTarget::EntryPoint(name) => (name.clone(), port_of(name, config, bound)),
    };
    let usual = match redirection.scheme.as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    Redirection {
        to,
        redirect: Redirect {
            scheme: redirection.scheme.as_str().into(),
            port: port.filter(|port| Some(*port) != usual && *port != 0),
            permanent: redirection.permanent,
        },
        priority: redirection.priority,
    }
}

fn port_of(name: &str, config: &Config, bound: &[(Arc<str>, SocketAddr)]) -> Option<u16> {
    let listening = bound
        .iter()
        .find(|(entry_point, _)| &**entry_point == name)
        .map(|(_, address)| address.port());
    listening.or_else(|| {
        let target = config.entry_points.iter().find(|e| e.name == name)?;
        target.addresses.first().map(SocketAddr::port)
    })
}

fn default_stream_transport(
    options: &constellation_config::TcpServersTransport,
) -> Result<Transport, String> {
    let mut files = PemFiles::default();
    let root_cas = options.root_cas.iter().map(|path| {
        files
            .load(&path.to_string_lossy())
            .map_err(|error| format!("tcpServersTransport.tls.rootCAs: {error}"))
    });
    Ok(Transport {
        name: format!("tcp/default@{INTERNAL}").into(),
        insecure_skip_verify: options.insecure_skip_verify,
        root_cas: root_cas.collect::<Result<_, _>>()?,
        timeouts: Timeouts {
            dial: Some(options.dial_timeout),
            ..Timeouts::default()
        },
        stream: StreamTransport {
            proxy_protocol: None,
            termination_delay: options.termination_delay,
            dial_keep_alive: options.dial_keep_alive,
        },
        ..Transport::default()
    })
}

fn default_transport(options: &constellation_config::ServersTransport) -> Result<Transport, String> {
    let mut files = PemFiles::default();
    let root_cas = options.root_cas.iter().map(|path| {
        files
            .load(&path.to_string_lossy())
            .map_err(|error| format!("serversTransport.rootCAs: {error}"))
    });
    Ok(Transport {
        name: format!("default@{INTERNAL}").into(),
        server_name: None,
        insecure_skip_verify: options.insecure_skip_verify,
        root_cas: root_cas.collect::<Result<_, _>>()?,
        client_certificate: None,
        disable_http2: false,
        max_idle_connections_per_host: options.max_idle_conns_per_host,
        timeouts: Timeouts {
            dial: Some(options.dial_timeout),
            response_header: options.response_header_timeout,
            idle: options.idle_conn_timeout,
        },
        stream: Default::default(),
    })
}

#[cfg(test)]
mod tests {
    use constellation_config::Redirection as Configured;

    use super::*;

    fn redirecting(to: RedirectionTarget, scheme: &str, websecure: &str) -> Config {
        let mut web = EntryPoint::new("web", vec!["127.0.0.1:0".parse().unwrap()]);
        web.redirection = Some(Configured {
            to,
            scheme: scheme.to_owned(),
            permanent: true,
            priority: Configured::DEFAULT_PRIORITY,
        });
        Config {
            entry_points: vec![
                web,
                EntryPoint::new("websecure", vec![websecure.parse().unwrap()]),
            ],
            ..Config::default()
        }
    }

    #[test]
    fn a_redirect_names_a_port_only_when_it_is_not_the_usual_one() {
        let websecure = || RedirectionTarget::EntryPoint("websecure".to_owned());
        let bound: [(Arc<str>, SocketAddr); 1] = [("websecure".into(), "127.0.0.1:40000".parse().unwrap())];
        for (config, bound, expected) in [
            (
                redirecting(websecure(), "https", "127.0.0.1:443"),
                &bound[..0],
                None,
            ),
            (
                redirecting(websecure(), "https", "127.0.0.1:8443"),
                &bound[..0],
                Some(8443),
            ),
            (
                redirecting(websecure(), "https", "127.0.0.1:0"),
                &bound[..],
                Some(40000),
            ),
            (
                redirecting(websecure(), "https", "127.0.0.1:0"),
                &bound[..0],
                None,
            ),
            (
                redirecting(RedirectionTarget::Port(443), "https", "127.0.0.1:1"),
                &bound[..],
                None,
            ),
            (
                redirecting(RedirectionTarget::Port(80), "http", "127.0.0.1:1"),
                &bound[..],
                None,
            ),
            (
                redirecting(RedirectionTarget::Port(443), "http", "127.0.0.1:1"),
                &bound[..],
                Some(443),
            ),
        ] {
            let statics = Statics::new(&config, bound).unwrap();
            let redirection = statics.entry_points[0].redirection.as_ref().unwrap();
            assert_eq!(redirection.redirect.port, expected, "{config:?}");
        }
    }

    #[test]
    fn what_leads_back_here_is_known() {
        let listening = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap());
            let mut dns = EntryPoint::new("dns", addresses.collect());
            dns.protocol = constellation_config::Protocol::Udp;
            let tcp = EntryPoint::new("tcp", vec!["0.0.0.0:54".parse().unwrap()]);
            let config = Config {
                entry_points: vec![tcp, dns],
                ..Config::default()
            };
            let mut statics = Statics::new(&config, &[]).unwrap();
            statics.host_addresses = vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
            statics
        };
        for (addresses, host, port, back) in [
            (&["127.0.0.1:53"][..], "127.0.0.1", 53, true),
            (&["127.0.0.1:53"], "::ffff:127.0.0.1", 53, true),
            (&["127.0.0.1:53"], "localhost", 53, true),
            (&["127.0.0.1:53"], "0.0.0.0", 53, true),
            (&["127.0.0.1:53"], "127.0.0.1", 54, false),
            (&["127.0.0.1:53"], "127.0.0.2", 53, false),
            (&["127.0.0.1:53"], "192.0.2.7", 53, false),
            (&["127.0.0.1:53"], "dns.test", 53, false),
            (&["192.0.2.7:53"], "192.0.2.7", 53, true),
            (&["192.0.2.7:53"], "127.0.0.1", 53, false),
            (&["192.0.2.8:53", "192.0.2.7:53"], "192.0.2.7", 53, true),
            (&["[::1]:53"], "::1", 53, true),
            (&["[::1]:53"], "LOCALHOST", 53, true),
            (&["[::]:53"], "127.0.0.9", 53, true),
            (&["[::]:53"], "::", 53, true),
            (&["[::]:53"], "192.0.2.7", 53, true),
            (&["[::]:53"], "2001:db8::7", 53, true),
            (&["[::]:53"], "192.0.2.9", 53, false),
            (&["0.0.0.0:53"], "192.0.2.7", 53, true),
            (&["0.0.0.0:53"], "192.0.2.7", 54, false),
        ] {
            let found = listening(addresses)
                .datagrams_at(host, port)
                .map(|found| &*found.name == "dns");
            assert_eq!(found, back.then_some(true), "{host}:{port} at {addresses:?}");
        }
    }

    #[test]
    fn without_marked_entry_points_all_are_default() {
        let mut config = redirecting(RedirectionTarget::Port(1), "https", "127.0.0.1:1");
        let ids = |config: &Config| Statics::new(config, &[]).unwrap().default_entry_points();
        assert_eq!(ids(&config), [EntryPointId(0), EntryPointId(1)]);
        config.entry_points[0].as_default = false;
        assert_eq!(ids(&config), [EntryPointId(1)]);
        config.entry_points[1].as_default = false;
        assert_eq!(ids(&config), [EntryPointId(0), EntryPointId(1)]);
    }

    #[test]
    fn a_trust_anchor_that_is_missing_is_named_with_its_key() {
        let mut config = Config::default();
        config.servers_transport.root_cas = vec!["/does/not/exist.pem".into()];
        let error = Statics::new(&config, &[]).unwrap_err();
        assert!(
            error.contains("serversTransport.rootCAs") && error.contains("/does/not/exist.pem"),
            "{error}"
        );
    }
}
