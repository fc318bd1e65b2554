//! What clients see: real sockets, steered.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Duration;

use constellation_ebpf_loader::steering::{Attached, Changes, OnLoss};
use constellation_ebpf_loader::{BootTime, Error};
use constellation_tests::require;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, setsockopt, socket,
    sockopt,
};
use std::os::fd::{AsRawFd as _, OwnedFd};

use crate::sandbox;
use crate::sockets::{Named, ask, dest, for_long, refused, send, steering, tcp, udp};

const REFUSED: Result<String, ErrorKind> = Err(ErrorKind::ConnectionRefused);

#[test]
fn one_listener_serves_prefixes_and_ports_as_long_as_the_grant_lasts() {
    require!(sandbox::run(|| {
        let mut steering = steering();
        let edge = Named::at("127.0.0.1:0", "edge");
        steering
            .set_binds(&[tcp("127.77.0.0/16", 443, 0), tcp("127.0.0.9/32", 0, 0)])
            .unwrap();
        steering.insert_listeners(dest(0), &[edge.fd()]).unwrap();
        assert_eq!(steering.attach().unwrap(), Attached::New);
        let served = || ask("127.77.3.4:443", &[&edge]);

        assert_eq!(served(), REFUSED, "no grant yet");
        steering.grant(7, for_long()).unwrap();
        assert_eq!(served(), Ok("edge".into()));
        assert_eq!(
            ask("127.77.255.255:443", &[&edge]),
            Ok("edge".into()),
            "the whole prefix"
        );
        assert_eq!(ask("127.0.0.9:12345", &[&edge]), Ok("edge".into()), "any port");
        assert_eq!(
            ask("127.77.3.4:444", &[&edge]),
            REFUSED,
            "not bound, and nobody listens"
        );

        // The grant ends while nobody writes, and comes back.
        steering
            .grant(7, BootTime::now() + Duration::from_millis(50))
            .unwrap();
        while steering
            .granted()
            .unwrap()
            .valid_until
            .remaining(BootTime::now())
            .is_some()
        {
            std::thread::yield_now();
        }
        assert_eq!(served(), REFUSED, "the grant is over");
        steering.grant(7, for_long()).unwrap();
        assert_eq!(served(), Ok("edge".into()), "renewed");
        steering.revoke().unwrap();
        assert_eq!(served(), REFUSED, "revoked");

        // An older lease can't come back, a later one can.
        let stale = steering.grant(6, for_long()).unwrap_err();
        assert!(
            matches!(stale, Error::StaleEpoch { given: 6, held: 7 }),
            "{stale}"
        );
        assert_eq!(served(), REFUSED);
        steering.grant(8, for_long()).unwrap();
        assert_eq!(served(), Ok("edge".into()));
    }));
}

#[test]
fn what_is_established_outlives_the_grant() {
    require!(sandbox::run(|| {
        use std::io::{Read as _, Write as _};
        let mut steering = steering();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        steering.set_binds(&[tcp("127.0.0.9/32", 80, 0)]).unwrap();
        steering.insert_listeners(dest(0), &[listener.as_fd()]).unwrap();
        steering.attach().unwrap();
        steering.grant(1, for_long()).unwrap();
        let mut client = std::net::TcpStream::connect("127.0.0.9:80").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        steering.revoke().unwrap();
        steering.remove_listeners(dest(0)).unwrap();
        let mut heard = [0; 4];
        client.write_all(b"ping").unwrap();
        server.read_exact(&mut heard).unwrap();
        server.write_all(&heard).unwrap();
        client.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"ping");
        assert_eq!(
            server.local_addr().unwrap(),
            "127.0.0.9:80".parse().unwrap(),
            "the address that was asked"
        );
    }));
}

