//! From the start of a packet to its transport header. Nothing here judges.

use constellation_ebpf_abi::guard::{MAX_EXTENSIONS, MAX_HEADERS, MAX_VLAN_TAGS};

use crate::packet::Packet;

pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const PROVIDER_VLAN: u16 = 0x88a8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;

/// Why there is no header to look at.
#[derive(Clone, Copy)]
pub enum Obstacle {
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// It ends before it should.
    Malformed,
    /// A later fragment, which has none.
    Fragment,
    /// It comes behind more than anybody needs.
    Overlong,
}

/// Where a packet comes from.
#[derive(Clone, Copy)]
pub struct Source {
    /// IPv4 as `::ffff:a.b.c.d`.
    pub address: [u8; 16],
    pub is_v6: bool,
}

/// What a packet carries, and where.
pub struct Transport {
    pub protocol: u8,
    pub offset: usize,
    pub is_first_fragment: bool,
}

/// The kind of network header behind the Ethernet header and its VLAN tags, and where it begins.
#[inline(always)]
pub fn network_header(packet: &Packet) -> Option<(u16, usize)> {
    let mut kind = u16::from_be_bytes(packet.read(12)?);
    let mut offset = 14;
    for _ in 0..MAX_VLAN_TAGS {
        if kind != VLAN && kind != PROVIDER_VLAN {
            break;
        }
        kind = u16::from_be_bytes(packet.read(offset + 2)?);
        offset += 4;
    }
    Some((kind, offset))
}

/// The source, if the packet is IP and has one.
#[inline(always)]
pub fn source(packet: &Packet, kind: u16, offset: usize) -> Result<Source, Obstacle> {
    // Two bytes, for one: a check whether a single byte at the very start lies before the end proves nothing to the
    // verifier.
    let [first, _] = match kind {
        IPV4 | IPV6 => packet.read(offset).ok_or(Obstacle::Malformed)?,
        _ => return Err(Obstacle::NotIp),
    };
    match (kind, first >> 4) {
        (IPV4, 4) => {
            let address = packet.read(offset + 12).ok_or(Obstacle::Malformed)?;
            Ok(Source {
                address: mapped(address),
                is_v6: false,
            })
        }
        (IPV6, 6) => {
            let address = packet.read(offset + 8).ok_or(Obstacle::Malformed)?;
            Ok(Source { address, is_v6: true })
        }
        _ => Err(Obstacle::Malformed),
    }
}

/// An IPv4 address as an IPv6 one.
#[inline(always)]
pub const fn mapped([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// The destination of a packet that has a [`source`].
#[inline(always)]
pub fn destination(packet: &Packet, is_v6: bool, offset: usize) -> Option<[u8; 16]> {
    if is_v6 {
        packet.read(offset + 24)
    } else {
        Some(mapped(packet.read(offset + 16)?))
    }
}

/// The transport header, or why there is none to look at.
#[inline(always)]
pub fn transport(packet: &Packet, is_v6: bool, offset: usize) -> Result<Transport, Obstacle> {
    if is_v6 {
        transport_v6(packet, offset)
    } else {
        transport_v4(packet, offset)
    }
}

#[inline(always)]
fn transport_v4(packet: &Packet, offset: usize) -> Result<Transport, Obstacle> {
    let header: [u8; 10] = packet.read(offset).ok_or(Obstacle::Malformed)?;
    let words = usize::from(header[0] & 0x0f);
    if words < 5 {
        return Err(Obstacle::Malformed);
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    if fragment & 0x1fff != 0 {
        return Err(Obstacle::Fragment);
    }
    Ok(Transport {
        protocol: header[9],
        offset: offset + words * 4,
        is_first_fragment: fragment & 0x2000 != 0,
    })
}

#[inline(always)]
fn transport_v6(packet: &Packet, offset: usize) -> Result<Transport, Obstacle> {
    let [mut protocol] = packet.read(offset + 6).ok_or(Obstacle::Malformed)?;
    let mut offset = offset + 40;
    let mut is_first_fragment = false;
    for _ in 0..MAX_EXTENSIONS {
        let length = match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY => {
                let [next, words]: [u8; 2] = extension(packet, offset)?;
                protocol = next;
                8 + usize::from(words) * 8
            }
            AUTHENTICATION => {
                let [next, words]: [u8; 2] = extension(packet, offset)?;
                protocol = next;
                8 + usize::from(words) * 4
            }
            FRAGMENT => {
                let [next, _, high, low]: [u8; 4] = extension(packet, offset)?;
                protocol = next;
                let fragment = u16::from_be_bytes([high, low]);
                if fragment & 0xfff8 != 0 {
                    return Err(Obstacle::Fragment);
                }
                is_first_fragment |= fragment & 1 != 0;
                8
            }
            _ => {
                return Ok(Transport {
                    protocol,
                    offset,
                    is_first_fragment,
                });
            }
        };
        offset += length;
        if offset > MAX_HEADERS {
            return Err(Obstacle::Overlong);
        }
    }
    Err(Obstacle::Overlong)
}

#[inline(always)]
fn extension<const N: usize>(packet: &Packet, offset: usize) -> Result<[u8; N], Obstacle> {
    packet.read(offset).ok_or(Obstacle::Malformed)
}
