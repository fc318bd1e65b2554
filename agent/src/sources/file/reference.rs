//! Files that documents only point at: certificates, keys, trust anchors. Their content belongs to what a document
//! says, although its text doesn't change with it.

use std::collections::BTreeSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};

use constellation_config::dynamic::{CertificatePair, Dynamic};

/// More than any chain of certificates; a path to something endless must not be read to its end.
const MAX_BYTES: u64 = 1 << 20;

/// All paths that `dynamic` points at. What holds PEM itself is no path.
pub(super) fn referenced(dynamic: &Dynamic) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    let mut add = |text: &str| {
        if !text.is_empty() && !text.contains("-----BEGIN") && !text.contains('\n') {
            paths.insert(PathBuf::from(text));
        }
    };
    let mut pairs: Vec<&CertificatePair> = dynamic.tls.certificates.iter().collect();
    pairs.extend(
        dynamic
            .tls
            .stores
            .values()
            .filter_map(|store| store.default_certificate.as_ref()),
    );
    for transport in dynamic.http.servers_transports.values() {
        pairs.extend(&transport.certificates);
        transport.root_cas.iter().for_each(|path| add(path));
    }
    for pair in pairs {
        add(&pair.cert_file);
        add(&pair.key_file);
    }
    for options in dynamic.tls.options.values() {
        options
            .client_auth
            .iter()
            .flat_map(|auth| &auth.ca_files)
            .for_each(|path| add(path));
    }
    paths
}

/// A number that changes with the content of any of the files, and with whether it can be read.
pub(super) fn fingerprint(paths: &BTreeSet<PathBuf>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        path.hash(&mut hasher);
        content(path).hash(&mut hasher);
    }
    hasher.finish()
}

fn content(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(MAX_BYTES)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}
