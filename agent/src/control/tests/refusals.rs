//! What is refused, and in which words.

use super::*;

#[tokio::test]
async fn a_question_that_makes_no_sense_is_explained() {
    let node = Node::new();
    for (query, detail) in [
        (
            "",
            "the parameter url is missing; expected for example url=http://app.example.test/path",
        ),
        (
            "url=app.test",
            "\"app.test\" is not an absolute URL of http, https, tcp, tls or udp; expected for example http://app.example.test/path, \
             tls://db.example.test:5432 or udp://192.0.2.1:53",
        ),
        (
            "url=ftp://app.test/",
            "\"ftp://app.test/\" is not an absolute URL of http, https, tcp, tls or udp; expected for example http://app.example.test/path, \
             tls://db.example.test:5432 or udp://192.0.2.1:53",
        ),
        (
            "url=http://a/&method=G%20T",
            "\"G T\" is not a method; expected for example GET",
        ),
        (
            "url=http://a/&header=x",
            "\"x\" is not a header; expected NAME: VALUE",
        ),
        (
            "url=http://a/&client_ip=me",
            "\"me\" is not an IP address; expected for example 192.0.2.1",
        ),
        (
            "url=http://a/&entrypoint=x",
            "there is no entry point \"x\"; there are: web, websecure",
        ),
        (
            "url=tcp://a:9",
            "no entry point takes tcp at a:9; there are: web (127.0.0.1:8000), websecure (127.0.0.1:8443)",
        ),
        (
            "url=udp://127.0.0.2:5353",
            "no entry point takes udp at 127.0.0.2:5353; there are: dns (127.0.0.1:5353)",
        ),
        (
            "url=tcp://a",
            "\"tcp://a\" has no port; write one, or name the entry point",
        ),
        (
            "url=tcp://a:8443&entrypoint=dns",
            "there is no entry point \"dns\"; there are: web, websecure",
        ),
        (
            "url=udp://a:5353&entrypoint=web",
            "there is no entry point \"web\"; there are: dns",
        ),
        (
            "url=udp://a:5353?sni=b",
            "the parameter sni of the URL is about the ClientHello of a connection, and datagrams have none: leave it out",
        ),
        (
            "url=udp://a:5353?alpn=b",
            "the parameter alpn of the URL is about the ClientHello of a connection, and datagrams have none: leave it out",
        ),
        (
            "url=tcp://a:8443?name=b",
            "the parameter \"name\" of the URL is not known; expected sni or alpn",
        ),
        (
            "url=tcp://a:8443?sni=b%2520c",
            "\"b c\" can't be asked for by a ClientHello: the server name of the ClientHello is no host name",
        ),
        (
            "url=tcp://a:8443?sni=192.0.2.1",
            "\"192.0.2.1\" can't be asked for by a ClientHello: clients send no server name for an address",
        ),
        (
            "url=tcp://a:8443?alpn=h2,",
            "\"\" is not a protocol of ALPN, which has 1 to 255 bytes; expected for example alpn=h2,http/1.1",
        ),
        (
            "url=tcp://a:8443/x",
            "a stream has no path: leave it out, or ask for an http or https URL",
        ),
        (
            "url=tcp://a:8443&method=GET",
            "a stream has no method: leave it out, or ask for an http or https URL",
        ),
        (
            "url=udp://a:5353&header=a:%20b",
            "a stream has no header: leave it out, or ask for an http or https URL",
        ),
        (
            "url=http://a/&hst=x",
            "the parameter \"hst\" is not known; expected url, method, header, entrypoint or client_ip",
        ),
    ] {
        let (code, problem) = node.get(&format!("/api/v1/explain?{query}")).await;
        assert_eq!(
            (code, &problem["detail"]),
            (StatusCode::BAD_REQUEST, &json!(detail))
        );
    }
}

#[tokio::test]
async fn errors_are_problem_json() {
    let node = Node::new();
    let cases = [
        (Method::GET, "/nothing", 404, "Not Found"),
        (Method::GET, "/api/v1/services/none", 404, "Not Found"),
        (Method::POST, "/api/v1/status", 405, "Method Not Allowed"),
        (Method::DELETE, "/health", 405, "Method Not Allowed"),
        (Method::OPTIONS, "/api/v1/routes", 405, "Method Not Allowed"),
    ];
    for (method, path, status, title) in cases {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Origin", "http://evil.example");
        let response = node.call(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert!(!response.headers().contains_key("access-control-allow-origin"));
        assert_eq!(response.headers().contains_key("allow"), status == 405);
        assert_eq!(response.status().as_u16(), status);
        let body: Value =
            serde_json::from_slice(&to_bytes(response.into_body(), 9999).await.unwrap()).unwrap();
        assert_eq!((&body["title"], &body["status"]), (&json!(title), &json!(status)));
        assert!(body["detail"].as_str().unwrap().len() > 20, "{body}");
    }
    let head = node
        .call(Request::head("/api/v1/status").body(Body::empty()).unwrap())
        .await;
    assert_eq!(head.status(), StatusCode::OK);
}

#[tokio::test]
async fn foreign_names_are_not_answered() {
    let node = Node::new();
    for (host, status) in [
        ("rebound.example:8080", 421),
        ("localhost:8080", 200),
        ("edge-1:8080", 200),
    ] {
        let response = node
            .call(
                Request::get("/api/v1/status")
                    .header(HOST, host)
                    .body(Body::empty())
                    .unwrap(),
            )
            .await;
        assert_eq!(response.status().as_u16(), status, "{host}");
    }
}

#[tokio::test]
async fn callers_from_other_machines_need_the_token() {
    let mut node = Node::new();
    node.state.token = Some(Secret::new("let-me-in"));
    let there = SocketAddr::from(([192, 0, 2, 9], 40_000));
    for (caller, token, status) in [
        (Some(address(40_000)), None, 200),
        (Some(there), None, 401),
        (None, None, 401),
        (Some(there), Some("Bearer wrong"), 401),
        (Some(there), Some("Basic let-me-in"), 401),
        (Some(there), Some("Bearer let-me-in"), 200),
    ] {
        let mut request = Request::get("/metrics").body(Body::empty()).unwrap();
        if let Some(caller) = caller {
            request.extensions_mut().insert(Caller(caller));
        }
        if let Some(token) = token {
            request
                .headers_mut()
                .insert(AUTHORIZATION, token.parse().unwrap());
        }
        assert_eq!(
            node.call(request).await.status().as_u16(),
            status,
            "{caller:?} {token:?}"
        );
    }
}
