//! IPv4 packets by hand, with right checksums: from addresses that nobody has, at the rate that a test wants.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::{Domain, Protocol, Socket, Type};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// The first packet of a TCP connection.
pub fn syn(from: SocketAddrV4, to: SocketAddrV4, sequence: u32) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20);
    segment.extend_from_slice(&from.port().to_be_bytes());
    segment.extend_from_slice(&to.port().to_be_bytes());
    segment.extend_from_slice(&sequence.to_be_bytes());
    // No acknowledgement; five words, SYN, a window, no checksum yet, nothing urgent.
    segment.extend_from_slice(&[0, 0, 0, 0, 5 << 4, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = checksum(&[&pseudo_header(from, to, TCP, &segment), &segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    packet(*from.ip(), *to.ip(), TCP, &segment)
}

/// A datagram.
pub fn datagram(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut segment = Vec::with_capacity(8 + payload.len());
    segment.extend_from_slice(&from.port().to_be_bytes());
    segment.extend_from_slice(&to.port().to_be_bytes());
    segment.extend_from_slice(&length.to_be_bytes());
    segment.extend_from_slice(&[0, 0]);
    segment.extend_from_slice(payload);
    let sum = match checksum(&[&pseudo_header(from, to, UDP, &segment), &segment]) {
        // Zero would say that there is none (RFC 768).
        0 => 0xffff,
        sum => sum,
    };
    segment[6..8].copy_from_slice(&sum.to_be_bytes());
    packet(*from.ip(), *to.ip(), UDP, &segment)
}

fn packet(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, segment: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + segment.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    let sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(segment);
    packet
}

fn pseudo_header(from: SocketAddrV4, to: SocketAddrV4, protocol: u8, segment: &[u8]) -> [u8; 12] {
    let mut header = [0; 12];
    header[..4].copy_from_slice(&from.ip().octets());
    header[4..8].copy_from_slice(&to.ip().octets());
    header[9] = protocol;
    header[10..].copy_from_slice(&u16::try_from(segment.len()).unwrap().to_be_bytes());
    header
}

/// RFC 1071, over pieces of which only the last may be odd.
fn checksum(pieces: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for piece in pieces {
        for pair in piece.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// Sends whole packets from this thread's network namespace.
#[derive(Debug)]
pub struct Sender(Socket);

impl Sender {
    /// Opens the socket, which takes `CAP_NET_RAW`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open() -> io::Result<Self> {
        // IPPROTO_RAW: the header is ours.
        Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).map(Self)
    }

    /// Sends one; waits while the device's queue is full.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn send(&self, packet: &[u8], to: Ipv4Addr) -> io::Result<()> {
        let to = SocketAddr::from((to, 0)).into();
        loop {
            match self.0.send_to(packet, &to) {
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => std::thread::yield_now(),
                other => return other.map(drop),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_rfc_and_verify() {
        // RFC 1071 section 3.
        assert_eq!(
            checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]),
            !0xddf2
        );
        let (from, to) = ("192.0.2.1:1000".parse().unwrap(), "192.0.2.2:80".parse().unwrap());
        for packet in [syn(from, to, 7), datagram(from, to, b"odd")] {
            let (header, segment) = packet.split_at(20);
            assert_eq!(checksum(&[header]), 0, "over itself a checksum is nothing");
            let pseudo = pseudo_header(from, to, header[9], segment);
            assert_eq!(checksum(&[&pseudo, segment]), 0);
        }
    }
}
