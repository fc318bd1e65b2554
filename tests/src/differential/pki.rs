//! Certificates of a run: those that configurations name, and those that clients present.
//!
//! Configurations have words for them, which [`Pki::resolve`] replaces: `@crt:NAMES` and `@key:NAMES` are the files of a
//! certificate for these names, with commas between them; `@pem-crt:` and `@pem-key:` stand for their content; `@clients`
//! is the file of the authority of clients, `@others` that of another one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::case::Presented;
use crate::certificates::{Authority, Identity, replace};

/// See the module.
#[derive(Debug)]
pub(super) struct Pki {
    directory: PathBuf,
    servers: Authority,
    clients: HashMap<Presented, Identity>,
    /// Certificates of servers by their names.
    made: Mutex<HashMap<String, Identity>>,
}

impl Pki {
    /// Makes authorities, and files in `directory`.
    pub(super) fn new(directory: &Path) -> Self {
        let [trusted, other, strange] = ["clients", "others", "strangers"].map(Authority::new);
        replace(&directory.join("clients.pem"), trusted.pem().as_bytes());
        replace(&directory.join("others.pem"), other.pem().as_bytes());
        let clients = [
            (Presented::Trusted, trusted.sign(&["client.test", "Client Two"])),
            (Presented::Other, other.sign(&["other.test"])),
            (Presented::Stranger, strange.sign(&["client.test"])),
            (
                Presented::Expired,
                trusted.sign_changed(&["expired.test"], |params| {
                    params.not_before = date_time_ymd(2019, 1, 1);
                    params.not_after = date_time_ymd(2020, 1, 1);
                }),
            ),
            (
                Presented::ServerOnly,
                trusted.sign_changed(&["server.test"], |params| {
                    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                }),
            ),
        ];
        Self {
            directory: directory.to_owned(),
            servers: Authority::new("servers"),
            clients: clients.into(),
            made: Mutex::default(),
        }
    }

    /// What a client presents.
    pub(super) fn client(
        &self,
        which: Presented,
    ) -> Option<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
        let identity = self.clients.get(&which)?;
        Some((identity.der(), identity.key_der()))
    }

    /// The names of a certificate that a server has shown; none of those that it has made itself.
    pub(super) fn names(&self, shown: &CertificateDer<'_>) -> Option<String> {
        let made = self.made.lock().unwrap();
        let found = made.iter().find(|(_, identity)| identity.der() == *shown);
        found.map(|(names, _)| names.clone())
    }

    /// Replaces the words for certificates in a configuration.
    pub(super) fn resolve(&self, configuration: &mut Value) {
        match configuration {
            Value::String(text) => {
                if let Some(word) = text.strip_prefix('@') {
                    *text = self.meaning(word);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.resolve(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.resolve(field)),
            _ => {}
        }
    }

    fn meaning(&self, word: &str) -> String {
        let Some((what, names)) = word.split_once(':') else {
            let file = self.directory.join(format!("{word}.pem"));
            return file.display().to_string();
        };
        let mut made = self.made.lock().unwrap();
        let identity = made.entry(names.to_owned()).or_insert_with(|| {
            let all: Vec<&str> = names.split(',').collect();
            self.servers.sign(&all)
        });
        match what {
            "pem-crt" => identity.certificate.clone(),
            "pem-key" => identity.key.clone(),
            end => {
                let digest = Sha256::digest(names.as_bytes());
                let name: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
                let file = self.directory.join(format!("{name}.{end}"));
                if !file.exists() {
                    identity.write(&self.directory, &name);
                }
                file.display().to_string()
            }
        }
    }
}
