//! The maps, as the layouts' crate describes them.

use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, PerCpuArray};
use constellation_ebpf_abi::chase::{Config, MAX_MOVED, PORT_WORDS, Previous, SYN_SLOTS, Verdict};

#[map]
pub static CHASE_CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
pub static CHASE_MOVED: LpmTrie<[u8; 16], Previous> = LpmTrie::with_max_entries(MAX_MOVED, 0);
#[map]
pub static CHASE_PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);
#[map]
pub static CHASE_SYNS: Array<u64> = Array::with_max_entries(SYN_SLOTS, 0);
#[map]
pub static CHASE_STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Verdict::COUNT, 0);
