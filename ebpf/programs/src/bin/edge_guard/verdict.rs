//! The decision.
//!
//! The deny list comes first and counts for every packet; limits count only for new connections and flows to guarded
//! ports, so that nothing else on the host is touched by them; and the allow list overrules whatever would have dropped
//! the packet. A packet that passes costs one look into a trie, and one that opens something two looks into hashes.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns};
use aya_ebpf::maps::lpm_trie::Key;
use constellation_ebpf_abi::guard::{
    Config, Deny, EXACT_BITS4, EXACT_BITS6, ExactKey, LISTS4, LISTS6, LOOK_PAUSE, Verdict, port_bit,
};
use constellation_ebpf_abi::steer::{TCP, UDP};
use constellation_ebpf_programs::headers::{Obstacle, Source, Transport, source, transport};
use constellation_ebpf_programs::packet::Packet;

use crate::limit;
use crate::maps::{
    GUARD_ALLOW4, GUARD_ALLOW6, GUARD_CONFIG, GUARD_DENY4, GUARD_DENY6, GUARD_EXACT4, GUARD_EXACT6,
    GUARD_PORTS,
};
use crate::tell::tell;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Bytes of a TCP header up to the flags.
const TCP_FLAGS_END: usize = 14;

/// What a packet is known by, besides its source.
pub struct Subject {
    pub source: Source,
    pub protocol: u8,
    pub port: [u8; 2],
}

/// Judges a packet whose network header of a kind is at an offset.
#[inline(always)]
pub fn judge(packet: &Packet, kind: u16, offset: usize) -> Verdict {
    let source = match source(packet, kind, offset) {
        Ok(source) => source,
        Err(obstacle) => return because_of(obstacle),
    };
    let Some(config) = GUARD_CONFIG.get(0) else {
        return Verdict::Passed;
    };
    let mut subject = Subject {
        source,
        protocol: 0,
        port: [0, 0],
    };
    if let Some(deny) = denied(config, &source) {
        if is_allowed(&source) {
            return Verdict::Allowed;
        }
        tell_of_ban(config, &subject, deny);
        return Verdict::Denied;
    }
    let transport = match transport(packet, source.is_v6, offset) {
        Ok(transport) => transport,
        Err(obstacle) => return overruled(&source, because_of(obstacle)),
    };
    let verdict = match transport.protocol {
        TCP => tcp(packet, config, &transport, &mut subject),
        UDP => udp(packet, config, &transport, &mut subject),
        _ => Verdict::Passed,
    };
    overruled(&source, verdict)
}

#[inline(always)]
const fn because_of(obstacle: Obstacle) -> Verdict {
    match obstacle {
        Obstacle::NotIp => Verdict::NotIp,
        Obstacle::Malformed => Verdict::Malformed,
        Obstacle::Fragment => Verdict::Fragment,
        Obstacle::Overlong => Verdict::Overlong,
    }
}

/// Tells that a ban is hit, if it is time to.
#[inline(always)]
fn tell_of_ban(config: &Config, subject: &Subject, deny: *mut Deny) {
    // SAFETY: the helper has no preconditions; the value is in the map, and a race about when it was told costs an event.
    unsafe {
        let jiffies = bpf_jiffies64() as u32;
        if (*deny).told_at != 0 && jiffies.wrapping_sub((*deny).looked_at) < LOOK_PAUSE {
            return;
        }
        (*deny).looked_at = jiffies;
        let told_at = &raw mut (*deny).told_at;
        tell(config, now(), subject, Verdict::Denied, (*deny).reason, told_at);
    }
}

/// Reading the clock costs as much as a lookup, and most packets pass without.
#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// A ban that fits a source and still counts: that of the longest prefix of the usual lengths, or else of the others.
#[inline(always)]
fn denied(config: &Config, source: &Source) -> Option<*mut Deny> {
    if source.is_v6 {
        let exact = |bits: u32| {
            let address = masked(u128::from_be_bytes(source.address), bits).to_be_bytes();
            GUARD_EXACT6.get_ptr_mut(&ExactKey { address, bits })
        };
        let trie = || in_trie(GUARD_DENY6.get(Key::new(128, source.address)));
        first_in_force(config.lists >> LISTS6, &EXACT_BITS6, exact, trie)
    } else {
        let exact = |bits: u32| {
            let address = (u32::from_be_bytes(v4(source)) & (u32::MAX << (32 - bits))).to_be_bytes();
            GUARD_EXACT4.get_ptr_mut(&ExactKey { address, bits })
        };
        let trie = || in_trie(GUARD_DENY4.get(Key::new(32, v4(source))));
        first_in_force(config.lists >> LISTS4, &EXACT_BITS4, exact, trie)
    }
}

