//! What comes in goes out: whole, in order, and to who it belongs to.

use std::io::IoSlice;
use std::net::UdpSocket;

use socket2::{MsgHdr, SockRef};

use crate::support::{Client, Echo, Plan, until};

#[test]
fn a_client_has_one_session_and_stays_at_its_back_end() {
    let (a, b) = (Echo::start("a"), Echo::start("b"));
    let mut plan = Plan::to(&[a.address, b.address]);
    plan.workers = 2;
    let node = plan.start();
    let clients: Vec<Client> = (0..40).map(|_| Client::of(&node)).collect();
    let first: Vec<String> = clients.iter().map(|client| client.ask("?")).collect();
    for _ in 0..5 {
        let again: Vec<String> = clients.iter().map(|client| client.ask("?")).collect();
        assert_eq!(again, first);
    }
    assert_eq!(a.peers() + b.peers(), 40, "a socket for each client");
    assert!((18..=22).contains(&a.peers()), "round robin, per worker");
    assert_eq!(node.open(), 40);
    assert_eq!(node.metric("constellation_udp_sessions_total"), 40);
    until("the counters", || {
        node.metric("constellation_udp_sent_datagrams_total") == 240
    });
    assert_eq!(node.metric("constellation_udp_received_datagrams_total"), 240);
    assert_eq!(node.metric("constellation_udp_received_bytes_total"), 240);
    assert_eq!(node.metric("constellation_udp_sent_bytes_total"), 480);
    assert_eq!(node.metric("constellation_endpoint_requests_in_flight"), 40);
}

#[test]
fn empty_and_longest_datagrams_pass_whole() {
    let echo = Echo::start("");
    let node = Plan::to(&[echo.address]).start();
    let client = Client::of(&node);
    for len in [0, 1, 1472, 1473, 9000, 65_506, 65_507, 0] {
        let bytes: Vec<u8> = (0..len).map(|at: usize| (at * 7 % 251) as u8).collect();
        client.send(&bytes);
        assert!(client.receive() == bytes, "{len}");
    }
    assert_eq!(node.dropped("truncated"), 0);
}

/// Sends a train that the kernel cuts.
fn send_train(socket: &UdpSocket, each: u16, bytes: &[u8]) {
    let mut control = Vec::new();
    control.extend_from_slice(&18usize.to_ne_bytes());
    control.extend_from_slice(&17i32.to_ne_bytes());
    control.extend_from_slice(&103i32.to_ne_bytes());
    control.extend_from_slice(&each.to_ne_bytes());
    control.resize(24, 0);
    let bytes = [IoSlice::new(bytes)];
    let message = MsgHdr::new().with_buffers(&bytes).with_control(&control);
    SockRef::from(socket).sendmsg(&message, 0).unwrap();
}

#[test]
fn trains_keep_their_datagrams_apart_and_in_order() {
    let echo = Echo::start("");
    let node = Plan::to(&[echo.address]).start();
    let client = Client::of(&node);
    let mut sent = Vec::new();
    for round in 0..20u8 {
        // Forty whole ones and a short one.
        let train: Vec<u8> = (0..40 * 500 + 77)
            .map(|at: usize| (at / 500) as u8 ^ round)
            .collect();
        send_train(&client.0, 500, &train);
        sent.extend(train.chunks(500).map(<[u8]>::to_vec));
        for _ in 0..41 {
            assert!(client.receive() == sent.remove(0));
        }
    }
    until("the counters", || {
        node.metric("constellation_udp_received_train_datagrams_total") == 820
    });
    assert_eq!(
        node.metric("constellation_udp_received_joined_datagrams_total"),
        820
    );
    assert_eq!(node.metric("constellation_udp_received_datagrams_total"), 820);
    assert_eq!(node.metric("constellation_udp_sent_datagrams_total"), 820);
}

#[test]
fn bursts_of_many_clients_and_all_sizes_stay_in_order() {
    let echo = Echo::start("");
    let mut plan = Plan::to(&[echo.address]);
    plan.workers = 2;
    let node = plan.start();
    let clients: Vec<Client> = (0..20).map(|_| Client::of(&node)).collect();
    for round in 0..50u32 {
        let datagram = |client: usize, number: u32| {
            // Runs of one size, shorter ones and longer ones after them.
            let len = 8 + [100, 100, 100, 40, 100, 1400, 1400, 8][number as usize % 8];
            let mut bytes = vec![client as u8; len];
            bytes[..4].copy_from_slice(&round.to_be_bytes());
            bytes[4..8].copy_from_slice(&number.to_be_bytes());
            bytes
        };
        for (number, client) in clients.iter().enumerate() {
            (0..16).for_each(|n| client.send(datagram(number, n)));
        }
        for (number, client) in clients.iter().enumerate() {
            for n in 0..16 {
                assert!(
                    client.receive() == datagram(number, n),
                    "round {round}, client {number}, {n}"
                );
            }
        }
    }
    assert_eq!(echo.peers(), 20);
}
