//! Loading `edge_chase`.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use aya::maps::MapType;
use constellation_ebpf_abi::chase::{
    self as abi, Config, MAX_MOVED, PORT_WORDS, Previous, SYN_SLOTS, Verdict,
};

use super::Chase;
use crate::maps::take;
use crate::object::EDGE_CHASE;
use crate::pins::{MapSpec, Pins, load, spec};
use crate::{Error, Lock};

/// As declared in the program.
pub(crate) const MAPS: &[MapSpec] = &[
    spec(abi::CONFIG, MapType::Array, 4, size_of::<Config>(), 1),
    // A key of a trie begins with the number of bits that count.
    spec(abi::MOVED, MapType::LpmTrie, 20, size_of::<Previous>(), MAX_MOVED),
    spec(abi::PORTS, MapType::Array, 4, 8, PORT_WORDS),
    spec(abi::SYNS, MapType::Array, 4, 8, SYN_SLOTS),
    spec(abi::STATS, MapType::PerCpuArray, 4, 8, Verdict::COUNT),
];

impl Chase {
    /// Without pins, everything ends with this value.
    pub(crate) fn load(lock: &Lock, pins: Option<Pins>) -> Result<Self, Error> {
        let (mut ebpf, origin) = load(pins.as_ref(), EDGE_CHASE, MAPS)?;
        let mut chase = Self {
            lock: lock.clone(),
            pins,
            origin,
            config: take(&mut ebpf, abi::CONFIG)?,
            moved: take(&mut ebpf, abi::MOVED)?,
            ports: take(&mut ebpf, abi::PORTS)?,
            stats: take(&mut ebpf, abi::STATS)?,
            ebpf,
            attached: BTreeMap::new(),
        };
        chase.classifier()?;
        Ok(chase)
    }
}

/// A number that nobody outside knows: the standard library's hash tables have their keys from the kernel.
pub(super) fn seed() -> u64 {
    RandomState::new().hash_one(0)
}
