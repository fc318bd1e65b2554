//! `edge_steer`: which listener gets a new connection (TCP) or a datagram (UDP), asked by the kernel when it looks for one.
//!
//! An address that is not ours is left alone. For ours the grant decides whether this node may answer at all, by the
//! kernel's own clock, so that nobody has to be alive to revoke it; and where nobody listens the client is refused, so
//! that no other process gets what was meant for us.
#![no_std]
#![no_main]

use aya_ebpf::bindings::{bpf_sk_lookup, sk_action};
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns};
use aya_ebpf::macros::{map, sk_lookup};
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, PerCpuArray, SockMap};
use aya_ebpf::programs::SkLookupContext;
use constellation_ebpf_abi::steer::{
    BIND_HEAD_BITS, Bind, BindKey, Grant, MAX_BINDS, MAX_DESTS, ON_LOSS_PASS, SLOTS, UDP, V4, V6, Verdict,
};
use constellation_ebpf_programs::{count, license};

license!();

#[map]
static STEER_GRANT: Array<Grant> = Array::with_max_entries(1, 0);
#[map]
static STEER_BINDS: LpmTrie<BindKey, Bind> = LpmTrie::with_max_entries(MAX_BINDS, 0);
#[map]
static STEER_SOCKETS: SockMap = SockMap::with_max_entries(MAX_DESTS * SLOTS, 0);
#[map]
static STEER_WIDTHS: Array<u32> = Array::with_max_entries(MAX_DESTS, 0);
#[map]
static STEER_STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Verdict::COUNT, 0);

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const ENOENT: i32 = 2;

/// Reads a field of the context, one load for each: the compiler would merge two of them into one through a pointer that
/// it computes, and the verifier takes no computed pointer into a context.
macro_rules! field {
    ($ctx:expr, $($field:tt)+) => {{
        let lookup: *const bpf_sk_lookup = $ctx.lookup;
        // SAFETY: the kernel hands over a valid context, which lives as long as the program runs.
        unsafe { (&raw const (*lookup).$($field)+).read_volatile() }
    }};
}

#[sk_lookup]
pub fn edge_steer(ctx: SkLookupContext) -> u32 {
    let verdict = decide(&ctx);
    count(&STEER_STATS, verdict as u32);
    if verdict.passes() {
        sk_action::SK_PASS
    } else {
        sk_action::SK_DROP
    }
}

#[inline(always)]
fn decide(ctx: &SkLookupContext) -> Verdict {
    let Some(mut asked) = asked(ctx) else {
        return Verdict::Unbound;
    };
    let Some(dest) = destination(&mut asked) else {
        return Verdict::Unbound;
    };
    match grant() {
        Ok(()) => assign(ctx, dest, first_slot(ctx, asked.data.protocol)),
        Err(verdict) => verdict,
    }
}

/// What the client asked for, as a key in which every bit counts.
#[inline(always)]
fn asked(ctx: &SkLookupContext) -> Option<Key<BindKey>> {
    let mut address = [0; 16];
    let (family, bits) = match field!(ctx, family) {
        AF_INET => {
            address[..4].copy_from_slice(&field!(ctx, local_ip4).to_ne_bytes());
            (V4, 32)
        }
        AF_INET6 => {
            address[..4].copy_from_slice(&field!(ctx, local_ip6[0]).to_ne_bytes());
            address[4..8].copy_from_slice(&field!(ctx, local_ip6[1]).to_ne_bytes());
            address[8..12].copy_from_slice(&field!(ctx, local_ip6[2]).to_ne_bytes());
            address[12..].copy_from_slice(&field!(ctx, local_ip6[3]).to_ne_bytes());
            (V6, 128)
        }
        _ => return None,
    };
    let key = BindKey {
        protocol: field!(ctx, protocol) as u8,
        family,
        port: (field!(ctx, local_port) as u16).to_be_bytes(),
        address,
    };
    Some(Key::new(BIND_HEAD_BITS + bits, key))
}

/// Where connections to this address go: an entry for the port, or else one for any port.
#[inline(always)]
fn destination(asked: &mut Key<BindKey>) -> Option<u32> {
    if let Some(bind) = STEER_BINDS.get(&*asked) {
        return Some(bind.dest);
    }
    asked.data.port = [0, 0];
    STEER_BINDS.get(&*asked).map(|bind| bind.dest)
}

/// Whether this node may answer now.
#[inline(always)]
fn grant() -> Result<(), Verdict> {
    let Some(grant) = STEER_GRANT.get(0) else {
        return Err(Verdict::NoGrant);
    };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if now < grant.valid_until {
        Ok(())
    } else if grant.on_loss == ON_LOSS_PASS {
        Err(Verdict::Passed)
    } else {
        Err(Verdict::NoGrant)
    }
}

/// The slot that is tried first. TCP stays on the CPU that took the packet; the datagrams of a client stay together.
///
/// Where the listeners are one `SO_REUSEPORT` group, the kernel picks among them once more by its own rules
/// (`SO_INCOMING_CPU`, or a hash of both ends), since the assignment does not forbid it.
#[inline(always)]
fn first_slot(ctx: &SkLookupContext, protocol: u8) -> u32 {
    if protocol != UDP {
        // SAFETY: the helper has no preconditions.
        return unsafe { bpf_get_smp_processor_id() };
    }
    let address = if field!(ctx, family) == AF_INET6 {
        // The interface identifier: the rest is one for all clients of a network.
        field!(ctx, remote_ip6[2]) ^ field!(ctx, remote_ip6[3])
    } else {
        field!(ctx, remote_ip4)
    };
    let mixed = (address ^ u32::from(field!(ctx, remote_port))).wrapping_mul(0x9e37_79b1);
    mixed >> 16
}

/// Gives the lookup to the first listener of the destination that is alive.
#[inline(always)]
fn assign(ctx: &SkLookupContext, dest: u32, first: u32) -> Verdict {
    let width = match STEER_WIDTHS.get(dest) {
        Some(&width) if width != 0 => width,
        _ => return Verdict::NoListener,
    };
    for step in 0..SLOTS {
        if step >= width {
            break;
        }
        let slot = first.wrapping_add(step) % width;
        match STEER_SOCKETS.redirect_sk_lookup(ctx, dest * SLOTS + slot, 0) {
            Ok(()) => return Verdict::Steered,
            Err(error) if error == -ENOENT => {}
            Err(_) => return Verdict::Unassignable,
        }
    }
    Verdict::NoListener
}
