//! Loading `edge_steer` and finding out what its maps hold.

use aya::maps::{LpmTrie, MapData, MapType};
use constellation_ebpf_abi::steer::{self, BindKey, Grant, MAX_BINDS, MAX_DESTS, SLOTS, Verdict};

use super::bind::Bound;
use super::{OnLoss, Steering};
use crate::layout::Shared;
use crate::maps::take;
use crate::object::EDGE_STEER;
use crate::pins::{MapSpec, Pins, loader};
use crate::{Error, Lock, Origin};

/// As declared in the program.
pub(crate) const MAPS: &[MapSpec] = &[
    MapSpec {
        name: steer::GRANT,
        kind: MapType::Array,
        key: 4,
        value: size_of::<Grant>(),
        entries: 1,
    },
    // A key of a trie begins with the number of bits that count.
    MapSpec {
        name: steer::BINDS,
        kind: MapType::LpmTrie,
        key: 4 + size_of::<BindKey>(),
        value: size_of::<steer::Bind>(),
        entries: MAX_BINDS,
    },
    MapSpec {
        name: steer::SOCKETS,
        kind: MapType::SockMap,
        key: 4,
        value: 4,
        entries: MAX_DESTS * SLOTS,
    },
    MapSpec {
        name: steer::WIDTHS,
        kind: MapType::Array,
        key: 4,
        value: 4,
        entries: MAX_DESTS,
    },
    MapSpec {
        name: steer::STATS,
        kind: MapType::PerCpuArray,
        key: 4,
        value: 8,
        entries: Verdict::COUNT,
    },
];

impl Steering {
    /// Without pins, everything ends with this value.
    pub(crate) fn load(lock: &Lock, pins: Option<Pins>) -> Result<Self, Error> {
        let (mut ebpf, origin) = match &pins {
            Some(pins) => pins.load(EDGE_STEER, MAPS)?,
            None => {
                let loaded = loader().load(EDGE_STEER);
                (
                    loaded.map_err(|error| Error::kernel("making the maps of edge_steer", &error))?,
                    Origin::New,
                )
            }
        };
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
