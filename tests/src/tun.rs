//! A tun device with somebody at its other end: packets without Ethernet headers, as from Tailscale's.

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
    pub(super) fn tun(descriptor: libc::c_int, name: &str) -> nix::Result<()> {
        // SAFETY: zeros are a valid `ifreq`: an empty name, and numbers.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = libc::c_char::try_from(from).unwrap();
        }
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI).unwrap();
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
        assert!(name.len() < libc::IFNAMSIZ, "{name}");
        let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
        make::tun(file.as_raw_fd(), name)?;
        Ok(Self(file))
    }

    /// Has a packet come in at the device.
    ///
    /// # Errors
    /// When the kernel refuses, as while the device is down.
    pub fn receives(&self, packet: &[u8]) -> io::Result<()> {
        (&self.0).write_all(packet)
    }
}
