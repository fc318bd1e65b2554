//! `entryPoints` as written.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Time, network_list};
use crate::dynamic::Domain;
use crate::resolved::{Limits, Redirection, Shutdown, Timeouts, Udp};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawEntryPoint {
    /// IP address and port to listen on, or a list of them; `:80` is port 80 of every address, port 0 a free port. With
    /// `/udp` behind it (`:53/udp`) the entry point takes datagrams for UDP routers; `/tcp`, or nothing, is connections
    /// for HTTP and TCP routers. An entry point takes one of both, and the same port may stand in two entry points. Beside
    /// an address of their family, networks are possible, too: `10.1.0.0/16:443`, `[fd00::]/64:443`. Those need steering
    /// (`edge.steering`) and are for connections only; of several that match, the longest prefix counts.
    pub(crate) address: Vec<String>,
    /// Whether HTTP and TCP routers that name no entry point are reached here. When none of the entry points says so, all
    /// are that take connections. UDP routers that name none are reached on all entry points that take datagrams.
    pub(crate) as_default: bool,
    /// Whose `X-Forwarded-*` headers are believed; those of others are removed.
    pub(crate) forwarded_headers: RawForwardedHeaders,
    /// What happens to HTTP requests.
    pub(crate) http: RawHttp,
    /// HTTP/2 towards clients.
    pub(crate) http2: RawHttp2,
    /// Limits towards clients; what passes them is refused and the connection closed.
    pub(crate) limits: RawLimits,
    /// Whose PROXY protocol headers are read, version 1 and 2. From others they are bytes like any, which no protocol
    /// takes. A peer that is believed may also connect without one.
    pub(crate) proxy_protocol: RawProxyProtocol,
    /// Whether the port may be shared with another program of the same user that shares it, too, such as a Traefik with its own
    /// `reusePort` while one takes over from the other: the kernel spreads new connections over both. Otherwise a port that
    /// somebody else has is an error.
    pub(crate) reuse_port: bool,
    /// Time limits and shutdown.
    pub(crate) transport: RawTransport,
    /// Sessions of UDP clients.
    pub(crate) udp: RawUdp,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawProxyProtocol {
    /// Believe everybody.
    pub(crate) insecure: bool,
    /// Believe these addresses and networks.
    #[serde(rename = "trustedIPs")]
    #[schemars(schema_with = "network_list")]
    pub(crate) trusted_ips: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawUdp {
    /// Longest silence of a client and its server, more than 0; then the client's next datagram begins a new session.
    pub(crate) timeout: Time,
}

impl Default for RawUdp {
    fn default() -> Self {
        Self {
            timeout: Udp::default().timeout.into(),
        }
    }
}

impl RawEntryPoint {
    /// What a configuration without `entryPoints` has.
    pub(crate) fn defaults() -> BTreeMap<String, Self> {
        let at = |address: &str| Self {
            address: vec![address.to_owned()],
            ..Self::default()
        };
        let mut websecure = at(":443");
        websecure.http.tls = Some(RawEntryPointTls::default());
        [("web".to_owned(), at(":80")), ("websecure".to_owned(), websecure)].into()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawForwardedHeaders {
    /// Believe everybody.
    pub(crate) insecure: bool,
    /// Believe these addresses and networks.
    #[serde(rename = "trustedIPs")]
    #[schemars(schema_with = "network_list")]
    pub(crate) trusted_ips: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawHttp {
    /// Request line and headers together, bytes, 1024 to 16777216; 431 past it.
    #[schemars(range(min = 1024, max = 16_777_216))]
    pub(crate) max_header_bytes: u32,
    /// Middlewares that every router here runs before its own, `NAME@PROVIDER` (`auth@file`); a NAME alone is one of the
    /// router's own provider.
    pub(crate) middlewares: Vec<String>,
    /// Redirections.
    pub(crate) redirections: RawRedirections,
    /// TLS for routers here that have no `tls` of their own; `tls: {}` or `tls: true` for the defaults.
    pub(crate) tls: Option<RawEntryPointTls>,
}

impl Default for RawHttp {
    fn default() -> Self {
        Self {
            max_header_bytes: u32::try_from(Limits::default().max_header_bytes).unwrap_or(u32::MAX),
            middlewares: Vec::new(),
            redirections: RawRedirections::default(),
            tls: None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawRedirections {
    /// Send every request elsewhere that no router of higher priority takes.
    pub(crate) entry_point: Option<RawRedirection>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawRedirection {
    /// Name of another entry point, or a port such as `:8443`.
    pub(crate) to: String,
    /// `http` or `https`.
    pub(crate) scheme: String,
    /// Permanent (301, 308) rather than temporary (302, 307).
    pub(crate) permanent: bool,
    /// Priority of the redirecting router.
    pub(crate) priority: i64,
}

impl Default for RawRedirection {
    fn default() -> Self {
        Self {
            to: String::new(),
            scheme: "https".to_owned(),
            permanent: true,
            priority: Redirection::DEFAULT_PRIORITY,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawEntryPointTls {
    /// Name of the TLS options; null: those named `default`.
    pub(crate) options: Option<String>,
    /// Name of the certificate resolver. Kept, and without effect until certificates are ordered by this program.
    pub(crate) cert_resolver: Option<String>,
    /// Names to order certificates for, likewise: a list of `main` and `sans`.
    pub(crate) domains: Vec<Domain>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawHttp2 {
    /// Concurrent streams of one connection, 1 to 100000.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) max_concurrent_streams: u32,
}

impl Default for RawHttp2 {
    fn default() -> Self {
        Self {
            max_concurrent_streams: Limits::default().max_concurrent_streams,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawLimits {
    /// Time for the whole of a request's headers, more than 0; 408 past it.
    pub(crate) header_timeout: Time,
    /// Time for the TLS handshake, more than 0.
    pub(crate) handshake_timeout: Time,
    /// Request header lines, 1 to 10000; 431 past it.
    #[schemars(range(min = 1, max = 10_000))]
    pub(crate) max_headers: u32,
    /// Request body, bytes; 0: no limit; 413 past it.
    pub(crate) max_body_bytes: u64,
    /// Connections open at once, 1 to 10000000; further ones are closed at once.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(crate) max_connections: u32,
    /// Connections open at once from one IPv4 address or one IPv6 /64 network; 0: no limit. Further ones are closed at
    /// once. Those of `forwardedHeaders.trustedIPs` and `proxyProtocol.trustedIPs` have no such limit.
    #[schemars(range(max = 10_000_000))]
    pub(crate) max_connections_per_source: u32,
    /// Further addresses and networks without a limit per source.
    #[schemars(schema_with = "network_list")]
    pub(crate) exempt_sources: Vec<String>,
    /// Slowest request body, bytes a second, while we wait for it and no response has begun; 0: no limit. 408 below it.
    #[schemars(range(max = 1_000_000_000))]
    pub(crate) min_body_rate: u32,
    /// Slowest reader of a response, bytes a second, while there is something to send; 0: no limit. The connection (the
    /// stream, in HTTP/2) is ended below it.
    #[schemars(range(max = 1_000_000_000))]
    pub(crate) min_send_rate: u32,
    /// How long a client may fall short of both rates, 1s to 1h. A faster client earns up to four times as much.
    pub(crate) rate_grace: Time,
    /// Longest silence in both directions of a connection that a TCP router forwards; 0: no limit. Pools of database
    /// connections and shells are silent for hours; peers that are gone are found by TCP keep-alive without it.
    pub(crate) tcp_idle_timeout: Time,
    /// Sessions of UDP clients at once, 1 to 10000000; a further one takes the place of another.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(crate) udp_max_sessions: u32,
    /// Sessions at once of one IPv4 address or one IPv6 /64 network; 0: no limit.
    #[schemars(range(max = 10_000_000))]
    pub(crate) udp_max_sessions_per_source: u32,
}

impl Default for RawLimits {
    fn default() -> Self {
        let (limits, timeouts, udp) = (Limits::default(), Timeouts::default(), Udp::default());
        Self {
            header_timeout: timeouts.header.into(),
            handshake_timeout: timeouts.handshake.into(),
            max_headers: u32::try_from(limits.max_headers).unwrap_or(u32::MAX),
            max_body_bytes: limits.max_body_bytes.unwrap_or_default(),
            max_connections: u32::try_from(limits.max_connections).unwrap_or(u32::MAX),
            max_connections_per_source: limits
                .max_connections_per_source
                .map_or(0, |most| u32::try_from(most).unwrap_or(u32::MAX)),
            exempt_sources: Vec::new(),
            min_body_rate: limits.min_body_rate.map_or(0, NonZeroU32::get),
            min_send_rate: limits.min_send_rate.map_or(0, NonZeroU32::get),
            rate_grace: limits.rate_grace.into(),
            tcp_idle_timeout: timeouts.tcp_idle.into(),
            udp_max_sessions: u32::try_from(udp.max_sessions).unwrap_or(u32::MAX),
            udp_max_sessions_per_source: udp
                .max_sessions_per_source
                .map_or(0, |most| u32::try_from(most).unwrap_or(u32::MAX)),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawTransport {
    /// Pauses that clients may make.
    pub(crate) responding_timeouts: RawRespondingTimeouts,
    /// What SIGTERM does. One node stops as a whole: the longest time of all entry points counts for all.
    pub(crate) life_cycle: RawLifeCycle,
    /// Requests served on one connection before it is closed; 0: no limit.
    pub(crate) keep_alive_max_requests: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawRespondingTimeouts {
    /// Longest pause while a request body is read; 0: no limit.
    pub(crate) read_timeout: Time,
    /// Longest pause while the client takes no response bytes; 0: no limit.
    pub(crate) write_timeout: Time,
    /// How long a connection may wait for its next request; 0: no limit.
    pub(crate) idle_timeout: Time,
}

impl Default for RawRespondingTimeouts {
    fn default() -> Self {
        let timeouts = Timeouts::default();
        Self {
            read_timeout: timeouts.read.into(),
            write_timeout: timeouts.write.into(),
            idle_timeout: timeouts.idle.into(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawLifeCycle {
    /// How long requests are still accepted, while health already says that the node is going.
    pub(crate) request_accept_grace_timeout: Time,
    /// How long requests and WebSockets may take to finish after that.
    pub(crate) grace_time_out: Time,
}

impl Default for RawLifeCycle {
    fn default() -> Self {
        let shutdown = Shutdown::default();
        Self {
            request_accept_grace_timeout: shutdown.accept_grace.into(),
            grace_time_out: shutdown.drain.into(),
        }
    }
}
