//! TLS towards the servers of streams, as their transport says it: for connections that are carried and for health
//! checks.

use std::io;
use std::sync::{Arc, LazyLock};

use constellation_table::{Pem, Transport};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls;

/// TLS towards one server.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// Towards a server at `host`, which is its name where the transport gives no other.
    pub(crate) fn new(
        transport: &Transport,
        config: Arc<ClientConfig>,
        host: &str,
    ) -> Result<Self, Arc<str>> {
        let name = transport.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| unusable(transport, &format!("the name {name:?}: {error}")))?;
        Ok(Self {
            connector: TlsConnector::from(config),
            name,
        })
    }

    /// The handshake.
    pub(crate) async fn connect<S>(self, socket: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.connector.connect(self.name, socket).await
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
pub(crate) fn client_config(transport: &Transport) -> Result<Arc<ClientConfig>, Arc<str>> {
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

/// The certificates of a PEM text; at least one.
pub(crate) fn certificates(
    transport: &Transport,
    pem: &Pem,
) -> Result<Vec<CertificateDer<'static>>, Arc<str>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(transport, &format!("a certificate is not PEM: {error}")))?;
    if found.is_empty() {
        return Err(unusable(transport, "a file of certificates holds none"));
    }
    Ok(found)
}

/// Why a transport can't be used, which is logged as well.
pub(crate) fn unusable(transport: &Transport, why: &str) -> Arc<str> {
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
