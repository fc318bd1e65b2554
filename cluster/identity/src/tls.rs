//! TLS between nodes: version 1.3, certificates on both sides, and no other name than the URI of the node.
//!
//! Sessions are not resumed: a resumed one would skip the checks that a rotation or a removal just changed. What is
//! checked here is the chain, the dates, the cluster and (by who connects) the node's name. Whether a node is still a
//! member is for [`crate::Members::admits`], asked with [`peer`] on every connection that was accepted.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError as RustlsCertificateError, ClientConfig, CommonState, DigitallySignedStruct,
    DistinguishedName, Error, OtherError, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::certificate::{CertificateError, NodeCertificate, NodeIdentity, identity};
use crate::csr::{CsrError, NodeKey};
use crate::files::{self, FileError, Secrecy};
use crate::name::{ClusterId, NodeName};
use crate::time::UnixSeconds;
use crate::token::JoinToken;
use crate::trust::{AuthorityPin, Trust, TrustError};

/// The application protocol of a connection by which a node joins: the only one without a client's certificate.
pub const JOIN_ALPN: &[u8] = b"constellation-join/1";

/// Why a node's key, certificate and authorities are not usable together.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// Two halves of different things.
    #[error(
        "the certificate of node {node} is not for the private key beside it: restore both from one backup, or join again"
    )]
    KeyMismatch {
        /// Whose certificate.
        node: NodeName,
    },
    /// Of another cluster, expired, not yet valid, not signed by them.
    #[error("the certificate of node {node} is not accepted: {reason}")]
    Rejected {
        /// Whose.
        node: NodeName,
        /// Why.
        reason: String,
    },
    /// Not read, not written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Unreadable.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Unbelievable.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// No key.
    #[error(transparent)]
    Key(#[from] CsrError),
}

/// All that a node needs to show who it is and to check others.
#[derive(Debug)]
pub struct Credentials {
    certificate: NodeCertificate,
    key: NodeKey,
    trust: Trust,
}

impl Credentials {
    /// Checks that the parts fit together and are valid at `now`.
    pub fn new(
        certificate: NodeCertificate,
        key: NodeKey,
        trust: Trust,
        now: UnixSeconds,
    ) -> Result<Self, CredentialsError> {
        let credentials = Self::fitting(certificate, key, trust)?;
        credentials.check(now)?;
        Ok(credentials)
    }

    fn fitting(certificate: NodeCertificate, key: NodeKey, trust: Trust) -> Result<Self, CredentialsError> {
        if certificate.identity().public_key != key.public_key() {
            return Err(CredentialsError::KeyMismatch {
                node: certificate.identity().node.clone(),
            });
        }
        Ok(Self {
            certificate,
            key,
            trust,
        })
    }

    /// Whether others would accept it at `now`.
    pub fn check(&self, now: UnixSeconds) -> Result<(), CredentialsError> {
        let node = self.certificate.identity().node.clone();
        let checked = Verifier::new(&self.trust, Some(node.clone()))
            .and_then(|verifier| verifier.check(self.certificate.der(), &[], now.unix()));
        checked.map(drop).map_err(|error| CredentialsError::Rejected {
            node,
            reason: explain(&error),
        })
    }

    /// Loads `node.pem` (key and certificate) and `authorities.crt` of a folder. Does not look at the dates: a node whose
    /// certificate expired while it was off still knows who it is ([`Credentials::check`] tells).
    pub fn load(cluster: ClusterId, folder: &Path) -> Result<Self, CredentialsError> {
        let node = files::read(&folder.join("node.pem"), Secrecy::Secret)?;
        let trust = files::read(&folder.join("authorities.crt"), Secrecy::Public)?;
        let certificate = NodeCertificate::from_pem(&node)?;
        Self::fitting(
            certificate,
            NodeKey::from_pem(&node)?,
            Trust::from_pem(cluster, &trust)?,
        )
    }

    /// Writes both files. Key and certificate are one file, so that no crash leaves one without the other; the
    /// authorities come first, as an old certificate fits new authorities during a rotation.
    pub fn store(&self, folder: &Path) -> Result<(), CredentialsError> {
        let node = Zeroizing::new(format!("{}{}", *self.key.to_pem(), self.certificate.to_pem()));
        files::write(
            &folder.join("authorities.crt"),
            self.trust.to_pem().as_bytes(),
            Secrecy::Public,
        )?;
        files::write(&folder.join("node.pem"), node.as_bytes(), Secrecy::Secret)?;
        Ok(())
    }

    /// The certificate.
    pub fn certificate(&self) -> &NodeCertificate {
        &self.certificate
    }

    /// The authorities.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The same node believing others: a step of a rotation.
    pub fn with_trust(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }

