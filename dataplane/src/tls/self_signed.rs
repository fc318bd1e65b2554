//! The certificate served where no other fits: made once per process, signed by itself.

use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::crypto::CryptoProvider;

use super::certificate::Certificate;
use super::context::ContextError;

/// Validity. Browsers refuse leaf certificates of more than 398 days.
const VALID: Duration = Duration::from_secs(397 * 24 * 3600);
/// Clocks of clients may be behind.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// ECDSA P-256 for `names`; those that can't stand in a certificate are left out.
pub(super) fn make(provider: &CryptoProvider, names: &[String]) -> Result<Certificate, ContextError> {
    let mut names: Vec<String> = names.iter().filter(|name| is_name(name)).cloned().collect();
    if names.is_empty() {
        names.push("localhost".to_owned());
    }
    let now = SystemTime::now();
    let mut params = CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "Constellation default certificate");
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + VALID - BACKDATED).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let chain = params.self_signed(&key)?.pem();
    let origin = "self-signed default";
    Ok(Certificate::load(
        provider,
        (origin, chain.as_bytes()),
        (origin, key.serialize_pem().as_bytes()),
    )?)
}

/// RFC 1123 host names with an optional wildcard label, and IP addresses.
fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let host = name.strip_prefix("*.").unwrap_or(name);
    name.parse::<std::net::IpAddr>().is_ok() || (host.len() <= 253 && host.split('.').all(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_the_names_that_can_be_covered() {
        let names = [
            "edge-1",
            "*.example.test",
            "127.0.0.1",
            "no spaces",
            "-x.test",
            "",
        ]
        .map(str::to_owned);
        let certificate = make(&super::super::provider(), &names).unwrap();
        let covered: Vec<&str> = certificate.info.names.iter().map(|n| &**n).collect();
        assert_eq!(covered, ["*.example.test", "127.0.0.1", "edge-1"]);
        let days = certificate
            .info
            .not_after
            .duration_since(certificate.info.not_before)
            .unwrap()
            .as_secs()
            / 86_400;
        assert!(days <= 398, "{days}");
    }
}
