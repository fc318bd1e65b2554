//! The kernel's messages about addresses and devices (rtnetlink(7)), written and read. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// `IFA_PROTO` of addresses that a node has put there (Linux 5.18): a number that nobody else is known to use.
pub(super) const OURS: u8 = 0xc5;

const HEADER: usize = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWLINK: u16 = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const F_REQUEST: u16 = 0x1;
const F_ACK: u16 = 0x4;
const F_REPLACE: u16 = 0x100;
const F_DUMP: u16 = 0x300;
const F_CREATE: u16 = 0x400;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_PROTO: u16 = 11;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_HOST: u8 = 254;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET_CONF: u16 = 1;
const NESTED: u16 = 0x8000;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const DEVCONF_ARP_ANNOUNCE: u16 = 18;
const DEVCONF_ARP_IGNORE: u16 = 19;

/// How a device answers for addresses and asks for others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arp {
    /// `arp_ignore`.
    pub(super) ignore: u32,
    /// `arp_announce`.
    pub(super) announce: u32,
}

/// An address that is on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) net: IpNet,
    pub(super) device: u32,
    /// Who put it there, if the kernel knows.
    pub(super) proto: Option<u8>,
    /// Seconds that it is there for yet; `u32::MAX`: for ever.
    pub(super) valid: u32,
}

/// What the kernel said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Address(Found),
    Arp(Arp),
    /// 0: it is done.
    Error(i32),
    Done,
    Other,
}

/// Puts an address on a device for so many seconds, or makes it that many from now on.
pub(super) fn put(net: IpNet, device: u32, seconds: u32, to_itself: bool) -> Vec<u8> {
    let mut body = address_head(net, device, if to_itself { SCOPE_HOST } else { SCOPE_UNIVERSE });
    address(&mut body, net);
    let mut lives = [0; 16];
    lives[..4].copy_from_slice(&seconds.to_ne_bytes());
    lives[4..8].copy_from_slice(&seconds.to_ne_bytes());
    attribute(&mut body, IFA_CACHEINFO, &lives);
    if net.addr().is_ipv6() {
        // There is no time to ask whether somebody else has it: the lease says that nobody may.
        attribute(
            &mut body,
            IFA_FLAGS,
            &(IFA_F_NODAD | IFA_F_NOPREFIXROUTE).to_ne_bytes(),
        );
    }
    attribute(&mut body, IFA_PROTO, &[OURS]);
    message(RTM_NEWADDR, F_REQUEST | F_ACK | F_CREATE | F_REPLACE, &body)
}

/// Takes an address off a device.
pub(super) fn remove(net: IpNet, device: u32) -> Vec<u8> {
    let mut body = address_head(net, device, SCOPE_UNIVERSE);
    address(&mut body, net);
    message(RTM_DELADDR, F_REQUEST | F_ACK, &body)
}

/// Asks for all addresses.
pub(super) fn list() -> Vec<u8> {
    message(RTM_GETADDR, F_REQUEST | F_DUMP, &[0; 8])
}

/// Asks how a device does ARP.
pub(super) fn arp_of(device: u32) -> Vec<u8> {
    message(RTM_GETLINK, F_REQUEST, &link_head(device))
}

/// Has a device do ARP like this.
pub(super) fn set_arp(device: u32, arp: Arp) -> Vec<u8> {
    let (mut settings, mut family, mut families) = (Vec::new(), Vec::new(), Vec::new());
    attribute(&mut settings, DEVCONF_ARP_ANNOUNCE, &arp.announce.to_ne_bytes());
    attribute(&mut settings, DEVCONF_ARP_IGNORE, &arp.ignore.to_ne_bytes());
    attribute(&mut family, IFLA_INET_CONF | NESTED, &settings);
    attribute(&mut families, u16::from(AF_INET) | NESTED, &family);
    let mut body = link_head(device);
    attribute(&mut body, IFLA_AF_SPEC | NESTED, &families);
    message(RTM_SETLINK, F_REQUEST | F_ACK, &body)
}

fn address_head(net: IpNet, device: u32, scope: u8) -> Vec<u8> {
    let family = if net.addr().is_ipv4() { AF_INET } else { AF_INET6 };
    // IPv6 addresses know their scope themselves.
    let scope = if net.addr().is_ipv4() {
        scope
    } else {
        SCOPE_UNIVERSE
    };
    let mut head = vec![family, net.prefix_len(), 0, scope];
    head.extend(device.to_ne_bytes());
    head
}

