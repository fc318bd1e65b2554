//! Where the programs hang: TCX for good, clsact before Linux 6.6, and XDP instead of them while under attack.
//!
//! A device has one of them at a time, so that no packet takes two tokens; only while one is exchanged for the other
//! there are two, for some microseconds, and never none.

use std::path::PathBuf;

use aya::programs::links::FdLink;
use aya::programs::{LinkOrder, XdpMode};

use super::{Device, Guard, Program};
use crate::pins::remove_link;
use crate::{Error, tc};

/// Before `edge_chase`.
const CLSACT_PRIORITY: u16 = 1;

/// The kind of hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A link at the TC ingress of a device, before all other programs there (Linux 6.6).
    Tcx,
    /// A filter at the clsact queueing discipline, for older kernels. It can't be pinned, but stays without a process.
    Clsact,
    /// In the driver, before there is a socket buffer. Never the generic kind, which is no faster than TCX.
    Xdp,
}

/// Where the guard is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The device.
    pub device: Device,
    /// The hook.
    pub hook: Hook,
}

/// What [`Guard::set_under_attack`] came to at one device.
#[derive(Debug)]
pub struct UnderAttack {
    /// Where the guard is attached now.
    pub attachment: Attachment,
    /// Why it is not where it was asked to be.
    pub obstacle: Option<Error>,
}

impl Guard {
    /// Puts the guard into force at a device. A program of an earlier process is replaced without a gap, at the hook where
    /// it is: also at XDP, if there was an attack.
    ///
    /// # Errors
    /// [`Error::NoDevice`]; those of the kernel.
    pub fn attach(&mut self, name: &str) -> Result<Hook, Error> {
        let device = Device::find(name)?;
        let hook = if device.has_ethernet && self.replace(&device, Hook::Xdp)? {
            Hook::Xdp
        } else {
            self.attach_tc(&device)?
        };
        // Who crashed while moving between hooks left two.
        for other in [Hook::Xdp, Hook::Tcx, Hook::Clsact] {
            if other != hook {
                self.take_off(&device, other)?;
            }
        }
        self.attached.insert(device.index, Attachment { device, hook });
        Ok(hook)
    }

