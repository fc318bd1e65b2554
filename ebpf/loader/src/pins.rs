//! Maps that outlive the process: found pinned and checked, or made and pinned.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::maps::{MapInfo, MapType};
use aya::{Ebpf, EbpfLoader};
use constellation_ebpf_abi as abi;

use crate::namespace::{entries, make_folder, remove};
use crate::{Error, Lock, Namespace, kernel};

/// What a program's maps are supposed to look like; one that is pinned and looks different is not ours to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapSpec {
    pub(crate) name: &'static str,
    pub(crate) kind: MapType,
    pub(crate) key: usize,
    pub(crate) value: usize,
    pub(crate) entries: u32,
}

/// A map with keys and values of so many bytes.
pub(crate) const fn spec(
    name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
) -> MapSpec {
    MapSpec {
        name,
        kind,
        key,
        value,
        entries,
    }
}

/// Loads an object; its maps are pinned, and taken over where they are, unless there are no pins.
pub(crate) fn load(pins: Option<&Pins>, object: &[u8], maps: &[MapSpec]) -> Result<(Ebpf, Origin), Error> {
    let Some(pins) = pins else {
        let loaded = loader().load(object);
        let loaded = loaded.map_err(|error| Error::kernel("making the maps", &error))?;
        return Ok((loaded, Origin::New));
    };
    pins.load(object, maps)
}

/// Where the maps came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nothing was pinned.
    New,
    /// All were pinned, by a process before this one.
    Pinned,
    /// Something was pinned, but not all, or not as it should be: it was thrown away, and everything made anew. Says
    /// what was wrong, for the log.
    Rebuilt(String),
}

/// The pins of the present version of the layouts.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    maps: PathBuf,
    links: PathBuf,
}

impl Pins {
    /// Makes the folders where they are missing, and throws away what stands in their place.
    pub(crate) fn new(namespace: &Namespace) -> Result<Self, Error> {
        let folder = namespace.version(abi::VERSION);
        // The kernel gives the number of a namespace that is gone to a new one some day. What is pinned under it then
        // belongs to another life.
        if is_orphaned(&folder) {
            remove(&folder)?;
        }
        let pins = Self {
            maps: folder.join("maps"),
            links: folder.join("links"),
        };
        for folder in [&folder, &pins.maps, &pins.links] {
            if !folder.is_dir() {
                remove(folder)?;
            }
            make_folder(folder)?;
        }
        Ok(pins)
    }

    /// The pin of a link.
    pub(crate) fn link(&self, name: &str) -> PathBuf {
        self.links.join(name)
    }

    /// The pins of a link by this name, of this version of the layouts first, then of others.
    pub(crate) fn links_named(&self, namespace: &Namespace, name: &str) -> Result<Vec<PathBuf>, Error> {
        let mut pins = vec![self.link(name)];
        for version in namespace.versions()? {
            let pin = version.join("links").join(name);
            if pin != pins[0] {
                pins.push(pin);
            }
        }
        // Not `exists`, which follows links; what is pinned is neither a file nor a folder to the standard library.
        pins.retain(|pin| pin.symlink_metadata().is_ok());
        Ok(pins)
    }

