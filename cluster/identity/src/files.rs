//! Identity on disk: written atomically, secrets with mode 0600, and modes checked when they are read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

/// The most bytes that are read; a bundle of four authorities has about 3 KiB.
const LIMIT: u64 = 64 * 1024;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// Everybody: mode 0644.
    Public,
    /// The owner: mode 0600, and refused on load when it is wider.
    Secret,
}

/// What went wrong with a file.
#[derive(Debug, Error)]
pub enum FileError {
    /// Not read.
    #[error("can't read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not written.
    #[error("can't write {path}: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read or write it.
    #[error(
        "{path} has mode {mode:04o}, expected 0600: others could have read the key in it. `chmod 600 {path}`, and if \
             others were on this machine, rotate the key"
    )]
    Mode {
        /// Which.
        path: PathBuf,
        /// Seen.
        mode: u32,
    },
    /// Somebody else could change it.
    #[error(
        "{path} belongs to user {owner}, expected {expected} or root: `chown {expected} {path}` if it is yours"
    )]
    Owner {
        /// Which.
        path: PathBuf,
        /// Seen.
        owner: u32,
        /// Who we are.
        expected: u32,
    },
    /// Not a plain file, too big, or no text.
    #[error("{path} {reason}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a text file. What is checked is the file that was opened, not what its name may lead to a moment later.
pub fn read(path: &Path, secrecy: Secrecy) -> Result<Zeroizing<String>, FileError> {
    let failed = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0))
        .open(path)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let content = |reason: &str| FileError::Content {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    if !metadata.is_file() {
        return Err(content("is not a plain file"));
    }
    if secrecy == Secrecy::Secret {
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(FileError::Mode {
                path: path.to_owned(),
                mode,
            });
        }
    }
    let (owner, expected) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != expected && owner != 0 {
        return Err(FileError::Owner {
            path: path.to_owned(),
            owner,
            expected,
        });
    }
    let length = usize::try_from(metadata.len().min(LIMIT)).unwrap_or(0);
    // Large enough from the start: a buffer that grows leaves copies of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LIMIT {
        return Err(content("has more than 64 KiB, expected PEM"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| content("is not text, expected PEM"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Writes a file so that either the old or the new one is there, whole, whatever happens; makes its folder (0700).
pub fn write(path: &Path, bytes: &[u8], secrecy: Secrecy) -> Result<(), FileError> {
    replace(path, bytes, secrecy).map_err(|source| FileError::Write {
        path: path.to_owned(),
        source,
    })
}

fn replace(path: &Path, bytes: &[u8], secrecy: Secrecy) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not the path of a file",
        ));
    };
    if !folder.as_os_str().is_empty() && !folder.exists() {
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(folder)?;
    }
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let mut temporary_name = name.to_owned();
    temporary_name.push(format!(".{}.new", std::process::id()));
    let temporary = folder.join(temporary_name);
    // Left by a process that died: its content is nobody's.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mode = if secrecy == Secrecy::Secret { 0o600 } else { 0o644 };
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        // The first error is the one to report.
        drop(fs::remove_file(&temporary));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper/ca.key");
        write(&path, b"one", Secrecy::Secret).unwrap();
        write(&path, b"two", Secrecy::Secret).unwrap();
        assert_eq!(read(&path, Secrecy::Secret).unwrap().as_str(), "two");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing is left behind"
        );

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read(&path, Secrecy::Secret).unwrap_err().to_string();
        assert!(error.contains("0640") && error.contains("chmod 600"), "{error}");
        assert!(read(&path, Secrecy::Public).is_ok());
    }

    #[test]
    fn what_is_no_text_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert!(matches!(
            read(&path, Secrecy::Public),
            Err(FileError::Read { .. })
        ));
        assert!(matches!(
            read(folder.path(), Secrecy::Public),
            Err(FileError::Content { .. })
        ));
        write(&path, &[0xff], Secrecy::Public).unwrap();
        assert!(matches!(
            read(&path, Secrecy::Public),
            Err(FileError::Content { .. })
        ));
        write(&path, &vec![b'a'; 70_000], Secrecy::Public).unwrap();
        assert!(matches!(
            read(&path, Secrecy::Public),
            Err(FileError::Content { .. })
        ));
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        // A folder can't be replaced by a file.
        fs::create_dir(&path).unwrap();
        assert!(matches!(
            write(&path, b"new", Secrecy::Public),
            Err(FileError::Write { .. })
        ));
        assert!(path.is_dir());
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing is left behind"
        );
    }
}
