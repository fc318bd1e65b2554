//! How endpoints are reached: peer templates made once per service, TLS trust, and addresses of names.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use constellation_table::{Endpoint, Pem, Scheme, Service, Transport};
use http::HeaderValue;
use pingora_core::protocols::TcpKeepalive;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use smallvec::SmallVec;

use super::pool::Key;
use crate::l4::secure::{self, unusable};
use crate::metrics::{EndpointMetrics, Metrics};

/// Concurrent requests on one HTTP/2 connection to a back end; the back end's own limit counts as well.
const H2_STREAMS: usize = 100;
/// While other candidates remain, a candidate that does not answer a SYN in this time is passed over.
pub(crate) const IMPATIENT: Duration = Duration::from_secs(1);
/// Idle connections kept for an endpoint where nobody says otherwise: Traefik's default.
const MAX_IDLE: i64 = 200;
/// How long a connection above the limit of idle ones is kept. Under load it is used again long before.
const SURPLUS_IDLE: Duration = Duration::from_secs(1);
/// How long the addresses of a name are used before it is looked up again.
const NAME_TTL: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;
/// Names remembered per worker.
const MAX_NAMES: usize = 10_000;

/// The addresses of an endpoint, in the order to try.
pub(crate) type Addresses = SmallVec<[SocketAddr; 2]>;

/// What hangs on a service: its endpoints as the data plane reaches them, in definition order.
pub(super) struct ServiceState {
    endpoints: Vec<EndpointState>,
}

/// An endpoint as the data plane reaches it.
pub(super) struct EndpointState {
    pub(super) metrics: EndpointMetrics,
    /// Address, TLS and time limits; the address is replaced for names.
    template: Result<HttpPeer, Arc<str>>,
    /// The address, when the host is a literal.
    literal: Option<SocketAddr>,
    /// Tells endpoints apart whose connections must not be mixed.
    template_hash: u64,
    /// `host[:port]` for services that do not pass the client's `Host`.
    pub(super) authority: HeaderValue,
    /// The endpoint's name for the served-by header.
    pub(super) name: HeaderValue,
    /// `scheme://host:port` for the access log.
    pub(super) url: Arc<str>,
    dial: Option<Duration>,
    idle: Option<Duration>,
    /// Idle connections kept, over all workers.
    max_idle: i64,
}

impl ServiceState {
    /// Prepares all endpoints of a service.
    pub(super) fn new(service: &Service, metrics: &Metrics) -> Self {
        let trust = Trust::new(&service.transport);
        let endpoints = service
            .endpoints
            .iter()
            .map(|endpoint| EndpointState::new(service, endpoint, trust.as_ref(), metrics))
            .collect();
        Self { endpoints }
    }

    /// The state of a service that is in use.
    pub(super) fn known(service: &Service) -> Option<&Self> {
        service.slot.get()
    }

    /// The state of one of the service's endpoints.
    pub(super) fn of(&self, service: &Service, endpoint: &Arc<Endpoint>) -> Option<&EndpointState> {
        let position = service.endpoints.iter().position(|e| Arc::ptr_eq(e, endpoint))?;
        self.endpoints.get(position)
    }
}

