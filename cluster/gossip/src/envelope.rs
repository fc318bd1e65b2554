//! One datagram: a part of a message, sealed under the cluster's key.
//!
//! ```text
//! open    magic 2 | format 1 | key id 4 | salt 24
//! sealed  generation 8 | sequence 8 | index 1 | count 1 | name 1 + n | address 7 or 19 | part of the message
//! tag 16
//! ```
//!
//! Numbers are little-endian. The salt is random for every datagram; HKDF-SHA256 makes a key from it and the cluster's,
//! which seals this one datagram by ChaCha20-Poly1305 with nonce zero. So a nonce repeats only if 192 random bits do:
//! after 2^80 datagrams with probability 2^-33, so that no node has to count what it sent under a key, not even across
//! restarts. The open part and the cluster's id are authenticated along.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;
use constellation_identity::{ClusterId, NodeName};
use thiserror::Error;

use crate::counters::Refused;
use crate::key::{GossipKey, KeyId, KeyRing};

/// The most bytes of a datagram: fits an IPv6 packet of the least MTU (1280, also Tailscale's) with room for options.
pub const DATAGRAM_LIMIT: usize = 1200;

/// The most datagrams for one message: chitchat's own limit is 65 507 bytes, and each datagram carries 1050 or more.
pub const PARTS_LIMIT: u8 = 64;

const MAGIC: [u8; 2] = [0xc5, 0x9e];
const FORMAT: u8 = 1;
const SALT: usize = 24;
const OPEN: usize = MAGIC.len() + 1 + 4 + SALT;
const TAG: usize = 16;
const INFO: &[u8] = b"constellation gossip datagram 1";

/// Who sends, as the sealed part says: true, as only members have the key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sender {
    /// Its name.
    pub name: NodeName,
    /// Which of its lives.
    pub generation: u64,
    /// Where it wants answers.
    pub address: SocketAddr,
}

/// A part of a message and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// By whom.
    pub sender: Sender,
    /// Counts the sender's datagrams.
    pub sequence: u64,
    /// Which part, from 0.
    pub index: u8,
    /// Of how many, 1 to [`PARTS_LIMIT`].
    pub count: u8,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// Why nothing was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// The operating system gave none.
    #[error("no randomness for a datagram's salt")]
    Randomness,
    /// The library refused.
    #[error("sealing failed")]
    Cipher,
}

/// How many bytes of a message fit into one datagram of this sender.
pub fn room(sender: &Sender) -> usize {
    let address = if sender.address.is_ipv4() { 7 } else { 19 };
    DATAGRAM_LIMIT - OPEN - TAG - (8 + 8 + 1 + 1 + 1 + sender.name.as_str().len() + address)
}

/// Seals one part.
pub fn seal(key: &GossipKey, cluster: ClusterId, part: &Part) -> Result<Vec<u8>, SealError> {
    let mut datagram = Vec::with_capacity(DATAGRAM_LIMIT);
    datagram.extend_from_slice(&MAGIC);
    datagram.push(FORMAT);
    datagram.extend_from_slice(&key.id().0);
    let mut salt = [0; SALT];
    rand::fill(&mut salt).map_err(|_| SealError::Randomness)?;
    datagram.extend_from_slice(&salt);

    let mut sealed = Vec::with_capacity(DATAGRAM_LIMIT);
    sealed.extend_from_slice(&part.sender.generation.to_le_bytes());
    sealed.extend_from_slice(&part.sequence.to_le_bytes());
    sealed.extend_from_slice(&[part.index, part.count]);
    let name = part.sender.name.as_str();
    sealed.push(u8::try_from(name.len()).map_err(|_| SealError::Cipher)?);
    sealed.extend_from_slice(name.as_bytes());
    match part.sender.address.ip() {
        IpAddr::V4(ip) => {
            sealed.push(4);
            sealed.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            sealed.push(6);
            sealed.extend_from_slice(&ip.octets());
        }
    }
    sealed.extend_from_slice(&part.sender.address.port().to_le_bytes());
    sealed.extend_from_slice(&part.body);

    let cipher = cipher(key, &salt).ok_or(SealError::Cipher)?;
    let aad = aad(&datagram, cluster);
    cipher
        .seal_in_place_append_tag(nonce(), Aad::from(aad), &mut sealed)
        .map_err(|_| SealError::Cipher)?;
    datagram.extend_from_slice(&sealed);
    Ok(datagram)
}

