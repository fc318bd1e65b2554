//! Every verdict of `edge_guard`, by each of its three programs, on made-up packets.

use std::net::{IpAddr, Ipv6Addr};

use constellation_ebpf_loader::abi::guard::Verdict;
use constellation_ebpf_loader::guard::{Ban, Limits, Program, Rate};
use constellation_ebpf_loader::steering::Protocol;
use constellation_ebpf_loader::{Guard, Lock, Namespace, detach};
use constellation_tests::require;
use ipnet::IpNet;

use crate::packets::{
    ACK, ICMP, SYN, TCP, UDP, ethernet, ethernet_of, extension, fragment, tcp, udp, v4, v4_with, v6,
};
use crate::sandbox;

const VLAN: u16 = 0x8100;
const PROVIDER_VLAN: u16 = 0x88a8;

pub(crate) fn guard() -> Guard {
    Guard::open(&Lock::take(&Namespace::current().unwrap()).unwrap()).unwrap()
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn forever(reason: u32) -> Ban {
    Ban { reason, until: None }
}

/// A guard with something on every list. Limits are set by tests that want them.
fn with_lists() -> Guard {
    let mut guard = guard();
    guard
        .set_guarded_ports(&[(Protocol::Tcp, 443), (Protocol::Udp, 53)])
        .unwrap();
    guard.deny(net("8.0.1.0/24"), forever(7)).unwrap();
    guard.deny(net("2001:db8:86dd:1::/64"), forever(8)).unwrap();
    guard.allow(net("8.0.1.9/32")).unwrap();
    guard.allow(net("2001:db8:86dd:1::9/128")).unwrap();
    guard
}

/// Runs a packet, and says which counter went up by it and whether the packet went on.
fn judge(guard: &mut Guard, program: Program, packet: &[u8]) -> (Verdict, bool) {
    let before = guard.stats().unwrap();
    let outcome = guard
        .test(program, packet, 1)
        .unwrap_or_else(|error| panic!("{error}: {packet:02x?}"));
    let after = guard.stats().unwrap();
    let mut counted = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before.1 != after.1);
    let (_, (verdict, _)) = counted.next().expect("one counter goes up");
    assert_eq!(counted.count(), 0, "no other one does");
    (*verdict, outcome.passed)
}

/// The same for an IP packet: with an Ethernet header where the program expects one.
pub(crate) fn judge_ip(guard: &mut Guard, program: Program, packet: &[u8]) -> (Verdict, bool) {
    match program {
        Program::L3 => judge(guard, program, packet),
        Program::L2 | Program::Xdp => judge(guard, program, &ethernet(&[], packet)),
    }
}

/// Whether the kernel runs a TC program on this in a test: it wants a whole IP header behind the Ethernet header, which
/// it takes to be there whatever the program thinks. XDP programs, which judge alike, run on anything.
fn is_runnable(program: Program, packet: &[u8]) -> bool {
    let length = packet.len() + if program == Program::L2 { 14 } else { 0 };
    let is_v6 = packet[0] >> 4 == 6;
    program == Program::Xdp || length >= 14 + if is_v6 { 40 } else { 20 }
}

