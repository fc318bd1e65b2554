//! Services and endpoints: what a route points at.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderValue;

use crate::Policy;
use crate::balance::{Held, Sticky, identities};
use crate::live::{Live, ServiceLive};
use crate::policy::Balance;
use crate::view::Current;

mod succession;

pub use succession::Departure;

/// A load-balanced service: endpoints in a fixed order plus how to reach them.
///
/// Immutable but for what is known from moment to moment ([`ServiceLive`], [`Live`]), which is shared with the same-named
/// service of the previous generation, so that a configuration change forgets nothing and restarts no round robin.
#[derive(Debug)]
pub struct Service {
    /// The qualified name, `NAME@PROVIDER`.
    pub name: Arc<str>,
    /// All endpoints, also those that can't serve now, in definition order.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Whether the client's `Host` goes to the back end (Traefik's `passHostHeader`, default true).
    pub pass_host_header: bool,
    /// How the data plane reaches the endpoints.
    pub transport: Arc<Transport>,
    /// Seconds of `Retry-After` on the 503 answered while no endpoint can serve.
    pub retry_after: u32,
    /// Health, balancing, failover and limits.
    pub policy: Arc<Policy>,
    /// What is known of it from moment to moment; shared with the same-named service of other generations.
    pub live: Arc<ServiceLive>,
    pub(crate) current: Current,
    pub(crate) sticky: Option<Box<Sticky>>,
    /// What stands for each endpoint in consistent hashing; empty without it.
    pub(crate) identities: Box<[u64]>,
    /// What the data plane hangs on this service (counters), kept across generations with the service.
    pub slot: Slot,
}

/// What `compile` says of a service.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// The qualified name, `NAME@PROVIDER`.
    pub name: Arc<str>,
    /// Endpoints in definition order.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// See [`Service::pass_host_header`].
    pub pass_host_header: bool,
    /// See [`Service::transport`].
    pub transport: Arc<Transport>,
    /// See [`Service::retry_after`].
    pub retry_after: u32,
    /// See [`Service::policy`].
    pub policy: Arc<Policy>,
}

impl Service {
    /// Builds the service; `previous` is the same-named service of the last generation. Its live side goes on, and so
    /// does that of every endpoint that is the same one: of the same name, scheme, host and port.
    pub fn new(spec: ServiceSpec, previous: Option<&Service>) -> Self {
        let live = previous.map(|p| p.live.clone()).unwrap_or_default();
        let endpoints = match previous {
            Some(previous) => succession::adopt(spec.endpoints, &previous.endpoints),
            None => spec.endpoints,
        };
        if previous.is_some_and(|previous| previous.policy != spec.policy) {
            for endpoint in &endpoints {
                endpoint.live.keep_only(&spec.policy);
            }
        }
        Self {
            current: Current::new(
                &endpoints,
                &spec.policy,
                live.next_generation(),
                previous.is_none(),
            ),
            sticky: spec.policy.sticky.as_ref().map(|cookie| {
                let urls = endpoints.iter().map(|endpoint| &*endpoint.url_as_written);
                let peers = endpoints.iter().enumerate().filter_map(|(place, endpoint)| {
                    let peer = endpoint.peer.as_ref()?;
                    Some(peer.instances.iter().map(move |url| (&**url, place)))
                });
                Box::new(Sticky::new(cookie, urls).with_aliases(peers.flatten()))
            }),
            identities: match spec.policy.balance {
                Balance::Hash { .. } => identities(&endpoints),
                _ => Box::default(),
            },
            name: spec.name,
            endpoints,
            pass_host_header: spec.pass_host_header,
            transport: spec.transport,
            retry_after: spec.retry_after,
            policy: spec.policy,
            live,
            slot: Slot::default(),
        }
    }

    /// The value of `Set-Cookie` to be added when `endpoint` answers a request whose candidates said `carried`; `None`:
    /// the service has no sticky cookie, or the request carries the right one.
    pub fn set_cookie(&self, endpoint: &Endpoint, carried: Carried) -> Option<HeaderValue> {
        // The node that has the instances sets it.
        let sticky = self.sticky.as_ref().filter(|_| endpoint.peer.is_none())?;
        let own = |own: &Arc<Endpoint>| std::ptr::eq(&raw const **own, endpoint);
        sticky.set_cookie(self.endpoints.iter().position(own)?, carried.0)
    }
}

/// What the request's sticky cookie says, for [`Service::set_cookie`] once it is known who answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried(pub(crate) Option<Held>);

