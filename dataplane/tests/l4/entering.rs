//! Which router takes a connection, and which connections are refused.

use std::sync::Arc;
use std::time::Duration;

use constellation_dataplane::settings::Limits;
use constellation_dataplane::table::{InFlightConn, IpAllowList, Slot, TcpMiddleware, TcpTls};
use constellation_dataplane::tenure::Tenure;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::support::{Backend, Plan, Stream, exact, exchange, rest, until};

#[tokio::test]
async fn a_server_may_speak_first() {
    let backend = Backend::greets("220 ready\r\n").await;
    let node = Plan::streams(vec![Stream::to(&[backend.address])]).start();
    let mut client = node.connect().await;
    assert_eq!(exact(&mut client, 11).await, b"220 ready\r\n");
    client.write_all(b"HELO").await.unwrap();
    assert_eq!(exact(&mut client, 4).await, b"HELO");
}

/// Without any TLS router what looks like TLS goes to the plain router as it is.
#[tokio::test]
async fn a_plain_router_gets_everything_where_nothing_ends_tls() {
    let backend = Backend::echo("plain:").await;
    let node = Plan::streams(vec![Stream::to(&[backend.address])]).start();
    for bytes in [b"\x16\x03\x01\0\x01\0".as_slice(), b"GET / HTTP/1.1\r\n\r\n"] {
        let answer = exchange(node.connect().await, bytes).await.unwrap();
        assert_eq!(answer.as_bytes(), [b"plain:", bytes].concat());
    }
}

#[tokio::test]
async fn http_beside_a_plain_router_for_some_clients() {
    let (stream, web) = (Backend::echo("stream:").await, Backend::http("web").await);
    let node = Plan {
        streams: vec![Stream {
            rule: "ClientIP(`127.0.0.2`)",
            ..Stream::to(&[stream.address])
        }],
        http: vec![("PathPrefix(`/`)", web.address, false)],
        ..Plan::default()
    }
    .start();
    let get = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = exchange(node.connect_from("127.0.0.2").await, get).await.unwrap();
    assert!(answer.starts_with("stream:GET /"), "{answer}");
    // Byte by byte, too: what was read for the decision is not read again.
    let mut client = node.connect_from("127.0.0.3").await;
    for byte in get {
        client.write_all(&[*byte]).await.unwrap();
    }
    let answer = String::from_utf8(rest(&mut client).await.unwrap()).unwrap();
    assert!(answer.ends_with("\r\n\r\nweb"), "{answer}");
}

#[tokio::test]
async fn who_is_not_on_the_list_is_turned_away() {
    let backend = Backend::echo("").await;
    let list = IpAllowList {
        name: "tcp/some@test".into(),
        source_range: vec!["127.0.0.2/32".parse().unwrap()],
    };
    let node = Plan::streams(vec![Stream {
        middlewares: vec![TcpMiddleware::IpAllowList(Arc::new(list))],
        ..Stream::to(&[backend.address])
    }])
    .start();
    let mut refused = node.connect_from("127.0.0.3").await;
    assert_eq!(rest(&mut refused).await.unwrap(), b"");
    let admitted = exchange(node.connect_from("127.0.0.2").await, b"hello").await;
    assert_eq!(admitted.unwrap(), "hello");
    assert_eq!(backend.connections(), 1);
    assert_eq!(node.ended("not_allowed"), 1.0);
    let (_, log) = node.stop().await;
    let ends: Vec<_> = log.iter().map(|line| line["End"].as_str().unwrap()).collect();
    assert_eq!(ends, ["not_allowed", "complete"]);
}

#[tokio::test]
async fn one_client_has_so_many_connections() {
    let backend = Backend::greets("hi").await;
    let limit = InFlightConn {
        name: "tcp/two@test".into(),
        amount: 2,
        slot: Slot::default(),
    };
    let node = Plan::streams(vec![Stream {
        middlewares: vec![TcpMiddleware::InFlightConn(Arc::new(limit))],
        ..Stream::to(&[backend.address])
    }])
    .start();
    let (mut first, mut second) = (node.connect().await, node.connect().await);
    assert_eq!(exact(&mut first, 2).await, b"hi");
    assert_eq!(exact(&mut second, 2).await, b"hi");
    assert_eq!(rest(&mut node.connect().await).await.unwrap(), b"");
    let mut other = node.connect_from("127.0.0.2").await;
    assert_eq!(exact(&mut other, 2).await, b"hi");
    assert_eq!(node.ended("in_flight"), 1.0);
    drop(first);
    until("the first to end", || node.ended("complete") == 1.0).await;
    assert_eq!(exact(&mut node.connect().await, 2).await, b"hi");
}

