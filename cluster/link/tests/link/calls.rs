//! Calls between two members: many at a time, large beside small, slow beside quick.

use std::sync::Arc;
use std::time::Duration;

use constellation_link::{Direction, LinkError, Purpose, Service};
use futures_util::future::join_all;

use crate::node::{Cluster, HANG, echoed, soon, until};
use crate::proxy::Proxy;

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_call_each_other_with_large_and_small_at_a_time() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let sizes = [0, 1, 9, 100, 5_000, 9_000, 70_000, 900_000];
    let calls = (0..200).map(|turn: usize| {
        let service = if (turn / sizes.len()).is_multiple_of(2) {
            Service::Raft
        } else {
            Service::Control
        };
        let body = vec![u8::try_from(turn % 251).expect("small"); sizes[turn % sizes.len()]];
        let (from, to) = if turn.is_multiple_of(3) {
            (&a, &b)
        } else {
            (&b, &a)
        };
        async move {
            let answer = from.call(to, service, body.clone()).await.expect("an answer");
            assert!(answer == echoed(from, &body), "call {turn}");
        }
    });
    soon("the answers", join_all(calls)).await;
    // Four ways: two services, two directions, a connection each.
    let accepted = [&a, &b].map(|node| node.counters.accepted(Purpose::Peer));
    assert_eq!(accepted, [2, 2]);
    let calls = |direction| {
        let counted = Service::ALL.map(|service| match direction {
            Direction::In => [&a.counters, &b.counters].map(|one| one.calls(service, direction)),
            Direction::Out => [&a.outgoing, &b.outgoing].map(|one| one.calls(service, direction)),
        });
        counted.concat().iter().sum::<u64>()
    };
    assert_eq!((calls(Direction::In), calls(Direction::Out)), (200, 200));
    let (sent, got) = (
        a.outgoing.bytes(Service::Raft, Direction::Out),
        b.counters.bytes(Service::Raft, Direction::In),
    );
    assert_eq!(sent, got);
    assert!(sent > 900_000, "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_are_answered_while_a_large_answer_is_under_way() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let proxy = Proxy::to(b.address, 1024 * 1024, 64 * 1024).await;
    let address = proxy.address.to_string();
    let length = Service::Bulk.answer_limit();
    let bulk = a.call_at(&b.name, &address, Service::Bulk, length.to_string());
    tokio::pin!(bulk);
    soon("a part of the answer", async {
        tokio::select! {
            answer = &mut bulk => panic!("the proxy lets it through: {:?}", answer.map(|answer| answer.len())),
            () = proxy.held.notified() => {}
        }
    })
    .await;
    for turn in 0..50 {
        let heartbeat = a.call_at(&b.name, &address, Service::Raft, vec![turn; 60]);
        tokio::select! {
            answer = heartbeat => assert_eq!(answer, Ok(echoed(&a, [turn; 60]))),
            answer = &mut bulk => panic!("the proxy lets it through: {:?}", answer.map(|answer| answer.len())),
        }
    }
    proxy.go_on();
    assert_eq!(bulk.await.map(|answer| answer.len()), Ok(length));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_waits_or_drops_holds_up_nobody() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let address = [b.address.to_string()];
    let patience = Duration::from_millis(200);
    let never = a
        .links
        .call(&b.name, &address, Service::Control, b"never".to_vec(), patience)
        .await;
    assert!(matches!(never, Err(LinkError::NoAnswer { .. })), "{never:?}");
    let waiting = a.call(&b, Service::Control, "wait");
    tokio::pin!(waiting);
    tokio::select! {
        answer = &mut waiting => panic!("the gate is shut: {answer:?}"),
        () = until("a call that waits", || b.handler.waiting() == 1) => {}
    }
    for body in ["drop", "panic"] {
        let dropped = a.call(&b, Service::Control, body).await;
        let Err(LinkError::NoAnswer { detail, .. }) = &dropped else {
            panic!("{dropped:?}");
        };
        assert!(detail.contains("dropped"), "{detail}");
        // Later, and answered earlier.
        let answer = a.call(&b, Service::Control, "quick").await;
        assert_eq!(answer, Ok(echoed(&a, "quick")));
    }
    b.handler.open();
    assert_eq!(waiting.await, Ok(echoed(&a, "wait")));
    assert_eq!(
        b.counters.accepted(Purpose::Peer),
        1,
        "one connection carried all of it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_calls_are_in_flight_than_a_service_has_places() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let places = Service::Control.in_flight();
    let (a, b) = (Arc::new(a), Arc::new(b));
    let calls: Vec<_> = (0..places + 10)
        .map(|_| {
            let (a, b) = (Arc::clone(&a), Arc::clone(&b));
            tokio::spawn(async move { a.call(&b, Service::Control, "wait").await })
        })
        .collect();
    until("all places", || b.handler.waiting() == places).await;
    // Another service has its own.
    assert_eq!(a.call(&b, Service::Bulk, "3").await, Ok(vec![7; 3]));
    b.handler.open();
    for call in calls {
        assert_eq!(call.await.expect("a task"), Ok(echoed(&a, "wait")));
    }
    assert_eq!(b.handler.most(), places);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_not_sent_and_what_is_just_right_is() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    for service in Service::ALL {
        let limit = service.request_limit();
        let large = a.call(&b, service, vec![b'0'; limit + 1]).await;
        assert!(matches!(large, Err(LinkError::TooLarge { .. })), "{large:?}");
    }
    // An answer is longer than its request here, so this one is dropped, by the other side.
    let limit = Service::Control.request_limit();
    let dropped = a.call(&b, Service::Control, vec![0; limit]).await;
    assert!(matches!(dropped, Err(LinkError::NoAnswer { .. })), "{dropped:?}");
    let room = limit - echoed(&a, "").len();
    let answer = a
        .call(&b, Service::Control, vec![0; room])
        .await
        .expect("an answer");
    assert_eq!(answer.len(), limit);
    assert_eq!(b.counters.accepted(Purpose::Peer), 1, "the connection lives on");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_give_up_leave_no_place_taken_for_good() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let address = [b.address.to_string()];
    for _ in 0..Service::Control.in_flight() {
        let patience = Duration::from_millis(5);
        let wait = b"wait".to_vec();
        let given_up = a
            .links
            .call(&b.name, &address, Service::Control, wait, patience)
            .await;
        assert!(given_up.is_err());
    }
    b.handler.open();
    for turn in 0..2 * Service::Control.in_flight() {
        let body = turn.to_string().into_bytes();
        let answer = a
            .links
            .call(&b.name, &address, Service::Control, body.clone(), HANG)
            .await;
        assert_eq!(answer, Ok(echoed(&a, body)));
    }
}
