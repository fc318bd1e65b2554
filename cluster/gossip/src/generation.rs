//! The number of a node's life: higher at every start, also after the clock went back.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use thiserror::Error;

/// How far in the future a remembered life may lie: more is a damaged file or a clock that once was years ahead.
const AHEAD_MS: u64 = 10 * 366 * 24 * 3600 * 1000;

/// Why there is no next life.
#[derive(Debug, Error)]
pub enum GenerationError {
    /// Not read, not written.
    #[error(
        "can't keep the gossip generation in {path}: {source}; without it others could take this node for its former life"
    )]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a number that could be one.
    #[error(
        "{path} holds {seen:?}, expected the number of this node's last life (milliseconds since 1970, not years ahead): \
         set the clock, remove the file, and restart the other nodes if they refuse this one as a former life"
    )]
    Content {
        /// Which.
        path: PathBuf,
        /// Its beginning.
        seen: String,
    },
}

/// The next life: now in milliseconds, or one more than the last if the clock is not past it. Kept in `path`, durably,
/// before it is used.
pub fn next_generation(path: &Path, now: SystemTime) -> Result<u64, GenerationError> {
    let failed = |source| GenerationError::File {
        path: path.to_owned(),
        source,
    };
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok());
    let now = now.unwrap_or(0);
    let last = match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
            let last = text
                .trim()
                .parse::<u64>()
                .ok()
                .filter(|last| *last <= now.saturating_add(AHEAD_MS));
            Some(last.ok_or_else(|| GenerationError::Content {
                path: path.to_owned(),
                seen: text,
            })?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let next = last.map_or(now, |last| now.max(last.saturating_add(1)));
    keep(path, next).map_err(failed)?;
    Ok(next)
}

fn keep(path: &Path, generation: u64) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    writeln!(file, "{generation}")?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lives_only_grow() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gossip/generation");
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        assert_eq!(next_generation(&path, at(5000)).unwrap(), 5000);
        assert_eq!(next_generation(&path, at(9000)).unwrap(), 9000);
        assert_eq!(next_generation(&path, at(9000)).unwrap(), 9001);
        assert_eq!(
            next_generation(&path, at(10)).unwrap(),
            9002,
            "the clock went back"
        );
        assert_eq!(next_generation(&path, at(9100)).unwrap(), 9100);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("generation");
        for bad in ["", "x", "-1", "99999999999999999"] {
            fs::write(&path, bad).unwrap();
            let error = next_generation(&path, SystemTime::now()).unwrap_err().to_string();
            assert!(
                error.contains(path.to_str().unwrap()) && error.contains("remove the file"),
                "{error}"
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), bad, "left as it is");
        }
    }
}
