//! The maps, as the layouts' crate describes them.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use constellation_ebpf_abi::guard::{
    Bucket, BucketKey, Config, Deny, EVENTS_SIZE, ExactKey, FlowKey, MAX_ALLOW, MAX_BUCKETS, MAX_DENY,
    MAX_FLOWS, PORT_WORDS, Verdict,
};

#[map]
pub static GUARD_CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
pub static GUARD_PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);
#[map]
pub static GUARD_ALLOW4: LpmTrie<[u8; 4], u32> = LpmTrie::with_max_entries(MAX_ALLOW, 0);
#[map]
pub static GUARD_ALLOW6: LpmTrie<[u8; 16], u32> = LpmTrie::with_max_entries(MAX_ALLOW, 0);
#[map]
pub static GUARD_DENY4: LpmTrie<[u8; 4], Deny> = LpmTrie::with_max_entries(MAX_DENY, 0);
#[map]
pub static GUARD_DENY6: LpmTrie<[u8; 16], Deny> = LpmTrie::with_max_entries(MAX_DENY, 0);
#[map]
pub static GUARD_EXACT4: HashMap<ExactKey<[u8; 4]>, Deny> =
    HashMap::with_max_entries(MAX_DENY, BPF_F_NO_PREALLOC);
#[map]
pub static GUARD_EXACT6: HashMap<ExactKey<[u8; 16]>, Deny> =
    HashMap::with_max_entries(MAX_DENY, BPF_F_NO_PREALLOC);
#[map]
pub static GUARD_BUCKETS: LruHashMap<BucketKey, Bucket> = LruHashMap::with_max_entries(MAX_BUCKETS, 0);
#[map]
pub static GUARD_FLOWS: LruHashMap<FlowKey, u64> = LruHashMap::with_max_entries(MAX_FLOWS, 0);
#[map]
pub static GUARD_PACE: Array<u64> = Array::with_max_entries(1, 0);
#[map]
pub static GUARD_STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Verdict::COUNT, 0);
#[map]
pub static GUARD_EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_SIZE, 0);
