//! Which device a virtual address goes to, and its hardware address.

use std::fs;
use std::net::IpAddr;

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;

use super::frame::Mac;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) index: u32,
    pub(super) mac: Mac,
}

impl Device {
    /// The one that is named, or the one whose network has the address, or that of the default route.
    ///
    /// # Errors
    /// In words for the operator.
    pub(super) fn of(net: IpNet, named: Option<&str>) -> Result<Self, String> {
        let name = match named {
            Some(name) => name.to_owned(),
            None => with_network(net.addr())?
                .or_else(|| of_default_route(net.addr().is_ipv6()))
                .ok_or_else(|| {
                    format!(
                        "{net} is in the network of no device, and there is no default route: name the device in \
                         edge.virtualIpDevice"
                    )
                })?,
        };
        let index = if_nametoindex(name.as_str())
            .map_err(|error| format!("{name} is no network device ({error}): see `ip link`"))?;
        let mac = mac(&name)?.ok_or_else(|| {
            format!("{name} has no hardware address: a virtual address needs a device of an Ethernet network")
        })?;
        Ok(Self { name, index, mac })
    }
}

fn interfaces() -> Result<Vec<nix::ifaddrs::InterfaceAddress>, String> {
    let all = getifaddrs().map_err(|error| format!("network devices can't be listed: {error}"))?;
    Ok(all.collect())
}

fn with_network(address: IpAddr) -> Result<Option<String>, String> {
    let fits = |interface: &nix::ifaddrs::InterfaceAddress| {
        let ip = |address: &nix::sys::socket::SockaddrStorage| -> Option<IpAddr> {
            let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
        };
        let (own, mask) = (interface.address.as_ref()?, interface.netmask.as_ref()?);
        let net = IpNet::with_netmask(ip(own)?, ip(mask)?).ok()?;
        // A whole network, and not the address alone, which an earlier process may have left.
        (net.prefix_len() < net.max_prefix_len() && net.contains(&address)).then_some(())
    };
    let all = interfaces()?;
    let found = all
        .iter()
        .find(|interface| interface.interface_name != "lo" && fits(interface).is_some());
    Ok(found.map(|interface| interface.interface_name.clone()))
}

fn mac(name: &str) -> Result<Option<Mac>, String> {
    let all = interfaces()?;
    let mut of_device = all.iter().filter(|interface| interface.interface_name == name);
    Ok(of_device.find_map(|interface| {
        let mac = interface.address.as_ref()?.as_link_addr()?.addr()?;
        (mac != [0; 6]).then_some(mac)
    }))
}

/// Those of this thread's network namespace.
fn of_default_route(v6: bool) -> Option<String> {
    let table = if v6 { "ipv6_route" } else { "route" };
    let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok()?;
    default_route(&text, v6)
}

fn default_route(text: &str, v6: bool) -> Option<String> {
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (to, name) = if v6 {
            let is_default = fields.get(1)? == &"00" && fields.first()?.bytes().all(|byte| byte == b'0');
            (is_default, fields.get(9)?)
        } else {
            let is_default = fields.get(1)? == &"00000000" && fields.get(7)? == &"00000000";
            (is_default, fields.first()?)
        };
        (to && *name != "lo").then(|| (*name).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_is_found_and_others_are_not_taken_for_it() {
        let v4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                  br0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                  eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(default_route(v4, false).as_deref(), Some("eth0"));
        let zeros = "0".repeat(32);
        let line = |bits: &str, device: &str| {
            format!("{zeros} {bits} {zeros} 00 {zeros} 00000400 00000001 00000000 00000003     {device}\n")
        };
        let v6 = line("00", "lo") + &line("07", "br0") + &line("00", "eth1");
        assert_eq!(default_route(&v6, true).as_deref(), Some("eth1"));
        assert_eq!(default_route("", true), None);
    }
}