    /// Puts a program in the place of that of a pinned link, of this version of the layouts or of another, and makes the
    /// pin ours. Says whether there was one that is still attached.
    pub(crate) fn replace_program(
        &self,
        namespace: &Namespace,
        name: &str,
        program: impl AsFd,
    ) -> Result<bool, Error> {
        let own = self.link(name);
        for pin in self.links_named(namespace, name)? {
            let replaced =
                kernel::open_link(&pin).and_then(|link| kernel::update_link(link.as_fd(), &program));
            if replaced.is_err() {
                // Its namespace or device is gone, or it is not a link of this type.
                remove(&pin)?;
                continue;
            }
            if pin != own {
                // A crash in between leaves the link where it was, and the next start finds it there.
                remove(&own)?;
                fs::rename(&pin, &own).map_err(|error| Error::file("rename", &pin, error))?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Loads an object with all its maps pinned.
    fn load(&self, object: &[u8], maps: &[MapSpec]) -> Result<(Ebpf, Origin), Error> {
        let origin = self.examine(maps)?;
        if let Origin::Rebuilt(_) = origin {
            for map in maps {
                remove(&self.maps.join(map.name))?;
            }
        }
        let mut loader = loader();
        for map in maps {
            loader.map_pin_path(map.name, self.maps.join(map.name));
        }
        let loaded = loader.load(object);
        Ok((
            loaded.map_err(|error| Error::kernel("making the maps", &error))?,
            origin,
        ))
    }

    fn examine(&self, maps: &[MapSpec]) -> Result<Origin, Error> {
        let mut found = 0;
        let mut missing = None;
        for map in maps {
            let path = self.maps.join(map.name);
            // Not `is_file`: what is pinned is neither a file nor a folder to the standard library.
            if path.symlink_metadata().is_err() {
                missing = Some(map.name);
                continue;
            }
            found += 1;
            if let Err(wrong) = map.matches(&path) {
                return Ok(Origin::Rebuilt(format!("{}: {wrong}", path.display())));
            }
        }
        Ok(match missing {
            None => Origin::Pinned,
            Some(_) if found == 0 => Origin::New,
            Some(name) => Origin::Rebuilt(format!("{} is missing", self.maps.join(name).display())),
        })
    }
}

impl MapSpec {
    fn matches(&self, path: &Path) -> Result<(), String> {
        let info = MapInfo::from_pin(path).map_err(|error| error.to_string())?;
        let kind = info.map_type().map_err(|_| "is no map".to_owned())?;
        let seen = (
            kind,
            info.key_size() as usize,
            info.value_size() as usize,
            info.max_entries(),
        );
        let expected = (self.kind, self.key, self.value, self.entries);
        if info.name_as_str() == Some(self.name) && seen == expected {
            Ok(())
        } else {
            Err(format!(
                "is {:?} {seen:?}, expected {:?} {expected:?}",
                info.name_as_str(),
                self.name
            ))
        }
    }
}

/// Removes what nodes in network namespaces that are gone have left pinned, as with a container whose every start makes a
/// new one. Says how many there were.
///
/// # Errors
/// When the BPF file system refuses.
pub fn remove_orphans(namespace: &Namespace) -> Result<usize, Error> {
    let mut removed = 0;
    for sibling in namespace.siblings()? {
        let Ok(versions) = entries(&sibling) else {
            continue;
        };
        if versions.iter().any(|version| is_orphaned(version)) {
            remove(&sibling)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether `edge_steer` is pinned here and was attached to a namespace that is gone.
fn is_orphaned(version: &Path) -> bool {
    let link = kernel::open_link(&version.join("links").join(abi::steer::PROGRAM));
    link.and_then(|link| kernel::is_orphaned(link.as_fd()))
        .unwrap_or(false)
}

/// Detaches what a pin attaches, at once, and removes the pin.
pub(crate) fn remove_link(pin: &Path) -> Result<(), Error> {
    // What can't be opened or detached is no link that is still attached; removing the pin is all there is to do.
    let _: io::Result<()> = kernel::open_link(pin).and_then(|link| kernel::detach_link(link.as_fd()));
    remove(pin)
}

/// Removes what other versions of the layouts left pinned. For when every program of this version is attached: what an
/// earlier version attached and nobody replaced is detached by it.
///
/// # Errors
/// When the BPF file system refuses.
pub fn remove_other_versions(lock: &Lock) -> Result<(), Error> {
    let namespace = lock.namespace();
    let own = namespace.version(abi::VERSION);
    for version in namespace.versions()? {
        if version != own {
            remove(&version)?;
        }
    }
    Ok(())
}

/// A loader without relocations against the kernel's types: no program here looks into the kernel.
fn loader() -> EbpfLoader<'static> {
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    loader
}