impl EndpointState {
    fn new(
        service: &Service,
        endpoint: &Endpoint,
        trust: Result<&Trust, &Arc<str>>,
        metrics: &Metrics,
    ) -> Self {
        let ip: Option<IpAddr> = endpoint.host.parse().ok();
        let literal = ip.map(|ip| SocketAddr::new(ip, endpoint.port));
        let bracketed = match ip {
            Some(IpAddr::V6(_)) => format!("[{}]", endpoint.host),
            _ => endpoint.host.to_string(),
        };
        let (scheme, default_port) = match endpoint.scheme {
            Scheme::Http => ("http", 80),
            Scheme::H2c => ("h2c", 80),
            Scheme::Https => ("https", 443),
            // No HTTP router leads to such a service.
            Scheme::Tcp | Scheme::Tls | Scheme::Udp => ("tcp", 0),
        };
        let authority = if endpoint.port == default_port {
            bracketed.clone()
        } else {
            format!("{bracketed}:{}", endpoint.port)
        };
        let address = literal.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], endpoint.port)));
        let template = trust
            .map(|trust| template(endpoint, address, &service.transport, trust))
            .map_err(Arc::clone);
        Self {
            metrics: metrics.endpoint(&service.name, &endpoint.name),
            template_hash: template.as_ref().map_or(0, Peer::reuse_hash),
            template,
            literal,
            authority: text_value(&authority),
            name: text_value(&endpoint.name),
            url: match endpoint.peer {
                Some(_) => endpoint.url().into(),
                None => format!("{scheme}://{bracketed}:{}", endpoint.port).into(),
            },
            dial: service.transport.timeouts.dial,
            idle: service.transport.timeouts.idle,
            max_idle: match service.transport.max_idle_connections_per_host {
                0 => MAX_IDLE,
                limit => limit.into(),
            },
        }
    }

    /// The addresses of the endpoint.
    pub(super) async fn addresses(&self, endpoint: &Endpoint, names: &Names) -> io::Result<Addresses> {
        match self.literal {
            Some(address) => Ok(SmallVec::from_slice(&[address])),
            None => names.lookup(&endpoint.host, endpoint.port, self.dial).await,
        }
    }

    /// What makes connections to `address` interchangeable.
    pub(super) fn key(&self, address: SocketAddr) -> Key {
        Key {
            template: self.template_hash,
            address,
        }
    }

    /// The key, when the host is a literal address.
    pub(super) fn literal_key(&self) -> Option<Key> {
        self.literal.map(|address| self.key(address))
    }

    /// How long a connection is kept idle from now on. There are at most as many idle connections as were in use at
    /// once, so those of the attempts above the limit are the ones not to keep.
    pub(super) fn idle_for(&self) -> Option<Duration> {
        if self.metrics.running() > self.max_idle {
            return Some(self.idle.map_or(SURPLUS_IDLE, |idle| idle.min(SURPLUS_IDLE)));
        }
        self.idle
    }

    /// The peer to connect to. `impatient`: others are waiting in line. `h1_only`: the request changes protocols,
    /// which HTTP/2 can't carry.
    pub(super) fn peer(
        &self,
        address: SocketAddr,
        impatient: bool,
        h1_only: bool,
    ) -> Result<Box<HttpPeer>, Arc<str>> {
        let mut peer = Box::new(self.template.clone()?);
        if self.literal.is_none() {
            peer._address = pingora_core::protocols::l4::socket::SocketAddr::Inet(address);
        }
        if impatient && self.dial.is_none_or(|dial| dial > IMPATIENT) {
            peer.options.connection_timeout = Some(IMPATIENT);
        }
        if h1_only {
            peer.options.set_http_version(1, 1);
        }
        Ok(peer)
    }
}

/// A header value of any text; what no header may contain is replaced.
pub(super) fn text_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| {
        let safe: String = text
            .chars()
            .map(|c| if c.is_ascii_graphic() { c } else { '?' })
            .collect();
        HeaderValue::from_str(&safe).unwrap_or_else(|_| HeaderValue::from_static("?"))
    })
}

/// The peer of an endpoint at one of its addresses.
pub(crate) fn template(
    endpoint: &Endpoint,
    address: SocketAddr,
    transport: &Transport,
    trust: &Trust,
) -> HttpPeer {
    let tls = endpoint.scheme == Scheme::Https;
    // Never empty with TLS: pingora would take that as "verify nothing". A literal address is verified as one.
    let sni = if tls {
        transport
            .server_name
            .as_deref()
            .unwrap_or(&endpoint.host)
            .to_owned()
    } else {
        String::new()
    };
    let mut peer = HttpPeer::new(address, tls, sni);
    // pingora's pool key knows neither the authorities nor the transport, nor which version of HTTP is spoken: two services
    // may mean the same address by `http` and by `h2c`.
    peer.group_key = trust.key.rotate_left(2)
        ^ match endpoint.scheme {
            Scheme::H2c => 1,
            Scheme::Https if transport.disable_http2 => 2,
            _ => 0,
        };
    let options = &mut peer.options;
    options.connection_timeout = transport.timeouts.dial;
    options.total_connection_timeout = transport.timeouts.dial;
    options.idle_timeout = transport.timeouts.idle;
    options.max_h2_streams = H2_STREAMS;
    options.h2_stream_window_size = Some(1 << 20);
    options.h2_connection_window_size = Some(4 << 20);
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(15),
        count: 4,
        user_timeout: Duration::ZERO,
    });
    match endpoint.scheme {
        Scheme::Http | Scheme::Tcp | Scheme::Tls | Scheme::Udp => options.set_http_version(1, 1),
        Scheme::H2c => options.set_http_version(2, 2),
        Scheme::Https if transport.disable_http2 => options.set_http_version(1, 1),
        Scheme::Https => options.set_http_version(2, 1),
    }
    if tls {
        options.verify_cert = !transport.insecure_skip_verify;
        options.verify_hostname = !transport.insecure_skip_verify;
        options.ca = trust.authorities.clone();
        peer.client_cert_key = trust.client.clone();
    }
    peer
}

