//! Packets for `edge_chase`, and what becomes of each.

use std::net::IpAddr;

use constellation_ebpf_loader::abi::chase::Verdict;

use crate::chase::{
    CLIENT4, CLIENT6, EXPIRED, FIN, ICMP6, MOVED4, MOVED6, PORT, RST, answer, at, checksum, error, packet,
    packet_with, segment, tcp,
};
use crate::packets::{ACK, ICMP, SYN, TCP, UDP, extension, fragment, udp};

fn with_hop_limit(mut packet: Vec<u8>, hops: u8) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        packet[8] = hops;
        packet[10..12].fill(0);
        let sum = checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet[7] = hops;
    }
    packet
}

/// Packets of each family that differ in nothing else.
pub(crate) fn of_both_families() -> Vec<(String, Vec<u8>, Verdict)> {
    let mut cases = Vec::new();
    for (client, moved, icmp, too_big) in [(CLIENT4, MOVED4, ICMP, 3), (CLIENT6, MOVED6, ICMP6, 2)] {
        let flow = |flags| tcp(client, moved, PORT, flags, 7000);
        let ip: IpAddr = moved.parse().unwrap();
        let from = at(client).ip();
        let mut add = |what: &str, packet: Vec<u8>, verdict| {
            cases.push((format!("{what}, {moved}"), packet, verdict));
        };
        for (what, flags) in [
            ("ACK", ACK),
            ("FIN", FIN | ACK),
            ("RST", RST),
            ("RST and ACK", RST | ACK),
        ] {
            add(what, flow(flags), Verdict::Chased);
        }
        add("SYN and ACK", flow(SYN | ACK), Verdict::Chased);
        add("no flags", flow(0), Verdict::Chased);
        add("SYN and RST", flow(SYN | RST), Verdict::Chased);
        add("all flags", flow(0xff), Verdict::Chased);
        add(
            "SYN with ECN",
            tcp(client, moved, PORT, SYN | 0xc0, 1),
            Verdict::Opening,
        );
        add(
            "SYN with FIN",
            tcp(client, moved, PORT, SYN | FIN, 1),
            Verdict::Opening,
        );
        add(
            "another port of ours",
            tcp(client, moved, 80, ACK, 7000),
            Verdict::Chased,
        );
        add(
            "a port that is not",
            tcp(client, moved, 22, ACK, 7000),
            Verdict::NotPort,
        );
        add(
            "SYN to a port that is not",
            tcp(client, moved, 22, SYN, 7000),
            Verdict::NotPort,
        );
        for (hops, verdict) in [
            (0, Verdict::HopLimit),
            (1, Verdict::HopLimit),
            (2, Verdict::Chased),
            (3, Verdict::Chased),
            (255, Verdict::Chased),
        ] {
            add(
                &format!("hop limit {hops}"),
                with_hop_limit(flow(ACK), hops),
                verdict,
            );
        }
        add("UDP", packet(from, ip, UDP, &udp(1000, PORT)), Verdict::NotTcp);
        add("no payload at all", packet(from, ip, 59, &[]), Verdict::NotTcp);
        for cut in [0, 1, 13] {
            let header = &segment(5000, PORT, ACK, 1)[..cut];
            add(
                &format!("TCP cut to {cut}"),
                packet(from, ip, TCP, header),
                Verdict::Malformed,
            );
        }
        let sent = answer(moved, PORT, client);
        let head = if ip.is_ipv4() { 20 } else { 40 };
        add("too big", error(moved, too_big, &sent), Verdict::ChasedError);
        add(
            "too big, with ports alone",
            error(moved, too_big, &sent[..head + 8]),
            Verdict::ChasedError,
        );
        add(
            "too big, hop limit 1",
            with_hop_limit(error(moved, too_big, &sent), 1),
            Verdict::HopLimit,
        );
        add(
            "too big, cut in the ports",
            error(moved, too_big, &sent[..head + 3]),
            Verdict::Malformed,
        );
        add(
            "too big, cut in the inner header",
            error(moved, too_big, &sent[..head - 5]),
            Verdict::Malformed,
        );
        add(
            "too big, cut to nothing",
            error(moved, too_big, &[]),
            Verdict::Malformed,
        );
        add(
            "an error without version",
            error(moved, too_big, &[0; 60]),
            Verdict::Malformed,
        );
        add(
            "an error about another port",
            error(moved, too_big, &answer(moved, 22, client)),
            Verdict::NotPort,
        );
        let of_udp = packet(ip, from, UDP, &udp(PORT, 5000));
        add(
            "an error about UDP",
            error(moved, too_big, &of_udp),
            Verdict::NotTcp,
        );
        let of_another = packet(from, ip, TCP, &segment(PORT, 5000, ACK, 9));
        add(
            "an error about somebody else's",
            error(moved, too_big, &of_another),
            Verdict::NotTcp,
        );
        let echo = if ip.is_ipv4() { 8 } else { 128 };
        add("echo", packet(from, ip, icmp, &[echo; 40]), Verdict::NotTcp);
        add(
            "ICMP without anything",
            packet(from, ip, icmp, &[]),
            Verdict::Malformed,
        );
        // The other family's ICMP is nothing here.
        add(
            "ICMP of the other family",
            packet(from, ip, if ip.is_ipv4() { ICMP6 } else { ICMP }, &sent),
            Verdict::NotTcp,
        );
    }
    cases
}

