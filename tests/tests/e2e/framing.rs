//! What two parsers could read differently is refused with the right status and a closed connection, and none of it
//! reaches a back end.

use std::time::Duration;

use constellation_tests::backend::Backend;
use constellation_tests::client::Client;
use constellation_tests::client::http::{full, request};
use constellation_tests::client::wire::{Wire, exchange};
use constellation_tests::node::{Node, route};
use http::Method;
use serde_json::json;

struct Hostile {
    line: usize,
    name: String,
    status: Option<u16>,
    in_body: bool,
    bytes: Vec<u8>,
}

fn table() -> Vec<Hostile> {
    let lines = include_str!("framing/hostile.txt").lines().enumerate();
    lines
        .filter(|(_, line)| !line.starts_with('#') && !line.trim().is_empty())
        .map(|(number, line)| {
            let mut columns = line.splitn(3, '|');
            let (status, name) = (columns.next().unwrap().trim(), columns.next().unwrap().trim());
            let bytes = columns.next().unwrap();
            let (in_body, status) = match status.strip_prefix("body ") {
                Some(status) => (true, status),
                None => (false, status),
            };
            Hostile {
                line: number + 1,
                name: name.to_owned(),
                status: (status != "-").then(|| status.parse().unwrap()),
                in_body,
                bytes: unescape(bytes.strip_prefix(' ').unwrap()),
            }
        })
        .collect()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '\\' => {
                let (kind, after) = rest.split_at(1);
                rest = after;
                bytes.push(match kind {
                    "r" => b'\r',
                    "n" => b'\n',
                    "t" => b'\t',
                    "0" => 0,
                    "\\" => b'\\',
                    "x" => {
                        let (digits, after) = rest.split_at(2);
                        rest = after;
                        u8::from_str_radix(digits, 16).unwrap()
                    }
                    other => panic!("unknown escape \\{other}"),
                });
            }
            '{' => {
                let (inside, after) = rest.split_once('}').unwrap();
                let (repeated, times) = inside.rsplit_once('*').unwrap();
                bytes.extend(unescape(repeated).repeat(times.parse().unwrap()));
                rest = after;
            }
            other => bytes.extend(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_are_refused_and_reach_nobody() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let table = table();
    assert!(table.len() >= 60, "{} cases", table.len());
    let mut wrong = Vec::new();
    for case in table {
        backend.record().clear();
        let answer = exchange(node.web(), &case.bytes).await;
        let raw = backend.record().raw().concat();
        let complaint = if answer.status() != case.status {
            format!(
                "expected {:?}, got {:?}",
                case.status,
                answer.text().chars().take(300).collect::<String>()
            )
        } else if !answer.closed {
            "the connection stays open".to_owned()
        } else if case.status.is_some() && answer.answers() != 1 {
            format!("more than one answer: {}", answer.text())
        } else if !case.in_body && !raw.is_empty() {
            format!("the back end got {:?}", String::from_utf8_lossy(&raw))
        } else if case.in_body && (raw.ends_with(b"0\r\n\r\n") || contains(&raw, b"smuggled")) {
            format!(
                "the back end got a whole request: {:?}",
                String::from_utf8_lossy(&raw)
            )
        } else {
            continue;
        };
        wrong.push(format!("hostile.txt:{}: {}: {complaint}", case.line, case.name));
    }
    assert!(
        wrong.is_empty(),
        "{} of the refusals are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // And it serves on.
    assert_eq!(node.get("app.test", "/").await.status, 200);
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_after_a_good_one_are_refused_as_well() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let mut wrong = Vec::new();
    for case in table().into_iter().filter(|case| case.status.is_some()) {
        let mut wire = Wire::connect(node.web()).await;
        wire.send("GET /bytes/3 HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        assert_eq!(wire.read_answer().await.1, [0, 1, 2]);
        backend.record().clear();
        wire.send(&case.bytes).await;
        let answer = wire.read_to_close(Duration::from_secs(5)).await;
        let raw = backend.record().raw().concat();
        let reached = if case.in_body {
            contains(&raw, b"smuggled")
        } else {
            !raw.is_empty()
        };
        if answer.status() != case.status || !answer.closed || reached {
            wrong.push(format!(
                "hostile.txt:{}: {}: {:?}, closed {}, reached {reached}",
                case.line,
                case.name,
                answer.text().chars().take(200).collect::<String>(),
                answer.closed
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of the refusals are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_never_ends_is_given_up_with_408() {
    let backend = Backend::start("app").await;
    let node = Node::builder()
        .config(json!({ "entryPoints": { "web": { "limits": { "headerTimeout": "300ms" } } } }))
        .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
        .start()
        .await;
    let mut wire = Wire::connect(node.web()).await;
    wire.send("GET / HTTP/1.1\r\nHost: app.test\r\nX-Slow: ").await;
    let answer = wire.read_to_close(constellation_tests::PATIENCE).await;
    assert_eq!(
        (answer.status(), answer.closed),
        (Some(408), true),
        "{}",
        answer.text()
    );
    assert!(backend.record().raw().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_refused_with_413() {
    let backend = Backend::start("app").await;
    let node = Node::builder()
        .config(json!({ "entryPoints": { "web": { "limits": { "maxBodyBytes": 1000 } } } }))
        .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
        .start()
        .await;
    // Announced: nothing reaches the back end.
    let announced = "POST /upload HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1001\r\n\r\n";
    let answer = exchange(node.web(), announced).await;
    assert_eq!(
        (answer.status(), answer.closed),
        (Some(413), true),
        "{}",
        answer.text()
    );
    assert!(backend.record().raw().is_empty());
    // Found out on the way.
    let chunk = format!("200\r\n{}\r\n", "x".repeat(0x200));
    let chunked = format!(
        "POST /upload HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"
    );
    let answer = exchange(node.web(), chunked).await;
    assert_eq!(
        (answer.status(), answer.closed),
        (Some(413), true),
        "{}",
        answer.text()
    );
    // HTTP/2 as well, and a body of the very limit passes.
    let mut client = Client::h2c(node.web()).await.unwrap();
    for (length, status) in [(1001, 413), (1000, 200)] {
        let mut post = request(Method::POST, "app.test", "/upload");
        *post.body_mut() = full(vec![b'x'; length]);
        assert_eq!(client.send(post).await.unwrap().status, status, "{length} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn good_requests_at_the_edge_of_the_grammar_are_served() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    for (name, bytes) in [
        (
            "white space around a value",
            "GET /upload HTTP/1.1\r\nHost: \t app.test \t\r\nConnection: close\r\n\r\n",
        ),
        (
            "empty lines before the request",
            "\r\n\r\nGET /upload HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n",
        ),
        (
            "odd case",
            "GET /upload HTTP/1.1\r\nhOsT: APP.test\r\ncOnNeCtIoN: ClOsE\r\n\r\n",
        ),
        (
            "port in Host",
            "GET /upload HTTP/1.1\r\nHost: app.test:8080\r\nConnection: close\r\n\r\n",
        ),
        (
            "chunks with extension and trailer",
            "POST /upload HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: Chunked\r\nConnection: close\r\n\r\n\
             1;a=b;c=\"d\"\r\nx\r\n0000\r\nX-Sum: 1\r\n\r\n",
        ),
        (
            "many headers",
            &format!(
                "GET /upload HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n{}\r\n",
                "X-A: b\r\n".repeat(90)
            ),
        ),
    ] {
        let answer = exchange(node.web(), bytes).await;
        assert_eq!(
            (answer.status(), answer.closed),
            (Some(200), true),
            "{name}: {}",
            answer.text()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_http2_carries_is_framed_once_in_http1() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let mut h2 = Client::h2c(node.web()).await.unwrap();
    for frames in 0..4 {
        backend.record().clear();
        let data = (0..frames).map(|_| Ok(hyper::body::Frame::data(bytes::Bytes::from("data"))));
        let mut put = request(Method::PUT, "app.test", "/upload");
        // Without a length; the last frame, which ends the stream, is empty.
        *put.body_mut() = http_body_util::BodyExt::boxed(http_body_util::StreamBody::new(
            futures_util::stream::iter(data.collect::<Vec<_>>()),
        ));
        assert_eq!(
            h2.send(put).await.unwrap().text(),
            format!("{} {}", frames * 4, frames * 410)
        );
        let raw = String::from_utf8(backend.record().raw().concat()).unwrap();
        let (head, body) = raw.split_once("\r\n\r\n").unwrap();
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            let end = body.find("0\r\n\r\n").unwrap();
            assert_eq!(&body[end..], "0\r\n\r\n", "{frames} frames: {raw:?}");
        } else {
            assert_eq!((frames, body), (0, ""), "{raw:?}");
        }
    }
    // And the other way round.
    let grpc = Backend::start("grpc").await;
    let node = Node::routing("app.test", &[grpc.url_as("h2c")]).await;
    for path in ["/chunks/3", "/chunks/0", "/bytes/3", "/status/200", "/trailers"] {
        let get = format!("GET {path} HTTP/1.1\r\nHost: app.test\r\n\r\n");
        let last = "GET /last HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n";
        let mut wire = Wire::connect(node.web()).await;
        wire.send(&get).await;
        let head = wire.read_until("\r\n\r\n").await;
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            wire.read_until("0\r\n\r\n").await;
        } else if path == "/bytes/3" {
            wire.read_until("\u{2}").await;
        }
        wire.send(last).await;
        let rest = wire.read_to_close(Duration::from_secs(5)).await;
        assert!(
            rest.text().starts_with("HTTP/1.1 200"),
            "{path}: {head:?} then {:?}",
            rest.text()
        );
    }
}
