//! Loading `edge_guard`.

use std::collections::BTreeMap;

use aya::maps::MapType;
use constellation_ebpf_abi::guard::{
    self as abi, Bucket, BucketKey, Config, Deny, EVENTS_SIZE, EXACT_BITS4, EXACT_BITS6, ExactKey, FlowKey,
    MAX_ALLOW, MAX_BUCKETS, MAX_DENY, MAX_FLOWS, PORT_WORDS, Verdict,
};

use super::Guard;
use super::denials::Denials;
use super::limit::Limits;
use crate::maps::take;
use crate::object::EDGE_GUARD;
use crate::pins::{MapSpec, Pins, load, spec};
use crate::{Error, Lock, Origin};

/// As declared in the programs.
pub(crate) const MAPS: &[MapSpec] = &[
    spec(abi::CONFIG, MapType::Array, 4, size_of::<Config>(), 1),
    spec(abi::PORTS, MapType::Array, 4, 8, PORT_WORDS),
    // A key of a trie begins with the number of bits that count.
    spec(abi::ALLOW4, MapType::LpmTrie, 8, 4, MAX_ALLOW),
    spec(abi::ALLOW6, MapType::LpmTrie, 20, 4, MAX_ALLOW),
    spec(abi::DENY4, MapType::LpmTrie, 8, size_of::<Deny>(), MAX_DENY),
    spec(abi::DENY6, MapType::LpmTrie, 20, size_of::<Deny>(), MAX_DENY),
    spec(
        abi::EXACT4,
        MapType::Hash,
        size_of::<ExactKey<[u8; 4]>>(),
        size_of::<Deny>(),
        MAX_DENY,
    ),
    spec(
        abi::EXACT6,
        MapType::Hash,
        size_of::<ExactKey<[u8; 16]>>(),
        size_of::<Deny>(),
        MAX_DENY,
    ),
    spec(
        abi::BUCKETS,
        MapType::LruHash,
        size_of::<BucketKey>(),
        size_of::<Bucket>(),
        MAX_BUCKETS,
    ),
    spec(abi::FLOWS, MapType::LruHash, size_of::<FlowKey>(), 8, MAX_FLOWS),
    spec(abi::PACE, MapType::Array, 4, 8, 1),
    spec(abi::STATS, MapType::PerCpuArray, 4, 8, Verdict::COUNT),
    spec(abi::EVENTS, MapType::RingBuf, 0, 0, EVENTS_SIZE),
];

impl Guard {
    /// Without pins, everything ends with this value. The programs are loaded when they are needed.
    pub(crate) fn load(lock: &Lock, pins: Option<Pins>) -> Result<Self, Error> {
        let (mut ebpf, origin) = load(pins.as_ref(), EDGE_GUARD, MAPS)?;
        let mut guard = Self {
            lock: lock.clone(),
            pins,
            config: take(&mut ebpf, abi::CONFIG)?,
            ports: take(&mut ebpf, abi::PORTS)?,
            allow4: take(&mut ebpf, abi::ALLOW4)?,
            allow6: take(&mut ebpf, abi::ALLOW6)?,
            deny4: Denials::open(
                take(&mut ebpf, abi::DENY4)?,
                take(&mut ebpf, abi::EXACT4)?,
                &EXACT_BITS4,
            )?,
            deny6: Denials::open(
                take(&mut ebpf, abi::DENY6)?,
                take(&mut ebpf, abi::EXACT6)?,
                &EXACT_BITS6,
            )?,
            // Unknown: whoever was here before may have crashed between an entry and its announcement.
            lists: u32::MAX,
            stats: take(&mut ebpf, abi::STATS)?,
            ebpf,
            attached: BTreeMap::new(),
            origin,
        };
        guard.announce_lists()?;
        if guard.origin != Origin::Pinned {
            guard.set_limits(&Limits::default())?;
        }
        Ok(guard)
    }
}
