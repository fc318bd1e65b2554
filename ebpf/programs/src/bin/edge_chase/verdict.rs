//! The decision. What costs least comes first: while no address has moved lately, a packet costs a look into an array.
//!
//! A connection is ours if the kernel has a socket for it, be it an embryonic or a dying one, or if its SYN came here.
//! Whatever else arrives for our ports at an address that moved is the previous holder's, a RST or a FIN as well: if that
//! does not know it either, it answers the client as this node would have.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::programs::TcContext;
use constellation_ebpf_abi::chase::{Config, Previous, Verdict, hops_left};
use constellation_ebpf_abi::guard::port_bit;
use constellation_ebpf_abi::steer::{TCP, V6};
use constellation_ebpf_programs::headers::{IPV4, IPV6, Obstacle, Transport, destination, source, transport};
use constellation_ebpf_programs::packet::{Packet, protocol};

use crate::flow::Flow;
use crate::forward::Route;
use crate::maps::{CHASE_CONFIG, CHASE_MOVED, CHASE_PORTS};

const VLAN: u16 = 0x8100;
const PROVIDER_VLAN: u16 = 0x88a8;
/// Where the network header is: tags of VLANs are not behind it here.
pub const NETWORK: usize = 14;

const PACKET_HOST: u32 = 0;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// Bytes of a TCP header up to the flags.
const TCP_FLAGS_END: usize = 14;

const ICMP: u8 = 1;
const ICMP6: u8 = 58;
/// Bytes of an ICMP error before the packet that it is about.
const ICMP_HEADER: usize = 8;

/// What becomes of a packet.
pub enum Decision {
    Pass(Verdict),
    Chase(Verdict, Route),
}

/// A packet for an address that moved.
struct Moved {
    client: [u8; 16],
    address: [u8; 16],
    is_v6: bool,
}

/// What a packet says about a connection.
enum About {
    /// It is to begin, with this sequence number.
    Syn(u32),
    /// It goes on or ends, with this one.
    Segment(u32),
    /// What was sent to the client did not arrive.
    Error,
}

macro_rules! field {
    ($ctx:expr, $field:ident) => {{
        let skb: *const __sk_buff = $ctx.as_ptr().cast();
        // SAFETY: the context is the kernel's. One load of its own, as everywhere with contexts.
        unsafe { (&raw const (*skb).$field).read_volatile() }
    }};
}

#[inline(always)]
pub fn decide(ctx: &TcContext) -> Decision {
    let Some(config) = CHASE_CONFIG.get(0) else {
        return Decision::Pass(Verdict::Idle);
    };
    if config.until == 0 {
        return Decision::Pass(Verdict::Idle);
    }
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if now >= config.until {
        return Decision::Pass(Verdict::Idle);
    }
    let mut packet = Packet::of_skb(ctx);
    let mut judged = Err(Verdict::Malformed);
    for _ in 0..2 {
        judged = judge(ctx, &packet, config, now);
        // Once more where headers were missing only because they lie elsewhere.
        if !matches!(judged, Err(Verdict::Malformed)) || !packet.gather(ctx) {
            break;
        }
    }
    match judged {
        Ok((verdict, route)) => Decision::Chase(verdict, route),
        Err(verdict) => Decision::Pass(verdict),
    }
}

