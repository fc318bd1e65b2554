//! Where the program hangs: TCX behind all other programs, so behind the guard, or clsact before Linux 6.6.

use aya::programs::links::FdLink;
use aya::programs::tc::{self, NlOptions, TcAttachOptions, TcHandle};
use aya::programs::{LinkOrder, TcAttachType};
use constellation_ebpf_abi::chase::PROGRAM;

use super::Chase;
use crate::Error;
use crate::guard::{Device, Hook};
use crate::pins::{Pins, remove_link};

/// The guard has the first.
const CLSACT_PRIORITY: u16 = 2;

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
            take_off_clsact(&device);
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
        take_off_clsact(&device);
        self.attached.remove(&device.index);
        Ok(())
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
            // Before 6.6 the kernel does not know this kind of link.
            Err(Error::Kernel {
                errno: Some(nix::libc::EINVAL),
                ..
            }) => {
                self.create_clsact(device)?;
                Ok(Hook::Clsact)
            }
            Err(error) => Err(error),
            Ok(link) => {
                link.pin(pins.link(&name))
                    .map_err(|error| Error::kernel(format!("pinning the link of {}", device.name), &error))?;
                Ok(Hook::Tcx)
            }
        }
    }

    /// A link at TCX, behind all others. The program is attached for as long as it is open.
    pub(crate) fn tcx_link(&mut self, device: &Device) -> Result<FdLink, Error> {
        let name = &device.name;
        let classifier = self.classifier()?;
        let options = TcAttachOptions::TcxOrder(LinkOrder::last());
        let link = classifier
            .attach_with_options(name, TcAttachType::Ingress, options)
            .and_then(|link| classifier.take_link(link))
            .map_err(|error| Error::kernel(format!("attaching to {name} at TCX"), &error))?;
        FdLink::try_from(link).map_err(|error| Error::kernel("taking the link", &error))
    }

    fn create_clsact(&mut self, device: &Device) -> Result<(), Error> {
        let name = &device.name;
        // It may be there already, also as somebody else's; whether it is usable shows below.
        let added = tc::qdisc_add_clsact(name);
        take_off_clsact(device);
        let classifier = self.classifier()?;
        let options = NlOptions {
            priority: CLSACT_PRIORITY,
            handle: TcHandle::new(0, 1),
            classid: None,
        };
        let link = classifier
            .attach_with_options(name, TcAttachType::Ingress, TcAttachOptions::Netlink(options))
            .and_then(|link| classifier.take_link(link))
            .map_err(|error| {
                let added = added
                    .err()
                    .map_or_else(String::new, |error| format!(" (adding it: {error})"));
                Error::kernel(format!("attaching to {name} at clsact{added}"), &error)
            })?;
        // Dropping it would detach the program, and a process that ends should leave it in force.
        std::mem::forget(link);
        Ok(())
    }

    fn pins(&self) -> Result<&Pins, Error> {
        self.pins.as_ref().ok_or(Error::Unpinned)
    }
}

fn take_off_clsact(device: &Device) {
    // Not there is as good as gone, and so is a device without clsact.
    let _: Result<(), tc::TcError> = tc::qdisc_detach_program(&device.name, TcAttachType::Ingress, PROGRAM);
}

fn link_name(device: &Device) -> String {
    // No dots: the BPF file system keeps names with dots for itself.
    format!("edge_chase_tcx_{}", device.index)
}
