//! Whether a previous holder can be reached without a router, and at which device.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use crate::Error;
use crate::guard::Device;

/// The index of the one device among these whose network has the address.
pub(super) fn device_of<'a>(
    address: IpAddr,
    devices: impl Iterator<Item = &'a Device>,
) -> Result<u32, Error> {
    let interfaces =
        getifaddrs().map_err(|error| Error::syscall("listing network devices", &error.into()))?;
    let networks: Vec<(String, IpNet)> = interfaces
        .filter_map(|interface| {
            let own = ip(&interface.address?)?;
            let bits = ip(&interface.netmask?)?;
            let net = IpNet::with_netmask(own, bits).ok()?;
            Some((interface.interface_name, net))
        })
        .collect();
    if networks.iter().any(|(_, net)| net.addr() == address) {
        return Err(Error::OwnAddress(address));
    }
    let mut attached = Vec::new();
    let mut found = Vec::new();
    for device in devices {
        attached.push(device.name.clone());
        if networks
            .iter()
            .any(|(name, net)| *name == device.name && net.contains(&address))
        {
            found.push(device);
        }
    }
    match found.as_slice() {
        [device] => Ok(device.index),
        [] => {
            if attached.is_empty() {
                attached.push("no device".to_owned());
            }
            Err(Error::NoNeighbour {
                address,
                devices: attached,
            })
        }
        _ => Err(Error::AmbiguousNeighbour {
            address,
            devices: found.iter().map(|device| device.name.clone()).collect(),
        }),
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(v4.ip().into());
    }
    address.as_sockaddr_in6().map(|v6| v6.ip().into())
}
