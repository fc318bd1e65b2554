//! Index keys: under which hosts a rule can match at all.
//!
//! A key is a 64-bit hash, not a name: the rule is evaluated in full anyway, so two names with the same hash cost one
//! needless evaluation and change no decision. The seeds are fixed so that keys computed with the rule stay valid in
//! every later snapshot; a request can't add keys, so there is nothing to flood.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;
use smallvec::{SmallVec, smallvec};

use super::tree::{Expression, Tree};

/// Where the index files a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostKeys {
    /// It may match under any host.
    Any,
    /// It can match only under a host with this key; nearly every rule.
    One(HostKey),
    /// It can match only under a host with one of these keys. Sorted, no repetition.
    Several(Box<[HostKey]>),
}

/// One key: the lowest bit says whether it is a wildcard's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HostKey(pub(crate) u64);

impl HostKey {
    pub(crate) fn is_wildcard(self) -> bool {
        self.0 & 1 == 1
    }
}

/// The key of an exact name; trailing dots don't count.
pub(crate) fn exact_key(name: &str) -> HostKey {
    HostKey(hash(name) & !1)
}

/// The key of every name of the form `LABEL.parent`; trailing dots don't count.
pub(crate) fn wildcard_key(parent: &str) -> HostKey {
    HostKey(hash(parent) | 1)
}

fn hash(name: &str) -> u64 {
    const SEEDS: RandomState = RandomState::with_seeds(
        0x243f_6a88_85a3_08d3,
        0x1319_8a2e_0370_7344,
        0xa409_3822_299f_31d0,
        0x082e_fa98_ec4e_6c89,
    );
    let mut hasher = SEEDS.build_hasher();
    hasher.write(name.trim_end_matches('.').as_bytes());
    hasher.finish()
}

impl HostKeys {
    /// The keys of a rule, where `key` says under which names a matcher can hold; `None`: under any. They may admit too
    /// much, never too little.
    pub(super) fn of<M>(expression: &Expression<M>, key: &impl Fn(&M) -> Option<HostKey>) -> Self {
        match keys(expression, &expression.tree(), key).as_deref() {
            None => Self::Any,
            Some([one]) => Self::One(*one),
            Some(several) => Self::Several(several.into()),
        }
    }

    /// Exactly these keys.
    pub(super) fn from_keys(mut keys: Vec<HostKey>) -> Self {
        keys.sort_unstable();
        keys.dedup();
        match keys.as_slice() {
            [one] => Self::One(*one),
            _ => Self::Several(keys.into()),
        }
    }

    /// The keys; `None` when the rule may match under any host.
    pub(crate) fn only(&self) -> Option<&[HostKey]> {
        match self {
            Self::Any => None,
            Self::One(key) => Some(std::slice::from_ref(key)),
            Self::Several(keys) => Some(keys),
        }
    }
}

fn keys<M>(
    expression: &Expression<M>,
    tree: &Tree,
    key: &impl Fn(&M) -> Option<HostKey>,
) -> Option<SmallVec<[HostKey; 1]>> {
    match tree {
        Tree::Leaf(place) => {
            let key = expression.matcher(*place).and_then(key)?;
            Some(smallvec![key])
        }
        Tree::Not(_) => None,
        // One branch's demand is enough; the one that admits the fewest hosts serves best.
        Tree::All(branches) => branches
            .iter()
            .filter_map(|branch| keys(expression, branch, key))
            .min_by_key(|keys| keys.len() + keys.iter().filter(|key| key.is_wildcard()).count()),
        Tree::Any(branches) => {
            let mut all = SmallVec::new();
            for branch in branches {
                all.extend(keys(expression, branch, key)?);
            }
            all.sort_unstable();
            all.dedup();
            Some(all)
        }
    }
}

/// Whether the rule can match only under hosts that it names exactly; such a rule wins a tie.
pub(super) fn names_its_hosts<M>(expression: &Expression<M>, is_exact: &impl Fn(&M) -> bool) -> bool {
    named(expression, &expression.tree(), is_exact)
}

fn named<M>(expression: &Expression<M>, tree: &Tree, is_exact: &impl Fn(&M) -> bool) -> bool {
    let named = |branch: &Tree| named(expression, branch, is_exact);
    match tree {
        Tree::Leaf(place) => expression.matcher(*place).is_some_and(is_exact),
        Tree::Not(_) => false,
        Tree::All(branches) => branches.iter().any(named),
        Tree::Any(branches) => branches.iter().all(named),
    }
}
