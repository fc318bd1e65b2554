//! WebSockets, other upgrades, and HTTP/2 on either side.

use bytes::Bytes;
use constellation_dataplane::table::{Policy, Scheme, Service};
use http::{HeaderMap, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::support::{Act, Backend, Node, Plan, endpoint, generation, ok, service, soon, spec};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test]
async fn a_websocket_outlives_changes_of_the_configuration() {
    let backend = Backend::start(|_, _| Act::Echo(SWITCHED.to_vec())).await;
    let mut plan = Plan::to(&[(Scheme::Http, backend.address)]);
    // Silence on a WebSocket is not a pause in a body.
    plan.limits.read_timeout = Some(std::time::Duration::from_millis(100));
    let node = plan.start();
    let mut client = node.connect().await;
    // The first frame comes along with the request, as a hasty client sends it.
    client.send(format!("{UPGRADE}\r\nframe0")).await;
    let head = client.response_head().await;
    assert_eq!(head.status, 101);
    assert_eq!(head.header("upgrade"), Some("websocket"));
    assert_eq!(client.exact(6).await, b"frame0");
    for number in 2..52 {
        node.published
            .publish(generation(number, vec![("Path(`/`)", service("other", &[]))]));
    }
    // Three read time-outs long nothing may happen, so there is nothing to await.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    client.send("frame1").await;
    assert_eq!(client.exact(6).await, b"frame1");
    let seen = backend.seen().remove(0);
    assert_eq!(seen.header("connection"), ["Upgrade"]);
    assert_eq!(seen.header("x-forwarded-proto"), ["ws"]);
    drop(client);
}

/// The handshake of a WebSocket is a GET; what is said on it begins later.
#[tokio::test]
async fn a_websocket_that_one_back_end_fails_is_opened_at_another() {
    const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    type Answer = fn() -> Act;
    let answers: [Answer; 2] = [|| Act::Close, || Act::Send(UNAVAILABLE.to_vec())];
    for answer in answers {
        let bad = Backend::start(move |_, _| answer()).await;
        let good = Backend::start(|_, _| Act::Echo(SWITCHED.to_vec())).await;
        let node = Plan::to(&[(Scheme::Http, bad.address), (Scheme::Http, good.address)]).start();
        let mut client = node.connect().await;
        client.send(format!("{UPGRADE}\r\n")).await;
        assert_eq!(client.response_head().await.status, 101);
        client.send("frame").await;
        assert_eq!(client.exact(5).await, b"frame");
        assert_eq!((bad.seen().len(), good.seen().len()), (1, 1));
    }
}

#[tokio::test]
async fn a_websocket_does_not_wait_at_a_back_end_that_hangs() {
    let hung = Backend::start(|_, _| Act::Hang).await;
    let good = Backend::start(|_, seen| match seen.header("upgrade").is_empty() {
        true => Act::Send(ok(b"good")),
        false => Act::Echo(SWITCHED.to_vec()),
    })
    .await;
    let node = Plan::to(&[(Scheme::Http, hung.address), (Scheme::Http, good.address)]).start();
    let mut waiting = node.connect().await;
    waiting.send(format!("{UPGRADE}\r\n")).await;
    let mut client = node.connect().await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(waiting.response_head().await.status, 101);
    waiting.send("frame").await;
    assert_eq!(waiting.exact(5).await, b"frame");
}

/// What a client sends after its request must not reach the back end as raw bytes unless the back end switched.
#[tokio::test]
async fn a_refused_upgrade_smuggles_nothing() {
    let backend = Backend::fixed("no").await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut client = node.connect().await;
    client
        .send(format!("{UPGRADE}\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n"))
        .await;
    assert_eq!(client.response().await.text(), "no");
    assert_eq!(client.response().await.text(), "no");
    let seen = backend.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(
        seen[1].header("x-forwarded-for"),
        ["127.0.0.1"],
        "the second went through the routing as well"
    );
}

