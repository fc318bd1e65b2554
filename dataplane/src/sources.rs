//! How many connections each source has open: a table in shards, so that workers rarely meet.
//!
//! A source is an IPv4 address or an IPv6 /64 network, the smallest piece that is given to one customer (RFC 6177). The
//! table holds sources with open connections only, so its size is bounded by the entry point's limit of connections.

use std::collections::hash_map::Entry;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::{AHashMap, RandomState};

/// Enough that workers rarely wait for one another.
const SHARDS: usize = 64;
/// A shard keeps room for this many sources when a crowd has left.
const SPARE: usize = 64;

/// Open connections by source.
pub(crate) struct Sources {
    most: usize,
    hasher: RandomState,
    shards: Vec<Mutex<AHashMap<Source, usize>>>,
}

/// One connection of a source; dropping it takes it off.
#[derive(Debug)]
pub(crate) struct Counted {
    sources: Arc<Sources>,
    source: Source,
}

/// The network part of an address. IPv4 addresses stand in the multicast range of IPv6, where no client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Source(u64);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(0xffff_ffff_0000_0000 | u64::from(u32::from(v4))),
            IpAddr::V6(v6) => Self(u64::try_from(u128::from(v6) >> 64).unwrap_or(u64::MAX)),
        }
    }
}

impl Sources {
    /// A table that admits `most` connections of each source.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Counts a connection; `None` when the source has as many as it may.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        let source = Source::from(address);
        let mut shard = self.shard(source)?;
        let open = shard.entry(source).or_insert(0);
        if *open >= self.most {
            return None;
        }
        *open += 1;
        Some(Counted {
            sources: self.clone(),
            source,
        })
    }

    fn shard(&self, source: Source) -> Option<MutexGuard<'_, AHashMap<Source, usize>>> {
        let hash = usize::try_from(self.hasher.hash_one(source) >> 32).unwrap_or_default();
        let shard = self.shards.get(hash % SHARDS)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some(mut shard) = self.sources.shard(self.source) else {
            return;
        };
        if let Entry::Occupied(mut open) = shard.entry(self.source) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
                if shard.capacity() > 4 * SPARE.max(shard.len()) {
                    shard.shrink_to(SPARE);
                }
            }
        }
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sources(at most {} connections each)", self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(sources: &Sources) -> (usize, usize) {
        let shards = sources.shards.iter().map(|s| s.lock().unwrap());
        shards.fold((0, 0), |(len, capacity), shard| {
            (len + shard.len(), capacity + shard.capacity())
        })
    }

    #[test]
    fn sources_are_ipv4_addresses_and_ipv6_networks() {
        let same = |a: &str, b: &str| {
            Source::from(a.parse::<IpAddr>().unwrap()) == Source::from(b.parse::<IpAddr>().unwrap())
        };
        assert!(same("192.0.2.1", "192.0.2.1"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(!same("0.0.0.1", "::1"));
    }

    #[test]
    fn each_source_has_its_own_places() {
        let sources = Arc::new(Sources::new(2));
        let a: IpAddr = "192.0.2.1".parse().unwrap();
        let first = sources.admit(a).unwrap();
        let second = sources.admit(a).unwrap();
        assert!(sources.admit(a).is_none());
        assert!(sources.admit("192.0.2.2".parse().unwrap()).is_some());
        drop(first);
        let third = sources.admit(a).unwrap();
        assert!(sources.admit(a).is_none());
        drop((second, third));
        assert_eq!(size(&sources).0, 0, "who has left is not remembered");
    }

    #[test]
    fn a_crowd_that_left_leaves_no_memory_behind() {
        let sources = Arc::new(Sources::new(1));
        let crowd: Vec<_> = (0..100_000u32)
            .map(|n| sources.admit(IpAddr::V4(n.into())).unwrap())
            .collect();
        assert_eq!(size(&sources).0, 100_000);
        drop(crowd);
        let (len, capacity) = size(&sources);
        assert_eq!(len, 0);
        assert!(capacity <= 4 * SHARDS * SPARE, "{capacity}");
    }
}