#[test]
fn every_verdict_of_a_packet() {
    let syn = tcp(443, SYN);
    let from = [0, 1];
    let denied = [1, 1];
    let padding = [0; 14];
    let cases: Vec<(&str, Vec<u8>, Verdict)> = vec![
        ("SYN", v4(from, TCP, &syn), Verdict::SynAdmitted),
        (
            "SYN with ECN",
            v4(from, TCP, &tcp(443, SYN | 0xc0)),
            Verdict::SynAdmitted,
        ),
        (
            "SYN with FIN",
            v4(from, TCP, &tcp(443, SYN | 1)),
            Verdict::SynAdmitted,
        ),
        (
            "SYN to a port that is not guarded",
            v4(from, TCP, &tcp(22, SYN)),
            Verdict::Passed,
        ),
        (
            "SYN and ACK",
            v4(from, TCP, &tcp(443, SYN | ACK)),
            Verdict::Passed,
        ),
        ("ACK", v4(from, TCP, &tcp(443, ACK)), Verdict::Passed),
        (
            "SYN behind options",
            v4_with(from, TCP, 0, &[1; 40], &syn),
            Verdict::SynAdmitted,
        ),
        ("UDP", v4(from, UDP, &udp(1000, 53)), Verdict::FlowAdmitted),
        ("UDP again", v4(from, UDP, &udp(1000, 53)), Verdict::FlowKnown),
        (
            "UDP of another flow",
            v4(from, UDP, &udp(1001, 53)),
            Verdict::FlowAdmitted,
        ),
        (
            "UDP to a port that is not guarded",
            v4(from, UDP, &udp(1000, 443)),
            Verdict::Passed,
        ),
        ("ICMP", v4(from, ICMP, &[8; 40]), Verdict::Passed),
        ("denied", v4(denied, TCP, &syn), Verdict::Denied),
        ("denied, ICMP", v4(denied, ICMP, &[8; 40]), Verdict::Denied),
        (
            "denied, to a port that is not guarded",
            v4(denied, TCP, &tcp(22, ACK)),
            Verdict::Denied,
        ),
        (
            "denied, a later fragment",
            v4_with(denied, UDP, 100, &[], &[0; 40]),
            Verdict::Denied,
        ),
        (
            "denied but allowed",
            v4([1, 9], TCP, &tcp(22, ACK)),
            Verdict::Allowed,
        ),
        (
            "later fragment",
            v4_with(from, TCP, 100, &[], &[0; 40]),
            Verdict::Fragment,
        ),
        (
            "last fragment",
            v4_with(from, UDP, 0x1fff, &[], &[0; 40]),
            Verdict::Fragment,
        ),
        (
            "first fragment",
            v4_with(from, TCP, 0x2000, &[], &syn),
            Verdict::SynAdmitted,
        ),
        (
            "first fragment without flags",
            v4_with(from, TCP, 0x2000, &[], &syn[..8]),
            Verdict::TinyFragment,
        ),
        (
            "first fragment without ports",
            v4_with(from, UDP, 0x2000, &[], &[0; 3]),
            Verdict::TinyFragment,
        ),
        (
            "TCP that ends early",
            v4(from, TCP, &syn[..13]),
            Verdict::Malformed,
        ),
        ("UDP that ends early", v4(from, UDP, &[0; 3]), Verdict::Malformed),
        (
            "a header of four words",
            [&[0x44][..], &v4(from, TCP, &syn)[1..]].concat(),
            Verdict::Malformed,
        ),
        (
            "options beyond the end",
            [&[0x4f][..], &v4(from, TCP, &syn)[1..]].concat(),
            Verdict::Malformed,
        ),
        // The type says IPv4 in all framings, the first byte does not.
        (
            "no version",
            [&[0x05][..], &v4(from, TCP, &syn)[1..]].concat(),
            Verdict::Malformed,
        ),
        (
            "half an IPv4 header",
            v4(from, TCP, &syn)[..15].to_vec(),
            Verdict::Malformed,
        ),
        ("IPv6 SYN", v6(0, 1, TCP, &syn), Verdict::SynAdmitted),
        (
            "IPv6 SYN to a port that is not guarded",
            v6(0, 1, TCP, &tcp(22, SYN)),
            Verdict::Passed,
        ),
        ("IPv6 UDP", v6(0, 1, UDP, &udp(1000, 53)), Verdict::FlowAdmitted),
        (
            "IPv6 UDP again",
            v6(0, 1, UDP, &udp(1000, 53)),
            Verdict::FlowKnown,
        ),
        ("ICMPv6", v6(0, 1, 58, &[128; 40]), Verdict::Passed),
        ("IPv6 denied", v6(1, 1, TCP, &syn), Verdict::Denied),
        ("IPv6 denied but allowed", v6(1, 9, TCP, &syn), Verdict::Allowed),
        ("IPv6 no next header", v6(0, 1, 59, &[0; 40]), Verdict::Passed),
        (
            "hop by hop",
            v6(0, 1, 0, &extension(TCP, 0, &syn)),
            Verdict::SynAdmitted,
        ),
        (
            "hop by hop, routing, destination",
            v6(
                0,
                1,
                0,
                &extension(43, 1, &extension(60, 2, &extension(TCP, 0, &syn))),
            ),
            Verdict::SynAdmitted,
        ),
        // An authentication header counts in words of four bytes; 24 bytes are 4 of them beyond the first 8.
        (
            "authenticated",
            v6(0, 1, 51, &[&[TCP, 4][..], &[0; 22], &syn].concat()),
            Verdict::SynAdmitted,
        ),
        (
            "IPv6 later fragment",
            v6(0, 1, 44, &fragment(TCP, 8, &[0; 40])),
            Verdict::Fragment,
        ),
        (
            "IPv6 first fragment",
            v6(0, 1, 44, &fragment(TCP, 1, &syn)),
            Verdict::SynAdmitted,
        ),
        (
            "IPv6 tiny fragment",
            v6(0, 1, 44, &fragment(TCP, 1, &syn[..8])),
            Verdict::TinyFragment,
        ),
        (
            "IPv6 fragment of one",
            v6(0, 1, 44, &fragment(TCP, 0, &syn[..8])),
            Verdict::Malformed,
        ),
        (
            "too many headers",
            v6(
                0,
                1,
                60,
                &(0..9).fold(syn.clone(), |inner, depth| {
                    extension(if depth == 0 { TCP } else { 60 }, 0, &inner)
                }),
            ),
            Verdict::Overlong,
        ),
        (
            "too long a header",
            v6(0, 1, 60, &extension(TCP, 40, &syn)),
            Verdict::Overlong,
        ),
        (
            "too long, but allowed",
            v6(1, 9, 60, &extension(TCP, 40, &syn)),
            Verdict::Allowed,
        ),
        (
            "a header beyond the end",
            v6(0, 1, 60, &[TCP]),
            Verdict::Malformed,
        ),
        (
            "IPv6 TCP that ends early",
            v6(0, 1, TCP, &syn[..13]),
            Verdict::Malformed,
        ),
        (
            "half an IPv6 header",
            v6(0, 1, TCP, &syn)[..20].to_vec(),
            Verdict::Malformed,
        ),
    ];
    require!(sandbox::run(|| {
        for program in Program::ALL {
            // Each program with maps of its own: known flows and buckets are shared.
            let mut guard = with_lists();
            let mut skipped = 0;
            for (what, packet, verdict) in &cases {
                if !is_runnable(program, packet) {
                    skipped += 1;
                    continue;
                }
                let judged = judge_ip(&mut guard, program, packet);
                assert_eq!(judged, (*verdict, verdict.passes()), "{what}, {program:?}");
            }
            assert!(
                skipped < if program == Program::L3 { 12 } else { 4 },
                "{skipped}, {program:?}"
            );
            drop(guard);
            detach(&Lock::take(&Namespace::current().unwrap()).unwrap()).unwrap();
        }
        // What only an Ethernet header can say.
        let mut guard = with_lists();
        for program in [Program::L2, Program::Xdp] {
            let framed = |tags: &[u16]| ethernet(tags, &v4(from, TCP, &syn));
            let cases = [
                ("one tag", framed(&[VLAN]), Verdict::SynAdmitted),
                ("two tags", framed(&[PROVIDER_VLAN, VLAN]), Verdict::SynAdmitted),
                (
                    "denied behind a tag",
                    ethernet(&[VLAN], &v4(denied, TCP, &syn)),
                    Verdict::Denied,
                ),
                (
                    "denied behind two",
                    ethernet(&[VLAN, VLAN], &v6(1, 1, TCP, &syn)),
                    Verdict::Denied,
                ),
                (
                    "three tags are nobody's",
                    framed(&[VLAN, VLAN, VLAN]),
                    Verdict::NotIp,
                ),
                ("ARP", ethernet_of(&[], [0x08, 0x06], &padding), Verdict::NotIp),
                (
                    "IPv4 by the type, IPv6 by the version",
                    ethernet_of(&[], [0x08, 0], &v6(0, 1, TCP, &syn)),
                    Verdict::Malformed,
                ),
                (
                    "a tag and nothing behind it",
                    ethernet_of(&[], [0x81, 0], &[0]),
                    Verdict::Malformed,
                ),
                (
                    "nothing behind the type",
                    ethernet_of(&[], [0x08, 0], &[]),
                    Verdict::Malformed,
                ),
            ];
            for (what, frame, verdict) in cases {
                if program == Program::L2 && frame.len() < 34 {
                    continue;
                }
                assert_eq!(
                    judge(&mut guard, program, &frame),
                    (verdict, verdict.passes()),
                    "{what}, {program:?}"
                );
            }
        }
    }));
}

