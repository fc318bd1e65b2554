//! What version 2 says besides addresses: values behind a type and a length.
//!
//! They are kept as they came, in one piece, and go on to back ends that get version 2. Types that concern the hop to us
//! alone (checksum, padding, the name of a network namespace) end here.

use std::fmt;

use super::{Fault, MAX_V2, crc32c};

/// Types of TLVs (The PROXY protocol, section 2.2).
pub mod kind {
    /// The protocol chosen by ALPN.
    pub const ALPN: u8 = 0x01;
    /// The name that the client asked for: SNI.
    pub const AUTHORITY: u8 = 0x02;
    /// Checksum of the header.
    pub const CRC32C: u8 = 0x03;
    /// Padding.
    pub const NOOP: u8 = 0x04;
    /// An identity of the connection, opaque, up to 128 bytes.
    pub const UNIQUE_ID: u8 = 0x05;
    /// The client's TLS, in TLVs of its own.
    pub const SSL: u8 = 0x20;
    /// In [`SSL`]: the version, as `TLSv1.3`.
    pub const SSL_VERSION: u8 = 0x21;
    /// In [`SSL`]: the common name of the client's certificate.
    pub const SSL_CN: u8 = 0x22;
    /// In [`SSL`]: the cipher suite.
    pub const SSL_CIPHER: u8 = 0x23;
    /// A network namespace of the sender.
    pub const NETNS: u8 = 0x30;
}

/// Longest unique ID.
const MAX_UNIQUE_ID: usize = 128;
/// Longest authority, as in HAProxy.
const MAX_AUTHORITY: usize = 255;
/// In the first byte of [`kind::SSL`]: the client connected over TLS.
const CLIENT_SSL: u8 = 1;
/// The same: it showed a certificate on this connection.
const CERT_CONNECTION: u8 = 2;
/// The same: it showed one on this connection, or on the first of the session that it resumes.
const CERT_SESSION: u8 = 4;
/// Before each value: type, length.
const HEADER: usize = 3;
/// Types that stand once.
const SINGLE: [u8; 5] = [
    kind::ALPN,
    kind::AUTHORITY,
    kind::CRC32C,
    kind::UNIQUE_ID,
    kind::SSL,
];

/// The TLVs of a header that are kept, as they stand on the wire. Always well formed, and never more than [`MAX_V2`]
/// bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tlvs(Box<[u8]>);

/// What the TLV about the client's TLS says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ssl<'t> {
    /// Whether the client's connection to the first proxy was TLS.
    pub over_tls: bool,
    /// Whether it showed a certificate, and that was good.
    pub verified: bool,
    /// The version, as `TLSv1.3`.
    pub version: Option<&'t str>,
    /// The common name of the client's certificate.
    pub common_name: Option<&'t str>,
    /// The cipher suite.
    pub cipher: Option<&'t str>,
}

impl Tlvs {
    /// Reads those that stand in `header` from `begin` to its end.
    pub(super) fn read(header: &[u8], begin: usize) -> Result<Self, Fault> {
        let mut kept = Vec::new();
        let mut seen = [false; SINGLE.len()];
        let all = header.get(begin..).unwrap_or_default();
        for tlv in each(all) {
            let tlv = tlv?;
            let place = SINGLE.iter().position(|kind| *kind == tlv.kind);
            if let Some(seen) = place.and_then(|place| seen.get_mut(place))
                && std::mem::replace(seen, true)
            {
                return Err(Fault::Tlv);
            }
            check(tlv.kind, tlv.value)?;
            match tlv.kind {
                kind::CRC32C => {
                    let (before, rest) = header.split_at(begin + tlv.at);
                    let after = rest.get(tlv.value.len()..).unwrap_or_default();
                    let crc = crc32c::of([before, &[0; 4], after]);
                    if tlv.value != crc.to_be_bytes() {
                        return Err(Fault::Checksum);
                    }
                }
                kind::NOOP | kind::NETNS => {}
                kind => push(&mut kept, kind, tlv.value),
            }
        }
        Ok(Self(kept.into()))
    }

    /// As they stand on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first value of a type; see [`kind`].
    pub fn get(&self, kind: u8) -> Option<&[u8]> {
        find(&self.0, kind)
    }

    /// The name that the client asked for.
    pub fn authority(&self) -> Option<&str> {
        std::str::from_utf8(self.get(kind::AUTHORITY)?).ok()
    }

    /// The identity of the connection.
    pub fn unique_id(&self) -> Option<&[u8]> {
        self.get(kind::UNIQUE_ID)
    }

