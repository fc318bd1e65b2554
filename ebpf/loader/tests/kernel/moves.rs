//! An address moves from one node to another with connections on it: they live, and new ones go to the new holder.

use std::time::Instant;

use constellation_ebpf_loader::abi::chase::{MAX_HOPS, Verdict};
use constellation_ebpf_loader::chase::Previous;
use constellation_ebpf_loader::{BootTime, Chase};
use constellation_tests::busy::{Busy, connect, open};
use constellation_tests::host::Host;
use constellation_tests::lan::{Lan, NEW, OLD, own4, own6};
use constellation_tests::require;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto, socket,
};

use crate::chase::chase;
use crate::lan::{PORT, force_cookies, lan, move_to, serve, target, vip};
use crate::sandbox;
use crate::sockets::{PATIENCE, for_long};

const PINGS: usize = 8;
/// Bytes that each bulk connection carries after the move.
const BULK: u64 = 150_000_000;

/// The program at a node's device, told that both addresses were this one's before.
pub(crate) fn chasing(node: &Host, previous: u8, until: BootTime) -> Chase {
    let mut chase = node.run(|| {
        let mut chase = chase();
        chase.attach("edge").unwrap();
        chase.set_ports(&[PORT]).unwrap();
        chase
    });
    chase = set_previous(node, chase, previous, until);
    chase
}

/// Told in the node's own namespace, where its devices are.
pub(crate) fn set_previous(node: &Host, mut chase: Chase, previous: u8, until: BootTime) -> Chase {
    node.run(move || {
        for (is_v6, address) in [(false, own4(previous)), (true, own6(previous))] {
            chase
                .set_previous(vip(is_v6).into(), Some(Previous { address, until }))
                .unwrap();
        }
        chase
    })
}

pub(crate) fn count(chase: &Chase, verdict: Verdict) -> u64 {
    let stats = chase.stats().unwrap();
    stats.iter().find(|(counted, _)| *counted == verdict).unwrap().1
}

/// Connections of both families that all go on.
pub(crate) fn lively(lan: &Lan) -> Vec<Busy> {
    let connections = [false, true]
        .into_iter()
        .flat_map(|is_v6| lan.client.run(move || open(target(is_v6), 'O', PINGS)));
    // All are open before the first is looked at.
    let connections: Vec<Busy> = connections.collect();
    connections
        .into_iter()
        .map(|connection| connection.goes_on(20).expect("before the move"))
        .collect()
}

/// New connections, one after the other: who answers them.
fn answerers(lan: &Lan, count: usize) -> String {
    lan.client.run(move || {
        let names = (0..count).map(|number| match connect(target(number % 2 == 1)) {
            Ok((_, name)) => name,
            Err(error) => panic!("connection {number}: {error}"),
        });
        names.collect()
    })
}

/// Says what was carried meanwhile.
fn survive(cookies: bool) -> String {
    let lan = lan();
    if cookies {
        force_cookies(&lan);
    }
    serve(&lan);
    let chase = chasing(&lan.new, OLD, for_long());
    let connections = lively(&lan);
    assert_eq!(count(&chase, Verdict::Chased), 0, "before the move");
    move_to(&lan, NEW);
    assert_eq!(answerers(&lan, 60), "N".repeat(60));
    let started = Instant::now();
    let mut carried = 0;
    let connections: Vec<Busy> = connections
        .into_iter()
        .map(|connection| {
            let by = if connection.what == "ping-pong" { 200 } else { BULK };
            let before = connection.progress();
            let connection = connection.goes_on(by).expect("after the move");
            if by == BULK {
                carried += connection.progress() - before;
            }
            connection
        })
        .collect();
    let told = format!(
        "cookies {cookies}: {} connections went on, with {} MB in {:?}; chased {}, awaited {}",
        connections.len(),
        carried / 1_000_000,
        started.elapsed(),
        count(&chase, Verdict::Chased),
        count(&chase, Verdict::Awaited)
    );
    assert!(count(&chase, Verdict::Chased) > 1_000);
    assert_eq!(count(&chase, Verdict::HopLimit), 0, "nothing came back");
    assert_eq!(count(&chase, Verdict::Awaited) > 0, cookies);
    // A new one lives, and ends, while old ones are chased.
    assert_eq!(answerers(&lan, 10), "N".repeat(10));
    for connection in connections {
        connection.end().expect("to the last byte");
    }
    told
}

