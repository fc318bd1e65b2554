//! Streams: data flows while it is made, in both directions, and back pressure reaches the sender.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use constellation_tests::backend::Backend;
use constellation_tests::client::Client;
use constellation_tests::client::http::{Answer, Body, request};
use constellation_tests::client::websocket::WebSocket;
use constellation_tests::client::wire::Wire;
use constellation_tests::eventually;
use constellation_tests::node::Node;
use futures_util::stream;
use http::Method;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

const HUNDRED_MEGABYTES: u64 = 100 * 1024 * 1024;
const BLOCK: u64 = 64 * 1024;

/// A body of `length` bytes that counts how much of it was taken.
fn counted(length: u64, taken: Arc<AtomicU64>) -> Body {
    let block = Bytes::from(vec![7; usize::try_from(BLOCK).unwrap()]);
    let frames = stream::iter((0..length / BLOCK).map(move |_| {
        taken.fetch_add(BLOCK, Ordering::SeqCst);
        Ok::<_, std::io::Error>(Frame::data(block.clone()))
    }));
    BodyExt::boxed(StreamBody::new(frames))
}

#[tokio::test(flavor = "multi_thread")]
async fn hundred_megabytes_go_up_and_down_over_http1_and_http2() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    for mut client in [
        Client::h1(node.web()).await.unwrap(),
        Client::h2c(node.web()).await.unwrap(),
    ] {
        let mut upload = request(Method::PUT, "app.test", "/upload");
        *upload.body_mut() = counted(HUNDRED_MEGABYTES, Arc::default());
        let answer = client.send(upload).await.unwrap();
        assert_eq!(
            answer.text(),
            format!("{HUNDRED_MEGABYTES} {}", HUNDRED_MEGABYTES * 7)
        );

        for path in ["bytes", "chunks"] {
            let get = request(Method::GET, "app.test", &format!("/{path}/{HUNDRED_MEGABYTES}"));
            let response = client.open(get).await.unwrap();
            let head = format!("{response:?}");
            let mut body = response.into_body();
            let (mut length, mut expected) = (0_u64, 0_u8);
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.unwrap().into_data() else {
                    continue;
                };
                for byte in &data {
                    assert_eq!(*byte, expected, "at {length}");
                    expected = expected.wrapping_add(1);
                }
                length += data.len() as u64;
            }
            assert_eq!(length, HUNDRED_MEGABYTES, "{head}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_end_that_does_not_read_holds_up_the_upload() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let taken = Arc::new(AtomicU64::new(0));
    let mut client = Client::h1(node.web()).await.unwrap();
    let mut upload = request(Method::POST, "app.test", "/gate");
    *upload.body_mut() = counted(HUNDRED_MEGABYTES, Arc::clone(&taken));
    let answer = tokio::spawn(async move { client.send(upload).await });
    let mut last = 0;
    let stalled = eventually("the upload stalls", async || {
        let now = taken.load(Ordering::SeqCst);
        if now > 0 && now == std::mem::replace(&mut last, now) {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            if taken.load(Ordering::SeqCst) == now {
                return Ok(now);
            }
        }
        Err(format!("{now} bytes taken"))
    })
    .await;
    // Socket buffers on the way hold some megabytes; the proxy must not hold the rest.
    assert!(
        stalled < HUNDRED_MEGABYTES / 2,
        "{stalled} bytes were taken from a client nobody reads from"
    );
    backend.open_gate();
    assert_eq!(answer.await.unwrap().unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_up_the_download() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let mut client = Client::h1(node.web()).await.unwrap();
    let get = request(Method::GET, "app.test", &format!("/bytes/{HUNDRED_MEGABYTES}"));
    let response = client.open(get).await.unwrap();
    let memory = || resident(node.pid().as_raw());
    let before = memory();
    // The answer waits unread while the node answers others as ever.
    for _ in 0..50 {
        assert_eq!(node.get("app.test", "/").await.status, 200);
    }
    let grown = memory().saturating_sub(before);
    assert!(
        grown < 50 * 1024 * 1024,
        "the node took in {grown} bytes that nobody reads"
    );
    assert_eq!(
        Answer::collect(response).await.unwrap().body.len() as u64,
        HUNDRED_MEGABYTES
    );
}

/// Resident memory in bytes.
fn resident(pid: i32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn server_sent_events_arrive_one_by_one() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let mut wire = Wire::connect(node.web()).await;
    wire.send("GET /events HTTP/1.1\r\nHost: app.test\r\nAccept: text/event-stream\r\n\r\n")
        .await;
    for number in 1..=5 {
        // Event N + 1 is made only after event N was seen here.
        wire.read_until(&format!("data: event {number}\n\n")).await;
        backend.open_gate();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_stream_flows_both_ways_and_ends_with_trailers() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url_as("h2c")]).await;
    let mut client = Client::h2c(node.web()).await.unwrap();
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
    let mut call = request(Method::POST, "app.test", "/stream");
    call.headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    call.headers_mut().insert("te", "trailers".parse().unwrap());
    *call.body_mut() = BodyExt::boxed(body);
    let response = client.open(call).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let mut answer = response.into_body();
    for number in 0..20 {
        let message = format!("message {number}");
        sender.send_data(Bytes::from(message.clone())).await.unwrap();
        let frame = answer.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), message);
    }
    drop(sender);
    let trailers = loop {
        match answer
            .frame()
            .await
            .expect("trailers come")
            .unwrap()
            .into_trailers()
        {
            Ok(trailers) => break trailers,
            Err(data) => assert!(data.into_data().unwrap().is_empty()),
        }
    };
    assert_eq!(trailers["grpc-status"], "0");
    let received = backend.record().only();
    assert_eq!(received.headers["te"], "trailers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_echoes_small_and_large_messages() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let mut socket = WebSocket::open(node.web(), "app.test").await.unwrap();
    for text in ["hello", "", &"x".repeat(300_000)] {
        socket.echo(text).await;
    }
    socket.close().await;
    // Who asks for another host gets no upgrade.
    let error = WebSocket::open(node.web(), "other.test").await.unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cut_short_is_not_passed_off_as_whole() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    for mut client in [
        Client::h1(node.web()).await.unwrap(),
        Client::h2c(node.web()).await.unwrap(),
    ] {
        let outcome = client.send(request(Method::GET, "app.test", "/cut")).await;
        assert!(outcome.is_err(), "{outcome:?}");
    }
    // And a head that the body does not follow counts once: nothing is repeated after an answer has begun.
    assert_eq!(backend.record().count(), 2);
}
