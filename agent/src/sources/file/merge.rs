//! The documents of several files to one. Pure.
//!
//! As in Traefik the first definition of a name counts, in the order of the files, and the later one is reported.

use std::collections::BTreeMap;
use std::path::Path;

use constellation_config::dynamic::{CertificatePair, Dynamic};
use serde_json::Value;

use super::PROVIDER;
use crate::sources::Problem;

/// Collects documents.
#[derive(Default)]
pub(super) struct Merger {
    dynamic: Dynamic,
    /// Which file defined what: kind and name.
    owners: BTreeMap<(&'static str, String), String>,
    problems: Vec<Problem>,
}

impl Merger {
    /// Adds the document of `path`.
    pub(super) fn add(&mut self, path: &Path, document: &Dynamic) {
        let http = &document.http;
        let mut scribe = Scribe {
            path: path.display().to_string(),
            owners: &mut self.owners,
            problems: &mut self.problems,
        };
        let into = &mut self.dynamic.http;
        scribe.add("router", &mut into.routers, &http.routers);
        scribe.add("service", &mut into.services, &http.services);
        scribe.add("middleware", &mut into.middlewares, &http.middlewares);
        scribe.add(
            "serversTransport",
            &mut into.servers_transports,
            &http.servers_transports,
        );
        let into = &mut self.dynamic.tls;
        scribe.add("TLS options", &mut into.options, &document.tls.options);
        scribe.add("TLS store", &mut into.stores, &document.tls.stores);
        for pair in &document.tls.certificates {
            if !into.certificates.iter().any(|known| same_pair(known, pair)) {
                into.certificates.push(pair.clone());
            }
        }
        merge_raw(&mut self.dynamic.tcp, document.tcp.as_ref());
        merge_raw(&mut self.dynamic.udp, document.udp.as_ref());
    }

    /// Adds a problem with a file.
    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn finish(self) -> (Dynamic, Vec<Problem>) {
        (self.dynamic, self.problems)
    }
}

/// Writes the objects of one file.
struct Scribe<'a> {
    path: String,
    owners: &'a mut BTreeMap<(&'static str, String), String>,
    problems: &'a mut Vec<Problem>,
}

impl Scribe<'_> {
    fn add<T: Clone>(
        &mut self,
        kind: &'static str,
        into: &mut BTreeMap<String, T>,
        from: &BTreeMap<String, T>,
    ) {
        for (name, object) in from {
            if let Some(owner) = self.owners.get(&(kind, name.clone())) {
                self.problems.push(Problem {
                    subject: format!("{kind} {name}@{PROVIDER}"),
                    message: format!(
                        "defined in {owner} and again in {}; the first counts. Rename or remove one of them",
                        self.path
                    ),
                });
                continue;
            }
            self.owners.insert((kind, name.clone()), self.path.clone());
            into.insert(name.clone(), object.clone());
        }
    }
}

fn same_pair(a: &CertificatePair, b: &CertificatePair) -> bool {
    a.cert_file == b.cert_file && a.key_file == b.key_file
}

/// Sections that are kept as written: objects by kind and name, the first one counts.
fn merge_raw(into: &mut Option<Value>, from: Option<&Value>) {
    match (into.as_mut(), from) {
        (_, None) => {}
        (None, Some(from)) => *into = Some(from.clone()),
        (Some(Value::Object(into)), Some(Value::Object(from))) => {
            for (kind, objects) in from {
                let known = into
                    .entry(kind.clone())
                    .or_insert_with(|| Value::Object(serde_json::Map::new()));
                if let (Value::Object(known), Value::Object(objects)) = (known, objects) {
                    for (name, object) in objects {
                        known.entry(name.clone()).or_insert_with(|| object.clone());
                    }
                }
            }
        }
        (Some(_), Some(_)) => {}
    }
}
