//! SIGTERM: nothing new is accepted, what is under way finishes, the exit code is 0.

use constellation_tests::backend::Backend;
use constellation_tests::client::Client;
use constellation_tests::client::http::{Answer, request};
use constellation_tests::client::websocket::WebSocket;
use constellation_tests::eventually;
use constellation_tests::node::{Node, route};
use http::Method;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::net::TcpStream;

/// Waits until nobody listens any more.
async fn closed(address: std::net::SocketAddr) {
    eventually("the listener is closed", async || {
        match TcpStream::connect(address).await {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_requests_and_websockets_finish() {
    let backend = Backend::start("app").await;
    let mut node = Node::builder()
        .config(
            json!({ "entryPoints": { "web": { "transport": { "lifeCycle": { "graceTimeOut": "60s" } } } } }),
        )
        .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
        .start()
        .await;
    let web = node.web();
    let mut slow = Client::h1(web).await.unwrap();
    let slow = tokio::spawn(async move { slow.get("app.test", "/gate").await });
    let mut streaming = Client::h2c(web).await.unwrap();
    let held = streaming
        .open(request(Method::GET, "app.test", "/hold"))
        .await
        .unwrap();
    let mut socket = WebSocket::open(web, "app.test").await.unwrap();
    socket.echo("before").await;
    eventually("both requests are under way", async || {
        match backend.waiting_at_gate() {
            2 => Ok(()),
            other => Err(other),
        }
    })
    .await;

    node.signal(Signal::SIGTERM);
    closed(web).await;
    // The control address answers to the end, and says what is going on.
    let health = node.ask("/health").await;
    assert_eq!(health.status, 503, "{}", health.text());
    assert_eq!(node.status().await["draining"], true);
    socket.echo("while draining").await;
    assert!(
        streaming
            .send(request(Method::GET, "app.test", "/"))
            .await
            .is_err(),
        "GOAWAY: no new stream"
    );
    backend.open_gate();
    backend.open_gate();
    let answer = slow.await.unwrap();
    assert_eq!((answer.status.as_u16(), &*answer.text()), (200, "app passed\n"));
    assert_eq!(Answer::collect(held).await.unwrap().text(), "held\n");
    streaming.closed().await.unwrap();
    socket.echo("still").await;
    socket.close().await;
    let status = node.exit().await;
    assert_eq!(status.code(), Some(0), "{}", node.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_hold_up_the_end() {
    let backend = Backend::start("app").await;
    let mut node = Node::builder()
        .config(
            json!({ "entryPoints": { "web": { "transport": { "lifeCycle": { "graceTimeOut": "1h" } } } } }),
        )
        .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
        .start()
        .await;
    let mut h1 = Client::h1(node.web()).await.unwrap();
    let mut h2 = Client::h2c(node.web()).await.unwrap();
    assert_eq!(h1.get("app.test", "/").await.status, 200);
    assert_eq!(h2.get("app.test", "/").await.status, 200);
    let fresh = TcpStream::connect(node.web()).await.unwrap();
    node.signal(Signal::SIGTERM);
    assert_eq!(node.exit().await.code(), Some(0), "{}", node.log());
    h1.closed().await.unwrap();
    // GOAWAY, then the end in good order.
    h2.closed().await.unwrap();
    drop(fresh);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_time_ends_what_does_not_end_by_itself() {
    let backend = Backend::start("app").await;
    let mut node = Node::builder()
        .config(json!({ "entryPoints": { "web": { "transport": { "lifeCycle": { "graceTimeOut": "200ms" } } } } }))
        .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
        .start()
        .await;
    let mut socket = WebSocket::open(node.web(), "app.test").await.unwrap();
    socket.echo("x").await;
    node.signal(Signal::SIGTERM);
    assert_eq!(node.exit().await.code(), Some(0), "{}", node.log());
    socket.ended().await;
    assert!(node.log().contains("cut"), "{}", node.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_is_the_same_and_a_second_signal_ends_at_once() {
    let backend = Backend::start("app").await;
    let mut node = Node::builder()
        .config(
            json!({ "entryPoints": { "web": { "transport": { "lifeCycle": { "graceTimeOut": "1h" } } } } }),
        )
        .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
        .start()
        .await;
    let mut socket = WebSocket::open(node.web(), "app.test").await.unwrap();
    socket.echo("x").await;
    node.signal(Signal::SIGINT);
    closed(node.web()).await;
    node.signal(Signal::SIGINT);
    assert_eq!(node.exit().await.code(), Some(1), "{}", node.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accept_grace_serves_on_while_health_says_no() {
    let backend = Backend::start("app").await;
    let life_cycle = json!({ "requestAcceptGraceTimeout": "1h", "graceTimeOut": "1s" });
    let node = Node::builder()
        .config(json!({ "entryPoints": { "web": { "transport": { "lifeCycle": life_cycle } } } }))
        .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
        .start()
        .await;
    node.signal(Signal::SIGTERM);
    eventually("health says that the node is going", async || {
        let health = node.ask("/health").await;
        if health.status == 503 {
            Ok(())
        } else {
            Err(health.text())
        }
    })
    .await;
    assert_eq!(node.get("app.test", "/").await.status, 200);
}
