//! Which authorities are believed: one, and a second while it replaces the first.
//!
//! Rotation goes in three steps, each of which the whole cluster finishes before the next: every node trusts both, every
//! node gets a certificate of the new one, every node forgets the old one.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::certificate::{parse, pem, uris};
use crate::name::ClusterId;

/// The most authorities at a time. Rotation needs two.
pub const AUTHORITIES_LIMIT: usize = 4;

/// SHA-256 of an authority's certificate, as a join token carries it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AuthorityPin(pub [u8; 32]);

impl AuthorityPin {
    /// Of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for AuthorityPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for AuthorityPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityPin({self})")
    }
}

/// Why a set of authorities is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TrustError {
    /// Nobody would be believed.
    #[error(
        "no authority is left: a node trusts at least one; add the new authority before the old one is removed"
    )]
    Empty,
    /// More than a rotation needs.
    #[error(
        "more than {AUTHORITIES_LIMIT} authorities: finish the rotation that was begun (remove the old ones) first"
    )]
    TooMany,
    /// Not the certificate of an authority of this cluster.
    #[error("not an authority of cluster {cluster}: {reason}")]
    Foreign {
        /// Ours.
        cluster: ClusterId,
        /// What is wrong with it.
        reason: String,
    },
}

/// The authorities that a node believes, all of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    cluster: ClusterId,
    authorities: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Checks that there are one to [`AUTHORITIES_LIMIT`], each of this cluster.
    pub fn new(cluster: ClusterId, authorities: Vec<CertificateDer<'static>>) -> Result<Self, TrustError> {
        let mut trust = Self {
            cluster,
            authorities: Vec::new(),
        };
        if authorities.is_empty() {
            return Err(TrustError::Empty);
        }
        for authority in authorities {
            trust = trust.with(authority)?;
        }
        Ok(trust)
    }

    /// From PEM, one certificate after the other.
    pub fn from_pem(cluster: ClusterId, text: &str) -> Result<Self, TrustError> {
        let authorities = CertificateDer::pem_slice_iter(text.as_bytes())
            .take(AUTHORITIES_LIMIT + 1)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TrustError::Foreign {
                cluster,
                reason: error.to_string(),
            })?;
        Self::new(cluster, authorities)
    }

    /// As PEM.
    pub fn to_pem(&self) -> String {
        self.authorities
            .iter()
            .map(|der| pem("CERTIFICATE", der))
            .collect()
    }

    /// With one more: the first step of a rotation. One that is there already changes nothing.
    pub fn with(mut self, authority: CertificateDer<'static>) -> Result<Self, TrustError> {
        check(self.cluster, &authority).map_err(|reason| TrustError::Foreign {
            cluster: self.cluster,
            reason,
        })?;
        if !self.authorities.contains(&authority) {
            if self.authorities.len() == AUTHORITIES_LIMIT {
                return Err(TrustError::TooMany);
            }
            self.authorities.push(authority);
        }
        Ok(self)
    }

    /// Without one: the last step of a rotation.
    pub fn without(mut self, pin: AuthorityPin) -> Result<Self, TrustError> {
        self.authorities
            .retain(|authority| AuthorityPin::of(authority) != pin);
        if self.authorities.is_empty() {
            Err(TrustError::Empty)
        } else {
            Ok(self)
        }
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Which ones.
    pub fn pins(&self) -> impl Iterator<Item = AuthorityPin> + '_ {
        self.authorities.iter().map(AuthorityPin::of)
    }

    /// Their certificates.
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    pub(crate) fn roots(&self) -> Result<RootCertStore, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for authority in &self.authorities {
            roots.add(authority.clone())?;
        }
        Ok(roots)
    }
}

fn check(cluster: ClusterId, authority: &CertificateDer<'_>) -> Result<(), String> {
    let parsed = parse(authority).map_err(|error| error.to_string())?;
    if !parsed.is_ca() {
        return Err("its certificate is not an authority's".to_owned());
    }
    let uris = uris(&parsed).map_err(|error| error.to_string())?;
    let expected = cluster.uri();
    if uris == [expected.as_str()] {
        Ok(())
    } else {
        Err(format!("its certificate is for {uris:?}, expected {expected}"))
    }
}
