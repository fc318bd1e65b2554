//! Files to one contribution, with the last good content of a file standing in while it is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use constellation_config::dynamic::{self, Dynamic};
use constellation_config::{FileSource, Format, read_text};

use super::PROVIDER;
use super::discover::discover;
use super::merge::Merger;
use super::reference::referenced;
use crate::sources::watched::stamp::{Stamp, fingerprint, stamps};
use crate::sources::watched::{Read, Reading, around};
use crate::sources::{Contribution, Problem};

/// Reads the documents of one provider.
#[derive(Debug)]
pub(super) struct Reader {
    source: FileSource,
    /// The last good content of every file.
    good: BTreeMap<PathBuf, Good>,
    hashes: RandomState,
    /// What the last reading looked at.
    stamps: BTreeMap<PathBuf, Option<Stamp>>,
}

#[derive(Debug)]
struct Good {
    /// Tells another text; the text itself is not kept.
    hash: u64,
    /// Whether the text was empty.
    empty: bool,
    document: Arc<Dynamic>,
    read: SystemTime,
    /// Found empty at the last reading, and the content before that still counts.
    emptied: bool,
}

impl Read for Reader {
    fn changed(&self) -> bool {
        let found = discover(&self.source);
        let paths = found.files.iter().map(|(path, _)| path).chain(&found.directories);
        let looked_at = |path: &PathBuf| self.stamps.contains_key(path);
        !paths.clone().all(looked_at) || stamps(self.stamps.keys().map(PathBuf::as_path)) != self.stamps
    }

    fn read(&mut self) -> Reading {
        let found = discover(&self.source);
        let mut merger = Merger::default();
        let mut broken = Vec::new();
        let mut unsettled = false;
        // Stamps come before contents: what changes in between differs from its stamp at the next look.
        let mut looked_at: BTreeSet<PathBuf> = found.directories.clone();
        looked_at.extend(found.files.iter().map(|(path, _)| path.clone()));
        let mut seen = stamps(looked_at.iter().map(PathBuf::as_path));
        let mut references = BTreeSet::new();
        for (path, format) in &found.files {
            let problem = self.refresh(path, *format, &mut unsettled);
            if let Some(good) = self.good.get(path) {
                references.extend(referenced(&good.document));
                merger.add(path, &good.document);
            }
            if let Some(problem) = problem {
                broken.push(format!("{}: {}", problem.subject, problem.message));
                merger.report(problem);
            }
        }
        for (path, reason) in &found.errors {
            let problem = self.unreachable(path, reason, &found.files, &mut merger);
            broken.push(format!("{}: {}", problem.subject, problem.message));
            merger.report(problem);
        }
        if found.errors.is_empty() {
            let files: BTreeSet<&PathBuf> = found.files.iter().map(|(path, _)| path).collect();
            self.good.retain(|path, _| files.contains(path));
        }
        seen.extend(stamps(references.iter().map(PathBuf::as_path)));
        let watched = self.watched(&found.directories, seen.keys());
        self.stamps = seen;
        let (dynamic, problems) = merger.finish();
        Reading {
            contribution: Contribution {
                provider: PROVIDER,
                dynamic,
                problems,
                revision: fingerprint(&references),
                ..Contribution::default()
            },
            error: (!broken.is_empty()).then(|| broken.join("\n")),
            watched,
            unsettled,
        }
    }
}

impl Reader {
    pub(super) fn new(source: FileSource) -> Self {
        Self {
            source,
            good: BTreeMap::new(),
            hashes: RandomState::new(),
            stamps: BTreeMap::new(),
        }
    }

    /// Reads one file; the problem, if its content can't be used.
    fn refresh(&mut self, path: &Path, format: Format, unsettled: &mut bool) -> Option<Problem> {
        let known = self.good.get_mut(path);
        let text = match read_text(path) {
            Ok(text) => text,
            Err(errors) => return Some(refused(path, &errors.to_string(), known.as_deref())),
        };
        let hash = self.hashes.hash_one(&text);
        let empty = text.trim().is_empty();
        if let Some(known) = known {
            if known.hash == hash {
                known.emptied = false;
                return None;
            }
            // Writing a file in place starts with an empty one. Emptied for good it is empty at the next look, too.
            if empty && !known.empty && !known.emptied {
                known.emptied = true;
                *unsettled = true;
                return None;
            }
        }
        match dynamic::parse(&text, format, path) {
            Ok(document) => {
                let good = Good {
                    hash,
                    empty,
                    document: Arc::new(document),
                    read: SystemTime::now(),
                    emptied: false,
                };
                self.good.insert(path.to_owned(), good);
                None
            }
            Err(errors) => Some(refused(path, &errors.to_string(), self.good.get(path))),
        }
    }

    /// A directory that can't be looked into: what was found below it before stands.
    fn unreachable(
        &self,
        path: &Path,
        reason: &str,
        files: &[(PathBuf, Format)],
        merger: &mut Merger,
    ) -> Problem {
        let below = self.good.iter().filter(|(file, _)| file.starts_with(path));
        let lost = below.filter(|(file, _)| files.iter().all(|(found, _)| found != *file));
        let mut kept = 0;
        for (file, good) in lost {
            merger.add(file, &good.document);
            kept += 1;
        }
        let kept = if kept > 0 {
            "; what was read from it before stands"
        } else {
            ""
        };
        Problem {
            subject: path.display().to_string(),
            message: format!("{reason}{kept}"),
        }
    }

    /// The directories to watch: those that were walked, those in which files and what they point at lie, and the one
    /// around the whole, in which a directory may appear or be swapped.
    fn watched<'a>(
        &'a self,
        walked: &BTreeSet<PathBuf>,
        files: impl Iterator<Item = &'a PathBuf>,
    ) -> BTreeSet<PathBuf> {
        let (FileSource::File(root) | FileSource::Directory(root)) = &self.source;
        let mut watched = around(files.chain([root]));
        watched.extend(walked.iter().cloned());
        watched
    }
}

fn refused(path: &Path, errors: &str, good: Option<&Good>) -> Problem {
    let stands = match good {
        Some(good) => {
            let read = humantime::format_rfc3339_seconds(good.read);
            format!("\nits last good content, read at {read}, stands until this is corrected")
        }
        None => String::new(),
    };
    Problem {
        subject: format!("file {}", path.display()),
        message: format!("{errors}{stands}"),
    }
}