/// Where the packet goes and why, or why it stays.
#[inline(always)]
fn judge(ctx: &TcContext, packet: &Packet, config: &Config, now: u64) -> Result<(Verdict, Route), Verdict> {
    if field!(ctx, pkt_type) != PACKET_HOST {
        return Err(Verdict::NotHost);
    }
    let kind = protocol(ctx);
    if field!(ctx, vlan_present) != 0 || kind == VLAN || kind == PROVIDER_VLAN {
        return Err(Verdict::Tagged);
    }
    if kind != IPV4 && kind != IPV6 {
        return Err(Verdict::NotIp);
    }
    let source = source(packet, kind, NETWORK).map_err(because_of)?;
    let address = destination(packet, source.is_v6, NETWORK).ok_or(Verdict::Malformed)?;
    let previous = CHASE_MOVED.get(Key::new(128, address)).ok_or(Verdict::NotMoved)?;
    if source.is_v6 && previous.family != u32::from(V6) {
        // An IPv4 address within IPv6, which nobody sends in good faith.
        return Err(Verdict::NotMoved);
    }
    if now >= previous.until {
        return Err(Verdict::Expired);
    }
    let moved = Moved {
        client: source.address,
        address,
        is_v6: source.is_v6,
    };
    let transport = transport(packet, moved.is_v6, NETWORK).map_err(because_of)?;
    if transport.is_first_fragment {
        return Err(Verdict::Fragment);
    }
    let (flow, about) = match (transport.protocol, moved.is_v6) {
        (TCP, _) => segment(packet, &transport, &moved)?,
        (ICMP, false) | (ICMP6, true) => error(packet, &transport, &moved)?,
        _ => return Err(Verdict::NotTcp),
    };
    if !is_ours(flow.port) {
        return Err(Verdict::NotPort);
    }
    if let About::Syn(sequence) = about {
        flow.remember_syn(config.seed, sequence);
        return Err(Verdict::Opening);
    }
    if flow.is_known(ctx, moved.is_v6) {
        return Err(Verdict::Known);
    }
    let verdict = match about {
        About::Segment(sequence) if flow.had_syn(config.seed, sequence.wrapping_sub(1)) => {
            return Err(Verdict::Awaited);
        }
        About::Error => Verdict::ChasedError,
        _ => Verdict::Chased,
    };
    route(packet, moved.is_v6, previous).map(|route| (verdict, route))
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

#[inline(always)]
fn segment(packet: &Packet, transport: &Transport, moved: &Moved) -> Result<(Flow, About), Verdict> {
    let header: [u8; TCP_FLAGS_END] = packet.read(transport.offset).ok_or(Verdict::Malformed)?;
    let flow = Flow {
        client: moved.client,
        address: moved.address,
        client_port: [header[0], header[1]],
        port: [header[2], header[3]],
    };
    let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let about = if header[13] & (SYN | ACK | RST) == SYN {
        About::Syn(sequence)
    } else {
        About::Segment(sequence)
    };
    Ok((flow, about))
}

/// An error that a router reports about what the previous holder has sent: without "fragmentation needed" and "packet too
/// big" its connections would hang.
#[inline(always)]
fn error(packet: &Packet, transport: &Transport, moved: &Moved) -> Result<(Flow, About), Verdict> {
    let [kind, _]: [u8; 2] = packet.read(transport.offset).ok_or(Verdict::Malformed)?;
    let is_error = if moved.is_v6 {
        // Unreachable, too big, time exceeded, parameter problem.
        matches!(kind, 1..=4)
    } else {
        // Unreachable, time exceeded, parameter problem.
        matches!(kind, 3 | 11 | 12)
    };
    if !is_error {
        return Err(Verdict::NotTcp);
    }
    // Sent from the address to the client.
    let inner = transport.offset + ICMP_HEADER;
    let network = if moved.is_v6 { IPV6 } else { IPV4 };
    let sender = source(packet, network, inner).map_err(because_of)?;
    let client = destination(packet, moved.is_v6, inner).ok_or(Verdict::Malformed)?;
    if sender.address != moved.address {
        return Err(Verdict::NotTcp);
    }
    let (inner_protocol, length) = if moved.is_v6 {
        // What the kernel sends for TCP has no extension headers.
        let [next, _]: [u8; 2] = packet.read(inner + 6).ok_or(Verdict::Malformed)?;
        (next, 40)
    } else {
        let header: [u8; 10] = packet.read(inner).ok_or(Verdict::Malformed)?;
        (header[9], usize::from(header[0] & 0x0f) * 4)
    };
    if inner_protocol != TCP {
        return Err(Verdict::NotTcp);
    }
    let ports: [u8; 4] = packet.read(inner + length).ok_or(Verdict::Malformed)?;
    let flow = Flow {
        client,
        address: moved.address,
        client_port: [ports[2], ports[3]],
        port: [ports[0], ports[1]],
    };
    Ok((flow, About::Error))
}

#[inline(always)]
fn is_ours(port: [u8; 2]) -> bool {
    let (word, bit) = port_bit(TCP, u16::from_be_bytes(port));
    CHASE_PORTS.get(word).is_some_and(|bits| bits & bit != 0)
}

/// The way to the previous holder, if the packet may still take it.
#[inline(always)]
fn route(packet: &Packet, is_v6: bool, previous: &Previous) -> Result<Route, Verdict> {
    let (at, protocol) = if is_v6 {
        (NETWORK + 7, 0)
    } else {
        let [_, protocol]: [u8; 2] = packet.read(NETWORK + 8).ok_or(Verdict::Malformed)?;
        (NETWORK + 8, protocol)
    };
    let [hop_limit, _]: [u8; 2] = packet.read(at).ok_or(Verdict::Malformed)?;
    let hops = hops_left(hop_limit).ok_or(Verdict::HopLimit)?;
    Ok(Route {
        is_v6,
        protocol,
        hop_limit,
        hops,
        device: previous.device,
        family: previous.family,
        address: previous.address,
    })
}
