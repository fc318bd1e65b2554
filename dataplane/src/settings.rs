//! What the data plane is told at start; fixed for the life of the process.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use constellation_table::EntryPointId;
use ipnet::IpNet;

use crate::gate::Gate;
use crate::http::pace::Least;
use crate::mesh::Mesh;
use crate::offence::Offences;
use crate::tenure::Tenure;

/// Settings of the whole data plane.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name.
    pub node: Arc<str>,
    /// One entry per configured entry point; the position is its [`EntryPointId`].
    pub entry_points: Vec<EntryPoint>,
    /// Worker threads, each with its own runtime, listeners and upstream pool.
    pub workers: NonZeroUsize,
    /// The CPU of each worker, in turn, which also decides what TCP connections it gets: those that its CPU receives
    /// (`SO_INCOMING_CPU`). Empty: workers run anywhere, and connections are spread over them by a hash.
    pub cpus: Vec<usize>,
    /// How long SIGTERM lets requests and WebSockets finish.
    pub drain: Duration,
    /// Answer requests with `X-Constellation-Endpoint` and friends only for these clients (empty: nobody).
    pub served_by_for: Vec<IpNet>,
    /// Whose connections are closed unheard; changes while the data plane runs.
    pub gate: Gate,
    /// Where it is told what clients do that nobody does in good faith.
    pub offences: Offences,
    /// This node's place among the others; changes while the data plane runs.
    pub mesh: Mesh,
}

impl Settings {
    /// The CPU that a worker stays on.
    pub fn cpu_of(&self, worker: usize) -> Option<usize> {
        self.cpus.iter().cycle().nth(worker).copied()
    }
}

/// One entry point.
#[derive(Clone, Debug)]
pub struct EntryPoint {
    /// Position among the entry points.
    pub id: EntryPointId,
    /// Name in metrics and logs.
    pub name: Arc<str>,
    /// What comes in here: connections, for HTTP and TCP routers, or datagrams, for UDP routers.
    pub protocol: Protocol,
    /// Addresses to listen on; port 0 picks a free one.
    pub addresses: Vec<SocketAddr>,
    /// The key an operator changes when the address is taken (`entryPoints.web.address`).
    pub key: Arc<str>,
    /// Whose `X-Forwarded-*` are believed.
    pub forwarded: ForwardedHeaders,
    /// Whose PROXY protocol headers are read.
    pub proxy_protocol: ProxyProtocolTrust,
    /// Limits and deadlines towards clients.
    pub limits: Limits,
    /// Connections that TCP routers forward.
    pub tcp: TcpSettings,
    /// Sessions of UDP routers; without meaning for [`Protocol::Tcp`].
    pub udp: UdpSettings,
    /// Clients without a limit per source, beside those of `forwarded.trusted_ips`.
    pub exempt_sources: Vec<IpNet>,
    /// TLS options of routers that name none.
    pub default_tls_options: Arc<str>,
    /// Until when new clients are taken; changes while the data plane runs.
    pub tenure: Tenure,
    /// Whether another program of this user may have the same ports.
    pub shared: bool,
    /// Whether requests come from a proxy in front and name their service in their path ([`crate::named`]); they are served
    /// whoever holds the edge.
    pub by_service: bool,
}

/// What an entry point takes. An entry point takes one of them, as in Traefik; the same port may be taken by two entry
/// points, one of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Connections: HTTP, and what TCP routers forward.
    #[default]
    Tcp,
    /// Datagrams: what UDP routers forward.
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

/// Traefik's `proxyProtocol` of an entry point. A header from anybody else ends the connection; but where plain TCP
/// routers are all there is, nothing is read before the back end is connected, and the bytes are the connection's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyProtocolTrust {
    /// Believe everybody.
    pub insecure: bool,
    /// Believe these peers.
    pub trusted_ips: Vec<IpNet>,
}

impl ProxyProtocolTrust {
    /// Whether there is anybody whose header is read. Where there is, a header of anybody else is refused.
    pub fn is_in_use(&self) -> bool {
        self.insecure || !self.trusted_ips.is_empty()
    }

    /// Whether a header of this peer is read.
    pub fn trusts(&self, peer: std::net::IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.insecure || self.trusted_ips.iter().any(|network| network.contains(&peer))
    }
}

/// Limits of the connections that TCP routers forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpSettings {
    /// Longest silence in both directions before a connection is ended; `None`, the default: no limit. Pools of database
    /// connections and shells are silent for hours and alive, and peers that are gone are found by TCP keep-alive.
    pub idle_timeout: Option<Duration>,
}

