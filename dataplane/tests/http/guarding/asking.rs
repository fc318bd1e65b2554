//! `forwardAuth`: the service that is asked, and what its answers do.

use std::net::SocketAddr;
use std::sync::Arc;

use constellation_dataplane::table::{Scheme, Service, ServiceSpec, Transport};
use constellation_middleware::{AuthAddress, ForwardAuth, ForwardAuthOptions, Kind};

use super::node;
use crate::support::{Act, Backend, Node, endpoint, ok, spec};
use crate::tls::{identity, tls_backend};

/// A node that asks this back end about requests to the other one.
fn asking(auth: &Backend, backend: &Backend, options: &ForwardAuthOptions<'_>) -> Node {
    asking_at(Scheme::Http, auth.address, Transport::default(), backend, options)
}

fn asking_at(
    scheme: Scheme,
    auth: SocketAddr,
    transport: Transport,
    backend: &Backend,
    options: &ForwardAuthOptions<'_>,
) -> Node {
    let address = AuthAddress::parse(&format!("{scheme}://{auth}/auth?x=1")).unwrap();
    let asked = endpoint(scheme, &auth.ip().to_string(), auth.port(), "");
    let spec = ServiceSpec {
        pass_host_header: false,
        transport: Arc::new(transport),
        ..spec("auth", vec![asked])
    };
    let service = Arc::new(Service::new(spec, None));
    let kind = ForwardAuth::new(address, service, options).unwrap();
    node(backend, vec![Kind::ForwardAuth(kind)])
}

#[tokio::test]
async fn who_may_pass_is_asked_over_one_connection() {
    let auth = Backend::start(|_, _| {
        Act::Send(b"HTTP/1.1 200 OK\r\nX-User: u\r\nSet-Cookie: s=1\r\nContent-Length: 2\r\n\r\nok".to_vec())
    })
    .await;
    let backend = Backend::fixed("ok").await;
    let (headers, cookies) = (["X-User".to_owned()], ["s".to_owned()]);
    let options = ForwardAuthOptions {
        auth_response_headers: &headers,
        add_auth_cookies_to_response: &cookies,
        ..ForwardAuthOptions::default()
    };
    let node = asking(&auth, &backend, &options);
    let mut client = node.connect().await;
    for _ in 0..3 {
        client
            .send("POST /p?q HTTP/1.1\r\nHost: a.test\r\nX-User: evil\r\nX-Forwarded-Uri: /evil\r\nContent-Length: 4\r\n\r\nbody")
            .await;
        let response = client.response().await;
        assert_eq!((response.status, response.text()), (200, "ok"));
        assert_eq!(response.header("set-cookie"), Some("s=1"));
    }
    let asked = auth.seen();
    assert_eq!((asked.len(), auth.connections()), (3, 1));
    let host = auth.address.to_string();
    for asked in asked {
        assert!(
            asked.head.starts_with("GET /auth?x=1 HTTP/1.1\r\n"),
            "{}",
            asked.head
        );
        for (name, value) in [
            ("host", host.as_str()),
            ("x-forwarded-uri", "/p?q"),
            ("x-forwarded-method", "POST"),
            ("x-forwarded-host", "a.test"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-for", "127.0.0.1"),
        ] {
            assert_eq!(asked.header(name), [value], "{name}");
        }
        assert!(asked.header("content-length").is_empty() && asked.body.is_empty());
    }
    for seen in backend.seen() {
        assert_eq!((seen.header("x-user"), &seen.body[..]), (vec!["u"], &b"body"[..]));
    }
}

#[tokio::test]
async fn a_refusal_goes_to_the_client_and_not_to_the_back_end() {
    let auth = Backend::start(|_, _| {
        Act::Send(
            b"HTTP/1.1 302 Found\r\nLocation: /login\r\nX-Why: b\r\nContent-Length: 5\r\n\r\nlogin".to_vec(),
        )
    })
    .await;
    let backend = Backend::fixed("ok").await;
    let node = asking(&auth, &backend, &ForwardAuthOptions::default());
    let mut client = node.connect().await;
    for _ in 0..2 {
        let response = client.get("/").await;
        assert_eq!((response.status, response.text()), (302, "login"));
        let location = format!("http://{}/login", auth.address);
        assert_eq!(response.header("location"), Some(location.as_str()));
        assert_eq!(response.header("x-why"), Some("b"));
    }
    assert!(backend.seen().is_empty());
    assert_eq!(auth.connections(), 1);
}

#[tokio::test]
async fn a_body_goes_to_both() {
    let (auth, backend) = (Backend::fixed("may").await, Backend::fixed("ok").await);
    let options = ForwardAuthOptions {
        forward_body: true,
        max_body_size: Some(8),
        preserve_request_method: true,
        ..ForwardAuthOptions::default()
    };
    let node = asking(&auth, &backend, &options);
    let mut client = node.connect().await;
    client
        .send("PUT / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 200);
    for seen in [auth.seen(), backend.seen()] {
        assert!(seen[0].head.starts_with("PUT "), "{}", seen[0].head);
        assert_eq!(
            (seen[0].header("content-length"), &seen[0].body[..]),
            (vec!["4"], &b"body"[..])
        );
    }
    client
        .send("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nnine byte")
        .await;
    let refused = client.response().await;
    assert_eq!((refused.status, refused.text()), (401, ""));
    assert_eq!((auth.seen().len(), backend.seen().len()), (1, 1));
}

#[tokio::test]
async fn nobody_passes_who_could_not_be_asked_about() {
    let backend = Backend::fixed("ok").await;
    let options = ForwardAuthOptions::default();
    let closing = Backend::start(|_, _| Act::Close).await;
    let garbled = Backend::start(|_, _| Act::SendAndClose(b"nonsense\r\n\r\n".to_vec())).await;
    let gone = Backend::fixed("").await;
    gone.kill();
    for auth in [&closing, &garbled, &gone] {
        let node = asking(auth, &backend, &options);
        let answer = node.connect().await.get("/").await;
        assert_eq!((answer.status, answer.text()), (500, ""));
    }
    let wordy = Backend::start(|_, _| Act::Send(ok(&[b'x'; 100]))).await;
    let few = ForwardAuthOptions {
        max_response_body_size: Some(99),
        ..options
    };
    let answer = asking(&wordy, &backend, &few).connect().await.get("/").await;
    assert_eq!((answer.status, answer.text()), (401, ""));
    assert!(backend.seen().is_empty());
}

#[tokio::test]
async fn the_service_that_is_asked_is_verified() {
    let backend = Backend::fixed("ok").await;
    let (known, unknown) = (identity(&["127.0.0.1"]), identity(&["127.0.0.1"]));
    let auth = tls_backend(&known).await;
    for (believed, status) in [(&known, 200), (&unknown, 500)] {
        let transport = Transport {
            root_cas: vec![believed.chain_pem().as_bytes().into()],
            ..Transport::default()
        };
        let node = asking_at(
            Scheme::Https,
            auth,
            transport,
            &backend,
            &ForwardAuthOptions::default(),
        );
        assert_eq!(node.connect().await.get("/").await.status, status);
    }
    assert_eq!(backend.seen().len(), 1);
}
