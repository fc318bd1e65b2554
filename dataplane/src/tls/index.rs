//! The certificates of a generation by server name.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::{Certificate, CertificateInfo};
use super::names::NameMap;

/// Certificates by name, the best of each name first, and the one for everything else.
#[derive(Debug)]
pub(super) struct CertificateIndex {
    all: Vec<Arc<Certificate>>,
    default: Arc<Certificate>,
    by_name: NameMap<Vec<Arc<Certificate>>>,
}

impl CertificateIndex {
    pub(super) fn new(all: Vec<Arc<Certificate>>, default: Arc<Certificate>) -> Self {
        let mut by_name: NameMap<Vec<Arc<Certificate>>> = NameMap::default();
        for certificate in &all {
            for name in &certificate.info.names {
                by_name.entry(name).or_default().push(Arc::clone(certificate));
            }
        }
        by_name
            .values_mut()
            .for_each(|same_name| same_name.sort_by_cached_key(|c| c.preference()));
        Self {
            all,
            default,
            by_name,
        }
    }

    /// Whether it was made from the very same certificates.
    pub(super) fn made_of(&self, all: &[Arc<Certificate>], default: &Arc<Certificate>) -> bool {
        let same = |(a, b): (&Arc<Certificate>, &Arc<Certificate>)| Arc::ptr_eq(a, b);
        Arc::ptr_eq(&self.default, default)
            && self.all.len() == all.len()
            && self.all.iter().zip(all).all(same)
    }

    /// Whether some certificate has the name. The default certificate does not count.
    pub(super) fn has(&self, name: &str) -> bool {
        self.by_name.matches(name).next().is_some()
    }

    /// The first certificate for the name whose signature the client can verify; a wildcard before none. Where the
    /// client can verify none, the first of the name: the handshake then fails for the true reason.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> &Arc<Certificate> {
        let verifiable = |c: &&Arc<Certificate>| c.key.key.choose_scheme(schemes).is_some();
        let name = name.unwrap_or_default();
        let candidates = || self.by_name.matches(name).flatten();
        candidates()
            .find(verifiable)
            .or_else(|| candidates().next())
            .unwrap_or(&self.default)
    }

    /// Every certificate once, the default one included.
    pub(super) fn infos(&self) -> impl Iterator<Item = &CertificateInfo> {
        let default_is_listed = self.all.iter().any(|c| Arc::ptr_eq(c, &self.default));
        let default = (!default_is_listed).then_some(&self.default);
        self.all
            .iter()
            .chain(default)
            .map(|certificate| &certificate.info)
    }
}

impl ResolvesServerCert for CertificateIndex {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(
            &self.choose(hello.server_name(), hello.signature_schemes()).key,
        ))
    }
}
