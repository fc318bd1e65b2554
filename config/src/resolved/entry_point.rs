//! `entryPoints`: where clients come in, and what they may do.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

use crate::dynamic::Domain;

/// One entry point.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryPoint {
    /// The name routers use.
    pub name: String,
    /// What it takes.
    pub protocol: Protocol,
    /// Where to listen, at least one. Port 0 picks a free port. An unspecified IPv6 address (`:80` gives `[::]:80`)
    /// means IPv4 as well, and IPv4 alone on a machine without IPv6.
    pub addresses: Vec<SocketAddr>,
    /// Whole networks that are answered at a port as well, without a socket of their own: steering alone can do that.
    /// Only for [`Protocol::Tcp`].
    pub prefixes: Vec<Prefix>,
    /// Whether another program of this user may have the port as well.
    pub reuse_port: bool,
    /// Whether HTTP and TCP routers that name no entry point are reached here; never for [`Protocol::Udp`].
    pub as_default: bool,
    /// Whose `X-Forwarded-*` are believed.
    pub forwarded_headers: ForwardedHeaders,
    /// Whose PROXY protocol headers are read.
    pub proxy_protocol: ProxyProtocol,
    /// Redirect everything that no router of higher priority takes.
    pub redirection: Option<Redirection>,
    /// Present: routers here without a `tls` of their own are TLS routers with these settings.
    pub tls: Option<EntryPointTls>,
    /// Middlewares that routers here run before their own.
    pub middlewares: Vec<String>,
    /// Time limits towards clients.
    pub timeouts: Timeouts,
    /// Size limits towards clients.
    pub limits: Limits,
    /// Sessions of UDP clients.
    pub udp: Udp,
}

/// A network and a port (`10.1.0.0/16:443`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// The network, without bits beyond its prefix.
    pub network: IpNet,
    /// The port; never 0.
    pub port: u16,
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.network {
            IpNet::V4(network) => write!(f, "{network}:{}", self.port),
            IpNet::V6(network) => write!(f, "[{}]/{}:{}", network.addr(), network.prefix_len(), self.port),
        }
    }
}

/// What an entry point takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Connections, for HTTP and TCP routers.
    #[default]
    Tcp,
    /// Datagrams, for UDP routers.
    Udp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl EntryPoint {
    /// An entry point with every option at its default.
    pub fn new(name: impl Into<String>, addresses: Vec<SocketAddr>) -> Self {
        Self {
            name: name.into(),
            protocol: Protocol::Tcp,
            addresses,
            prefixes: Vec::new(),
            reuse_port: false,
            as_default: true,
            forwarded_headers: ForwardedHeaders::default(),
            proxy_protocol: ProxyProtocol::default(),
            redirection: None,
            tls: None,
            middlewares: Vec::new(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            udp: Udp::default(),
        }
    }

    /// The entry points of a configuration that names none: `web` on port 80 and `websecure` on port 443 with TLS.
    pub fn defaults() -> Vec<Self> {
        let any = |port| vec![SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)];
        let mut websecure = Self::new("websecure", any(443));
        websecure.tls = Some(EntryPointTls::default());
        vec![Self::new("web", any(80)), websecure]
    }

    /// The key to change when this entry point's address is taken.
    pub fn address_key(&self) -> String {
        format!("entryPoints.{}.address", self.name)
    }
}

/// `forwardedHeaders`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardedHeaders {
    /// Believe everybody.
    pub insecure: bool,
    /// Believe these peers.
    pub trusted_ips: Vec<IpNet>,
}

/// `proxyProtocol`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Believe everybody.
    pub insecure: bool,
    /// Believe these peers.
    pub trusted_ips: Vec<IpNet>,
}

/// Sessions of UDP clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Longest silence before a session is forgotten; never zero.
    pub timeout: Duration,
    /// Sessions at once, 1 to 10,000,000.
    pub max_sessions: usize,
    /// Sessions at once of one IPv4 address or one IPv6 /64; `None`: no limit.
    pub max_sessions_per_source: Option<usize>,
}

