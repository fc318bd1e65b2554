//! Bodies that are compressed, looked at, translated or taken whole.

use std::io::Read;

use constellation_dataplane::table::Scheme;
use constellation_middleware::{
    Buffering, Compress, CompressOptions, GrpcWeb, HeadersOptions, Kind, RedirectScheme,
};
use http::{HeaderMap, Request};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::super::support::{Act, Backend, Client, Plan, ok, soon};
use super::{node, unchunked};

fn compress() -> Kind {
    Kind::Compress(Compress::new(&CompressOptions::default()).unwrap())
}

fn buffering(max_request: i64, max_response: i64) -> Kind {
    Kind::Buffering(Buffering::new(max_request, max_response, "").unwrap())
}

fn gunzipped(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(data).read_to_end(&mut out).unwrap();
    out
}

#[tokio::test]
async fn responses_are_compressed_for_those_who_accept_it() {
    let text = "some words and more of them ".repeat(4000);
    let body = text.clone();
    let backend = Backend::start(move |_, _| Act::Send(ok(body.as_bytes()))).await;
    let node = node(&backend, vec![compress()]);
    let mut client = node.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    assert_eq!(response.header("vary"), Some("Accept-Encoding"));
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    let sent = unchunked(&response.body);
    assert!(sent.len() * 10 < text.len());
    assert_eq!(gunzipped(&sent), text.as_bytes());
    // Not for others, and never for HEAD; the connection to the back end stays in order.
    let mut client = node.connect().await;
    assert_eq!(client.get("/").await.text(), text);
    // A client of HTTP/1.0 gets it to the end of the connection.
    let mut old = node.connect().await;
    old.send("GET / HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n").await;
    let response = old.response().await;
    assert_eq!(response.header("transfer-encoding"), None);
    assert_eq!(gunzipped(&response.body), text.as_bytes());
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_compressed_response_ends_in_http2_as_it_should() {
    let text = "some words and more of them ".repeat(4000);
    let body = text.clone();
    let backend = Backend::start(move |_, _| Act::Send(ok(body.as_bytes()))).await;
    let node = node(&backend, vec![compress()]);
    let socket = tokio::net::TcpStream::connect(node.address).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(async move { connection.await.unwrap_or_default() });
    let request = Request::get("http://a.test/").header("accept-encoding", "gzip");
    let (response, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
    let response = soon("the head", response).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert!(!response.headers().contains_key("content-length"));
    let mut body = response.into_body();
    let mut sent = Vec::new();
    while let Some(data) = soon("data", body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        sent.extend_from_slice(&data);
    }
    assert_eq!(gunzipped(&sent), text.as_bytes());
}

/// An event goes to the client when it happens, not when the next one does.
#[tokio::test]
async fn a_stream_is_not_held_back_by_compression() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (go_on, told) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(b"b\r\ndata: one\n\n\r\n").await.unwrap();
        told.await.unwrap();
        socket
            .write_all(b"b\r\ndata: two\n\n\r\n0\r\n\r\n")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    });
    let node = Plan {
        chain: vec![compress()],
        ..Plan::to(&[(Scheme::Http, address)])
    }
    .start();
    let mut client = node.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n")
        .await;
    let head = client.response_head().await;
    assert_eq!(head.header("content-encoding"), Some("gzip"));
    let mut sent = Vec::new();
    let event = loop {
        sent.extend(chunk(&mut client).await);
        let mut out = [0; 64];
        let read = flate2::read::GzDecoder::new(&*sent).read(&mut out).unwrap_or(0);
        if read > 0 {
            break out[..read].to_vec();
        }
    };
    assert_eq!(event, b"data: one\n\n");
    go_on.send(()).unwrap();
    sent.extend(unchunked(&client.rest().await));
    assert_eq!(gunzipped(&sent), b"data: one\n\ndata: two\n\n");
}

/// The next chunk of a body.
async fn chunk(client: &mut Client) -> Vec<u8> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(client.exact(1).await);
    }
    let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim_end(), 16).unwrap();
    let mut data = client.exact(size + 2).await;
    data.truncate(size);
    data
}