    /// The same at clsact, whatever the kernel offers: for tests, and for other tools that know only that.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn attach_clsact(&mut self, name: &str) -> Result<Hook, Error> {
        let device = Device::find(name)?;
        self.create_clsact(&device)?;
        self.attached.insert(
            device.index,
            Attachment {
                device,
                hook: Hook::Clsact,
            },
        );
        Ok(Hook::Clsact)
    }

    /// Takes the guard off a device, whoever put it there.
    ///
    /// # Errors
    /// [`Error::NoDevice`]; those of the BPF file system.
    pub fn detach(&mut self, name: &str) -> Result<(), Error> {
        let device = Device::find(name)?;
        for hook in [Hook::Xdp, Hook::Tcx, Hook::Clsact] {
            self.take_off(&device, hook)?;
        }
        self.attached.remove(&device.index);
        Ok(())
    }

    /// Where this process attached the guard.
    pub fn attached(&self) -> impl Iterator<Item = &Attachment> {
        self.attached.values()
    }

    /// Moves the guard into the drivers, where dropping is cheapest, or back behind them, where good traffic is. Devices
    /// whose driver has no XDP stay as they are, and it is said why.
    pub fn set_under_attack(&mut self, under_attack: bool) -> Vec<UnderAttack> {
        let attached: Vec<_> = self.attached.values().cloned().collect();
        let outcomes = attached.into_iter().map(|mut attachment| {
            let moved = self.move_to(&attachment, under_attack);
            let obstacle = match moved {
                Ok(hook) => {
                    attachment.hook = hook;
                    self.attached.insert(attachment.device.index, attachment.clone());
                    None
                }
                Err(error) => Some(error),
            };
            UnderAttack { attachment, obstacle }
        });
        outcomes.collect()
    }

    fn move_to(&mut self, from: &Attachment, under_attack: bool) -> Result<Hook, Error> {
        let device = &from.device;
        match (from.hook, under_attack) {
            (Hook::Tcx | Hook::Clsact, true) => {
                if !device.has_ethernet {
                    return Err(Error::Kernel {
                        what: format!("attaching to {}", device.name),
                        reason: "a device without Ethernet headers has no XDP in its driver".to_owned(),
                        errno: None,
                    });
                }
                if !self.replace(device, Hook::Xdp)? {
                    self.create_xdp(device)?;
                }
                self.take_off(device, from.hook)?;
                Ok(Hook::Xdp)
            }
            (Hook::Xdp, false) => {
                let hook = self.attach_tc(device)?;
                self.take_off(device, Hook::Xdp)?;
                Ok(hook)
            }
            (hook, _) => Ok(hook),
        }
    }

    /// At TCX, or else at clsact.
    fn attach_tc(&mut self, device: &Device) -> Result<Hook, Error> {
        if self.replace(device, Hook::Tcx)? {
            return Ok(Hook::Tcx);
        }
        match self.create_tcx(device) {
            Err(error) if tc::is_before_tcx(&error) => {
                self.create_clsact(device)?;
                Ok(Hook::Clsact)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(Hook::Tcx),
        }
    }

    fn create_tcx(&mut self, device: &Device) -> Result<(), Error> {
        let pin = self.pin(device, Hook::Tcx)?;
        tc::pin(self.tcx_link(device)?, &pin, &device.name)
    }

    /// A link at TCX, before all others. The guard is attached for as long as it is open.
    pub(crate) fn tcx_link(&mut self, device: &Device) -> Result<FdLink, Error> {
        tc::tcx_link(
            self.classifier(program(device))?,
            &device.name,
            LinkOrder::first(),
        )
    }

    fn create_clsact(&mut self, device: &Device) -> Result<(), Error> {
        self.take_off(device, Hook::Clsact)?;
        tc::attach_clsact(self.classifier(program(device))?, &device.name, CLSACT_PRIORITY)
    }

    fn create_xdp(&mut self, device: &Device) -> Result<(), Error> {
        let pin = self.pin(device, Hook::Xdp)?;
        let xdp = self.xdp()?;
        let link = xdp
            .attach_to_if_index(device.index, XdpMode::Driver)
            .and_then(|link| xdp.take_link(link))
            .map_err(|error| Error::kernel(format!("attaching to {} at XDP", device.name), &error))?;
        let link = FdLink::try_from(link).map_err(|error| Error::kernel("taking the link", &error))?;
        tc::pin(link, &pin, &device.name)
    }

    /// Puts our program in the place of a pinned one. Says whether there was one that is still attached.
    fn replace(&mut self, device: &Device, hook: Hook) -> Result<bool, Error> {
        let pins = self.pins()?.clone();
        let namespace = self.lock.namespace().clone();
        let name = link_name(device, hook);
        // Only a pin makes it worth loading the program.
        if pins.links_named(&namespace, &name)?.is_empty() {
            return Ok(false);
        }
        match hook {
            Hook::Xdp => {
                let fd = self
                    .xdp()?
                    .fd()
                    .map_err(|error| Error::kernel("opening the program", &error))?;
                pins.replace_program(&namespace, &name, fd)
            }
            Hook::Tcx => {
                let program = self.classifier(program(device))?;
                let fd = program
                    .fd()
                    .map_err(|error| Error::kernel("opening the program", &error))?;
                pins.replace_program(&namespace, &name, fd)
            }
            Hook::Clsact => Ok(false),
        }
    }

    pub(super) fn take_off(&self, device: &Device, hook: Hook) -> Result<(), Error> {
        match hook {
            Hook::Tcx | Hook::Xdp => remove_link(&self.pin(device, hook)?),
            Hook::Clsact => {
                super::devices::detach_clsact_from(&device.name);
                Ok(())
            }
        }
    }

    pub(super) fn pin(&self, device: &Device, hook: Hook) -> Result<PathBuf, Error> {
        Ok(self.pins()?.link(&link_name(device, hook)))
    }

    pub(super) fn pins(&self) -> Result<&crate::pins::Pins, Error> {
        self.pins.as_ref().ok_or(Error::Unpinned)
    }
}

const fn program(device: &Device) -> Program {
    if device.has_ethernet {
        Program::L2
    } else {
        Program::L3
    }
}

fn link_name(device: &Device, hook: Hook) -> String {
    let hook = match hook {
        Hook::Tcx => "tcx",
        Hook::Clsact => "clsact",
        Hook::Xdp => "xdp",
    };
    // No dots: the BPF file system keeps names with dots for itself.
    format!("edge_guard_{hook}_{}", device.index)
}
