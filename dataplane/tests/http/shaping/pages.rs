//! Pages of another service in the place of errors.

use constellation_dataplane::table::{Scheme, Service};
use constellation_middleware::{Errors, ErrorsOptions, Headers, HeadersOptions, Kind};
use std::net::SocketAddr;
use std::sync::Arc;

use super::super::support::{Act, Backend, Node, Plan, service};
use super::node;

const BROKEN: &str = "HTTP/1.1 500 X\r\nX-Orig: 1\r\nContent-Length: 8\r\n\r\noriginal";

/// Pages of a service with these endpoints.
fn errors(statuses: &[&str], query: &str, names: &[&str], endpoints: &[SocketAddr]) -> Kind {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let endpoints: Vec<_> = endpoints.iter().map(|address| (Scheme::Http, *address)).collect();
    let pages: Service = service("pages", &endpoints);
    let options = ErrorsOptions {
        statuses: &texts(statuses),
        rewrites: vec![("418", 404)],
        query,
        headers: &texts(names),
        service: Arc::new(pages).into(),
    };
    Kind::Errors(Errors::new(options).unwrap())
}

async fn pages() -> Backend {
    Backend::start(|_, seen| {
        let body = format!("PAGE {}", seen.head.lines().next().unwrap());
        let page = format!(
            "HTTP/1.1 404 Not Found\r\nX-Page: 1\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Act::Send(page.into_bytes())
    })
    .await
}

#[tokio::test]
async fn a_page_takes_the_place_of_an_error() {
    let backend = Backend::start(|_, _| Act::Send(BROKEN.into())).await;
    let pages = pages().await;
    let query = "/{status}.html?u={url}";
    let node = node(&backend, vec![errors(&["500-599"], query, &[], &[pages.address])]);
    let mut client = node.connect().await;
    client
        .send("POST /a?b HTTP/1.1\r\nHost: a.test\r\nX-A: 1\r\nContent-Length: 3\r\n\r\nabc")
        .await;
    let response = client.response().await;
    assert_eq!(response.status, 500);
    assert_eq!(
        response.text(),
        "PAGE GET /500.html?u=http%3A%2F%2Fa.test%2Fa%3Fb HTTP/1.1"
    );
    assert_eq!(
        (response.header("x-page"), response.header("x-orig")),
        (Some("1"), None)
    );
    assert!(
        response
            .head
            .starts_with("HTTP/1.1 500 Internal Server Error\r\n"),
        "{}",
        response.head
    );
    let seen = pages.seen().pop().unwrap();
    assert_eq!(
        (seen.header("host"), seen.header("x-a")),
        (vec!["a.test"], vec!["1"])
    );
    assert!(seen.header("content-length").is_empty());
    // The connections of the client and to both back ends are used again.
    client.send("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    let head = client.response_head().await;
    assert_eq!((head.status, head.header("x-page")), (500, Some("1")));
    assert_eq!(client.get("/").await.header("x-page"), Some("1"));
    assert_eq!(pages.connections(), 1);
    assert_eq!(pages.seen().len(), 3);
}

/// A status that has no body has none, whatever page there is for it.
#[tokio::test]
async fn a_status_without_a_body_stays_without() {
    for status in [204, 304] {
        let backend =
            Backend::start(move |_, _| Act::Send(format!("HTTP/1.1 {status} X\r\n\r\n").into_bytes())).await;
        let pages = pages().await;
        let node = node(&backend, vec![errors(&["200-399"], "/", &[], &[pages.address])]);
        let mut client = node.connect().await;
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await;
        let head = client.response_head().await;
        assert_eq!((head.status, head.header("x-page")), (status, Some("1")));
        assert_eq!(client.rest().await, b"", "{status}");
    }
}

#[tokio::test]
async fn only_what_is_listed_is_replaced_and_sent() {
    let backend = Backend::start(|number, _| {
        let status = [200, 404, 418][number - 1];
        Act::Send(format!("HTTP/1.1 {status} X\r\nContent-Length: 1\r\n\r\nx").into_bytes())
    })
    .await;
    let pages = pages().await;
    let chain = vec![errors(
        &["418", "500"],
        "/{status}/{originalStatus}",
        &["X-A"],
        &[pages.address],
    )];
    let node = node(&backend, chain);
    let mut client = node.connect().await;
    for status in [200, 404] {
        let response = client.get("/").await;
        assert_eq!((response.status, response.text()), (status, "x"));
    }
    client
        .send("GET / HTTP/1.1\r\nHost: a.test\r\nX-A: 1\r\nCookie: c=1\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(
        (response.status, response.text()),
        (404, "PAGE GET /404/418 HTTP/1.1")
    );
    let seen = pages.seen().pop().unwrap();
    assert_eq!(seen.header("x-a"), ["1"]);
    for hidden in ["cookie", "x-forwarded-for", "x-forwarded-host"] {
        assert!(seen.header(hidden).is_empty(), "{hidden}");
    }
}

#[tokio::test]
async fn errors_of_our_own_are_replaced_too() {
    let pages = pages().await;
    let chain = |outer: bool| {
        let options = HeadersOptions {
            response: vec![("X-R", "r")],
            ..HeadersOptions::default()
        };
        let headers = Kind::Headers(Headers::new(&options, &mut Vec::new()).unwrap());
        let errors = errors(&["500-599"], "/{status}", &[], &[pages.address]);
        if outer {
            vec![headers, errors]
        } else {
            vec![errors, headers]
        }
    };
    let start = |endpoints: &[(Scheme, SocketAddr)], outer| -> Node {
        Plan {
            routes: vec![("PathPrefix(`/`)", service("app", endpoints))],
            chain: chain(outer),
            ..Plan::default()
        }
        .start()
    };
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    for (endpoints, outer, status) in [
        (&[][..], true, 503),
        (&[(Scheme::Http, nobody)], true, 502),
        (&[(Scheme::Http, nobody)], false, 502),
    ] {
        let node = start(endpoints, outer);
        let response = node.connect().await.get("/").await;
        assert_eq!(
            (response.status, response.text()),
            (status, &*format!("PAGE GET /{status} HTTP/1.1"))
        );
        // What stands before errors sees the page, what stands behind saw only the error.
        assert_eq!(response.header("x-r").is_some(), outer);
    }
}

#[tokio::test]
async fn without_a_page_the_status_stays() {
    let backend = Backend::start(|_, _| Act::Send(BROKEN.into())).await;
    let long = Backend::start(|_, _| {
        Act::SendAndClose(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n"
                .iter()
                .copied()
                .chain(vec![b'x'; 5_000_000])
                .collect(),
        )
    })
    .await;
    let broken = Backend::start(|_, _| Act::Close).await;
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    for (endpoints, text) in [
        (&[nobody][..], "Bad Gateway"),
        (&[broken.address], "Bad Gateway"),
        (&[long.address], "Bad Gateway"),
        (&[], "no available server\n"),
    ] {
        let node = node(&backend, vec![errors(&["500"], "/", &[], endpoints)]);
        let response = node.connect().await.get("/").await;
        assert_eq!((response.status, response.text()), (500, text), "{endpoints:?}");
    }
    // Another endpoint is asked when the first fails.
    let pages = pages().await;
    let endpoints = [nobody, broken.address, pages.address];
    let node = node(&backend, vec![errors(&["500"], "/", &[], &endpoints)]);
    let mut client = node.connect().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.header("x-page"), Some("1"));
    }
}
