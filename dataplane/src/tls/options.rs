//! TLS options by name: from Traefik's words to what rustls needs.
//!
//! Where the words ask for something that rustls does not have because it is weak (TLS 1.0, CBC suites), the strong
//! part of the wish is kept and the rest reported. Where nothing is left, or a CA can't be read, the options can't be
//! used and the names that need them are refused: other options in their place could open what these protect.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::crypto::aws_lc_rs::{cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;

use super::client_auth::{ClientAuth, ClientAuthError, ClientAuthSpec};

/// `tls.options.NAME` as written; absent keys are empty. The words are Traefik's, which are Go's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OptionsSpec {
    /// `VersionTLS12` (the default) or `VersionTLS13`; older ones are raised to `VersionTLS12`.
    pub min_version: Option<String>,
    /// `VersionTLS12` or `VersionTLS13` (the default).
    pub max_version: Option<String>,
    /// TLS 1.2 suites by name; empty: all. TLS 1.3 suites are always on, as in Go.
    pub cipher_suites: Vec<String>,
    /// Groups in order of preference (`X25519`, `CurveP256`, ...); empty: all.
    pub curve_preferences: Vec<String>,
    /// Client certificates.
    pub client_auth: ClientAuthSpec,
    /// Refuse names that no certificate has.
    pub sni_strict: bool,
    /// Application protocols, best first; `None`: `h2`, `http/1.1`.
    pub alpn_protocols: Option<Vec<String>>,
    /// Issue no session tickets.
    pub disable_session_tickets: bool,
}

/// Why options can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// Not a version.
    #[error("{key}: {value:?} is not a TLS version; expected VersionTLS12 or VersionTLS13")]
    Version {
        /// `minVersion` or `maxVersion`.
        key: &'static str,
        /// As written.
        value: String,
    },
    /// The maximum is below TLS 1.2.
    #[error("maxVersion: {value} is too old to be served; expected VersionTLS12 or VersionTLS13")]
    TooOld {
        /// As written.
        value: String,
    },
    /// Minimum above maximum.
    #[error("minVersion VersionTLS13 is above maxVersion VersionTLS12; raise maxVersion or leave it out")]
    VersionRange,
    /// No suite is left for the only version.
    #[error(
        "cipherSuites: none of {value} can be served with TLS 1.2; add TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 or allow TLS 1.3"
    )]
    NoCipherSuite {
        /// As written, joined by commas.
        value: String,
    },
    /// No group is left.
    #[error("curvePreferences: none of {value} can be served; add X25519 or CurveP256")]
    NoGroup {
        /// As written, joined by commas.
        value: String,
    },
    /// An application protocol that can't be sent.
    #[error(
        "alpnProtocols: {value:?} is not an application protocol; expected 1 to 255 bytes, such as h2 or http/1.1"
    )]
    Alpn {
        /// As written.
        value: String,
    },
    /// The client authentication can't be set up.
    #[error("clientAuth: {0}")]
    ClientAuth(#[from] ClientAuthError),
    /// rustls refuses the combination.
    #[error("this combination of versions, cipher suites and curves can't be served: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Options as rustls needs them.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) client_auth: ClientAuth,
    pub(super) sni_strict: bool,
    pub(super) alpn: Vec<Vec<u8>>,
    /// Nobody named protocols: those above are the ones of HTTP.
    pub(super) alpn_of_http: bool,
    pub(super) tickets: bool,
    /// SHA-256 of the name and everything above: what session tickets are bound to, and when to make anew.
    pub(super) fingerprint: [u8; 32],
}

impl Options {
    /// Reads the words. What was left out of them without harm is returned beside the options.
    pub(super) fn resolve(
        name: &str,
        spec: &OptionsSpec,
        base: &CryptoProvider,
    ) -> Result<(Self, Vec<String>), OptionsError> {
        let mut remarks = Vec::new();
        let suites = cipher_suites(spec, base, &mut remarks);
        let versions = versions(spec, &suites, &mut remarks)?;
        let groups = groups(spec, base, &mut remarks)?;
        let provider = Arc::new(CryptoProvider {
            cipher_suites: suites,
            kx_groups: groups,
            ..base.clone()
        });
        let client_auth = ClientAuth::resolve(&spec.client_auth, &provider)?;
        let fingerprint = fingerprint(name, spec, client_auth.authorities());
        let options = Self {
            versions,
            provider,
            client_auth,
            sni_strict: spec.sni_strict,
            alpn: alpn(spec)?,
            alpn_of_http: spec.alpn_protocols.is_none(),
            tickets: !spec.disable_session_tickets,
            fingerprint,
        };
        Ok((options, remarks))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    Old,
    V12,
    V13,
}

fn version(key: &'static str, value: &str) -> Result<Version, OptionsError> {
    match value {
        "VersionTLS10" | "VersionTLS11" => Ok(Version::Old),
        "VersionTLS12" => Ok(Version::V12),
        "VersionTLS13" => Ok(Version::V13),
        _ => Err(OptionsError::Version {
            key,
            value: value.to_owned(),
        }),
    }
}

fn versions(
    spec: &OptionsSpec,
    suites: &[SupportedCipherSuite],
    remarks: &mut Vec<String>,
) -> Result<Vec<&'static SupportedProtocolVersion>, OptionsError> {
    let written = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let min = written(&spec.min_version).map_or(Ok::<_, OptionsError>(Version::V12), |value| {
        let version = version("minVersion", &value)?;
        if version == Version::Old {
            remarks.push(format!(
                "minVersion: {value} is not served because it is broken; TLS 1.2 is the minimum"
            ));
        }
        Ok(version.max(Version::V12))
    })?;
    let max = written(&spec.max_version).map_or(Ok(Version::V13), |value| {
        match version("maxVersion", &value)? {
            Version::Old => Err(OptionsError::TooOld { value }),
            version => Ok(version),
        }
    })?;
    if min > max {
        return Err(OptionsError::VersionRange);
    }
    let has_12_suite = suites.iter().any(|suite| suite.tls13().is_none());
    let mut versions = Vec::new();
    if max == Version::V13 {
        versions.push(&TLS13);
    }
    if min == Version::V12 {
        match (has_12_suite, max) {
            (true, _) => versions.push(&TLS12),
            (false, Version::V13) => {
                remarks.push(
                    "cipherSuites: none of them is a TLS 1.2 suite that can be served; only TLS 1.3 is"
                        .into(),
                );
            }
            (false, _) => {
                return Err(OptionsError::NoCipherSuite {
                    value: spec.cipher_suites.join(", "),
                });
            }
        }
    }
    Ok(versions)
}