/// Sends until something is limited; says how many were admitted before.
fn admitted(guard: &mut Guard, program: Program, packet: impl Fn(u16) -> Vec<u8>, limited: Verdict) -> usize {
    for sent in 0..500 {
        let (verdict, _) = judge_ip(guard, program, &packet(u16::try_from(sent).unwrap()));
        if verdict == limited {
            return sent;
        }
    }
    panic!("500 packets, and no {limited:?}");
}

#[test]
fn sources_have_buckets_of_their_own() {
    require!(sandbox::run(|| {
        for program in Program::ALL {
            let mut guard = with_lists();
            let rate = Rate {
                per_second: 1,
                burst: 20,
            };
            guard
                .set_limits(&Limits {
                    connections: rate,
                    flows: rate,
                    ..Limits::default()
                })
                .unwrap();
            let syn = |from| move |_| v4(from, TCP, &tcp(443, SYN));
            // At least the burst; more only for the seconds that this takes.
            let first = admitted(&mut guard, program, syn([0, 1]), Verdict::SynLimited);
            assert!((20..60).contains(&first), "{first}, {program:?}");
            let second = admitted(&mut guard, program, syn([0, 2]), Verdict::SynLimited);
            assert!((20..60).contains(&second), "another source has its own: {second}");
            let flows = admitted(
                &mut guard,
                program,
                |port| v4([0, 1], UDP, &udp(port, 53)),
                Verdict::FlowLimited,
            );
            assert!((20..60).contains(&flows), "so have flows: {flows}");
            // A flow that was admitted goes on, and so does whatever is not limited.
            let go_on = [
                (v4([0, 1], UDP, &udp(0, 53)), Verdict::FlowKnown),
                (v4([0, 1], TCP, &tcp(443, ACK)), Verdict::Passed),
                (v4([0, 1], TCP, &tcp(22, SYN)), Verdict::Passed),
            ];
            for (packet, verdict) in go_on {
                assert_eq!(
                    judge_ip(&mut guard, program, &packet),
                    (verdict, true),
                    "{program:?}"
                );
            }
            // Neighbours in a /64 share a bucket, as one of them could have all of its addresses.
            let shared = admitted(
                &mut guard,
                program,
                |host| v6(2, host, TCP, &tcp(443, SYN)),
                Verdict::SynLimited,
            );
            assert!((20..60).contains(&shared), "{shared}");
            let apart = v6(3, 1, TCP, &tcp(443, SYN));
            assert_eq!(
                judge_ip(&mut guard, program, &apart),
                (Verdict::SynAdmitted, true)
            );
            // The allow list overrules limits.
            guard.allow(net("8.0.0.1/32")).unwrap();
            let allowed = admitted(&mut guard, program, syn([0, 1]), Verdict::Allowed);
            assert!(allowed < 60);
            drop(guard);
            detach(&Lock::take(&Namespace::current().unwrap()).unwrap()).unwrap();
        }
    }));
}

