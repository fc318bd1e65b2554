//! A network device, and what its packets begin with.

use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::LinkAddr;

use crate::Error;

/// A network device of this namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its index, which outlives a change of name.
    pub index: u32,
    /// Whether packets begin with an Ethernet header. Those of tun devices, WireGuard and tunnels do not.
    pub has_ethernet: bool,
}

impl Device {
    /// Finds a device.
    ///
    /// # Errors
    /// [`Error::NoDevice`].
    pub fn find(name: &str) -> Result<Self, Error> {
        let index = if_nametoindex(name).map_err(|_| Error::NoDevice(name.to_owned()))?;
        let addresses =
            getifaddrs().map_err(|error| Error::syscall("listing network devices", &error.into()))?;
        // A device without a link-layer address, such as tun, is not even listed with one.
        let links = addresses.filter(|address| address.interface_name == name);
        let mut kinds = links.filter_map(|link| link.address?.as_link_addr().map(LinkAddr::hatype));
        // The loopback device's packets have the header, too.
        let has_ethernet = kinds.any(|kind| matches!(kind, libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK));
        Ok(Self {
            name: name.to_owned(),
            index,
            has_ethernet,
        })
    }
}