/// Whom a transport believes and who it is: parsed once.
pub(crate) struct Trust {
    /// Part of the pool key: connections are never shared between trust domains.
    key: u64,
    authorities: Option<Arc<[WrappedX509]>>,
    client: Option<Arc<CertKey>>,
}

/// An authority that signs nothing. pingora builds a verifier even where it is told to verify nothing, and that needs
/// one authority, which a host without certificate authorities does not have.
static NOBODY: LazyLock<Option<Arc<[WrappedX509]>>> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(vec!["nobody.invalid".to_owned()]).ok()?;
    Some(Arc::from([WrappedX509::new(
        made.cert.der().to_vec(),
        parse_x509,
    )]))
});

impl Trust {
    pub(crate) fn new(transport: &Transport) -> Result<Self, Arc<str>> {
        let mut hasher = DefaultHasher::new();
        transport.name.hash(&mut hasher);
        transport.server_name.hash(&mut hasher);
        transport.insecure_skip_verify.hash(&mut hasher);
        transport.root_cas.hash(&mut hasher);
        transport.client_certificate.hash(&mut hasher);
        transport.disable_http2.hash(&mut hasher);
        let mut authorities = Vec::new();
        for pem in &transport.root_cas {
            authorities.extend(certificates(transport, pem)?);
        }
        let authorities = match authorities.is_empty() {
            true if transport.insecure_skip_verify => NOBODY.clone(),
            true => None,
            false => Some(
                authorities
                    .into_iter()
                    .map(|der| WrappedX509::new(der, parse_x509))
                    .collect::<Arc<[_]>>(),
            ),
        };
        let client = match &transport.client_certificate {
            Some((chain, key)) => {
                let chain = certificates(transport, chain)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
                    unusable(transport, &format!("the client key is not a PEM key: {error}"))
                })?;
                Some(Arc::new(CertKey::new(chain, key.secret_der().to_vec())))
            }
            None => None,
        };
        Ok(Self {
            key: hasher.finish(),
            authorities,
            client,
        })
    }
}

/// The certificates of a PEM text; at least one, and each one sound, as pingora panics on others.
fn certificates(transport: &Transport, pem: &Pem) -> Result<Vec<Vec<u8>>, Arc<str>> {
    let found = secure::certificates(transport, pem)?;
    for der in &found {
        x509_parser::parse_x509_certificate(der)
            .map_err(|error| unusable(transport, &format!("a certificate can't be read: {error}")))?;
    }
    Ok(found.iter().map(|der| der.to_vec()).collect())
}

/// Addresses of names, remembered for a few seconds; one per worker.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<HashMap<(Box<str>, u16), Known>>);

#[derive(Debug)]
struct Known {
    addresses: Addresses,
    until: Instant,
}

impl Names {
    /// Looks up a name. When the resolver fails, the last good answer goes on.
    pub(crate) async fn lookup(
        &self,
        host: &str,
        port: u16,
        limit: Option<Duration>,
    ) -> io::Result<Addresses> {
        let key = (Box::from(host), port);
        let now = Instant::now();
        let stale = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match known.get_mut(&key) {
                Some(entry) if entry.until > now => return Ok(entry.addresses.clone()),
                Some(entry) => {
                    // Requests that come while we ask use the old answer instead of asking as well.
                    entry.until = now + NAME_TTL;
                    Some(entry.addresses.clone())
                }
                None => None,
            }
        };
        let asking = tokio::net::lookup_host((host, port));
        let answer = match limit {
            Some(limit) => tokio::time::timeout(limit, asking)
                .await
                .unwrap_or_else(|e| Err(e.into())),
            None => asking.await,
        };
        let answer = answer.map(|found| found.take(MAX_ADDRESSES).collect::<Addresses>());
        match (answer, stale) {
            (Ok(addresses), _) if !addresses.is_empty() => {
                let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if known.len() >= MAX_NAMES {
                    known.retain(|_, entry| entry.until > now);
                }
                known.insert(
                    key,
                    Known {
                        addresses: addresses.clone(),
                        until: now + NAME_TTL,
                    },
                );
                Ok(addresses)
            }
            (_, Some(addresses)) => Ok(addresses),
            (Ok(_), None) => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("{host} has no address"),
            )),
            (Err(error), None) => Err(error),
        }
    }

    /// A connection to an address of this name failed: ask again next time.
    pub(crate) fn forget(&self, host: &str, port: u16) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get_mut(&(Box::from(host), port)) {
            entry.until = Instant::now();
        }
    }
}
