//! Requests and responses of any size and shape, keep-alive, own answers, and changes of the configuration.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use constellation_dataplane::table::{Scheme, Service, ServiceSpec, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;

use super::support::{Act, Backend, Plan, endpoint, find, generation, ok, service, soon, spec};

#[tokio::test]
async fn a_connection_serves_many_requests_and_so_does_one_to_the_back_end() {
    let backend = Backend::fixed("hello").await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut client = node.connect().await;
    for number in 0..50 {
        let response = client.get(&format!("/{number}")).await;
        assert_eq!((response.status, response.text()), (200, "hello"));
    }
    assert_eq!(backend.connections(), 1);
    assert_eq!(backend.seen().len(), 50);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::start(|_, seen| {
        let path = seen.head.split(' ').nth(1).unwrap_or_default();
        Act::Send(ok(path.as_bytes()))
    })
    .await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut client = node.connect().await;
    let requests: String = (0..10)
        .map(|n| format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"))
        .collect();
    client.send(requests).await;
    for number in 0..10 {
        assert_eq!(client.response().await.text(), format!("/{number}"));
    }
}

#[tokio::test]
async fn large_bodies_flow_both_ways() {
    const SIZE: usize = 8 << 20;
    let backend = Backend::start(|_, seen| Act::Send(ok(&seen.body))).await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let body: Vec<u8> = (0..SIZE).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let client = node.connect().await;
    let (mut read, mut write) = client.0.into_split();
    let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {SIZE}\r\n\r\n");
    let sent = body.clone();
    let sending = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        write.write_all(head.as_bytes()).await.unwrap();
        write.write_all(&sent).await.unwrap();
        write
    });
    let mut answer = Vec::new();
    soon(
        "the download",
        tokio::io::AsyncReadExt::read_to_end(&mut read, &mut answer),
    )
    .await
    .unwrap();
    drop(sending.await.unwrap());
    let start = find(&answer, b"\r\n\r\n").unwrap() + 4;
    assert!(
        answer[start..] == body,
        "{} of {SIZE} bytes",
        answer.len() - start
    );
}

