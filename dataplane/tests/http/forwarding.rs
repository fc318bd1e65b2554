//! Headers and targets as the back end gets them.

use constellation_dataplane::settings::ForwardedHeaders;
use constellation_dataplane::table::{Scheme, Service, ServiceSpec};

use super::support::{Act, Backend, Plan, Seen, endpoint, spec};

/// What the back end saw of one request.
async fn seen(forwarded: ForwardedHeaders, request: &str) -> Seen {
    let backend = Backend::fixed("ok").await;
    let mut plan = Plan::to(&[(Scheme::Http, backend.address)]);
    plan.forwarded = forwarded;
    let node = plan.start();
    let mut client = node.connect().await;
    client.send(request).await;
    assert_eq!(client.response().await.status, 200, "{request}");
    backend.seen().remove(0)
}

#[tokio::test]
async fn an_untrusted_client_tells_nothing_about_earlier_hops() {
    let request = "GET / HTTP/1.1\r\nHost: a.test:8000\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: b\r\nX-Forwarded-Port: 1\r\nX-Real-Ip: 1.2.3.4\r\nX_Forwarded_For: 1.2.3.4\r\n\
        X-Forwarded-Tls-Client-Cert: x\r\nForwarded: for=1.2.3.4\r\n\r\n";
    let seen = seen(ForwardedHeaders::default(), request).await;
    let expected = [
        ("host", vec!["a.test:8000"]),
        ("x-forwarded-for", vec!["127.0.0.1"]),
        ("x-forwarded-proto", vec!["http"]),
        ("x-forwarded-host", vec!["a.test:8000"]),
        ("x-forwarded-port", vec!["8000"]),
        ("x-real-ip", vec!["127.0.0.1"]),
        ("x_forwarded_for", vec![]),
        ("x-forwarded-tls-client-cert", vec![]),
        ("forwarded", vec!["for=1.2.3.4"]),
        ("user-agent", vec![]),
    ];
    for (name, values) in expected {
        assert_eq!(seen.header(name), values, "{name}");
    }
    assert_eq!(seen.header("x-forwarded-server").len(), 1);
}

#[tokio::test]
async fn a_trusted_client_is_believed_and_appended_to() {
    let trusted = [
        ForwardedHeaders {
            insecure: true,
            ..ForwardedHeaders::default()
        },
        ForwardedHeaders {
            insecure: false,
            trusted_ips: vec!["127.0.0.0/8".parse().unwrap()],
        },
    ];
    for forwarded in trusted {
        let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n\
            X-Forwarded-Proto: https\r\nX-Real-Ip: 1.2.3.4\r\n\r\n";
        let seen = seen(forwarded, request).await;
        assert_eq!(seen.header("x-forwarded-for"), ["1.2.3.4, 5.6.7.8, 127.0.0.1"]);
        assert_eq!(seen.header("x-forwarded-proto"), ["https"]);
        assert_eq!(seen.header("x-forwarded-port"), ["443"]);
        assert_eq!(seen.header("x-real-ip"), ["1.2.3.4"]);
    }
}