/// Looks into the lists that have entries.
#[inline(always)]
fn first_in_force<const N: usize>(
    lists: u32,
    lengths: &[u32; N],
    exact: impl Fn(u32) -> Option<*mut Deny>,
    trie: impl Fn() -> Option<*mut Deny>,
) -> Option<*mut Deny> {
    for (list, bits) in lengths.iter().enumerate() {
        if lists & 1 << list != 0
            && let Some(deny) = exact(*bits)
            && is_in_force(deny)
        {
            return Some(deny);
        }
    }
    if lists & 1 << N == 0 {
        return None;
    }
    trie().filter(|deny| is_in_force(*deny))
}

#[inline(always)]
fn is_in_force(deny: *mut Deny) -> bool {
    // SAFETY: the value is in the map, which outlives the program's run; a single word.
    let until = unsafe { (*deny).until };
    until == 0 || now() < until
}

#[inline(always)]
fn in_trie(found: Option<&Deny>) -> Option<*mut Deny> {
    found.map(|deny| core::ptr::from_ref(deny).cast_mut())
}

#[inline(always)]
const fn masked(address: u128, bits: u32) -> u128 {
    address & (u128::MAX << (128 - bits))
}

#[inline(always)]
fn overruled(source: &Source, verdict: Verdict) -> Verdict {
    if !verdict.passes() && is_allowed(source) {
        Verdict::Allowed
    } else {
        verdict
    }
}

#[inline(always)]
pub fn is_allowed(source: &Source) -> bool {
    if source.is_v6 {
        GUARD_ALLOW6.get(Key::new(128, source.address)).is_some()
    } else {
        GUARD_ALLOW4.get(Key::new(32, v4(source))).is_some()
    }
}

#[inline(always)]
fn v4(source: &Source) -> [u8; 4] {
    let address = &source.address;
    [address[12], address[13], address[14], address[15]]
}

#[inline(always)]
fn tcp(packet: &Packet, config: &Config, transport: &Transport, subject: &mut Subject) -> Verdict {
    let Some(header) = packet.read::<TCP_FLAGS_END>(transport.offset) else {
        return short(transport);
    };
    if header[13] & (SYN | ACK) != SYN {
        return Verdict::Passed;
    }
    subject.protocol = TCP;
    subject.port = [header[2], header[3]];
    if !is_guarded(TCP, subject.port) {
        return Verdict::Passed;
    }
    if limit::admits(config, &config.syn, now(), subject, Verdict::SynLimited) {
        Verdict::SynAdmitted
    } else {
        Verdict::SynLimited
    }
}

#[inline(always)]
fn udp(packet: &Packet, config: &Config, transport: &Transport, subject: &mut Subject) -> Verdict {
    let Some(header) = packet.read::<4>(transport.offset) else {
        return short(transport);
    };
    subject.protocol = UDP;
    subject.port = [header[2], header[3]];
    if !is_guarded(UDP, subject.port) {
        return Verdict::Passed;
    }
    let source_port = [header[0], header[1]];
    let now = now();
    if limit::is_known(config, now, subject, source_port) {
        return Verdict::FlowKnown;
    }
    if limit::admits(config, &config.udp, now, subject, Verdict::FlowLimited) {
        limit::remember(now, subject, source_port);
        Verdict::FlowAdmitted
    } else {
        Verdict::FlowLimited
    }
}

/// A transport header that is not all there.
#[inline(always)]
fn short(transport: &Transport) -> Verdict {
    if transport.is_first_fragment {
        Verdict::TinyFragment
    } else {
        Verdict::Malformed
    }
}

#[inline(always)]
fn is_guarded(protocol: u8, port: [u8; 2]) -> bool {
    let (word, bit) = port_bit(protocol, u16::from_be_bytes(port));
    GUARD_PORTS.get(word).is_some_and(|bits| bits & bit != 0)
}
