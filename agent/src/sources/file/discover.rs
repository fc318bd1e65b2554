//! Which files there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use constellation_config::{FileSource, Format};

/// Directories below each other.
const MAX_DEPTH: usize = 16;

/// Files of one provider.
const MAX_FILES: usize = 10_000;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Documents, in the order in which they are merged.
    pub(super) files: Vec<(PathBuf, Format)>,
    /// Directories that were looked into.
    pub(super) directories: BTreeSet<PathBuf>,
    /// What couldn't be looked at: path and reason.
    pub(super) errors: Vec<(PathBuf, String)>,
}

/// Looks for documents. Entries are taken by name, directories in their place; what starts with a dot (Kubernetes'
/// `..data`, editors' temporary files) and what has another extension is skipped.
pub(super) fn discover(source: &FileSource) -> Found {
    let mut found = Found::default();
    match source {
        FileSource::File(path) => match Format::of(path) {
            Some(format) => found.files.push((path.clone(), format)),
            None => found.errors.push((
                path.clone(),
                "its extension says no format; expected .yaml, .yml, .toml or .json".to_owned(),
            )),
        },
        FileSource::Directory(path) => {
            let mut seen = BTreeSet::new();
            walk(path, 0, &mut seen, &mut found);
        }
    }
    found
}

fn walk(directory: &Path, depth: usize, seen: &mut BTreeSet<PathBuf>, found: &mut Found) {
    let mut fail = |reason: String| found.errors.push((directory.to_owned(), reason));
    // By its real path, so that links in a circle end.
    let real = match fs::canonicalize(directory) {
        Ok(real) => real,
        Err(error) => return fail(reason(&error)),
    };
    if depth > MAX_DEPTH {
        return fail(format!("nested more than {MAX_DEPTH} directories deep"));
    }
    if !seen.insert(real) {
        return;
    }
    let mut names = match fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries
            .into_iter()
            .map(|entry| entry.file_name())
            .collect::<Vec<_>>(),
        Err(error) => return fail(reason(&error)),
    };
    found.directories.insert(directory.to_owned());
    names.sort();
    for name in names {
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = directory.join(&name);
        if path.is_dir() {
            walk(&path, depth + 1, seen, found);
        } else if let Some(format) = Format::of(&path) {
            if found.files.len() >= MAX_FILES {
                let message = format!("more than {MAX_FILES} documents; the rest is not read");
                return found.errors.push((directory.to_owned(), message));
            }
            found.files.push((path, format));
        }
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such directory; create it, or correct providers.file".to_owned(),
        std::io::ErrorKind::PermissionDenied => {
            "permission denied; let the user of this process read it".to_owned()
        }
        _ => error.to_string(),
    }
}
