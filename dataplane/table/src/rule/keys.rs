//! Index keys: under which hosts a rule can match at all.
//!
//! A key is a 64-bit hash, not a name: the rule is evaluated in full anyway, so two names with the same hash cost one
//! needless evaluation and change no decision. The seeds are fixed so that keys computed with the rule stay valid in
//! every later snapshot; a request can't add keys, so there is nothing to flood.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;
use smallvec::{SmallVec, smallvec};

use super::http::Matcher;
use super::tree::Tree;

/// Where the index files a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostKeys {
    /// It may match under any host.
    Any,
    /// It can match only under a host with one of these keys. Sorted, no repetition.
    Only(SmallVec<[HostKey; 1]>),
}

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostKey {
    /// Exact keys sort before wildcards.
    pub(crate) wildcard: bool,
    pub(crate) hash: u64,
}

/// The key of an exact name; trailing dots don't count.
pub(crate) fn exact_key(name: &str) -> u64 {
    hash(0, name)
}

/// The key of every name of the form `LABEL.parent`; trailing dots don't count.
pub(crate) fn wildcard_key(parent: &str) -> u64 {
    hash(1, parent)
}

fn hash(kind: u8, name: &str) -> u64 {
    const SEEDS: RandomState = RandomState::with_seeds(
        0x243f_6a88_85a3_08d3,
        0x1319_8a2e_0370_7344,
        0xa409_3822_299f_31d0,
        0x082e_fa98_ec4e_6c89,
    );
    let mut hasher = SEEDS.build_hasher();
    hasher.write_u8(kind);
    hasher.write(name.trim_end_matches('.').as_bytes());
    hasher.finish()
}

impl HostKeys {
    /// The keys of a rule. They may admit too much, never too little.
    pub(super) fn of(tree: &Tree<Matcher>) -> Self {
        match tree {
            Tree::Leaf(Matcher::Host(name)) => Self::one(false, exact_key(name)),
            Tree::Leaf(Matcher::WildcardHost(parent)) => Self::one(true, wildcard_key(parent)),
            Tree::Leaf(_) | Tree::Not(_) => Self::Any,
            // One branch's demand is enough; the one that admits the fewest hosts serves best.
            Tree::All(branches) => branches
                .iter()
                .map(Self::of)
                .min_by_key(|keys| match keys {
                    Self::Any => usize::MAX,
                    Self::Only(keys) => keys.len() + keys.iter().filter(|key| key.wildcard).count(),
                })
                .unwrap_or(Self::Any),
            Tree::Any(branches) => {
                let mut all = SmallVec::new();
                for branch in branches {
                    match Self::of(branch) {
                        Self::Any => return Self::Any,
                        Self::Only(keys) => all.extend(keys),
                    }
                }
                all.sort_unstable();
                all.dedup();
                Self::Only(all)
            }
        }
    }

    fn one(wildcard: bool, hash: u64) -> Self {
        Self::Only(smallvec![HostKey { wildcard, hash }])
    }
}

/// Whether the rule can match only under hosts that it names exactly; such a rule wins a tie.
pub(super) fn names_its_hosts(tree: &Tree<Matcher>) -> bool {
    match tree {
        Tree::Leaf(matcher) => matches!(matcher, Matcher::Host(_)),
        Tree::Not(_) => false,
        Tree::All(branches) => branches.iter().any(names_its_hosts),
        Tree::Any(branches) => branches.iter().all(names_its_hosts),
    }
}