#[test]
fn events_are_rare_and_say_who_and_why() {
    require!(sandbox::run(|| {
        let mut guard = with_lists();
        let rate = Rate {
            per_second: 1,
            burst: 5,
        };
        let limits = Limits {
            connections: rate,
            events: Rate {
                per_second: 1,
                burst: 50,
            },
            ..Limits::default()
        };
        guard.set_limits(&limits).unwrap();
        guard.allow(net("8.0.2.9/32")).unwrap();
        let mut events = guard.events().unwrap();
        assert!(guard.events().is_err(), "one reader");
        for _ in 0..100 {
            judge_ip(&mut guard, Program::L2, &v4([1, 1], ICMP, &[8; 40]));
            judge_ip(&mut guard, Program::L3, &v6(1, 1, TCP, &tcp(443, SYN)));
            judge_ip(&mut guard, Program::Xdp, &v4([0, 1], TCP, &tcp(443, SYN)));
            // On the allow list: nothing to tell.
            judge_ip(&mut guard, Program::L2, &v4([1, 9], ICMP, &[8; 40]));
            judge_ip(&mut guard, Program::L2, &v4([2, 9], TCP, &tcp(443, SYN)));
        }
        let told: Vec<_> = events.by_ref().collect();
        assert_eq!(told.len(), 3, "one each: {told:?}");
        let v6_source: Ipv6Addr = "2001:db8:86dd:1::1".parse().unwrap();
        assert_eq!(
            (told[0].verdict, told[0].reason, told[0].port),
            (Verdict::Denied, 7, None)
        );
        assert_eq!(told[0].source, IpAddr::from([8, 0, 1, 1]));
        assert_eq!((told[1].verdict, told[1].reason), (Verdict::Denied, 8));
        assert_eq!(told[1].source, v6_source);
        assert_eq!(
            (told[2].verdict, told[2].reason, told[2].port),
            (Verdict::SynLimited, 0, Some((6, 443)))
        );
        assert_eq!(told[2].source, IpAddr::from([8, 0, 0, 1]));

        // A thousand bans are hit at once: what is told is bounded all the same.
        for d in 0..=255 {
            for c in 16..20 {
                guard.deny(net(&format!("8.0.{c}.{d}/32")), forever(9)).unwrap();
            }
        }
        for d in 0..=255 {
            for c in 16..20 {
                judge_ip(&mut guard, Program::Xdp, &v4([c, d], ICMP, &[8; 40]));
            }
        }
        let told = events.by_ref().count();
        assert!((40..200).contains(&told), "{told} of 1024");
    }));
}
