//! PEM by path or inline, read once and read again only when the file changed.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// The PEM files that configuration names, as they were when they were read last.
///
/// A file that could not be read is remembered too, so that [`PemFiles::changed`] notices when it appears.
#[derive(Debug, Default)]
pub struct PemFiles {
    files: BTreeMap<PathBuf, PemFile>,
}

#[derive(Debug)]
struct PemFile {
    stamp: Option<Stamp>,
    content: Result<Arc<[u8]>, String>,
    used: bool,
}

/// What tells two states of a file apart without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
        }
    }

    fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|m| Self::of(&m))
    }
}

impl PemFiles {
    /// Larger files are not PEM that anybody meant.
    const MAX_BYTES: u64 = 1 << 20;

    /// The PEM text that `source` is or names. The error names the file and what to do.
    pub(super) fn load(&mut self, source: &str) -> Result<Arc<[u8]>, String> {
        if source.contains("-----BEGIN") {
            return Ok(source.as_bytes().into());
        }
        if source.is_empty() {
            return Err("no file is named: write a path or the PEM text itself".to_owned());
        }
        let path = Path::new(source);
        if let Some(file) = self.files.get_mut(path) {
            file.used = true;
            return file.content.clone();
        }
        let stamp = Stamp::at(path);
        let content = read(path).map_err(|error| format!("cannot read {source:?}: {error}"));
        self.files.insert(
            path.to_owned(),
            PemFile {
                stamp,
                content: content.clone(),
                used: true,
            },
        );
        content
    }

    /// Whether a file that the last compile used has changed, appeared or gone. Looks at metadata only.
    pub fn changed(&self) -> bool {
        self.files
            .iter()
            .any(|(path, file)| Stamp::at(path) != file.stamp)
    }

    /// Makes the next compile read every file again.
    pub fn forget(&mut self) {
        self.files.clear();
    }

    /// Starts a compile: what it doesn't use is dropped by [`PemFiles::end`].
    pub(super) fn begin(&mut self) {
        for file in self.files.values_mut() {
            file.used = false;
        }
    }

    /// Ends a compile.
    pub(super) fn end(&mut self) {
        self.files.retain(|_, file| file.used);
    }
}

fn read(path: &Path) -> io::Result<Arc<[u8]>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(PemFiles::MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > PemFiles::MAX_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB, which no PEM file is"));
    }
    if !bytes.windows(11).any(|w| w == b"-----BEGIN ") {
        return Err(io::Error::other("it holds no PEM block (\"-----BEGIN ...\")"));
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

    #[test]
    fn inline_pem_needs_no_file() {
        assert_eq!(&*PemFiles::default().load(PEM).unwrap(), PEM.as_bytes());
    }

    #[test]
    fn a_file_is_read_again_only_when_it_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pem");
        let name = path.to_str().unwrap();
        let mut files = PemFiles::default();
        assert!(files.load(name).unwrap_err().contains(name));
        assert!(!files.changed());
        fs::write(&path, PEM).unwrap();
        assert!(files.changed(), "a file that appears is a change");
        assert!(files.load(name).is_err(), "until somebody forgets");
        files.forget();
        assert!(files.load(name).is_ok());
        assert!(!files.changed());
        fs::write(&path, format!("{PEM}{PEM}")).unwrap();
        assert!(files.changed());
    }

    #[test]
    fn what_a_compile_does_not_use_is_not_watched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pem");
        fs::write(&path, PEM).unwrap();
        let mut files = PemFiles::default();
        files.load(path.to_str().unwrap()).unwrap();
        files.begin();
        files.end();
        fs::remove_file(&path).unwrap();
        assert!(!files.changed());
    }

    #[test]
    fn a_file_without_pem_is_refused_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pem");
        fs::write(&path, "hello").unwrap();
        let error = PemFiles::default().load(path.to_str().unwrap()).unwrap_err();
        assert!(error.contains("a.pem") && error.contains("BEGIN"), "{error}");
    }
}
