//! Traefik's dynamic configuration: the common language of labels, files and outputs.
//!
//! [`parse`] reads a document, [`from_labels`] a tree made from labels. These types mirror Traefik 3.7's document. Sources produce them, `compile` (in the agent) reads them. Names are as
//! written: without a provider suffix for what the document defines, with one (`x@file`) where it refers elsewhere.

mod layered;
mod middleware;
mod options;
mod parse;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use layered::Layered;
pub use middleware::*;
pub use options::*;
pub use parse::{Salvaged, from_labels, options_from_labels, parse};
pub use stream::*;

/// The JSON schema of a document, for editors.
pub fn schema() -> serde_json::Value {
    crate::schema::published(schemars::schema_for!(Dynamic).to_value())
}

/// One document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Dynamic {
    /// HTTP routers, services, middlewares and transports.
    pub http: Http,
    /// TCP routers, services, middlewares and transports.
    pub tcp: Tcp,
    /// UDP routers and services.
    pub udp: Udp,
    /// Certificates, stores and options.
    pub tls: Tls,
    /// Options that Traefik has not.
    pub constellation: Extensions,
}

/// The `http` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Http {
    /// Routers by name; shared between the readings in which they are the same.
    pub routers: BTreeMap<String, Arc<Router>>,
    /// Services by name; shared like routers.
    pub services: BTreeMap<String, Arc<Service>>,
    /// Middlewares by name; shared like routers.
    pub middlewares: BTreeMap<String, Arc<Middleware>>,
    /// How services reach their servers.
    pub servers_transports: BTreeMap<String, ServersTransport>,
}

/// An HTTP router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Router {
    /// Names of entry points; empty means all default ones.
    pub entry_points: Vec<String>,
    /// Middlewares in running order.
    pub middlewares: Vec<String>,
    /// The service, `NAME` or `NAME@PROVIDER`.
    pub service: String,
    /// The rule in v3 syntax.
    pub rule: String,
    /// Deprecated in Traefik; only `v3` is accepted.
    pub rule_syntax: Option<String>,
    /// Explicit priority; 0 means the byte length of the rule.
    pub priority: i64,
    /// Present: a TLS router.
    pub tls: Option<RouterTls>,
    /// Per-router observability switches.
    pub observability: Option<Observability>,
}

/// `tls` of a router; `tls: true` and `tls: {}` give the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct RouterTls {
    /// Name of the TLS options.
    pub options: Option<String>,
    /// Name of the certificate resolver.
    pub cert_resolver: Option<String>,
    /// Domains to ask certificates for.
    pub domains: Vec<Domain>,
}

/// A certificate's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Domain {
    /// Main name.
    pub main: String,
    /// Other names.
    pub sans: Vec<String>,
}

/// `observability` of a router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Observability {
    /// Write access log lines.
    pub access_logs: Option<bool>,
    /// Count in metrics.
    pub metrics: Option<bool>,
    /// Trace.
    pub tracing: Option<bool>,
    /// `minimal` or `detailed`.
    pub trace_verbosity: Option<String>,
}

/// A service: exactly one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Servers behind one name.
    pub load_balancer: Option<LoadBalancer>,
    /// Weighted choice between services.
    pub weighted: Option<Weighted>,
    /// The same client to the same service.
    pub highest_random_weight: Option<HighestRandomWeight>,
    /// Copies of requests.
    pub mirroring: Option<Mirroring>,
    /// A fallback service.
    pub failover: Option<Failover>,
    /// Middlewares of the service.
    pub middlewares: Vec<String>,
}

/// `loadBalancer`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadBalancer {
    /// The servers.
    pub servers: Vec<Server>,
    /// `wrr` (default), `p2c`, `hrw`, `leasttime`.
    pub strategy: Option<String>,
    /// Sticky sessions.
    pub sticky: Option<Sticky>,
    /// Active checks.
    pub health_check: Option<HealthCheck>,
    /// What is learned from live traffic.
    pub passive_health_check: Option<PassiveHealthCheck>,
    /// Whether the client's `Host` goes to the server; default true.
    pub pass_host_header: Option<bool>,
    /// Flushing.
    pub response_forwarding: Option<ResponseForwarding>,
    /// Name of the transport, `NAME` or `NAME@PROVIDER`.
    pub servers_transport: Option<String>,
}

