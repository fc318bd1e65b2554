//! The documents of several files to one. Pure.
//!
//! As in Traefik the first definition of a name counts, in the order of the files, and the later one is reported.
//! Routers and services are shared with the documents, so that merging again costs little more than their names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use constellation_config::dynamic::{CertificatePair, Dynamic};

use super::PROVIDER;
use crate::sources::Problem;

/// Collects documents.
#[derive(Default)]
pub(super) struct Merger {
    dynamic: Dynamic,
    /// What was added so far, in order.
    documents: Vec<(PathBuf, Arc<Dynamic>)>,
    problems: Vec<Problem>,
}

impl Merger {
    /// Adds the document of `path`.
    pub(super) fn add(&mut self, path: &Path, document: &Arc<Dynamic>) {
        let mut scribe = Scribe {
            path,
            documents: &self.documents,
            problems: &mut self.problems,
        };
        let into = &mut self.dynamic;
        scribe.add(
            "router",
            into,
            document,
            |d| &d.http.routers,
            |d| &mut d.http.routers,
        );
        scribe.add(
            "service",
            into,
            document,
            |d| &d.http.services,
            |d| &mut d.http.services,
        );
        scribe.add(
            "middleware",
            into,
            document,
            |d| &d.http.middlewares,
            |d| &mut d.http.middlewares,
        );
        scribe.add(
            "serversTransport",
            into,
            document,
            |d| &d.http.servers_transports,
            |d| &mut d.http.servers_transports,
        );
        scribe.add(
            "TLS options",
            into,
            document,
            |d| &d.tls.options,
            |d| &mut d.tls.options,
        );
        scribe.add(
            "TLS store",
            into,
            document,
            |d| &d.tls.stores,
            |d| &mut d.tls.stores,
        );
        scribe.add(
            "options of service",
            into,
            document,
            |d| &d.constellation.http.services,
            |d| &mut d.constellation.http.services,
        );
        scribe.add(
            "TCP router",
            into,
            document,
            |d| &d.tcp.routers,
            |d| &mut d.tcp.routers,
        );
        scribe.add(
            "TCP service",
            into,
            document,
            |d| &d.tcp.services,
            |d| &mut d.tcp.services,
        );
        scribe.add(
            "TCP middleware",
            into,
            document,
            |d| &d.tcp.middlewares,
            |d| &mut d.tcp.middlewares,
        );
        scribe.add(
            "TCP serversTransport",
            into,
            document,
            |d| &d.tcp.servers_transports,
            |d| &mut d.tcp.servers_transports,
        );
        scribe.add(
            "UDP router",
            into,
            document,
            |d| &d.udp.routers,
            |d| &mut d.udp.routers,
        );
        scribe.add(
            "UDP service",
            into,
            document,
            |d| &d.udp.services,
            |d| &mut d.udp.services,
        );
        scribe.add(
            "options of TCP service",
            into,
            document,
            |d| &d.constellation.tcp.services,
            |d| &mut d.constellation.tcp.services,
        );
        scribe.add(
            "options of UDP service",
            into,
            document,
            |d| &d.constellation.udp.services,
            |d| &mut d.constellation.udp.services,
        );
        for pair in &document.tls.certificates {
            if !into.tls.certificates.iter().any(|known| same_pair(known, pair)) {
                into.tls.certificates.push(pair.clone());
            }
        }
        self.documents.push((path.to_owned(), document.clone()));
    }

    /// Adds a problem with a file.
    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn finish(self) -> (Dynamic, Vec<Problem>) {
        (self.dynamic, self.problems)
    }
}

/// Objects of one kind by name.
type Objects<T> = BTreeMap<String, T>;

/// Writes the objects of one file.
struct Scribe<'a> {
    path: &'a Path,
    documents: &'a [(PathBuf, Arc<Dynamic>)],
    problems: &'a mut Vec<Problem>,
}

impl Scribe<'_> {
    /// Adds one kind of objects, which `of` finds in a document and `of_mut` in the merged one.
    fn add<T: Clone>(
        &mut self,
        kind: &'static str,
        into: &mut Dynamic,
        document: &Dynamic,
        of: fn(&Dynamic) -> &Objects<T>,
        of_mut: fn(&mut Dynamic) -> &mut Objects<T>,
    ) {
        let (into, from) = (of_mut(into), of(document));
        for name in from.keys().filter(|name| into.contains_key(*name)) {
            let owner = self
                .documents
                .iter()
                .find(|(_, earlier)| of(earlier).contains_key(name));
            let owner = owner.map_or(self.path, |(path, _)| path.as_path());
            self.problems.push(Problem {
                subject: format!("{kind} {name}@{PROVIDER}"),
                message: format!(
                    "defined in {} and again in {}; the first counts. Rename or remove one of them",
                    owner.display(),
                    self.path.display()
                ),
            });
        }
        let news = from.iter().filter(|(name, _)| !into.contains_key(*name));
        let mut news: Objects<T> = news
            .map(|(name, object)| (name.clone(), object.clone()))
            .collect();
        // The first definition counts, so there is no name in both. Appending takes its time for every object of
        // both; extending only for the new ones, but more for each.
        if news.len() < into.len() {
            into.extend(news);
        } else {
            into.append(&mut news);
        }
    }
}

fn same_pair(a: &CertificatePair, b: &CertificatePair) -> bool {
    a.cert_file == b.cert_file && a.key_file == b.key_file
}
