//! How sessions end: by silence, with the node, and what is written down of it.

use std::time::Duration;

use constellation_dataplane::access_log::{self, AccessLog};
use prometheus_client::metrics::counter::Counter;

use crate::support::{Client, Echo, Plan, until};

#[test]
fn silence_of_both_sides_ends_a_session() {
    let echo = Echo::start("");
    let mut plan = Plan::to(&[echo.address]);
    plan.udp.timeout = Duration::from_secs(1);
    let node = plan.start();
    let client = Client::of(&node);
    assert_eq!(client.ask("?"), "?");
    until("the end", || node.open() == 0);
    assert_eq!(node.ended("idle"), 1);
    assert_eq!(client.ask("?"), "?");
    assert_eq!(echo.peers(), 2, "a new session");
}

#[test]
fn a_back_end_that_goes_on_keeps_its_session() {
    let back_end = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    back_end.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let mut plan = Plan::to(&[back_end.local_addr().unwrap()]);
    plan.udp.timeout = Duration::from_millis(1500);
    let node = plan.start();
    let client = Client::of(&node);
    client.send("subscribe");
    let mut room = [0; 16];
    let (_, session) = back_end.recv_from(&mut room).unwrap();
    for _ in 0..20 {
        // Longer than the time-out in all.
        std::thread::sleep(Duration::from_millis(100));
        back_end.send_to(b"news", session).unwrap();
        assert_eq!(client.receive_text(), "news");
    }
    assert_eq!(node.open(), 1);
    assert_eq!(node.metric("constellation_udp_sessions_total"), 1);
}

#[test]
fn a_drain_takes_nobody_new_and_waits_for_the_rest() {
    let echo = Echo::start("");
    let mut plan = Plan::to(&[echo.address]);
    plan.udp.timeout = Duration::from_secs(2);
    plan.drain = Duration::from_secs(30);
    let node = plan.start();
    let (old, new) = (Client::of(&node), Client::of(&node));
    assert_eq!(old.ask("?"), "?");
    let draining = std::thread::spawn(move || node.drain());
    // Who is new gets no answer once the drain has begun; who is known does.
    new.0.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    until("the begin of the drain", || {
        let fresh = new.0.local_addr().unwrap();
        let probe = Client::from_to("127.0.0.1", new.0.peer_addr().unwrap());
        assert_ne!(probe.0.local_addr().unwrap(), fresh);
        probe.0.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        probe.send("?");
        probe.0.recv(&mut [0; 8]).is_err()
    });
    for _ in 0..5 {
        assert_eq!(old.ask("still"), "still");
    }
    assert!(!draining.is_finished());
    assert_eq!(draining.join().unwrap(), 0, "the session ended by itself");
}

#[test]
fn what_outlasts_the_drain_is_cut_and_counted() {
    let echo = Echo::start("");
    let mut plan = Plan::to(&[echo.address]);
    plan.drain = Duration::from_millis(200);
    let node = plan.start();
    let clients: Vec<Client> = (0..3).map(|_| Client::of(&node)).collect();
    for client in &clients {
        assert_eq!(client.ask("?"), "?");
    }
    assert_eq!(node.drain(), 3);
}

#[test]
fn each_session_is_a_line_of_the_access_log() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("access.log");
    let settings = access_log::Settings {
        file: Some(file.clone()),
        format: access_log::Format::Json,
        ..access_log::Settings::default()
    };
    let (log, writer) = AccessLog::start(settings, Counter::default()).unwrap();
    let echo = Echo::start("ab");
    let mut plan = Plan::to(&[echo.address]);
    plan.udp.timeout = Duration::from_secs(1);
    plan.log = log;
    let node = plan.start();
    let client = Client::of(&node);
    assert_eq!(client.ask("?"), "ab?");
    until("the end", || node.ended("idle") == 1);
    // The worker counts first.
    until("the line", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n'))
    });
    drop(node);
    assert!(writer.stop(crate::support::PATIENCE));
    let text = std::fs::read_to_string(file).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let expected = [
        ("kind", "udp".into()),
        ("entryPointName", "dns".into()),
        ("RouterName", "udp/r@test".into()),
        ("ServiceName", "udp/s@test".into()),
        ("ServiceURL", format!("udp://{}", echo.address).into()),
        ("ClientAddr", client.0.local_addr().unwrap().to_string().into()),
        ("BytesReceived", 1.into()),
        ("BytesSent", 3.into()),
        ("End", "idle".into()),
    ];
    for (key, value) in expected {
        let value: serde_json::Value = value;
        assert_eq!(line[key], value, "{key} of {line}");
    }
}