    /// The chain that is presented: the authorities too, so that a joiner finds the one that its token pins.
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        let mut chain = vec![self.certificate.der().clone()];
        chain.extend_from_slice(self.trust.authorities());
        chain
    }

    /// To connect to `node`: nobody else is accepted at the other end.
    pub fn client(&self, node: &NodeName, alpn: &[u8]) -> Result<ClientConfig, Error> {
        let verifier = Arc::new(Verifier::new(&self.trust, Some(node.clone()))?);
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(vec![self.certificate.der().clone()], self.key.private_der())?;
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_sni = false;
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }

    /// To accept nodes of this cluster and nobody else.
    pub fn server(&self, alpn: &[&[u8]]) -> Result<ServerConfig, Error> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(MemberVerifier::new(&self.trust)?));
        self.finish(builder, alpn)
    }

    /// To accept joiners, who have no certificate yet. Nothing but join requests may be read from such a connection.
    pub fn join_server(&self) -> Result<ServerConfig, Error> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth();
        self.finish(builder, &[JOIN_ALPN])
    }

    fn finish(
        &self,
        builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
        alpn: &[&[u8]],
    ) -> Result<ServerConfig, Error> {
        let mut config = builder.with_single_cert(self.chain(), self.key.private_der())?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }
}

/// To join: believes only a node that the token's authority certified for the token's cluster, whatever its name.
pub fn joining(token: &JoinToken) -> Result<ClientConfig, Error> {
    let verifier = PinVerifier {
        cluster: token.cluster,
        pin: token.authority,
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![JOIN_ALPN.to_vec()];
    Ok(config)
}

/// The name to connect by. rustls wants one; it is neither sent nor checked, as the URI in the certificate is.
pub fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())
}

/// Who is at the other end of a finished handshake. None for a joiner.
pub fn peer(connection: &CommonState) -> Result<Option<NodeIdentity>, CertificateError> {
    connection
        .peer_certificates()
        .and_then(<[_]>::first)
        .map(identity)
        .transpose()
}

/// Why a peer is not who it should be. Found as the source of rustls' `CertificateError::Other`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PeerError {
    /// Of another cluster.
    #[error("the peer is node {node} of cluster {theirs}, this is cluster {ours}: check the address")]
    Cluster {
        /// Ours.
        ours: ClusterId,
        /// Its.
        theirs: ClusterId,
        /// Who.
        node: NodeName,
    },
    /// Another node.
    #[error(
        "the peer is node {got}, expected node {expected}: the address now belongs to another node, or is wrong"
    )]
    Node {
        /// Looked for.
        expected: NodeName,
        /// Found.
        got: NodeName,
    },
    /// Not what the token is for.
    #[error(
        "the peer did not show the authority that the join token pins ({pin}): wrong address, somebody in between, or the \
             authority was rotated since (create another token); nothing was sent"
    )]
    Pin {
        /// The token's.
        pin: AuthorityPin,
    },
    /// No certificate of ours.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl From<PeerError> for Error {
    fn from(error: PeerError) -> Self {
        Self::InvalidCertificate(RustlsCertificateError::Other(OtherError(Arc::new(error))))
    }
}

/// What an operator reads about a handshake that failed. Dates get both clocks, as a wrong clock is the usual reason.
pub fn explain(error: &Error) -> String {
    let seconds = |time: &UnixTime| UnixSeconds(time.as_secs());
    match error {
        Error::InvalidCertificate(RustlsCertificateError::NotValidYetContext { time, not_before }) => format!(
            "the certificate is valid from {}, this node's clock says {}: a clock is wrong, set them by NTP (`timedatectl`)",
            seconds(not_before),
            seconds(time)
        ),
        Error::InvalidCertificate(RustlsCertificateError::ExpiredContext { time, not_after }) => format!(
            "the certificate expired at {}, this node's clock says {}: either the clock is wrong (`timedatectl`), or that node \
             could not renew in time and has to join again with a new token",
            seconds(not_after),
            seconds(time)
        ),
        Error::InvalidCertificate(RustlsCertificateError::UnknownIssuer | RustlsCertificateError::BadSignature) => {
            "the certificate is by an authority that this node does not trust: another cluster, or an authority that was \
             rotated out while that node was off (it has to join again)"
                .to_owned()
        }
        Error::InvalidCertificate(RustlsCertificateError::Other(other)) => other.0.to_string(),
        other => other.to_string(),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Checks a chain, and then whose it is.
struct Verifier {
    cluster: ClusterId,
    expected: Option<NodeName>,
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(trust: &Trust, expected: Option<NodeName>) -> Result<Self, Error> {
        Ok(Self {
            cluster: trust.cluster(),
            expected,
            roots: trust.roots()?,
            provider: provider(),
        })
    }

    fn check(
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
struct PinVerifier {
    cluster: ClusterId,
    pin: AuthorityPin,
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
struct MemberVerifier {
    cluster: ClusterId,
    chain: Arc<dyn ClientCertVerifier>,
}

impl MemberVerifier {
    fn new(trust: &Trust) -> Result<Self, Error> {
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
