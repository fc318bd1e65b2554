//! A tun device with somebody at its other end: packets without Ethernet headers, as from Tailscale's; or with them (tap); and
//! packets in several pieces of memory, as some drivers hand them over.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;

use nix::libc;

#[expect(
    unsafe_code,
    reason = "a tun device is made by an ioctl, which nix has as a macro only"
)]
mod make {
    use nix::libc;

    nix::ioctl_write_ptr_bad!(set_interface, libc::TUNSETIFF, libc::ifreq);

    /// Makes the device, as long as the file is open.
    pub(super) fn tun(descriptor: libc::c_int, name: &str, flags: libc::c_int) -> nix::Result<()> {
        // SAFETY: zeros are a valid `ifreq`: an empty name, and numbers.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = libc::c_char::try_from(from).unwrap();
        }
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags | libc::IFF_NO_PI).unwrap();
        // SAFETY: the descriptor is open, and the request lives until the call returns.
        unsafe { set_interface(descriptor, &raw const request) }.map(drop)
    }
}

/// The device; it is gone when this is dropped.
#[derive(Debug)]
pub struct Tun(File);

impl Tun {
    /// Makes a device of this name in the thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn make(name: &str) -> io::Result<Self> {
        Self::with(name, libc::IFF_TUN)
    }

    /// Makes a device for [`Self::receives_in_pieces`], with Ethernet headers or without.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn for_pieces(name: &str, has_ethernet: bool) -> io::Result<Self> {
        let kind = if has_ethernet {
            libc::IFF_TAP
        } else {
            libc::IFF_TUN
        };
        Self::with(name, kind | libc::IFF_VNET_HDR)
    }

    /// The other end of a tap device that is there already, to read frames from and write them to.
    ///
    /// # Errors
    /// When there is none, or somebody has it.
    pub fn attach(name: &str) -> io::Result<File> {
        Self::with(name, libc::IFF_TAP).map(|tap| tap.0)
    }

    fn with(name: &str, flags: libc::c_int) -> io::Result<Self> {
        assert!(name.len() < libc::IFNAMSIZ, "{name}");
        let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
        make::tun(file.as_raw_fd(), name, flags)?;
        Ok(Self(file))
    }

    /// Has a packet of more than a page come in whose first bytes lie in one piece of memory, and the rest elsewhere. The
    /// device is one [`for_pieces`](Self::for_pieces).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn receives_in_pieces(&self, packet: &[u8], first: u16) -> io::Result<()> {
        assert!(
            packet.len() > 4096,
            "the kernel keeps less than a page in one piece"
        );
        // `struct virtio_net_hdr`: the length of the headers is the third and fourth byte.
        let mut written = vec![0; 10];
        written[2..4].copy_from_slice(&first.to_ne_bytes());
        written.extend_from_slice(packet);
        (&self.0).write_all(&written)
    }

    /// Has a packet come in at the device.
    ///
    /// # Errors
    /// When the kernel refuses, as while the device is down.
    pub fn receives(&self, packet: &[u8]) -> io::Result<()> {
        (&self.0).write_all(packet)
    }
}
