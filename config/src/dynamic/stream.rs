//! The `tcp` and `udp` sections of a document.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CertificatePair, Domain, OfServices, WeightedService};

/// The `tcp` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Tcp {
    /// Routers by name.
    pub routers: BTreeMap<String, Arc<TcpRouter>>,
    /// Services by name.
    pub services: BTreeMap<String, Arc<TcpService>>,
    /// Middlewares by name.
    pub middlewares: BTreeMap<String, TcpMiddleware>,
    /// How services reach their servers.
    pub servers_transports: BTreeMap<String, TcpServersTransport>,
}

/// A TCP router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpRouter {
    /// Names of entry points; empty means all default ones that are for TCP.
    pub entry_points: Vec<String>,
    /// Middlewares in running order.
    pub middlewares: Vec<String>,
    /// The service, `NAME` or `NAME@PROVIDER`.
    pub service: String,
    /// The rule in v3 syntax: `HostSNI`, `HostSNIRegexp`, `ALPN`, `ClientIP`.
    pub rule: String,
    /// Deprecated in Traefik; only `v3` is accepted.
    pub rule_syntax: Option<String>,
    /// Explicit priority; 0 means the byte length of the rule, -1 for ``HostSNI(`*`)``.
    pub priority: i64,
    /// Present: a TLS router.
    pub tls: Option<TcpRouterTls>,
}

/// `tls` of a TCP router; `tls: true` and `tls: {}` give the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpRouterTls {
    /// The TLS goes to the server as it is.
    pub passthrough: bool,
    /// Name of the TLS options.
    pub options: Option<String>,
    /// Name of the certificate resolver.
    pub cert_resolver: Option<String>,
    /// Domains to ask certificates for.
    pub domains: Vec<Domain>,
}

/// A TCP service: exactly one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpService {
    /// Servers behind one name.
    pub load_balancer: Option<TcpLoadBalancer>,
    /// Weighted choice between services.
    pub weighted: Option<StreamWeighted>,
}

/// `loadBalancer` of a TCP service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpLoadBalancer {
    /// The servers.
    pub servers: Vec<TcpServer>,
    /// Name of the transport, `NAME` or `NAME@PROVIDER`.
    pub servers_transport: Option<String>,
    /// Tells the servers whose connection it is. Deprecated in Traefik in favour of the transport's.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Milliseconds for which the client or the server may be silent once the other one has ended what it sends; below
    /// 0: no limit. Deprecated in Traefik in favour of the transport's.
    pub termination_delay: Option<i64>,
    /// Active checks.
    pub health_check: Option<TcpHealthCheck>,
}

/// `proxyProtocol` towards servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyProtocol {
    /// 1 or 2 (default).
    pub version: Option<i64>,
}

/// One server of a TCP service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpServer {
    /// Host and port; an IPv6 address in brackets.
    pub address: String,
    /// Whether TLS is spoken with it.
    pub tls: bool,
}

/// `healthCheck` of a TCP service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpHealthCheck {
    /// Instead of the server's.
    pub port: Option<i64>,
    /// What is sent once connected.
    pub send: Option<String>,
    /// What the answer has to begin with.
    pub expect: Option<String>,
    /// Default 30s.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub interval: Option<String>,
    /// While unhealthy; default `interval`.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub unhealthy_interval: Option<String>,
    /// Default 5s.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub timeout: Option<String>,
}

/// `weighted` of TCP and UDP services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamWeighted {
    /// The services.
    pub services: Vec<WeightedService>,
    /// Present: a service without a healthy server is left out, which here always is so.
    pub health_check: Option<OfServices>,
}

/// A TCP middleware: exactly one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpMiddleware {
    /// Lets only these clients in.
    pub ip_allow_list: Option<TcpIpAllowList>,
    /// The deprecated name of `ipAllowList`.
    pub ip_white_list: Option<TcpIpAllowList>,
    /// Lets so many connections of one client address in at once.
    pub in_flight_conn: Option<TcpInFlightConn>,
}

/// `ipAllowList`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpIpAllowList {
    /// Addresses and networks.
    pub source_range: Vec<String>,
}

/// `inFlightConn`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpInFlightConn {
    /// Connections of one client address at once; 0 lets nobody in.
    pub amount: i64,
}

/// `tcp.serversTransports`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpServersTransport {
    /// Default 30s.
    #[schemars(extend("format" = "go-duration"))]
    pub dial_timeout: Option<String>,
    /// Between probes of a silent connection; default 15s, 0: none.
    #[schemars(extend("format" = "go-duration"))]
    pub dial_keep_alive: Option<String>,
    /// For how long the client or the server may be silent once the other one has ended what it sends; below 0: no limit.
    /// Default: that of `tcpServersTransport`.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub termination_delay: Option<String>,
    /// Tells the servers whose connection it is.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// TLS with servers that have `tls`.
    pub tls: Option<TcpTransportTls>,
}

/// `tls` of a transport.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpTransportTls {
    /// SNI and certificate name.
    pub server_name: Option<String>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
    /// Trust anchors: files or inline PEM.
    #[serde(rename = "rootCAs")]
    pub root_cas: Vec<String>,
    /// Client certificates: files or inline PEM.
    pub certificates: Vec<CertificatePair>,
    /// Not supported: names a SPIFFE identity.
    #[serde(rename = "peerCertURI")]
    pub peer_cert_uri: Option<String>,
    /// Not supported.
    pub spiffe: Option<serde_json::Value>,
}

/// The `udp` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Udp {
    /// Routers by name.
    pub routers: BTreeMap<String, Arc<UdpRouter>>,
    /// Services by name.
    pub services: BTreeMap<String, Arc<UdpService>>,
}

/// A UDP router: everything of its entry points goes to its service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct UdpRouter {
    /// Names of entry points; empty means all that are for UDP.
    pub entry_points: Vec<String>,
    /// The service, `NAME` or `NAME@PROVIDER`.
    pub service: String,
}

/// A UDP service: exactly one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct UdpService {
    /// Servers behind one name.
    pub load_balancer: Option<UdpLoadBalancer>,
    /// Weighted choice between services.
    pub weighted: Option<StreamWeighted>,
}

/// `loadBalancer` of a UDP service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct UdpLoadBalancer {
    /// The servers.
    pub servers: Vec<UdpServer>,
}

/// One server of a UDP service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct UdpServer {
    /// Host and port; an IPv6 address in brackets.
    pub address: String,
}
