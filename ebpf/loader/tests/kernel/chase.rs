//! Every verdict of `edge_chase`, on made-up frames, and how a chase begins and ends.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use constellation_ebpf_loader::abi::chase::{MAX_HOPS, Verdict};
use constellation_ebpf_loader::chase::{Action, Previous};
use constellation_ebpf_loader::{BootTime, Chase, Error, Lock, Namespace, Origin, detach, status};
use constellation_tests::require;
use ipnet::IpNet;

use crate::chase_cases::{of_both_families, of_one_family};
use crate::packets::{ACK, ICMP, SYN, TCP, ethernet, ethernet_of, extension, v4_with, v6};
use crate::sandbox::{self, SERVICE};
use crate::sockets::{PATIENCE, for_long};

pub(crate) const ICMP6: u8 = 58;
pub(crate) const FIN: u8 = 0x01;
pub(crate) const RST: u8 = 0x04;

/// What moved, and what moved so long ago that it is over.
pub(crate) const MOVED4: &str = "10.0.0.1";
pub(crate) const MOVED6: &str = "fd00::1";
pub(crate) const EXPIRED: &str = "10.0.9.1";
/// A port of ours.
pub(crate) const PORT: u16 = 443;
pub(crate) const CLIENT4: &str = "198.51.100.7:5000";
pub(crate) const CLIENT6: &str = "[2001:db8::7]:5000";

/// A device at whose networks the previous holder is.
pub(crate) const NETWORK: &[&str] = &[
    "link add edge type veth peer name other",
    "addr add 10.9.0.1/24 dev edge",
    "addr add fd09::1/64 dev edge nodad",
    "addr add 10.0.0.1/32 dev lo",
    "addr add fd00::1/128 dev lo nodad",
    "link set edge up",
];

pub(crate) fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn net(address: &str) -> IpNet {
    let address: IpAddr = address.parse().unwrap();
    address.into()
}

fn previous(address: &str, until: BootTime) -> Previous {
    Previous {
        address: address.parse().unwrap(),
        until,
    }
}

pub(crate) fn chase() -> Chase {
    Chase::open(&Lock::take(&Namespace::current().unwrap()).unwrap()).unwrap()
}

/// With everything that a test of packets needs.
pub(crate) fn chasing() -> Chase {
    let mut chase = chase();
    chase.attach("edge").unwrap();
    chase.set_ports(&[80, PORT]).unwrap();
    chase
        .set_previous(net(MOVED4), Some(previous("10.9.0.2", for_long())))
        .unwrap();
    chase
        .set_previous(net(MOVED6), Some(previous("fd09::2", for_long())))
        .unwrap();
    chase
        .set_previous(net(EXPIRED), Some(previous("10.9.0.2", BootTime::from_nanos(1))))
        .unwrap();
    chase
}

/// A frame as the loopback device takes it: addressed to its own address, which is all zeros.
pub(crate) fn frame(packet: &[u8]) -> Vec<u8> {
    to_host(ethernet(&[], packet))
}

fn to_host(mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].fill(0);
    frame
}

/// A TCP header.
pub(crate) fn segment(from: u16, to: u16, flags: u8, sequence: u32) -> Vec<u8> {
    let mut header = Vec::from(from.to_be_bytes());
    header.extend(to.to_be_bytes());
    header.extend(sequence.to_be_bytes());
    header.extend([0; 4]);
    header.extend([0x50, flags]);
    header.extend([0; 6]);
    header
}

/// An IP packet between two addresses. IPv4's checksum is right.
pub(crate) fn packet(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    packet_with(from, to, protocol, 0, &[], payload)
}

pub(crate) fn packet_with(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    fragment: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut packet = v4_with([0, 0], protocol, fragment, options, payload);
            packet[12..16].copy_from_slice(&from.octets());
            packet[16..20].copy_from_slice(&to.octets());
            let sum = checksum(&packet[..20 + options.len()]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            packet
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut packet = v6(0, 0, protocol, payload);
            packet[8..24].copy_from_slice(&from.octets());
            packet[24..40].copy_from_slice(&to.octets());
            packet
        }
        _ => panic!("{from} and {to} are of two families"),
    }
}