#[test]
fn a_stranger_on_the_port_gets_nothing_unless_it_may() {
    require!(sandbox::run(|| {
        let mut steering = steering();
        let edge = Named::at("127.0.0.1:0", "edge");
        let stranger = Named::at("127.0.0.9:8080", "stranger");
        let served = || ask("127.0.0.9:8080", &[&edge, &stranger]);
        steering.attach().unwrap();
        assert_eq!(served(), Ok("stranger".into()), "not bound: left alone");
        steering.set_binds(&[tcp("127.0.0.9/32", 8080, 0)]).unwrap();
        assert_eq!(served(), REFUSED, "ours, without a grant");
        steering.grant(1, for_long()).unwrap();
        assert_eq!(served(), REFUSED, "ours, without a listener");
        steering.insert_listeners(dest(0), &[edge.fd()]).unwrap();
        assert_eq!(served(), Ok("edge".into()));
        // The listener dies, as with a process.
        drop(edge);
        let served = || ask("127.0.0.9:8080", &[&stranger]);
        assert_eq!(served(), REFUSED, "the listener is dead");
        steering.revoke().unwrap();
        steering.set_on_loss(OnLoss::Pass).unwrap();
        assert_eq!(served(), Ok("stranger".into()), "without a grant it may");
        steering.grant(1, for_long()).unwrap();
        assert_eq!(served(), REFUSED, "with a grant it may not");
        steering.set_binds(&[]).unwrap();
        assert_eq!(served(), Ok("stranger".into()), "no longer bound");
    }));
}

#[test]
fn ipv6_and_a_dual_stack_listener() {
    require!(sandbox::run(|| {
        let mut steering = steering();
        let edge = Named::at("[::]:0", "edge");
        steering
            .set_binds(&[tcp("::1/128", 80, 0), tcp("127.0.0.9/32", 80, 0)])
            .unwrap();
        steering.insert_listeners(dest(0), &[edge.fd()]).unwrap();
        steering.attach().unwrap();
        assert_eq!(ask("[::1]:80", &[&edge]), REFUSED);
        steering.grant(1, for_long()).unwrap();
        assert_eq!(ask("[::1]:80", &[&edge]), Ok("edge".into()));
        assert_eq!(
            ask("127.0.0.9:80", &[&edge]),
            Ok("edge".into()),
            "IPv4 on the same socket"
        );
    }));
}

#[test]
fn datagrams_are_steered_and_refused() {
    require!(sandbox::run(|| {
        let mut steering = steering();
        let edge = UdpSocket::bind("127.0.0.1:0").unwrap();
        let edge6 = UdpSocket::bind("[::1]:0").unwrap();
        let stranger = UdpSocket::bind("127.0.0.9:53").unwrap();
        for socket in [&edge, &edge6, &stranger] {
            socket.set_nonblocking(true).unwrap();
        }
        let heard = |socket: &UdpSocket| socket.recv_from(&mut [0; 16]).is_ok();
        steering
            .set_binds(&[udp("127.0.0.9/32", 53, 0), udp("::1/128", 53, 1)])
            .unwrap();
        steering.insert_listeners(dest(0), &[edge.as_fd()]).unwrap();
        steering.insert_listeners(dest(1), &[edge6.as_fd()]).unwrap();
        steering.attach().unwrap();

        assert!(refused(&send("127.0.0.9:53").unwrap()), "no grant");
        assert!(refused(&send("[::1]:53").unwrap()), "no grant");
        steering.grant(1, for_long()).unwrap();
        assert!(!refused(&send("127.0.0.9:53").unwrap()));
        assert!(heard(&edge) && !heard(&stranger));
        assert!(!refused(&send("[::1]:53").unwrap()));
        assert!(heard(&edge6));
        drop(edge);
        assert!(refused(&send("127.0.0.9:53").unwrap()), "the socket is dead");
        assert!(!heard(&stranger));
    }));
}

/// A listener in a `SO_REUSEPORT` group with everybody else at the address.
fn member(address: &SockaddrIn) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    setsockopt(&listener, sockopt::ReusePort, &true).unwrap();
    bind(listener.as_raw_fd(), address).unwrap();
    listen(&listener, Backlog::new(64).unwrap()).unwrap();
    listener
}