    /// The protocol that was chosen by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.get(kind::ALPN)
    }

    /// The client's TLS.
    pub fn ssl(&self) -> Option<Ssl<'_>> {
        let (client, verify, tlvs) = split_ssl(self.get(kind::SSL)?)?;
        let text = |kind| find(tlvs, kind).and_then(|value| std::str::from_utf8(value).ok());
        Some(Ssl {
            over_tls: client & CLIENT_SSL != 0,
            verified: client & (CERT_CONNECTION | CERT_SESSION) != 0 && verify == [0; 4],
            version: text(kind::SSL_VERSION),
            common_name: text(kind::SSL_CN),
            cipher: text(kind::SSL_CIPHER),
        })
    }

    /// Adds a value, in place of one of the same type; without an effect when the type does not allow the value, or when
    /// it doesn't fit into a header any more.
    pub fn set(&mut self, kind: u8, value: &[u8]) {
        let others = each(&self.0).flatten().filter(|tlv| tlv.kind != kind);
        let mut all = Vec::with_capacity(self.0.len() + HEADER + value.len());
        for tlv in others {
            push(&mut all, tlv.kind, tlv.value);
        }
        let forwarded = !matches!(kind, kind::CRC32C | kind::NOOP | kind::NETNS);
        if forwarded && check(kind, value).is_ok() && all.len() + HEADER + value.len() <= MAX_V2 {
            push(&mut all, kind, value);
            self.0 = all.into();
        }
    }

    /// Says that the client's TLS ended here.
    pub fn set_ssl(&mut self, ssl: Ssl<'_>) {
        let client = (u8::from(ssl.over_tls) * CLIENT_SSL) | (u8::from(ssl.verified) * CERT_SESSION);
        // Anything but zero: no certificate, or none that was good.
        let mut value = vec![client, 0, 0, 0, u8::from(!ssl.verified)];
        for (kind, text) in [
            (kind::SSL_VERSION, ssl.version),
            (kind::SSL_CN, ssl.common_name),
            (kind::SSL_CIPHER, ssl.cipher),
        ] {
            if let Some(text) = text {
                push(&mut value, kind, text.as_bytes());
            }
        }
        self.set(kind::SSL, &value);
    }
}

impl fmt::Debug for Tlvs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tlvs = each(&self.0).flatten();
        f.debug_map()
            .entries(tlvs.map(|tlv| (tlv.kind, tlv.value)))
            .finish()
    }
}

/// One of a sequence.
struct Tlv<'b> {
    kind: u8,
    value: &'b [u8],
    /// Where the value begins in the sequence.
    at: usize,
}

/// The TLVs one after another; an error, and then the end, where one leads beyond the end of the sequence.
fn each(all: &[u8]) -> impl Iterator<Item = Result<Tlv<'_>, Fault>> {
    let mut rest = all;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = all.len() - rest.len() + HEADER;
        let next = rest.split_first_chunk().and_then(|(&[kind, high, low], behind)| {
            let length = usize::from(u16::from_be_bytes([high, low]));
            let (value, behind) = behind.split_at_checked(length)?;
            rest = behind;
            Some(Tlv { kind, value, at })
        });
        if next.is_none() {
            rest = &[];
        }
        Some(next.ok_or(Fault::Tlv))
    })
}

fn find(all: &[u8], kind: u8) -> Option<&[u8]> {
    each(all)
        .flatten()
        .find(|tlv| tlv.kind == kind)
        .map(|tlv| tlv.value)
}

/// What a value must be like for its type.
fn check(kind: u8, value: &[u8]) -> Result<(), Fault> {
    let sound = match kind {
        kind::AUTHORITY => {
            let clean = std::str::from_utf8(value).is_ok_and(|text| !text.contains(char::is_control));
            clean && value.len() <= MAX_AUTHORITY
        }
        kind::UNIQUE_ID => value.len() <= MAX_UNIQUE_ID,
        kind::CRC32C => value.len() == 4,
        kind::SSL => split_ssl(value).is_some_and(|(_, _, tlvs)| each(tlvs).all(|tlv| tlv.is_ok())),
        _ => true,
    };
    if sound { Ok(()) } else { Err(Fault::Tlv) }
}

/// Flags, result of the verification (0: good), and the TLVs within.
fn split_ssl(value: &[u8]) -> Option<(u8, [u8; 4], &[u8])> {
    let (client, rest) = value.split_first()?;
    let (verify, tlvs) = rest.split_first_chunk()?;
    Some((*client, *verify, tlvs))
}

/// Writes a TLV. The caller sees to it that its length can be written: all of a header is shorter than that.
fn push(to: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let Ok(length) = u16::try_from(value.len()) else {
        return;
    };
    to.push(kind);
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(value);
}
