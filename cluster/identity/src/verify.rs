//! How rustls checks peers: the chain by an authority that is believed, the dates, and then whose certificate it is.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::certificate::{NodeIdentity, identity};
use crate::name::{ClusterId, NodeName};
use crate::tls::PeerError;
use crate::trust::{AuthorityPin, Trust};

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Checks a chain, and then whose it is.
pub(crate) struct Verifier {
    cluster: ClusterId,
    expected: Option<NodeName>,
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub(crate) fn new(trust: &Trust, expected: Option<NodeName>) -> Result<Self, Error> {
        Ok(Self {
            cluster: trust.cluster(),
            expected,
            roots: trust.roots()?,
            provider: provider(),
        })
    }

    pub(crate) fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<NodeIdentity, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        let peer = whose(self.cluster, end_entity)?;
        match &self.expected {
            Some(expected) if *expected != peer.node => Err(PeerError::Node {
                expected: expected.clone(),
                got: peer.node,
            }
            .into()),
            _ => Ok(peer),
        }
    }
}

fn whose(cluster: ClusterId, certificate: &CertificateDer<'_>) -> Result<NodeIdentity, PeerError> {
    let peer = identity(certificate)?;
    if peer.cluster == cluster {
        Ok(peer)
    } else {
        Err(PeerError::Cluster {
            ours: cluster,
            theirs: peer.cluster,
            node: peer.node,
        })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({}, {:?})", self.cluster, self.expected)
    }
}

fn tls13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    verify_tls13_signature(
        message,
        certificate,
        signature,
        &provider().signature_verification_algorithms,
    )
}

/// TLS 1.2 is not offered.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("nodes speak TLS 1.3 only".to_owned()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates, now)
            .map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Finds the pinned authority in what the peer presents, and checks by it.
#[derive(Debug)]
pub(crate) struct PinVerifier {
    pub(crate) cluster: ClusterId,
    pub(crate) pin: AuthorityPin,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates
            .iter()
            .find(|authority| AuthorityPin::of(authority) == self.pin)
            .ok_or(PeerError::Pin { pin: self.pin })?;
        let trust = Trust::new(self.cluster, vec![pinned.clone().into_owned()])
            .map_err(|_| PeerError::Pin { pin: self.pin })?;
        Verifier::new(&trust, None)?
            .check(end_entity, &[], now)
            .map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// webpki's check of a client's chain, and then whose it is.
#[derive(Debug)]
pub(crate) struct MemberVerifier {
    cluster: ClusterId,
    chain: Arc<dyn ClientCertVerifier>,
}

impl MemberVerifier {
    pub(crate) fn new(trust: &Trust) -> Result<Self, Error> {
        let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(trust.roots()?), provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self {
            cluster: trust.cluster(),
            chain,
        })
    }
}

impl ClientCertVerifier for MemberVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        whose(self.cluster, end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
