//! `test_flood`: turns one frame of a test run into a flood from many sources, for tests and benches; `test_drop` and
//! `test_shoot` drop all that comes, at XDP and at TCX. The product has none of them.
//!
//! Run with live frames, it gives every frame another source address and source port, mends the checksums, and sends it
//! out of a device. A user-space sender would be slower than what is to be flooded.
#![no_std]
#![no_main]

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP};
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_redirect};
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::{TcContext, XdpContext};
use constellation_ebpf_programs::{count, license};

license!();

/// What to send: the index of the device that frames leave by; and the sources, which are in networks at equal distances:
/// the first address (as a number), how many networks, from one to the next, and how many sources there are in each.
#[map]
static FLOOD: Array<[u32; 5]> = Array::with_max_entries(1, 0);

/// What was dropped.
#[map]
static DROPPED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// In a frame of Ethernet, IPv4 without options, and TCP.
const IP_CHECKSUM: usize = 24;
const SOURCE: usize = 26;
const PORT: usize = 34;
const TCP_CHECKSUM: usize = 50;
const END: usize = 54;

#[xdp]
pub fn test_flood(ctx: XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    let Some(&[device, first, networks, distance, sources]) = FLOOD.get(0) else {
        return XDP_ABORTED;
    };
    if start + END > end || networks == 0 || sources == 0 {
        return XDP_ABORTED;
    }
    let network = random() % networks;
    let random = random();
    let source = first
        .wrapping_add(network.wrapping_mul(distance))
        .wrapping_add((random & 0xffff) % sources)
        .to_be();
    let port = (1024 + (random >> 17)) as u16;
    // SAFETY: all within the frame, as was just checked; bytes need no alignment.
    unsafe {
        let source_at = (start + SOURCE) as *mut u32;
        let port_at = (start + PORT) as *mut u16;
        let ip_at = (start + IP_CHECKSUM) as *mut u16;
        let tcp_at = (start + TCP_CHECKSUM) as *mut u16;
        let changed = difference(source_at.read_unaligned(), source);
        let also = difference(u32::from(port_at.read_unaligned()), u32::from(port.to_be()));
        source_at.write_unaligned(source);
        port_at.write_unaligned(port.to_be());
        ip_at.write_unaligned(mended(ip_at.read_unaligned(), changed));
        tcp_at.write_unaligned(mended(tcp_at.read_unaligned(), changed + also));
    }
    // SAFETY: the helper checks the device's index itself.
    unsafe { bpf_redirect(device, 0) as u32 }
}

#[xdp]
pub fn test_drop(_ctx: XdpContext) -> u32 {
    count(&DROPPED, 0);
    XDP_DROP
}

#[classifier]
pub fn test_shoot(_ctx: TcContext) -> i32 {
    count(&DROPPED, 0);
    TC_ACT_SHOT
}

#[inline(always)]
fn random() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_prandom_u32() }
}

/// What a checksum has to take in when a word becomes another one (RFC 1624, equation 3). In whatever order of bytes.
#[inline(always)]
fn difference(before: u32, after: u32) -> u32 {
    (!before >> 16) + (!before & 0xffff) + (after >> 16) + (after & 0xffff)
}

#[inline(always)]
fn mended(checksum: u16, changed: u32) -> u16 {
    let mut sum = u32::from(!checksum) + changed;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}
