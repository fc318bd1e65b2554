//! Snapshots: the whole state in a file of its own, written aside, synced, renamed, and only then counted upon.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use openraft::SnapshotMeta;
use serde::{Deserialize, Serialize};

use super::super::Member;
use super::super::codec;
use super::super::failure::StoreFailure;
use crate::state::{NodeId, State};

/// Also the first bytes of each file.
const PLACE: &[u8] = b"constellation snapshot 1\n";
const NAME: &str = "state.snapshot";
const ASIDE: &str = "state.snapshot.new";

/// What a snapshot has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) meta: SnapshotMeta<NodeId, Member>,
    pub(super) state: State,
}

impl Content {
    /// As it goes into the file and over the network.
    pub(super) fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, StoreFailure> {
        let sealed = codec::seal(PLACE, self).map_err(|error| StoreFailure::Write {
            path: path.to_owned(),
            detail: error.to_string(),
        })?;
        Ok([PLACE, &sealed].concat())
    }

    /// What `path` or a leader gave.
    pub(super) fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, StoreFailure> {
        let corrupt = |detail| StoreFailure::Corrupt {
            path: path.to_owned(),
            detail,
        };
        let sealed = bytes.strip_prefix(PLACE).ok_or_else(|| {
            corrupt(format!(
                "{} bytes that do not begin like a snapshot of format 1",
                bytes.len()
            ))
        })?;
        codec::open(PLACE, sealed).map_err(|error| corrupt(error.to_string()))
    }
}

/// What a snapshot's content is written as again, if `bytes` are one: without the checksum, which no fuzzer guesses.
pub(in super::super) fn reread(bytes: &[u8]) -> Option<Vec<u8>> {
    // With it, for what is before the content.
    drop(Content::from_bytes(Path::new("a snapshot"), bytes));
    let content: Content = postcard::from_bytes(bytes).ok()?;
    postcard::to_stdvec(&content).ok()
}

/// The file of the snapshot in this folder.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// Writes it so that there is always a whole one.
pub(super) fn write(folder: &Path, bytes: &[u8]) -> Result<(), StoreFailure> {
    let (aside, path) = (folder.join(ASIDE), path(folder));
    let written = (|| {
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()
    })();
    written.map_err(|error| StoreFailure::write(&aside, &error))?;
    fs::rename(&aside, &path).map_err(|error| StoreFailure::write(&path, &error))?;
    sync_folder(folder)
}

/// Reads it, if there is one. What a crash left aside is not looked at and overwritten by the next.
pub(super) fn read(folder: &Path) -> Result<Option<(Content, Vec<u8>)>, StoreFailure> {
    let path = path(folder);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(StoreFailure::Read {
                path,
                detail: error.to_string(),
            });
        }
    };
    Content::from_bytes(&path, &bytes).map(|content| Some((content, bytes)))
}

/// Makes new and renamed files outlive a loss of power.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreFailure> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| StoreFailure::write(folder, &error))
}