fn address(body: &mut Vec<u8>, net: IpNet) {
    match net.addr() {
        IpAddr::V4(v4) => {
            attribute(body, IFA_LOCAL, &v4.octets());
            attribute(body, IFA_ADDRESS, &v4.octets());
        }
        IpAddr::V6(v6) => attribute(body, IFA_ADDRESS, &v6.octets()),
    }
}

fn link_head(device: u32) -> Vec<u8> {
    let mut head = vec![0; 16];
    head[4..8].copy_from_slice(&device.to_ne_bytes());
    head
}

fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    to.extend(length.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence and port: each question has a socket of its own.
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// What is in a datagram from the kernel; what is cut short ends it.
pub(super) fn replies(mut datagram: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while let (Some(length), Some(kind)) = (u32_at(datagram, 0), u16_at(datagram, 4)) {
        let length = length as usize;
        let Some(body) = datagram.get(HEADER..length) else {
            break;
        };
        replies.push(match kind {
            NLMSG_ERROR => Reply::Error(u32_at(body, 0).map_or(0, |code| code.wrapping_neg().cast_signed())),
            NLMSG_DONE => Reply::Done,
            RTM_NEWADDR => found(body).map_or(Reply::Other, Reply::Address),
            RTM_NEWLINK => arp(body).map_or(Reply::Other, Reply::Arp),
            _ => Reply::Other,
        });
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    replies
}

fn found(body: &[u8]) -> Option<Found> {
    let (family, bits) = (*body.first()?, *body.get(1)?);
    let attributes: Vec<(u16, &[u8])> = attributes(body.get(8..)?).collect();
    let value = |kind| {
        attributes
            .iter()
            .find(|(own, _)| *own == kind)
            .map(|(_, value)| *value)
    };
    let own = value(IFA_LOCAL).or_else(|| value(IFA_ADDRESS))?;
    let address: IpAddr = match family {
        AF_INET => Ipv4Addr::from(<[u8; 4]>::try_from(own).ok()?).into(),
        AF_INET6 => Ipv6Addr::from(<[u8; 16]>::try_from(own).ok()?).into(),
        _ => return None,
    };
    Some(Found {
        net: IpNet::new(address, bits).ok()?,
        device: u32_at(body, 4)?,
        proto: value(IFA_PROTO).and_then(|value| value.first().copied()),
        valid: value(IFA_CACHEINFO)
            .and_then(|value| u32_at(value, 4))
            .unwrap_or(u32::MAX),
    })
}

fn arp(body: &[u8]) -> Option<Arp> {
    let within = |bytes, kind: u16| {
        let mut all = attributes(bytes);
        all.find(|(own, _)| *own == kind).map(|(_, value)| value)
    };
    let families = within(body.get(16..)?, IFLA_AF_SPEC)?;
    let settings = within(within(families, AF_INET.into())?, IFLA_INET_CONF)?;
    // An array from 1 on.
    let setting = |number: u16| u32_at(settings, usize::from(number - 1) * 4);
    Some(Arp {
        ignore: setting(DEVCONF_ARP_IGNORE)?,
        announce: setting(DEVCONF_ARP_ANNOUNCE)?,
    })
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & !NESTED;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_was_written() {
        for text in ["192.0.2.10/24", "2001:db8::10/64"] {
            let net: IpNet = text.parse().unwrap();
            // As the kernel would tell of it.
            let told = put(net, 7, 3, false);
            let found = Found {
                net,
                device: 7,
                proto: Some(OURS),
                valid: 3,
            };
            assert_eq!(replies(&told), [Reply::Address(found)]);
        }
    }

    #[test]
    fn what_is_cut_short_ends_it_and_nothing_is_read_beyond() {
        let mut told = put("192.0.2.10/24".parse().unwrap(), 7, 3, false);
        told.extend(message(NLMSG_DONE, 0, &[0; 4]));
        for length in 0..told.len() {
            let read = replies(&told[..length]);
            assert!(read.len() < 2, "{length}: {read:?}");
        }
        assert_eq!(replies(&told).len(), 2);
        // A message that says that it is shorter than its own header.
        assert_eq!(replies(&[4, 0, 0, 0, 20, 0, 0, 0]), []);
        assert_eq!(
            replies(&message(NLMSG_ERROR, 0, &(-17_i32).to_ne_bytes())),
            [Reply::Error(17)]
        );
    }
}
