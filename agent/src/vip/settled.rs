//! Waits until the kernel takes packets for an IPv6 address: it makes the route a moment after the address, from a queue of
//! work, and until then drops them.

use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(1);

/// Waits, for a fifth of a second at most, until the address is local by way of this device. IPv4 is at once.
pub(super) fn wait(address: IpAddr, device: &str) {
    let IpAddr::V6(address) = address else { return };
    for _ in 0..TRIES {
        match fs::read_to_string("/proc/thread-self/net/ipv6_route") {
            Ok(routes) if is_local(&routes, address, device) => return,
            Ok(_) => std::thread::sleep(PAUSE),
            Err(error) => {
                tracing::warn!(%error, "the IPv6 routes can't be read: clients may ask twice");
                return;
            }
        }
    }
    tracing::warn!(%address, device, "the kernel has made no route to an address of this host yet: clients may ask twice");
}

fn is_local(routes: &str, address: Ipv6Addr, device: &str) -> bool {
    const RTF_LOCAL: u32 = 0x8000_0000;
    let wanted = format!("{:032x}", u128::from(address));
    routes.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [to, "80", .., flags, name] = fields.as_slice() else {
            return false;
        };
        let is_local = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & RTF_LOCAL != 0);
        *to == wanted && *name == device && is_local
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_route_of_the_device_is_what_counts() {
        let zeros = "0".repeat(32);
        let to = "fd070000000000000000000000000064";
        let line = |bits: &str, flags: &str, device: &str| {
            format!("{to} {bits} {zeros} 00 {zeros} 00000000 00000002 00000000 {flags} {device:>8}\n")
        };
        let address = "fd07::64".parse().unwrap();
        assert!(is_local(&line("80", "80200001", "edge"), address, "edge"));
        assert!(!is_local(&line("80", "80200001", "lo"), address, "edge"));
        assert!(
            !is_local(&line("80", "00000001", "edge"), address, "edge"),
            "to somebody else"
        );
        assert!(!is_local(&line("40", "80200001", "edge"), address, "edge"));
        assert!(!is_local("", address, "edge"));
    }
}
