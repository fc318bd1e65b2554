//! Requests that must be refused: the status, the end of the connection, and nothing at the back end.

use constellation_dataplane::settings::Limits;
use constellation_dataplane::table::Scheme;

use super::support::{Backend, Node, Plan, soon};

/// Status and request, one per line of attack. `%` in front of a request marks its place in messages.
fn cases() -> Vec<(u16, &'static str, Vec<u8>)> {
    let long = |count: usize| "a".repeat(count);
    let get = |rest: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{rest}\r\n").into_bytes();
    let post = |rest: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}").into_bytes();
    let chunked = |body: &str| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes()
    };
    let line = |line: &str| format!("{line}\r\nHost: a\r\n\r\n").into_bytes();
    vec![
        // Lines.
        (
            400,
            "bare LF after the request line",
            b"GET / HTTP/1.1\nHost: a\r\n\r\n".to_vec(),
        ),
        (
            400,
            "bare LF after a header",
            b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n".to_vec(),
        ),
        (
            400,
            "bare LF at the end of the head",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n".to_vec(),
        ),
        (400, "only bare LFs", b"GET / HTTP/1.1\nHost: a\n\n".to_vec()),
        (
            400,
            "bare CR in the request line",
            b"GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        ),
        (400, "bare CR in a value", get("X: a\rb\r\n")),
        (400, "CR CR LF", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n".to_vec()),
        (
            400,
            "NUL in the target",
            b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        ),
        (400, "NUL in a name", get("X\0: y\r\n")),
        (400, "NUL in a value", get("X: \0\r\n")),
        (400, "vertical tab in a value", get("X: \x0b\r\n")),
        (400, "DEL in a value", get("X: \x7f\r\n")),
        (
            400,
            "three empty lines first",
            b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        ),
        (400, "folded header", get("X: a\r\n b\r\n")),
        (400, "folded with a tab", get("X: a\r\n\tb\r\n")),
        (
            400,
            "first header folded",
            b"GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_vec(),
        ),
        // Request line.
        (400, "HTTP/0.9", b"GET /\r\n\r\n".to_vec()),
        (400, "no target", line("GET HTTP/1.1")),
        (400, "two spaces before the target", line("GET  / HTTP/1.1")),
        (400, "two spaces before the version", line("GET /  HTTP/1.1")),
        (400, "space at the end", line("GET / HTTP/1.1 ")),
        (400, "space in front", line(" GET / HTTP/1.1")),
        (400, "space in the target", line("GET /a b HTTP/1.1")),
        (400, "tab for a space", line("GET\t/ HTTP/1.1")),
        (400, "method with a colon", line("GE:T / HTTP/1.1")),
        (400, "method with a brace", line("GET{ / HTTP/1.1")),
        (400, "lower-case version", line("GET / http/1.1")),
        (400, "version with a letter more", line("GET / HTTP/1.1x")),
        (400, "version without a minor", line("GET / HTTP/1")),
        (400, "version with two digits", line("GET / HTTP/1.10")),
        (400, "another protocol", line("GET / FTP/1.1")),
        (505, "version 2.0", line("GET / HTTP/2.0")),
        (505, "version 1.2", line("GET / HTTP/1.2")),
        (505, "version 0.9 spelled out", line("GET / HTTP/0.9")),
        (505, "version 9.9", line("GET / HTTP/9.9")),
        (
            501,
            "method without end",
            line(&format!("{} / HTTP/1.1", long(33))),
        ),
        (
            405,
            "CONNECT",
            b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_vec(),
        ),
        (405, "CONNECT with a path", line("CONNECT / HTTP/1.1")),
        (400, "relative target", line("GET a/b HTTP/1.1")),
        (400, "asterisk with GET", line("GET * HTTP/1.1")),
        (400, "asterisk and more", line("OPTIONS *a HTTP/1.1")),
        (400, "asterisk without OPTIONS", line("GET * HTTP/1.1")),
        (400, "query only", line("GET ?a HTTP/1.1")),
        (400, "angle bracket in the path", line("GET /<x HTTP/1.1")),
        (400, "angle bracket in the query", line("GET /?a>b HTTP/1.1")),
        (400, "quote in the query", line("GET /?\"a HTTP/1.1")),
        (400, "fragment", line("GET /#a HTTP/1.1")),
        (400, "fragment in the query", line("GET /?a#b HTTP/1.1")),
        (400, "fragment only", line("GET # HTTP/1.1")),
        (
            400,
            "UTF-8 in the target",
            "GET /ä HTTP/1.1\r\nHost: a\r\n\r\n".as_bytes().to_vec(),
        ),
        (
            400,
            "bytes that are no text",
            b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        ),
        (400, "bad percent", line("GET /%zz HTTP/1.1")),
        (400, "percent at the end", line("GET /% HTTP/1.1")),
        (400, "another scheme", line("GET ftp://a/ HTTP/1.1")),
        (400, "scheme without authority", line("GET http:/a HTTP/1.1")),
        (400, "empty authority", line("GET http:/// HTTP/1.1")),
        (400, "user information", line("GET http://u@a/ HTTP/1.1")),
        (
            400,
            "escape in a host",
            b"GET http://a%2D/ HTTP/1.1\r\nHost: a%2D\r\n\r\n".to_vec(),
        ),
        (
            400,
            "absolute target for another host",
            line("GET http://b/ HTTP/1.1"),
        ),
        (
            400,
            "absolute target for another port",
            line("GET http://a:81/ HTTP/1.1"),
        ),
        (
            414,
            "target without end",
            line(&format!("GET /{} HTTP/1.1", long(70_000))),
        ),
        // Header lines.
        (400, "space before the colon", get("X : y\r\n")),
        (400, "tab before the colon", get("X\t: y\r\n")),
        (400, "space in a name", get("X Y: z\r\n")),
        (400, "no colon", get("X\r\n")),
        (400, "empty name", get(": y\r\n")),
        (400, "UTF-8 in a name", get("Xä: y\r\n")),
        (400, "parenthesis in a name", get("X(: y\r\n")),
        (400, "slash in a name", get("X/Y: y\r\n")),
        (
            431,
            "a header without end",
            get(&format!("X: {}\r\n", long(70_000))),
        ),
        (431, "many headers", get(&"X: y\r\n".repeat(101))),
        // Host.
        (400, "no Host", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        (
            400,
            "no Host but an absolute target",
            b"GET http://a/ HTTP/1.1\r\n\r\n".to_vec(),
        ),
        (400, "two Hosts", get("Host: b\r\n")),
        (400, "the same Host twice", get("Host: a\r\n")),
        (400, "two Hosts in other spelling", get("hOsT: b\r\n")),
        (400, "empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n".to_vec()),
        (400, "blank Host", b"GET / HTTP/1.1\r\nHost: \t \r\n\r\n".to_vec()),
        (
            400,
            "Host with a path",
            b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_vec(),
        ),
        (
            400,
            "Host with user information",
            b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".to_vec(),
        ),
        (
            400,
            "Host with a space",
            b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_vec(),
        ),
        (
            400,
            "list of Hosts",
            b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".to_vec(),
        ),
        (
            400,
            "Host with a bad port",
            b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n".to_vec(),
        ),
        (
            400,
            "Host with a large port",
            b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n".to_vec(),
        ),
        (
            400,
            "UTF-8 in Host",
            "GET / HTTP/1.1\r\nHost: ä\r\n\r\n".as_bytes().to_vec(),
        ),
        // Lengths.
        (
            400,
            "CL and TE",
            post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            400,
            "TE and CL",
            post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        ),
        (
            400,
            "two CL",
            post("Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ),
        (
            400,
            "the same CL twice",
            post("Content-Length: 1\r\nContent-Length: 1\r\n\r\na"),
        ),
        (400, "list of CL", post("Content-Length: 1, 1\r\n\r\na")),
        (400, "negative CL", post("Content-Length: -1\r\n\r\n")),
        (400, "CL with a plus", post("Content-Length: +5\r\n\r\nabcde")),
        (400, "CL in hexadecimal", post("Content-Length: 0x5\r\n\r\nabcde")),
        (
            400,
            "CL with a space inside",
            post("Content-Length: 1 0\r\n\r\nabcdefghij"),
        ),
        (400, "CL with a fraction", post("Content-Length: 1.0\r\n\r\na")),
        (400, "empty CL", post("Content-Length:\r\n\r\n")),
        (
            400,
            "CL beyond 64 bits",
            post("Content-Length: 18446744073709551616\r\n\r\n"),
        ),
        (
            400,
            "CL that wraps",
            post("Content-Length: 99999999999999999999999\r\n\r\n"),
        ),
        (413, "a body too large", post("Content-Length: 1000001\r\n\r\n")),
        // Transfer codings.
        (
            400,
            "unknown coding",
            post("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ),
        (400, "identity", post("Transfer-Encoding: identity\r\n\r\n")),
        (400, "gzip alone", post("Transfer-Encoding: gzip\r\n\r\n")),
        (
            501,
            "gzip before chunked",
            post("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            400,
            "chunked before gzip",
            post("Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        ),
        (
            400,
            "chunked twice",
            post("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            400,
            "two TE lines",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            400,
            "TE and TE identity",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
        ),
        (400, "empty TE", post("Transfer-Encoding:\r\n\r\n")),
        (
            400,
            "quoted chunked",
            post("Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
        ),
        (
            400,
            "chunked with a parameter",
            post("Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n"),
        ),
        (
            400,
            "vertical tab before chunked",
            post("Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            400,
            "space before the colon of TE",
            post("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            400,
            "TE in HTTP/1.0",
            b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
        ),
        // Chunks.
        (400, "no size", chunked("\r\nabc\r\n0\r\n\r\n")),
        (400, "size that is no number", chunked("g\r\n")),
        (400, "size with a prefix", chunked("0x3\r\nabc\r\n0\r\n\r\n")),
        (400, "size with a sign", chunked("+3\r\nabc\r\n0\r\n\r\n")),
        (400, "negative size", chunked("-3\r\nabc\r\n0\r\n\r\n")),
        (400, "space before the size", chunked(" 3\r\nabc\r\n0\r\n\r\n")),
        (400, "space after the size", chunked("3 \r\nabc\r\n0\r\n\r\n")),
        (400, "size beyond 64 bits", chunked("fffffffffffffffff\r\nabc")),
        (
            400,
            "size that wraps to three",
            chunked("10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ),
        (400, "bare LF after the size", chunked("3\nabc\r\n0\r\n\r\n")),
        (400, "bare CR after the size", chunked("3\rabc\r\n0\r\n\r\n")),
        (
            400,
            "chunk longer than its size",
            chunked("3\r\nabcd\r\n0\r\n\r\n"),
        ),
        (400, "chunk ended by LF", chunked("3\r\nabc\n0\r\n\r\n")),
        (
            400,
            "extension without end",
            chunked(&format!("3;{}\r\nabc\r\n0\r\n\r\n", long(300))),
        ),
        (
            400,
            "bare LF in an extension",
            chunked("3;a\nb\r\nabc\r\n0\r\n\r\n"),
        ),
        (400, "bare LF after the last chunk", chunked("0\n\r\n")),
        (400, "trailer without a colon", chunked("0\r\nX\r\n\r\n")),
        (
            400,
            "trailer with a space before the colon",
            chunked("0\r\nX : y\r\n\r\n"),
        ),
        (
            400,
            "trailer that frames",
            chunked("0\r\nContent-Length: 5\r\n\r\n"),
        ),
        (413, "chunks too large", chunked("f4241\r\n")),
        // The rest.
        (417, "unknown expectation", get("Expect: 200-ok\r\n")),
        (
            400,
            "many connection options",
            get(&format!("Connection: {}\r\n", vec!["a"; 40].join(", "))),
        ),
        (
            400,
            "connection option that is no token",
            get("Connection: a b\r\n"),
        ),
    ]
}

async fn node(backend: &Backend) -> Node {
    let mut plan = Plan::to(&[(Scheme::Http, backend.address)]);
    plan.limits = Limits {
        max_body_bytes: Some(1_000_000),
        ..Limits::default()
    };
    plan.start()
}

#[tokio::test]
async fn each_is_refused_and_leaves_no_trace() {
    let backend = Backend::fixed("reached").await;
    let node = node(&backend).await;
    let cases = cases();
    assert!(cases.len() >= 80);
    let mut wrong = Vec::new();
    for (status, name, request) in &cases {
        let mut client = node.connect().await;
        client.send(request).await;
        let answer = String::from_utf8_lossy(&client.rest().await).into_owned();
        // What our own words end, no library words begin.
        let own = !answer.to_ascii_lowercase().contains("\r\nserver:");
        let refused = own
            && answer.starts_with(&format!("HTTP/1.1 {status} "))
            && answer.to_ascii_lowercase().contains("connection: close\r\n")
            && answer.matches("HTTP/1.1").count() == 1;
        if !refused {
            wrong.push(format!(
                "{name}: wanted {status}, got {:?}",
                answer.lines().next()
            ));
        }
        if backend.bytes() > 0 {
            wrong.push(format!("{name}: reached the back end"));
            break;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(node.plane.drain().await, 0);
}

/// The same requests, byte by byte: a body that turns out bad may have begun to flow, but never ends well.
#[tokio::test]
async fn cutting_the_bytes_changes_no_verdict() {
    let backend = Backend::fixed("reached").await;
    let node = node(&backend).await;
    let mut wrong = Vec::new();
    for (status, name, request) in cases().iter().filter(|(_, _, request)| request.len() < 400) {
        let mut client = node.connect().await;
        client.0.set_nodelay(true).unwrap();
        for byte in request {
            use tokio::io::AsyncWriteExt;
            if client.0.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let answer = String::from_utf8_lossy(&client.rest().await).into_owned();
        if !answer.starts_with(&format!("HTTP/1.1 {status} ")) {
            wrong.push(format!(
                "{name}: wanted {status}, got {:?}",
                answer.lines().next()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(
        backend.seen().is_empty(),
        "a complete request reached the back end: {:?}",
        backend.seen()
    );
}

/// What is unusual and allowed goes through.
#[tokio::test]
async fn the_unusual_is_not_refused() {
    let backend = Backend::fixed("reached").await;
    let node = node(&backend).await;
    let allowed: [&[u8]; 12] = [
        b"GET / HTTP/1.1\r\nhost:a\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        b"GET /?a=%20&b={x} HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROPFIND / HTTP/1.1\r\nHost: a:8080\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \t\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: caf\xc3\xa9\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabc",
        b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for request in allowed {
        let mut client = node.connect().await;
        client.send(request).await;
        let response = client.response().await;
        assert_eq!(response.status, 200, "{:?}", String::from_utf8_lossy(request));
    }
}

/// Bytes after a complete request are the next request, judged on its own.
#[tokio::test]
async fn garbage_after_a_request_is_refused_as_the_next_one() {
    let backend = Backend::fixed("reached").await;
    let node = node(&backend).await;
    let mut client = node.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(client.response().await.status, 400);
    assert!(client.rest().await.is_empty());
    assert_eq!(backend.seen().len(), 1);
}

#[tokio::test]
async fn a_head_that_never_ends_is_timed_out() {
    let backend = Backend::fixed("reached").await;
    let mut plan = Plan::to(&[(Scheme::Http, backend.address)]);
    plan.limits.header_timeout = std::time::Duration::from_millis(300);
    let node = plan.start();
    for start in ["G", "P", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: "] {
        let mut client = node.connect().await;
        client.send(start).await;
        assert_eq!(client.response().await.status, 408, "{start:?}");
        assert!(client.rest().await.is_empty());
    }
    let mut silent = node.connect().await;
    assert!(silent.rest().await.is_empty(), "who says nothing gets no answer");
    assert_eq!(backend.bytes(), 0);
}

/// Everybody else is served while somebody sends slowly.
#[tokio::test]
async fn a_slow_head_holds_up_nobody() {
    let backend = Backend::fixed("reached").await;
    let node = node(&backend).await;
    let mut slow = node.connect().await;
    slow.send("GET / HTTP/1.1\r\nHost: a\r\nX: ").await;
    assert_eq!(
        soon("another request", async { node.connect().await.get("/").await })
            .await
            .status,
        200
    );
    slow.send("y\r\n\r\n").await;
    assert_eq!(slow.response().await.status, 200);
}

/// The limit is the last length that passes, to the byte.
#[tokio::test]
async fn a_head_of_the_longest_length_passes() {
    let backend = Backend::fixed("reached").await;
    let node = node(&backend).await;
    let limit = Limits::default().max_header_bytes;
    for (length, status) in [(limit, 200), (limit + 1, 431), (limit + 2, 431), (limit + 3, 431)] {
        let frame = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        let value = "a".repeat(length - frame);
        let mut client = node.connect().await;
        client
            .send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {value}\r\n\r\n"))
            .await;
        assert_eq!(client.response().await.status, status, "{length}");
    }
}
