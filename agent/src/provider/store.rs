//! What the provider keeps on disk: whether there were routers, for the process after this one, and the document for
//! Traefik's file provider. Both are replaced as a whole, so that nobody ever reads half of one.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Below `node.dataDir`.
const FOLDER: &str = "provider";
/// Exists while the last document that was told had routers.
const MARK: &str = "routers";

/// The mark that routers were told.
#[derive(Clone, Debug)]
pub(super) struct Mark(PathBuf);

impl Mark {
    pub(super) fn below(data: &Path) -> Self {
        Self(data.join(FOLDER).join(MARK))
    }

    /// Whether the process before this one told routers.
    pub(super) fn is_set(&self) -> bool {
        self.0.exists()
    }

    /// Remembers whether there are routers. Blocks.
    pub(super) fn set(&self, routers: usize) -> io::Result<()> {
        if routers == 0 {
            return match fs::remove_file(&self.0) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        if self.is_set() {
            return Ok(());
        }
        if let Some(folder) = self.0.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        replace(&self.0, b"")
    }
}

/// Replaces a file by one with this content, readable by its owner alone: a document may hold secrets. Blocks.
pub(super) fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let unfinished = file.with_file_name(name);
    // What is there may be readable by others.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    written.write_all(content)?;
    written.sync_all()?;
    fs::rename(&unfinished, file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_mark_stays_for_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let mark = Mark::below(folder.path());
        assert!(!mark.is_set());
        mark.set(0).unwrap();
        mark.set(2).unwrap();
        mark.set(3).unwrap();
        assert!(Mark::below(folder.path()).is_set());
        mark.set(0).unwrap();
        assert!(!mark.is_set());
    }

    #[test]
    fn a_file_is_replaced_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("document.json");
        fs::write(file.with_file_name("document.json.new"), "left over").unwrap();
        replace(&file, b"{}").unwrap();
        replace(&file, b"[]").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"[]");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
