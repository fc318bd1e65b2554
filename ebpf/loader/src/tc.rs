//! Attaching a program at the TC ingress of a device: a link at TCX, or a filter at clsact before Linux 6.6.

use aya::programs::links::FdLink;
use aya::programs::tc::{self, NlOptions, TcAttachOptions, TcHandle};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};

use crate::Error;

/// A link at TCX. The program is attached for as long as it is open.
pub(crate) fn tcx_link(
    program: &mut SchedClassifier,
    device: &str,
    order: LinkOrder,
) -> Result<FdLink, Error> {
    let options = TcAttachOptions::TcxOrder(order);
    let link = program
        .attach_with_options(device, TcAttachType::Ingress, options)
        .and_then(|link| program.take_link(link))
        .map_err(|error| Error::kernel(format!("attaching to {device} at TCX"), &error))?;
    FdLink::try_from(link).map_err(|error| Error::kernel("taking the link", &error))
}

/// Whether the kernel does not know links at TCX.
pub(crate) fn is_before_tcx(error: &Error) -> bool {
    matches!(
        error,
        Error::Kernel {
            errno: Some(nix::libc::EINVAL),
            ..
        }
    )
}

/// A filter at clsact, which stays without a process. One of the same name is to be taken off before.
pub(crate) fn attach_clsact(program: &mut SchedClassifier, device: &str, priority: u16) -> Result<(), Error> {
    // It may be there already, also as somebody else's; whether it is usable shows below.
    let added = tc::qdisc_add_clsact(device);
    let options = NlOptions {
        priority,
        handle: TcHandle::new(0, 1),
        classid: None,
    };
    let link = program
        .attach_with_options(device, TcAttachType::Ingress, TcAttachOptions::Netlink(options))
        .and_then(|link| program.take_link(link))
        .map_err(|error| {
            let added = added
                .err()
                .map_or_else(String::new, |error| format!(" (adding it: {error})"));
            Error::kernel(format!("attaching to {device} at clsact{added}"), &error)
        })?;
    // Dropping it would detach the program, and a process that ends should leave it in force.
    std::mem::forget(link);
    Ok(())
}

/// Takes the filter of a program off a device.
pub(crate) fn detach_clsact(device: &str, program: &str) {
    // Not there is as good as gone, and so is a device without clsact; without the right there never was one.
    drop(tc::qdisc_detach_program(device, TcAttachType::Ingress, program));
}

/// Pins the link of a device, so that it outlives the process.
pub(crate) fn pin(link: FdLink, at: impl AsRef<std::path::Path>, device: &str) -> Result<(), Error> {
    let pinned = link.pin(at);
    pinned
        .map(drop)
        .map_err(|error| Error::kernel(format!("pinning the link of {device}"), &error))
}
