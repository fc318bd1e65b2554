//! Directories to one contribution; a pair that lost one of its files stays until the other is gone too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use constellation_config::dynamic::{CertificatePair, Dynamic};

use super::PROVIDER;
use super::pair::{Kind, Pair, Unused, pair};
use super::scan::{Content, Found, content, scan};
use crate::sources::watched::stamp::{Stamp, fingerprint, stamps};
use crate::sources::watched::{Read, Reading, around};
use crate::sources::{Contribution, Problem};

/// Reads the directories of one provider.
#[derive(Debug)]
pub(super) struct Reader {
    directories: Vec<PathBuf>,
    /// What every file held when that could be told last: a file that is being written is still the same part.
    contents: BTreeMap<PathBuf, Content>,
    /// The pairs of the last reading.
    pairs: BTreeSet<Pair>,
    /// What the last reading looked at.
    stamps: BTreeMap<PathBuf, Option<Stamp>>,
}

impl Reader {
    pub(super) fn new(directories: Vec<PathBuf>) -> Self {
        Self {
            directories,
            contents: BTreeMap::new(),
            pairs: BTreeSet::new(),
            stamps: BTreeMap::new(),
        }
    }
}

impl Read for Reader {
    fn changed(&self) -> bool {
        let found = scan(&self.directories);
        !found.paths().all(|path| self.stamps.contains_key(path))
            || stamps(self.stamps.keys().map(PathBuf::as_path)) != self.stamps
    }

    fn read(&mut self) -> Reading {
        let found = scan(&self.directories);
        // Stamps come before contents: what changes in between differs from its stamp at the next look.
        let looked_at: BTreeSet<&PathBuf> = found.paths().chain(&self.directories).collect();
        let seen = stamps(looked_at.into_iter().map(PathBuf::as_path));
        let unreadable = self.look_into(&found);
        let mut pairs = BTreeSet::new();
        let mut unused = Vec::new();
        for folder in &found.folders {
            let known = |path: &PathBuf| (path.clone(), self.contents.get(path).copied());
            let files: Vec<_> = folder.files.iter().map(known).collect();
            let paired = pair(&files);
            pairs.extend(paired.pairs);
            unused.extend(paired.unused);
        }
        self.keep_halves(&found, &mut pairs);
        let used = |path: &Path| pairs.iter().any(|pair| pair.chain == path || pair.key == path);
        unused.retain(|unused| !used(&unused.path));
        let mut problems: Vec<Problem> = unused
            .into_iter()
            .map(|unused| problem(unused, &unreadable))
            .collect();
        let mut error = Vec::new();
        for (path, reason) in &found.errors {
            error.push(format!("{}: {reason}", path.display()));
            problems.push(Problem {
                subject: path.display().to_string(),
                message: reason.clone(),
            });
        }
        let mut watched = around(seen.keys());
        watched.extend(found.folders.iter().map(|folder| folder.path.clone()));
        let parts: BTreeSet<PathBuf> = pairs
            .iter()
            .flat_map(|pair| [pair.chain.clone(), pair.key.clone()])
            .collect();
        let mut dynamic = Dynamic::default();
        dynamic.tls.certificates = pairs
            .iter()
            .filter_map(|pair| named(pair, &mut problems))
            .collect();
        self.pairs = pairs;
        self.stamps = seen;
        Reading {
            contribution: Contribution {
                provider: PROVIDER,
                dynamic,
                problems,
                revision: fingerprint(&parts),
                ..Contribution::default()
            },
            error: (!error.is_empty()).then(|| error.join("\n")),
            watched,
            unsettled: false,
        }
    }
}

impl Reader {
    /// Looks into every file; returns why, where nobody can tell what it holds.
    fn look_into(&mut self, found: &Found) -> BTreeMap<PathBuf, String> {
        let mut unreadable = BTreeMap::new();
        let mut contents = BTreeMap::new();
        for path in found.files() {
            let known = match content(path) {
                Ok(content) => Some(content),
                Err(reason) => {
                    unreadable.insert(path.clone(), reason);
                    self.contents.get(path).copied()
                }
            };
            contents.extend(known.map(|content| (path.clone(), content)));
        }
        self.contents = contents;
        unreadable
    }

    /// Keeps pairs of the last reading of which one file is still there and free, and those in directories that can't
    /// be looked into now.
    fn keep_halves(&self, found: &Found, pairs: &mut BTreeSet<Pair>) {
        let files: BTreeSet<&PathBuf> = found.files().collect();
        let taken: BTreeSet<PathBuf> = pairs
            .iter()
            .flat_map(|pair| [pair.chain.clone(), pair.key.clone()])
            .collect();
        let lost = |path: &Path| {
            found
                .errors
                .iter()
                .any(|(directory, _)| path.starts_with(directory))
        };
        for pair in self.pairs.difference(&pairs.clone()) {
            let free = !taken.contains(&pair.chain) && !taken.contains(&pair.key);
            let half = files.contains(&pair.chain) || files.contains(&pair.key);
            if free && (half || lost(&pair.chain)) {
                pairs.insert(pair.clone());
            }
        }
    }
}

/// The pair as the configuration writes it.
fn named(pair: &Pair, problems: &mut Vec<Problem>) -> Option<CertificatePair> {
    match (pair.chain.to_str(), pair.key.to_str()) {
        (Some(chain), Some(key)) => Some(CertificatePair {
            cert_file: chain.to_owned(),
            key_file: key.to_owned(),
            ..CertificatePair::default()
        }),
        _ => {
            problems.push(Problem {
                subject: format!("certificate {}", pair.chain.display()),
                message: "its path is not UTF-8; rename the files".to_owned(),
            });
            None
        }
    }
}

fn problem(unused: Unused, unreadable: &BTreeMap<PathBuf, String>) -> Problem {
    let kind = match unused.kind {
        Kind::Chain => "certificate",
        Kind::Key => "key",
    };
    Problem {
        subject: format!("{kind} {}", unused.path.display()),
        message: unreadable.get(&unused.path).cloned().unwrap_or(unused.message),
    }
}
