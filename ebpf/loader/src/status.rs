//! What is pinned in a network namespace, read without changing anything; and its removal.

use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData, MapInfo};
use aya::programs::links::{FdLink, PinnedLink as Pin};
use constellation_ebpf_abi as abi;
use constellation_ebpf_abi::steer::Grant;

use crate::layout::Shared;
use crate::namespace::{entries, remove};
use crate::pins::remove_link;
use crate::steering::Granted;
use crate::{Error, Feature, Lock, Namespace};

/// Everything that is pinned, of all versions of the layouts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The maps.
    pub maps: Vec<PinnedMap>,
    /// The attachments.
    pub links: Vec<PinnedLink>,
    /// The grant of this version of the layouts, if there is one.
    pub grant: Option<Granted>,
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
    let mut status = Status {
        grant: grant(&namespace.version(abi::VERSION)),
        ..Status::default()
    };
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

/// Whether anything is pinned, told by names alone: no right to the kernel is needed.
///
/// # Errors
/// When the folder can't be read.
pub fn has_pins(namespace: &Namespace) -> Result<bool, Error> {
    for version in namespace.versions()? {
        if !pinned(&version.join("maps"))?.is_empty() || !pinned(&version.join("links"))?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The grant in a network namespace, if there is one of this version of the layouts. Takes no lock, changes nothing, and reads
/// nothing else, so it can be asked often.
#[must_use]
pub fn granted(namespace: &Namespace) -> Option<Granted> {
    grant(&namespace.version(abi::VERSION))
}

/// What the map of grants says, where there is one that reads like ours.
fn grant(version: &Path) -> Option<Granted> {
    let data = MapData::from_pin(version.join("maps").join(abi::steer::GRANT)).ok()?;
    let grants: Array<_, Shared<Grant>> = Map::Array(data).try_into().ok()?;
    let Shared(grant) = grants.get(&0, 0).ok()?;
    Some(Granted::of(grant))
}

/// Detaches every program and removes every map, of all versions of the layouts. The ports go back to whoever listens in
/// the ordinary way; established connections go on.
///
/// # Errors
/// When the BPF file system refuses; links go first, so that nothing half removed stays in force.
pub fn detach(lock: &Lock) -> Result<(), Error> {
    detach_without_lock(lock.namespace())
}

/// The same without owning the lock: for an operator who wants it all gone, whoever runs. A node that does goes on with
/// the sockets that it has bound.
///
/// # Errors
/// As [`detach`].
pub fn detach_without_lock(namespace: &Namespace) -> Result<(), Error> {
    let versions = namespace.versions()?;
    for version in &versions {
        for pin in pinned(&version.join("links"))? {
            remove_link(&pin)?;
        }
    }
    if Feature::Guard.has_pins(namespace)? {
        crate::guard::detach_clsact();
    }
    if Feature::Chase.has_pins(namespace)? {
        crate::chase::detach_clsact();
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
