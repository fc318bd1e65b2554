//! The cluster's gossip key, and the one that replaces it.
//!
//! Rotation goes in three steps, each of which the whole cluster finishes before the next: everybody accepts the new key
//! too, everybody seals with it, everybody drops the old one. No datagram is lost on the way.

use std::fmt;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use aws_lc_rs::rand;
use data_encoding::{BASE64, HEXLOWER};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not 32 bytes in base 64. Does not repeat the text: it is a secret.
    #[error("this is no gossip key: expected 44 characters of base 64 for 32 bytes")]
    Text,
    /// The operating system gave none.
    #[error("the operating system gave no randomness, no key was made")]
    Randomness,
}

/// Names a key in the open part of a datagram; says nothing about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// 256 random bits that every member has. Overwritten when it is dropped, never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct GossipKey {
    secret: [u8; 32],
    #[zeroize(skip)]
    id: KeyId,
}

impl GossipKey {
    /// A new one.
    pub fn generate() -> Result<Self, KeyError> {
        let mut secret = Zeroizing::new([0; 32]);
        rand::fill(secret.as_mut_slice()).map_err(|_| KeyError::Randomness)?;
        Self::new(*secret)
    }

    /// From its bytes.
    pub fn new(secret: [u8; 32]) -> Result<Self, KeyError> {
        let secret = Zeroizing::new(secret);
        let mut id = [0; 4];
        Prk::new_less_safe(HKDF_SHA256, secret.as_slice())
            .expand(&[b"constellation gossip key id"], IdLength)
            .and_then(|id_of| id_of.fill(&mut id))
            .map_err(|_| KeyError::Randomness)?;
        Ok(Self {
            secret: *secret,
            id: KeyId(id),
        })
    }

    /// From base 64, as its file holds it.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(
            BASE64
                .decode(text.trim().as_bytes())
                .map_err(|_| KeyError::Text)?,
        );
        Self::new(<[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| KeyError::Text)?)
    }

    /// As base 64, for a file of mode 0600.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(&self.secret))
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What the keys of single datagrams are derived from.
    pub(crate) fn root(&self) -> Prk {
        Prk::new_less_safe(HKDF_SHA256, &self.secret)
    }
}

struct IdLength;

impl KeyType for IdLength {
    fn len(&self) -> usize {
        4
    }
}

impl PartialEq for GossipKey {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.secret, &other.secret).is_ok()
    }
}

impl Eq for GossipKey {}

impl fmt::Debug for GossipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GossipKey({}, not shown)", self.id)
    }
}

/// The key to seal with, and at most one more that is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRing {
    seals: GossipKey,
    also: Option<GossipKey>,
}

impl KeyRing {
    /// One key for everything.
    pub fn new(key: GossipKey) -> Self {
        Self {
            seals: key,
            also: None,
        }
    }

    /// Seals with `seals`, opens with both: the first two steps of a rotation, which swap them.
    pub fn rotating(seals: GossipKey, also: GossipKey) -> Self {
        Self {
            seals,
            also: Some(also),
        }
    }

    /// The key to seal with.
    pub fn seals(&self) -> &GossipKey {
        &self.seals
    }

    /// The other key that is accepted, while one replaces the other.
    pub fn also(&self) -> Option<&GossipKey> {
        self.also.as_ref()
    }

    pub(crate) fn named(&self, id: KeyId) -> impl Iterator<Item = &GossipKey> {
        std::iter::once(&self.seals)
            .chain(&self.also)
            .filter(move |key| key.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let key = GossipKey::generate().unwrap();
        assert_eq!(
            GossipKey::from_text(&format!(" {}\n", *key.to_text())).unwrap(),
            key
        );
        assert_ne!(GossipKey::generate().unwrap(), key);
        for bad in ["", "AAAA", "!", &"A".repeat(1000)] {
            assert_eq!(GossipKey::from_text(bad), Err(KeyError::Text));
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        let key = GossipKey::new([0x42; 32]).unwrap();
        let shown = format!("{:?}", KeyRing::rotating(key.clone(), key));
        assert!(!shown.contains("66, 66") && !shown.contains("4242"), "{shown}");
    }
}