/// What only one of them has.
pub(crate) fn of_one_family() -> Vec<(String, Vec<u8>, Verdict)> {
    let (from4, to4) = (at(CLIENT4).ip(), MOVED4.parse().unwrap());
    let (from6, to6) = (at(CLIENT6).ip(), MOVED6.parse().unwrap());
    let ack = segment(5000, PORT, ACK, 7000);
    let v4 =
        |fragment, options: &[u8], payload: &[u8]| packet_with(from4, to4, TCP, fragment, options, payload);
    let v6 = |next, payload: &[u8]| packet(from6, to6, next, payload);
    let many = (0..9).fold(ack.clone(), |inner, depth| {
        extension(if depth == 0 { TCP } else { 60 }, 0, &inner)
    });
    let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
    let with_options = packet_with(to4, from4, TCP, 0, &[1; 40], &segment(PORT, 5000, ACK, 9));
    let cases = vec![
        ("options", v4(0, &[1; 40], &ack), Verdict::Chased),
        ("first fragment", v4(0x2000, &[], &ack), Verdict::Fragment),
        ("later fragment", v4(100, &[], &ack), Verdict::Fragment),
        ("don't fragment", v4(0x4000, &[], &ack), Verdict::Chased),
        (
            "a header of four words",
            [&[0x44][..], &v4(0, &[], &ack)[1..]].concat(),
            Verdict::Malformed,
        ),
        (
            "options beyond the end",
            [&[0x4f][..], &v4(0, &[], &ack)[1..]].concat(),
            Verdict::Malformed,
        ),
        (
            "no version",
            [&[0x05][..], &v4(0, &[], &ack)[1..]].concat(),
            Verdict::Malformed,
        ),
        (
            "an error about a packet with options",
            error(MOVED4, 3, &with_options),
            Verdict::ChasedError,
        ),
        (
            "time exceeded",
            error(MOVED4, 11, &answer(MOVED4, PORT, CLIENT4)),
            Verdict::ChasedError,
        ),
        (
            "parameter problem",
            error(MOVED4, 12, &answer(MOVED4, PORT, CLIENT4)),
            Verdict::ChasedError,
        ),
        (
            "redirect",
            error(MOVED4, 5, &answer(MOVED4, PORT, CLIENT4)),
            Verdict::NotTcp,
        ),
        (
            "an error about IPv6",
            error(MOVED4, 3, &answer(MOVED6, PORT, CLIENT6)),
            Verdict::Malformed,
        ),
        (
            "IPv6 unreachable",
            error(MOVED6, 1, &answer(MOVED6, PORT, CLIENT6)),
            Verdict::ChasedError,
        ),
        (
            "IPv6 time exceeded",
            error(MOVED6, 3, &answer(MOVED6, PORT, CLIENT6)),
            Verdict::ChasedError,
        ),
        (
            "IPv6 parameter problem",
            error(MOVED6, 4, &answer(MOVED6, PORT, CLIENT6)),
            Verdict::ChasedError,
        ),
        (
            "neighbour solicitation",
            error(MOVED6, 135, &[0; 60]),
            Verdict::NotTcp,
        ),
        ("hop by hop", v6(0, &extension(TCP, 0, &ack)), Verdict::Chased),
        (
            "three headers",
            v6(0, &extension(43, 1, &extension(60, 2, &extension(TCP, 0, &ack)))),
            Verdict::Chased,
        ),
        ("too many headers", v6(60, &many), Verdict::Overlong),
        (
            "too long a header",
            v6(60, &extension(TCP, 40, &ack)),
            Verdict::Overlong,
        ),
        ("a header beyond the end", v6(60, &[TCP]), Verdict::Malformed),
        (
            "IPv6 first fragment",
            v6(44, &fragment(TCP, 1, &ack)),
            Verdict::Fragment,
        ),
        (
            "IPv6 later fragment",
            v6(44, &fragment(TCP, 8, &ack)),
            Verdict::Fragment,
        ),
        (
            "IPv6 fragment of one",
            v6(44, &fragment(TCP, 0, &ack)),
            Verdict::Chased,
        ),
        (
            "an IPv4 address within IPv6",
            packet(from6, mapped, TCP, &ack),
            Verdict::NotMoved,
        ),
        (
            "another address",
            tcp(CLIENT4, "10.0.0.2", PORT, ACK, 1),
            Verdict::NotMoved,
        ),
        (
            "another IPv6 address",
            tcp(CLIENT6, "fd00::2", PORT, ACK, 1),
            Verdict::NotMoved,
        ),
        (
            "an address that moved long ago",
            tcp(CLIENT4, EXPIRED, PORT, ACK, 1),
            Verdict::Expired,
        ),
    ];
    cases
        .into_iter()
        .map(|(what, packet, verdict)| (what.to_owned(), packet, verdict))
        .collect()
}
