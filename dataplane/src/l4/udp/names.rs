//! Addresses of back ends: literal, or looked up beside the traffic and remembered for seconds.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tokio::task::JoinSet;

/// How long the addresses of a name are used before it is looked up again.
const TTL: Duration = Duration::from_secs(5);
/// How long a name that has no address is taken to have none.
const FAILED: Duration = Duration::from_secs(1);
/// How long a look-up may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Addresses of one name that are remembered.
const ADDRESSES: usize = 8;
/// Names that are remembered.
const NAMES: usize = 10_000;

type Addresses = SmallVec<[IpAddr; 2]>;

/// What is known of a name now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Known(IpAddr),
    /// It is being looked up.
    Asked,
    /// It has none.
    None,
}

/// The names of one worker at one entry point. Dropping it ends the look-ups.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<Box<str>, Known>,
    asking: JoinSet<(Box<str>, io::Result<Addresses>)>,
}

#[derive(Debug)]
struct Known {
    addresses: Addresses,
    until: Instant,
    asked: bool,
}

impl Names {
    /// An address of a host; `turn` chooses among several. Begins a look-up where that is needed.
    pub(super) fn address(&mut self, host: &str, turn: usize, now: Instant) -> Address {
        if let Ok(literal) = host.parse() {
            return Address::Known(literal);
        }
        if self.known.len() >= NAMES && !self.known.contains_key(host) {
            self.known.retain(|_, known| known.asked || known.until > now);
        }
        let known = self.known.entry(host.into()).or_insert_with(|| Known {
            addresses: Addresses::new(),
            until: now,
            asked: false,
        });
        if known.until <= now && !known.asked {
            known.asked = true;
            self.asking.spawn(look_up(host.into()));
        }
        // While it is looked up again the old answer goes on.
        match known.addresses.len() {
            0 if known.asked => Address::Asked,
            0 => Address::None,
            count => known
                .addresses
                .get(turn % count)
                .map_or(Address::None, |ip| Address::Known(*ip)),
        }
    }

    /// Waits until a look-up has ended; for ever when none runs. Cancellation safe.
    pub(super) async fn answered(&mut self) {
        let Some(ended) = self.asking.join_next().await else {
            return std::future::pending().await;
        };
        let now = Instant::now();
        let Ok((host, answer)) = ended else { return };
        let Some(known) = self.known.get_mut(&host) else {
            return;
        };
        known.asked = false;
        match answer {
            Ok(addresses) if !addresses.is_empty() => {
                known.addresses = addresses;
                known.until = now + TTL;
            }
            Ok(_) => known.until = now + FAILED,
            Err(error) => {
                tracing::debug!(%error, %host, "a back end's name can't be looked up");
                known.until = now + FAILED;
            }
        }
    }
}

async fn look_up(host: Box<str>) -> (Box<str>, io::Result<Addresses>) {
    let asking = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((&*host, 0)));
    let answer = asking.await.unwrap_or_else(|late| Err(late.into()));
    let answer = answer.map(|found| found.map(|address| address.ip()).take(ADDRESSES).collect());
    (host, answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn literals_at_once_and_names_when_they_are_answered() {
        let mut names = Names::default();
        let now = Instant::now();
        for (literal, ip) in [
            ("192.0.2.1", [192, 0, 2, 1].into()),
            ("::1", IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16])),
        ] {
            assert_eq!(names.address(literal, 0, now), Address::Known(ip));
        }
        assert_eq!(names.address("localhost", 0, now), Address::Asked);
        assert_eq!(names.address("localhost", 0, now), Address::Asked);
        assert_eq!(names.asking.len(), 1);
        names.answered().await;
        let Address::Known(ip) = names.address("localhost", 0, Instant::now()) else {
            panic!("localhost has an address");
        };
        assert!(ip.is_loopback());
        assert_eq!(names.address("nobody.invalid", 0, now), Address::Asked);
        names.answered().await;
        assert_eq!(names.address("nobody.invalid", 0, Instant::now()), Address::None);
    }
}
