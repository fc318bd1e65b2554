//! Limits, and crowds of forged addresses.

use std::net::{Ipv4Addr, UdpSocket};

use crate::support::{Client, Echo, Node, Plan, descriptors, until};

/// One datagram from each of so many addresses of 127.0.0.0/8.
fn flood(node: &Node, from: u32, sources: u32) {
    for number in from..from + sources {
        let source = Ipv4Addr::from(0x7f40_0000 + number);
        let socket = UdpSocket::bind((source, 0)).unwrap();
        socket.send_to(b"forged", node.address).unwrap();
    }
}

fn seen(node: &Node) -> u64 {
    node.metric("constellation_udp_received_datagrams_total")
        + node.metric("constellation_udp_dropped_datagrams_total")
}

/// What a flood does to clients that have talked before; whether the flood gets replies.
fn survives(silent: bool) {
    let echo = Echo::start("");
    let mut plan = Plan::to(&[echo.address]);
    plan.udp.max_sessions = 256;
    let node = plan.start();
    let clients: Vec<Client> = (0..100).map(|_| Client::of(&node)).collect();
    for client in &clients {
        assert_eq!(client.ask("one"), "one");
        assert_eq!(client.ask("two"), "two");
    }
    let (before, descriptors_before) = (seen(&node), descriptors());
    echo.silent.store(silent, std::sync::atomic::Ordering::SeqCst);
    for part in 0..20 {
        flood(&node, part * 500, 500);
        // The kernel's queue is short; what it drops is not seen by anybody.
        let expected = before + u64::from(part + 1) * 500;
        let mut still = 0;
        until("the flood", || {
            let now = seen(&node);
            still = if now >= expected { 1000 } else { still + 1 };
            still >= 50
        });
    }
    assert!(seen(&node) - before > 5000, "most of the flood has come in");
    assert!(node.open() <= 256);
    let (unanswered, answered) = (node.ended("evicted_unanswered"), node.ended("evicted"));
    assert!(unanswered + answered > 4000, "{unanswered} {answered}");
    assert_eq!(answered == 0, silent, "{unanswered} {answered}");
    assert!(descriptors() <= descriptors_before + 256 - 100 + 10);
    echo.silent.store(false, std::sync::atomic::Ordering::SeqCst);
    let begun = node.metric("constellation_udp_sessions_total");
    for client in &clients {
        assert_eq!(client.ask("three"), "three");
    }
    let now = node.metric("constellation_udp_sessions_total");
    assert_eq!(now, begun, "their sessions are the old ones");
    let newcomer = Client::of(&node);
    assert_eq!(newcomer.ask("me"), "me");
}

#[test]
fn ten_thousand_forged_addresses_push_out_nobody_who_talks() {
    survives(true);
}

#[test]
fn nor_when_they_get_replies() {
    survives(false);
}

#[test]
fn a_source_has_so_many_sessions() {
    let echo = Echo::start("");
    let mut plan = Plan::to(&[echo.address]);
    plan.udp.max_sessions_per_source = Some(3);
    plan.workers = 2;
    let node = plan.start();
    let clients: Vec<Client> = (0..3).map(|_| Client::of(&node)).collect();
    for client in &clients {
        assert_eq!(client.ask("?"), "?");
    }
    let fourth = Client::of(&node);
    fourth.send("?");
    until("the drop", || node.dropped("source") == 1);
    let other = Client::from_to("127.0.0.9", node.address);
    assert_eq!(other.ask("?"), "?");
    for client in &clients {
        assert_eq!(client.ask("again"), "again");
    }
    assert_eq!(node.open(), 4);
}

#[test]
fn no_descriptor_is_left_behind() {
    let echo = Echo::start("");
    let mut plan = Plan::to(&[echo.address]);
    plan.udp.timeout = std::time::Duration::from_secs(1);
    let node = plan.start();
    assert_eq!(Client::of(&node).ask("?"), "?");
    until("the end of the first", || node.open() == 0);
    let before = descriptors();
    for _ in 0..4 {
        let clients: Vec<Client> = (0..200).map(|_| Client::of(&node)).collect();
        for client in &clients {
            client.send("?");
        }
        for client in &clients {
            assert_eq!(client.receive_text(), "?");
        }
        drop(clients);
        until("the end of all", || node.open() == 0);
    }
    assert_eq!(descriptors(), before);
    assert_eq!(node.ended("idle"), 801);
}

#[test]
fn a_datagram_that_seems_to_come_from_the_entry_point_goes_round_no_circle() {
    let echo = Echo::start("");
    let mut plan = Plan::to(&[echo.address]);
    plan.addresses = vec!["0.0.0.0:0"];
    let node = plan.start();
    let port = node.address.port();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket
        .bind(&std::net::SocketAddr::from(([127, 0, 0, 1], port)).into())
        .unwrap();
    let forger = UdpSocket::from(socket);
    forger
        .send_to(b"round", (std::net::Ipv4Addr::new(127, 0, 0, 2), port))
        .unwrap();
    until("the drop", || node.dropped("forged") == 1);
    assert_eq!(node.open(), 0);
    assert_eq!(
        Client::from_to("127.0.0.1", ([127, 0, 0, 2], port).into()).ask("?"),
        "?"
    );
}
