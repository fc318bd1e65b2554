//! The certificate provider: directories of certificates with their keys to `tls.certificates`.
//!
//! `scan` lists the files, `pair` says which certificate belongs to which key, and `read` makes one contribution of the
//! pairs. Whether a pair is sound is judged where it is loaded: there the last good one stands in for a broken one.

mod pair;
mod read;
mod scan;
#[cfg(test)]
mod tests;

use constellation_config::CertificatesProvider;
use tokio_util::sync::CancellationToken;

use super::{SourceHandle, watched};
use read::Reader;

/// The name of the provider.
const PROVIDER: &str = "certificates";

/// Starts the provider. It runs until `cancel`.
pub fn spawn(provider: CertificatesProvider, cancel: CancellationToken) -> SourceHandle {
    let CertificatesProvider { directories, watch } = provider;
    watched::spawn(PROVIDER, watch, move || Reader::new(directories.clone()), cancel)
}