impl Default for Udp {
    fn default() -> Self {
        Self {
            // Traefik's.
            timeout: Duration::from_secs(3),
            max_sessions: 65_536,
            // A quarter, as for connections.
            max_sessions_per_source: Some(16_384),
        }
    }
}

/// `http.redirections.entryPoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirection {
    /// Where to.
    pub to: RedirectionTarget,
    /// Scheme of the new URL, `http` or `https`.
    pub scheme: String,
    /// 301 and 308 rather than 302 and 307.
    pub permanent: bool,
    /// Priority of the redirecting router.
    pub priority: i64,
}

impl Redirection {
    /// The priority Traefik gives: above every router that doesn't ask for more.
    pub const DEFAULT_PRIORITY: i64 = i64::MAX - 1;
}

/// `to` of a redirection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectionTarget {
    /// The port of another entry point, which exists.
    EntryPoint(String),
    /// A port that need not be ours (`:8443`).
    Port(u16),
}

/// `http.tls` of an entry point.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntryPointTls {
    /// Name of the TLS options; `None`: `default`.
    pub options: Option<String>,
    /// Name of the certificate resolver, kept for the documents that name one; resolvers come with ACME.
    pub cert_resolver: Option<String>,
    /// Names to ask certificates for, likewise.
    pub domains: Vec<Domain>,
}

/// Time limits towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From accept, or the end of the previous response, to the end of the next request's headers; never zero.
    pub header: Duration,
    /// TLS handshake; never zero.
    pub handshake: Duration,
    /// Longest pause while a request body is read; `None`: no limit.
    pub read: Option<Duration>,
    /// Longest pause while the client takes no response bytes; `None`: no limit.
    pub write: Option<Duration>,
    /// Keep-alive between requests; `None`: no limit.
    pub idle: Option<Duration>,
    /// Longest silence of a connection that a TCP router forwards; `None`: no limit.
    pub tcp_idle: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            read: Some(Duration::from_secs(60)),
            write: None,
            idle: Some(Duration::from_secs(180)),
            tcp_idle: None,
        }
    }
}

/// Size limits towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line and headers together, bytes; 1,024 to 16 MiB.
    pub max_header_bytes: usize,
    /// Request header lines, 1 to 10,000.
    pub max_headers: usize,
    /// Request body, bytes; `None`: no limit.
    pub max_body_bytes: Option<u64>,
    /// Connections open at once, 1 to 10,000,000.
    pub max_connections: usize,
    /// Connections open at once from one IPv4 address or one IPv6 /64; `None`: no limit.
    pub max_connections_per_source: Option<usize>,
    /// Sources without that limit, beside those whose forwarding headers are believed.
    pub exempt_sources: Vec<IpNet>,
    /// Slowest request body, bytes a second; `None`: no limit.
    pub min_body_rate: Option<NonZeroU32>,
    /// Slowest reader of a response, bytes a second; `None`: no limit.
    pub min_send_rate: Option<NonZeroU32>,
    /// How long a client may fall short of these rates, 1 s to 1 h.
    pub rate_grace: Duration,
    /// Concurrent streams of one HTTP/2 connection, 1 to 100,000.
    pub max_concurrent_streams: u32,
    /// Requests served on one connection; `None`: no limit.
    pub max_requests_per_connection: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_header_bytes: 65_536,
            max_headers: 100,
            max_body_bytes: None,
            max_connections: 65_536,
            // A quarter: no single source takes all, and a NAT or a CDN that nobody declared stays far below.
            max_connections_per_source: Some(16_384),
            exempt_sources: Vec::new(),
            min_body_rate: NonZeroU32::new(240),
            min_send_rate: NonZeroU32::new(240),
            rate_grace: Duration::from_secs(30),
            max_concurrent_streams: 250,
            max_requests_per_connection: None,
        }
    }
}
