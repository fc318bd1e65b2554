//! What a certificate says: which cluster, which node, from when to when.

use std::fmt;
use std::time::Duration;

use data_encoding::HEXLOWER;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use crate::csr::digest_of;
use crate::name::{ClusterId, NameError, NodeName};
use crate::time::UnixSeconds;

/// SHA-256 of a SubjectPublicKeyInfo: which key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublicKeyDigest(pub [u8; 32]);

impl fmt::Display for PublicKeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for PublicKeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKeyDigest({self})")
    }
}

/// Why a certificate is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// No X.509, or no PEM.
    #[error("the certificate can't be read: {0}")]
    Unreadable(String),
    /// Not exactly one URI.
    #[error(
        "the certificate carries {0} URIs, expected the one spiffe://CLUSTER/node/NAME: it is not a node certificate of \
         Constellation"
    )]
    Uris(usize),
    /// A URI of something else.
    #[error("the certificate is not a node's: {0}")]
    Name(#[from] NameError),
}

/// Who a certificate says its owner is. It means nothing until the chain was verified ([`crate::tls`] does).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeName,
    /// Its key.
    pub public_key: PublicKeyDigest,
}

/// Reads the identity out of a certificate.
pub fn identity(certificate: &CertificateDer<'_>) -> Result<NodeIdentity, CertificateError> {
    let parsed = parse(certificate)?;
    let uris = uris(&parsed)?;
    let [uri] = uris.as_slice() else {
        return Err(CertificateError::Uris(uris.len()));
    };
    let (cluster, node) = ClusterId::parse_node_uri(uri)?;
    Ok(NodeIdentity {
        cluster,
        node,
        public_key: digest_of(parsed.public_key().raw),
    })
}

pub(crate) fn parse<'a>(
    certificate: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, CertificateError> {
    let (rest, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| CertificateError::Unreadable(error.to_string()))?;
    if rest.is_empty() {
        Ok(parsed)
    } else {
        Err(CertificateError::Unreadable(format!(
            "{} bytes follow it",
            rest.len()
        )))
    }
}

pub(crate) fn uris<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, CertificateError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| CertificateError::Unreadable(error.to_string()))?;
    Ok(names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect())
}

/// A node's certificate with what was read out of it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCertificate {
    der: CertificateDer<'static>,
    identity: NodeIdentity,
    begins: UnixSeconds,
    ends: UnixSeconds,
}

impl NodeCertificate {
    /// From DER.
    pub fn from_der(der: CertificateDer<'static>) -> Result<Self, CertificateError> {
        let identity = identity(&der)?;
        let validity = parse(&der)?.validity().clone();
        let seconds = |at: i64| UnixSeconds(u64::try_from(at).unwrap_or(0));
        let (begins, ends) = (
            seconds(validity.not_before.timestamp()),
            seconds(validity.not_after.timestamp()),
        );
        Ok(Self {
            der,
            identity,
            begins,
            ends,
        })
    }

    /// From PEM.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| CertificateError::Unreadable(error.to_string()))?;
        Self::from_der(der)
    }

    /// As PEM.
    pub fn to_pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// Whose it is.
    pub fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// As DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// When it begins to be valid.
    pub fn begins(&self) -> UnixSeconds {
        self.begins
    }

    /// When it ends.
    pub fn ends(&self) -> UnixSeconds {
        self.ends
    }

    /// When to ask for the next one: after half of its time, so that the other half is left for trying.
    pub fn renew_at(&self) -> UnixSeconds {
        self.begins
            .plus(Duration::from_secs(self.ends.0.saturating_sub(self.begins.0) / 2))
    }

    /// Whether it is time to ask for the next one.
    pub fn renewal_due(&self, now: UnixSeconds) -> bool {
        now >= self.renew_at()
    }
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
