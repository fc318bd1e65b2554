//! The endpoints of a service as streams reach them: addresses, counters, and TLS towards them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};

use constellation_table::{Endpoint, Pem, Scheme, Service, Transport};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use crate::http::Names;
use crate::metrics::{EndpointMetrics, Metrics};
use crate::tls;

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

/// TLS towards an endpoint.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) connector: TlsConnector,
    pub(super) name: ServerName<'static>,
}

impl Backends {
    /// Those of a service, made on its first connection.
    pub(super) fn of<'s>(service: &'s Service, metrics: &Metrics) -> Option<&'s Self> {
        service.slot.get_or_init(|| {
            let encrypted = service.endpoints.iter().any(|e| e.scheme == Scheme::Tls);
            let config = encrypted.then(|| client_config(&service.transport));
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
        let tls = config.filter(|_| endpoint.scheme == Scheme::Tls).map(|config| {
            let name = service.transport.server_name.as_deref().unwrap_or(&endpoint.host);
            let name = ServerName::try_from(name.to_owned())
                .map_err(|error| unusable(&service.transport, &format!("the name {name:?}: {error}")))?;
            Ok(Tls {
                connector: TlsConnector::from(config.clone()?),
                name,
            })
        });
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

/// The system's authorities, read once.
static SYSTEM_ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate authority of the system can't be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    Arc::new(roots)
});

/// What a transport says about TLS. No application protocol is offered: which one is spoken only the two ends know.
fn client_config(transport: &Transport) -> Result<Arc<ClientConfig>, Arc<str>> {
    let provider = tls::provider();
    let text = |error: &dyn std::fmt::Display| unusable(transport, &error.to_string());
    let verifier: Arc<dyn ServerCertVerifier> = if transport.insecure_skip_verify {
        Arc::new(Anybody(provider.clone()))
    } else {
        WebPkiServerVerifier::builder_with_provider(roots(transport)?, provider.clone())
            .build()
            .map_err(|error| text(&error))?
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| text(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match &transport.client_certificate {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| text(&error))?;
            builder
                .with_client_auth_cert(certificates(transport, chain)?, key)
                .map_err(|error| text(&error))?
        }
    };
    Ok(Arc::new(config))
}

fn roots(transport: &Transport) -> Result<Arc<RootCertStore>, Arc<str>> {
    if transport.root_cas.is_empty() {
        return Ok(SYSTEM_ROOTS.clone());
    }
    let mut roots = RootCertStore::empty();
    for pem in &transport.root_cas {
        for certificate in certificates(transport, pem)? {
            roots
                .add(certificate)
                .map_err(|error| unusable(transport, &format!("an authority: {error}")))?;
        }
    }
    Ok(Arc::new(roots))
}

fn certificates(transport: &Transport, pem: &Pem) -> Result<Vec<CertificateDer<'static>>, Arc<str>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(transport, &format!("a certificate is not PEM: {error}")))?;
    if found.is_empty() {
        return Err(unusable(transport, "a file of certificates holds none"));
    }
    Ok(found)
}

fn unusable(transport: &Transport, why: &str) -> Arc<str> {
    let text = format!("the servers transport {:?} can't be used: {why}", transport.name);
    tracing::error!("{text}");
    text.into()
}

/// Believes any certificate, as `insecureSkipVerify` asks for; whoever shows it must still have its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