#[tokio::test]
async fn types_are_guessed_from_the_begin_of_bodies() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\n";
    // head, first piece of the body, rest of it, type
    let cases = [
        (
            "Content-Length: 7\r\n",
            "<html>x",
            "",
            Some("text/html; charset=utf-8"),
        ),
        (
            "Content-Length: 5\r\n",
            "%PDF",
            "-",
            Some("text/plain; charset=utf-8"),
        ),
        ("Content-Length: 0\r\n", "", "", None),
        ("Content-Type: a/b\r\nContent-Length: 1\r\n", "", "x", Some("a/b")),
        // Its head waits for nothing.
        ("Transfer-Encoding: chunked\r\n", "", "1\r\nx\r\n0\r\n\r\n", None),
    ];
    for (headers, first, rest, kind) in cases {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (go_on, told) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let begin = format!("{HEAD}{headers}\r\n{first}");
            socket.write_all(begin.as_bytes()).await.unwrap();
            told.await.unwrap();
            socket.write_all(rest.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        let node = Plan {
            chain: vec![Kind::ContentType],
            ..Plan::to(&[(Scheme::Http, address)])
        }
        .start();
        let mut client = node.connect().await;
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await;
        // The head needs no more than the first piece.
        let head = client.response_head().await;
        assert_eq!(head.header("content-type"), kind, "{headers}");
        go_on.send(()).unwrap();
        assert_eq!(
            client.rest().await,
            format!("{first}{rest}").as_bytes(),
            "{headers}"
        );
    }
}

/// A gRPC back end over HTTP/2 that echoes messages.
async fn grpc_backend() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let mut connection = h2::server::handshake(socket).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                tokio::spawn(async move {
                    assert_eq!(request.headers()["content-type"], "application/grpc+proto");
                    assert_eq!(request.headers()["te"], "trailers");
                    let mut body = request.into_body();
                    let head = http::Response::builder().header("content-type", "application/grpc");
                    let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
                    while let Some(Ok(data)) = body.data().await {
                        body.flow_control().release_capacity(data.len()).unwrap();
                        stream.send_data(data, false).unwrap();
                    }
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    stream.send_trailers(trailers).unwrap();
                });
            }
        }
    });
    address
}