#[tokio::test]
async fn chunked_uploads_arrive_whole() {
    let backend = Backend::start(|_, seen| Act::Send(ok(seen.body.len().to_string().as_bytes()))).await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut client = node.connect().await;
    for _ in 0..2 {
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        for size in [1usize, 20_000, 100_000] {
            client.send(format!("{size:x}\r\n{}\r\n", "x".repeat(size))).await;
        }
        client.send("0\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!(response.status, 200);
        assert!(response.text().parse::<usize>().unwrap() > 120_000);
    }
}

/// Every piece of a stream arrives when it is sent, not when the stream ends.
#[tokio::test]
async fn server_sent_events_are_not_held_back() {
    let backend = Backend::start(|_, _| {
        Act::Echo(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n".to_vec())
    })
    .await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut client = node.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response_head().await.status, 200);
    let mut got = Vec::new();
    while find(&got, b"data: 1\n\n").is_none() {
        got.extend(client.exact(1).await);
    }
}

#[tokio::test]
async fn expect_continue_reaches_the_back_end_before_the_body_is_sent() {
    let backend = Backend::start(|_, seen| Act::Send(ok(&seen.body))).await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut client = node.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        .await;
    let interim = client.exact(25).await;
    assert!(interim.starts_with(b"HTTP/1.1 100 Continue\r\n"), "{interim:?}");
    client.send("abc").await;
    let response = client.response().await;
    assert_eq!((response.status, response.text()), (200, "abc"));
}

#[tokio::test]
async fn own_answers() {
    let dead = endpoint(Scheme::Http, "127.0.0.1", 1, "");
    let unavailable = Service::new(spec("empty", Vec::new()), None);
    let plan = Plan {
        routes: vec![
            ("Path(`/empty`)", unavailable),
            ("Path(`/dead`)", Service::new(spec("dead", vec![dead]), None)),
        ],
        ..Plan::default()
    };
    let node = plan.start();
    // method, path, status, body
    let cases = [
        ("GET", "/none", 404, "404 page not found\n"),
        ("GET", "/empty", 503, "no available server\n"),
        ("GET", "/dead", 502, "Bad Gateway"),
        ("POST", "/dead", 502, "Bad Gateway"),
        ("OPTIONS", "*", 200, ""),
    ];
    for (method, path, status, body) in cases {
        let mut client = node.connect().await;
        client
            .send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        let response = client.response().await;
        assert_eq!(
            (response.status, response.text()),
            (status, body),
            "{method} {path}"
        );
        // What says of a back end that it failed is a bare text, as Traefik's.
        if body.ends_with('\n') {
            assert_eq!(
                response.header("content-type"),
                Some("text/plain; charset=utf-8"),
                "{path}"
            );
            assert_eq!(
                response.header("x-content-type-options"),
                Some("nosniff"),
                "{path}"
            );
        }
        assert_eq!(
            response.header("retry-after"),
            (status == 503).then_some("7"),
            "{path}"
        );
        assert_eq!(response.header("connection"), Some("keep-alive"), "{path}");
    }
    let mut client = node.connect().await;
    client
        .send("HEAD /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let answer = String::from_utf8(client.rest().await).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 404 ") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    let metrics = node.metrics();
    assert!(metrics.contains("code=\"404\""), "{metrics}");
}

/// An answer that comes before the body was read ends the connection, and still arrives.
#[tokio::test]
async fn an_early_answer_survives_an_unread_body() {
    let node = Plan::default().start();
    let mut client = node.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        .await;
    client.send(vec![b'x'; 60_000]).await;
    let answer = String::from_utf8(client.rest().await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.ends_with("404 page not found\n"), "{answer}");
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let backend = Backend::start(|_, seen| {
        let body: &[u8] = if seen.head.starts_with("HEAD") {
            b""
        } else {
            b"hello"
        };
        Act::Send([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", body].concat())
    })
    .await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut client = node.connect().await;
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = client.response_head().await;
    assert_eq!(head.header("content-length"), Some("5"));
    assert_eq!(client.get("/").await.status, 200, "the connection goes on");
}

/// A response without a length can't be delimited for HTTP/1.0 but by the end of the connection.
#[tokio::test]
async fn http_10_gets_no_chunks() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let backend = Backend::start(|_, _| Act::Send(chunked.to_vec())).await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut client = node.connect().await;
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let answer = String::from_utf8(client.rest().await).unwrap();
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
    assert!(
        !answer.to_ascii_lowercase().contains("transfer-encoding"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_http_10_back_end_is_answered_for_in_http_11() {
    let backend = Backend::start(|_, _| {
        Act::SendAndClose(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec())
    })
    .await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut client = node.connect().await;
    for _ in 0..2 {
        let response = client.get("/").await;
        assert!(
            response.head.starts_with("HTTP/1.1 200 OK\r\n"),
            "{}",
            response.head
        );
        assert_eq!(response.text(), "hello");
    }
}

#[tokio::test]
async fn a_new_generation_serves_the_next_request_and_leaves_the_running_one_alone() {
    let first = Backend::start(|_, seen| match seen.head.contains("/slow") {
        true => Act::Echo(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfirst".to_vec()),
        false => Act::Send(ok(b"first")),
    })
    .await;
    let second = Backend::fixed("second").await;
    let node = Plan::to(&[(Scheme::Http, first.address)]).start();
    let mut slow = node.connect().await;
    slow.send("POST /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(slow.response_head().await.status, 200);
    assert_eq!(slow.exact(5).await, b"first");
    let mut client = node.connect().await;
    assert_eq!(client.get("/").await.text(), "first");
    for number in 2..52 {
        let routes = vec![(
            "PathPrefix(`/`)",
            service("app", &[(Scheme::Http, second.address)]),
        )];
        node.published.publish(generation(number, routes));
    }
    assert_eq!(client.get("/").await.text(), "second", "on the same connection");
    drop(first);
    assert!(
        slow.rest().await.len() <= 3,
        "the running response was not cut before its back end ended"
    );
}

#[tokio::test]
async fn names_of_back_ends_are_resolved() {
    let backend = Backend::fixed("hello").await;
    let named = endpoint(Scheme::Http, "localhost", backend.address.port(), "");
    let unknown = endpoint(Scheme::Http, "no-such-host.invalid", 80, "");
    let plan = Plan {
        routes: vec![(
            "PathPrefix(`/`)",
            Service::new(spec("app", vec![unknown, named]), None),
        )],
        ..Plan::default()
    };
    let node = plan.start();
    let mut client = node.connect().await;
    for _ in 0..4 {
        assert_eq!(client.get("/").await.text(), "hello");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let backend = Backend::fixed("hello").await;
    let mut plan = Plan::to(&[(Scheme::Http, backend.address)]);
    plan.limits.max_connections = 1;
    let node = plan.start();
    let mut first = node.connect().await;
    assert_eq!(first.get("/").await.status, 200);
    assert!(node.connect().await.rest().await.is_empty());
    assert_eq!(first.get("/").await.status, 200);
}

#[tokio::test]
async fn connections_beyond_the_limit_of_a_source_are_closed_at_once() {
    let backend = Backend::fixed("hello").await;
    let mut plan = Plan::to(&[(Scheme::Http, backend.address)]);
    plan.limits.max_connections_per_source = Some(1);
    plan.exempt_sources = vec!["127.0.0.3/32"];
    let node = plan.start();
    let mut first = node.connect().await;
    assert_eq!(first.get("/").await.status, 200);
    assert!(node.connect().await.rest().await.is_empty());
    let mut other = node.connect_from("127.0.0.2").await;
    assert_eq!(
        other.get("/").await.status,
        200,
        "another source has its own limit"
    );
    let mut exempt = Vec::new();
    for _ in 0..3 {
        let mut client = node.connect_from("127.0.0.3").await;
        assert_eq!(client.get("/").await.status, 200, "this one has none");
        exempt.push(client);
    }
    let counted = r#"constellation_refused_total{entry_point="web",reason="too_many_from_source"} 1"#;
    assert!(node.metrics().contains(counted), "{}", node.metrics());
    drop(first);
    soon("a place", async {
        let request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
        loop {
            let mut client = node.connect().await;
            // It may be closed before it can say anything.
            client.0.write_all(request.as_bytes()).await.unwrap_or_default();
            if !client.rest().await.is_empty() {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let backend = Backend::fixed("hello").await;
    let mut plan = Plan::to(&[(Scheme::Http, backend.address)]);
    plan.limits.idle_timeout = Duration::from_millis(200);
    let node = plan.start();
    let mut client = node.connect().await;
    assert_eq!(client.get("/").await.status, 200);
    assert!(client.rest().await.is_empty());
}

#[tokio::test]
async fn a_connection_ends_after_its_last_request() {
    let backend = Backend::fixed("hello").await;
    let mut plan = Plan::to(&[(Scheme::Http, backend.address)]);
    plan.limits.max_requests_per_connection = Some(2);
    let node = plan.start();
    let mut client = node.connect().await;
    assert_eq!(client.get("/").await.header("connection"), Some("keep-alive"));
    assert_eq!(client.get("/").await.header("connection"), Some("close"));
    assert!(client.rest().await.is_empty());
}

/// `nc -N` and the like end their side after the request and wait for the answer.
#[tokio::test]
async fn a_client_that_ends_its_side_gets_its_answers() {
    let backend = Backend::fixed("hello").await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut client = node.connect().await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(request.repeat(2)).await;
    tokio::io::AsyncWriteExt::shutdown(&mut client.0).await.unwrap();
    let answers = String::from_utf8(client.rest().await).unwrap();
    assert_eq!(answers.matches("hello").count(), 2, "{answers}");
}

/// Idle connections above the transport's limit are closed soon; those within it are kept.
#[tokio::test]
async fn surplus_idle_connections_are_closed() {
    const REQUESTS: usize = 6;
    const KEPT: usize = 2;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (open, mut opened) = watch::channel(0);
    let everybody = Arc::new(Barrier::new(REQUESTS));
    let accepting = tokio::spawn(async move {
        let mut serving = JoinSet::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let (open, everybody) = (open.clone(), everybody.clone());
            serving.spawn(async move {
                open.send_modify(|count| *count += 1);
                let mut head = [0; 1024];
                assert!(socket.read(&mut head).await.unwrap() > 0);
                // All requests are here at once, so each has a connection of its own.
                everybody.wait().await;
                socket.write_all(&ok(b"done")).await.unwrap();
                assert_eq!(socket.read(&mut head).await.unwrap(), 0, "nothing more is asked");
                open.send_modify(|count| *count -= 1);
            });
        }
    });
    let host = address.ip().to_string();
    let spec = ServiceSpec {
        transport: Arc::new(Transport {
            max_idle_connections_per_host: u32::try_from(KEPT).unwrap(),
            ..Transport::default()
        }),
        ..spec("app", vec![endpoint(Scheme::Http, &host, address.port(), "")])
    };
    let node = Plan {
        routes: vec![("PathPrefix(`/`)", Service::new(spec, None))],
        ..Plan::default()
    }
    .start();
    let mut clients = Vec::new();
    for _ in 0..REQUESTS {
        let mut client = node.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()).await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "done");
    }
    let left = soon("closing", opened.wait_for(|open| *open <= KEPT))
        .await
        .unwrap();
    assert_eq!(*left, KEPT, "those within the limit stay");
    accepting.abort();
}

/// What no client may see of a response, and what it may see in one form only. Whoever is refused gets no byte of it.
#[tokio::test]
async fn heads_of_back_ends_are_checked() {
    let backend = Backend::start(|_, seen| {
        let rest = match seen.head.split(' ').nth(1) {
            Some("/unasked") => "101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw",
            Some("/coding") => "200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            Some("/identity") => "200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc",
            Some("/repeated") => "200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            Some("/listed") => "200 OK\r\nContent-Length: 3, 3\r\n\r\nabc",
            _ => "204 No Content\r\nContent-Length: 3\r\n\r\nabc",
        };
        Act::SendAndClose(format!("HTTP/1.1 {rest}").into_bytes())
    })
    .await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    for path in ["/unasked", "/coding", "/identity"] {
        let response = node.connect().await.get(path).await;
        assert_eq!(response.status, 502, "{path}");
    }
    for path in ["/repeated", "/listed"] {
        let response = node.connect().await.get(path).await;
        assert_eq!((response.status, response.text()), (200, "abc"), "{path}");
        let lengths = response
            .head
            .to_ascii_lowercase()
            .matches("content-length: 3\r\n")
            .count();
        assert_eq!(lengths, 1, "{path}: {}", response.head);
    }
    let mut client = node.connect().await;
    client
        .send("GET /empty HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let answer = String::from_utf8_lossy(&client.rest().await).to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 204 "), "{answer}");
    assert!(
        !answer.contains("content-length") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
}
