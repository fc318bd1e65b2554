//! Where the program hangs: TCX behind all other programs, so behind the guard, or clsact before Linux 6.6.

use aya::programs::LinkOrder;
use aya::programs::links::FdLink;
use constellation_ebpf_abi::chase::PROGRAM;
use nix::net::if_::{if_nameindex, if_nametoindex};

use super::Chase;
use crate::guard::{Device, Hook};
use crate::namespace::entries;
use crate::pins::{Pins, remove_link};
use crate::{Error, tc};

/// The guard has the first.
const CLSACT_PRIORITY: u16 = 2;
/// Before the device's index. No dots: the BPF file system keeps names with dots for itself.
const LINK_PREFIX: &str = "edge_chase_tcx_";

impl Chase {
    /// Puts the program into force at a device. That of an earlier process is replaced without a gap.
    ///
    /// # Errors
    /// [`Error::NoDevice`], [`Error::NoEthernet`]; those of the kernel.
    pub fn attach(&mut self, name: &str) -> Result<Hook, Error> {
        let device = Device::find(name)?;
        if !device.has_ethernet {
            return Err(Error::NoEthernet(device.name));
        }
        let hook = self.attach_tc(&device)?;
        if hook == Hook::Tcx {
            // What an earlier process had to hang there.
            detach_clsact_from(&device.name);
        }
        self.attached.insert(device.index, (device, hook));
        Ok(hook)
    }

    /// The same at clsact, whatever the kernel offers: for tests, and for other tools that know only that.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn attach_clsact(&mut self, name: &str) -> Result<Hook, Error> {
        let device = Device::find(name)?;
        self.create_clsact(&device)?;
        self.attached.insert(device.index, (device, Hook::Clsact));
        Ok(Hook::Clsact)
    }

    /// Takes the program off a device, whoever put it there.
    ///
    /// # Errors
    /// [`Error::NoDevice`]; those of the BPF file system.
    pub fn detach(&mut self, name: &str) -> Result<(), Error> {
        let device = Device::find(name)?;
        remove_link(&self.pins()?.link(&link_name(&device)))?;
        detach_clsact_from(&device.name);
        self.attached.remove(&device.index);
        Ok(())
    }

    /// Makes these the devices at which the program is: attaches it where it is missing, takes it off elsewhere, also where
    /// an earlier process has put it. Says what does not work, device by device.
    ///
    /// # Errors
    /// Those of the BPF file system.
    pub fn set_devices(&mut self, names: &[String]) -> Result<Vec<(String, Error)>, Error> {
        let pins = self.pins()?.clone();
        // A device that is gone, or gave its name to another, or from which somebody took the program.
        self.attached.retain(|index, (device, hook)| {
            if_nametoindex(device.name.as_str()) == Ok(*index)
                && names.contains(&device.name)
                && (*hook == Hook::Clsact || pins.link(&link_name(device)).symlink_metadata().is_ok())
        });
        let mut failures = Vec::new();
        for name in names {
            if self.attached.values().any(|(device, _)| device.name == *name) {
                continue;
            }
            if let Err(error) = self.attach(name) {
                failures.push((name.clone(), error));
            }
        }
        for pin in entries(&pins.link(""))? {
            let name = pin.file_name().unwrap_or_default().to_string_lossy();
            if let Some(index) = name.strip_prefix(LINK_PREFIX)
                && !self.attached.keys().any(|attached| index == attached.to_string())
            {
                remove_link(&pin)?;
            }
        }
        for device in if_nameindex().iter().flat_map(|list| list.iter()) {
            if !self.attached.contains_key(&device.index()) {
                detach_clsact_from(&device.name().to_string_lossy());
            }
        }
        Ok(failures)
    }

    /// Where this process attached the program.
    pub fn attached(&self) -> impl Iterator<Item = &(Device, Hook)> {
        self.attached.values()
    }

    fn attach_tc(&mut self, device: &Device) -> Result<Hook, Error> {
        let pins = self.pins()?.clone();
        let namespace = self.lock.namespace().clone();
        let name = link_name(device);
        let fd = self
            .classifier()?
            .fd()
            .map_err(|error| Error::kernel("opening the program", &error))?;
        if pins.replace_program(&namespace, &name, fd)? {
            return Ok(Hook::Tcx);
        }
        match self.tcx_link(device) {
            Err(error) if tc::is_before_tcx(&error) => {
                self.create_clsact(device)?;
                Ok(Hook::Clsact)
            }
            Err(error) => Err(error),
            Ok(link) => {
                tc::pin(link, pins.link(&name), &device.name)?;
                Ok(Hook::Tcx)
            }
        }
    }

    /// A link at TCX, behind all others. The program is attached for as long as it is open.
    pub(crate) fn tcx_link(&mut self, device: &Device) -> Result<FdLink, Error> {
        tc::tcx_link(self.classifier()?, &device.name, LinkOrder::last())
    }

    fn create_clsact(&mut self, device: &Device) -> Result<(), Error> {
        detach_clsact_from(&device.name);
        tc::attach_clsact(self.classifier()?, &device.name, CLSACT_PRIORITY)
    }

    fn pins(&self) -> Result<&Pins, Error> {
        self.pins.as_ref().ok_or(Error::Unpinned)
    }
}

/// Takes the program's filters off all devices of this namespace: these have no pins, and stay without a process.
pub(crate) fn detach_clsact() {
    for device in if_nameindex().iter().flat_map(|list| list.iter()) {
        detach_clsact_from(&device.name().to_string_lossy());
    }
}

fn detach_clsact_from(device: &str) {
    tc::detach_clsact(device, PROGRAM);
}

fn link_name(device: &Device) -> String {
    format!("{LINK_PREFIX}{}", device.index)
}