/// `sticky`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Sticky {
    /// The cookie; without one nothing is sticky.
    pub cookie: Option<Cookie>,
}

/// `sticky.cookie`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Cookie {
    /// Its name; by default made of the service's.
    pub name: Option<String>,
    /// `Secure`.
    pub secure: bool,
    /// `HttpOnly`.
    pub http_only: bool,
    /// `none`, `lax` or `strict`.
    pub same_site: Option<String>,
    /// Seconds; 0: until the browser ends, below 0: deleted at once.
    pub max_age: i64,
    /// Default `/`.
    pub path: Option<String>,
    /// `Domain`.
    pub domain: Option<String>,
}

/// `healthCheck` of servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthCheck {
    /// `http` or `https` instead of the server's.
    pub scheme: Option<String>,
    /// `http` (default) or `grpc`.
    pub mode: Option<String>,
    /// Request target.
    pub path: Option<String>,
    /// Default GET.
    pub method: Option<String>,
    /// The status that means healthy; default 200 to 399.
    pub status: Option<i64>,
    /// Instead of the server's.
    pub port: Option<i64>,
    /// Default 30s.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub interval: Option<String>,
    /// While unhealthy; default `interval`.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub unhealthy_interval: Option<String>,
    /// Default 5s.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub timeout: Option<String>,
    /// `Host` header.
    pub hostname: Option<String>,
    /// Default true.
    pub follow_redirects: Option<bool>,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
}

/// `passiveHealthCheck`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PassiveHealthCheck {
    /// Time in which failures add up, and for which a server is then left alone; default 10s.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub failure_window: Option<String>,
    /// Default 1.
    pub max_failed_attempts: Option<i64>,
}

/// `responseForwarding`: without effect, responses are always passed on as they come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ResponseForwarding {
    /// Default 100ms.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub flush_interval: Option<String>,
}

/// `weighted`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Weighted {
    /// The services.
    pub services: Vec<WeightedService>,
    /// Keeps a client at its service.
    pub sticky: Option<Sticky>,
    /// Present: a service without a healthy server is left out.
    pub health_check: Option<OfServices>,
}

/// A service with its share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct WeightedService {
    /// `NAME` or `NAME@PROVIDER`.
    pub name: String,
    /// Default 1; 0 takes nothing.
    pub weight: Option<i64>,
}

/// `healthCheck` of services: it has no options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OfServices {}

/// `highestRandomWeight`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct HighestRandomWeight {
    /// The services.
    pub services: Vec<WeightedService>,
    /// Present: a service without a healthy server is left out.
    pub health_check: Option<OfServices>,
}

/// `mirroring`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Mirroring {
    /// The service that answers.
    pub service: String,
    /// Whether copies have the body; default true.
    pub mirror_body: Option<bool>,
    /// Largest body that is copied, bytes; default -1: any.
    pub max_body_size: Option<i64>,
    /// Who gets copies.
    pub mirrors: Vec<Mirror>,
    /// Present: the health of `service` counts as this one's.
    pub health_check: Option<OfServices>,
}

/// A service that gets copies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Mirror {
    /// `NAME` or `NAME@PROVIDER`.
    pub name: String,
    /// Share of the requests, 0 to 100; default 0.
    pub percent: i64,
}

/// `failover`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Failover {
    /// The service that is used while it can be.
    pub service: String,
    /// The one that stands in.
    pub fallback: String,
    /// Present: the fallback's health counts for services above this one.
    pub health_check: Option<OfServices>,
    /// Answers of `service` that are replaced by the fallback's.
    pub errors: Option<FailoverErrors>,
}

/// `failover.errors`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct FailoverErrors {
    /// Largest request body that is kept for the fallback, bytes; default -1: any.
    pub max_request_body_bytes: Option<i64>,
    /// Statuses and ranges of them, such as 503 and 500-599.
    pub status: Vec<String>,
}