/// Suites by Go's names, with the two names Go keeps for old programs.
const SUITES: [(&str, SupportedCipherSuite); 11] = [
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_AES_128_GCM_SHA256", cipher_suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", cipher_suite::TLS13_AES_256_GCM_SHA384),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ),
];

fn cipher_suites(
    spec: &OptionsSpec,
    base: &CryptoProvider,
    remarks: &mut Vec<String>,
) -> Vec<SupportedCipherSuite> {
    if spec.cipher_suites.is_empty() {
        return base.cipher_suites.clone();
    }
    let mut suites: Vec<_> = base
        .cipher_suites
        .iter()
        .copied()
        .filter(|suite| suite.tls13().is_some())
        .collect();
    for name in &spec.cipher_suites {
        match SUITES.iter().find(|(known, _)| known == name) {
            Some((_, suite)) if !suites.contains(suite) => suites.push(*suite),
            Some(_) => {}
            None => remarks.push(format!(
                "cipherSuites: {name} is not served (unknown, or without forward secrecy or authenticated encryption) \
                 and left out; expected names such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
            )),
        }
    }
    suites
}

fn groups(
    spec: &OptionsSpec,
    base: &CryptoProvider,
    remarks: &mut Vec<String>,
) -> Result<Vec<&'static dyn SupportedKxGroup>, OptionsError> {
    if spec.curve_preferences.is_empty() {
        return Ok(base.kx_groups.clone());
    }
    let mut groups: Vec<&'static dyn SupportedKxGroup> = Vec::new();
    for name in &spec.curve_preferences {
        let group = match name.to_ascii_lowercase().as_str() {
            "x25519" => kx_group::X25519,
            "curvep256" | "secp256r1" => kx_group::SECP256R1,
            "curvep384" | "secp384r1" => kx_group::SECP384R1,
            "x25519mlkem768" => kx_group::X25519MLKEM768,
            "secp256r1mlkem768" => kx_group::SECP256R1MLKEM768,
            _ => {
                remarks.push(format!(
                    "curvePreferences: {name} is not served and left out; expected X25519MLKEM768, X25519, CurveP256 \
                     or CurveP384"
                ));
                continue;
            }
        };
        if groups.iter().all(|known| known.name() != group.name()) {
            groups.push(group);
        }
    }
    if groups.is_empty() {
        return Err(OptionsError::NoGroup {
            value: spec.curve_preferences.join(", "),
        });
    }
    Ok(groups)
}

fn alpn(spec: &OptionsSpec) -> Result<Vec<Vec<u8>>, OptionsError> {
    let Some(protocols) = &spec.alpn_protocols else {
        return Ok(vec![b"h2".to_vec(), b"http/1.1".to_vec()]);
    };
    protocols
        .iter()
        .map(|protocol| match protocol.len() {
            1..=255 => Ok(protocol.as_bytes().to_vec()),
            _ => Err(OptionsError::Alpn {
                value: protocol.clone(),
            }),
        })
        .collect()
}

/// Every part is preceded by its length, so that no two different sets of options give the same input.
fn fingerprint(name: &str, spec: &OptionsSpec, authorities: &[CertificateDer<'static>]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    let mut add = |part: &[u8]| {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    };
    let mut list = |parts: &[String]| {
        add(&parts.len().to_be_bytes());
        parts.iter().for_each(|part| add(part.as_bytes()));
    };
    list(&[name.to_owned()]);
    list(&spec.min_version.iter().cloned().collect::<Vec<_>>());
    list(&spec.max_version.iter().cloned().collect::<Vec<_>>());
    list(&spec.cipher_suites);
    list(&spec.curve_preferences);
    list(&spec.client_auth.kind.iter().cloned().collect::<Vec<_>>());
    list(spec.alpn_protocols.as_deref().unwrap_or_default());
    add(&[
        u8::from(spec.sni_strict),
        u8::from(spec.disable_session_tickets),
        u8::from(spec.alpn_protocols.is_some()),
    ]);
    authorities.iter().for_each(|authority| add(authority));
    let digest = context.finish();
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest.as_ref());
    fingerprint
}
