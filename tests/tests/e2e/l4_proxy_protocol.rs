//! The PROXY protocol with HAProxy on the other side: the true client reaches rules, headers, the log and back ends.

use std::net::SocketAddr;

use constellation_tests::backend::Backend;
use constellation_tests::client::Client;
use constellation_tests::client::wire::Wire;
use constellation_tests::node::Node;
use constellation_tests::server::haproxy::{self, Haproxy, Version};
use constellation_tests::stream::Echo;
use constellation_tests::{PATIENCE, eventually, require};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};

/// Where clients say they are; nothing else in these tests is there.
const CLIENT: &str = "127.9.8.7";

/// A connection from [`CLIENT`].
async fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{CLIENT}:0").parse().unwrap()).unwrap();
    socket.connect(address).await.unwrap()
}

/// What trusts a header from this machine's usual address.
fn trusting() -> Value {
    json!({ "address": "127.0.0.1:0", "proxyProtocol": { "trustedIPs": ["127.0.0.1/32"] } })
}

#[tokio::test(flavor = "multi_thread")]
async fn http_behind_haproxy_knows_the_client() {
    let program = require!(haproxy::program());
    let backend = Backend::start("app").await;
    let builder = Node::builder();
    let log = builder.directory().join("access.log");
    let document = json!({ "http": {
        "routers": {
            "near": { "rule": format!("Host(`app.test`) && ClientIP(`{CLIENT}`)"), "service": "app" },
        },
        "services": { "app": { "loadBalancer": { "servers": [{ "url": backend.url() }] } } },
    } });
    let node = builder
        .config(json!({
            "entryPoints": { "web": trusting() },
            "accessLog": { "filePath": log, "format": "json" },
        }))
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    for (number, version) in Version::ALL.into_iter().enumerate() {
        let front = Haproxy::in_front_of(&program, node.web(), version).await;
        let stream = connect(front.address()).await;
        let mut client = Client::over(stream, false, "http").await.unwrap();
        assert_eq!(client.get("app.test", "/").await.status, 200, "{version:?}");
        assert_eq!(
            backend.record().last().headers["x-forwarded-for"],
            CLIENT,
            "{version:?}"
        );
        assert_eq!(
            backend.record().last().headers["x-real-ip"],
            CLIENT,
            "{version:?}"
        );
        let line = eventually("the request is in the log", async || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.lines().nth(number).map(str::to_owned).ok_or(text)
        })
        .await;
        assert!(line.contains(CLIENT), "{version:?}: {line}");
    }
    // From an address that is not trusted there is no header to believe: it is no request either.
    let mut wire = Wire::over(connect(node.web()).await);
    wire.send("PROXY TCP4 127.0.0.99 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n")
    .await;
    let answer = wire.read_to_close(PATIENCE).await;
    assert_ne!(answer.status(), Some(200), "{}", answer.text());
    assert_eq!(backend.record().count(), 2);
    // And one that is trusted may come without.
    let without = node.get("app.test", "/").await.status;
    assert_eq!(without, 404, "the client is not {CLIENT}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_rules_and_back_ends_know_the_client() {
    let program = require!(haproxy::program());
    let near = Echo::plain("near").await;
    let document = json!({ "tcp": {
        "routers": {
            "near": { "rule": format!("ClientIP(`{CLIENT}`)"), "service": "near", "entryPoints": ["tcp"] },
            "back": { "rule": "HostSNI(`*`)", "service": "back", "entryPoints": ["back1", "back2"] },
        },
        "services": {
            "near": { "loadBalancer": { "servers": [{ "address": near.address().to_string() }] } },
        },
    } });
    let node = Node::builder()
        .config(json!({ "entryPoints": { "tcp": trusting() } }))
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    for version in Version::ALL {
        let front = Haproxy::in_front_of(&program, node.entry_point("tcp"), version).await;
        let mut stream = connect(front.address()).await;
        let mut banner = [0; 5];
        stream.read_exact(&mut banner).await.unwrap();
        assert_eq!(&banner, b"near\n", "{version:?}");
    }
    // Who comes from elsewhere matches no router: closed, with nothing said.
    let mut stream = TcpStream::connect(node.entry_point("tcp")).await.unwrap();
    let mut rest = Vec::new();
    drop(
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .unwrap(),
    );
    assert!(rest.is_empty(), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_behind_reads_the_header_that_is_sent() {
    let program = require!(haproxy::program());
    let behind = Haproxy::behind(&program).await;
    let service = |version: u8| {
        json!({ "loadBalancer": {
            "servers": [{ "address": behind.address().to_string() }],
            "proxyProtocol": { "version": version },
        } })
    };
    let router = |name: &str| json!({ "rule": "HostSNI(`*`)", "service": name, "entryPoints": [name] });
    let document = json!({ "tcp": {
        "routers": { "v1": router("v1"), "v2": router("v2") },
        "services": { "v1": service(1), "v2": service(2) },
    } });
    let entry = json!({ "address": "127.0.0.1:0" });
    let node = Node::builder()
        .config(json!({ "entryPoints": { "v1": entry, "v2": entry } }))
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    for name in ["v1", "v2"] {
        let stream = connect(node.entry_point(name)).await;
        let client = stream.local_addr().unwrap();
        let mut wire = Wire::over(stream);
        wire.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n")
            .await;
        let answer = wire.read_to_close(PATIENCE).await;
        assert_eq!(answer.status(), Some(200), "{name}: {}", answer.text());
        assert!(
            answer.text().ends_with(&client.to_string()),
            "{name}: {}",
            answer.text()
        );
    }
}