/// One server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Server {
    /// `http://`, `https://` or `h2c://`, host, optional port.
    pub url: String,
    /// Relative weight; default 1.
    pub weight: Option<u32>,
    /// Keep the URL's path in front of the request's.
    pub preserve_path: bool,
}

/// `serversTransports`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ServersTransport {
    /// SNI and certificate name.
    pub server_name: Option<String>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
    /// Trust anchors: files or inline PEM.
    #[serde(rename = "rootCAs")]
    pub root_cas: Vec<String>,
    /// Client certificates: files or inline PEM.
    pub certificates: Vec<CertificatePair>,
    /// Idle connections per host.
    pub max_idle_conns_per_host: Option<u32>,
    /// Time limits.
    pub forwarding_timeouts: Option<ForwardingTimeouts>,
    /// Never HTTP/2.
    #[serde(rename = "disableHTTP2")]
    pub disable_http2: bool,
}

/// `forwardingTimeouts`: durations that [`crate::duration::parse`] reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ForwardingTimeouts {
    /// Default 30s.
    #[schemars(extend("format" = "go-duration"))]
    pub dial_timeout: Option<String>,
    /// Default 0: none.
    #[schemars(extend("format" = "go-duration"))]
    pub response_header_timeout: Option<String>,
    /// Default 90s.
    #[schemars(extend("format" = "go-duration"))]
    pub idle_conn_timeout: Option<String>,
}

/// The `tls` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// Certificates, chosen by the names inside.
    pub certificates: Vec<CertificatePair>,
    /// TLS options by name; `default` applies where none is named.
    pub options: BTreeMap<String, TlsOptions>,
    /// Stores by name; only `default` is used.
    pub stores: BTreeMap<String, TlsStore>,
}

/// A certificate and its key, each a file path or inline PEM.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificatePair {
    /// Chain.
    pub cert_file: String,
    /// Key. Inline PEM is neither printed nor serialised.
    #[serde(serialize_with = "without_pem")]
    pub key_file: String,
    /// Stores; accepted and ignored but for `default`.
    pub stores: Vec<String>,
}

/// A path as it is, inline PEM redacted.
fn printable(key_file: &str) -> &str {
    if key_file.contains("-----BEGIN") {
        "[redacted]"
    } else {
        key_file
    }
}

fn without_pem<S: serde::Serializer>(key_file: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(printable(key_file))
}

impl std::fmt::Debug for CertificatePair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = printable(&self.key_file);
        f.debug_struct("CertificatePair")
            .field("cert_file", &self.cert_file)
            .field("key_file", &key)
            .finish()
    }
}

/// `tls.options.NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsOptions {
    /// `VersionTLS12` (default) or `VersionTLS13`; older ones are refused.
    pub min_version: Option<String>,
    /// `VersionTLS12` or `VersionTLS13`.
    pub max_version: Option<String>,
    /// Cipher suites by Go's names.
    pub cipher_suites: Vec<String>,
    /// Key exchange groups.
    pub curve_preferences: Vec<String>,
    /// Client certificates.
    pub client_auth: Option<ClientAuth>,
    /// Refuse names without a certificate.
    pub sni_strict: bool,
    /// Default `h2`, `http/1.1`.
    pub alpn_protocols: Option<Vec<String>>,
    /// No session tickets.
    pub disable_session_tickets: bool,
    /// Deprecated and without effect in Traefik.
    pub prefer_server_cipher_suites: Option<bool>,
}

/// `clientAuth`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientAuth {
    /// CA files or inline PEM.
    pub ca_files: Vec<String>,
    /// `NoClientCert`, `RequestClientCert`, `RequireAnyClientCert`, `VerifyClientCertIfGiven`,
    /// `RequireAndVerifyClientCert`.
    pub client_auth_type: Option<String>,
}

/// `tls.stores.NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsStore {
    /// The certificate for names without one.
    pub default_certificate: Option<CertificatePair>,
    /// ACME default certificate, kept as written.
    pub default_generated_cert: Option<serde_json::Value>,
}
