//! Sessions whose back end refuses, leaves or drains.

use std::time::Duration;

use constellation_dataplane::departure::{self, Limits};
use constellation_dataplane::table::{Condition, Policy, Service};

use crate::support::{Client, Echo, Node, Plan, nobody, service, service_of, until};

const NONE: Limits = Limits {
    requests: Duration::ZERO,
    upgraded: Duration::ZERO,
};
const LONG: Limits = Limits {
    requests: Duration::from_secs(600),
    upgraded: Duration::from_secs(600),
};

#[test]
fn a_back_end_that_refuses_costs_no_datagram() {
    let echo = Echo::start("b");
    for workers in [1, 2] {
        let mut plan = Plan::to(&[nobody(), echo.address]);
        plan.workers = workers;
        let node = plan.start();
        for _ in 0..5 {
            let client = Client::of(&node);
            (0..5).for_each(|n| client.send(n.to_string()));
            let mut answers: Vec<String> = (0..5).map(|_| client.receive_text()).collect();
            answers.sort();
            assert_eq!(answers, ["b0", "b1", "b2", "b3", "b4"]);
        }
        assert!(node.metric("constellation_udp_moved_sessions_total") >= 1);
        assert_eq!(node.dropped("refused"), 0);
        assert!(node.metric("constellation_endpoint_failures_total") >= 1);
    }
}

#[test]
fn two_back_ends_that_refuse_cost_none_either() {
    let echo = Echo::start("c");
    let node = Plan::to(&[nobody(), nobody(), echo.address]).start();
    for _ in 0..3 {
        let client = Client::of(&node);
        assert_eq!(client.ask("?"), "c?");
    }
}

#[test]
fn nobody_there_is_counted_and_ends_in_no_loop() {
    let node = Plan::to(&[nobody(), nobody()]).start();
    let client = Client::of(&node);
    for number in 1..=20 {
        client.send("anybody?");
        until("the drop", || {
            node.dropped("refused") + node.dropped("unavailable") >= number
        });
    }
    assert!(node.metric("constellation_udp_moved_sessions_total") <= 60);
}

#[test]
fn a_back_end_that_dies_loses_its_sessions_to_another_one() {
    let (mut a, b) = (Echo::start("a"), Echo::start("b"));
    let node = Plan::to(&[a.address, b.address]).start();
    let clients: Vec<Client> = (0..10).map(|_| Client::of(&node)).collect();
    let at_a: Vec<&Client> = clients.iter().filter(|client| client.ask("?") == "a?").collect();
    assert_eq!(at_a.len(), 5);
    a.kill();
    for client in at_a {
        // The one that finds out is lost: a reply may have been lost as well, so it is not sent twice.
        client.send("lost");
        client
            .0
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let answer = loop {
            client.send("!");
            let mut room = [0; 16];
            if let Ok(len) = client.0.recv(&mut room) {
                break String::from_utf8(room[..len].to_vec()).unwrap();
            }
        };
        assert_eq!(answer, "b!");
    }
}

#[test]
fn a_back_end_that_comes_back_gets_clients_again() {
    let (mut a, b) = (Echo::start("a"), Echo::start("b"));
    let node = Plan::to(&[a.address, b.address]).start();
    let address = a.address;
    a.kill();
    for _ in 0..4 {
        assert_eq!(Client::of(&node).ask("?"), "b?");
    }
    let _a = Echo::start_at("a", address);
    until("the return", || Client::of(&node).ask("?") == "a?");
}

/// Publishes what has become of the first back end, as the agent does it.
fn change(node: &Node, number: u64, to: Option<Condition>, left: Option<Limits>, other: &Echo, first: &Echo) {
    let old = node.published.load_full();
    let known = old.table.service("udp/s@test").unwrap();
    let next: Service = match to {
        None => service(&[other.address], Some(known)),
        Some(condition) => service_of(
            &[(first.address, condition), (other.address, Condition::Ready)],
            Policy::default(),
            Some(known),
        ),
    };
    let leaving = known.endpoints.first().unwrap().live.clone();
    node.publish(number, Some(next));
    if let Some(limits) = left {
        departure::depart(&leaving, limits);
    }
}

#[test]
fn a_back_end_that_is_stopped_or_gone_is_left_at_once() {
    for condition in [None, Some(Condition::Unavailable("stopped".into()))] {
        let (a, b) = (Echo::start("a"), Echo::start("b"));
        let node = Plan::to(&[a.address, b.address]).start();
        let client = Client::of(&node);
        assert_eq!(client.ask("?"), "a?");
        change(&node, 2, condition, Some(LONG), &b, &a);
        assert_eq!(client.ask("?"), "b?");
        assert_eq!(node.open(), 1);
    }
}

#[test]
fn a_back_end_that_drains_keeps_its_sessions_up_to_the_limit() {
    let (a, b) = (Echo::start("a"), Echo::start("b"));
    let node = Plan::to(&[a.address, b.address]).start();
    let (old, draining) = (Client::of(&node), Condition::Draining("stopping".into()));
    assert_eq!(old.ask("?"), "a?");
    change(&node, 2, Some(draining.clone()), Some(LONG), &b, &a);
    for _ in 0..3 {
        assert_eq!(old.ask("?"), "a?");
        assert_eq!(Client::of(&node).ask("?"), "b?");
    }
    change(&node, 3, Some(draining), Some(NONE), &b, &a);
    assert_eq!(old.ask("?"), "b?");
}

#[test]
fn a_new_generation_under_traffic_loses_nothing() {
    let (a, b) = (Echo::start(""), Echo::start(""));
    let mut plan = Plan::to(&[a.address, b.address]);
    plan.workers = 2;
    let node = plan.start();
    let clients: Vec<Client> = (0..8).map(|_| Client::of(&node)).collect();
    for number in 2..60u64 {
        for client in &clients {
            (0..4).for_each(|n| client.send(format!("{number} {n}")));
        }
        let old = node.published.load_full();
        let known = old.table.service("udp/s@test").unwrap();
        let both = [a.address, b.address];
        let order = if number % 2 == 0 { [1, 0] } else { [0, 1] };
        node.publish(
            number,
            Some(service(&order.map(|at: usize| both[at]), Some(known))),
        );
        for client in &clients {
            for n in 0..4 {
                assert_eq!(client.receive_text(), format!("{number} {n}"));
            }
        }
    }
    assert_eq!(node.open(), 8, "no session was begun anew");
    assert_eq!(a.peers() + b.peers(), 8);
}
