//! PEM by path or inline, read once and kept until somebody says that files changed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

/// The PEM files that transports name, as they were when they were read.
///
/// Sources notice changes of files and say so by [`crate::sources::Contribution::revision`]; certificates towards
/// clients are not here but in the data plane's TLS context.
#[derive(Debug, Default)]
pub(super) struct PemFiles {
    files: BTreeMap<PathBuf, PemFile>,
}

#[derive(Debug)]
struct PemFile {
    content: Result<Arc<[u8]>, String>,
    used: bool,
}

impl PemFiles {
    /// Larger files are not PEM that anybody meant; a system's whole bundle of roots is about 200 KiB.
    const MAX_BYTES: u64 = 4 << 20;

    /// The PEM text that `source` is or names. The error names the file and what to do.
    pub(super) fn load(&mut self, source: &str) -> Result<Arc<[u8]>, String> {
        if source.contains("-----BEGIN") {
            return Ok(source.as_bytes().into());
        }
        if source.is_empty() {
            return Err("no file is named: write a path or the PEM text itself".to_owned());
        }
        let path = PathBuf::from(source);
        let file = self.files.entry(path).or_insert_with_key(|path| PemFile {
            content: read(path).map_err(|error| {
                format!("cannot read {source:?}: {error}; correct the path or the file's permissions")
            }),
            used: true,
        });
        file.used = true;
        file.content.clone()
    }

    /// Makes the next compile read every file again.
    pub(super) fn forget(&mut self) {
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

fn read(path: &PathBuf) -> io::Result<Arc<[u8]>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(PemFiles::MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > PemFiles::MAX_BYTES {
        return Err(io::Error::other("it is larger than 4 MiB, which no PEM file is"));
    }
    if !bytes.windows(11).any(|window| window == b"-----BEGIN ") {
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
    fn a_file_is_read_once_until_it_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pem");
        let name = path.to_str().unwrap();
        let mut files = PemFiles::default();
        assert!(files.load(name).unwrap_err().contains(name));
        fs::write(&path, PEM).unwrap();
        assert!(files.load(name).is_err());
        files.forget();
        let first = files.load(name).unwrap();
        fs::write(&path, format!("{PEM}{PEM}")).unwrap();
        assert_eq!(files.load(name).unwrap(), first);
    }

    #[test]
    fn what_a_compile_does_not_use_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pem");
        fs::write(&path, PEM).unwrap();
        let mut files = PemFiles::default();
        files.load(path.to_str().unwrap()).unwrap();
        files.begin();
        files.end();
        assert!(files.files.is_empty());
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
