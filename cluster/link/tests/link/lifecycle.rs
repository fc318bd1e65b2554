//! Servers that stop and come back, here or elsewhere; links that stop; credentials that are replaced.

use std::sync::Arc;

use constellation_identity::tls::Credentials;
use constellation_identity::{Authority, NODE_VALIDITY, SigningRequest, UnixSeconds};
use constellation_link::{LinkError, Purpose, Service};

use crate::node::{Cluster, Echo, Node, echoed, name, soon, until};

/// Calls until it is answered; what it says until then may only be that nobody is there.
async fn answered(from: &Node<Echo>, to: &Node<Echo>, service: Service) -> Vec<u8> {
    soon("an answer", async {
        loop {
            match from.call(to, service, "again").await {
                Ok(answer) => return answer,
                Err(LinkError::Unreachable { .. } | LinkError::NoAnswer { .. }) => {
                    tokio::task::yield_now().await
                }
                Err(other) => panic!("{other}"),
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_ends_its_calls_and_is_found_again_where_it_starts() {
    let cluster = Cluster::new();
    let a = cluster.node("a").await;
    let credentials = Arc::new(cluster.credentials("b", UnixSeconds::now()));
    let mut b = cluster
        .node_with(
            "b",
            Arc::clone(&credentials),
            Arc::new(Echo::default()),
            "127.0.0.1:0",
        )
        .await;
    for elsewhere in [false, true] {
        let stopped = (b.name.clone(), b.address);
        let at = stopped.1.to_string();
        let handler = Arc::downgrade(&b.handler);
        {
            let waiting = a.call_at(&stopped.0, &at, Service::Control, "wait");
            tokio::pin!(waiting);
            tokio::select! {
                answer = &mut waiting => panic!("the gate is shut: {answer:?}"),
                () = until("a call that waits", || b.handler.waiting() == 1) => {}
            }
            b.stop().await;
            let lost = soon("the end of the call", waiting).await;
            assert!(matches!(lost, Err(LinkError::NoAnswer { .. })), "{lost:?}");
        }
        let at = if elsewhere { "127.0.0.1:0" } else { &at };
        b = cluster
            .node_with("b", Arc::clone(&credentials), Arc::new(Echo::default()), at)
            .await;
        assert!(
            handler.upgrade().is_none(),
            "something of the server that stopped is left"
        );
        assert_eq!(b.name, stopped.0);
        assert_eq!(b.address == stopped.1, !elsewhere);
        for service in [Service::Raft, Service::Control] {
            assert_eq!(answered(&a, &b, service).await, echoed(&a, "again"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_are_shut_down_end_their_calls_and_call_nobody_any_more() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let waiting = a.call(&b, Service::Control, "wait");
    tokio::pin!(waiting);
    tokio::select! {
        answer = &mut waiting => panic!("the gate is shut: {answer:?}"),
        () = until("a call that waits", || b.handler.waiting() == 1) => {}
    }
    soon("the end of the links", a.links.shut_down()).await;
    assert_eq!(waiting.await, Err(LinkError::Stopped));
    assert_eq!(a.call(&b, Service::Raft, "x").await, Err(LinkError::Stopped));
    // The call was dropped over there, too.
    soon("the end over there", async {
        while Arc::strong_count(&b.handler) > 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_share_one_attempt() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let calls = (0..30).map(|_| a.call(&b, Service::Control, "x"));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer, Ok(echoed(&a, "x")));
    }
    assert_eq!(
        (a.outgoing.connected(), b.counters.accepted(Purpose::Peer)),
        (1, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authority_is_rotated_under_calls_in_flight() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let second = Authority::generate(cluster.id, UnixSeconds::now()).expect("an authority");
    let old = a.call(&b, Service::Control, "wait");
    tokio::pin!(old);
    tokio::select! {
        answer = &mut old => panic!("the gate is shut: {answer:?}"),
        () = until("a call that waits", || b.handler.waiting() == 1) => {}
    }
    // Both are believed, then both certify anew, then the old one is forgotten.
    let both = cluster
        .trust()
        .with(second.certificate().clone())
        .expect("two authorities");
    let only = both
        .clone()
        .without(cluster.authority.pin())
        .expect("one authority");
    for (certified, trust) in [(false, both.clone()), (true, both), (true, only)] {
        for node in [&a, &b] {
            let now = node.credentials.borrow().clone();
            let next = renewed(&now, certified.then_some(&second), &node.name, trust.clone());
            node.credentials.send_replace(Arc::new(next));
            // In between, one has the new ones and the other has not.
            assert_eq!(a.call(&b, Service::Control, "x").await, Ok(echoed(&a, "x")));
            assert_eq!(b.call(&a, Service::Raft, "x").await, Ok(echoed(&b, "x")));
        }
    }
    assert_eq!(
        b.counters.accepted(Purpose::Peer),
        4,
        "one connection for each credentials of the caller"
    );
    b.handler.open();
    assert_eq!(
        soon("the answer to the old call", old).await,
        Ok(echoed(&a, "wait"))
    );
    // Who missed it all is out.
    let late = cluster.node("late").await;
    let out = late.call(&b, Service::Raft, "x").await;
    assert!(matches!(out, Err(LinkError::Refused { .. })), "{out:?}");
}

/// The same key with a new certificate, or the same certificate; and another trust.
fn renewed(
    now: &Credentials,
    authority: Option<&Authority>,
    node: &constellation_identity::NodeName,
    trust: constellation_identity::Trust,
) -> Credentials {
    let folder = tempfile::tempdir().expect("a folder");
    now.store(folder.path()).expect("stored");
    let key = || {
        let pem = std::fs::read_to_string(folder.path().join("node.pem")).expect("a file");
        constellation_identity::NodeKey::from_pem(&pem).expect("a key")
    };
    let certificate = match authority {
        None => now.certificate().clone(),
        Some(authority) => {
            let request = key().signing_request().expect("a request");
            let request = SigningRequest::parse(&request).expect("a request");
            authority
                .certify(&name(node.as_str()), &request, UnixSeconds::now(), NODE_VALIDITY)
                .expect("a certificate")
        }
    };
    Credentials::new(certificate, key(), trust, UnixSeconds::now()).expect("credentials")
}
