//! Start and end: a taken port; what may finish, what is told to go, what is cut.

use std::time::Duration;

use bytes::Bytes;
use constellation_dataplane::table::Scheme;
use http::Request;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::support::{Act, Backend, Plan, ok, soon};
use std::sync::Arc;

#[tokio::test]
async fn idle_connections_close_and_running_requests_finish() {
    let asked = Arc::new(Notify::new());
    let heard = asked.clone();
    let backend = Backend::start(move |_, seen| match seen.head.contains("/slow") {
        true => {
            heard.notify_one();
            // Sends the rest when it gets a byte, which comes after the drain began.
            Act::Echo(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na".to_vec())
        }
        false => Act::Send(ok(b"fast")),
    })
    .await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let address = node.address;
    let mut idle = node.connect().await;
    assert_eq!(idle.get("/").await.status, 200);
    let before = backend.bytes();
    let mut slow = node.connect().await;
    slow.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nb")
        .await;
    // The back end waits for the whole body, so the request is under way then and stays so.
    soon("the request to begin", async {
        while backend.bytes() <= before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let drained = tokio::spawn(node.plane.drain());
    assert!(
        idle.rest().await.is_empty(),
        "an idle connection is closed without a word"
    );
    soon("the port to be closed", async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    slow.send("c").await;
    soon("the request to arrive", asked.notified()).await;
    let head = slow.response_head().await;
    assert_eq!((head.status, head.header("connection")), (200, Some("close")));
    assert_eq!(slow.exact(1).await, b"a");
    drop(slow);
    assert_eq!(soon("the drain", drained).await.unwrap(), 0);
}

/// It may be on its way when the drain begins.
#[tokio::test]
async fn the_next_request_on_an_open_connection_is_answered_and_the_last_one() {
    let backend = Backend::fixed("served").await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut client = node.connect().await;
    assert_eq!(client.get("/").await.header("connection"), Some("keep-alive"));
    let drained = tokio::spawn(node.plane.drain());
    loop {
        let response = client.get("/").await;
        assert_eq!((response.status, response.text()), (200, "served"));
        // Until the worker has heard of the drain.
        if response.header("connection") == Some("close") {
            break;
        }
    }
    assert!(client.rest().await.is_empty());
    assert_eq!(soon("the drain", drained).await.unwrap(), 0);
}

#[tokio::test]
async fn http2_is_told_to_go_away_and_finishes() {
    let backend = Backend::start(|_, seen| Act::Send(ok(&seen.body))).await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let socket = TcpStream::connect(node.address).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::post("http://a.test/")
        .header("content-length", "5")
        .body(())
        .unwrap();
    let (response, mut stream) = sender.send_request(request, false).unwrap();
    stream.send_data(Bytes::from_static(b"he"), false).unwrap();
    soon("the request to begin", async {
        while backend.bytes() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let drained = tokio::spawn(node.plane.drain());
    stream.send_data(Bytes::from_static(b"llo"), true).unwrap();
    let response = soon("the response", response).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        soon("the body", response.into_body().data())
            .await
            .unwrap()
            .unwrap(),
        "hello"
    );
    drop(sender);
    soon("the connection to end", connection).await.unwrap().unwrap();
    assert_eq!(soon("the drain", drained).await.unwrap(), 0);
}

#[tokio::test]
async fn websockets_get_the_drain_time_and_are_then_cut_and_counted() {
    let switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let backend = Backend::start(|_, _| Act::Echo(switched.to_vec())).await;
    let mut plan = Plan::to(&[(Scheme::Http, backend.address)]);
    plan.drain = Duration::from_millis(300);
    let node = plan.start();
    let mut client = node.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(client.response_head().await.status, 101);
    let drained = tokio::spawn(node.plane.drain());
    client.send("still here").await;
    assert_eq!(client.exact(10).await, b"still here");
    assert!(client.rest().await.is_empty());
    assert_eq!(soon("the drain", drained).await.unwrap(), 1);
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_its_owner_and_the_key() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let error = Plan::default().start_on(vec![address]).err().unwrap().to_string();
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
    let expected = format!(
        "entry point web: cannot listen on {address}: Address already in use (os error 98); the port is held by {} \
         (pid {}). Free the address or change entryPoints.web.address",
        comm.trim(),
        std::process::id()
    );
    assert_eq!(error, expected);
}
