//! The deny list and the allow list.

use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, MapData, MapError};
use constellation_ebpf_abi::guard::{Config, Deny, LISTS4, LISTS6, MAX_ALLOW, MAX_DENY};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::libc;

use super::Guard;
use super::denials::errno;
use crate::layout::Shared;
use crate::{BootTime, Error};

/// Why a prefix is denied, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// As the daemon numbers its reasons; events carry it.
    pub reason: u32,
    /// Nothing for a ban without an end.
    pub until: Option<BootTime>,
}

impl Guard {
    /// Drops everything that comes from a prefix, to whatever port, except from what [`Self::allow`] names. A source that
    /// several bans fit is denied as long as one of them is in force; of those of unusual lengths (neither /16, /24 or /32
    /// nor /48, /64 or /128), the longest hides the others until it is swept. Denying again replaces the ban.
    ///
    /// # Errors
    /// [`Error::ListFull`].
    pub fn deny(&mut self, net: IpNet, ban: Ban) -> Result<(), Error> {
        let deny = Deny {
            until: ban.until.map_or(0, BootTime::as_nanos),
            reason: ban.reason,
            ..Deny::default()
        };
        let bits = u32::from(net.prefix_len());
        let inserted = match net.trunc() {
            IpNet::V4(v4) => self.deny4.insert(v4.addr().octets(), bits, deny),
            IpNet::V6(v6) => self.deny6.insert(v6.addr().octets(), bits, deny),
        };
        inserted.map_err(|error| full(error, net, MAX_DENY))?;
        self.announce_lists()
    }

    /// Lifts a ban. Says whether there was one.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn remove_deny(&mut self, net: IpNet) -> Result<bool, Error> {
        let bits = u32::from(net.prefix_len());
        let removed = match net.trunc() {
            IpNet::V4(v4) => self.deny4.remove(v4.addr().octets(), bits),
            IpNet::V6(v6) => self.deny6.remove(v6.addr().octets(), bits),
        }?;
        if removed {
            self.announce_lists()?;
        }
        Ok(removed)
    }

    /// Lets a prefix in whatever else is said about it: no ban and no limit applies to it.
    ///
    /// # Errors
    /// [`Error::ListFull`].
    pub fn allow(&mut self, net: IpNet) -> Result<(), Error> {
        match net.trunc() {
            IpNet::V4(v4) => insert(&mut self.allow4, &key4(v4), net, MAX_ALLOW),
            IpNet::V6(v6) => insert(&mut self.allow6, &key6(v6), net, MAX_ALLOW),
        }
    }

    /// Takes a prefix off the allow list. Says whether it was on it.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn remove_allow(&mut self, net: IpNet) -> Result<bool, Error> {
        match net.trunc() {
            IpNet::V4(v4) => remove(&mut self.allow4, &key4(v4)),
            IpNet::V6(v6) => remove(&mut self.allow6, &key6(v6)),
        }
    }

    /// Tells the programs which lists have entries, so that they look into those only. After an entry is in, and after it is
    /// out.
    pub(super) fn announce_lists(&mut self) -> Result<(), Error> {
        let lists = self.deny4.lists() << LISTS4 | self.deny6.lists() << LISTS6;
        if lists == self.lists {
            return Ok(());
        }
        let failed = |error| Error::kernel("setting which of the guard's lists have entries", &error);
        let Shared(config) = self.config.get(&0, 0).map_err(failed)?;
        let config = Config { lists, ..config };
        self.config.set(0, Shared(config), 0).map_err(failed)?;
        self.lists = lists;
        Ok(())
    }

    /// The deny list, in order; with bans that are over and not swept yet.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn denied(&self) -> Result<Vec<(IpNet, Ban)>, Error> {
        let ban = |deny: Deny| Ban {
            reason: deny.reason,
            until: (deny.until != 0).then(|| BootTime::from_nanos(deny.until)),
        };
        let v4 = self.deny4.entries().map(|entry| {
            let (address, length, deny) = entry?;
            let net = Ipv4Net::new_assert(address.into(), bits(length, 32));
            Ok((net.into(), ban(deny)))
        });
        let v6 = self.deny6.entries().map(|entry| {
            let (address, length, deny) = entry?;
            let net = Ipv6Net::new_assert(address.into(), bits(length, 128));
            Ok((net.into(), ban(deny)))
        });
        let mut list = v4.chain(v6).collect::<Result<Vec<(IpNet, Ban)>, Error>>()?;
        list.sort_by_key(|(net, _)| *net);
        Ok(list)
    }

    /// The allow list, in order.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn allowed(&self) -> Result<Vec<IpNet>, Error> {
        let v4 = self.allow4.keys().map(|key| key.map(|key| net4(&key)));
        let v6 = self.allow6.keys().map(|key| key.map(|key| net6(&key)));
        let mut list = v4.chain(v6).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        list.sort();
        Ok(list)
    }

    /// Removes bans that are over at `now`, which no longer do anything but take up room. Says how many.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn sweep(&mut self, now: BootTime) -> Result<usize, Error> {
        let mut swept = 0;
        for (net, ban) in self.denied()? {
            if ban.until.is_some_and(|until| until <= now) && self.remove_deny(net)? {
                swept += 1;
            }
        }
        Ok(swept)
    }
}

fn key4(net: Ipv4Net) -> Key<[u8; 4]> {
    Key::new(u32::from(net.prefix_len()), net.addr().octets())
}

fn key6(net: Ipv6Net) -> Key<[u8; 16]> {
    Key::new(u32::from(net.prefix_len()), net.addr().octets())
}

fn net4(key: &Key<[u8; 4]>) -> IpNet {
    Ipv4Net::new_assert(key.data().into(), bits(key.prefix_len(), 32)).into()
}

fn net6(key: &Key<[u8; 16]>) -> IpNet {
    Ipv6Net::new_assert(key.data().into(), bits(key.prefix_len(), 128)).into()
}

/// The kernel never holds longer prefixes than the address has bits.
fn bits(length: u32, longest: u8) -> u8 {
    u8::try_from(length).unwrap_or(longest).min(longest)
}

fn insert<K: Pod>(
    trie: &mut LpmTrie<MapData, K, u32>,
    key: &Key<K>,
    net: IpNet,
    max: u32,
) -> Result<(), Error> {
    trie.insert(key, 0, 0).map_err(|error| full(error, net, max))
}

/// A trie without room says ENOSPC, a hash E2BIG.
fn full(error: MapError, net: IpNet, max: u32) -> Error {
    match errno(&error) {
        Some(libc::ENOSPC | libc::E2BIG) => Error::ListFull { net, max },
        _ => Error::kernel(format!("adding {net} to the guard's list"), &error),
    }
}

fn remove<K: Pod, V: Pod>(trie: &mut LpmTrie<MapData, K, V>, key: &Key<K>) -> Result<bool, Error> {
    match trie.remove(key) {
        Ok(()) => Ok(true),
        Err(error) => match failed(error) {
            Error::Kernel {
                errno: Some(libc::ENOENT),
                ..
            } => Ok(false),
            other => Err(other),
        },
    }
}

pub(super) fn failed(error: MapError) -> Error {
    Error::kernel("reading or changing the guard's lists", &error)
}
