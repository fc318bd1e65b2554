//! Connections behind a proxy that tells whose they are: the PROXY protocol on entry points.

use std::time::Duration;

use constellation_dataplane::access_log::{AccessLog, Format, Settings};
use constellation_dataplane::settings::{ForwardedHeaders, ProxyProtocolTrust};
use constellation_dataplane::table::Scheme;
use prometheus_client::metrics::counter::Counter;
use tokio::io::AsyncWriteExt;

use super::support::{Backend, Client, Node, Plan, service, soon};
use super::tls;

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.2 4242 443\r\n";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Version 2 of this command and family.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [
        &b"\r\n\r\n\0\r\nQUIT\n"[..],
        &[0x20 | command, family],
        &length[..],
        body,
    ]
    .concat()
}

/// A client of IPv6, with a unique ID.
fn v2_ipv6() -> Vec<u8> {
    let ip = |last| [&[0x20, 0x01, 0x0d, 0xb8], &[0; 11][..], &[last]].concat();
    let body = [
        ip(7),
        ip(2),
        vec![0x10, 0x92, 0x01, 0xbb],
        vec![5, 0, 2, b'i', b'd'],
    ]
    .concat();
    v2(1, 0x21, &body)
}

/// Believes 127.0.0.1, and nobody else.
fn plan(backend: &Backend) -> Plan {
    Plan {
        proxy_protocol: ProxyProtocolTrust {
            insecure: false,
            trusted_ips: vec!["127.0.0.1/32".parse().unwrap()],
        },
        ..Plan::to(&[(Scheme::Http, backend.address)])
    }
}

/// `X-Forwarded-For` of the last request.
fn client_of(backend: &Backend) -> String {
    backend
        .seen()
        .last()
        .unwrap()
        .header("x-forwarded-for")
        .join("; ")
}

/// What was refused for its header.
fn refused(node: &Node) -> u64 {
    let metrics = node.metrics();
    let name = r#"constellation_refused_total{entry_point="web",reason="proxy_protocol"} "#;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |count| count.parse().unwrap())
}

/// Sends what the node may not take to the end.
async fn closed(mut client: Client, bytes: &[u8]) {
    client.0.write_all(bytes).await.unwrap_or_default();
    assert_eq!(client.rest().await, b"", "{bytes:?}");
}

