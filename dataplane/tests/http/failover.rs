//! Attempts that fail and what follows them.

use std::net::{Ipv4Addr, SocketAddr};

use constellation_dataplane::table::Scheme;
use tokio::net::TcpListener;

use super::support::{Act, Backend, Plan, ok, soon};

/// A port that nobody listens on.
async fn dead() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

#[tokio::test]
async fn a_refused_connection_costs_no_request_of_any_method() {
    let alive = Backend::fixed("alive").await;
    let endpoints = [
        (Scheme::Http, dead().await),
        (Scheme::Http, dead().await),
        (Scheme::Http, alive.address),
    ];
    let node = Plan::to(&endpoints).start();
    let mut client = node.connect().await;
    for method in ["GET", "POST", "PATCH", "DELETE", "PUT"] {
        for _ in 0..3 {
            client
                .send(format!(
                    "{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
                ))
                .await;
            let response = client.response().await;
            assert_eq!((response.status, response.text()), (200, "alive"), "{method}");
        }
    }
    assert!(alive.seen().iter().all(|seen| seen.body == b"abc"));
    let metrics = node.metrics();
    assert!(metrics.contains("reason=\"connect\""), "{metrics}");
}

/// A back end that takes the request and drops it: repeatable requests go on, others never do.
#[tokio::test]
async fn a_dropped_request_is_repeated_only_when_that_is_safe() {
    for (method, status, attempts) in [
        ("GET", 200, 1),
        ("PUT", 200, 1),
        ("DELETE", 200, 1),
        ("POST", 502, 0),
        ("PATCH", 502, 0),
    ] {
        let dropping = Backend::start(|_, _| Act::Close).await;
        let alive = Backend::fixed("alive").await;
        let node = Plan::to(&[(Scheme::Http, dropping.address), (Scheme::Http, alive.address)]).start();
        let mut client = node.connect().await;
        client
            .send(format!(
                "{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
            ))
            .await;
        let response = client.response().await;
        assert_eq!(response.status, status, "{method}");
        assert_eq!(alive.seen().len(), attempts, "{method}");
        assert_eq!(dropping.seen().len(), 1, "{method}");
        assert!(
            alive.seen().iter().all(|seen| seen.body == b"abc"),
            "{method}: the body was replayed whole"
        );
    }
}

/// A kept connection that the back end closed meanwhile is replaced without the client noticing.
#[tokio::test]
async fn a_stale_connection_is_replaced() {
    let backend = Backend::start(|number, _| match number {
        // The second request finds its connection closed only after it was sent.
        2 => Act::Close,
        _ => Act::Send(ok(b"ok")),
    })
    .await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut client = node.connect().await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(backend.seen().len(), 3);
    assert_eq!(backend.connections(), 2);
}

/// A body beyond the replay buffer can't be sent twice.
#[tokio::test]
async fn a_large_body_is_not_repeated() {
    let dropping = Backend::start(|_, _| Act::Close).await;
    let alive = Backend::fixed("alive").await;
    let node = Plan::to(&[(Scheme::Http, dropping.address), (Scheme::Http, alive.address)]).start();
    let mut client = node.connect().await;
    client
        .send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n")
        .await;
    client.send(vec![b'x'; 2_000_000]).await;
    assert_eq!(client.response().await.status, 502);
    assert!(alive.seen().is_empty());
}

/// Once the client has seen a part of a response, its end is the end.
#[tokio::test]
async fn a_response_that_breaks_off_is_not_mended() {
    let breaking = Backend::start(|_, _| {
        Act::SendAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec())
    })
    .await;
    let alive = Backend::fixed("alive").await;
    let node = Plan::to(&[(Scheme::Http, breaking.address), (Scheme::Http, alive.address)]).start();
    let mut client = node.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = String::from_utf8(client.rest().await).unwrap();
    assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
    assert!(alive.seen().is_empty());
}

#[tokio::test]
async fn what_is_not_http_is_a_bad_gateway() {
    let garbage = Backend::start(|_, _| Act::SendAndClose(b"SSH-2.0-x\r\n".to_vec())).await;
    let node = Plan::to(&[(Scheme::Http, garbage.address)]).start();
    let response = node.connect().await.get("/").await;
    assert_eq!((response.status, response.text()), (502, "Bad Gateway"));
}

/// A container that is killed with requests under way: those that may be repeated are, and nobody notices.
#[tokio::test]
async fn a_killed_back_end_costs_no_repeatable_request() {
    let doomed = Backend::start(|_, _| Act::Hang).await;
    let alive = Backend::fixed("alive").await;
    let node = Plan::to(&[(Scheme::Http, doomed.address), (Scheme::Http, alive.address)]).start();
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = node.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        clients.push(client);
    }
    soon("half of the requests to arrive", async {
        while doomed.seen().len() < 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    doomed.kill();
    for mut client in clients {
        assert_eq!(client.response().await.text(), "alive");
        assert_eq!(client.get("/").await.text(), "alive", "and so do the next ones");
    }
}