/// One back end of a service.
#[derive(Debug)]
pub struct Endpoint {
    /// What an operator recognises: the container's name, or the URL of a file's server.
    pub name: Arc<str>,
    /// Protocol towards the back end.
    pub scheme: Scheme,
    /// Host name or IP address literal without brackets.
    pub host: Box<str>,
    /// TCP port, 1 to 65535.
    pub port: u16,
    /// Path prefix of the server URL, kept only with Traefik's `preservePath`; empty otherwise.
    pub base_path: Box<str>,
    /// Share of requests relative to its siblings, 0 to 1,000,000; 0 takes no new request.
    pub weight: u32,
    /// Whether it can serve.
    pub condition: Condition,
    /// Its URL as the definition writes it: what sticky cookies and consistent hashing know it by.
    pub url_as_written: Box<str>,
    /// Where it is, seen from this node.
    pub locality: Locality,
    /// The node that has it, when it is reached through that node: `host` is the node's name then, and `port` 0.
    pub peer: Option<Arc<Peer>>,
    /// What is known of it from moment to moment; shared with the same endpoint of other generations.
    pub live: Arc<Live>,
    /// What the data plane hangs on this endpoint (peer template, counters), kept across generations with it.
    pub slot: Slot,
}

/// What `compile` says of an endpoint; an unchanged spec keeps the endpoint (and its slot) of the last generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    /// See [`Endpoint::name`].
    pub name: Arc<str>,
    /// See [`Endpoint::scheme`].
    pub scheme: Scheme,
    /// See [`Endpoint::host`].
    pub host: Box<str>,
    /// See [`Endpoint::port`].
    pub port: u16,
    /// See [`Endpoint::base_path`].
    pub base_path: Box<str>,
    /// See [`Endpoint::weight`].
    pub weight: u32,
    /// See [`Endpoint::condition`].
    pub condition: Condition,
    /// See [`Endpoint::url_as_written`]; empty: [`Endpoint::url`].
    pub url_as_written: Box<str>,
    /// See [`Endpoint::locality`].
    pub locality: Locality,
    /// See [`Endpoint::peer`].
    pub peer: Option<Arc<Peer>>,
}

/// The instances of a service at another node, which are one endpoint here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The node's name.
    pub node: Arc<str>,
    /// The service as that node names it, `NAME@PROVIDER`.
    pub service: Arc<str>,
    /// The URLs of its instances, as their definitions write them: what sticky cookies that it sets are made of.
    pub instances: Box<[Box<str>]>,
}

/// Where an endpoint is, seen from this node: smaller is nearer, and the nearest that can serve do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// How far away.
    pub reach: Reach,
    /// Among those equally far, the lowest goes first: its node's priority.
    pub priority: u32,
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reach {
            Reach::Node => "on this node",
            Reach::Region => "in this region",
            Reach::Elsewhere => "in another region",
            Reach::LastResort => "where all instances fail, as a last resort",
        })?;
        match self.priority {
            0 => Ok(()),
            priority => write!(f, ", priority {priority}"),
        }
    }
}

/// How far away an endpoint is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// On this node, or at an address that belongs to no node.
    #[default]
    Node,
    /// On another node of this region.
    Region,
    /// In another region.
    Elsewhere,
    /// On another node, whose instances run and fail: for when nobody else is left.
    LastResort,
}

/// Protocol spoken to an endpoint, from the scheme of its URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HTTP/1.1 in clear text.
    Http,
    /// HTTP/2 in clear text with prior knowledge.
    H2c,
    /// TLS; HTTP/2 when the back end offers it by ALPN and the transport allows it, else HTTP/1.1.
    Https,
    /// The bytes of TCP connections as they are. For TCP routers.
    Tcp,
    /// The same inside of TLS that begins here. For TCP routers.
    Tls,
    /// Datagrams. For UDP routers.
    Udp,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::H2c => "h2c",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Udp => "udp",
        })
    }
}

/// Whether an endpoint can take new requests, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Takes requests.
    Ready,
    /// Defined, but not to be used now; the text is shown by `routes`, `status` and `explain`
    /// (`container exited (137) 12 s ago`, `health check: starting`).
    Unavailable(Arc<str>),
    /// It leaves: no new requests, those that run finish. The text is shown like the other one's
    /// (`container is stopping`, `node is cordoned`).
    Draining(Arc<str>),
}

/// PEM text, as read.
pub type Pem = Arc<[u8]>;

/// How to reach the endpoints of a service: Traefik's `serversTransport`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Transport {
    /// The transport's qualified name; part of the pool key, so that trust domains never share a connection.
    pub name: Arc<str>,
    /// SNI and certificate name instead of the endpoint's host.
    pub server_name: Option<Box<str>>,
    /// Accept any certificate. Only by explicit choice of the operator.
    pub insecure_skip_verify: bool,
    /// Extra trust anchors, PEM. Empty: the system's roots.
    pub root_cas: Vec<Pem>,
    /// Client certificate chain and key, PEM.
    pub client_certificate: Option<(Pem, Pem)>,
    /// Never offer HTTP/2 by ALPN.
    pub disable_http2: bool,
    /// Idle connections kept per endpoint, over all workers; further ones close after a second. 0 means the data plane's default.
    pub max_idle_connections_per_host: u32,
    /// Time limits per phase.
    pub timeouts: Timeouts,
    /// What only TCP services have.
    pub stream: StreamTransport,
}

