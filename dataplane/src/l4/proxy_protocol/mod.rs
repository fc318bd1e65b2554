//! The PROXY protocol, versions 1 and 2: what a proxy in front of us says of a connection before its first byte, and what
//! we say to back ends (HAProxy, "The PROXY protocol").
//!
//! [`parse`] is shown all bytes that have arrived until it knows; [`encode`] writes. Both are exact: what differs from
//! the specification in a byte is malformed, because a receiver that guesses can be told a false address. [`Tlvs`] is
//! what version 2 says besides addresses. [`receive`](mod@receive) reads the header of a connection.
//!
//! Two things differ from Traefik. A TLV or a checksum that is wrong is refused, as the specification demands. A family
//! without addresses of ours (unspecified, Unix) leaves the connection its real addresses; Traefik closes it.

mod crc32c;
mod receive;
#[cfg(test)]
mod tests;
mod tlv;
mod v1;
mod v2;

use std::net::{IpAddr, SocketAddr};

pub(crate) use receive::{Over, receive, rule_out};
pub use tlv::{Ssl, Tlvs, kind};

/// Most bytes of a version 1 header.
pub const MAX_V1: usize = 107;
/// Most bytes behind the fixed part of a version 2 header. The addresses take 216 at most; a client's certificate in the
/// TLS TLV is the only thing that is long (RSA of 4,096 bits: about 2 KiB). Traefik takes some 4,000 bytes, nginx 4,096,
/// HAProxy what its buffer holds.
pub const MAX_V2: usize = 8 * 1024;
/// Most bytes of any header.
pub const MAX_HEADER: usize = v2::FIXED + MAX_V2;

/// What the bytes so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It may become a header: look again when more has arrived.
    More,
    /// No header; the bytes belong to the connection.
    Absent,
    /// A header and not as it should be; the connection is to be closed.
    Malformed(Fault),
    /// A whole header.
    Header {
        /// What it says.
        header: ProxyHeader,
        /// Its bytes; what follows belongs to the connection.
        len: usize,
    },
}

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Whose connection it is; `None`: the proxy's own (`LOCAL`), or of a kind that has no IP addresses.
    pub addresses: Option<Addresses>,
    /// What else version 2 says.
    pub tlvs: Tlvs,
}

/// The two ends of the client's connection to the proxy, in canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    source: SocketAddr,
    destination: SocketAddr,
}

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No end within [`MAX_V1`] bytes, or a length above [`MAX_V2`].
    #[error("the PROXY header is too long")]
    TooLong,
    /// The line of version 1 is not one of the three of the specification.
    #[error("the line of the PROXY header, version 1, is malformed")]
    Line,
    /// Another version than 2 behind the signature, an unknown command, family or transport.
    #[error("the PROXY header, version 2, is of an unknown version, command, family or transport")]
    Unknown,
    /// Fewer bytes than the addresses of its family take.
    #[error("the PROXY header, version 2, is too short for its addresses")]
    TooShort,
    /// A TLV that leads beyond the header, stands twice, or has a value that its type does not allow.
    #[error("a TLV of the PROXY header is malformed")]
    Tlv,
    /// The checksum is not that of the header.
    #[error("the checksum of the PROXY header is wrong")]
    Checksum,
}

/// A version to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Text, addresses only.
    V1,
    /// Binary, with TLVs.
    V2,
}

/// Looks at all bytes from the first of the connection on. Cut anywhere, the verdict is the same.
///
/// Costs no more than a look at the first bytes, or once at the whole header when all of it is there.
pub fn parse(bytes: &[u8]) -> Progress {
    let parsed = if v1::BEGIN.starts_with(bytes) || v2::SIGNATURE.starts_with(bytes) {
        Ok(None)
    } else if bytes.starts_with(v1::BEGIN) {
        v1::parse(bytes)
    } else if bytes.starts_with(v2::SIGNATURE) {
        v2::parse(bytes)
    } else {
        return Progress::Absent;
    };
    match parsed {
        Ok(None) => Progress::More,
        Ok(Some((header, len))) => Progress::Header { header, len },
        Err(fault) => Progress::Malformed(fault),
    }
}

/// Whether the bytes begin as a header does, so that whoever may not send one has sent one.
pub fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(v1::BEGIN) || bytes.starts_with(v2::SIGNATURE)
}

/// Writes a header. Without addresses it is `UNKNOWN` or `LOCAL`; version 1 leaves the TLVs out.
///
/// Addresses of different families are both written as IPv6, the IPv4 one mapped. TLVs that would make it longer than
/// [`MAX_V2`] are left out, all of them.
pub fn encode(version: Version, header: &ProxyHeader) -> Vec<u8> {
    match version {
        Version::V1 => v1::encode(header.addresses),
        Version::V2 => v2::encode(header),
    }
}

impl Addresses {
    /// Both in canonical form: a mapped IPv4 address as IPv4, and without what only one machine understands (scope, flow
    /// label).
    pub fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self {
            source: canonical(source),
            destination: canonical(destination),
        }
    }

    /// The client.
    pub fn source(&self) -> SocketAddr {
        self.source
    }

    /// Where the client connected to.
    pub fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// Both in IPv4 where both are of it, else in IPv6.
    fn in_one_family(self) -> (SocketAddr, SocketAddr) {
        match (self.source.is_ipv4(), self.destination.is_ipv4()) {
            (true, true) => (self.source, self.destination),
            _ => (mapped(self.source), mapped(self.destination)),
        }
    }
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}