/// The checksum over a header; 0 over one that has it (RFC 1071).
pub(crate) fn checksum(header: &[u8]) -> u16 {
    let sum: u32 = header
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()
}

/// A segment of a connection.
pub(crate) fn tcp(from: &str, to: &str, port: u16, flags: u8, sequence: u32) -> Vec<u8> {
    let from = at(from);
    let to: IpAddr = to.parse().unwrap();
    packet(from.ip(), to, TCP, &segment(from.port(), port, flags, sequence))
}

/// An ICMP error of a router about a packet.
pub(crate) fn error(to: &str, kind: u8, about: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 4, 0, 0, 0, 0, 5, 0];
    message.extend(about);
    let to: IpAddr = to.parse().unwrap();
    match to {
        IpAddr::V4(_) => packet("192.0.2.1".parse().unwrap(), to, ICMP, &message),
        IpAddr::V6(_) => packet("2001:db8::1".parse().unwrap(), to, ICMP6, &message),
    }
}

/// What went from an address that moved to a client.
pub(crate) fn answer(from: &str, port: u16, to: &str) -> Vec<u8> {
    let to = at(to);
    packet(
        from.parse().unwrap(),
        to.ip(),
        TCP,
        &segment(port, to.port(), ACK, 9),
    )
}

/// Runs a frame, and says which counter went up by it, what is to be done and what the frame is then.
fn judge(chase: &mut Chase, frame: &[u8]) -> (Verdict, Action, Vec<u8>) {
    let before = chase.stats().unwrap();
    let outcome = chase
        .test(frame, 1)
        .unwrap_or_else(|error| panic!("{error}: {frame:02x?}"));
    let after = chase.stats().unwrap();
    let mut counted = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before.1 != after.1);
    let (_, (verdict, _)) = counted.next().expect("one counter goes up");
    assert_eq!(counted.count(), 0, "no other one does");
    (*verdict, outcome.action, outcome.packet)
}

/// The same, and whether the frame is as it has to be: untouched, or with a lower hop limit and nothing else.
fn check(chase: &mut Chase, what: &str, frame: &[u8], expected: Verdict) {
    let (verdict, action, after) = judge(chase, frame);
    assert_eq!(verdict, expected, "{what}");
    if !expected.is_chased() {
        assert_eq!((action, after.as_slice()), (Action::Pass, frame), "{what}");
        return;
    }
    assert_eq!(action, Action::Send, "{what}");
    let mut lowered = frame.to_vec();
    if lowered[14] >> 4 == 4 {
        let header = 14..14 + usize::from(lowered[14] & 0x0f) * 4;
        assert_eq!(checksum(&after[header]), 0, "{what}: the checksum");
        lowered[22] = lowered[22].saturating_sub(1).min(MAX_HOPS);
        lowered[24..26].copy_from_slice(&after[24..26]);
    } else {
        lowered[21] = lowered[21].saturating_sub(1).min(MAX_HOPS);
    }
    assert_eq!(after, lowered, "{what}");
}