#[tokio::test]
async fn a_client_without_host_leaves_the_endpoint_as_host() {
    let backend = Backend::fixed("ok").await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let mut client = node.connect().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    let seen = backend.seen().remove(0);
    assert!(seen.head.starts_with("GET / HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.header("host"), [backend.address.to_string()]);
    assert!(seen.header("x-forwarded-host").is_empty());
}

#[tokio::test]
async fn an_empty_body_has_a_length_where_content_is_expected() {
    let none: &[&str] = &[];
    let cases = [
        ("POST", "", &["0"][..]),
        ("PUT", "", &["0"]),
        ("PATCH", "", &["0"]),
        ("POST", "Content-Length: 0\r\n", &["0"]),
        ("POST", "Content-Length: 1\r\n\r\nx", &["1"]),
        ("POST", "Transfer-Encoding: chunked\r\n\r\n0\r\n", none),
        ("GET", "", none),
        ("DELETE", "", none),
    ];
    for (method, rest, expected) in cases {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n{rest}\r\n");
        let seen = seen(ForwardedHeaders::default(), &request).await;
        assert_eq!(seen.header("content-length"), expected, "{request}");
    }
}

#[tokio::test]
async fn hop_by_hop_headers_stay_on_their_hop() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Own, X-Forwarded-For\r\nX-Own: x\r\n\
        Keep-Alive: timeout=5\r\nProxy-Authorization: x\r\nProxy-Connection: x\r\nTe: trailers, deflate\r\n\
        Upgrade: h2c\r\nTrailer: X\r\nX-Kept: x\r\n\r\n";
    let seen = seen(ForwardedHeaders::default(), request).await;
    for gone in [
        "x-own",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "upgrade",
        "connection",
    ] {
        assert!(seen.header(gone).is_empty(), "{gone}: {}", seen.head);
    }
    assert_eq!(seen.header("te"), ["trailers"]);
    assert_eq!(seen.header("x-kept"), ["x"]);
    assert_eq!(seen.header("x-forwarded-for"), ["127.0.0.1"]);
}

#[tokio::test]
async fn targets_are_cleaned_and_queries_left_alone() {
    let cases = [
        ("/a/../b?c=/../d", "/b?c=/../d"),
        ("//a//b", "/a/b"),
        ("/%61%2f%7e", "/a%2F~"),
        ("/x?q=%zz&a=b%20c", "/x?q=%zz&a=b%20c"),
        ("/x?", "/x?"),
        ("http://a.test/p/./q?r", "/p/q?r"),
        ("http://a.test", "/"),
    ];
    for (sent, expected) in cases {
        let request = format!("GET {sent} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let seen = seen(ForwardedHeaders::default(), &request).await;
        assert_eq!(seen.head.split(' ').nth(1), Some(expected), "{sent}");
        assert_eq!(seen.header("host"), ["a.test"]);
    }
}

#[tokio::test]
async fn base_path_and_own_host() {
    let backend = Backend::fixed("ok").await;
    let port = backend.address.port();
    let service = Service::new(
        ServiceSpec {
            pass_host_header: false,
            ..spec("app", vec![endpoint(Scheme::Http, "127.0.0.1", port, "/base/")])
        },
        None,
    );
    let plan = Plan {
        routes: vec![("PathPrefix(`/`)", service)],
        ..Plan::default()
    };
    let node = plan.start();
    assert_eq!(node.connect().await.get("/x?y").await.status, 200);
    let seen = backend.seen().remove(0);
    assert!(
        seen.head.starts_with("GET /base/x?y HTTP/1.1\r\n"),
        "{}",
        seen.head
    );
    assert_eq!(seen.header("host"), [format!("127.0.0.1:{port}")]);
    assert_eq!(seen.header("x-forwarded-host"), ["a.test"]);
}

#[tokio::test]
async fn who_served_is_told_to_those_who_may_know() {
    for (network, told) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let backend = Backend::fixed("ok").await;
        let mut plan = Plan::to(&[(Scheme::Http, backend.address)]);
        plan.served_by_for = vec![network];
        let node = plan.start();
        let response = node.connect().await.get("/").await;
        let endpoint = backend.address.to_string();
        assert_eq!(
            response.header("x-constellation-endpoint"),
            told.then_some(&*endpoint)
        );
        for (name, value) in [("service", "app"), ("node", "node-1"), ("attempts", "1")] {
            let name = format!("x-constellation-{name}");
            assert_eq!(response.header(&name), told.then_some(value), "{name}");
        }
        // Our own answers tell as well.
        drop(backend);
        let response = node.connect().await.get("/").await;
        assert_eq!(response.status, 502);
        assert_eq!(response.header("x-constellation-node"), told.then_some("node-1"));
        assert_eq!(
            response.header("x-constellation-endpoint"),
            told.then_some(&*endpoint)
        );
    }
}

#[tokio::test]
async fn a_response_leaves_its_hop_behind() {
    let backend = Backend::start(|_, _| {
        Act::Send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-Own\r\nX-Own: x\r\nKeep-Alive: timeout=5\r\n\
              Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Kept: x\r\n\r\nok"
                .to_vec(),
        )
    })
    .await;
    let node = Plan::to(&[(Scheme::Http, backend.address)]).start();
    let response = node.connect().await.get("/").await;
    assert_eq!(response.header("connection"), Some("keep-alive"));
    assert_eq!(
        (response.header("x-own"), response.header("keep-alive")),
        (None, None)
    );
    assert_eq!(response.header("x-kept"), Some("x"));
    assert_eq!(response.head.matches("Set-Cookie: ").count(), 2);
}
