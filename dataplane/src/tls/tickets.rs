//! Session tickets: one set of keys for the process, and tickets bound to the TLS options they were issued under.
//!
//! A ticket replaces the client's certificate in the handshake that it resumes. Were it good under other options, a
//! client without a certificate could get a ticket from a host that asks for none and resume with a host that does.
//! So the options' fingerprint is authenticated with each ticket, and a ticket of other options just fails to open:
//! the client gets a full handshake.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;

/// How long a key encrypts, and how long it still opens tickets after that. A ticket is good for at least this long.
const PERIOD: Duration = Duration::from_secs(6 * 3600);
const KEY_NAME: usize = 16;

/// The keys. Rotated while tickets are issued; nothing is ever written anywhere.
pub(super) struct TicketKeys {
    ring: ArcSwap<Ring>,
    rotating: Mutex<()>,
}

struct Ring {
    current: TicketKey,
    previous: Option<TicketKey>,
    since: Instant,
}

#[derive(Clone)]
struct TicketKey {
    /// Tells which key opens a ticket; random, public.
    name: [u8; KEY_NAME],
    key: Arc<LessSafeKey>,
}

impl TicketKey {
    fn generate() -> Result<Self, Unspecified> {
        let (mut name, mut secret) = ([0; KEY_NAME], [0; 32]);
        rand::fill(&mut name)?;
        rand::fill(&mut secret)?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &secret)?);
        Ok(Self {
            name,
            key: Arc::new(key),
        })
    }

    fn associated(&self, binding: &[u8; 32]) -> Aad<[u8; KEY_NAME + 32]> {
        let mut data = [0; KEY_NAME + 32];
        let (name, rest) = data.split_at_mut(KEY_NAME);
        name.copy_from_slice(&self.name);
        rest.copy_from_slice(binding);
        Aad::from(data)
    }
}

impl TicketKeys {
    pub(super) fn generate(now: Instant) -> Result<Self, Unspecified> {
        let ring = Ring {
            current: TicketKey::generate()?,
            previous: None,
            since: now,
        };
        Ok(Self {
            ring: ArcSwap::from_pointee(ring),
            rotating: Mutex::new(()),
        })
    }

    /// Makes a new current key when the period is over. After two idle periods the old key opens nothing any more.
    fn rotate(&self, now: Instant) -> Result<(), Unspecified> {
        if now.saturating_duration_since(self.ring.load().since) < PERIOD {
            return Ok(());
        }
        let _one_at_a_time = self.rotating.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = self.ring.load();
        let age = now.saturating_duration_since(ring.since);
        if age < PERIOD {
            return Ok(());
        }
        let previous = (age < 2 * PERIOD).then(|| ring.current.clone());
        self.ring.store(Arc::new(Ring {
            current: TicketKey::generate()?,
            previous,
            since: now,
        }));
        Ok(())
    }

    /// `name | nonce | ciphertext and tag`. The nonce is random; GCM-SIV survives a repetition.
    fn seal(&self, binding: &[u8; 32], plain: &[u8], now: Instant) -> Result<Vec<u8>, Unspecified> {
        self.rotate(now)?;
        let ring = self.ring.load();
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce)?;
        let mut sealed = plain.to_vec();
        let current = &ring.current;
        let unique = Nonce::assume_unique_for_key(nonce);
        current
            .key
            .seal_in_place_append_tag(unique, current.associated(binding), &mut sealed)?;
        Ok([&current.name[..], &nonce, &sealed].concat())
    }

    fn open(&self, binding: &[u8; 32], ticket: &[u8], now: Instant) -> Option<Vec<u8>> {
        self.rotate(now).ok()?;
        let ring = self.ring.load();
        let (name, rest) = ticket.split_at_checked(KEY_NAME)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let key = [Some(&ring.current), ring.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut buffer = sealed.to_vec();
        let plain = key
            .key
            .open_in_place(nonce, key.associated(binding), &mut buffer)
            .ok()?;
        Some(plain.to_vec())
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys")
    }
}

/// The keys as one set of TLS options uses them.
#[derive(Debug)]
pub(super) struct BoundTickets {
    keys: Arc<TicketKeys>,
    binding: [u8; 32],
}

impl BoundTickets {
    /// `binding` is the fingerprint of the options.
    pub(super) fn new(keys: Arc<TicketKeys>, binding: [u8; 32]) -> Self {
        Self { keys, binding }
    }
}

impl ProducesTickets for BoundTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(PERIOD.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.seal(&self.binding, plain, Instant::now()).ok()
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.keys.open(&self.binding, cipher, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: [u8; 32] = [1; 32];
    const B: [u8; 32] = [2; 32];

    #[test]
    fn a_ticket_opens_only_under_the_options_it_was_issued_under() {
        let now = Instant::now();
        let keys = TicketKeys::generate(now).unwrap();
        let ticket = keys.seal(&A, b"session", now).unwrap();
        assert_eq!(keys.open(&A, &ticket, now).as_deref(), Some(&b"session"[..]));
        assert_eq!(keys.open(&B, &ticket, now), None);
    }

    #[test]
    fn keys_rotate_and_old_ones_stop_working() {
        let start = Instant::now();
        let keys = TicketKeys::generate(start).unwrap();
        let ticket = keys.seal(&A, b"session", start).unwrap();
        let second = Duration::from_secs(1);
        let name = |ticket: &[u8]| ticket.get(..KEY_NAME).map(<[u8]>::to_vec);
        let early = keys.seal(&A, b"x", start + PERIOD - second).unwrap();
        assert_eq!(name(&early), name(&ticket));
        let late = keys.seal(&A, b"x", start + PERIOD).unwrap();
        assert_ne!(name(&late), name(&ticket));
        assert!(keys.open(&A, &ticket, start + 2 * PERIOD - second).is_some());
        assert_eq!(keys.open(&A, &ticket, start + 2 * PERIOD), None);
    }

    #[test]
    fn an_idle_period_retires_a_key_without_a_grace() {
        let start = Instant::now();
        let keys = TicketKeys::generate(start).unwrap();
        let ticket = keys.seal(&A, b"session", start).unwrap();
        assert_eq!(keys.open(&A, &ticket, start + 3 * PERIOD), None);
    }

    proptest! {
        #[test]
        fn anything_may_be_presented_as_a_ticket(bytes in proptest::collection::vec(any::<u8>(), 0..200), flip in any::<(usize, u8)>()) {
            let now = Instant::now();
            let keys = TicketKeys::generate(now).unwrap();
            prop_assert_eq!(keys.open(&A, &bytes, now), None);
            let mut ticket = keys.seal(&A, &bytes, now).unwrap();
            prop_assert_eq!(keys.open(&A, &ticket, now), Some(bytes));
            let at = flip.0 % ticket.len();
            ticket[at] ^= flip.1 | 1;
            prop_assert_eq!(keys.open(&A, &ticket, now), None);
        }
    }
}
