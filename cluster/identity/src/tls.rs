//! TLS between nodes: version 1.3, certificates on both sides, and no other name than the URI of the node.
//!
//! Sessions are not resumed: a resumed one would skip the checks that a rotation or a removal just changed. What is
//! checked here is the chain, the dates, the cluster and (by who connects) the node's name. Whether a node is still a
//! member is for [`crate::Members::admits`], asked with [`peer`] on every connection that was accepted.

use std::sync::Arc;

use rustls::{CertificateError as RustlsCertificateError, ClientConfig, CommonState, Error, OtherError};
use rustls_pki_types::{ServerName, UnixTime};
use thiserror::Error;

use crate::certificate::{CertificateError, NodeIdentity, identity};
use crate::name::{ClusterId, NodeName};
use crate::time::UnixSeconds;
use crate::token::JoinToken;
use crate::trust::AuthorityPin;
use crate::verify::{PinVerifier, provider};

pub use crate::credentials::{Credentials, CredentialsError};

/// The application protocol of a connection by which a node joins: the only one without a client's certificate.
pub const JOIN_ALPN: &[u8] = b"constellation-join/1";

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
