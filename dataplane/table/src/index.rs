//! The routers of one entry point's plain or TLS traffic, of HTTP or TCP, filed by the hosts or server names under which
//! they can match.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::rule::{HostKey, HostKeys, exact_key, wildcard_key};

/// One table. A rank is a position in the snapshot's sorted routers: the smaller, the better.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Key to its ranks.
    hosts: HashMap<HostKey, Filed, BuildHasherDefault<AlreadyHashed>>,
    /// Whether any key is a wildcard; without one a look-up is spared.
    wildcards: bool,
    /// The runs: per key ascending, those of rules that match under any host last.
    ranks: Box<[u32]>,
    any: Span,
    /// Routers filed.
    len: usize,
}

/// The ranks under one key.
#[derive(Clone, Copy, Debug)]
enum Filed {
    /// The usual case, kept in place: one cache line less on the way.
    One(u32),
    Run(Span),
}

/// A run in [`Table::ranks`].
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    len: u32,
}

impl Table {
    /// Ranks of the routers that may match the host, ascending, without repetition. `host` is canonical.
    pub(crate) fn candidates(&self, host: &str) -> Ranks<'_> {
        let parent = host
            .split_once('.')
            .filter(|_| self.wildcards)
            .map(|(_, parent)| parent);
        Ranks([
            self.filed(exact_key(host)),
            parent
                .map(|parent| self.filed(wildcard_key(parent)))
                .unwrap_or_default(),
            self.run(self.any),
        ])
    }

    /// How many routers are filed.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn filed(&self, key: HostKey) -> &[u32] {
        match self.hosts.get(&key) {
            None => &[],
            Some(Filed::One(rank)) => std::slice::from_ref(rank),
            Some(Filed::Run(span)) => self.run(*span),
        }
    }

    fn run(&self, span: Span) -> &[u32] {
        let (Ok(start), Ok(len)) = (usize::try_from(span.start), usize::try_from(span.len)) else {
            return &[];
        };
        self.ranks
            .get(start..)
            .and_then(|tail| tail.get(..len))
            .unwrap_or_default()
    }
}

/// Merges the runs that concern one host.
#[derive(Default)]
pub(crate) struct Ranks<'t>([&'t [u32]; 3]);

impl Iterator for Ranks<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let least = self.0.iter().filter_map(|run| run.first().copied()).min()?;
        for run in &mut self.0 {
            if let Some((first, rest)) = run.split_first()
                && *first == least
            {
                *run = rest;
            }
        }
        Some(least)
    }
}

/// A table under construction.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    keyed: Vec<(HostKey, u32)>,
    any: Vec<u32>,
    wildcards: bool,
    len: usize,
    last: Option<u32>,
}

impl Draft {
    /// Files a router; call with ascending ranks. One that names its entry point twice is filed once.
    pub(crate) fn add(&mut self, rank: u32, keys: &HostKeys) {
        if self.last.replace(rank) == Some(rank) {
            return;
        }
        self.len += 1;
        match keys.only() {
            None => self.any.push(rank),
            Some(keys) => {
                self.wildcards |= keys.iter().any(|key| key.is_wildcard());
                self.keyed.extend(keys.iter().map(|key| (*key, rank)));
            }
        }
    }

    /// Whether nothing is filed.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The finished table.
    pub(crate) fn finish(mut self) -> Table {
        self.keyed.sort_unstable();
        let runs = || self.keyed.chunk_by(|a, b| a.0 == b.0);
        let mut hosts = HashMap::with_capacity_and_hasher(runs().count(), BuildHasherDefault::default());
        let mut ranks: Vec<u32> = Vec::new();
        for run in runs() {
            let filed = match run {
                [(key, rank)] => Some((*key, Filed::One(*rank))),
                [(key, _), ..] => Some((
                    *key,
                    Filed::Run(append(&mut ranks, run.iter().map(|(_, rank)| *rank))),
                )),
                [] => None,
            };
            hosts.extend(filed);
        }
        let any = append(&mut ranks, self.any.into_iter());
        Table {
            hosts,
            wildcards: self.wildcards,
            ranks: ranks.into(),
            any,
            len: self.len,
        }
    }
}

/// Appends a run. Ranks fit 32 bits, and so does how many there are of them under one key; a table with more than
/// 2^32 ranks in all would need 16 GiB for them alone.
fn append(ranks: &mut Vec<u32>, run: impl Iterator<Item = u32>) -> Span {
    let start = ranks.len();
    ranks.extend(run);
    let offset = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    Span {
        start: offset(start),
        len: offset(ranks.len() - start),
    }
}

/// Passes a key through: it is a good hash already.
#[derive(Default)]
pub(crate) struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only whole keys are hashed; anything else still gives a usable, if poor, hash.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}
