//! Back ends that can't be reached, or are of no use.

use std::time::Duration;

use constellation_dataplane::departure;
use constellation_dataplane::table::policy::Retry;
use constellation_dataplane::table::{Policy, ProxyProtocolVersion, StreamTransport, Transport};
use constellation_dataplane::tls::TlsView;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Backend, Node, Plan, Stream, dead, exact, exchange, generation, rest, until};

#[tokio::test]
async fn a_refused_connect_costs_no_client_its_connection() {
    let alive = Backend::echo("alive:").await;
    let endpoints = [dead().await, dead().await, alive.address];
    let node = Plan::streams(vec![Stream::to(&endpoints)]).start();
    for _ in 0..30 {
        let answer = exchange(node.connect().await, b"hello").await.unwrap();
        assert_eq!(answer, "alive:hello");
    }
    assert!(
        node.metrics().contains("reason=\"connect\""),
        "{}",
        node.metrics()
    );
    until("the count", || node.ended("complete") == 30.0).await;
    let (cut, log) = node.stop().await;
    assert_eq!((cut, log.len()), (0, 30));
    let retried = log.iter().find(|line| line["RetryAttempts"] != 0).unwrap();
    let attempts = retried["Attempts"].as_array().unwrap();
    assert_eq!(attempts[0]["Failure"], "connect");
    assert_eq!(attempts.last().unwrap()["Connected"], true);
    assert_eq!(retried["kind"], "tcp");
    assert_eq!(
        (&retried["BytesReceived"], &retried["BytesSent"]),
        (&5.into(), &11.into())
    );
}

#[tokio::test]
async fn without_a_back_end_the_client_learns_of_it() {
    // The reset may come before the client has seen that it is connected.
    let reset = async |node: &Node| {
        let error = match tokio::net::TcpStream::connect(node.address).await {
            Ok(mut client) => rest(&mut client).await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    };
    let node = Plan::streams(vec![Stream::to(&[dead().await])]).start();
    reset(&node).await;
    until("the count", || node.ended("unreachable") == 1.0).await;
    // The endpoint is excluded now, and was the only one.
    let none = Plan::streams(vec![Stream::to(&[])]).start();
    reset(&none).await;
    until("the count", || none.ended("unavailable") == 1.0).await;
}

#[tokio::test]
async fn the_policy_bounds_the_attempts() {
    let alive = Backend::echo("").await;
    let node = Plan::streams(vec![Stream {
        policy: Policy {
            retry: Retry {
                attempts: Some(2),
                ..Retry::default()
            },
            ..Policy::default()
        },
        ..Stream::to(&[dead().await, dead().await, alive.address])
    }])
    .start();
    let mut ends = Vec::new();
    for _ in 0..6 {
        ends.push(exchange(node.connect().await, b"x").await.is_ok());
    }
    assert!(ends.contains(&false), "the third attempt is not made");
    assert!(ends.contains(&true));
}

/// A back end that takes a connection and drops it before anything was said.
#[tokio::test]
async fn a_back_end_that_resets_at_once_is_passed_over() {
    let (broken, alive) = (Backend::resets().await, Backend::greets("welcome").await);
    let node = Plan::streams(vec![Stream::to(&[broken.address, alive.address])]).start();
    for _ in 0..10 {
        assert_eq!(exact(&mut node.connect().await, 7).await, b"welcome");
    }
    assert!(broken.connections() > 0);
    // Where the reset is faster than we are, it is the connect that fails.
    let (closed, connect) = ("reason=\"closed\"", "reason=\"connect\"");
    let metrics = node.metrics();
    assert!(metrics.contains(closed) || metrics.contains(connect), "{metrics}");
}

/// What a back end may have read is not sent to another one.
#[tokio::test]
async fn bytes_that_were_sent_are_sent_to_nobody_else() {
    let takes = Backend::start(|mut socket| async move {
        socket.read_u8().await?;
        super::support::reset(socket);
        Ok(())
    })
    .await;
    let alive = Backend::echo("").await;
    let node = Plan::streams(vec![Stream {
        // TLS routers make the first bytes be read before the connect.
        ..Stream::to(&[takes.address])
    }])
    .start();
    let mut client = node.connect().await;
    client.write_all(b"once").await.unwrap();
    let error = rest(&mut client).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(alive.connections(), 0);
    until("the count", || node.ended("server_reset") == 1.0).await;
    assert!(node.metrics().contains("by=\"server\""));
}

/// A new generation does not touch what is open; an endpoint that leaves ends it when its time is over.
#[tokio::test]
async fn a_connection_outlives_its_generation_up_to_the_limit() {
    let (old, new) = (Backend::greets("old").await, Backend::greets("new").await);
    let node = Plan::streams(vec![Stream::to(&[old.address])]).start();
    let mut client = node.connect().await;
    assert_eq!(exact(&mut client, 3).await, b"old");
    let endpoint = node.services[0].endpoints[0].clone();
    let streams = vec![Stream::to(&[new.address])];
    node.published
        .publish(generation(2, streams, Vec::new(), TlsView::default()).0);
    departure::depart(
        &endpoint.live,
        departure::Limits {
            requests: Duration::ZERO,
            upgraded: Duration::from_millis(500),
        },
    );
    client.write_all(b"still here").await.unwrap();
    assert_eq!(exact(&mut client, 10).await, b"still here");
    assert_eq!(exact(&mut node.connect().await, 3).await, b"new");
    let error = rest(&mut client).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    until("the count", || node.ended("departed") == 1.0).await;
}

#[tokio::test]
async fn a_back_end_is_told_of_the_client_before_its_first_byte() {
    let backend = Backend::echo("").await;
    for version in [ProxyProtocolVersion::V1, ProxyProtocolVersion::V2] {
        let node = Plan::streams(vec![Stream {
            transport: Transport {
                stream: StreamTransport {
                    proxy_protocol: Some(version),
                    ..StreamTransport::default()
                },
                ..Transport::default()
            },
            ..Stream::to(&[backend.address])
        }])
        .start();
        let mut client = node.connect().await;
        let (ours, theirs) = (client.local_addr().unwrap().port(), node.address.port());
        let header = match version {
            ProxyProtocolVersion::V1 => {
                format!("PROXY TCP4 127.0.0.1 127.0.0.1 {ours} {theirs}\r\n").into_bytes()
            }
            ProxyProtocolVersion::V2 => [
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01".as_slice(),
                &ours.to_be_bytes(),
                &theirs.to_be_bytes(),
            ]
            .concat(),
        };
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let got = rest(&mut client).await.unwrap();
        assert_eq!(got, [header, b"hello".to_vec()].concat(), "{version:?}");
    }
}
