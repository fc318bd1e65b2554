//! What the programs cost: instructions, which are bounded, and time, which is only printed.

use std::net::TcpListener;
use std::os::fd::AsFd as _;

use constellation_ebpf_loader::abi::guard::Verdict;
use constellation_ebpf_loader::chase::Action;
use constellation_ebpf_loader::guard::{Ban, Limits, Program, Rate};
use constellation_ebpf_loader::steering::{Bind, Protocol};
use constellation_tests::require;

use crate::chase::{MOVED4, MOVED6, NETWORK, chasing, frame, tcp as segment};
use crate::judge::guard;
use crate::lookup::lookup;
use crate::packets::{ACK, SYN, TCP, UDP, ethernet, tcp as tcp_header, udp, v4, v6};
use crate::sandbox::{self, SERVICE};
use crate::sockets::{dest, for_long, steering, tcp};

const RUNS: u32 = 200_000;

#[test]
fn edge_steer_stays_small() {
    require!(sandbox::run(|| {
        let mut steering = steering();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        steering.insert_listeners(dest(0), &[listener.as_fd()]).unwrap();
        let binds: Vec<Bind> = (0..=255)
            .flat_map(|b| (0..4).map(move |c| tcp(&format!("10.{b}.{c}.0/24"), 443, 0)))
            .collect();
        steering.set_binds(&binds).unwrap();
        steering.grant(1, for_long()).unwrap();
        let cost = steering.cost().unwrap();
        println!("edge_steer: {cost:?}");
        assert!(cost.instructions < 300, "after the verifier: {cost:?}");
        assert!(cost.verified < 10_000, "walked by the verifier: {cost:?}");
        for (what, to) in [
            ("hit", "10.7.2.9:443"),
            ("miss", "192.0.2.9:443"),
            ("no listener", "10.7.2.9:443"),
            ("64 listeners that were closed", "10.7.2.9:443"),
        ] {
            if what == "no listener" {
                steering.remove_listeners(dest(0)).unwrap();
            } else if what.starts_with("64") {
                let closed: Vec<_> = (0..64)
                    .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
                    .collect();
                let closed: Vec<_> = closed.iter().map(|listener| listener.as_fd()).collect();
                steering.insert_listeners(dest(0), &closed).unwrap();
            }
            let outcome = steering.test(&lookup(6, "198.51.100.1:1000", to), RUNS).unwrap();
            println!("edge_steer, {} binds, {what}: {} ns", binds.len(), outcome.nanos);
        }
    }));
}

#[test]
fn edge_guard_stays_small() {
    require!(sandbox::run(|| {
        let mut guard = guard();
        guard
            .set_guarded_ports(&[(Protocol::Tcp, 443), (Protocol::Udp, 53)])
            .unwrap();
        let rate = Rate {
            per_second: 1_000_000_000,
            burst: 1_000_000_000,
        };
        guard
            .set_limits(&Limits {
                connections: rate,
                flows: rate,
                ..Limits::default()
            })
            .unwrap();
        for b in 0..10_000_u32 {
            let net = format!("11.{}.{}.0/24", b / 256, b % 256).parse().unwrap();
            guard
                .deny(
                    net,
                    Ban {
                        reason: 1,
                        until: None,
                    },
                )
                .unwrap();
        }
        guard
            .deny(
                "8.0.1.0/24".parse().unwrap(),
                Ban {
                    reason: 1,
                    until: None,
                },
            )
            .unwrap();
        for program in Program::ALL {
            let cost = guard.cost(program).unwrap();
            println!("{}: {cost:?}", program.name());
            assert!(cost.instructions < 2_200, "after the verifier: {cost:?}");
            assert!(cost.verified < 200_000, "walked by the verifier: {cost:?}");
        }
        let packets = [
            ("ACK", v4([0, 1], TCP, &tcp_header(443, ACK))),
            ("SYN", v4([0, 1], TCP, &tcp_header(443, SYN))),
            ("UDP, known", v4([0, 1], UDP, &udp(1, 53))),
            ("denied", v4([1, 1], TCP, &tcp_header(443, SYN))),
            ("IPv6 SYN", v6(0, 1, TCP, &tcp_header(443, SYN))),
        ];
        for (what, packet) in packets {
            for program in Program::ALL {
                let packet = if program == Program::L3 {
                    packet.clone()
                } else {
                    ethernet(&[], &packet)
                };
                let outcome = guard.test(program, &packet, RUNS).unwrap();
                println!("{}, 10,000 bans, {what}: {} ns", program.name(), outcome.nanos);
            }
        }
        let dropped = guard
            .stats()
            .unwrap()
            .iter()
            .any(|(verdict, times)| *verdict == Verdict::Denied && *times > 0);
        assert!(dropped);
    }));
}

#[test]
fn edge_chase_stays_small() {
    require!(sandbox::run_with(SERVICE, NETWORK, || {
        let mut chase = chasing();
        let cost = chase.cost().unwrap();
        println!("edge_chase: {cost:?}");
        assert!(cost.instructions < 2_500, "after the verifier: {cost:?}");
        assert!(cost.verified < 200_000, "walked by the verifier: {cost:?}");
        let listener = TcpListener::bind((MOVED4, 443)).unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let own = client.local_addr().unwrap().to_string();
        let other = "198.51.100.7:5000";
        let cases = [
            ("not moved", segment(other, "10.0.0.2", 443, ACK, 7), Action::Pass),
            ("SYN", segment(other, MOVED4, 443, SYN, 7), Action::Pass),
            ("known", segment(&own, MOVED4, 443, ACK, 7), Action::Pass),
            ("chased", segment(other, MOVED4, 443, ACK, 99), Action::Send),
            (
                "IPv6 chased",
                segment("[2001:db8::7]:5000", MOVED6, 443, ACK, 99),
                Action::Send,
            ),
        ];
        for (what, packet, action) in cases {
            let frame = frame(&packet);
            assert_eq!(chase.test(&frame, 1).unwrap().action, action, "{what}");
            if action == Action::Pass {
                let nanos = chase.test(&frame, RUNS).unwrap().nanos;
                println!("edge_chase, {what}: {nanos} ns");
            } else {
                // In one go the packet would be chased twice, and then have no hops left.
                let mut nanos: Vec<u32> = (0..2_001).map(|_| chase.test(&frame, 1).unwrap().nanos).collect();
                nanos.sort_unstable();
                println!("edge_chase, {what}: {} ns, median of cold runs", nanos[1_000]);
            }
        }
        for (net, _) in chase.previous().unwrap() {
            chase.set_previous(net, None).unwrap();
        }
        let idle = chase
            .test(&frame(&segment(other, MOVED4, 443, ACK, 99)), RUNS)
            .unwrap();
        println!("edge_chase, idle: {} ns", idle.nanos);
    }));
}
