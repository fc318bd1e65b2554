//! Which files could hold certificates and keys, and what each of them holds.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Files of one provider.
const MAX_FILES: usize = 10_000;

/// More than any chain of certificates.
const MAX_BYTES: u64 = 1 << 20;

/// The extensions of files that are looked at, in any case.
const EXTENSIONS: [&str; 4] = ["crt", "cer", "pem", "key"];

/// The files of one folder, ordered by name.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) files: Vec<PathBuf>,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) folders: Vec<Folder>,
    /// What couldn't be looked at: path and reason.
    pub(super) errors: Vec<(PathBuf, String)>,
}

impl Found {
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.folders.iter().flat_map(|folder| &folder.files)
    }

    /// Everything in which a change would change the reading.
    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let folders = self.folders.iter().map(|folder| &folder.path);
        let missing = self.errors.iter().map(|(path, _)| path);
        folders.chain(missing).chain(self.files())
    }
}

/// Lists the directories and the folders in them. What starts with a dot is skipped (Kubernetes' `..data`, temporary
/// files).
pub(super) fn scan(directories: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for directory in directories {
        match list(directory) {
            Ok(Listing { files, folders }) => {
                found.add(directory, files);
                for folder in folders {
                    match list(&folder) {
                        Ok(listing) => found.add(&folder, listing.files),
                        // Removed since it was listed.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => found.errors.push((folder, reason(&error))),
                    }
                }
            }
            Err(error) => found.errors.push((directory.clone(), reason(&error))),
        }
    }
    found
}

impl Found {
    fn add(&mut self, folder: &Path, mut files: Vec<PathBuf>) {
        let room = MAX_FILES.saturating_sub(self.files().count());
        if files.len() > room {
            files.truncate(room);
            let message = format!("more than {MAX_FILES} certificates and keys; the rest is not read");
            self.errors.push((folder.to_owned(), message));
        }
        self.folders.push(Folder {
            path: folder.to_owned(),
            files,
        });
    }
}

struct Listing {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

fn list(directory: &Path) -> io::Result<Listing> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = directory.join(name);
        if path.is_dir() {
            folders.push(path);
        } else if is_candidate(&path) {
            files.push(path);
        }
    }
    files.sort();
    folders.sort();
    Ok(Listing { files, folders })
}

fn is_candidate(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        EXTENSIONS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(extension))
    })
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "no such directory; create it, or correct providers.certificates.directory".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; let the user of this process read it".to_owned()
        }
        _ => error.to_string(),
    }
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Chain,
    Key,
    /// A chain and its key.
    Both,
    /// PEM of another kind, such as parameters or a request for a certificate.
    Other,
}

/// Looks into a file; the error says why nobody can tell.
pub(super) fn content(path: &Path) -> Result<Content, String> {
    let unreadable =
        |error: io::Error| format!("cannot be read: {error}; correct the file or its permissions");
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("is not a regular file; remove it or put the PEM text there".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
    classify(&bytes).ok_or_else(|| "holds no PEM block (\"-----BEGIN ...\"); copy the file again".to_owned())
}

fn classify(pem: &[u8]) -> Option<Content> {
    let mut labels = pem
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.trim_ascii().strip_prefix(b"-----BEGIN "))
        .peekable();
    labels.peek()?;
    let (mut chain, mut key) = (false, false);
    for label in labels {
        chain |= label == b"CERTIFICATE-----";
        key |= label.ends_with(b"PRIVATE KEY-----");
    }
    Some(match (chain, key) {
        (true, true) => Content::Both,
        (true, false) => Content::Chain,
        (false, true) => Content::Key,
        (false, false) => Content::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_their_blocks() {
        let certificate = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        let key = "-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n";
        let parameters = "-----BEGIN DH PARAMETERS-----\nAA==\n-----END DH PARAMETERS-----\n";
        let table = [
            (certificate.to_owned(), Some(Content::Chain)),
            (certificate.repeat(2), Some(Content::Chain)),
            (certificate.replace('\n', "\r\n"), Some(Content::Chain)),
            (key.to_owned(), Some(Content::Key)),
            (key.replace("EC ", "ENCRYPTED "), Some(Content::Key)),
            (format!("{parameters}{key}"), Some(Content::Key)),
            (format!("text\n{certificate}{key}"), Some(Content::Both)),
            (parameters.to_owned(), Some(Content::Other)),
            (String::new(), None),
            ("-----END CERTIFICATE-----".to_owned(), None),
        ];
        for (pem, expected) in table {
            assert_eq!(classify(pem.as_bytes()), expected, "{pem}");
        }
    }
}