#[tokio::test]
async fn other_protocols_can_be_upgraded_to() {
    let backend = Backend::start(|_, _| {
        Act::Echo(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".to_vec())
    })
    .await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut client = node.connect().await;
    client
        .send("POST /attach HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        .await;
    assert_eq!(client.response_head().await.status, 101);
    client.send("raw").await;
    assert_eq!(client.exact(3).await, b"raw");
}

/// An HTTP/2 connection to the node with prior knowledge.
async fn h2_client(node: &Node) -> h2::client::SendRequest<Bytes> {
    let socket = TcpStream::connect(node.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(async move { connection.await.unwrap_or_default() });
    sender
}

/// A gRPC-like back end: echoes the body and ends with trailers.
async fn h2_backend() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        let te = request.headers().get("te").cloned();
                        let mut body = request.into_body();
                        let response = http::Response::builder()
                            .header("x-te", te.unwrap())
                            .body(())
                            .unwrap();
                        let mut stream = respond.send_response(response, false).unwrap();
                        while let Some(Ok(data)) = body.data().await {
                            body.flow_control().release_capacity(data.len()).unwrap();
                            // An empty frame is no end: as a chunk of HTTP/1 it would be one.
                            stream.send_data(Bytes::new(), false).unwrap();
                            stream.send_data(data, false).unwrap();
                        }
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", "0".parse().unwrap());
                        stream.send_trailers(trailers).unwrap();
                    });
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn grpc_streams_both_ways_and_ends_with_trailers() {
    let backend = h2_backend().await;
    let node = Plan::to(&[(Scheme::H2c, backend)]).start();
    let mut sender = h2_client(&node).await;
    let request = Request::post("http://a.test/pkg.Service/Method")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut stream) = sender.send_request(request, false).unwrap();
    let response = soon("the head", response).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-te"], "trailers");
    let mut body = response.into_body();
    for message in ["one", "two", "three"] {
        stream.send_data(Bytes::from(message), false).unwrap();
        let echo = soon("an echo", body.data()).await.unwrap().unwrap();
        assert_eq!(echo, message, "each message comes back before the next is sent");
        body.flow_control().release_capacity(echo.len()).unwrap();
    }
    stream.send_data(Bytes::new(), true).unwrap();
    let trailers = soon("the trailers", body.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

#[tokio::test]
async fn an_empty_body_of_http2_has_a_length_where_content_is_expected() {
    let backend = Backend::fixed("ok").await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut sender = h2_client(&node).await;
    let none: &[&str] = &[];
    for (method, expected) in [("POST", &["0"][..]), ("GET", none)] {
        let request = Request::builder().method(method).uri("http://a.test/");
        let (response, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(soon("the response", response).await.unwrap().status(), 200);
        let seen = backend.seen().pop().unwrap();
        assert_eq!(seen.header("content-length"), expected, "{method}: {}", seen.head);
        assert!(seen.header("transfer-encoding").is_empty(), "{method}");
    }
}

/// HTTP/2 says with the head that nothing follows; in HTTP/1 only a length does.
#[tokio::test]
async fn a_response_that_ends_with_its_head_has_a_length_in_http1() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let mut connection = h2::server::handshake(socket).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let status: u16 = request.uri().path().trim_start_matches('/').parse().unwrap();
                let head = http::Response::builder().status(status).body(()).unwrap();
                respond.send_response(head, true).unwrap();
            }
        }
    });
    let node = Plan::to(&[(Scheme::H2c, backend)]).start();
    let mut client = node.connect().await;
    for (method, status, expected) in [
        ("GET", 200, Some("0")),
        ("GET", 404, Some("0")),
        ("HEAD", 200, None),
        ("GET", 204, None),
        ("GET", 304, None),
    ] {
        client
            .send(format!("{method} /{status} HTTP/1.1\r\nHost: a.test\r\n\r\n"))
            .await;
        let head = client.response_head().await;
        assert_eq!(head.status, status);
        assert_eq!(head.header("content-length"), expected, "{method} {status}");
        assert_eq!(head.header("transfer-encoding"), None, "{method} {status}");
    }
}

