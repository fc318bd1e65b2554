//! What else there is on a packet's way: the guard before the chase, routers that want smaller packets, older hooks.

use std::io::{Read as _, Write as _};
use std::net::UdpSocket;
use std::time::Instant;

use constellation_ebpf_loader::abi::chase::Verdict;
use constellation_ebpf_loader::abi::guard::Verdict as Guarded;
use constellation_ebpf_loader::guard::{Ban, Hook};
use constellation_ebpf_loader::{Chase, Guard, Lock, Namespace};
use constellation_tests::busy::connect;
use constellation_tests::host::Host;
use constellation_tests::lan::{Lan, NEW, OLD, own4, own6};
use constellation_tests::require;

use crate::chase::chase;
use crate::lan::{PORT, lan, move_to, serve, target};
use crate::moves::{chasing, count, lively, set_previous};
use crate::sandbox::{self, PEER};
use crate::sockets::{PATIENCE, for_long};

fn sum(chase: &Chase) -> u64 {
    chase.stats().unwrap().iter().map(|(_, times)| times).sum()
}

#[test]
fn what_the_guard_drops_is_never_seen_by_the_chase() {
    require!(sandbox::run_with_peer(|peer| {
        let lock = Lock::take(&Namespace::current().unwrap()).unwrap();
        let (mut guard, mut chase) = (Guard::open(&lock).unwrap(), Chase::open(&lock).unwrap());
        let ban = Ban {
            reason: 0,
            until: None,
        };
        guard.deny(format!("{PEER}/32").parse().unwrap(), ban).unwrap();
        type Put = fn(&mut Guard, &mut Chase);
        let orders: [(&str, Put); 3] = [
            ("the guard came last", |guard, chase| {
                chase.attach("edge").unwrap();
                guard.attach("edge").unwrap();
            }),
            ("the guard came first", |guard, chase| {
                guard.attach("edge").unwrap();
                chase.attach("edge").unwrap();
            }),
            ("at clsact", |guard, chase| {
                assert_eq!(chase.attach_clsact("edge").unwrap(), Hook::Clsact);
                assert_eq!(guard.attach_clsact("edge").unwrap(), Hook::Clsact);
            }),
        ];
        for (what, put) in orders {
            put(&mut guard, &mut chase);
            let send = |from: &'static str| {
                peer.run(move || {
                    let socket = UdpSocket::bind((from, 0)).unwrap();
                    socket.send_to(b"hello", (sandbox::EDGE, 9)).unwrap();
                });
            };
            let denied = |guard: &Guard| {
                let stats = guard.stats().unwrap();
                stats
                    .iter()
                    .find(|(verdict, _)| *verdict == Guarded::Denied)
                    .unwrap()
                    .1
            };
            let (before, seen) = (denied(&guard), sum(&chase));
            // Whoever is not denied is seen by both.
            send(sandbox::NEIGHBOUR);
            let started = Instant::now();
            while sum(&chase) == seen {
                assert!(started.elapsed() < PATIENCE, "{what}: the chase sees nothing");
            }
            // Also answers to what was asked about neighbours meanwhile; those are over once all of these are counted.
            for _ in 0..100 {
                send(PEER);
            }
            while denied(&guard) < before + 100 {
                assert!(started.elapsed() < PATIENCE, "{what}: the guard drops nothing");
            }
            let more = sum(&chase) - seen;
            assert!(more < 100, "{what}: {more} more packets seen");
            guard.detach("edge").unwrap();
            chase.detach("edge").unwrap();
        }
    }));
}

/// A client behind a router whose way to it takes packets of 1400 bytes; both ends believe in 1500.
fn behind_a_router(lan: &Lan) -> Host {
    let far = Host::start(|| {});
    let thread = far.thread();
    lan.client.run(|| {
        for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{path}"), "1").unwrap();
        }
    });
    lan.client.ip([
        format!("link add far type veth peer name near netns {thread}"),
        "link set far mtu 1400 up".to_owned(),
        "addr add 10.6.0.1/24 dev far".to_owned(),
        "addr add fd06::1/64 dev far nodad".to_owned(),
    ]);
    far.ip([
        "link set near up",
        "addr add 10.6.0.2/24 dev near",
        "addr add fd06::2/64 dev near nodad",
        "route add default via 10.6.0.1",
        "-6 route add default via fd06::1",
    ]);
    for node in [&lan.old, &lan.new] {
        node.ip([
            format!("route add 10.6.0.0/24 via {}", own4(9)),
            format!("-6 route add fd06::/64 via {}", own6(9)),
        ]);
    }
    far
}

#[test]
fn the_previous_holder_learns_of_a_way_that_takes_smaller_packets() {
    require!(sandbox::run_hosts(|| {
        let lan = lan();
        serve(&lan);
        let far = behind_a_router(&lan);
        let chase = chasing(&lan.new, OLD, for_long());
        let connections = far.run(|| {
            [false, true].map(|is_v6| {
                let (stream, name) = connect(target(is_v6)).unwrap();
                assert_eq!(name, 'O');
                stream
            })
        });
        move_to(&lan, NEW);
        for mut stream in connections {
            let errors = count(&chase, Verdict::ChasedError);
            far.run(move || {
                // A download, of full packets.
                stream.write_all(b"d").unwrap();
                stream.read_exact(&mut vec![0; 5_000_000]).unwrap();
            });
            assert!(
                count(&chase, Verdict::ChasedError) > errors,
                "{:?}",
                chase.stats()
            );
        }
        // What the new holder sends is about connections that it knows.
        let known = count(&chase, Verdict::Known);
        far.run(|| {
            for is_v6 in [false, true] {
                let (mut stream, name) = connect(target(is_v6)).unwrap();
                assert_eq!(name, 'N');
                stream.write_all(b"d").unwrap();
                stream.read_exact(&mut vec![0; 1_000_000]).unwrap();
            }
        });
        assert!(count(&chase, Verdict::Known) > known);
    }));
}

#[test]
fn an_older_kernels_hook_does_as_well() {
    require!(sandbox::run_hosts(|| {
        let lan = lan();
        serve(&lan);
        let chase = lan.new.run(|| {
            let mut chase = chase();
            chase.set_ports(&[PORT]).unwrap();
            assert_eq!(chase.attach_clsact("edge").unwrap(), Hook::Clsact);
            chase
        });
        let chase = set_previous(&lan.new, chase, OLD, for_long());
        let connections = lively(&lan);
        move_to(&lan, NEW);
        for connection in connections {
            let by = if connection.what == "ping-pong" {
                100
            } else {
                5_000_000
            };
            connection
                .goes_on(by)
                .expect("after the move")
                .end()
                .expect("to the last byte");
        }
        assert!(count(&chase, Verdict::Chased) > 0);
    }));
}
