//! Where numbers become descriptors that this process owns: sockets that the service manager passed, and those that came
//! with a message.
#![allow(
    unsafe_code,
    reason = "the only way to own a descriptor that the kernel or the service manager names by number"
)]

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use nix::sys::socket::{ControlMessageOwned, RecvMsg, UnixAddr};

use super::Sockets;

/// The sockets that systemd passed to this process. To be called once, before anything else of the kind.
pub fn from_service_manager() -> io::Result<Sockets> {
    let passed = sd_notify::listen_fds_with_names()?;
    let own = |(number, name)| {
        // SAFETY: the service manager opened it for this process (LISTEN_PID is checked), and nobody else here takes it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        (name, descriptor)
    };
    Ok(Sockets(passed.map(own).collect()))
}

/// The descriptor that came with a message.
pub(super) fn descriptor_of(message: &RecvMsg<'_, '_, UnixAddr>) -> io::Result<Option<OwnedFd>> {
    let mut found = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            for number in numbers {
                // SAFETY: the kernel has just put it into this process's table, for this message alone.
                found = Some(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    Ok(found)
}
