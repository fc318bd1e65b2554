//! What a node has: its certificate, its key and whom it believes; and the TLS configurations made of them.

use std::path::Path;
use std::sync::Arc;

use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::certificate::{CertificateError, NodeCertificate};
use crate::csr::{CsrError, NodeKey};
use crate::files::{self, FileError, Secrecy};
use crate::name::{ClusterId, NodeName};
use crate::time::UnixSeconds;
use crate::tls::{JOIN_ALPN, explain};
use crate::trust::{Trust, TrustError};
use crate::verify::{MemberVerifier, Verifier, provider};

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

    /// What to send for the next certificate: the key stays, as members are known by it.
    pub fn signing_request(&self) -> Result<Vec<u8>, CredentialsError> {
        Ok(self.key.signing_request()?)
    }

    /// The same node with its next certificate, which is checked at `now`.
    pub fn with_certificate(
        &self,
        certificate: NodeCertificate,
        now: UnixSeconds,
    ) -> Result<Self, CredentialsError> {
        Self::new(certificate, self.key.duplicate()?, self.trust.clone(), now)
    }

    /// The same node, believing others, beside this one.
    pub fn believing(&self, trust: Trust) -> Result<Self, CredentialsError> {
        Self::fitting(self.certificate.clone(), self.key.duplicate()?, trust)
    }

    /// The chain that is presented: the authorities too, so that a joiner finds the one that its token pins.
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        let mut chain = vec![self.certificate.der().clone()];
        chain.extend_from_slice(self.trust.authorities());
        chain
    }

    /// To connect to `node`: nobody else is accepted at the other end.
    pub fn client(&self, node: &NodeName, alpn: &[u8]) -> Result<ClientConfig, rustls::Error> {
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
    pub fn server(&self, alpn: &[&[u8]]) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(MemberVerifier::new(&self.trust)?));
        self.finish(builder, alpn)
    }

    /// To accept joiners, who have no certificate yet. Nothing but join requests may be read from such a connection.
    pub fn join_server(&self) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth();
        self.finish(builder, &[JOIN_ALPN])
    }

    fn finish(
        &self,
        builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
        alpn: &[&[u8]],
    ) -> Result<ServerConfig, rustls::Error> {
        let mut config = builder.with_single_cert(self.chain(), self.key.private_der())?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }
}
