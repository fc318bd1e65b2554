//! Asks the kernel for and about addresses. Each question has a socket of its own, and takes some microseconds.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use super::message::{self, Arp, Found, Reply};

/// More than one datagram of a listing: the kernel fills at most this.
const BUFFER: usize = 64 * 1024;
/// The kernel answers at once, or something is very wrong.
const PATIENCE: TimeVal = TimeVal::new(2, 0);

/// Does what the message says.
pub(super) fn tell(message: &[u8]) -> io::Result<()> {
    let mut outcome = None;
    ask(message, |reply| {
        if let Reply::Error(code) = reply {
            outcome = Some(code);
        }
    })?;
    match outcome {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code)),
        None => Err(io::Error::other("the kernel gave no answer")),
    }
}

/// All addresses of this network namespace.
pub(super) fn addresses() -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut failed = 0;
    ask(&message::list(), |reply| match reply {
        Reply::Address(address) => found.push(address),
        Reply::Error(code) => failed = code,
        _ => {}
    })?;
    match failed {
        0 => Ok(found),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// How a device does ARP.
pub(super) fn arp_of(device: u32) -> io::Result<Arp> {
    let mut found = None;
    ask(&message::arp_of(device), |reply| {
        if let Reply::Arp(arp) = reply {
            found = Some(arp);
        }
    })?;
    found.ok_or_else(|| io::Error::other("the kernel does not say how the device does ARP"))
}

/// Sends a message and hears all of the answer.
fn ask(message: &[u8], mut hear: impl FnMut(Reply)) -> io::Result<()> {
    let socket: OwnedFd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &PATIENCE)?;
    sendto(
        socket.as_raw_fd(),
        message,
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let replies = message::replies(buffer.get(..length).unwrap_or_default());
        if replies.is_empty() {
            return Err(io::Error::other("the kernel's answer can't be read"));
        }
        for reply in replies {
            // A listing ends with a message of its own, everything else with the first.
            let is_last = !matches!(reply, Reply::Address(_));
            hear(reply);
            if is_last {
                return Ok(());
            }
        }
    }
}
