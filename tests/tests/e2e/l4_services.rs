//! Services and middlewares of TCP routers: weights, allow lists, connections at once of one client.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use constellation_tests::node::Node;
use constellation_tests::stream::Echo;
use constellation_tests::{PATIENCE, eventually};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

async fn node(workers: usize, document: Value) -> Node {
    Node::builder()
        .config(json!({ "entryPoints": { "tcp": { "address": "127.0.0.1:0" } }, "proxy": { "workers": workers } }))
        .dynamic("routes.json", &document.to_string())
        .start()
        .await
}

fn servers(echoes: &[&Echo]) -> Value {
    let servers: Vec<Value> = echoes
        .iter()
        .map(|echo| json!({ "address": echo.address().to_string() }))
        .collect();
    json!({ "loadBalancer": { "servers": servers } })
}

/// A connection from `127.0.0.HOST`, and who says its name on it; nobody when it is closed without a word.
async fn connect(address: SocketAddr, host: u8) -> (TcpStream, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, host], 0).into()).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let mut name = Vec::new();
    while !name.ends_with(b"\n") {
        let read = timeout(PATIENCE, stream.read_buf(&mut name)).await.unwrap();
        if read.unwrap_or(0) == 0 {
            break;
        }
    }
    (stream, String::from_utf8(name).unwrap().trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_are_kept_exactly() {
    let (one, two) = (Echo::plain("one").await, Echo::plain("two").await);
    let document = json!({ "tcp": {
        "routers": { "main": { "rule": "HostSNI(`*`)", "service": "main", "entryPoints": ["tcp"] } },
        "services": {
            "main": { "weighted": { "services": [
                { "name": "one", "weight": 3 }, { "name": "two", "weight": 1 },
            ] } },
            "one": servers(&[&one]),
            "two": servers(&[&two]),
        },
    } });
    // Each worker has turns of its own.
    let node = node(1, document).await;
    let mut counts = BTreeMap::new();
    for _ in 0..40 {
        let (_, name) = connect(node.entry_point("tcp"), 1).await;
        *counts.entry(name).or_insert(0) += 1;
    }
    let expected = [("one", 30), ("two", 10)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(counts, BTreeMap::from(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allow_list_closes_the_connections_of_others() {
    let echo = Echo::plain("inside").await;
    let document = json!({ "tcp": {
        "routers": { "main": {
            "rule": "HostSNI(`*`)", "service": "main", "entryPoints": ["tcp"], "middlewares": ["near"],
        } },
        "middlewares": { "near": { "ipAllowList": { "sourceRange": ["127.0.0.8/31"] } } },
        "services": { "main": servers(&[&echo]) },
    } });
    let node = node(2, document).await;
    for (host, expected) in [(8, "inside"), (7, ""), (9, "inside"), (10, "")] {
        let (_, name) = connect(node.entry_point("tcp"), host).await;
        assert_eq!(name, expected, "127.0.0.{host}");
    }
    assert_eq!(echo.accepted(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_at_once_are_counted_for_each_client() {
    let echo = Echo::plain("inside").await;
    let document = json!({ "tcp": {
        "routers": { "main": {
            "rule": "HostSNI(`*`)", "service": "main", "entryPoints": ["tcp"], "middlewares": ["few"],
        } },
        "middlewares": { "few": { "inFlightConn": { "amount": 2 } } },
        "services": { "main": servers(&[&echo]) },
    } });
    let node = node(2, document).await;
    let address = node.entry_point("tcp");
    let (first, name) = connect(address, 5).await;
    assert_eq!(name, "inside");
    let (_second, name) = connect(address, 5).await;
    assert_eq!(name, "inside");
    let (_, name) = connect(address, 5).await;
    assert_eq!(name, "", "a third one of the same client");
    let (_other, name) = connect(address, 6).await;
    assert_eq!(name, "inside", "another client");
    drop(first);
    eventually("there is room again", async || {
        let (_, name) = connect(address, 5).await;
        if name == "inside" { Ok(()) } else { Err("closed") }
    })
    .await;
}
