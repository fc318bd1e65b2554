//! What is told to the back end about the client, and what is not passed on.

use constellation_tests::backend::{Backend, Echo};
use constellation_tests::client::Client;
use constellation_tests::client::http::request;
use constellation_tests::client::wire::exchange;
use constellation_tests::node::{Node, NodeBuilder, route};
use http::Method;
use serde_json::{Value, json};

async fn echoed(node: &Node, headers: &str) -> Echo {
    let request = format!("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n{headers}\r\n");
    let answer = exchange(node.web(), request).await;
    assert_eq!(answer.status(), Some(200), "{}", answer.text());
    let start = answer.text().find('{').unwrap();
    let end = answer.text().rfind('}').unwrap();
    Echo::parse(&answer.text().as_bytes()[start..=end])
}

async fn node(backend: &Backend, entry_point: Value) -> Node {
    let builder: NodeBuilder = Node::builder().config(json!({ "entryPoints": { "web": entry_point } }));
    builder
        .dynamic("routes.json", &route("app.test", &[backend.url()]).to_string())
        .start()
        .await
}

/// What Traefik puts into `X-Forwarded-Server`.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap()
        .trim()
        .to_owned()
}

const FORGED: &str = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\n\
    X-Forwarded-Port: 443\r\nX-Forwarded-Server: evil\r\nX-Real-Ip: 203.0.113.9\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_back_end_learns_who_asked_for_what() {
    let backend = Backend::start("app").await;
    let node = node(&backend, json!({})).await;
    let port = node.web().port().to_string();
    let request = format!("GET / HTTP/1.1\r\nHost: app.test:{port}\r\nConnection: close\r\n\r\n");
    assert_eq!(exchange(node.web(), request).await.status(), Some(200));
    let headers = backend.record().last().headers;
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", &*format!("app.test:{port}")),
        ("x-forwarded-port", &port),
        ("x-forwarded-server", &host_name()),
    ] {
        assert_eq!(
            headers.get(name).map(|value| value.to_str().unwrap()),
            Some(value),
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_not_believed() {
    let backend = Backend::start("app").await;
    let node = node(&backend, json!({})).await;
    let echo = echoed(&node, FORGED).await;
    assert_eq!(echo.header("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(echo.header("x-real-ip"), ["127.0.0.1"]);
    assert_eq!(echo.header("x-forwarded-proto"), ["http"]);
    assert_eq!(echo.header("x-forwarded-host"), ["app.test"]);
    assert_eq!(echo.header("x-forwarded-server"), [host_name()]);
    // What names can be spelt like them does not get through either.
    let echo = echoed(
        &node,
        "X_Forwarded_For: 203.0.113.9\r\nx-FORWARDED-for: 203.0.113.9\r\n",
    )
    .await;
    assert_eq!(echo.header("x-forwarded-for"), ["127.0.0.1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_is_believed_and_appended_to() {
    let backend = Backend::start("app").await;
    for (name, forwarded) in [
        (
            "trustedIPs",
            json!({ "trustedIPs": ["10.0.0.0/8", "127.0.0.0/8"] }),
        ),
        ("insecure", json!({ "insecure": true })),
    ] {
        let node = node(&backend, json!({ "forwardedHeaders": forwarded })).await;
        let echo = echoed(&node, FORGED).await;
        assert_eq!(
            echo.header("x-forwarded-for").join(", "),
            "203.0.113.9, 127.0.0.1",
            "{name}"
        );
        assert_eq!(echo.header("x-real-ip"), ["203.0.113.9"], "{name}");
        assert_eq!(echo.header("x-forwarded-proto"), ["https"], "{name}");
        assert_eq!(echo.header("x-forwarded-host"), ["evil.test"], "{name}");
    }
    let node = node(
        &backend,
        json!({ "forwardedHeaders": { "trustedIPs": ["192.0.2.0/24"] } }),
    )
    .await;
    assert_eq!(
        echoed(&node, FORGED).await.header("x-forwarded-for"),
        ["127.0.0.1"],
        "another network"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_goes_along_unless_the_service_says_otherwise() {
    let backend = Backend::start("app").await;
    let node = node(&backend, json!({})).await;
    assert_eq!(echoed(&node, "").await.authority(), "app.test");
    let before = node.generation().await;
    let mut document = route("app.test", &[backend.url()]);
    document["http"]["services"]["main"]["loadBalancer"]["passHostHeader"] = json!(false);
    node.write_dynamic("routes.json", &document.to_string());
    node.published_after(before).await;
    let echo = echoed(&node, "").await;
    assert_eq!(echo.authority(), backend.address().to_string());
    assert_eq!(echo.header("x-forwarded-host"), ["app.test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hop_by_hop_headers_end_here() {
    let backend = Backend::start("app").await;
    let node = node(&backend, json!({})).await;
    let request = "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close, X-Named\r\nX-Named: 1\r\nKeep-Alive: timeout=5\r\n\
        Proxy-Connection: keep-alive\r\nTE: gzip, trailers\r\nTrailer: X-Later\r\nUpgrade: h2c\r\n\
        Proxy-Authorization: Basic eA==\r\nX-Kept: 1\r\n\r\n";
    let answer = exchange(node.web(), request).await;
    assert_eq!(answer.status(), Some(200), "{}", answer.text());
    let headers = backend.record().only().headers;
    for gone in [
        "x-named",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "proxy-authorization",
    ] {
        assert!(!headers.contains_key(gone), "{gone}: {headers:?}");
    }
    assert!(headers.get("te").is_none_or(|te| te == "trailers"), "{headers:?}");
    assert!(
        !headers
            .get("connection")
            .is_some_and(|value| value.to_str().unwrap().contains("X-Named"))
    );
    assert_eq!(headers["x-kept"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_options_can_not_strip_what_we_add() {
    let backend = Backend::start("app").await;
    let node = node(&backend, json!({})).await;
    let echo = echoed(
        &node,
        "Connection: X-Forwarded-For, X-Real-Ip, Host, X-Forwarded-Proto\r\n",
    )
    .await;
    assert_eq!(echo.header("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(echo.header("x-real-ip"), ["127.0.0.1"]);
    assert_eq!(echo.header("x-forwarded-proto"), ["http"]);
    assert_eq!(echo.authority(), "app.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_told_apart_in_x_forwarded_proto() {
    let backend = Backend::start("app").await;
    let node = node(&backend, json!({})).await;
    let mut socket = constellation_tests::client::websocket::WebSocket::open(node.web(), "app.test")
        .await
        .unwrap();
    socket.echo("x").await;
    assert_eq!(backend.record().only().headers["x-forwarded-proto"], "ws");
    socket.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_headers_cookies_and_odd_values_pass_unchanged() {
    let backend = Backend::start("app").await;
    let node = node(&backend, json!({})).await;
    let echo = echoed(
        &node,
        "X-Many: 1\r\nX-Many: 2\r\nCookie: a=1; b=2\r\nX-Empty:\r\nX-Odd: \"a,b\";c=~!@#$%^&*\r\n",
    )
    .await;
    assert_eq!(echo.header("x-many"), ["1", "2"]);
    assert_eq!(echo.header("cookie"), ["a=1; b=2"]);
    assert_eq!(echo.header("x-empty"), [""]);
    assert_eq!(echo.header("x-odd"), ["\"a,b\";c=~!@#$%^&*"]);
    // HTTP/2 splits cookies into crumbs; a back end of HTTP/1.1 gets one line (RFC 9113, section 8.2.3).
    let mut h2 = Client::h2c(node.web()).await.unwrap();
    let mut get = request(Method::GET, "app.test", "/");
    for crumb in ["a=1", "b=2"] {
        get.headers_mut().append("cookie", crumb.parse().unwrap());
    }
    assert_eq!(h2.send(get).await.unwrap().echo().header("cookie"), ["a=1; b=2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_keep_their_headers_and_redirects_are_the_clients() {
    let backend = Backend::start("app").await;
    let node = node(&backend, json!({})).await;
    for status in [301, 302, 307, 401, 403, 418, 429, 500, 502, 503] {
        let answer = node.get("app.test", &format!("/status/{status}")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-backend")),
            (status, "app")
        );
        assert!(
            answer.body.is_empty(),
            "the body of a back end's error is not replaced: {}",
            answer.text()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_served_is_told_to_those_who_may_know() {
    let backend = Backend::start("app").await;
    let routes = route("app.test", &[backend.url()]).to_string();
    let silent = Node::builder().dynamic("routes.json", &routes).start().await;
    let answer = silent.get("app.test", "/").await;
    assert!(
        answer
            .headers
            .keys()
            .all(|name| !name.as_str().starts_with("x-constellation")),
        "{:?}",
        answer.headers
    );
    let telling = Node::builder()
        .config(json!({ "proxy": { "servedByFor": ["127.0.0.0/8"] } }))
        .dynamic("routes.json", &routes)
        .start()
        .await;
    let answer = telling.get("app.test", "/").await;
    assert!(
        answer
            .header("x-constellation-endpoint")
            .contains(&backend.address().to_string()),
        "{:?}",
        answer.headers
    );
    for (name, value) in [
        ("node", "test-node"),
        ("service", "main@file"),
        ("router", "main@file"),
        ("attempts", "1"),
    ] {
        assert_eq!(answer.header(&format!("x-constellation-{name}")), value);
    }
    let missing = telling.get("nobody.test", "/").await;
    assert_eq!(
        (missing.status.as_u16(), missing.header("x-constellation-node")),
        (404, "test-node")
    );
}
