//! Keeps the guard at a set of devices while these come and go.

use std::os::fd::AsFd as _;
use std::path::Path;

use nix::net::if_::{if_nameindex, if_nametoindex};

use super::{Attachment, Device, Guard, Hook, Program};
use crate::namespace::entries;
use crate::pins::remove_link;
use crate::{Error, kernel, tc};

/// What [`Guard::set_devices`] did about one device.
#[derive(Debug)]
pub struct Reattached {
    /// Its name.
    pub device: String,
    /// What became of it.
    pub change: Change,
}

/// What became of a device.
#[derive(Debug)]
pub enum Change {
    /// The guard is attached now.
    Attached(Hook),
    /// The guard is off now; it is not on the list any more.
    Detached,
    /// The device is gone, or has given its name to another one.
    Gone,
    /// Somebody else took the guard off (`constellation ebpf detach --force`). It is not put back before the next
    /// [`Guard::attach`].
    TakenAway,
    /// The guard is not attached.
    Failed(Error),
}

impl Guard {
    /// Makes these the devices at which the guard is: attaches it where it is missing, takes it off elsewhere, also where
    /// an earlier process has put it. Devices that are not there are left out without a word, to be asked about again later;
    /// so are those in `except`. Says what changed.
    ///
    /// # Errors
    /// Those of the BPF file system.
    pub fn set_devices(&mut self, names: &[String], except: &[String]) -> Result<Vec<Reattached>, Error> {
        let mut changes = Vec::new();
        for attachment in self.attached.values().cloned().collect::<Vec<_>>() {
            let Device { name, index, .. } = &attachment.device;
            let link = self.link_of(&attachment)?;
            let change = if if_nametoindex(name.as_str()) != Ok(*index) || link == Link::Lost {
                Change::Gone
            } else if link == Link::Missing {
                Change::TakenAway
            } else if !names.contains(name) {
                Change::Detached
            } else {
                continue;
            };
            self.attached.remove(index);
            if !matches!(change, Change::TakenAway) {
                self.remove_everywhere(&attachment.device)?;
            }
            changes.push(Reattached {
                device: name.clone(),
                change,
            });
        }
        for name in names {
            let taken_away =
                |changed: &Reattached| changed.device == *name && matches!(changed.change, Change::TakenAway);
            let is_attached = self.attached.values().any(|at| at.device.name == *name);
            if is_attached || except.contains(name) || changes.iter().any(taken_away) {
                continue;
            }
            let change = match self.attach(name) {
                Ok(hook) => Change::Attached(hook),
                Err(Error::NoDevice(_)) => continue,
                Err(error) => Change::Failed(error),
            };
            changes.push(Reattached {
                device: name.clone(),
                change,
            });
        }
        Ok(changes)
    }

    /// Takes off what an earlier process attached at devices where this one did not.
    ///
    /// # Errors
    /// Those of the BPF file system.
    pub fn detach_others(&mut self) -> Result<(), Error> {
        let pins = self.pins()?.clone();
        let folder = pins.link("");
        for pin in entries(&folder)? {
            if let Some(index) = index_of(&pin)
                && !self.attached.contains_key(&index)
            {
                remove_link(&pin)?;
            }
        }
        for device in if_nameindex().iter().flat_map(|list| list.iter()) {
            if !self.attached.contains_key(&device.index()) {
                detach_clsact_from(&device.name().to_string_lossy());
            }
        }
        Ok(())
    }

    /// What has become of the link that this process has pinned. A filter at clsact has none to tell by.
    fn link_of(&self, attachment: &Attachment) -> Result<Link, Error> {
        if attachment.hook == Hook::Clsact {
            return Ok(Link::There);
        }
        let pin = self.pin(&attachment.device, attachment.hook)?;
        Ok(match kernel::open_link(&pin) {
            Err(_) => Link::Missing,
            Ok(link) if kernel::has_lost_device(link.as_fd()).unwrap_or(false) => Link::Lost,
            Ok(_) => Link::There,
        })
    }

    fn remove_everywhere(&self, device: &Device) -> Result<(), Error> {
        for hook in [Hook::Xdp, Hook::Tcx, Hook::Clsact] {
            self.take_off(device, hook)?;
        }
        Ok(())
    }
}

/// What has become of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    There,
    /// Its device is gone.
    Lost,
    /// Its pin is.
    Missing,
}

/// The index of the device at which a pinned link of the guard was attached.
fn index_of(pin: &Path) -> Option<u32> {
    let name = pin.file_name()?.to_str()?.strip_prefix("edge_guard_")?;
    name.rsplit_once('_')?.1.parse().ok()
}

/// Takes the guard's filters off all devices of this namespace: these have no pins, and stay without a process.
pub(crate) fn detach_clsact() {
    for device in if_nameindex().iter().flat_map(|list| list.iter()) {
        detach_clsact_from(&device.name().to_string_lossy());
    }
}

pub(super) fn detach_clsact_from(name: &str) {
    for program in [Program::L2, Program::L3] {
        // Not there is as good as gone, and so is a device without clsact; without the right there never was one.
        tc::detach_clsact(name, program.name());
    }
}
