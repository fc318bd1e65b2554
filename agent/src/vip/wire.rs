//! Sends frames at a device, and gets them (packet(7)).
#![expect(
    unsafe_code,
    reason = "no safe way leads to the address of a packet socket, which names the device"
)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::libc::{AF_PACKET, sockaddr_ll, socklen_t};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike as _, bind, sendto, socket,
};

/// `ETH_P_ALL`.
const ALL: u16 = 0x0003;

/// A socket that sends at one device, and gets nothing unless it listens.
pub(super) struct Wire {
    socket: OwnedFd,
    device: LinkAddr,
    /// The device, and everything that comes in at it.
    all: LinkAddr,
}

impl Wire {
    /// Needs `CAP_NET_RAW`.
    pub(super) fn at(device: u32) -> io::Result<Self> {
        // Protocol 0: nothing is received.
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self {
            socket,
            device: address(device, 0)?,
            all: address(device, ALL)?,
        })
    }

    /// Gets all frames of the device from now on, as far as the socket's filter lets them pass.
    pub(super) fn listen(&self) -> io::Result<()> {
        Ok(bind(self.socket.as_raw_fd(), &self.all)?)
    }

    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        sendto(self.socket.as_raw_fd(), frame, &self.device, MsgFlags::empty())?;
        Ok(())
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn address(device: u32, protocol: u16) -> io::Result<LinkAddr> {
    let address = sockaddr_ll {
        sll_family: u16::try_from(AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(device).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    let length = socklen_t::try_from(size_of::<sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: it points to a whole `sockaddr_ll` that says that it is one, and is read before this returns.
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) };
    address.ok_or_else(|| io::Error::other("a device's number makes no address"))
}