#[tokio::test]
async fn http2_clients_reach_http1_back_ends() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\nhello";
    let backend = Backend::start(|_, _| Act::Send(answer.to_vec())).await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut sender = h2_client(&node).await;
    for path in ["/x/../y?q", "/z"] {
        let request = Request::get(format!("http://a.test:80{path}"))
            .header("cookie", "a=1")
            .header("cookie", "b=2");
        let (response, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
        let response = soon("the response", response).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("connection"));
        let mut body = response.into_body();
        assert_eq!(soon("the body", body.data()).await.unwrap().unwrap(), "hello");
    }
    let seen = backend.seen();
    assert!(
        seen[0].head.starts_with("GET /y?q HTTP/1.1\r\n"),
        "{}",
        seen[0].head
    );
    assert_eq!(seen[0].header("host"), ["a.test:80"]);
    assert_eq!(seen[0].header("x-forwarded-host"), ["a.test:80"]);
    assert_eq!(seen[0].header("x-forwarded-for"), ["127.0.0.1"]);
}

#[tokio::test]
async fn http1_clients_reach_http2_back_ends() {
    let backend = h2_backend().await;
    let node = Plan::to(&[(Scheme::H2c, backend)]).start();
    let mut client = node.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTe: trailers\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    let answer = String::from_utf8(client.rest().await).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("hello"),
        "{answer}"
    );
}

/// A place in the line is for those who still want an answer.
#[tokio::test]
async fn who_leaves_the_line_takes_no_place() {
    let backend = Backend::start(|_, _| Act::Hang).await;
    let mut policy = Policy::default();
    policy.limits.max_in_flight = Some(1);
    policy.limits.queue_timeout = std::time::Duration::from_secs(600);
    let host = backend.address.ip().to_string();
    let mut spec = spec(
        "app",
        vec![endpoint(Scheme::Http, &host, backend.address.port(), "")],
    );
    spec.policy = std::sync::Arc::new(policy);
    let node = Plan {
        routes: vec![("PathPrefix(`/`)", Service::new(spec, None))],
        ..Plan::default()
    }
    .start();
    let mut sender = h2_client(&node).await;
    let request = || Request::get("http://a.test/").body(()).unwrap();
    let (_first, _) = sender.send_request(request(), true).unwrap();
    let (_second, mut stream) = sender.send_request(request(), true).unwrap();
    let waiting = async |count: usize| {
        let line = format!("constellation_service_queue_length{{service=\"app\"}} {count}\n");
        soon(&line, async {
            while !node.metrics().contains(&line) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    waiting(1).await;
    stream.send_reset(h2::Reason::CANCEL);
    waiting(0).await;
}

/// Connections of HTTP/2 outlive requests, but not their endpoint.
#[tokio::test]
async fn the_http2_connection_to_an_endpoint_that_left_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (open, mut opened) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            open.send_modify(|count| *count += 1);
            let mut connection = h2::server::handshake(socket).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                respond.send_response(http::Response::new(()), true).unwrap();
            }
            open.send_modify(|count| *count -= 1);
        }
    });
    let service = service("app", &[(Scheme::H2c, address)]);
    let endpoint = service.endpoints[0].live.clone();
    let node = Plan {
        routes: vec![("PathPrefix(`/`)", service)],
        ..Plan::default()
    }
    .start();
    let mut client = node.connect().await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(*opened.borrow_and_update(), 1, "it is kept");
    endpoint.depart();
    let closing = opened.wait_for(|open| *open == 0);
    soon("closing", closing).await.unwrap();
}