/// Opens a datagram. Nothing of it is looked at, but the open part, before it is known to be by a member.
pub fn open(keys: &KeyRing, cluster: ClusterId, datagram: &[u8]) -> Result<Part, Refused> {
    if datagram.len() > DATAGRAM_LIMIT {
        return Err(Refused::Size);
    }
    let Some((head, sealed)) = datagram.split_first_chunk::<OPEN>() else {
        return Err(Refused::Foreign);
    };
    if head[..2] != MAGIC {
        return Err(Refused::Foreign);
    }
    if head[2] != FORMAT {
        return Err(Refused::Format);
    }
    let id = KeyId([head[3], head[4], head[5], head[6]]);
    let mut known = false;
    for key in keys.named(id) {
        known = true;
        let mut sealed = sealed.to_vec();
        let cipher = cipher(key, &head[7..]).ok_or(Refused::Forged)?;
        if let Ok(plain) = cipher.open_in_place(nonce(), Aad::from(aad(head, cluster)), &mut sealed) {
            return parse(plain).ok_or(Refused::Malformed);
        }
    }
    Err(if known { Refused::Forged } else { Refused::Key })
}

fn cipher(key: &GossipKey, salt: &[u8]) -> Option<LessSafeKey> {
    let root = key.root();
    let info = [INFO, salt];
    let derived = root.expand(&info, &CHACHA20_POLY1305).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(derived)))
}

/// Each key seals once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn aad(head: &[u8], cluster: ClusterId) -> Vec<u8> {
    [head, cluster.as_bytes()].concat()
}

