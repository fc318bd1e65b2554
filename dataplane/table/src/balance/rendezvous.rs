//! Weighted rendezvous hashing: every key ranks all members, each key in its own way.
//!
//! A member that comes or goes moves only its own keys, which spread over the others by weight; a weight that changes
//! moves no more keys than the shares differ. No ring, no table, nothing to rebuild.

use std::net::IpAddr;

use smallvec::SmallVec;

/// A member's identity, from what names it for good.
pub(crate) fn identity(name: &str) -> u64 {
    key_of_bytes(name.as_bytes())
}

/// The key of a client. The address of a v4 client is the same however it arrived.
pub(crate) fn key_of_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => mix(u64::from(v4.to_bits())),
        IpAddr::V6(v6) => {
            let [high, low] = [v6.to_bits() >> 64, v6.to_bits() & u128::from(u64::MAX)]
                .map(|half| u64::try_from(half).unwrap_or_default());
            mix(mix(high) ^ low)
        }
    }
}

/// The key of a text: FNV-1a, mixed. The same in every process and version, so that several nodes agree.
pub(crate) fn key_of_bytes(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }))
}

/// The rank of a member for a key; the smallest goes first. Exponentially distributed with the weight as its rate, so
/// that each member is first for its share of keys.
pub(crate) fn rank(identity: u64, weight: u32, key: u64) -> f64 {
    // 53 random bits, never zero.
    let drawn = (mix(identity ^ key) >> 11) + 1;
    -(drawn as f64 / (1u64 << 53) as f64).ln() / f64::from(weight)
}

/// The first `most` of the members (place, identity, weight) in the order in which the key prefers them; those without
/// weight are left out. No allocation up to eight.
pub(crate) fn order(
    members: impl IntoIterator<Item = (usize, u64, u32)>,
    key: u64,
    most: usize,
) -> SmallVec<[usize; 8]> {
    let mut best: SmallVec<[(f64, usize); 8]> = SmallVec::new();
    for (place, identity, weight) in members {
        let rank = rank(identity, weight, key);
        if weight == 0 || (best.len() >= most && best.last().is_none_or(|(worst, _)| rank >= *worst)) {
            continue;
        }
        best.truncate(most.saturating_sub(1));
        let at = best.partition_point(|(other, _)| *other <= rank);
        best.insert(at, (rank, place));
    }
    best.into_iter().map(|(_, place)| place).collect()
}

/// A well mixed number (the finaliser of SplitMix64).
pub(crate) fn mix(number: u64) -> u64 {
    let mut x = number;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