#[test]
fn every_verdict_of_a_packet() {
    require!(sandbox::run_with(SERVICE, NETWORK, || {
        let mut chase = chasing();
        let mut seen = BTreeSet::new();
        for (what, packet, verdict) in of_both_families().into_iter().chain(of_one_family()) {
            check(&mut chase, &what, &frame(&packet), verdict);
            seen.insert(verdict.label());
        }
        let ack = tcp(CLIENT4, MOVED4, PORT, ACK, 7000);
        let frames = [
            (
                "ARP",
                to_host(ethernet_of(&[], [0x08, 0x06], &[0; 28])),
                Verdict::NotIp,
            ),
            ("a tag", to_host(ethernet(&[0x8100], &ack)), Verdict::Tagged),
            (
                "two tags",
                to_host(ethernet(&[0x88a8, 0x8100], &ack)),
                Verdict::Tagged,
            ),
            ("for another host", ethernet(&[], &ack), Verdict::NotHost),
            (
                "IPv4 by the type, IPv6 by the version",
                to_host(ethernet_of(&[], [0x08, 0], &tcp(CLIENT6, MOVED6, PORT, ACK, 1))),
                Verdict::Malformed,
            ),
        ];
        for (what, frame, verdict) in frames {
            check(&mut chase, what, &frame, verdict);
            seen.insert(verdict.label());
        }
        // Those that need a connection or a clock have tests of their own, below. No memory for a byte: can't be had.
        let elsewhere = [Verdict::Idle, Verdict::Known, Verdict::Awaited, Verdict::Failed];
        seen.extend(elsewhere.map(Verdict::label));
        assert_eq!(seen.len(), Verdict::ALL.len(), "{seen:?}");
    }));
}

/// Bytes that nobody sends in good faith: whatever the program makes of them, it ends, and sends nothing on that it
/// should not.
#[test]
fn packets_cut_anywhere_or_with_any_byte_changed_do_no_harm() {
    require!(sandbox::run_with(SERVICE, NETWORK, || {
        let mut chase = chasing();
        let samples = [
            tcp(CLIENT4, MOVED4, PORT, ACK, 7000),
            tcp(CLIENT6, MOVED6, PORT, ACK, 7000),
            error(MOVED4, 3, &answer(MOVED4, PORT, CLIENT4)),
            error(MOVED6, 2, &answer(MOVED6, PORT, CLIENT6)),
            packet(
                at(CLIENT6).ip(),
                MOVED6.parse().unwrap(),
                0,
                &extension(TCP, 0, &segment(5000, PORT, ACK, 1)),
            ),
        ];
        for packet in samples {
            let whole = frame(&packet);
            assert!(judge(&mut chase, &whole).0.is_chased());
            // The kernel's test run wants a whole IP header.
            let least = 14 + if packet[0] >> 4 == 4 { 20 } else { 40 };
            for length in least..whole.len() {
                let (verdict, action, _) = judge(&mut chase, &whole[..length]);
                assert_eq!(action == Action::Send, verdict.is_chased(), "cut to {length}");
                assert_ne!(action, Action::Drop);
            }
            for at in 14..whole.len() {
                for bits in [0x01, 0x10, 0x80, 0xff] {
                    let mut changed = whole.clone();
                    changed[at] ^= bits;
                    let (verdict, action, after) = judge(&mut chase, &changed);
                    assert_eq!(
                        action == Action::Send,
                        verdict.is_chased(),
                        "byte {at} xor {bits:#x}"
                    );
                    assert_eq!(after.len(), changed.len());
                    let destination = if packet[0] >> 4 == 4 { 30..34 } else { 38..54 };
                    if destination.contains(&at) {
                        assert_eq!(verdict, Verdict::NotMoved, "byte {at}: another address");
                    }
                }
            }
        }
    }));
}