/// Limits of the sessions of a UDP entry point. A session is what one client address and port sends and gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpSettings {
    /// Longest silence in both directions before a session is forgotten (Traefik `udp.timeout`, default 3 s).
    pub timeout: Duration,
    /// Sessions at once; a further one takes the place of another. Default 65,536.
    pub max_sessions: usize,
    /// Sessions at once of one IPv4 address or one IPv6 /64. Default 16,384, a quarter of all, as for connections;
    /// `None`: no limit.
    pub max_sessions_per_source: Option<usize>,
}

impl Default for UdpSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(3),
            max_sessions: 65_536,
            max_sessions_per_source: Some(16_384),
        }
    }
}

/// Traefik's `forwardedHeaders`.
#[derive(Clone, Debug, Default)]
pub struct ForwardedHeaders {
    /// Believe everybody.
    pub insecure: bool,
    /// Believe these peers.
    pub trusted_ips: Vec<IpNet>,
}

/// Limits towards clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From accept (or the end of the previous request's response) to the last byte of the next request's headers;
    /// 408 and close past it. Default 10 s.
    pub header_timeout: Duration,
    /// Longest pause while reading a request body (Traefik `readTimeout`, default 60 s); `None`: no limit.
    pub read_timeout: Option<Duration>,
    /// Longest pause while the client does not take response bytes (Traefik `writeTimeout`, default none).
    pub write_timeout: Option<Duration>,
    /// Keep-alive between requests (Traefik `idleTimeout`, default 180 s).
    pub idle_timeout: Duration,
    /// TLS handshake, default 10 s.
    pub handshake_timeout: Duration,
    /// Request line and headers together, bytes (Traefik `maxHeaderBytes`, default 65,536 here); 431 past it.
    pub max_header_bytes: usize,
    /// Request header lines, default 100; 431 past it.
    pub max_headers: usize,
    /// Request body, bytes; `None`: no limit (the default); 413 past it.
    pub max_body_bytes: Option<u64>,
    /// Concurrent streams of one HTTP/2 connection (Traefik `maxConcurrentStreams`, default 250).
    pub max_concurrent_streams: u32,
    /// Connections open at once on this entry point; further ones are closed at once. Default 65,536.
    pub max_connections: usize,
    /// Connections open at once from one IPv4 address or one IPv6 /64; further ones are closed at once. Default 16,384.
    pub max_connections_per_source: Option<usize>,
    /// Slowest request body, bytes a second, while it is awaited and no response has begun; 408 below it. Default 240,
    /// as in Kestrel and IIS; `None`: no limit.
    pub min_body_rate: Option<NonZeroU32>,
    /// Slowest reader of a response, bytes a second, while there is something to send. Default 240; `None`: no limit.
    pub min_send_rate: Option<NonZeroU32>,
    /// How long a client may fall short of these rates; a faster one earns up to four times as much. Default 30 s.
    pub rate_grace: Duration,
    /// Requests served on one connection before it is closed; `None`: no limit.
    pub max_requests_per_connection: Option<u32>,
}

impl Limits {
    /// What is asked of request bodies.
    pub fn least_body(&self) -> Option<Least> {
        self.least(self.min_body_rate)
    }

    /// What is asked of readers of responses.
    pub fn least_send(&self) -> Option<Least> {
        self.least(self.min_send_rate)
    }

    fn least(&self, rate: Option<NonZeroU32>) -> Option<Least> {
        let grace = self.rate_grace;
        rate.map(|rate| Least { rate, grace })
    }
}

impl Limits {
    /// For connections of another proxy, which keeps to the limits towards clients itself.
    pub fn of_a_proxy() -> Self {
        Self {
            read_timeout: None,
            write_timeout: None,
            max_body_bytes: None,
            max_connections_per_source: None,
            min_body_rate: None,
            min_send_rate: None,
            max_requests_per_connection: None,
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            read_timeout: Some(Duration::from_secs(60)),
            write_timeout: None,
            idle_timeout: Duration::from_secs(180),
            handshake_timeout: Duration::from_secs(10),
            max_header_bytes: 65_536,
            max_headers: 100,
            max_body_bytes: None,
            max_concurrent_streams: 250,
            max_connections: 65_536,
            max_connections_per_source: Some(16_384),
            min_body_rate: NonZeroU32::new(240),
            min_send_rate: NonZeroU32::new(240),
            rate_grace: Duration::from_secs(30),
            max_requests_per_connection: None,
        }
    }
}
