//! The denied prefixes of one family in the kernel: a hash for those of the usual lengths, a trie for the others.

use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{HashMap, LpmTrie, MapData, MapError};
use constellation_ebpf_abi::guard::{Deny, ExactKey};
use nix::libc;

use super::list::failed;
use crate::Error;
use crate::layout::Shared;

/// `BPF_NOEXIST`.
const ONLY_NEW: u64 = 1;

/// The two maps, and how many prefixes each list has. A is the address.
pub(super) struct Denials<A: Pod>
where
    Shared<ExactKey<A>>: Pod,
{
    trie: LpmTrie<MapData, A, Shared<Deny>>,
    exact: HashMap<MapData, Shared<ExactKey<A>>, Shared<Deny>>,
    /// The lengths that the hash has.
    lengths: &'static [u32; 3],
    /// Of each length, and of the trie.
    counts: [usize; 4],
}

impl<A: Pod> Denials<A>
where
    Shared<ExactKey<A>>: Pod,
{
    pub(super) fn open(
        trie: LpmTrie<MapData, A, Shared<Deny>>,
        exact: HashMap<MapData, Shared<ExactKey<A>>, Shared<Deny>>,
        lengths: &'static [u32; 3],
    ) -> Result<Self, Error> {
        let mut denials = Self {
            trie,
            exact,
            lengths,
            counts: [0; 4],
        };
        let found = denials.entries().collect::<Result<Vec<_>, _>>()?;
        for (_, bits, _) in found {
            *denials.count(bits) += 1;
        }
        Ok(denials)
    }

    /// Adds or replaces an entry. Bits of the address beyond the length are 0.
    pub(super) fn insert(&mut self, address: A, bits: u32, deny: Deny) -> Result<(), MapError> {
        let mut insert = |flags| {
            if self.lengths.contains(&bits) {
                let key = Shared(ExactKey { address, bits });
                self.exact.insert(key, Shared(deny), flags)
            } else {
                self.trie.insert(&Key::new(bits, address), Shared(deny), flags)
            }
        };
        match insert(ONLY_NEW) {
            Ok(()) => *self.count(bits) += 1,
            Err(error) if errno(&error) == Some(libc::EEXIST) => insert(0)?,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Says whether there was one.
    pub(super) fn remove(&mut self, address: A, bits: u32) -> Result<bool, Error> {
        let removed = if self.lengths.contains(&bits) {
            self.exact.remove(&Shared(ExactKey { address, bits }))
        } else {
            self.trie.remove(&Key::new(bits, address))
        };
        match removed {
            Ok(()) => {
                let count = self.count(bits);
                *count = count.saturating_sub(1);
                Ok(true)
            }
            Err(MapError::KeyNotFound) => Ok(false),
            Err(error) if errno(&error) == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// Address, length and value of each.
    pub(super) fn entries(&self) -> impl Iterator<Item = Result<(A, u32, Deny), Error>> {
        let exact = self.exact.iter().map(|entry| {
            let (Shared(key), Shared(deny)) = entry.map_err(failed)?;
            Ok((key.address, key.bits, deny))
        });
        let others = self.trie.iter().map(|entry| {
            let (key, Shared(deny)) = entry.map_err(failed)?;
            Ok((key.data(), key.prefix_len(), deny))
        });
        exact.chain(others)
    }

    /// A bit for each list that has entries, in the order of the lengths, and then the trie's.
    pub(super) fn lists(&self) -> u32 {
        let in_use = self.counts.iter().map(|count| u32::from(*count > 0));
        in_use.rev().fold(0, |bits, bit| bits << 1 | bit)
    }

    fn count(&mut self, bits: u32) -> &mut usize {
        let [first, second, third, others] = &mut self.counts;
        match self.lengths.iter().position(|length| *length == bits) {
            Some(0) => first,
            Some(1) => second,
            Some(_) => third,
            None => others,
        }
    }
}

/// What the kernel said.
pub(super) fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}