#[test]
fn connections_that_this_node_knows_stay() {
    require!(sandbox::run_with(SERVICE, NETWORK, || {
        let mut chase = chasing();
        for (moved, unknown) in [(MOVED4, CLIENT4), (MOVED6, CLIENT6)] {
            let ip: IpAddr = moved.parse().unwrap();
            let listener = TcpListener::bind((ip, PORT)).unwrap();
            check(
                &mut chase,
                "only a listener",
                &frame(&tcp(unknown, moved, PORT, ACK, 7)),
                Verdict::Chased,
            );
            let client = TcpStream::connect_timeout(&listener.local_addr().unwrap(), PATIENCE).unwrap();
            let own = client.local_addr().unwrap().to_string();
            let known = |chase: &mut Chase, what| {
                for flags in [ACK, FIN | ACK, RST] {
                    check(
                        chase,
                        what,
                        &frame(&tcp(&own, moved, PORT, flags, 7)),
                        Verdict::Known,
                    );
                }
                let kind = if ip.is_ipv4() { 3 } else { 2 };
                let too_big = error(moved, kind, &answer(moved, PORT, &own));
                check(chase, what, &frame(&too_big), Verdict::Known);
            };
            known(&mut chase, "in the queue of accept");
            let (server, _) = listener.accept().unwrap();
            known(&mut chase, "established");
            drop(server);
            known(&mut chase, "half closed");
            drop(client);
            known(&mut chase, "in TIME_WAIT");
            // The same client's other port, and the same ports at another address.
            let mut other = at(&own);
            other.set_port(other.port() ^ 1);
            check(
                &mut chase,
                "another",
                &frame(&tcp(&other.to_string(), moved, PORT, ACK, 7)),
                Verdict::Chased,
            );
        }
    }));
}

#[test]
fn what_answers_a_syn_that_came_here_is_awaited() {
    require!(sandbox::run_with(SERVICE, NETWORK, || {
        let mut chase = chasing();
        for (client, moved) in [(CLIENT4, MOVED4), (CLIENT6, MOVED6)] {
            let mut judge = |what, flags, sequence, verdict| {
                check(
                    &mut chase,
                    what,
                    &frame(&tcp(client, moved, PORT, flags, sequence)),
                    verdict,
                );
            };
            judge("before", ACK, 1001, Verdict::Chased);
            judge("SYN", SYN, 1000, Verdict::Opening);
            judge("its ACK", ACK, 1001, Verdict::Awaited);
            judge("once more, with data", ACK, 1001, Verdict::Awaited);
            judge("a reset of it", RST, 1001, Verdict::Awaited);
            // A forged SYN does not take a connection away from the previous holder.
            judge("another sequence number", ACK, 1002, Verdict::Chased);
            judge("at the end of the numbers", SYN, u32::MAX, Verdict::Opening);
            judge("and its ACK", ACK, 0, Verdict::Awaited);
            judge("the first is still known", ACK, 1001, Verdict::Awaited);
        }
        let (other, port) = ("198.51.100.8:5000", "198.51.100.7:5001");
        for client in [other, port] {
            check(
                &mut chase,
                client,
                &frame(&tcp(client, MOVED4, PORT, ACK, 1001)),
                Verdict::Chased,
            );
        }
    }));
}

#[test]
fn a_chase_begins_and_ends_as_told() {
    require!(sandbox::run_with(SERVICE, NETWORK, || {
        let mut chase = chase();
        assert_eq!(chase.origin(), &Origin::New);
        let packet = frame(&tcp(CLIENT4, MOVED4, PORT, ACK, 7));
        check(&mut chase, "nothing is known", &packet, Verdict::Idle);
        chase.set_ports(&[PORT]).unwrap();
        chase.attach("edge").unwrap();
        check(&mut chase, "nothing has moved", &packet, Verdict::Idle);
        chase
            .set_previous(net(MOVED4), Some(previous("10.9.0.2", for_long())))
            .unwrap();
        check(&mut chase, "it has moved", &packet, Verdict::Chased);
        // Again, for a shorter time: the later word counts, and so does the clock.
        let soon = BootTime::now() + Duration::from_millis(50);
        chase
            .set_previous(net(MOVED4), Some(previous("10.9.0.3", soon)))
            .unwrap();
        while BootTime::now() < soon {
            std::thread::yield_now();
        }
        check(&mut chase, "until then", &packet, Verdict::Idle);

        // A network, and an address in it that came from somebody else, or not at all.
        chase
            .set_previous(
                "10.0.0.0/24".parse().unwrap(),
                Some(previous("10.9.0.2", for_long())),
            )
            .unwrap();
        check(&mut chase, "the address comes first", &packet, Verdict::Expired);
        chase.forget_expired(BootTime::now()).unwrap();
        assert_eq!(chase.previous().unwrap().len(), 1);
        check(&mut chase, "the network", &packet, Verdict::Chased);
        chase.set_ports(&[80]).unwrap();
        check(&mut chase, "other ports", &packet, Verdict::NotPort);
        chase.set_ports(&[PORT]).unwrap();
        chase.set_previous("10.0.0.0/24".parse().unwrap(), None).unwrap();
        check(&mut chase, "off", &packet, Verdict::Idle);
        chase.set_previous("10.0.0.0/24".parse().unwrap(), None).unwrap();
        assert_eq!(chase.previous().unwrap(), []);
    }));
}