#[tokio::test]
async fn browsers_talk_to_grpc() {
    let node = Plan {
        chain: vec![Kind::GrpcWeb(GrpcWeb::new(&["https://a.test".to_owned()]))],
        ..Plan::to(&[(Scheme::H2c, grpc_backend().await)])
    }
    .start();
    // type, body, type of the response, body of the response
    let cases: [(&str, &[u8], &str, &[u8]); 2] = [
        (
            "application/grpc-web+proto",
            b"\0\0\0\0\x02ab",
            "application/grpc-web",
            b"\0\0\0\0\x02ab\x80\0\0\0\x10grpc-status: 0\r\n",
        ),
        (
            "application/grpc-web-text+proto",
            b"AAAAAAJhYg==",
            "application/grpc-web-text",
            b"AAAAAAJhYg==gAAAABBncnBjLXN0YXR1czogMA0K",
        ),
    ];
    for (kind, body, expected_kind, expected) in cases {
        let mut client = node.connect().await;
        let head = format!(
            "POST /s/m HTTP/1.1\r\nHost: a\r\nOrigin: https://a.test\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        client.send([head.as_bytes(), body].concat()).await;
        let response = client.response().await;
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-type"), Some(expected_kind));
        assert_eq!(
            response.header("access-control-allow-origin"),
            Some("https://a.test")
        );
        assert_eq!(unchunked(&response.body), expected, "{kind}");
    }
    let mut client = node.connect().await;
    client
        .send(
            "POST /s/m HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web-text+proto\r\n\
             Content-Length: 4\r\n\r\n!!!!",
        )
        .await;
    assert_eq!(client.response().await.status, 400);
}

#[tokio::test]
async fn requests_go_on_when_they_are_whole() {
    let backend = Backend::fixed("ok").await;
    let node = node(&backend, vec![buffering(10, 0)]);
    let mut client = node.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n")
        .await;
    assert_eq!(backend.connections(), 0);
    client.send("5\r\n56789\r\n0\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    let seen = backend.seen().pop().unwrap();
    assert_eq!(seen.header("content-length"), ["10"]);
    assert_eq!(
        (seen.header("transfer-encoding").len(), &*seen.body),
        (0, b"0123456789".as_slice())
    );
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n0123456789a",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n",
    ] {
        let mut client = node.connect().await;
        client.send(request).await;
        let response = client.response().await;
        assert_eq!(
            (response.status, response.text()),
            (413, "Request Entity Too Large")
        );
        assert_eq!(response.header("content-type"), None);
    }
    assert_eq!(backend.seen().len(), 1);
}

#[tokio::test]
async fn responses_go_on_when_they_are_whole() {
    let chunked = |size: usize| {
        let body = "x".repeat(size);
        format!(
            "HTTP/1.1 200 OK\r\nX-O: 1\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n"
        )
    };
    // response, limit, status, body
    let cases = [
        (chunked(3), 10, 200, "xxx".to_owned()),
        (chunked(11), 10, 500, "Internal Server Error".to_owned()),
        (
            String::from_utf8(ok(&[b'x'; 11])).unwrap(),
            10,
            500,
            "Internal Server Error".to_owned(),
        ),
        (chunked(100_000), 0, 200, "x".repeat(100_000)),
    ];
    for (response, most, status, body) in cases {
        let backend = Backend::start(move |_, _| Act::Send(response.clone().into_bytes())).await;
        let node = node(&backend, vec![buffering(0, most)]);
        let mut client = node.connect().await;
        for _ in 0..2 {
            let got = client.get("/").await;
            assert_eq!((got.status, got.text()), (status, &*body));
            assert_eq!(got.header("x-o").is_some(), status == 200);
            assert_eq!(got.header("content-length"), Some(&*body.len().to_string()));
        }
    }
}

/// Beyond what is buffered where there is no limit, a response streams on.
#[tokio::test]
async fn a_response_without_a_limit_streams_once_it_is_long() {
    let size = 20 << 20;
    let backend = Backend::start(move |_, _| Act::Send(ok(&vec![b'x'; size]))).await;
    let node = node(&backend, vec![buffering(0, 0)]);
    let response = node.connect().await.get("/").await;
    assert_eq!((response.status, response.body.len()), (200, size));
    assert!(response.body.iter().all(|byte| *byte == b'x'));
}

/// The middlewares around a replaced response see the new one.
#[tokio::test]
async fn a_refused_response_is_compressed_by_nobody() {
    let backend = Backend::start(move |_, _| Act::Send(ok(&[b'x'; 4000]))).await;
    let node = node(&backend, vec![compress(), buffering(0, 10)]);
    let mut client = node.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!((response.status, response.text()), (500, "Internal Server Error"));
    assert_eq!(response.header("content-encoding"), None);
    assert_eq!(response.header("vary"), Some("Accept-Encoding"));
}

/// What is said of a response before it is there may be changed by the middlewares inside.
#[tokio::test]
async fn headers_decide_on_vary_wherever_compression_stands() {
    let backend = Backend::start(|_, _| Act::Send(ok(&[b'x'; 4000]))).await;
    let vary = |value| {
        let options = HeadersOptions {
            response: vec![("Vary", value)],
            ..HeadersOptions::default()
        };
        super::headers(&options)
    };
    for (chain, expected) in [
        (vec![compress(), vary("one")], vec!["vary: one"]),
        (vec![vary("one"), compress()], vec!["vary: one"]),
        (vec![compress(), vary("")], vec![]),
        (vec![compress()], vec!["vary: Accept-Encoding"]),
    ] {
        let node = node(&backend, chain);
        let mut client = node.connect().await;
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n")
            .await;
        let response = client.response().await;
        assert_eq!(response.header("content-encoding"), Some("gzip"));
        let lines = response.head.lines().map(|line| line.replace("Vary", "vary"));
        let lines: Vec<String> = lines.filter(|line| line.starts_with("vary")).collect();
        assert_eq!(lines, expected);
    }
}

#[tokio::test]
async fn answers_of_inner_middlewares_are_held_to_the_limit_too() {
    let backend = Backend::start(|_, _| Act::Close).await;
    let redirect = || Kind::RedirectScheme(RedirectScheme::new("https", "", false).unwrap());
    for (chain, expected) in [
        (vec![buffering(0, 17), redirect()], (500, "Internal Server Error")),
        (vec![buffering(0, 18), redirect()], (307, "Temporary Redirect")),
        (vec![redirect(), buffering(0, 17)], (307, "Temporary Redirect")),
        (vec![buffering(0, 4)], (500, "Internal Server Error")),
        (vec![buffering(0, 11)], (502, "Bad Gateway")),
        // What the middleware itself answers goes to the client as it is.
        (vec![buffering(1, 4)], (413, "Request Entity Too Large")),
        // Whose length is known is refused before what stands inside sees it.
        (
            vec![buffering(1, 0), redirect()],
            (413, "Request Entity Too Large"),
        ),
        (vec![redirect(), buffering(1, 0)], (307, "Temporary Redirect")),
    ] {
        let node = node(&backend, chain);
        let mut client = node.connect().await;
        client
            .send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxx")
            .await;
        let response = client.response().await;
        assert_eq!((response.status, response.text()), expected);
    }
}

/// Who stands inside of the middleware that refuses has nothing to do with what it says.
#[tokio::test]
async fn a_refusal_passes_only_the_middlewares_around() {
    let backend = Backend::start(|_, _| Act::Send(ok(&[b'x'; 100]))).await;
    let say = |name| {
        let options = HeadersOptions {
            response: vec![(name, "1")],
            ..HeadersOptions::default()
        };
        super::headers(&options)
    };
    for (limits, status) in [(buffering(1, 0), 413), (buffering(0, 10), 500)] {
        let node = node(&backend, vec![say("X-Outer"), limits, say("X-Inner")]);
        let mut client = node.connect().await;
        client
            .send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxx")
            .await;
        let response = client.response().await;
        assert_eq!(response.status, status);
        assert_eq!(
            [response.header("x-outer"), response.header("x-inner")],
            [Some("1"), None]
        );
    }
}
