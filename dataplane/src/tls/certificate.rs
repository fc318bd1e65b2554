//! One certificate with its key, ready to serve: names, expiry, algorithm.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::SignatureAlgorithm;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

use super::pem::{self, PemError, PemPart};

/// What status and metrics say of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The names it is valid for, joined by commas; its subject when it has none.
    pub subject: Arc<str>,
    /// SHA-256 of the leaf certificate, the first 16 hexadecimal digits.
    pub fingerprint: Arc<str>,
    /// The names it is valid for, lower case.
    pub names: Vec<Arc<str>>,
    /// Start of its validity.
    pub not_before: SystemTime,
    /// End of its validity.
    pub not_after: SystemTime,
    /// The file, or `(inline)`, or `self-signed default`.
    pub origin: Arc<str>,
}

/// A certificate with its key. Debug shows what status shows, never the key.
pub(super) struct Certificate {
    pub(super) info: CertificateInfo,
    pub(super) key: Arc<CertifiedKey>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.fmt(f)
    }
}

impl Certificate {
    /// Parses chain and key and checks that they are a pair.
    pub(super) fn load(
        provider: &CryptoProvider,
        (chain_origin, chain_pem): (&str, &[u8]),
        (key_origin, key_pem): (&str, &[u8]),
    ) -> Result<Self, PemError> {
        let key = load_key(provider, (chain_origin, chain_pem), (key_origin, key_pem))?;
        let info = CertificateInfo::read(chain_origin, &key)?;
        Ok(Self {
            info,
            key: Arc::new(key),
        })
    }

    /// The order among certificates that have the same name: ECDSA before Ed25519 before RSA (cheaper for us, and
    /// clients that can't verify it are passed over), then the one that is valid longest, then a fixed order.
    pub(super) fn preference(&self) -> impl Ord + use<> {
        let algorithm = match self.key.key.algorithm() {
            SignatureAlgorithm::ECDSA => 0,
            SignatureAlgorithm::ED25519 => 1,
            _ => 2,
        };
        (
            algorithm,
            std::cmp::Reverse(self.info.not_after),
            Arc::clone(&self.info.fingerprint),
        )
    }
}

fn load_key(
    provider: &CryptoProvider,
    (chain_origin, chain_pem): (&str, &[u8]),
    (key_origin, key_pem): (&str, &[u8]),
) -> Result<CertifiedKey, PemError> {
    let chain = pem::certificates(PemPart::Certificate, chain_origin, chain_pem)?;
    let key = pem::private_key(key_origin, key_pem)?;
    let signing = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| PemError::UnsupportedKey {
            origin: key_origin.to_owned(),
            problem: error.to_string(),
        })?;
    let certified = CertifiedKey::new(chain, signing);
    // Every key of this provider knows its public part, so "unknown" can't hide a mismatch.
    certified.keys_match().map_err(|_| PemError::Mismatch {
        certificate: chain_origin.to_owned(),
        key: key_origin.to_owned(),
    })?;
    Ok(certified)
}

impl CertificateInfo {
    fn read(origin: &str, key: &CertifiedKey) -> Result<Self, PemError> {
        let not_x509 = |problem: String| PemError::NotX509 {
            part: PemPart::Certificate,
            origin: origin.to_owned(),
            position: 1,
            problem,
        };
        let leaf = key
            .cert
            .first()
            .ok_or_else(|| not_x509("the chain is empty".to_owned()))?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(leaf).map_err(|error| not_x509(error.to_string()))?;
        let names = names(&parsed);
        let subject = if names.is_empty() {
            parsed.subject().to_string()
        } else {
            names.join(",")
        };
        let fingerprint: String = digest(&SHA256, leaf)
            .as_ref()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Self {
            subject: subject.into(),
            fingerprint: fingerprint.into(),
            names: names.into_iter().map(Arc::from).collect(),
            not_before: time(parsed.validity().not_before),
            not_after: time(parsed.validity().not_after),
            origin: origin.into(),
        })
    }
}

/// The subject's alternative names, and the common name where it can be a host name, as Traefik counts it.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let mut names: Vec<String> = alternative
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.trim_end_matches('.').to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => ip(bytes).map(|ip| ip.to_string()),
            _ => None,
        })
        .collect();
    let common = certificate
        .subject()
        .iter_common_name()
        .filter_map(|name| name.as_str().ok());
    names.extend(
        common
            .filter(|name| is_host_name(name))
            .map(str::to_ascii_lowercase),
    );
    names.sort();
    names.dedup();
    names
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn is_host_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '*' | '_');
    name.contains('.') && name.chars().all(allowed)
}

fn time(when: ASN1Time) -> SystemTime {
    let seconds = Duration::from_secs(when.timestamp().unsigned_abs());
    let moment = if when.timestamp() < 0 {
        UNIX_EPOCH.checked_sub(seconds)
    } else {
        UNIX_EPOCH.checked_add(seconds)
    };
    moment.unwrap_or(UNIX_EPOCH)
}
