//! Packets, byte by byte. Checksums are left out: the guard does not look at them.

/// Put into the first two bytes of an IPv4 source, makes the kernel's test run call the packet IPv4 although there is no
/// Ethernet header: it takes the type from where that would have it. See [`v4`].
const V4_MARK: [u8; 2] = [0x08, 0x00];
/// The same for the fifth and sixth byte of an IPv6 source.
const V6_MARK: [u8; 2] = [0x86, 0xdd];

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;

/// The IPv4 source `8.0.c.d`.
pub(crate) fn source4([c, d]: [u8; 2]) -> [u8; 4] {
    [V4_MARK[0], V4_MARK[1], c, d]
}

/// The IPv6 source `2001:db8:86dd:SUBNET::HOST`.
pub(crate) fn source6(subnet: u16, host: u16) -> [u8; 16] {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    address[4..6].copy_from_slice(&V6_MARK);
    address[6..8].copy_from_slice(&subnet.to_be_bytes());
    address[14..].copy_from_slice(&host.to_be_bytes());
    address
}

/// An IPv4 packet from [`source4`], without options.
pub(crate) fn v4(from: [u8; 2], protocol: u8, payload: &[u8]) -> Vec<u8> {
    v4_with(from, protocol, 0, &[], payload)
}

/// An IPv4 packet with a fragment field and options (whole words).
pub(crate) fn v4_with(from: [u8; 2], protocol: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let words = 5 + u8::try_from(options.len() / 4).unwrap();
    let length = u16::try_from(usize::from(words) * 4 + payload.len()).unwrap();
    let mut packet = vec![0x40 | words, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source4(from));
    packet.extend([10, 0, 0, 1]);
    packet.extend(options);
    packet.extend(payload);
    packet
}

/// An IPv6 packet from [`source6`]; `next` says what the payload begins with.
pub(crate) fn v6(subnet: u16, host: u16, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(source6(subnet, host));
    packet.extend([0xfd; 16]);
    packet.extend(payload);
    packet
}

pub(crate) fn tcp(port: u16, flags: u8) -> Vec<u8> {
    let mut header = vec![0x12, 0x34];
    header.extend(port.to_be_bytes());
    header.extend([0; 8]);
    header.extend([0x50, flags]);
    header.extend([0; 6]);
    header
}

pub(crate) fn udp(source_port: u16, port: u16) -> Vec<u8> {
    let mut header = Vec::from(source_port.to_be_bytes());
    header.extend(port.to_be_bytes());
    header.extend([0, 32, 0, 0]);
    header.extend([b'x'; 24]);
    header
}

/// An extension header of `8 + 8 * words` bytes, before a payload.
pub(crate) fn extension(next: u8, words: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next, words];
    header.extend(vec![0; 6 + usize::from(words) * 8]);
    header.extend(payload);
    header
}

/// IPv6's fragment header, before a payload.
pub(crate) fn fragment(next: u8, field: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next, 0];
    header.extend(field.to_be_bytes());
    header.extend([0, 0, 0, 1]);
    header.extend(payload);
    header
}

/// An Ethernet header with VLAN tags in front of a packet.
pub(crate) fn ethernet(tags: &[u16], packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = match packet.first().map(|first| first >> 4) {
        Some(6) => [0x86, 0xdd],
        _ => [0x08, 0x00],
    };
    ethernet_of(tags, kind, packet)
}

/// The same with another type.
pub(crate) fn ethernet_of(tags: &[u16], kind: [u8; 2], packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 7]);
    }
    frame.extend(kind);
    frame.extend(packet);
    frame
}
