//! `edge_guard` at real devices: a cable to a peer in a namespace of its own, the loopback device, a tun device.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Instant;

use constellation_ebpf_loader::abi::guard::Verdict;
use constellation_ebpf_loader::guard::{Ban, Device, Hook, Limits, Rate};
use constellation_ebpf_loader::steering::Protocol;
use constellation_ebpf_loader::{Error, Guard, Lock, Namespace, Origin, detach, status};
use constellation_tests::packet::datagram;
use constellation_tests::require;
use constellation_tests::sandbox::ip;
use constellation_tests::tun::Tun;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::judge::guard;
use crate::packets::ethernet;
use crate::sandbox::{self, EDGE, NEIGHBOUR, PEER, Peer, SERVICE};
use crate::sockets::PATIENCE;

const PORT: u16 = 5000;
const BAN: Ban = Ban {
    reason: 4,
    until: None,
};

fn count(guard: &Guard, verdict: Verdict) -> u64 {
    let stats = guard.stats().unwrap();
    stats.iter().find(|(counted, _)| *counted == verdict).unwrap().1
}

/// Waits until a counter has passed a value.
fn until_counted(guard: &Guard, verdict: Verdict, more_than: u64) {
    let started = Instant::now();
    while count(guard, verdict) <= more_than {
        assert!(started.elapsed() < PATIENCE, "{verdict:?} stays at {more_than}");
        std::thread::yield_now();
    }
}

/// Sends a datagram from one of the peer's addresses.
fn send(peer: &Peer, from: &'static str) {
    peer.run(move || {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.send_to(b"hello", (EDGE, PORT)).unwrap();
    });
}

/// Whether a datagram from an address arrives; that it does not is known from the counter.
fn arrives(guard: &Guard, peer: &Peer, socket: &UdpSocket, from: &'static str) -> bool {
    let denied = count(guard, Verdict::Denied);
    send(peer, from);
    let started = Instant::now();
    loop {
        if socket.recv_from(&mut [0; 16]).is_ok() {
            return true;
        }
        if count(guard, Verdict::Denied) > denied {
            return false;
        }
        assert!(started.elapsed() < PATIENCE, "neither here nor denied");
        std::thread::yield_now();
    }
}

