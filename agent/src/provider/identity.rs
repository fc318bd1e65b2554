//! TLS of the provider: read again when a file changes, and kept as it was when that fails.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use constellation_config::ProviderTls;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::http_server::Identity;

/// What the files were when they were read.
type Stamp = Vec<Option<(SystemTime, u64)>>;

/// Reads the files, and gives what is asked for each connection from then on.
///
/// # Errors
/// When they can't be used now.
pub(super) fn load(tls: &ProviderTls) -> Result<Identity, String> {
    let first = (stamp(tls), Arc::new(read(tls)?));
    let (tls, known) = (tls.clone(), Mutex::new(first));
    Ok(Arc::new(move || {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&tls);
        if known.0 != now {
            known.0 = now;
            match read(&tls) {
                Ok(config) => known.1 = Arc::new(config),
                Err(error) => tracing::error!(error, "the certificate of the provider stays as it was"),
            }
        }
        known.1.clone()
    }))
}

fn stamp(tls: &ProviderTls) -> Stamp {
    let files = [&tls.cert_file, &tls.key_file].into_iter().chain(&tls.client_cas);
    let of = |file: &Path| {
        let metadata = fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.map(|file| of(file)).collect()
}

fn read(tls: &ProviderTls) -> Result<ServerConfig, String> {
    let chain = certificates("traefikProvider.tls.certFile", &tls.cert_file)?;
    let key_name = "traefikProvider.tls.keyFile";
    let key = PrivateKeyDer::from_pem_slice(&content(key_name, &tls.key_file)?).map_err(|error| {
        format!(
            "{key_name} {}: {error}; expected a private key in PEM",
            tls.key_file.display()
        )
    })?;
    let builder = ServerConfig::builder();
    let builder = if tls.client_cas.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for file in &tls.client_cas {
            let name = "traefikProvider.tls.clientAuth.caFiles";
            for certificate in certificates(name, file)? {
                roots
                    .add(certificate)
                    .map_err(|error| format!("{name} {}: {error}", file.display()))?;
            }
        }
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
            .build()
            .map_err(|error| format!("traefikProvider.tls.clientAuth: {error}"))?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| format!("traefikProvider.tls: {error}; give a certificate and its own key"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(name: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content(name, file)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!(
            "{name} {}: it holds no certificate in PEM",
            file.display()
        )),
        Err(error) => Err(format!("{name} {}: {error}", file.display())),
    }
}

fn content(name: &str, file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| {
        format!(
            "{name} {}: {error}; check the path and its permissions",
            file.display()
        )
    })
}
