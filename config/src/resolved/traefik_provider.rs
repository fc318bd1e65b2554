//! `traefikProvider`: the document that a Traefik polls.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::Secret;

/// `traefikProvider`.
#[derive(Clone, Debug, PartialEq)]
pub struct TraefikProvider {
    /// Where it is polled.
    pub address: SocketAddr,
    /// Certificate resolver of TLS routers that name none.
    pub cert_resolver: Option<String>,
    /// Whether certificates are part of the document.
    pub certificates: bool,
    /// Entry points of HTTP routers that name none; empty: Traefik's default ones.
    pub entry_points: Vec<String>,
    /// Where Traefik reaches what other nodes have.
    pub failover: ProviderFailover,
    /// Where the document is written to as well.
    pub file: Option<PathBuf>,
    /// TLS for whoever polls; `None`: in the clear.
    pub tls: Option<ProviderTls>,
    /// What whoever polls must send as `Authorization: Bearer TOKEN`; `None`: nothing.
    pub token: Option<Secret>,
    /// Whether the document has no routes, whatever there is.
    pub withdraw: bool,
}

/// `traefikProvider.failover`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderFailover {
    /// Where requests of Traefik are taken.
    pub address: SocketAddr,
    /// `HOST:PORT` by which Traefik reaches it; `None`: as it is.
    pub advertise: Option<String>,
}

/// `traefikProvider.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderTls {
    /// Certificate and chain.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// Authorities of client certificates; empty: none are asked for.
    pub client_cas: Vec<PathBuf>,
}

impl Default for TraefikProvider {
    fn default() -> Self {
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self {
            address: loopback(8081),
            cert_resolver: None,
            certificates: false,
            entry_points: Vec::new(),
            failover: ProviderFailover {
                address: loopback(8082),
                advertise: None,
            },
            file: None,
            tls: None,
            token: None,
            withdraw: false,
        }
    }
}

impl TraefikProvider {
    /// The name by which the failover port is known among the entry points.
    pub const ENTRANCE: &'static str = "from-traefik";

    /// Whether the document goes to nobody but who is on this machine or has proved who it is.
    pub fn is_protected(&self) -> bool {
        let mutual = self.tls.as_ref().is_some_and(|tls| !tls.client_cas.is_empty());
        self.address.ip().is_loopback() || self.token.is_some() || mutual
    }
}
