//! The endpoints of a service as streams reach them: addresses, counters, and TLS towards them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use constellation_table::{Endpoint, Scheme, Service};
use rustls::ClientConfig;

use crate::http::Names;
use crate::l4::secure::{self, Tls};
use crate::metrics::{EndpointMetrics, Metrics};

/// The addresses of an endpoint, in the order to try.
type Addresses = crate::http::Addresses;

/// What hangs on a service: its endpoints in definition order.
pub(super) struct Backends(Vec<Backend>);

/// An endpoint.
pub(super) struct Backend {
    pub(super) metrics: EndpointMetrics,
    /// The address, when the host is a literal.
    literal: Option<SocketAddr>,
    /// `scheme://host:port` for the access log.
    pub(super) url: Arc<str>,
    /// `None`: no TLS. An error when its settings can't be used.
    tls: Option<Result<Tls, Arc<str>>>,
}

impl Backends {
    /// Those of a service, made on its first connection.
    pub(super) fn of<'s>(service: &'s Service, metrics: &Metrics) -> Option<&'s Self> {
        service.slot.get_or_init(|| {
            let encrypted = service.endpoints.iter().any(|e| e.scheme == Scheme::Tls);
            let config = encrypted.then(|| secure::client_config(&service.transport));
            let backend =
                |endpoint: &Arc<Endpoint>| Backend::new(service, endpoint, config.as_ref(), metrics);
            Self(service.endpoints.iter().map(backend).collect())
        })
    }

    /// One of them.
    pub(super) fn get(&self, service: &Service, endpoint: &Arc<Endpoint>) -> Option<&Backend> {
        let position = service.endpoints.iter().position(|e| Arc::ptr_eq(e, endpoint))?;
        self.0.get(position)
    }
}

impl Backend {
    fn new(
        service: &Service,
        endpoint: &Endpoint,
        config: Option<&Result<Arc<ClientConfig>, Arc<str>>>,
        metrics: &Metrics,
    ) -> Self {
        let ip: Option<IpAddr> = endpoint.host.parse().ok();
        let tls = config
            .filter(|_| endpoint.scheme == Scheme::Tls)
            .map(|config| Tls::new(&service.transport, config.clone()?, &endpoint.host));
        Self {
            metrics: metrics.endpoint(&service.name, &endpoint.name),
            literal: ip.map(|ip| SocketAddr::new(ip, endpoint.port)),
            url: endpoint.url().into(),
            tls,
        }
    }

    /// The addresses of the endpoint.
    pub(super) async fn addresses(
        &self,
        service: &Service,
        endpoint: &Endpoint,
        names: &Names,
    ) -> io::Result<Addresses> {
        match self.literal {
            Some(address) => Ok(Addresses::from_slice(&[address])),
            None => {
                let limit = service.transport.timeouts.dial;
                names.lookup(&endpoint.host, endpoint.port, limit).await
            }
        }
    }

    /// How TLS towards it begins; `None`: not at all.
    pub(super) fn tls(&self) -> Result<Option<Tls>, Arc<str>> {
        self.tls.clone().transpose()
    }
}