/// Reads the sealed part once it is opened. Members can be trusted, but not to be free of faults, or of this release.
pub fn parse(plain: &[u8]) -> Option<Part> {
    let (generation, rest) = plain.split_first_chunk::<8>()?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let ([index, count, length], rest) = rest.split_first_chunk::<3>()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let name: NodeName = std::str::from_utf8(name).ok()?.parse().ok()?;
    let (family, rest) = rest.split_first()?;
    let (ip, rest): (IpAddr, &[u8]) = match family {
        4 => rest
            .split_first_chunk::<4>()
            .map(|(ip, rest)| (Ipv4Addr::from(*ip).into(), rest))?,
        6 => rest
            .split_first_chunk::<16>()
            .map(|(ip, rest)| (Ipv6Addr::from(*ip).into(), rest))?,
        _ => return None,
    };
    let (port, body) = rest.split_first_chunk::<2>()?;
    let port = u16::from_le_bytes(*port);
    let part = Part {
        sender: Sender {
            name,
            generation: u64::from_le_bytes(*generation),
            address: SocketAddr::new(ip, port),
        },
        sequence: u64::from_le_bytes(*sequence),
        index: *index,
        count: *count,
        body: body.to_vec(),
    };
    let sound = part.index < part.count
        && part.count <= PARTS_LIMIT
        && part.sequence >= u64::from(part.index)
        && port != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && !part.body.is_empty();
    sound.then_some(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(body: Vec<u8>) -> Part {
        let sender = Sender {
            name: "node-1".parse().unwrap(),
            generation: 7,
            address: "[fd00::1]:7946".parse().unwrap(),
        };
        Part {
            sender,
            sequence: 9,
            index: 2,
            count: 5,
            body,
        }
    }

    fn cluster() -> ClusterId {
        ClusterId::from_bytes([1; 16])
    }

    #[test]
    fn what_is_sealed_is_opened() {
        let key = GossipKey::generate().unwrap();
        let full = room(&part(vec![]).sender);
        assert!(full >= 1050, "{full}");
        let part = part(vec![0xab; full]);
        let datagram = seal(&key, cluster(), &part).unwrap();
        assert_eq!(datagram.len(), DATAGRAM_LIMIT);
        assert_eq!(
            open(&KeyRing::new(key.clone()), cluster(), &datagram),
            Ok(part.clone())
        );
        let again = seal(&key, cluster(), &part).unwrap();
        assert_ne!(datagram[OPEN..], again[OPEN..], "another salt, another key");
        let shows = |needle: &[u8]| datagram.windows(needle.len()).any(|window| window == needle);
        assert!(!shows(b"node-1") && !shows(cluster().as_bytes()) && !shows(&[0xab; 4]));
    }

    #[test]
    fn every_reason_has_its_name() {
        let key = GossipKey::generate().unwrap();
        let ring = KeyRing::new(key.clone());
        let datagram = seal(&key, cluster(), &part(vec![1])).unwrap();
        let other = KeyRing::new(GossipKey::generate().unwrap());
        let changed = |at: usize| {
            let mut datagram = datagram.clone();
            datagram[at] ^= 1;
            open(&ring, cluster(), &datagram)
        };
        assert_eq!(open(&other, cluster(), &datagram), Err(Refused::Key));
        assert_eq!(
            open(&ring, ClusterId::from_bytes([2; 16]), &datagram),
            Err(Refused::Forged)
        );
        assert_eq!(
            open(&ring, cluster(), b"GET / HTTP/1.1\r\n\r\n"),
            Err(Refused::Foreign)
        );
        assert_eq!(open(&ring, cluster(), &[0; 2000]), Err(Refused::Size));
        assert_eq!(open(&ring, cluster(), &datagram[..OPEN]), Err(Refused::Forged));
        for at in 0..datagram.len() {
            let expected = match at {
                0 | 1 => Refused::Foreign,
                2 => Refused::Format,
                3..7 => Refused::Key,
                _ => Refused::Forged,
            };
            assert_eq!(changed(at), Err(expected), "{at}");
        }
    }

    #[test]
    fn what_a_member_may_not_say() {
        let key = GossipKey::generate().unwrap();
        let ring = KeyRing::new(key.clone());
        let with = |change: &dyn Fn(&mut Part)| {
            let mut part = part(vec![1]);
            change(&mut part);
            open(&ring, cluster(), &seal(&key, cluster(), &part).unwrap())
        };
        assert!(with(&|_| ()).is_ok());
        let bad: [&dyn Fn(&mut Part); 7] = [
            &|part| part.index = part.count,
            &|part| part.count = 0,
            &|part| part.count = PARTS_LIMIT + 1,
            &|part| part.sequence = 1,
            &|part| part.body.clear(),
            &|part| part.sender.address = "0.0.0.0:1".parse().unwrap(),
            &|part| part.sender.address = "10.0.0.1:0".parse().unwrap(),
        ];
        for (at, change) in bad.iter().enumerate() {
            assert_eq!(with(change), Err(Refused::Malformed), "{at}");
        }
    }

    #[test]
    fn either_key_opens_while_they_rotate() {
        let (old, new) = (GossipKey::generate().unwrap(), GossipKey::generate().unwrap());
        let steps = [
            KeyRing::new(old.clone()),
            KeyRing::rotating(old.clone(), new.clone()),
            KeyRing::rotating(new.clone(), old),
            KeyRing::new(new),
        ];
        for (i, from) in steps.iter().enumerate() {
            for (j, to) in steps.iter().enumerate() {
                let datagram = seal(from.seals(), cluster(), &part(vec![1])).unwrap();
                // The old key seals in the first two steps, and is dropped in the last; the new one is added in the second.
                let expected = if i < 2 { j < 3 } else { j > 0 };
                assert_eq!(open(to, cluster(), &datagram).is_ok(), expected, "{i} to {j}");
            }
        }
    }

    proptest! {
        #[test]
        fn sealed_parts_of_any_shape_are_read_or_refused(plain in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(part) = parse(&plain) {
                prop_assert!(part.index < part.count && !part.body.is_empty());
            }
        }
    }
}
