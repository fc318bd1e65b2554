//! The frames that tell a network where an address is now: ARP (RFC 826, 5227) and neighbour advertisements (RFC 4861).
//! Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A hardware address of Ethernet.
pub(super) type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
const ETHERNET_ARP: [u8; 2] = [0x08, 0x06];
const ETHERNET_IPV6: [u8; 2] = [0x86, 0xdd];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;
const ADVERTISEMENT: u8 = 136;
/// Not asked for, and to be believed over what is known.
const OVERRIDE: u8 = 0x20;
const TARGET_LINK_ADDRESS: u8 = 2;

/// What says that this address is at this hardware address from now on. ARP in both forms, since some hosts believe
/// only one of them.
pub(super) fn announcements(address: IpAddr, mac: Mac) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(v4) => vec![arp(REQUEST, v4, mac), arp(REPLY, v4, mac)],
        IpAddr::V6(v6) => vec![advertisement(v6, mac)],
    }
}

fn ethernet(to: Mac, from: Mac, kind: [u8; 2]) -> Vec<u8> {
    [&to[..], &from, &kind].concat()
}

fn arp(operation: u8, address: Ipv4Addr, mac: Mac) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ETHERNET_ARP);
    // Ethernet, IPv4, and their lengths.
    frame.extend([0, 1, 0x08, 0, 6, 4, 0, operation]);
    frame.extend(mac);
    frame.extend(address.octets());
    frame.extend(if operation == REQUEST { [0; 6] } else { BROADCAST });
    frame.extend(address.octets());
    frame
}

fn advertisement(address: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(address.octets());
    message.extend([TARGET_LINK_ADDRESS, 1]);
    message.extend(mac);
    let sum = checksum(address, ALL_NODES, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ethernet(ALL_NODES_MAC, mac, ETHERNET_IPV6);
    // Version 6; the hop limit proves that no router has passed it on.
    frame.extend([0x60, 0, 0, 0, 0, 32, ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

/// RFC 4443, section 2.3.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let pairs = |bytes: &[u8]| -> u32 {
        bytes
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
            .sum()
    };
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut sum = pairs(&from.octets()) + pairs(&to.octets()) + length + u32::from(ICMPV6) + pairs(message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 7, 3];

    #[test]
    fn arp_comes_as_a_request_and_as_a_reply() {
        let frames = announcements("192.0.2.10".parse().unwrap(), MAC);
        let operations: Vec<u8> = frames.iter().map(|frame| frame[21]).collect();
        assert_eq!(operations, [REQUEST, REPLY]);
        for frame in frames {
            assert_eq!(frame.len(), 42);
            assert_eq!(
                (&frame[..6], &frame[6..12], &frame[22..28]),
                (&BROADCAST[..], &MAC[..], &MAC[..])
            );
            assert_eq!(
                (&frame[28..32], &frame[38..42]),
                (&[192, 0, 2, 10][..], &[192, 0, 2, 10][..])
            );
        }
    }

    #[test]
    fn an_advertisement_is_one_that_hosts_accept() {
        let address: Ipv6Addr = "2001:db8::10".parse().unwrap();
        let frames = announcements(address.into(), MAC);
        let [frame] = frames.as_slice() else {
            panic!("{frames:?}")
        };
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!((frame[21], frame[58]), (255, OVERRIDE));
        // With its own sum in it, a message sums up to nothing.
        assert_eq!(checksum(address, ALL_NODES, &frame[54..]), 0);
    }
}
