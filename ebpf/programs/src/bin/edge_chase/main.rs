//! `edge_chase`: packets of connections that this node does not know, to an address that came here from another node, go on
//! to that node, asked for every packet that comes in.
//!
//! The packet stays as it is but for its hop limit, and the previous holder, which still has the address to itself,
//! answers the client directly. So both have to be at one Ethernet network.
#![no_std]
#![no_main]

mod flow;
mod forward;
mod maps;
mod verdict;

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use constellation_ebpf_abi::chase::Verdict;
use constellation_ebpf_programs::{count, license};

use crate::forward::forward;
use crate::maps::CHASE_STATS;
use crate::verdict::{Decision, decide};

license!();

/// TCX or clsact, on a device with Ethernet headers, behind `edge_guard`.
#[classifier]
pub fn edge_chase(ctx: TcContext) -> i32 {
    let (verdict, action) = match decide(&ctx) {
        // Not `TC_ACT_OK`: programs after this one have their say.
        Decision::Pass(verdict) => (verdict, TC_ACT_UNSPEC),
        Decision::Chase(verdict, route) => match forward(&ctx, &route) {
            Some(action) => (verdict, action),
            None => (Verdict::Failed, TC_ACT_SHOT),
        },
    };
    count(&CHASE_STATS, verdict as u32);
    action
}
