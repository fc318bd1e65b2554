//! A node's key and its request to have it certified. The private half never leaves the node.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use rustls_pki_types::{CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::certificate::PublicKeyDigest;

/// The most bytes of a request; one with a P-256 key has about 250.
pub const CSR_LIMIT: usize = 2048;

/// Why a signing request is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CsrError {
    /// Longer than any honest one.
    #[error("the signing request has {0} bytes, at most {CSR_LIMIT} are accepted")]
    TooLong(usize),
    /// Not parsed, or not signed by the key in it.
    #[error("the signing request is malformed or not signed by its own key: {0}; make another one")]
    Malformed(String),
    /// A key of another kind.
    #[error(
        "the signing request carries a key that is not ECDSA P-256; nodes of this version make such keys only"
    )]
    KeyKind,
}

/// The private key of a node.
pub struct NodeKey(KeyPair);

impl NodeKey {
    /// A new ECDSA P-256 key.
    pub fn generate() -> Result<Self, CsrError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(malformed)
    }

    /// From PEM, as [`crate::files`] loads it.
    pub fn from_pem(pem: &str) -> Result<Self, CsrError> {
        let key = KeyPair::from_pem(pem).map_err(malformed)?;
        if key.algorithm() == &PKCS_ECDSA_P256_SHA256 {
            Ok(Self(key))
        } else {
            Err(CsrError::KeyKind)
        }
    }

    /// The same key a second time.
    pub(crate) fn duplicate(&self) -> Result<Self, CsrError> {
        Self::from_pem(&self.to_pem())
    }

    /// As PEM, for a file of mode 0600.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// The request to certify this key. Who is certified is decided by the authority, so no name is in it.
    pub fn signing_request(&self) -> Result<Vec<u8>, CsrError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        Ok(params
            .serialize_request(&self.0)
            .map_err(malformed)?
            .der()
            .to_vec())
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKeyDigest {
        digest_of(&self.0.subject_public_key_info())
    }

    pub(crate) fn private_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }
}

impl Drop for NodeKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({:?}, private half not shown)", self.public_key())
    }
}

/// A request that was parsed and whose sender holds the private key. Names and extensions in it are ignored.
#[derive(Debug)]
pub struct SigningRequest {
    key: rcgen::PublicKey,
    digest: PublicKeyDigest,
}

impl SigningRequest {
    /// Parses and checks the signature (RFC 2986 section 4.2).
    pub fn parse(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > CSR_LIMIT {
            return Err(CsrError::TooLong(der.len()));
        }
        let parsed = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
            .map_err(malformed)?;
        let key = parsed.public_key;
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(CsrError::KeyKind);
        }
        let digest = digest_of(&key.subject_public_key_info());
        Ok(Self { key, digest })
    }

    /// Which key is to be certified.
    pub fn public_key(&self) -> PublicKeyDigest {
        self.digest
    }

    pub(crate) fn key(&self) -> &rcgen::PublicKey {
        &self.key
    }
}

pub(crate) fn digest_of(info: &[u8]) -> PublicKeyDigest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, info).as_ref());
    PublicKeyDigest(bytes)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn malformed(error: rcgen::Error) -> CsrError {
    CsrError::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use rcgen::PKCS_ED25519;

    use super::*;

    #[test]
    fn a_request_proves_its_key() {
        let key = NodeKey::generate().unwrap();
        let der = key.signing_request().unwrap();
        assert!(der.len() < 512, "{}", der.len());
        assert_eq!(
            SigningRequest::parse(&der).unwrap().public_key(),
            key.public_key()
        );
        // The last byte is the signature's.
        let mut forged = der;
        *forged.last_mut().unwrap() ^= 1;
        assert!(matches!(
            SigningRequest::parse(&forged),
            Err(CsrError::Malformed(_))
        ));
    }

    #[test]
    fn other_keys_and_garbage_are_refused() {
        let other = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let der = CertificateParams::default().serialize_request(&other).unwrap();
        assert_eq!(SigningRequest::parse(der.der()).unwrap_err(), CsrError::KeyKind);
        assert!(matches!(
            NodeKey::from_pem(&other.serialize_pem()),
            Err(CsrError::KeyKind)
        ));
        assert!(matches!(SigningRequest::parse(b""), Err(CsrError::Malformed(_))));
        assert_eq!(
            SigningRequest::parse(&[0; 4096]).unwrap_err(),
            CsrError::TooLong(4096)
        );
    }

    #[test]
    fn the_private_half_is_not_shown() {
        let key = NodeKey::generate().unwrap();
        let shown = format!("{key:?}");
        assert!(shown.len() < 200 && shown.contains("not shown"), "{shown}");
        assert_eq!(
            NodeKey::from_pem(&key.to_pem()).unwrap().public_key(),
            key.public_key()
        );
    }
}
