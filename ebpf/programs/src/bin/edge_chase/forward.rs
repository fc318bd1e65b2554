//! Sending a packet to the previous holder: the hop limit goes down, and the kernel puts the frame's addresses in, asking
//! the network for them where it has to. To a neighbour and never by a route, so that no router can send it back.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{TC_ACT_REDIRECT, bpf_redir_neigh, bpf_redir_neigh__bindgen_ty_1};
use aya_ebpf::helpers::generated::{bpf_l3_csum_replace, bpf_redirect_neigh, bpf_skb_store_bytes};
use aya_ebpf::programs::TcContext;
use constellation_ebpf_abi::steer;

use crate::verdict::NETWORK;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
/// `BPF_F_RECOMPUTE_CSUM`: what a network card has summed up is corrected.
const RECOMPUTE_CSUM: u64 = 1;

/// How a packet goes on.
pub struct Route {
    pub is_v6: bool,
    /// The field behind an IPv4 packet's TTL, in whose word the checksum changes.
    pub protocol: u8,
    pub hop_limit: u8,
    pub hops: u8,
    pub device: u32,
    pub family: u32,
    pub address: [u8; 16],
}

/// The program's answer that sends the packet on its way; nothing when the kernel refused.
#[inline(always)]
pub fn forward(ctx: &TcContext, route: &Route) -> Option<i32> {
    lower_hop_limit(ctx, route)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = route.address;
    let (family, next_hop) = if route.family == u32::from(steer::V6) {
        let words = [
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
        ];
        (AF_INET6, words)
    } else {
        (AF_INET, [u32::from_ne_bytes([a, b, c, d]), 0, 0, 0])
    };
    let mut neighbour = bpf_redir_neigh {
        nh_family: family,
        // IPv4's address takes the first word.
        __bindgen_anon_1: bpf_redir_neigh__bindgen_ty_1 { ipv6_nh: next_hop },
    };
    let size = size_of::<bpf_redir_neigh>() as i32;
    // SAFETY: the parameters are on the stack, and as long as said.
    let action = unsafe { bpf_redirect_neigh(route.device, &raw mut neighbour, size, 0) } as i32;
    (action == TC_ACT_REDIRECT).then_some(action)
}

#[inline(always)]
fn lower_hop_limit(ctx: &TcContext, route: &Route) -> Option<()> {
    let skb = ctx.as_ptr().cast();
    let hops = route.hops;
    let at = if route.is_v6 { NETWORK + 7 } else { NETWORK + 8 } as u32;
    // SAFETY: the context is the kernel's, and so are the checks whether the packet is that long.
    unsafe {
        if !route.is_v6 {
            let before = u16::from_ne_bytes([route.hop_limit, route.protocol]);
            let after = u16::from_ne_bytes([hops, route.protocol]);
            let checksum = NETWORK as u32 + 10;
            if bpf_l3_csum_replace(skb, checksum, before.into(), after.into(), 2) != 0 {
                return None;
            }
            // What a card has summed up over the packet is right as it was: the two changes cancel each other out.
            return (bpf_skb_store_bytes(skb, at, (&raw const hops).cast(), 1, 0) == 0).then_some(());
        }
        (bpf_skb_store_bytes(skb, at, (&raw const hops).cast(), 1, RECOMPUTE_CSUM) == 0).then_some(())
    }
}