#[test]
fn connections_survive_the_move_of_their_address() {
    require!(sandbox::run_hosts(|| println!("{}", survive(false))));
}

#[test]
fn with_cookies_they_survive_as_well_and_new_ones_begin() {
    require!(sandbox::run_hosts(|| println!("{}", survive(true))));
}

/// All of them end, by themselves.
fn die(connections: Vec<Busy>) {
    for connection in connections {
        let what = connection.what;
        let Err(end) = connection.goes_on(u64::MAX / 2) else {
            panic!("{what} lives");
        };
        assert!(
            end.contains("reset by peer") || end.contains("Broken pipe"),
            "{end}"
        );
    }
}

#[test]
fn without_it_they_die() {
    require!(sandbox::run_hosts(|| {
        let lan = lan();
        serve(&lan);
        let connections = lively(&lan);
        move_to(&lan, NEW);
        die(connections);
        assert_eq!(answerers(&lan, 4), "NNNN");
    }));
}

#[test]
fn after_its_time_they_die() {
    require!(sandbox::run_hosts(|| {
        let lan = lan();
        serve(&lan);
        let chase = chasing(&lan.new, OLD, for_long());
        let connections = lively(&lan);
        move_to(&lan, NEW);
        let connections: Vec<Busy> = connections
            .into_iter()
            .map(|connection| connection.goes_on(100).expect("in time"))
            .collect();
        // Nobody takes it back: the kernel's clock does.
        let chase = set_previous(&lan.new, chase, OLD, BootTime::now());
        die(connections);
        assert_eq!(answerers(&lan, 4), "NNNN");
        assert!(count(&chase, Verdict::Idle) > 0);
    }));
}

/// A segment of a connection that nobody has, from the client.
fn stray(client: &Host, is_v6: bool, source_port: u16) {
    client.run(move || {
        let mut header = Vec::from(source_port.to_be_bytes());
        header.extend(PORT.to_be_bytes());
        header.extend([0, 0, 0, 7, 0, 0, 0, 9, 0x50, 0x10, 0, 64, 0, 0, 0, 0]);
        let family = if is_v6 {
            AddressFamily::Inet6
        } else {
            AddressFamily::Inet
        };
        let raw = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp).unwrap();
        use std::os::fd::AsRawFd as _;
        let sent = match vip(is_v6) {
            std::net::IpAddr::V4(vip) => {
                let to = SockaddrIn::from(std::net::SocketAddrV4::new(vip, 0));
                sendto(raw.as_raw_fd(), &header, &to, MsgFlags::empty())
            }
            std::net::IpAddr::V6(vip) => {
                let to = SockaddrIn6::from(std::net::SocketAddrV6::new(vip, 0, 0, 0));
                sendto(raw.as_raw_fd(), &header, &to, MsgFlags::empty())
            }
        };
        assert_eq!(sent, Ok(header.len()));
    });
}

#[test]
fn two_nodes_that_point_at_each_other_do_not_play_ball() {
    require!(sandbox::run_hosts(|| {
        let lan = lan();
        serve(&lan);
        let new = chasing(&lan.new, OLD, for_long());
        let old = chasing(&lan.old, NEW, for_long());
        move_to(&lan, NEW);
        const STRAYS: u64 = 100;
        for number in 0..STRAYS {
            stray(
                &lan.client,
                number % 2 == 1,
                20_000 + u16::try_from(number).unwrap(),
            );
        }
        // To the old one, back to the new one, and no further: that one answers.
        let started = Instant::now();
        while count(&new, Verdict::HopLimit) < STRAYS {
            assert!(
                started.elapsed() < PATIENCE,
                "{:?} {:?}",
                new.stats(),
                old.stats()
            );
            std::thread::yield_now();
        }
        let chased = [&new, &old].map(|chase| count(chase, Verdict::Chased));
        assert_eq!(chased, [STRAYS; 2], "so often, and never again");
        assert_eq!(chased.iter().sum::<u64>(), STRAYS * u64::from(MAX_HOPS));
        assert_eq!(count(&old, Verdict::HopLimit), 0);
        // Neither is what two nodes know harmed by it.
        assert_eq!(answerers(&lan, 10), "N".repeat(10));
    }));
}
