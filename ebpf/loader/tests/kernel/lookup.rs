//! Every verdict of `edge_steer`, on made-up lookups.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Duration;

use constellation_ebpf_loader::abi::steer::Verdict;
use constellation_ebpf_loader::steering::{OnLoss, Steering};
use constellation_ebpf_loader::{BootTime, Lookup};
use constellation_tests::require;

use crate::sandbox;
use crate::sockets::{dest, for_long, steering, tcp, udp};

const TCP: u32 = 6;
const UDP: u32 = 17;

/// A lookup of a client at `from` for `to`.
pub(crate) fn lookup(protocol: u32, from: &str, to: &str) -> Lookup {
    let from: SocketAddr = from.parse().unwrap();
    let to: SocketAddr = to.parse().unwrap();
    let mut lookup = Lookup {
        protocol,
        remote_port: from.port().to_be_bytes(),
        local_port: to.port().into(),
        ..Lookup::default()
    };
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            lookup.family = 2;
            lookup.remote_ip4 = from.octets();
            lookup.local_ip4 = to.octets();
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            lookup.family = 10;
            lookup.remote_ip6 = from.octets();
            lookup.local_ip6 = to.octets();
        }
        _ => panic!("both ends are of one family"),
    }
    lookup
}

/// Runs one lookup, and says which counter went up by it, and whether the lookup went on with a socket.
fn judge(steering: &mut Steering, lookup: &Lookup) -> (Verdict, bool, bool) {
    let before = steering.stats().unwrap();
    let outcome = steering.test(lookup, 1).unwrap();
    let after = steering.stats().unwrap();
    let mut counted = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before.1 != after.1);
    let (_, (verdict, _)) = counted.next().expect("one counter goes up");
    assert_eq!(counted.count(), 0, "no other one does");
    (*verdict, outcome.passed, outcome.cookie.is_some())
}

/// What each verdict means for the lookup: does it go on, and with a socket of ours?
fn expect(verdict: Verdict) -> (Verdict, bool, bool) {
    (verdict, verdict.passes(), verdict == Verdict::Steered)
}

