//! Version 2: a signature, four bytes, addresses, TLVs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, Fault, MAX_V2, ProxyHeader, Tlvs};

/// How a header begins; no text protocol does.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
pub(super) const FIXED: usize = 16;

/// Version 2 with the command `LOCAL`, or `PROXY`.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
/// Families in the high half of a byte; the low half is the transport.
const UNSPECIFIED: u8 = 0;
const INET: u8 = 1;
const INET6: u8 = 2;
const UNIX: u8 = 3;
/// What we write.
const STREAM: u8 = 1;
/// The highest transport: 0 unspecified, 1 stream, 2 datagram.
const DATAGRAM: u8 = 2;
/// Bytes of two Unix socket addresses.
const UNIX_ADDRESSES: usize = 216;

/// `None`: its end has not arrived.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, Fault> {
    let Some(&[command, family, high, low]) = bytes.get(SIGNATURE.len()..FIXED) else {
        return Ok(None);
    };
    if command != LOCAL && command != PROXY {
        return Err(Fault::Unknown);
    }
    let (family, transport) = (family >> 4, family & 0xf);
    // `LOCAL` says nothing of families; what it carries is to be skipped.
    if command == PROXY && (family > UNIX || transport > DATAGRAM) {
        return Err(Fault::Unknown);
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_V2 {
        return Err(Fault::TooLong);
    }
    let len = FIXED + length;
    let Some(header) = bytes.get(..len) else {
        return Ok(None);
    };
    // An unspecified family has no defined place for TLVs.
    if command == LOCAL || family == UNSPECIFIED {
        return Ok(Some((ProxyHeader::default(), len)));
    }
    let mut rest = header.get(FIXED..).unwrap_or_default();
    let addresses = match family {
        INET => Some(two::<4, Ipv4Addr>(&mut rest)?),
        INET6 => Some(two::<16, Ipv6Addr>(&mut rest)?),
        _ => {
            rest = rest.get(UNIX_ADDRESSES..).ok_or(Fault::TooShort)?;
            None
        }
    };
    let tlvs = Tlvs::read(header, len - rest.len())?;
    Ok(Some((ProxyHeader { addresses, tlvs }, len)))
}

/// Takes two addresses of so many bytes, and then their ports.
fn two<const LEN: usize, Ip>(rest: &mut &[u8]) -> Result<Addresses, Fault>
where
    Ip: From<[u8; LEN]> + Into<IpAddr>,
{
    let source = Ip::from(take(rest)?).into();
    let destination = Ip::from(take(rest)?).into();
    let source = SocketAddr::new(source, u16::from_be_bytes(take(rest)?));
    let destination = SocketAddr::new(destination, u16::from_be_bytes(take(rest)?));
    Ok(Addresses::new(source, destination))
}

fn take<const LEN: usize>(rest: &mut &[u8]) -> Result<[u8; LEN], Fault> {
    let (taken, after) = rest.split_first_chunk().ok_or(Fault::TooShort)?;
    *rest = after;
    Ok(*taken)
}

pub(super) fn encode(header: &ProxyHeader) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FIXED + 36 + header.tlvs.as_bytes().len());
    bytes.extend_from_slice(SIGNATURE);
    let Some(addresses) = &header.addresses else {
        bytes.extend_from_slice(&[LOCAL, UNSPECIFIED, 0, 0]);
        return bytes;
    };
    let (source, destination) = addresses.in_one_family();
    let (family, addresses) = if source.is_ipv4() { (INET, 12) } else { (INET6, 36) };
    let tlvs = header.tlvs.as_bytes();
    let tlvs = if addresses + tlvs.len() > MAX_V2 {
        &[]
    } else {
        tlvs
    };
    let length = u16::try_from(addresses + tlvs.len()).unwrap_or_default();
    bytes.extend_from_slice(&[PROXY, family << 4 | STREAM]);
    bytes.extend_from_slice(&length.to_be_bytes());
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(v4) => bytes.extend_from_slice(&v4.octets()),
            IpAddr::V6(v6) => bytes.extend_from_slice(&v6.octets()),
        }
    }
    for address in [source, destination] {
        bytes.extend_from_slice(&address.port().to_be_bytes());
    }
    bytes.extend_from_slice(tlvs);
    bytes
}