#[test]
fn a_previous_holder_has_to_be_a_neighbour() {
    let network: Vec<&str> = NETWORK
        .iter()
        .copied()
        .chain([
            "link add second type veth peer name third",
            "addr add 10.9.0.7/24 dev second",
            "tuntap add dev mesh mode tun",
        ])
        .collect();
    require!(sandbox::run_with(SERVICE, &network, || {
        let mut chase = chase();
        let refused = |chase: &mut Chase, moved: &str, address: &str| {
            let error = chase
                .set_previous(net(moved), Some(previous(address, for_long())))
                .unwrap_err();
            assert_eq!(chase.previous().unwrap(), []);
            error.to_string()
        };
        assert!(refused(&mut chase, MOVED4, "10.9.0.2").contains("no device"));
        chase.attach("edge").unwrap();
        let far = refused(&mut chase, MOVED4, "192.0.2.1");
        assert!(far.contains("192.0.2.1 is not in the network of edge"), "{far}");
        assert!(refused(&mut chase, MOVED4, "10.9.0.1").contains("this node's own address"));
        assert!(refused(&mut chase, MOVED4, "10.0.0.1").contains("this node's own address"));
        let family = refused(&mut chase, MOVED6, "10.9.0.2");
        assert!(
            family.contains("name its previous holder by an IPv6 address"),
            "{family}"
        );
        chase.attach("second").unwrap();
        let two = refused(&mut chase, MOVED4, "10.9.0.2");
        assert!(two.contains("edge and second alike"), "{two}");
        let error = chase.attach("mesh").unwrap_err();
        assert!(matches!(error, Error::NoEthernet(_)), "{error}");
        assert!(matches!(
            chase.attach("nonesuch").unwrap_err(),
            Error::NoDevice(_)
        ));
        // An IPv4 address that moved may well be with an IPv6 neighbour.
        chase
            .set_previous(net(MOVED4), Some(previous("fd09::2", for_long())))
            .unwrap();
        assert_eq!(chase.previous().unwrap()[0].0, net(MOVED4));
    }));
}

#[test]
fn a_restart_finds_what_has_moved_and_where_it_hangs() {
    require!(sandbox::run_with(SERVICE, NETWORK, || {
        let before = chasing();
        let moved = before.previous().unwrap();
        let links = || status(&Namespace::current().unwrap()).unwrap().links;
        let link = links().remove(0);
        drop(before);
        let mut after = chase();
        assert_eq!(after.origin(), &Origin::Pinned);
        assert_eq!(after.previous().unwrap(), moved);
        after.attach("edge").unwrap();
        let replaced = links().remove(0);
        assert_eq!((links().len(), replaced.id), (1, link.id));
        assert_ne!(replaced.program, link.program);
        check(
            &mut after,
            "goes on",
            &frame(&tcp(CLIENT4, MOVED4, PORT, ACK, 7)),
            Verdict::Chased,
        );
        after.detach("edge").unwrap();
        assert_eq!(links(), []);
        after.attach_clsact("edge").unwrap();
        after.attach("edge").unwrap();
        assert_eq!(links().len(), 1);
        drop(after);
        detach(&Lock::take(&Namespace::current().unwrap()).unwrap()).unwrap();
        assert_eq!(chase().origin(), &Origin::New);
    }));
}
