//! What the kernel says about this host's network: the devices of default routes, and its own addresses.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

/// Routes that say no instead of leading anywhere (`RTF_REJECT`).
const REJECT: u32 = 0x200;

/// The devices that a default route of the main table leads through.
pub(super) fn default_devices() -> Vec<String> {
    let read = |path: &str| {
        fs::read_to_string(path).unwrap_or_else(|error| {
            tracing::debug!(path, %error, "the routes can't be read");
            String::new()
        })
    };
    let v4 = read("/proc/self/net/route");
    let v6 = read("/proc/self/net/ipv6_route");
    let devices: BTreeSet<&str> = v4
        .lines()
        .filter_map(device_v4)
        .chain(v6.lines().filter_map(device_v6))
        .filter(|device| *device != "lo")
        .collect();
    devices.into_iter().map(str::to_owned).collect()
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT`.
fn device_v4(line: &str) -> Option<&str> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    match fields.as_slice() {
        [device, "00000000", _, flags, _, _, _, "00000000", ..] => leads_on(flags).then_some(*device),
        _ => None,
    }
}

/// `Destination Length Source Length NextHop Metric RefCnt Use Flags Iface`.
fn device_v6(line: &str) -> Option<&str> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    match fields.as_slice() {
        [destination, "00", _, _, _, _, _, _, flags, device] => {
            let everywhere = destination.bytes().all(|digit| digit == b'0');
            (everywhere && leads_on(flags)).then_some(*device)
        }
        _ => None,
    }
}

fn leads_on(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & REJECT == 0)
}

/// The addresses of this host.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    let Ok(addresses) = getifaddrs() else {
        return Vec::new();
    };
    let ip = |address: SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    let mut own: Vec<IpAddr> = addresses.filter_map(|address| ip(address.address?)).collect();
    own.sort_unstable();
    own.dedup();
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_told_from_others() {
        let v4 = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth1\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0
eth2\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
*\t00000000\t00000000\t0203\t0\t0\t0\t00000000\t0\t0\t0";
        assert_eq!(v4.lines().filter_map(device_v4).collect::<Vec<_>>(), ["eth0"]);
        let zeros = "0".repeat(32);
        let v6 = format!(
            "{zeros} 00 {zeros} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0
20010db8000000000000000000000000 40 {zeros} 00 {zeros} 00000100 00000001 00000000 00000001     eth1
{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200       lo"
        );
        assert_eq!(v6.lines().filter_map(device_v6).collect::<Vec<_>>(), ["eth0"]);
        assert!(!default_devices().contains(&"lo".to_owned()));
        assert!(own_addresses().iter().any(IpAddr::is_loopback));
    }
}
