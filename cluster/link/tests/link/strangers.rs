//! Who is not let in, and what both sides read about it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use constellation_identity::UnixSeconds;
use constellation_link::{LinkError, Membership, PEER_ALPN, Purpose, Refused, Service};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::node::{Cluster, Echo, Node, echoed, name, soon, until};
use crate::proxy::Proxy;

#[track_caller]
fn refused(result: Result<Vec<u8>, LinkError>, words: &str) {
    match result {
        Err(LinkError::Refused { reason, .. }) => assert!(reason.contains(words), "{reason}"),
        other => panic!("{other:?}"),
    }
}

/// A connection of `from`, by hand.
async fn raw<H>(
    from: &Node<H>,
    to: &str,
    address: SocketAddr,
    alpn: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let config = from
        .credentials
        .borrow()
        .client(&name(to), alpn)
        .expect("a configuration");
    let stream = TcpStream::connect(address).await.expect("a connection");
    let server = constellation_identity::tls::server_name();
    TlsConnector::from(Arc::new(config)).connect(server, stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_and_another_node_are_refused() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let (a, b) = (ours.node("a").await, ours.node("b").await);
    let stranger = theirs.node("b").await;
    // They don't believe the stranger, and it does not believe them.
    refused(
        a.call(&stranger, Service::Raft, "x").await,
        "an authority that this node does not trust",
    );
    refused(
        stranger.call(&a, Service::Raft, "x").await,
        "an authority that this node does not trust",
    );
    until("both handshakes", || {
        stranger.counters.handshakes_failed() == 1 && a.counters.handshakes_failed() == 1
    })
    .await;
    // The address is another member's.
    let wrong = a
        .call_at(&name("c"), &b.address.to_string(), Service::Raft, "x")
        .await;
    refused(wrong, "the peer is node b, expected node c");
    // Not tried again at once.
    let failed = || b.counters.handshakes_failed();
    until("the handshake", || failed() == 1).await;
    refused(
        a.call_at(&name("c"), &b.address.to_string(), Service::Raft, "x")
            .await,
        "expected node c",
    );
    assert_eq!(a.outgoing.connects_failed(), 2);
    assert_eq!(a.call(&b, Service::Raft, "x").await, Ok(echoed(&a, "x")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_refused_on_either_side() {
    let cluster = Cluster::new();
    let a = cluster.node("a").await;
    let long_ago = UnixSeconds(UnixSeconds::now().0 - 40 * 24 * 3600);
    let expired = cluster.credentials("late", long_ago);
    let late = cluster
        .node_with("late", expired, Arc::new(Echo::default()), "127.0.0.1:0")
        .await;
    refused(a.call(&late, Service::Raft, "x").await, "expired");
    refused(late.call(&a, Service::Raft, "x").await, "CertificateExpired");
    until("the handshake", || a.counters.handshakes_failed() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_removed_is_cut_at_once_and_not_let_in_again() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    assert_eq!(a.call(&b, Service::Raft, "x").await, Ok(echoed(&a, "x")));
    let waiting = a.call(&b, Service::Control, "wait");
    tokio::pin!(waiting);
    tokio::select! {
        answer = &mut waiting => panic!("the gate is shut: {answer:?}"),
        () = until("a call that waits", || b.handler.waiting() == 1) => {}
    }
    cluster.remove("a");
    refused(
        soon("the cut", waiting).await,
        "node a is not a member of this cluster",
    );
    until("both connections", || b.counters.refused(Refused::Removed) == 2).await;
    // And from then on: the certificate is good still, its owner is not.
    refused(a.call(&b, Service::Control, "x").await, "node a is not a member");
    let raw = raw(&a, "b", b.address, PEER_ALPN).await;
    if let Ok(mut raw) = raw {
        let mut words = Vec::new();
        raw.read_to_end(&mut words).await.expect("the end");
        assert!(String::from_utf8_lossy(&words).contains("join again with a new token"));
    }
    until("the refusal", || b.counters.refused(Refused::NotAMember) == 1).await;
    // Nor is it called any more.
    let called = b.call(&a, Service::Raft, "x").await;
    refused(called, "node a is not a member of this cluster");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_given_to_another_node_is_not_the_old_one_any_more() {
    let cluster = Cluster::new();
    let (a, old) = (cluster.node("a").await, cluster.node("b").await);
    assert_eq!(a.call(&old, Service::Raft, "x").await, Ok(echoed(&a, "x")));
    cluster.remove("b");
    let new = cluster.node("b").await;
    refused(
        a.call(&old, Service::Raft, "x").await,
        "node b is not a member of this cluster",
    );
    refused(old.call(&a, Service::Raft, "x").await, "node b is not a member");
    assert_eq!(a.call(&new, Service::Raft, "x").await, Ok(echoed(&a, "x")));
    assert_eq!(new.call(&a, Service::Raft, "x").await, Ok(echoed(&new, "x")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_know_the_members_takes_every_certificate_of_the_cluster() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    cluster.tell.send_replace(Membership::AnyOfTheCluster);
    cluster.remove_silently("a");
    assert_eq!(a.call(&b, Service::Raft, "x").await, Ok(echoed(&a, "x")));
    // Now it knows.
    cluster.publish();
    until("the cut", || b.counters.refused(Refused::Removed) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_spoken_here_is_closed_and_counted() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    raw(&a, "b", b.address, b"h2").await.expect_err("closed");
    until("the protocol", || b.counters.refused(Refused::Protocol) == 1).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01\x00\x05\x02aaaa",
        b"",
    ] {
        let mut stream = TcpStream::connect(b.address).await.expect("a connection");
        stream.write_all(bytes).await.expect("written");
        stream.shutdown().await.expect("half closed");
        let mut answer = Vec::new();
        // A reset is as good.
        drop(soon("the end", stream.read_to_end(&mut answer)).await);
        assert_eq!(answer, b"");
    }
    until("the others", || b.counters.refused(Refused::Hello) == 3).await;
    assert_eq!(b.counters.handshakes_failed(), 0);
    assert_eq!(a.call(&b, Service::Raft, "x").await, Ok(echoed(&a, "x")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_comes_byte_by_byte_is_a_hello() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let proxy = Proxy::to(b.address, usize::MAX, 1).await;
    let answer = a
        .call_at(&b.name, &proxy.address.to_string(), Service::Raft, "x")
        .await;
    assert_eq!(answer, Ok(echoed(&a, "x")));
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_say_nothing_do_not_lock_members_out() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(b.address).await.expect("a connection"));
    }
    assert_eq!(a.call(&b, Service::Raft, "x").await, Ok(echoed(&a, "x")));
    assert!(b.counters.refused(Refused::Handshakes) > 0);
    drop(silent);
}

/// A frame's header, with any numbers.
fn header(length: u32, service: u8, kind: u8) -> Vec<u8> {
    [&length.to_be_bytes()[..], &1_u32.to_be_bytes(), &[service, kind]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_sends_what_is_no_frame_is_cut_before_its_body_is_read() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let long = |service: Service| u32::try_from(service.request_limit() + 1).expect("fits");
    let bad = [
        header(long(Service::Raft), 1, 0),
        header(long(Service::Control), 2, 0),
        header(long(Service::Bulk), 3, 0),
        header(u32::MAX, 1, 0),
        header(1, 4, 0),
        header(1, 1, 1),
        header(0, 1, 9),
    ];
    for (count, bytes) in (1..).zip(bad) {
        let mut stream = raw(&a, "b", b.address, PEER_ALPN).await.expect("a member");
        stream.write_all(&bytes).await.expect("written");
        stream.flush().await.expect("written");
        let mut answer = Vec::new();
        drop(soon("the end", stream.read_to_end(&mut answer)).await);
        assert_eq!(answer, b"");
        until("the count", || b.counters.refused(Refused::Malformed) == count).await;
    }
    assert_eq!(a.call(&b, Service::Raft, "x").await, Ok(echoed(&a, "x")));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_frame_and_silence_end_a_connection_and_no_frame_does_not() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a").await, cluster.node("b").await);
    let mut quiet = raw(&a, "b", b.address, PEER_ALPN).await.expect("a member");
    let whole = [header(5, 1, 0), b"whole".to_vec()].concat();
    let halves = [whole[..4].to_vec(), whole[..12].to_vec()].map(|half| {
        let (a, address) = (&a, b.address);
        async move {
            let mut stream = raw(a, "b", address, PEER_ALPN).await.expect("a member");
            stream.write_all(&half).await.expect("written");
            stream.flush().await.expect("written");
            let mut answer = Vec::new();
            drop(soon("the end", stream.read_to_end(&mut answer)).await);
            assert_eq!(answer, b"");
        }
    });
    futures_util::future::join_all(halves).await;
    // This one was silent for as long.
    quiet.write_all(&whole).await.expect("written");
    quiet.flush().await.expect("written");
    let mut answer = vec![0; 10 + "a: whole".len()];
    soon("the answer", quiet.read_exact(&mut answer))
        .await
        .expect("an answer");
    assert_eq!(&answer[10..], b"a: whole");
    assert_eq!(b.counters.accepted(Purpose::Peer), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_the_address_is_told_with_the_address() {
    let cluster = Cluster::new();
    let (a, mut b) = (cluster.node("a").await, cluster.node("b").await);
    b.stop().await;
    let error = a.call(&b, Service::Raft, "x").await.expect_err("nobody");
    let LinkError::Unreachable { peer, detail } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(peer, "node b");
    assert!(
        detail.contains(&b.address.to_string()) && detail.contains("refused"),
        "{detail}"
    );
    let none = a
        .links
        .call(&name("c"), &[], Service::Raft, vec![], Duration::from_secs(1))
        .await;
    assert!(
        none.expect_err("no address")
            .to_string()
            .contains("no address of it is known")
    );
}
