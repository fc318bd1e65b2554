//! Middlewares that change requests and responses, through the whole data plane.

mod attempts;
mod bodies;
mod pages;

use constellation_dataplane::table::Scheme;
use constellation_middleware::{
    AddPrefix, Headers, HeadersOptions, Kind, RedirectScheme, ReplacePathRegex, SecurityOptions, StripPrefix,
};

use super::support::{Act, Backend, Node, Plan, ok, service};

/// A node with one back end behind these middlewares.
fn node(backend: &Backend, chain: Vec<Kind>) -> Node {
    Plan {
        chain,
        ..Plan::to(&[(Scheme::Http, backend.address)])
    }
    .start()
}

fn strip(prefix: &str) -> Kind {
    Kind::StripPrefix(StripPrefix::new(&[prefix.to_owned()], false))
}

fn headers(options: &HeadersOptions<'_>) -> Kind {
    Kind::Headers(Headers::new(options, &mut Vec::new()).unwrap())
}

/// The text of a chunked body.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            assert_eq!(&body[end..], b"\r\n\r\n");
            return out;
        }
        out.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 2 + size + 2..];
    }
}

#[tokio::test]
async fn paths_change_in_the_order_of_the_chain() {
    let backend = Backend::fixed("ok").await;
    let chain = vec![
        strip("/api"),
        Kind::AddPrefix(AddPrefix::new("/v1").unwrap()),
        Kind::ReplacePathRegex(ReplacePathRegex::new("^/v1/(.*)", "/v2/$1").unwrap()),
    ];
    let node = node(&backend, chain);
    let mut client = node.connect().await;
    assert_eq!(client.get("/api/a%20b%2Fc?x=%20").await.status, 200);
    let seen = backend.seen().pop().unwrap();
    assert!(
        seen.head.starts_with("GET /v2/a%20b%2Fc?x=%20 HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    assert_eq!(seen.header("x-forwarded-prefix"), ["/api"]);
    assert_eq!(seen.header("x-replaced-path"), ["/v1/a%20b%2Fc"]);
    // What could be taken for another path never reaches the back end, and the connection goes on.
    let refused = client.get("/api../secret").await;
    assert_eq!((refused.status, refused.text()), (400, "Bad Request\n"));
    assert_eq!(client.get("/api/again").await.status, 200);
    assert_eq!(backend.seen().len(), 2);
}

#[tokio::test]
async fn a_redirect_reaches_no_back_end() {
    let backend = Backend::fixed("ok").await;
    let redirect = RedirectScheme::new("https", "8443", true).unwrap();
    let node = node(&backend, vec![strip("/x"), Kind::RedirectScheme(redirect)]);
    let mut client = node.connect().await;
    for (method, status, text) in [
        ("GET", 301, "Moved Permanently"),
        ("POST", 308, "Permanent Redirect"),
        ("HEAD", 308, ""),
    ] {
        client
            .send(format!("{method} /x/y?z HTTP/1.1\r\nHost: a.test\r\n\r\n"))
            .await;
        let response = match method {
            "HEAD" => client.response_head().await,
            _ => client.response().await,
        };
        assert_eq!((response.status, response.text()), (status, text), "{method}");
        assert_eq!(response.header("location"), Some("https://a.test:8443/y?z"));
        assert_eq!(response.header("content-type"), None);
    }
    assert!(backend.seen().is_empty());
}

#[tokio::test]
async fn headers_of_requests_and_of_all_responses() {
    let backend = Backend::start(|number, _| match number {
        1 => Act::Send(b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\n\r\nhi".to_vec()),
        _ => Act::Close,
    })
    .await;
    let options = HeadersOptions {
        request: vec![("Host", "inner.test"), ("X-A", "1"), ("X-B", "")],
        response: vec![("Server", ""), ("X-R", "r")],
        security: SecurityOptions {
            frame_deny: true,
            ..SecurityOptions::default()
        },
        ..HeadersOptions::default()
    };
    let node = node(&backend, vec![headers(&options)]);
    let mut client = node.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a.test\r\nX-B: gone\r\nX-A: old\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(response.header("server"), None);
    let seen = backend.seen().pop().unwrap();
    assert_eq!(seen.header("host"), ["inner.test"]);
    assert_eq!((seen.header("x-a"), seen.header("x-b").len()), (vec!["1"], 0));
    assert_eq!(seen.header("x-forwarded-host"), ["a.test"]);
    let failed = client.get("/").await;
    assert_eq!(failed.status, 502);
    for response in [response, failed] {
        assert_eq!(response.header("x-r"), Some("r"), "{}", response.head);
        assert_eq!(response.header("x-frame-options"), Some("DENY"));
    }
}

#[tokio::test]
async fn a_client_is_hidden_where_its_address_is_taken_out() {
    let change = |value| {
        let options = HeadersOptions {
            request: vec![("X-Forwarded-For", value), ("Te", "other")],
            ..HeadersOptions::default()
        };
        headers(&options)
    };
    for (chain, expected) in [
        (vec![change("")], vec![]),
        (vec![change("192.0.2.7"), change("")], vec![]),
        (
            vec![change(""), change("192.0.2.7")],
            vec!["192.0.2.7, 127.0.0.1"],
        ),
    ] {
        let backend = Backend::fixed("ok").await;
        let node = node(&backend, chain);
        let mut client = node.connect().await;
        client
            .send("GET / HTTP/1.1\r\nHost: a.test\r\nTe: trailers\r\n\r\n")
            .await;
        assert_eq!(client.response().await.status, 200);
        let seen = backend.seen().pop().unwrap();
        assert_eq!(seen.header("x-forwarded-for"), expected);
        assert_eq!(seen.header("x-real-ip"), ["127.0.0.1"]);
        assert!(seen.header("te").is_empty(), "{}", seen.head);
    }
}

#[tokio::test]
async fn answers_of_inner_middlewares_pass_the_outer_ones() {
    let backend = Backend::start(|_, _| Act::Send(ok(b"ok"))).await;
    let options = HeadersOptions {
        response: vec![("X-R", "r")],
        ..HeadersOptions::default()
    };
    let redirect = || Kind::RedirectScheme(RedirectScheme::new("https", "", false).unwrap());
    for (chain, expected) in [
        (vec![headers(&options), redirect()], Some("r")),
        (vec![redirect(), headers(&options)], None),
    ] {
        let node = node(&backend, chain);
        let response = node.connect().await.get("/").await;
        assert_eq!((response.status, response.header("x-r")), (302, expected));
    }
}

/// No endpoint at all.
#[tokio::test]
async fn a_service_that_is_down_gets_the_headers_too() {
    let options = HeadersOptions {
        response: vec![("X-R", "r")],
        ..HeadersOptions::default()
    };
    let node = Plan {
        routes: vec![("PathPrefix(`/`)", service("app", &[]))],
        chain: vec![headers(&options)],
        ..Plan::default()
    }
    .start();
    let response = node.connect().await.get("/").await;
    assert_eq!((response.status, response.header("x-r")), (503, Some("r")));
}
