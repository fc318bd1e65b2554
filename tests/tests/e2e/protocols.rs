//! Every way a client may speak HTTP, with curl where a user would use it.

use constellation_tests::backend::{Backend, Echo};
use constellation_tests::certificates::Authority;
use constellation_tests::client::curl::curl;
use constellation_tests::client::http::{full, request};
use constellation_tests::client::wire::{Wire, exchange};
use constellation_tests::client::{Client, tls::Tls};
use constellation_tests::node::{Node, route};
use constellation_tests::require;
use http::{Method, Version};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn curl_speaks_http1_h2c_and_https_with_h2() {
    let curl_program = require!(require::curl());
    let backend = Backend::start("app").await;
    let authority = Authority::new("test CA");
    let builder = Node::builder().websecure();
    std::fs::write(builder.directory().join("ca.pem"), authority.pem()).unwrap();
    let (certificate, key) = authority.sign(&["app.test"]).write(builder.directory(), "app");
    let document = json!({
        "http": {
            "routers": {
                "plain": { "rule": "Host(`app.test`)", "service": "app", "entryPoints": ["web"] },
                "secure": { "rule": "Host(`app.test`)", "service": "app", "entryPoints": ["websecure"] },
            },
            "services": { "app": { "loadBalancer": { "servers": [{ "url": backend.url() }] } } },
        },
        "tls": { "certificates": [{ "certFile": certificate, "keyFile": key }] },
    });
    let node = builder
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    let ca = node.directory().join("ca.pem").display().to_string();
    let (web, websecure) = (node.web().port(), node.websecure().port());
    let resolve = [
        format!("app.test:{web}:127.0.0.1"),
        format!("app.test:{websecure}:127.0.0.1"),
    ];
    let (http, https) = (
        format!("http://app.test:{web}/x"),
        format!("https://app.test:{websecure}/x"),
    );
    for (name, arguments, url, version) in [
        ("HTTP/1.1", vec!["--http1.1"], &http, "1.1"),
        ("HTTP/1.0", vec!["--http1.0"], &http, "1."),
        (
            "h2c with prior knowledge",
            vec!["--http2-prior-knowledge"],
            &http,
            "2",
        ),
        ("h2c by upgrade stays on 1.1", vec!["--http2"], &http, "1.1"),
        (
            "HTTPS with HTTP/1.1",
            vec!["--http1.1", "--cacert", &ca],
            &https,
            "1.1",
        ),
        (
            "HTTPS with h2 by ALPN",
            vec!["--http2", "--cacert", &ca],
            &https,
            "2",
        ),
        (
            "HTTPS without ALPN",
            vec!["--no-alpn", "--cacert", &ca],
            &https,
            "1.1",
        ),
        ("TLS 1.2", vec!["--tls-max", "1.2", "--cacert", &ca], &https, "2"),
    ] {
        let mut all = arguments;
        all.extend(["--resolve", &resolve[0], "--resolve", &resolve[1]]);
        all.extend(["--write-out", "\n%{http_code} %{http_version}", url]);
        let result = curl(&curl_program, &all).await;
        assert_eq!(result.code, 0, "{name}: {result:?}");
        let (body, summary) = result.stdout.rsplit_once('\n').unwrap();
        assert!(
            summary.starts_with(&format!("200 {version}")),
            "{name}: {summary}"
        );
        assert_eq!(Echo::parse(body.as_bytes()).target(), "/x", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_share_a_connection_in_http1_and_http2() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    for mut client in [
        Client::h1(node.web()).await.unwrap(),
        Client::h2c(node.web()).await.unwrap(),
    ] {
        for number in 0..50 {
            let mut post = request(Method::POST, "app.test", &format!("/n/{number}"));
            *post.body_mut() = full(format!("body {number}"));
            let echo = client.send(post).await.unwrap().echo();
            assert_eq!(
                (echo.target(), echo.body()),
                (&*format!("/n/{number}"), &*format!("body {number}"))
            );
        }
    }
    assert!(
        backend.connections() <= 4,
        "upstream connections are reused: {}",
        backend.connections()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_but_connect_goes_through() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    for method in [
        "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "PURGE",
    ] {
        let answer = Client::h1(node.web()).await.unwrap();
        let mut client = answer;
        let answer = client
            .send(request(method.parse().unwrap(), "app.test", "/m"))
            .await
            .unwrap();
        assert_eq!(answer.echo().method(), method);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_has_the_length_and_no_body() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let mut wire = Wire::connect(node.web()).await;
    wire.send("HEAD /bytes/1000 HTTP/1.1\r\nHost: app.test\r\n\r\n")
        .await;
    let head = wire.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(
        head.to_ascii_lowercase().contains("content-length: 1000"),
        "{head}"
    );
    // The next answer follows at once: no byte of a body came between.
    wire.send("GET /bytes/3 HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let (head, body) = wire.read_answer().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, [0, 1, 2]);
    let mut h2 = Client::h2c(node.web()).await.unwrap();
    let answer = h2
        .send(request(Method::HEAD, "app.test", "/bytes/1000"))
        .await
        .unwrap();
    assert_eq!((answer.header("content-length"), answer.body.len()), ("1000", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_end_at_their_head() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    for mut client in [
        Client::h1(node.web()).await.unwrap(),
        Client::h2c(node.web()).await.unwrap(),
    ] {
        for status in [204, 304, 200, 404, 500, 204] {
            let answer = client.get("app.test", &format!("/status/{status}")).await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (status, 0));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_the_server_itself_is_answered_here() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let answer = exchange(
        node.web(),
        "OPTIONS * HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(answer.status(), Some(200), "{}", answer.text());
    assert_eq!(backend.record().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_is_refused_in_http1_and_http2() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let answer = exchange(
        node.web(),
        "CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n\r\n",
    )
    .await;
    assert_eq!(
        (answer.status(), answer.closed),
        (Some(405), true),
        "{}",
        answer.text()
    );
    let mut h2 = Client::h2c(node.web()).await.unwrap();
    let mut connect = request(Method::CONNECT, "app.test:443", "");
    *connect.uri_mut() = "app.test:443".parse().unwrap();
    let refused = match h2.send(connect).await {
        Ok(answer) => answer.status == 405,
        // Or the stream is reset.
        Err(_) => true,
    };
    assert!(refused);
    assert_eq!(backend.record().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn expect_100_continue_is_answered_before_the_body_is_sent() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let mut wire = Wire::connect(node.web()).await;
    wire.send("POST /upload HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .await;
    let interim = wire.read_until("\r\n\r\n").await;
    assert!(interim.starts_with("HTTP/1.1 100"), "{interim}");
    wire.send("hello").await;
    let (head, _) = wire.read_answer().await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    // Where the answer does not depend on the body, the client need not send it.
    let mut wire = Wire::connect(node.web()).await;
    wire.send("POST / HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .await;
    let (head, _) = wire.read_answer().await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_the_answer_arrive_over_http2() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url_as("h2c")]).await;
    let mut h2 = Client::h2c(node.web()).await.unwrap();
    let answer = h2.get("app.test", "/trailers").await;
    assert_eq!(answer.text(), "with trailers\n");
    assert_eq!(answer.trailers.unwrap()["x-checksum"], "1");
    // A client of HTTP/1.1 gets the body all the same.
    assert_eq!(node.get("app.test", "/trailers").await.text(), "with trailers\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn http10_is_answered_and_closed_unless_it_asks_to_stay() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let answer = exchange(node.web(), "GET /bytes/3 HTTP/1.0\r\nHost: app.test\r\n\r\n").await;
    assert_eq!(
        (answer.status(), answer.closed),
        (Some(200), true),
        "{}",
        answer.text()
    );
    assert!(answer.bytes.ends_with(&[0, 1, 2]));
    let answer = exchange(node.web(), "GET /chunks/3 HTTP/1.0\r\nHost: app.test\r\n\r\n").await;
    assert!(
        answer.closed && !answer.text().to_ascii_lowercase().contains("chunked"),
        "{}",
        answer.text()
    );
    assert!(answer.bytes.ends_with(&[0, 1, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_close_gets_its_answer_and_closes() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let answer = exchange(
        node.web(),
        "GET /bytes/3 HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!((answer.status(), answer.closed), (Some(200), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order_or_the_connection_closes() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let one = "GET /status/200 HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let last = "GET /status/204 HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n";
    let answer = exchange(node.web(), format!("{one}{last}")).await;
    assert_eq!(
        (answer.status(), answer.closed),
        (Some(200), true),
        "{}",
        answer.text()
    );
    if answer.answers() == 2 {
        assert!(answer.text().contains("HTTP/1.1 204"), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absolute_target_routes_by_its_authority() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    let answer = exchange(
        node.web(),
        "GET http://app.test/p?q=1 HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(answer.status(), Some(200), "{}", answer.text());
    assert_eq!(backend.record().only().target, "/p?q=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_reach_the_back_end_cleaned_and_queries_untouched() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    for (sent, arrived) in [
        ("/a/../b", "/b"),
        ("/public/%2e%2e/admin", "/admin"),
        ("/public/..%2Fadmin", "/public/..%2Fadmin"),
        ("//a///b", "/a/b"),
        ("/%7euser/%41", "/~user/A"),
        ("/a%2fb", "/a%2Fb"),
        ("/a%20b", "/a%20b"),
        ("/?x=../%2e%2e&y=a//b", "/?x=../%2e%2e&y=a//b"),
        ("/..", "/"),
    ] {
        let answer = exchange(
            node.web(),
            format!("GET {sent} HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n"),
        )
        .await;
        assert_eq!(answer.status(), Some(200), "{sent}: {}", answer.text());
        assert_eq!(backend.record().last().target, arrived, "{sent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_gets_404_from_the_proxy() {
    let backend = Backend::start("app").await;
    let node = Node::routing("app.test", &[backend.url()]).await;
    for mut client in [
        Client::h1(node.web()).await.unwrap(),
        Client::h2c(node.web()).await.unwrap(),
    ] {
        assert_eq!(client.get("other.test", "/").await.status, 404);
        assert_eq!(
            client.get("APP.test.", "/").await.status,
            200,
            "names compare without case and final dot"
        );
    }
    assert!(
        backend
            .record()
            .requests()
            .iter()
            .all(|request| request.authority != "other.test")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_is_what_was_negotiated() {
    let backend = Backend::start("app").await;
    let authority = Authority::new("test CA");
    let builder = Node::builder().websecure();
    let (certificate, key) = authority.sign(&["app.test"]).write(builder.directory(), "app");
    let mut document = route("app.test", &[backend.url()]);
    document["tls"] = json!({ "certificates": [{ "certFile": certificate, "keyFile": key }] });
    let node = builder
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    let tls = Tls::trusting(&authority);
    for (alpn, version) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let mut client = tls
            .clone()
            .alpn(alpn)
            .client(node.websecure(), "app.test")
            .await
            .unwrap();
        let answer = client.get("app.test", "/").await;
        assert_eq!(answer.version, version, "{alpn:?}");
        assert_eq!(answer.echo().header("x-forwarded-proto"), ["https"]);
    }
}
