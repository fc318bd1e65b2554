//! `edge_guard`: whose packets come in, asked for every packet before the network stack has done anything with it.
//!
//! One decision ([`judge`]), and three programs that differ in where they hang and in what a packet begins with.
#![no_std]
#![no_main]

mod limit;
mod maps;
mod tell;
mod verdict;

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use constellation_ebpf_abi::guard::Verdict;
use constellation_ebpf_programs::headers::network_header;
use constellation_ebpf_programs::packet::{self, Packet};
use constellation_ebpf_programs::{count, license};

use crate::maps::GUARD_STATS;
use crate::verdict::judge;

license!();

/// TCX or clsact, on a device with Ethernet headers.
#[classifier]
pub fn edge_guard_l2(ctx: TcContext) -> i32 {
    tc(&ctx, |packet| match network_header(packet) {
        Some((kind, offset)) => judge(packet, kind, offset),
        None => Verdict::Malformed,
    })
}

/// TCX or clsact, on a device without: the kernel says what the packet is.
#[classifier]
pub fn edge_guard_l3(ctx: TcContext) -> i32 {
    tc(&ctx, |packet| judge(packet, packet::protocol(&ctx), 0))
}

/// XDP, in the driver, before there is a socket buffer.
#[xdp(frags)]
pub fn edge_guard_xdp(ctx: XdpContext) -> u32 {
    let packet = Packet::of_frame(&ctx);
    let verdict = match network_header(&packet) {
        Some((kind, offset)) => judge(&packet, kind, offset),
        None => Verdict::Malformed,
    };
    count(&GUARD_STATS, verdict as u32);
    if verdict.passes() {
        xdp_action::XDP_PASS
    } else {
        xdp_action::XDP_DROP
    }
}

/// Judges a socket buffer, once more where headers were missing only because they lie elsewhere.
#[inline(always)]
fn tc(ctx: &TcContext, judge: impl Fn(&Packet) -> Verdict) -> i32 {
    let mut packet = Packet::of_skb(ctx);
    let mut verdict = Verdict::Malformed;
    for _ in 0..2 {
        verdict = judge(&packet);
        // Neither comes from a packet whose headers are there, so nothing was counted against anybody.
        if !matches!(verdict, Verdict::Malformed | Verdict::TinyFragment) || !packet.gather(ctx) {
            break;
        }
    }
    count(&GUARD_STATS, verdict as u32);
    if verdict.passes() {
        // Not `TC_ACT_OK`: programs after this one have their say.
        TC_ACT_UNSPEC
    } else {
        TC_ACT_SHOT
    }
}
