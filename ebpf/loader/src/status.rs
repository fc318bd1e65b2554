//! What is pinned in a network namespace, read without changing anything; and its removal.

use std::path::{Path, PathBuf};

use aya::maps::MapInfo;
use aya::programs::links::{FdLink, PinnedLink as Pin};

use crate::namespace::{entries, remove};
use crate::pins::remove_link;
use crate::{Error, Lock, Namespace};

/// Everything that is pinned, of all versions of the layouts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The maps.
    pub maps: Vec<PinnedMap>,
    /// The attachments.
    pub links: Vec<PinnedLink>,
}

/// A pinned map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedMap {
    /// Where.
    pub pin: PathBuf,
    /// Its name in the kernel.
    pub name: String,
    /// The kernel's id, as `bpftool map show id` takes it.
    pub id: u32,
    /// Entries that it can hold.
    pub max_entries: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
}

/// A pinned link: an attached program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedLink {
    /// Where.
    pub pin: PathBuf,
    /// The kernel's id, as `bpftool link show id` takes it.
    pub id: u32,
    /// The program's id, as `bpftool prog show id` takes it.
    pub program: u32,
}

/// Reads what is pinned. Takes no lock: whoever owns it goes on.
///
/// # Errors
/// When the BPF file system or the kernel refuses; a pin that is neither map nor link is left out.
pub fn status(namespace: &Namespace) -> Result<Status, Error> {
    let mut status = Status::default();
    for version in namespace.versions()? {
        for pin in pinned(&version.join("maps"))? {
            if let Ok(info) = MapInfo::from_pin(&pin) {
                status.maps.push(PinnedMap {
                    name: info.name_as_str().unwrap_or_default().to_owned(),
                    id: info.id(),
                    max_entries: info.max_entries(),
                    key_size: info.key_size(),
                    value_size: info.value_size(),
                    pin,
                });
            }
        }
        for pin in pinned(&version.join("links"))? {
            if let Ok(info) = Pin::from_pin(&pin).and_then(|link| FdLink::from(link).info()) {
                status.links.push(PinnedLink {
                    id: info.id(),
                    program: info.program_id(),
                    pin,
                });
            }
        }
    }
    Ok(status)
}

/// Detaches every program and removes every map, of all versions of the layouts. The ports go back to whoever listens in
/// the ordinary way; established connections go on.
///
/// # Errors
/// When the BPF file system refuses; links go first, so that nothing half removed stays in force.
pub fn detach(lock: &Lock) -> Result<(), Error> {
    let versions = lock.namespace().versions()?;
    for version in &versions {
        for pin in pinned(&version.join("links"))? {
            remove_link(&pin)?;
        }
    }
    for version in &versions {
        remove(version)?;
    }
    Ok(())
}

/// What is in a folder; nothing when there is no folder.
fn pinned(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    if folder.is_dir() {
        entries(folder)
    } else {
        Ok(Vec::new())
    }
}
