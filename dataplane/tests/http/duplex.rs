//! Requests and responses under way at the same time: early answers, streams both ways.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use constellation_dataplane::table::{Policy, Scheme, Service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::{Backend, Node, Plan, endpoint, find, soon, spec};

/// A back end that does this with each connection.
async fn backend<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket));
        }
    });
    address
}

fn node(addresses: &[SocketAddr], policy: Policy) -> Node {
    let endpoints = addresses
        .iter()
        .map(|a| endpoint(Scheme::Http, &a.ip().to_string(), a.port(), ""))
        .collect();
    let mut spec = spec("app", endpoints);
    spec.policy = Arc::new(policy);
    Plan {
        routes: vec![("PathPrefix(`/`)", Service::new(spec, None))],
        ..Plan::default()
    }
    .start()
}

/// Reads a head; what came with it of the body.
async fn head(socket: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = find(&read, b"\r\n\r\n") {
            return read.split_off(end + 4);
        }
        if socket.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return Vec::new();
        }
    }
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect()
}

/// A back end that answers with this and reads nothing more, but keeps the connection.
async fn deaf(answer: &'static str) -> SocketAddr {
    backend(move |mut socket| async move {
        head(&mut socket).await;
        if socket.write_all(answer.as_bytes()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    })
    .await
}

const SIZE: usize = 20 << 20;

/// Sends a large PUT; the first line of the answer, and its body.
async fn put(node: &Node, size: usize) -> (String, Vec<u8>) {
    let socket = TcpStream::connect(node.address).await.unwrap();
    let (mut from, mut to) = socket.into_split();
    let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
    let sending = tokio::spawn(async move {
        to.write_all(head.as_bytes()).await.ok();
        // An early answer may end the connection.
        to.write_all(&bytes(size)).await.ok();
        to
    });
    let mut read = Vec::new();
    let (end, length) = loop {
        assert!(from.read_buf(&mut read).await.unwrap() > 0, "no answer");
        if let Some(end) = find(&read, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
            let length = head.split_once("content-length: ").unwrap().1;
            break (end + 4, length.lines().next().unwrap().parse::<usize>().unwrap());
        }
    };
    while read.len() < end + length {
        assert!(from.read_buf(&mut read).await.unwrap() > 0, "the answer is cut");
    }
    sending.abort();
    let line = String::from_utf8_lossy(&read).lines().next().unwrap().to_owned();
    (line, read[end..end + length].to_vec())
}

#[tokio::test]
async fn an_early_answer_arrives_although_the_back_end_reads_no_more() {
    for answer in [
        "HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nmuch",
        "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy",
    ] {
        let node = node(&[deaf(answer).await], Policy::default());
        let (line, body) = soon("the early answer", put(&node, SIZE)).await;
        assert!(answer.starts_with(&line), "{line}");
        assert!(answer.as_bytes().ends_with(&body));
    }
}

#[tokio::test]
async fn an_early_503_is_tried_elsewhere_with_the_whole_body() {
    let deaf = deaf("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").await;
    let good = Backend::fixed("good").await;
    let mut policy = Policy::default();
    policy.retry.replay_bytes = 32 << 20;
    let node = node(&[deaf, good.address], policy);
    let (line, body) = soon("the answer", put(&node, SIZE)).await;
    assert_eq!(
        (line.as_str(), body.as_slice()),
        ("HTTP/1.1 200 OK", &b"good"[..])
    );
    assert!(good.seen()[0].body == bytes(SIZE), "all of it, once");
}

/// A client that goes on neither with its body nor with another request after an early answer is not waited for.
#[tokio::test]
async fn the_rest_of_a_body_is_not_awaited_for_long_after_the_answer() {
    let deaf = deaf("HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nmuch").await;
    let node = node(&[deaf], Policy::default());
    let mut client = node.connect().await;
    client
        .send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
        .await;
    assert_eq!(client.response().await.status, 413);
    assert!(client.rest().await.is_empty());
}

/// Two attempts at once keep the whole body for each other. When that gets too large, the one goes on that can.
#[tokio::test]
async fn a_hedged_upload_beyond_the_limit_goes_on() {
    let hung = backend(|mut socket| async move {
        head(&mut socket).await;
        std::future::pending::<()>().await;
    })
    .await;
    let good = Backend::fixed("good").await;
    let mut policy = Policy::default();
    policy.retry.replay_bytes = 12 << 20;
    let node = Arc::new(node(&[hung, good.address], policy));
    let upload = tokio::spawn({
        let node = node.clone();
        async move { put(&node, SIZE).await }
    });
    let others = async {
        let mut client = node.connect().await;
        loop {
            assert_eq!(client.get("/").await.status, 200);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let (line, _) = tokio::select! {
        upload = soon("the upload", upload) => upload.unwrap(),
        () = others => unreachable!(),
    };
    assert_eq!(line, "HTTP/1.1 200 OK");
    let bodies: Vec<_> = good
        .seen()
        .into_iter()
        .filter(|seen| !seen.body.is_empty())
        .collect();
    assert!(bodies.len() == 1 && bodies[0].body == bytes(SIZE));
}

/// Answers at once and sends back what it reads while it reads.
async fn echo() -> SocketAddr {
    backend(|mut socket| async move {
        let rest = head(&mut socket).await;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
        if socket.write_all(answer.as_bytes()).await.is_err() || socket.write_all(&rest).await.is_err() {
            return;
        }
        let (mut from, mut to) = socket.split();
        tokio::io::copy(&mut from, &mut to).await.ok();
    })
    .await
}

#[tokio::test]
async fn a_body_streams_both_ways_at_once() {
    let node = node(&[echo().await], Policy::default());
    let (line, body) = soon("the echo", put(&node, SIZE)).await;
    assert_eq!(line, "HTTP/1.1 200 OK");
    assert!(body == bytes(SIZE), "every byte comes back");
}

/// A request body of known length whose pieces come with pauses reaches the back end piece by piece.
#[tokio::test]
async fn a_small_piece_of_a_body_is_not_held_back() {
    let backend = backend(|mut socket| async move {
        let mut got = head(&mut socket).await;
        while got.len() < 3 {
            if socket.read_buf(&mut got).await.unwrap_or(0) == 0 {
                return;
            }
        }
        socket
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await
            .ok();
        std::future::pending::<()>().await;
    })
    .await;
    let node = node(&[backend], Policy::default());
    let mut client = node.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        .await;
    assert_eq!(client.response().await.status, 200);
}

/// Both sides of an upgraded connection send much at once, and read at their leisure.
#[tokio::test]
async fn an_upgraded_connection_carries_much_both_ways() {
    let backend = backend(|mut socket| async move {
        let mut got = head(&mut socket).await;
        let switched =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        socket.write_all(switched.as_bytes()).await.unwrap();
        let (mut from, mut to) = socket.split();
        let receive = async {
            while got.len() < SIZE && from.read_buf(&mut got).await.unwrap_or(0) > 0 {}
            got
        };
        let sent = bytes(SIZE);
        let (got, result) = tokio::join!(receive, to.write_all(&sent));
        if result.is_ok() && got == bytes(SIZE) {
            socket.write_all(b"all").await.ok();
        }
    })
    .await;
    let node = node(&[backend], Policy::default());
    let mut client = node.connect().await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        .await;
    assert_eq!(client.response_head().await.status, 101);
    let (mut from, mut to) = client.0.into_split();
    let sending = tokio::spawn(async move {
        to.write_all(&bytes(SIZE)).await.unwrap();
        to
    });
    let mut got = vec![0; SIZE + 3];
    soon("all of it", from.read_exact(&mut got)).await.unwrap();
    assert!(got.ends_with(b"all") && got.starts_with(&bytes(SIZE)));
    drop(sending.await.unwrap());
}

/// What a client of an upgraded connection said last arrives, although it ended the conversation at once.
#[tokio::test]
async fn the_last_words_on_an_upgraded_connection_arrive() {
    let (told, mut hears) = tokio::sync::mpsc::channel(1);
    let backend = backend(move |mut socket| {
        let told = told.clone();
        async move {
            let mut got = head(&mut socket).await;
            let switched =
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            socket.write_all(switched.as_bytes()).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            while socket.read_buf(&mut got).await.unwrap_or(0) > 0 {}
            told.send(got.len()).await.unwrap();
        }
    })
    .await;
    let node = node(&[backend], Policy::default());
    let mut client = node.connect().await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        .await;
    assert_eq!(client.response_head().await.status, 101);
    client.send(bytes(SIZE)).await;
    drop(client);
    assert_eq!(soon("the last words", hears.recv()).await, Some(SIZE));
}
