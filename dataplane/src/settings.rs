//! What the data plane is told at start; fixed for the life of the process.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use constellation_table::EntryPointId;
use ipnet::IpNet;

/// Settings of the whole data plane.
#[derive(Clone, Debug)]
pub struct Settings {
    /// One entry per configured entry point; the position is its [`EntryPointId`].
    pub entry_points: Vec<EntryPoint>,
    /// Worker threads, each with its own runtime, listeners and upstream pool.
    pub workers: NonZeroUsize,
    /// How long SIGTERM lets requests and WebSockets finish.
    pub drain: Duration,
    /// Answer requests with `X-Constellation-Endpoint` and friends only for these clients (empty: nobody).
    pub served_by_for: Vec<IpNet>,
}

/// One HTTP entry point.
#[derive(Clone, Debug)]
pub struct EntryPoint {
    /// Position among the entry points.
    pub id: EntryPointId,
    /// Name in metrics and logs.
    pub name: Arc<str>,
    /// Addresses to listen on; port 0 picks a free one.
    pub addresses: Vec<SocketAddr>,
    /// The key an operator changes when the address is taken (`entryPoints.web.address`).
    pub key: Arc<str>,
    /// Whose `X-Forwarded-*` are believed.
    pub forwarded: ForwardedHeaders,
    /// Limits and deadlines towards clients.
    pub limits: Limits,
    /// TLS options of routers that name none.
    pub default_tls_options: Arc<str>,
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
    /// Requests served on one connection before it is closed; `None`: no limit.
    pub max_requests_per_connection: Option<u32>,
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
            max_requests_per_connection: None,
        }
    }
}
