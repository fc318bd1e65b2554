//! Client certificates: Go's five policies on top of rustls.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::pem::{self, PemError, PemPart, PemSource};

/// `clientAuth` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientAuthSpec {
    /// CA files or inline PEM.
    pub authorities: Vec<PemSource>,
    /// `NoClientCert`, `RequestClientCert`, `RequireAnyClientCert`, `VerifyClientCertIfGiven` or
    /// `RequireAndVerifyClientCert`. Without it: the last one where there are authorities, else the first.
    pub kind: Option<String>,
}

/// Why client authentication can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientAuthError {
    /// Not one of the five.
    #[error(
        "clientAuthType: {0:?} is not known; expected NoClientCert, RequestClientCert, RequireAnyClientCert, \
         VerifyClientCertIfGiven or RequireAndVerifyClientCert"
    )]
    Kind(String),
    /// Verification without anything to verify against.
    #[error("clientAuthType: {0} needs caFiles; name the file of the CA that issued the client certificates")]
    NoAuthorities(String),
    /// A CA file can't be used.
    #[error("caFiles: {0}")]
    Pem(#[from] PemError),
    /// rustls does not take a certificate as a trust anchor.
    #[error("caFiles: {origin} holds a certificate that can't be a trust anchor: {source}")]
    Anchor {
        /// The file, or `(inline)`.
        origin: String,
        /// Why.
        source: rustls::Error,
    },
    /// rustls refuses the verifier.
    #[error("caFiles: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

/// A policy with what it needs.
#[derive(Debug)]
pub(super) struct ClientAuth {
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    authorities: Vec<CertificateDer<'static>>,
}

impl ClientAuth {
    pub(super) fn resolve(
        spec: &ClientAuthSpec,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, ClientAuthError> {
        let mut authorities = Vec::new();
        let mut roots = RootCertStore::empty();
        for source in &spec.authorities {
            let origin = source.to_string();
            for authority in pem::authorities(&origin, &source.read(PemPart::Authorities)?)? {
                roots
                    .add(authority.clone())
                    .map_err(|source| ClientAuthError::Anchor {
                        origin: origin.clone(),
                        source,
                    })?;
                authorities.push(authority);
            }
        }
        let default = if authorities.is_empty() {
            "NoClientCert"
        } else {
            "RequireAndVerifyClientCert"
        };
        let kind = spec
            .kind
            .as_deref()
            .filter(|kind| !kind.is_empty())
            .unwrap_or(default);
        let verifying = matches!(kind, "VerifyClientCertIfGiven" | "RequireAndVerifyClientCert");
        if verifying && authorities.is_empty() {
            return Err(ClientAuthError::NoAuthorities(kind.to_owned()));
        }
        let subjects = roots.subjects();
        let webpki = || WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let any = |mandatory| -> Arc<dyn ClientCertVerifier> {
            let algorithms = provider.signature_verification_algorithms;
            Arc::new(AnyClientCertificate {
                mandatory,
                algorithms,
                subjects,
            })
        };
        let verifier = match kind {
            "NoClientCert" => None,
            "RequestClientCert" => Some(any(false)),
            "RequireAnyClientCert" => Some(any(true)),
            "VerifyClientCertIfGiven" => Some(webpki().allow_unauthenticated().build()?),
            "RequireAndVerifyClientCert" => Some(webpki().build()?),
            other => return Err(ClientAuthError::Kind(other.to_owned())),
        };
        Ok(Self {
            verifier,
            authorities,
        })
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.verifier
            .clone()
            .unwrap_or_else(WebPkiClientVerifier::no_client_auth)
    }

    pub(super) fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }
}

/// Asks for a certificate and takes any: the client proves that it holds the key, and nobody vouches for it.
///
/// This is what `RequestClientCert` and `RequireAnyClientCert` mean; the back end decides what the certificate is worth.
#[derive(Debug)]
struct AnyClientCertificate {
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
    subjects: Vec<DistinguishedName>,
}

impl ClientCertVerifier for AnyClientCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        ParsedCertificate::try_from(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
