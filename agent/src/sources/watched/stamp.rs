//! Whether files have changed: by what the file system says of them, and by their content.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// More than any chain of certificates; a path to something endless must not be read to its end.
const MAX_BYTES: u64 = 1 << 20;

/// What the file system says of a file; another stamp is another content, as far as that can be told without reading.
/// The change time and the inode see a file that was replaced by one of the same size and modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sources) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The stamps of all paths; none for what isn't there.
pub(in crate::sources) fn stamps<'a>(
    paths: impl Iterator<Item = &'a Path>,
) -> BTreeMap<PathBuf, Option<Stamp>> {
    let stamp = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        Some(Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    };
    paths.map(|path| (path.to_owned(), stamp(path))).collect()
}

/// A number that changes with the content of any of the files, and with whether it can be read.
pub(in crate::sources) fn fingerprint(paths: &BTreeSet<PathBuf>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        path.hash(&mut hasher);
        content(path).hash(&mut hasher);
    }
    hasher.finish()
}

/// The first megabyte of a file; `None` when it can't be read.
pub(in crate::sources) fn content(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(MAX_BYTES)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}
