//! What belongs to which program, by the names of pins: so that one can be taken away while the others go on.

use std::path::{Path, PathBuf};

use crate::namespace::{entries, remove};
use crate::pins::remove_link;
use crate::{Error, Lock, Namespace, chase, guard};

/// A program with its maps. Each is opened, attached and taken away alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// `edge_steer`.
    Steering,
    /// `edge_guard`.
    Guard,
    /// `edge_chase`.
    Chase,
}

impl Feature {
    /// Its name, as operators know it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steering => "edge_steer",
            Self::Guard => "edge_guard",
            Self::Chase => "edge_chase",
        }
    }

    /// What the names of its maps begin with; those of its links begin with [`Self::name`].
    const fn maps(self) -> &'static str {
        match self {
            Self::Steering => "STEER_",
            Self::Guard => "GUARD_",
            Self::Chase => "CHASE_",
        }
    }

    /// The pins of its links and of its maps, of all versions of the layouts.
    fn pins(self, namespace: &Namespace) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Error> {
        let (mut links, mut maps) = (Vec::new(), Vec::new());
        for version in namespace.versions()? {
            links.extend(named(&version.join("links"), self.name())?);
            maps.extend(named(&version.join("maps"), self.maps())?);
        }
        Ok((links, maps))
    }

    /// Whether anything of it is pinned, told by names alone: no right to the kernel is needed.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn has_pins(self, namespace: &Namespace) -> Result<bool, Error> {
        let (links, maps) = self.pins(namespace)?;
        Ok(!links.is_empty() || !maps.is_empty())
    }

    /// Detaches it and removes its maps, of all versions of the layouts. What belongs to other programs stays. Says
    /// whether there was anything.
    ///
    /// # Errors
    /// When the BPF file system refuses; links go first, so that nothing half removed stays in force.
    pub fn detach(self, lock: &Lock) -> Result<bool, Error> {
        let namespace = lock.namespace();
        let (links, maps) = self.pins(namespace)?;
        for pin in &links {
            remove_link(pin)?;
        }
        if !maps.is_empty() {
            match self {
                Self::Steering => {}
                Self::Guard => guard::detach_clsact(),
                Self::Chase => chase::detach_clsact(),
            }
        }
        for pin in &maps {
            remove(pin)?;
        }
        for version in namespace.versions()? {
            let folders = [version.join("links"), version.join("maps"), version];
            for folder in folders.iter().filter(|folder| is_empty(folder)) {
                remove(folder)?;
            }
        }
        Ok(!links.is_empty() || !maps.is_empty())
    }
}

/// What is in a folder under names that begin so; nothing when there is no folder.
fn named(folder: &Path, beginning: &str) -> Result<Vec<PathBuf>, Error> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut pins = entries(folder)?;
    pins.retain(|pin| {
        let name = pin.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(beginning)
    });
    Ok(pins)
}

fn is_empty(folder: &Path) -> bool {
    folder.is_dir() && entries(folder).is_ok_and(|entries| entries.is_empty())
}