#[test]
fn within_a_reuseport_group_the_kernel_picks() {
    require!(sandbox::run(|| {
        let mut steering = steering();
        let first = member(&SockaddrIn::new(127, 0, 0, 1, 0));
        let address = getsockname::<SockaddrIn>(first.as_raw_fd()).unwrap();
        let second = member(&address);
        // Only one of the two is in the map.
        steering.insert_listeners(dest(0), &[first.as_fd()]).unwrap();
        let (first, second) = (
            Named::on(first.into(), "first"),
            Named::on(second.into(), "second"),
        );
        steering.set_binds(&[tcp("127.0.0.9/32", 80, 0)]).unwrap();
        steering.attach().unwrap();
        steering.grant(1, for_long()).unwrap();
        let mut served = (0, 0);
        for _ in 0..64 {
            match ask("127.0.0.9:80", &[&first, &second]).unwrap().as_str() {
                "first" => served.0 += 1,
                "second" => served.1 += 1,
                other => panic!("{other}"),
            }
        }
        // By a hash of both ends: all 64 at one of them has a chance of 1 in 2^63.
        assert!(served.0 > 0 && served.1 > 0, "{served:?}");
    }));
}

#[test]
fn a_listener_that_dies_alone_leaves_its_share_to_the_others() {
    require!(sandbox::run(|| {
        let mut steering = steering();
        let first = Named::at("127.0.0.1:0", "first");
        let second = Named::at("127.0.0.1:0", "second");
        steering
            .insert_listeners(dest(0), &[first.fd(), second.fd()])
            .unwrap();
        steering.set_binds(&[tcp("127.0.0.9/32", 80, 0)]).unwrap();
        steering.attach().unwrap();
        steering.grant(1, for_long()).unwrap();
        drop(first);
        for _ in 0..8 {
            assert_eq!(ask("127.0.0.9:80", &[&second]), Ok("second".into()));
        }
    }));
}

#[test]
fn a_thousand_ports_and_a_hundred_addresses_come_and_go() {
    require!(sandbox::run(|| {
        let mut steering = steering();
        let edge = Named::at("127.0.0.1:0", "edge");
        steering.insert_listeners(dest(0), &[edge.fd()]).unwrap();
        steering.attach().unwrap();
        steering.grant(1, for_long()).unwrap();
        let stays = tcp("127.1.0.1/32", 1, 0);
        let many: Vec<_> = (1..=1000)
            .flat_map(|port| (1..=100).map(move |host| tcp(&format!("127.1.0.{host}/32"), port, 0)))
            .collect();
        assert_eq!(
            steering.set_binds(&[stays]).unwrap(),
            Changes {
                written: 1,
                removed: 0
            }
        );
        assert_eq!(
            steering.set_binds(&many).unwrap(),
            Changes {
                written: 99_999,
                removed: 0
            }
        );
        assert_eq!(ask("127.1.0.100:1000", &[&edge]), Ok("edge".into()));
        assert_eq!(ask("127.1.0.1:1", &[&edge]), Ok("edge".into()));
        assert_eq!(
            steering.set_binds(&[stays]).unwrap(),
            Changes {
                written: 0,
                removed: 99_999
            }
        );
        assert_eq!(ask("127.1.0.100:1000", &[&edge]), REFUSED);
        assert_eq!(ask("127.1.0.1:1", &[&edge]), Ok("edge".into()));
    }));
}

#[test]
fn sockets_that_take_no_clients_are_refused_in_words() {
    require!(sandbox::run(|| {
        let mut steering = steering();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(address).unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let connected = UdpSocket::bind(address).unwrap();
        connected.connect("127.0.0.1:9").unwrap();
        let fresh = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        for (what, wrong) in [
            ("established", client.as_fd()),
            ("connected", connected.as_fd()),
            ("fresh", fresh.as_fd()),
        ] {
            let error = steering
                .insert_listeners(dest(1), &[listener.as_fd(), wrong])
                .unwrap_err();
            assert!(matches!(error, Error::NotListening(1)), "{what}: {error}");
        }
        let error = steering.insert_listeners(dest(1), &[]).unwrap_err();
        assert!(matches!(error, Error::NoListener(1)), "{error}");
        // A file is no socket at all.
        let file = std::fs::File::open("/dev/null").unwrap();
        let error = steering.insert_listeners(dest(1), &[file.as_fd()]).unwrap_err();
        assert!(error.to_string().contains("destination 1"), "{error}");
        steering.insert_listeners(dest(1), &[listener.as_fd()]).unwrap();
    }));
}
