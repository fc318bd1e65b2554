//! Sends frames at a device (packet(7)).
#![expect(
    unsafe_code,
    reason = "no safe way leads to the address of a packet socket, which names the device"
)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::libc::{AF_PACKET, sockaddr_ll, socklen_t};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike as _, sendto, socket,
};

/// A socket that sends at one device, and gets nothing.
pub(super) struct Wire {
    socket: OwnedFd,
    device: LinkAddr,
}

impl Wire {
    /// Needs `CAP_NET_RAW`.
    pub(super) fn at(device: u32) -> io::Result<Self> {
        // Protocol 0: nothing is received.
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        let address = sockaddr_ll {
            sll_family: u16::try_from(AF_PACKET).unwrap_or_default(),
            sll_protocol: 0,
            sll_ifindex: i32::try_from(device).map_err(io::Error::other)?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [0; 8],
        };
        let length = socklen_t::try_from(size_of::<sockaddr_ll>()).map_err(io::Error::other)?;
        // SAFETY: it points to a whole `sockaddr_ll` that says that it is one, and is read before this returns.
        let device = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) };
        let device = device.ok_or_else(|| io::Error::other("a device's number makes no address"))?;
        Ok(Self { socket, device })
    }

    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        sendto(self.socket.as_raw_fd(), frame, &self.device, MsgFlags::empty())?;
        Ok(())
    }
}