#[tokio::test]
async fn a_trusted_peer_says_whose_connection_it_is() {
    let backend = Backend::fixed("ok").await;
    let node = plan(&backend).start();
    let table = [
        (V1.to_vec(), "192.0.2.7"),
        (v2_ipv6(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2(0, 0, b""), "127.0.0.1"),
        (v2(0, 0x11, &[1; 12]), "127.0.0.1"),
        (v2(1, 0, b""), "127.0.0.1"),
        (Vec::new(), "127.0.0.1"),
    ];
    for (header, expected) in table {
        let mut client = node.connect().await;
        client.send([&header, GET].concat()).await;
        assert_eq!(client.response().await.status, 200);
        assert_eq!(client_of(&backend), expected, "{header:?}");
        assert_eq!(
            client.get("/").await.status,
            200,
            "the connection stays what it is"
        );
        assert_eq!(client_of(&backend), expected, "{header:?}");
    }
    assert_eq!(refused(&node), 0);
}

#[tokio::test]
async fn a_header_that_comes_byte_by_byte_is_read_the_same() {
    let backend = Backend::fixed("ok").await;
    let node = plan(&backend).start();
    for (header, expected) in [(V1.to_vec(), "192.0.2.7"), (v2_ipv6(), "2001:db8::7")] {
        let mut client = node.connect().await;
        client.0.set_nodelay(true).unwrap();
        for byte in [&header, GET].concat() {
            client.send([byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.response().await.status, 200);
        assert_eq!(client_of(&backend), expected);
        for cut in 1..=header.len() {
            let mut client = node.connect().await;
            let (before, after) = header.split_at(cut);
            client.send(before).await;
            // The bytes have left before more follow.
            tokio::task::yield_now().await;
            client.send([after, GET].concat()).await;
            assert_eq!(client.response().await.status, 200, "{cut}");
            assert_eq!(client_of(&backend), expected, "{cut}");
        }
    }
}

#[tokio::test]
async fn headers_that_nobody_may_believe_end_the_connection() {
    let backend = Backend::fixed("ok").await;
    let node = plan(&backend).start();
    let mut count = 0;
    let trusted: [Vec<u8>; 5] = [
        b"PROXY TCP4 192.0.2.7 198.51.100.2 4242\r\n".to_vec(),
        b"PROXY / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        [&b"PROXY UNKNOWN "[..], &[b'x'; 100]].concat(),
        v2(2, 0x11, &[1; 12]),
        v2(1, 0x11, &[&[1; 12][..], &[3, 0, 4, 0, 0, 0, 0]].concat()),
    ];
    for header in trusted {
        closed(node.connect().await, &[&header, GET].concat()).await;
        count += 1;
        assert_eq!(refused(&node), count, "{header:?}");
    }
    for header in [V1.to_vec(), v2_ipv6(), v2(0, 0, b""), b"PROXY nonsense".to_vec()] {
        closed(node.connect_from("127.0.0.2").await, &[&header, GET].concat()).await;
        count += 1;
        assert_eq!(refused(&node), count, "{header:?}");
    }
    // What only begins alike is served, whoever sends it.
    for source in ["127.0.0.1", "127.0.0.2"] {
        for begin in ["GET", "PROPFIND", "POST"] {
            let mut client = node.connect_from(source).await;
            let request = format!("{begin} / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
            client.send(request).await;
            assert_eq!(client.response().await.status, 200, "{begin} from {source}");
            assert_eq!(client_of(&backend), source);
        }
    }
    assert_eq!(refused(&node), count);
    let none = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut client = none.connect().await;
    client.send([V1, GET].concat()).await;
    assert_eq!(
        client.response().await.status,
        400,
        "nobody is asked for a header here"
    );
}

#[tokio::test]
async fn a_header_has_until_the_deadline_of_a_head() {
    let backend = Backend::fixed("ok").await;
    let mut plan = plan(&backend);
    plan.limits.header_timeout = Duration::from_millis(200);
    let node = plan.start();
    closed(node.connect().await, &V1[..20]).await;
    closed(node.connect().await, &v2_ipv6()[..30]).await;
    assert_eq!(refused(&node), 2);
    closed(node.connect().await, b"").await;
    closed(node.connect().await, V1).await;
    assert_eq!(refused(&node), 2, "silence is no fault of a header");
}

#[tokio::test]
async fn everybody_is_believed_where_the_operator_says_so() {
    let backend = Backend::fixed("ok").await;
    let mut plan = plan(&backend);
    plan.proxy_protocol = ProxyProtocolTrust {
        insecure: true,
        trusted_ips: Vec::new(),
    };
    let node = plan.start();
    let mut client = node.connect_from("127.0.0.2").await;
    client.send([V1, GET].concat()).await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(client_of(&backend), "192.0.2.7");
}

/// Rules, trust in forwarding headers, and the access log go by the client, not by the proxy.
#[tokio::test]
async fn the_true_client_is_seen_everywhere() {
    let (named, other) = (Backend::fixed("named").await, Backend::fixed("other").await);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("access.log");
    let settings = Settings {
        file: Some(file.clone()),
        format: Format::Json,
        ..Settings::default()
    };
    let (access_log, writer) = AccessLog::start(settings, Counter::default()).unwrap();
    let node = Plan {
        routes: vec![
            (
                "ClientIP(`192.0.2.0/24`)",
                service("named", &[(Scheme::Http, named.address)]),
            ),
            (
                "PathPrefix(`/`)",
                service("other", &[(Scheme::Http, other.address)]),
            ),
        ],
        forwarded: ForwardedHeaders {
            insecure: false,
            trusted_ips: vec!["127.0.0.1/32".parse().unwrap()],
        },
        access_log,
        ..plan(&other)
    }
    .start();
    let request = b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";
    for (header, text, chain) in [
        (V1.to_vec(), "named", "192.0.2.7"),
        (v2_ipv6(), "other", "2001:db8::7"),
        (Vec::new(), "other", "203.0.113.9, 127.0.0.1"),
    ] {
        let mut client = node.connect().await;
        client.send([&header, &request[..]].concat()).await;
        assert_eq!(client.response().await.text(), text, "{header:?}");
        let backend = if text == "named" { &named } else { &other };
        assert_eq!(client_of(backend), chain);
    }
    soon("the end", node.plane.drain()).await;
    assert!(writer.stop(super::support::PATIENCE));
    let lines = std::fs::read_to_string(&file).unwrap();
    let clients: Vec<_> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["ClientHost"].clone())
        .collect();
    assert_eq!(clients, ["192.0.2.7", "2001:db8::7", "127.0.0.1"], "{lines}");
    assert!(lines.contains(r#""ClientAddr":"192.0.2.7:4242""#), "{lines}");
}

#[tokio::test]
async fn the_limit_of_a_source_is_the_clients() {
    let backend = Backend::fixed("ok").await;
    let mut plan = plan(&backend);
    plan.limits.max_connections_per_source = Some(1);
    let node = plan.start();
    let line = |client: &str| format!("PROXY TCP4 {client} 198.51.100.2 1 2\r\n");
    let mut held = Vec::new();
    for client in ["192.0.2.1", "192.0.2.2"] {
        let mut connection = node.connect().await;
        connection.send([line(client).as_bytes(), GET].concat()).await;
        assert_eq!(connection.response().await.status, 200, "{client}");
        held.push(connection);
    }
    for _ in 0..2 {
        // The proxy's own, of which there may be any number.
        let mut connection = node.connect().await;
        assert_eq!(connection.get("/").await.status, 200);
        held.push(connection);
    }
    closed(
        node.connect().await,
        &[line("192.0.2.1").as_bytes(), GET].concat(),
    )
    .await;
    let counted = r#"constellation_refused_total{entry_point="web",reason="too_many_from_source"} 1"#;
    assert!(node.metrics().contains(counted), "{}", node.metrics());
    held.remove(0);
    soon("a place", async {
        loop {
            let mut client = node.connect().await;
            let request = [
                line("192.0.2.1").as_bytes(),
                b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n",
            ]
            .concat();
            // It may be closed before it can say anything.
            client.0.write_all(&request).await.unwrap_or_default();
            if !client.rest().await.is_empty() {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_follows_a_header_is_whatever_a_connection_may_begin_with() {
    let identity = tls::identity(&["a.test"]);
    let backend = Backend::fixed("hello").await;
    let node = tls::node_of(plan(&backend), &backend, &identity);
    for (header, expected) in [(V1.to_vec(), "192.0.2.7"), (v2_ipv6(), "2001:db8::7")] {
        let mut client = node.connect().await;
        client.send(&header).await;
        let mut stream = tls::tls_over(client.0, &identity, "a.test", b"http/1.1").await;
        assert!(tls::ask(&mut stream, "a.test").await.starts_with("HTTP/1.1 200 "));
        assert_eq!(client_of(&backend), expected);
        let seen = backend.seen();
        assert_eq!(seen.last().unwrap().header("x-forwarded-proto"), ["https"]);
    }
    closed(
        node.connect_from("127.0.0.2").await,
        &[V1, b"\x16\x03\x01"].concat(),
    )
    .await;
    assert_eq!(refused(&node), 1);
    let mut h2 = node.connect().await;
    h2.send([V1, PREFACE, b"\0\0\0\x04\0\0\0\0\0"].concat()).await;
    let settings = h2.exact(9).await;
    assert_eq!(settings[3], 4, "a SETTINGS frame: {settings:?}");
}

#[tokio::test]
async fn a_connection_without_a_word_does_not_hold_up_the_end() {
    let backend = Backend::fixed("ok").await;
    let node = plan(&backend).start();
    let (silent, mut begun) = (node.connect().await, node.connect_from("127.0.0.2").await);
    begun.send("PROX").await;
    let mut served = node.connect().await;
    assert_eq!(
        served.get("/").await.status,
        200,
        "the others were accepted before"
    );
    soon("the end", node.plane.drain()).await;
    drop((silent, begun));
}