/// One that speaks both is asked in the version that the service names, whatever other services have left open there.
#[tokio::test]
async fn services_of_one_address_keep_their_versions() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut first = [0; 4];
                socket.peek(&mut first).await.unwrap();
                if first == *b"PRI " {
                    let mut connection = h2::server::handshake(socket).await.unwrap();
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        let head = http::Response::builder().status(202).body(()).unwrap();
                        respond.send_response(head, true).unwrap();
                    }
                    return;
                }
                let mut head = [0; 4096];
                while socket.read(&mut head).await.is_ok_and(|read| read > 0) {
                    let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
                    socket.write_all(answer).await.unwrap();
                }
            });
        }
    });
    let node = Plan {
        routes: vec![
            ("PathPrefix(`/one`)", service("one", &[(Scheme::Http, address)])),
            ("PathPrefix(`/two`)", service("two", &[(Scheme::H2c, address)])),
        ],
        ..Plan::default()
    }
    .start();
    let mut client = node.connect().await;
    for (path, status) in [("/one", 201), ("/two", 202), ("/one", 201), ("/two", 202)] {
        assert_eq!(client.get(path).await.status, status, "{path}");
    }
}

/// What a back end of HTTP/2 sends in empty frames must not end the body of an HTTP/1 client early: the rest would be
/// taken for the next response.
#[tokio::test]
async fn an_empty_frame_ends_no_body() {
    let backend = h2_backend().await;
    let node = Plan::to(&[(Scheme::H2c, backend)]).start();
    let mut client = node.connect().await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTe: trailers\r\nContent-Length: 5\r\n";
    client
        .send(format!(
            "{request}\r\nhello{request}Connection: close\r\n\r\nhello"
        ))
        .await;
    let answers = String::from_utf8(client.rest().await).unwrap();
    let bodies: Vec<_> = answers.split("\r\n\r\n5\r\nhello\r\n0\r\n").collect();
    assert_eq!(bodies.len(), 3, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
}

#[tokio::test]
async fn http2_refusals() {
    let backend = Backend::fixed("reached").await;
    let mut plan = Plan::to(&[(Scheme::Http, backend.address)]);
    plan.limits.max_body_bytes = Some(10);
    let node = plan.start();
    let mut sender = h2_client(&node).await;
    // Host that differs from :authority
    let request = Request::get("http://a.test/")
        .header("host", "b.test")
        .body(())
        .unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    match soon("the refusal", response).await {
        Ok(response) => assert_eq!(response.status(), 400),
        Err(error) => assert!(error.is_reset(), "{error}"),
    }
    // A bad path
    let (response, _) = sender
        .send_request(Request::get("http://a.test/%zz").body(()).unwrap(), true)
        .unwrap();
    assert_eq!(soon("the refusal", response).await.unwrap().status(), 400);
    assert!(backend.seen().is_empty());
    // The server as a whole is only for OPTIONS
    for (method, status) in [("OPTIONS", 200), ("GET", 400), ("DELETE", 400)] {
        let mut request = Request::new(());
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = http::Uri::builder()
            .scheme("http")
            .authority("a.test")
            .path_and_query("*")
            .build()
            .unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        assert_eq!(
            soon("the answer", response).await.unwrap().status(),
            status,
            "{method}"
        );
    }
    // A body too large
    let (response, mut stream) = sender
        .send_request(Request::post("http://a.test/").body(()).unwrap(), false)
        .unwrap();
    stream
        .send_data(Bytes::from_static(b"much too large"), true)
        .unwrap();
    assert_eq!(soon("the refusal", response).await.unwrap().status(), 413);
    assert!(backend.seen().is_empty());
}

/// The limits of a head hold in HTTP/2 as well; the crumbs of a cookie count once.
#[tokio::test]
async fn heads_of_http2_are_checked() {
    let backend = Backend::fixed("reached").await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut client = h2_client(&node).await;
    let lines = |name: &'static str, count: usize| vec![(name, "0"); count];
    for (headers, status) in [
        (lines("x", 90), 200),
        (lines("cookie", 150), 200),
        (lines("x", 101), 431),
        (lines("content-length", 1), 200),
        (lines("content-length", 2), 400),
    ] {
        let mut request = Request::get("http://a/");
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        let response = soon("the response", response).await.unwrap();
        assert_eq!(
            response.status(),
            status,
            "{} times {}",
            headers.len(),
            headers[0].0
        );
    }
}
