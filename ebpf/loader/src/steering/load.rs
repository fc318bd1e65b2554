//! Loading `edge_steer` and finding out what its maps hold.

use aya::maps::{LpmTrie, MapData, MapType};
use constellation_ebpf_abi::steer::{self, BindKey, Grant, MAX_BINDS, MAX_DESTS, SLOTS, Verdict};

use super::bind::Bound;
use super::{Issuer, OnLoss, Steering};
use crate::layout::Shared;
use crate::maps::take;
use crate::object::EDGE_STEER;
use crate::pins::{MapSpec, Pins, load, spec};
use crate::{Error, Lock};

/// As declared in the program.
pub(crate) const MAPS: &[MapSpec] = &[
    spec(steer::GRANT, MapType::Array, 4, size_of::<Grant>(), 1),
    // A key of a trie begins with the number of bits that count.
    spec(
        steer::BINDS,
        MapType::LpmTrie,
        4 + size_of::<BindKey>(),
        size_of::<steer::Bind>(),
        MAX_BINDS,
    ),
    spec(steer::SOCKETS, MapType::SockMap, 4, 4, MAX_DESTS * SLOTS),
    spec(steer::WIDTHS, MapType::Array, 4, 4, MAX_DESTS),
    spec(steer::STATS, MapType::PerCpuArray, 4, 8, Verdict::COUNT),
];

impl Steering {
    /// Without pins, everything ends with this value.
    pub(crate) fn load(lock: &Lock, pins: Option<Pins>) -> Result<Self, Error> {
        let (mut ebpf, origin) = load(pins.as_ref(), EDGE_STEER, MAPS)?;
        let binds: LpmTrie<MapData, _, _> = take(&mut ebpf, steer::BINDS)?;
        let mut steering = Self {
            lock: lock.clone(),
            pins,
            origin,
            grant: take(&mut ebpf, steer::GRANT)?,
            bound: bound(&binds)?,
            binds,
            sockets: take(&mut ebpf, steer::SOCKETS)?,
            widths: take(&mut ebpf, steer::WIDTHS)?,
            stats: take(&mut ebpf, steer::STATS)?,
            ebpf,
            on_loss: OnLoss::default(),
            issuer: Issuer::LOCAL,
        };
        let loaded = steering.sk_lookup()?.load();
        loaded.map_err(|error| Error::kernel("loading edge_steer", &error))?;
        Ok(steering)
    }
}

/// What a trie holds.
fn bound(binds: &LpmTrie<MapData, Shared<BindKey>, Shared<steer::Bind>>) -> Result<Bound, Error> {
    let entries = binds.iter().map(|entry| {
        let (key, Shared(bind)) = entry.map_err(|error| Error::kernel("reading the binds", &error))?;
        Ok(((key.prefix_len(), key.data().0), bind.dest))
    });
    entries.collect()
}
