//! Addresses of the hosts that are asked.
//!
//! A lookup can't be cancelled once the system's resolver has it, so only a few are under way at once: a dead resolver
//! piles up nothing, and what was known goes on.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tokio::sync::Semaphore;

/// Lookups at once.
const LOOKUPS: usize = 8;
/// How long the addresses of a name are used before it is looked up again.
const TTL: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;
/// Names remembered.
const MAX_NAMES: usize = 10_000;

pub(super) type Addresses = SmallVec<[SocketAddr; 2]>;

/// The names and their addresses.
#[derive(Debug)]
pub(super) struct Names {
    lookups: Arc<Semaphore>,
    known: Mutex<HashMap<Box<str>, Known>>,
}

#[derive(Debug)]
struct Known {
    addresses: SmallVec<[IpAddr; 2]>,
    until: Instant,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            known: Mutex::default(),
        }
    }

    /// The addresses of `host`; when the resolver gives none within `limit`, those that were known before.
    pub(super) async fn addresses(&self, host: &str, port: u16, limit: Duration) -> io::Result<Addresses> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(SmallVec::from_slice(&[SocketAddr::new(ip, port)]));
        }
        if let Some(addresses) = self.known(host, port, Some(Instant::now())) {
            return Ok(addresses);
        }
        let answer = tokio::time::timeout(limit, self.ask(host, port))
            .await
            .unwrap_or_else(|_| {
                let words = format!("the resolver did not answer within {limit:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, words))
            });
        match answer {
            Ok(addresses) => {
                self.remember(host, &addresses);
                Ok(addresses)
            }
            Err(error) => self.known(host, port, None).ok_or(error),
        }
    }

    /// No connection to an address of this name could be made: the next check asks again.
    pub(super) fn forget(&self, host: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get_mut(host) {
            entry.until = Instant::now();
        }
    }

    /// What is known, and at `fresh` not too old.
    fn known(&self, host: &str, port: u16, fresh: Option<Instant>) -> Option<Addresses> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.get(host)?;
        if fresh.is_some_and(|now| entry.until <= now) {
            return None;
        }
        Some(
            entry
                .addresses
                .iter()
                .map(|ip| SocketAddr::new(*ip, port))
                .collect(),
        )
    }

    async fn ask(&self, host: &str, port: u16) -> io::Result<Addresses> {
        let place = self
            .lookups
            .clone()
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let host = host.to_owned();
        // The place is taken until the resolver is done, also when nobody waits for it any more.
        let asking = tokio::spawn(async move {
            let answer = tokio::net::lookup_host((host.as_str(), port)).await;
            drop(place);
            answer.map(|found| found.take(MAX_ADDRESSES).collect::<Addresses>())
        });
        let addresses = asking.await.map_err(io::Error::other)??;
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(addresses)
    }

    fn remember(&self, host: &str, addresses: &Addresses) {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_NAMES && !known.contains_key(host) {
            known.retain(|_, entry| entry.until > now);
        }
        if known.len() >= MAX_NAMES {
            return;
        }
        let entry = Known {
            addresses: addresses.iter().map(SocketAddr::ip).collect(),
            until: now + TTL,
        };
        known.insert(host.into(), entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn literals_need_no_resolver() {
        let names = Names::new();
        names.lookups.close();
        for host in ["127.0.0.1", "::1"] {
            let found = names.addresses(host, 80, Duration::ZERO).await.unwrap();
            assert_eq!(found[0].ip().to_string(), host);
        }
    }

    #[tokio::test]
    async fn what_was_known_goes_on_while_the_resolver_is_silent() {
        let names = Names::new();
        let _all = names.lookups.acquire_many(8).await.unwrap();
        let limit = Duration::from_millis(10);
        let error = names.addresses("app.test", 80, limit).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        names.remember(
            "app.test",
            &SmallVec::from_slice(&["10.0.0.1:1".parse().unwrap()]),
        );
        names.forget("app.test");
        let found = names.addresses("app.test", 80, limit).await.unwrap();
        assert_eq!(found.as_slice(), ["10.0.0.1:80".parse().unwrap()]);
    }

    #[tokio::test]
    async fn the_number_of_names_is_bounded() {
        let names = Names::new();
        let address = SmallVec::from_slice(&["10.0.0.1:1".parse().unwrap()]);
        for number in 0..MAX_NAMES + 10 {
            names.remember(&number.to_string(), &address);
        }
        assert_eq!(names.known.lock().unwrap().len(), MAX_NAMES);
    }
}