fn receiver() -> UdpSocket {
    let socket = UdpSocket::bind((EDGE, PORT)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

#[test]
fn bans_hold_at_every_hook_and_moves_between_hooks_leave_one() {
    require!(sandbox::run_with_peer(|peer| {
        let mut guard = guard();
        let socket = receiver();
        assert!(arrives(&guard, peer, &socket, PEER), "nothing is attached");
        guard.deny(format!("{PEER}/32").parse().unwrap(), BAN).unwrap();
        assert!(arrives(&guard, peer, &socket, PEER), "nothing is attached yet");

        let links = || status(&Namespace::current().unwrap()).unwrap().links;
        let check = |guard: &mut Guard, what: &str| {
            assert!(!arrives(guard, peer, &socket, PEER), "{what}");
            assert!(arrives(guard, peer, &socket, NEIGHBOUR), "{what}");
            guard.allow(format!("{PEER}/31").parse().unwrap()).unwrap();
            assert!(arrives(guard, peer, &socket, PEER), "{what}: the allow list wins");
            guard.remove_allow(format!("{PEER}/31").parse().unwrap()).unwrap();
            assert!(!arrives(guard, peer, &socket, PEER), "{what}");
        };
        assert_eq!(guard.attach("edge").unwrap(), Hook::Tcx);
        check(&mut guard, "TCX");
        assert_eq!(links().len(), 1);

        let moved = guard.set_under_attack(true);
        assert!(moved.iter().all(|moved| moved.obstacle.is_none()), "{moved:?}");
        assert_eq!(moved[0].attachment.hook, Hook::Xdp);
        check(&mut guard, "XDP");
        assert_eq!(links().len(), 1, "not at two hooks");
        assert!(links()[0].pin.to_string_lossy().contains("xdp"));

        let moved = guard.set_under_attack(false);
        assert_eq!(moved[0].attachment.hook, Hook::Tcx);
        check(&mut guard, "TCX again");
        assert_eq!(links().len(), 1);

        guard.detach("edge").unwrap();
        assert!(arrives(&guard, peer, &socket, PEER), "detached");
        assert_eq!(guard.attach_clsact("edge").unwrap(), Hook::Clsact);
        check(&mut guard, "clsact");
        assert_eq!(
            guard.attach_clsact("edge").unwrap(),
            Hook::Clsact,
            "once more, in place of itself"
        );
        check(&mut guard, "clsact again");
        guard.detach("edge").unwrap();
        assert!(arrives(&guard, peer, &socket, PEER), "detached");
    }));
}

#[test]
fn a_source_that_floods_is_limited_and_its_neighbour_is_served() {
    require!(sandbox::run_with_peer(|peer| {
        let mut guard = guard();
        guard.set_guarded_ports(&[(Protocol::Tcp, PORT)]).unwrap();
        let connections = Rate {
            per_second: 1,
            burst: 10,
        };
        guard
            .set_limits(&Limits {
                connections,
                ..Limits::default()
            })
            .unwrap();
        guard.attach("edge").unwrap();
        let _guarded = TcpListener::bind((EDGE, PORT)).unwrap();
        let _other = TcpListener::bind((EDGE, PORT + 1)).unwrap();
        let connect = |from: &'static str, port: u16| {
            peer.run(move || {
                let from: SocketAddr = format!("{from}:0").parse().unwrap();
                let socket = nix::sys::socket::socket(
                    nix::sys::socket::AddressFamily::Inet,
                    nix::sys::socket::SockType::Stream,
                    nix::sys::socket::SockFlag::SOCK_CLOEXEC | nix::sys::socket::SockFlag::SOCK_NONBLOCK,
                    None,
                )
                .unwrap();
                use std::os::fd::AsRawFd as _;
                let address = nix::sys::socket::SockaddrStorage::from(from);
                nix::sys::socket::bind(socket.as_raw_fd(), &address).unwrap();
                let to: SocketAddr = format!("{EDGE}:{port}").parse().unwrap();
                let started = nix::sys::socket::connect(
                    socket.as_raw_fd(),
                    &nix::sys::socket::SockaddrStorage::from(to),
                );
                assert_eq!(started, Err(nix::Error::EINPROGRESS));
                TcpStream::from(socket)
            })
        };
        let is_connected = |stream: &TcpStream, patience: u16| {
            let mut waiting = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
            poll(&mut waiting, PollTimeout::from(patience)).unwrap() == 1 && stream.peer_addr().is_ok()
        };
        let mut flood = Vec::new();
        while count(&guard, Verdict::SynLimited) == 0 {
            assert!(flood.len() < 500, "never limited");
            flood.push(connect(PEER, PORT));
            let sent = u64::try_from(flood.len()).unwrap();
            while count(&guard, Verdict::SynAdmitted) + count(&guard, Verdict::SynLimited) < sent {
                std::thread::yield_now();
            }
        }
        assert!(flood.len() > 10, "at least the burst: {}", flood.len());
        assert!(is_connected(&flood[0], 10_000));
        assert!(is_connected(&connect(NEIGHBOUR, PORT), 10_000), "another source");
        assert!(
            is_connected(&connect(PEER, PORT + 1), 10_000),
            "a port that is not guarded"
        );
    }));
}

#[test]
fn ipv6_is_guarded_on_the_wire() {
    require!(sandbox::run_with_peer(|peer| {
        let mut guard = guard();
        guard.attach("edge").unwrap();
        guard.deny("fd09::2/128".parse().unwrap(), BAN).unwrap();
        // Neighbour discovery of the peer is denied along with everything else.
        peer.run(|| {
            let socket = UdpSocket::bind("[fd09::2]:0").unwrap();
            let _: std::io::Result<usize> = socket.send_to(b"hello", ("fd09::1", PORT));
        });
        until_counted(&guard, Verdict::Denied, 0);
    }));
}

#[test]
fn a_restart_finds_lists_and_links() {
    require!(sandbox::run_with_peer(|peer| {
        let socket = receiver();
        let mut before = guard();
        assert_eq!(before.origin(), &Origin::New);
        before.deny(format!("{PEER}/32").parse().unwrap(), BAN).unwrap();
        before.attach("edge").unwrap();
        before.set_under_attack(true);
        assert!(!arrives(&before, peer, &socket, PEER));
        let denied = count(&before, Verdict::Denied);
        let link = status(&Namespace::current().unwrap()).unwrap().links.remove(0);
        drop(before);

        // Nobody is there, and the guard is.
        send(peer, PEER);
        let mut after = guard();
        assert_eq!(after.origin(), &Origin::Pinned);
        until_counted(&after, Verdict::Denied, denied);
        assert_eq!(
            after.denied().unwrap(),
            [(format!("{PEER}/32").parse().unwrap(), BAN)]
        );
        assert_eq!(after.attach("edge").unwrap(), Hook::Xdp, "still under attack");
        let replaced = status(&Namespace::current().unwrap()).unwrap().links.remove(0);
        assert_eq!(
            (replaced.id, replaced.program == link.program),
            (link.id, false),
            "another program"
        );
        assert!(!arrives(&after, peer, &socket, PEER));
        after.set_under_attack(false);
        assert!(!arrives(&after, peer, &socket, PEER));

        drop(after);
        detach(&Lock::take(&Namespace::current().unwrap()).unwrap()).unwrap();
        let fresh = guard();
        assert!(arrives(&fresh, peer, &socket, PEER), "everything is gone");
    }));
}

#[test]
fn a_crash_between_two_hooks_leaves_one_after_the_restart() {
    require!(sandbox::run_with_peer(|peer| {
        let socket = receiver();
        let mut before = guard();
        before.set_guarded_ports(&[(Protocol::Udp, PORT)]).unwrap();
        before.attach("edge").unwrap();
        before.set_under_attack(true);
        // As if it had died before it had taken the other one off.
        before.attach_clsact("edge").unwrap();
        let judged = |guard: &Guard| count(guard, Verdict::FlowAdmitted) + count(guard, Verdict::FlowKnown);
        assert!(arrives(&before, peer, &socket, PEER));
        assert_eq!(judged(&before), 2, "the packet was judged twice");
        drop(before);

        let mut after = guard();
        assert_eq!(after.attach("edge").unwrap(), Hook::Xdp);
        assert!(arrives(&after, peer, &socket, NEIGHBOUR));
        assert_eq!(judged(&after), 3, "once");
    }));
}

#[test]
fn events_arrive_at_whoever_waits() {
    require!(sandbox::run_with_peer(|peer| {
        let mut guard = guard();
        guard.deny(format!("{PEER}/32").parse().unwrap(), BAN).unwrap();
        guard.attach("edge").unwrap();
        let mut events = guard.events().unwrap();
        send(peer, PEER);
        let mut waiting = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(PATIENCE).unwrap();
        assert_eq!(poll(&mut waiting, patience).unwrap(), 1, "readable");
        let event = events.next().unwrap();
        assert_eq!((event.verdict, event.reason), (Verdict::Denied, BAN.reason));
        assert_eq!(event.source.to_string(), PEER);
        assert_eq!(events.next(), None);
    }));
}

#[test]
fn a_device_without_ethernet_has_its_own_program_and_no_xdp() {
    let prepare = [
        "tuntap add dev mesh mode tun",
        "addr add 10.8.0.1/24 dev mesh",
        "link set mesh up",
    ];
    require!(sandbox::run_with(SERVICE, &prepare, || {
        assert!(!Device::find("mesh").unwrap().has_ethernet);
        assert!(Device::find("lo").unwrap().has_ethernet);
        let mut guard = guard();
        assert_eq!(guard.attach("mesh").unwrap(), Hook::Tcx);
        let moved = guard.set_under_attack(true);
        assert_eq!(moved[0].attachment.hook, Hook::Tcx, "stays");
        let obstacle = moved[0].obstacle.as_ref().unwrap().to_string();
        assert!(
            obstacle.contains("mesh") && obstacle.contains("Ethernet"),
            "{obstacle}"
        );
        guard.detach("mesh").unwrap();
        let error = guard.attach("nonesuch").unwrap_err();
        assert!(matches!(error, Error::NoDevice(_)), "{error}");
    }));
}

#[test]
fn headers_that_lie_in_several_pieces_are_gathered() {
    for has_ethernet in [false, true] {
        require!(sandbox::run(|| {
            let device = Tun::for_pieces("mesh", has_ethernet).unwrap();
            ip("addr add 10.8.0.1/24 dev mesh").unwrap();
            ip("link set mesh mtu 9000 up").unwrap();
            let mut guard = guard();
            guard.set_guarded_ports(&[(Protocol::Udp, 53)]).unwrap();
            let flows = Rate {
                per_second: 1,
                burst: 10,
            };
            guard
                .set_limits(&Limits {
                    flows,
                    ..Limits::default()
                })
                .unwrap();
            assert_eq!(guard.attach("mesh").unwrap(), Hook::Tcx);
            let from = "10.8.0.9:7".parse().unwrap();
            let packet = datagram(from, "10.8.0.1:53".parse().unwrap(), &[0; 5000]);
            let (packet, before) = if has_ethernet {
                (ethernet(&[], &packet), 14)
            } else {
                (packet, 0)
            };
            // In the midst of the IP header, behind it, in the midst of the ports, and all of them.
            for (known, first) in (0..).zip([4, 20, 22, 28]) {
                device.receives_in_pieces(&packet, before + first).unwrap();
                if known == 0 {
                    until_counted(&guard, Verdict::FlowAdmitted, 0);
                } else {
                    until_counted(&guard, Verdict::FlowKnown, known - 1);
                }
            }
            assert_eq!(count(&guard, Verdict::Malformed), 0);
        }));
    }
}

#[test]
fn a_driver_without_xdp_leaves_the_guard_where_it_is() {
    require!(sandbox::run(|| {
        let mut guard = guard();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        assert_eq!(guard.attach("lo").unwrap(), Hook::Tcx);
        let moved = guard.set_under_attack(true);
        assert_eq!(
            moved[0].attachment.hook,
            Hook::Tcx,
            "the loopback device has no native XDP"
        );
        assert!(moved[0].obstacle.is_some());
        guard.deny("127.0.0.2/32".parse().unwrap(), BAN).unwrap();
        let from = UdpSocket::bind("127.0.0.2:0").unwrap();
        from.send_to(b"hello", socket.local_addr().unwrap()).unwrap();
        until_counted(&guard, Verdict::Denied, 0);
        assert!(socket.recv_from(&mut [0; 16]).is_err());
    }));
}

#[test]
fn a_device_that_is_gone_leaves_a_pin_that_is_cleaned_up() {
    require!(sandbox::run_with(
        SERVICE,
        &["link add edge type veth peer name other"],
        || {
            let mut before = guard();
            before.attach("edge").unwrap();
            let index = Device::find("edge").unwrap().index;
            drop(before);
            let ip = require::program("ip").unwrap();
            let run = |arguments: &str| {
                // The service's own capabilities do not reach a program that it starts; `ip` gets them back by its user.
                let output = std::process::Command::new(&ip)
                    .args(arguments.split(' '))
                    .output()
                    .unwrap();
                assert!(
                    output.status.success(),
                    "{}",
                    String::from_utf8_lossy(&output.stderr)
                );
            };
            run("link del edge");
            run(&format!("link add edge index {index} type veth peer name other"));
            let mut after = guard();
            assert_eq!(
                after.attach("edge").unwrap(),
                Hook::Tcx,
                "a new link, at the new device"
            );
            assert_eq!(status(&Namespace::current().unwrap()).unwrap().links.len(), 1);
        }
    ));
}
