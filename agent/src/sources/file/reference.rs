//! Files that documents only point at: certificates, keys, trust anchors, users. Their content belongs to what a document
//! says, although its text doesn't change with it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use constellation_config::dynamic::{CertificatePair, Dynamic};

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
    for middleware in dynamic.http.middlewares.values() {
        middleware.files().into_iter().for_each(&mut add);
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