/// TLS routers need a byte to decide; who says nothing is let go.
#[tokio::test]
async fn a_silent_client_is_let_go() {
    let backend = Backend::greets("hi").await;
    let node = Plan {
        streams: vec![
            Stream::to(&[backend.address]),
            Stream::named("HostSNI(`a.test`)", TcpTls::Passthrough, backend.address),
        ],
        limits: Limits {
            header_timeout: Duration::from_millis(200),
            ..Limits::default()
        },
        ..Plan::default()
    }
    .start();
    assert_eq!(rest(&mut node.connect().await).await.unwrap(), b"");
    assert_eq!(backend.connections(), 0);
    let mut client = node.connect().await;
    client.write_all(b"x").await.unwrap();
    assert_eq!(exact(&mut client, 3).await, b"hix");
}

/// What begins as TLS does and can't be read has no name to go by: it is for none of the routers, whatever they say.
#[tokio::test]
async fn an_unreadable_client_hello_goes_to_no_router() {
    let (backend, web) = (Backend::echo("stream:").await, Backend::http("web").await);
    let node = Plan {
        streams: vec![
            Stream::to(&[backend.address]),
            Stream::named("!HostSNI(`a.test`)", TcpTls::Passthrough, backend.address),
        ],
        http: vec![("PathPrefix(`/`)", web.address, true)],
        limits: Limits {
            handshake_timeout: Duration::from_millis(300),
            ..Limits::default()
        },
        ..Plan::default()
    }
    .start();
    let refused = |reason: &str| {
        node.metric(&format!(
            r#"constellation_refused_total{{entry_point="web",reason="{reason}"}}"#
        ))
    };
    let unreadable: [&[u8]; 6] = [
        // No version of TLS.
        b"\x16\x05\x01\0\x01\x01",
        // A record without content, one that is too long, and a message that is.
        b"\x16\x03\x01\0\0",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x40\0\x01\x01\0\0",
        // Another message, and a hello of one byte.
        b"\x16\x03\x01\0\x04\x02\0\0\0",
        b"\x16\x03\x01\0\x05\x01\0\0\x01\0",
    ];
    for (number, bytes) in unreadable.iter().enumerate() {
        let heard = exchange(node.connect().await, bytes).await.unwrap();
        assert_eq!(heard.as_bytes(), b"\x15\x03\x01\0\x02\x02\x32", "{bytes:x?}");
        let so_far = (number + 1) as f64;
        until("the count", || refused("client_hello") == so_far).await;
    }
    let mut slow = node.connect().await;
    slow.write_all(b"\x16\x03\x01\x01\0\x01").await.unwrap();
    assert_eq!(rest(&mut slow).await.unwrap(), b"");
    until("the count", || refused("header_timeout") == 1.0).await;
    assert_eq!((backend.connections(), web.connections()), (0, 0));
    // What doesn't begin so is the plain router's.
    let heard = exchange(node.connect().await, b"\x17\x03\x01").await.unwrap();
    assert_eq!(heard.as_bytes(), b"stream:\x17\x03\x01");
}

/// Past its end whoever comes is reset, what is open goes on, and it begins anew with a later one.
#[tokio::test]
async fn past_the_end_of_a_tenure_nobody_is_taken() {
    let backend = Backend::echo("").await;
    let tenure = Tenure::default();
    let node = Plan {
        tenure: tenure.clone(),
        ..Plan::streams(vec![Stream::to(&[backend.address])])
    }
    .start();
    let mut open = node.connect().await;
    open.write_all(b"before").await.unwrap();
    assert_eq!(exact(&mut open, 6).await, b"before");
    tenure.end();
    // The reset may come before the client knows that it is connected.
    let late = async {
        let mut late = TcpStream::connect(node.address).await?;
        rest(&mut late).await
    };
    let error = late.await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(
        node.metric("constellation_refused_total{entry_point=\"web\",reason=\"no_lease\"}"),
        1.0
    );
    open.write_all(b"after").await.unwrap();
    assert_eq!(exact(&mut open, 5).await, b"after");
    tenure.set_endless();
    assert_eq!(exchange(node.connect().await, b"again").await.unwrap(), "again");
}