/// How a TCP service reaches its endpoints, beside TLS and the time to connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamTransport {
    /// The header that tells the endpoint who the client is; `None`: none is sent.
    pub proxy_protocol: Option<ProxyProtocolVersion>,
    /// Once one side has ended what it sends: the longest silence of the other before the connection is ended; `None`:
    /// no limit.
    pub termination_delay: Option<Duration>,
    /// Between two probes of TCP keep-alive towards the endpoint; `None`: it is not asked.
    pub dial_keep_alive: Option<Duration>,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyProtocolVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl fmt::Display for ProxyProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

/// Leaves out the bytes of keys and certificates.
impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("name", &self.name)
            .field("server_name", &self.server_name)
            .field("insecure_skip_verify", &self.insecure_skip_verify)
            .field("root_cas", &self.root_cas.len())
            .field("client_certificate", &self.client_certificate.is_some())
            .field("disable_http2", &self.disable_http2)
            .field(
                "max_idle_connections_per_host",
                &self.max_idle_connections_per_host,
            )
            .field("timeouts", &self.timeouts)
            .field("stream", &self.stream)
            .finish()
    }
}

/// Limits per phase; none of them caps a whole stream. `None` means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP connect and TLS handshake (Traefik `dialTimeout`, default 30 s).
    pub dial: Option<Duration>,
    /// From the request sent to the response headers (Traefik `responseHeaderTimeout`, default none).
    pub response_header: Option<Duration>,
    /// How long an idle connection stays in the pool (Traefik `idleConnTimeout`, default 90 s).
    pub idle: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            dial: Some(Duration::from_secs(30)),
            response_header: None,
            idle: Some(Duration::from_secs(90)),
        }
    }
}

impl Endpoint {
    /// An endpoint with an empty slot, of which nothing is known yet.
    pub fn new(spec: EndpointSpec) -> Self {
        Self::living(spec, Arc::default())
    }

    fn living(spec: EndpointSpec, live: Arc<Live>) -> Self {
        let mut endpoint = Self {
            name: spec.name,
            scheme: spec.scheme,
            host: spec.host,
            port: spec.port,
            base_path: spec.base_path,
            weight: spec.weight,
            condition: spec.condition,
            url_as_written: spec.url_as_written,
            locality: spec.locality,
            peer: spec.peer,
            live,
            slot: Slot::default(),
        };
        if endpoint.url_as_written.is_empty() {
            endpoint.url_as_written = endpoint.url().into();
        }
        endpoint
    }

    /// The endpoint as a URL: scheme, host (an IPv6 address in brackets), port, base path.
    ///
    /// That of another node's instances names the node and the service.
    pub fn url(&self) -> String {
        if let Some(peer) = &self.peer {
            return format!("mesh://{}/{}", peer.node, peer.service);
        }
        let (open, close) = if self.host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        format!(
            "{}://{open}{}{close}:{}{}",
            self.scheme, self.host, self.port, self.base_path
        )
    }

    /// Whether `spec` describes this very endpoint, so that it can be carried into the next generation.
    pub fn matches(&self, spec: &EndpointSpec) -> bool {
        self.name == spec.name
            && self.scheme == spec.scheme
            && self.host == spec.host
            && self.port == spec.port
            && self.base_path == spec.base_path
            && self.weight == spec.weight
            && self.condition == spec.condition
            && self.locality == spec.locality
            && self.peer == spec.peer
            && match &*spec.url_as_written {
                "" => *self.url_as_written == *self.url(),
                written => &*self.url_as_written == written,
            }
    }
}

impl Endpoint {
    /// The same endpoint with that live side, and an empty slot.
    fn with_live(&self, live: Arc<Live>) -> Self {
        let spec = EndpointSpec {
            name: self.name.clone(),
            scheme: self.scheme,
            host: self.host.clone(),
            port: self.port,
            base_path: self.base_path.clone(),
            weight: self.weight,
            condition: self.condition.clone(),
            url_as_written: self.url_as_written.clone(),
            locality: self.locality,
            peer: self.peer.clone(),
        };
        Self::living(spec, live)
    }
}

/// A write-once place for what another layer computes lazily about a router, service or endpoint.
///
/// The routing core never looks inside. It lives here because unchanged objects are carried from one generation to
/// the next, and what hangs on them (counters, peer templates) must move along without a lookup per request.
#[derive(Default)]
pub struct Slot(OnceLock<Box<dyn Any + Send + Sync>>);

impl Slot {
    /// The value, made by `make` on first use. A slot holds one type for its whole life; another type gives `None`.
    pub fn get_or_init<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.0.get_or_init(|| Box::new(make())).downcast_ref()
    }

    /// The value, when there is one of that type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.get()?.downcast_ref()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() {
            "Slot(set)"
        } else {
            "Slot(empty)"
        })
    }
}