#[test]
fn every_verdict_of_a_lookup() {
    require!(sandbox::run(|| {
        let mut steering = steering();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listener6 = TcpListener::bind("[::1]:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket6 = UdpSocket::bind("[::1]:0").unwrap();
        steering
            .set_binds(&[
                tcp("10.0.0.0/8", 80, 0),
                tcp("fd00::/16", 80, 1),
                udp("10.0.0.0/8", 53, 2),
                udp("fd00::/16", 53, 3),
                tcp("10.0.0.0/8", 81, 4),
                // A listener of the wrong family.
                tcp("10.0.0.0/8", 82, 5),
            ])
            .unwrap();
        for (number, fd) in [
            (0, listener.as_fd()),
            (1, listener6.as_fd()),
            (2, socket.as_fd()),
            (3, socket6.as_fd()),
        ] {
            steering.insert_listeners(dest(number), &[fd]).unwrap();
        }
        let v6_only = {
            let socket = nix::sys::socket::socket(
                nix::sys::socket::AddressFamily::Inet6,
                nix::sys::socket::SockType::Stream,
                nix::sys::socket::SockFlag::SOCK_CLOEXEC,
                None,
            )
            .unwrap();
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv6V6Only, &true).unwrap();
            nix::sys::socket::listen(&socket, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
            socket
        };
        steering.insert_listeners(dest(5), &[v6_only.as_fd()]).unwrap();

        let cases = [
            (TCP, "192.0.2.1:1000", "10.1.2.3:80", Verdict::Steered),
            (TCP, "192.0.2.1:1000", "10.1.2.3:443", Verdict::Unbound),
            (TCP, "192.0.2.1:1000", "11.1.2.3:80", Verdict::Unbound),
            (TCP, "192.0.2.1:1000", "10.1.2.3:53", Verdict::Unbound),
            (TCP, "192.0.2.1:1000", "10.1.2.3:81", Verdict::NoListener),
            (TCP, "192.0.2.1:1000", "10.1.2.3:82", Verdict::Unassignable),
            (TCP, "[2001:db8::1]:1000", "[fd00::1]:80", Verdict::Steered),
            (TCP, "[2001:db8::1]:1000", "[fd01::1]:80", Verdict::Unbound),
            (UDP, "192.0.2.1:1000", "10.1.2.3:53", Verdict::Steered),
            (UDP, "192.0.2.1:1000", "10.1.2.3:80", Verdict::Unbound),
            (UDP, "[2001:db8::1]:1000", "[fd00::1]:53", Verdict::Steered),
            (UDP, "[2001:db8::1]:1000", "[fd00::1]:80", Verdict::Unbound),
            // IPv4 bytes at the head of an IPv6 address are no IPv4 address.
            (TCP, "[2001:db8::1]:1000", "[a01:203::]:80", Verdict::Unbound),
        ];
        steering.grant(1, for_long()).unwrap();
        for (protocol, from, to, verdict) in cases {
            let judged = judge(&mut steering, &lookup(protocol, from, to));
            assert_eq!(judged, expect(verdict), "{from} to {to} over {protocol}");
        }

        // The grant is over: a bound address is refused whoever listens, an unbound one is left alone all the same.
        steering.grant(2, BootTime::from_nanos(1)).unwrap();
        for (protocol, from, to, verdict) in cases {
            let verdict = if verdict == Verdict::Unbound {
                verdict
            } else {
                Verdict::NoGrant
            };
            assert_eq!(
                judge(&mut steering, &lookup(protocol, from, to)),
                expect(verdict),
                "{to}"
            );
        }
        steering.set_on_loss(OnLoss::Pass).unwrap();
        for (protocol, from, to, verdict) in cases {
            let verdict = if verdict == Verdict::Unbound {
                verdict
            } else {
                Verdict::Passed
            };
            assert_eq!(
                judge(&mut steering, &lookup(protocol, from, to)),
                expect(verdict),
                "{to}"
            );
        }
        // A grant makes it ours again, and what was set for its end stays.
        steering.grant(3, for_long()).unwrap();
        assert_eq!(
            judge(&mut steering, &lookup(TCP, cases[0].1, cases[0].2)),
            expect(Verdict::Steered)
        );
        steering.revoke().unwrap();
        assert_eq!(
            judge(&mut steering, &lookup(TCP, cases[0].1, cases[0].2)),
            expect(Verdict::Passed)
        );
    }));
}

#[test]
fn a_named_port_wins_over_any_port_and_then_the_longest_prefix() {
    require!(sandbox::run(|| {
        let mut steering = steering();
        let listeners: Vec<_> = (0..4)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let mut cookies = Vec::new();
        for (number, listener) in (0..).zip(&listeners) {
            steering
                .insert_listeners(dest(number), &[listener.as_fd()])
                .unwrap();
        }
        steering.grant(1, for_long()).unwrap();
        // Who is who, by one address each.
        for number in 0..4 {
            steering.set_binds(&[tcp("10.9.9.9/32", 1, number)]).unwrap();
            let outcome = steering
                .test(&lookup(TCP, "192.0.2.1:1", "10.9.9.9:1"), 1)
                .unwrap();
            cookies.push(outcome.cookie.unwrap());
        }
        steering
            .set_binds(&[
                tcp("0.0.0.0/0", 80, 0),
                tcp("10.0.0.0/8", 80, 1),
                tcp("10.1.0.0/16", 0, 2),
                tcp("10.1.1.1/32", 80, 3),
            ])
            .unwrap();
        for (to, number) in [
            ("11.0.0.1:80", 0),
            ("10.2.0.1:80", 1),
            ("10.1.0.1:81", 2),
            ("10.1.0.1:80", 1),
            ("10.1.1.1:80", 3),
        ] {
            let outcome = steering.test(&lookup(TCP, "192.0.2.1:1", to), 1).unwrap();
            assert_eq!(outcome.cookie, Some(cookies[number]), "{to}");
        }
    }));
}

#[test]
fn a_udp_client_stays_with_its_socket_and_clients_are_spread() {
    require!(sandbox::run(|| {
        let mut steering = steering();
        let mut sockets: Vec<_> = (0..4).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let fds: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
        steering.insert_listeners(dest(0), &fds).unwrap();
        steering
            .set_binds(&[udp("0.0.0.0/0", 53, 0), udp("::/0", 53, 0)])
            .unwrap();
        steering.grant(1, for_long()).unwrap();
        let mut seen = std::collections::HashMap::<u64, usize>::new();
        for port in 1024..2048 {
            let client = format!("192.0.2.1:{port}");
            let of_client = lookup(UDP, &client, "10.0.0.1:53");
            let first = steering.test(&of_client, 1).unwrap().cookie.unwrap();
            assert_eq!(steering.test(&of_client, 1).unwrap().cookie, Some(first));
            *seen.entry(first).or_default() += 1;
        }
        assert_eq!(seen.len(), 4);
        assert!(
            seen.values().all(|clients| *clients > 128),
            "about 256 each: {seen:?}"
        );

        // One is closed: its clients go to another.
        sockets.remove(0);
        for port in 1024..1100 {
            let client = format!("192.0.2.1:{port}");
            assert!(
                steering
                    .test(&lookup(UDP, &client, "10.0.0.1:53"), 1)
                    .unwrap()
                    .cookie
                    .is_some()
            );
        }
    }));
}

#[test]
fn the_deadline_is_the_kernels_clock() {
    require!(sandbox::run(|| {
        let mut steering = steering();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        steering.insert_listeners(dest(0), &[listener.as_fd()]).unwrap();
        steering.set_binds(&[tcp("10.0.0.0/8", 80, 0)]).unwrap();
        let asked = lookup(TCP, "192.0.2.1:1", "10.0.0.1:80");
        let deadline = BootTime::now() + Duration::from_millis(100);
        steering.grant(1, deadline).unwrap();
        // Nobody writes; the verdict turns all the same, never before the deadline and always after it.
        loop {
            let before = BootTime::now();
            let passed = steering.test(&asked, 1).unwrap().passed;
            let after = BootTime::now();
            if after < deadline {
                assert!(passed, "refused before the deadline");
            }
            if before >= deadline {
                assert!(!passed, "passed after the deadline");
                break;
            }
        }
    }));
}
