//! What is asked, and which answers are good.

use constellation_table::policy::CheckMode;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::*;

#[tokio::test]
async fn every_option_shapes_the_request() {
    let backend = Backend::start(|_, _| status(200)).await;
    let check = HealthCheck {
        path: "/healthz?deep=1".into(),
        method: Method::POST,
        hostname: Some("app.example.test".into()),
        // Instead of the endpoint's port, which nobody listens on.
        port: Some(backend.address.port()),
        headers: vec![
            (HeaderName::from_static("x-a"), HeaderValue::from_static("b")),
            (
                HeaderName::from_static("user-agent"),
                HeaderValue::from_static("mine"),
            ),
            (
                HeaderName::from_static("host"),
                HeaderValue::from_static("other.test"),
            ),
        ],
        ..once()
    };
    assert_eq!(reason_of(check, dead().await).await, "");
    assert_eq!(backend.line(0), "POST /healthz?deep=1 HTTP/1.1");
    assert_eq!(backend.header(0, "host"), ["app.example.test"]);
    assert_eq!(backend.header(0, "x-a"), ["b"]);
    assert_eq!(backend.header(0, "user-agent"), ["mine"]);
    assert_eq!(backend.header(0, "content-length"), ["0"]);
}

#[tokio::test]
async fn the_defaults_ask_for_the_root() {
    let backend = Backend::start(|_, _| status(200)).await;
    assert_eq!(reason_of(once(), backend.address).await, "");
    assert_eq!(backend.line(0), "GET / HTTP/1.1");
    assert_eq!(backend.header(0, "host"), [backend.address.to_string()]);
    assert_eq!(backend.header(0, "user-agent"), ["constellation-health-check"]);
    assert_eq!(backend.heads()[0].lines().count(), 4, "{:?}", backend.heads());
}

#[tokio::test]
async fn a_status_says_whether_it_is_healthy() {
    for (answer, wanted, reason) in [
        (200, None, ""),
        (204, None, ""),
        (302, None, ""),
        (304, None, ""),
        (399, None, ""),
        (400, None, "GET /healthz gave 400"),
        (404, None, "GET /healthz gave 404"),
        (500, None, "GET /healthz gave 500"),
        (503, None, "GET /healthz gave 503"),
        (599, None, "GET /healthz gave 599"),
        (418, Some(418), ""),
        (200, Some(418), "GET /healthz gave 200, not 418"),
    ] {
        let backend = Backend::start(move |_, _| status(answer)).await;
        let check = HealthCheck {
            path: "/healthz".into(),
            status: wanted.map(|code| StatusCode::from_u16(code).unwrap()),
            ..once()
        };
        assert_eq!(reason_of(check, backend.address).await, reason, "{answer}");
    }
}

#[tokio::test]
async fn a_name_is_looked_up() {
    let backend = Backend::start(|_, _| status(200)).await;
    let port = backend.address.port();
    let named = |host| named("a", Scheme::Http, host, port, Condition::Ready);
    let mut watched = Watched::one(once(), named("localhost"));
    assert_eq!(watched.reason().await, "");
    assert_eq!(backend.header(0, "host"), [format!("localhost:{port}")]);
    let reason = Watched::one(once(), named("nobody.invalid")).reason().await;
    assert!(reason.starts_with("no address of nobody.invalid: "), "{reason}");
}

#[tokio::test]
async fn a_redirect_on_the_same_host_keeps_what_was_asked_for() {
    let backend = Backend::start(|_, head| match head.starts_with("POST /healthz ") {
        true => redirect(302, "login?next=1"),
        false => status(200),
    })
    .await;
    let check = HealthCheck {
        path: "/healthz".into(),
        method: Method::POST,
        hostname: Some("app.test".into()),
        headers: vec![(
            HeaderName::from_static("authorization"),
            HeaderValue::from_static("s"),
        )],
        ..once()
    };
    assert_eq!(reason_of(check, backend.address).await, "");
    assert_eq!(backend.line(1), "GET /login?next=1 HTTP/1.1");
    assert_eq!(backend.header(1, "host"), ["app.test"]);
    assert_eq!(backend.header(1, "authorization"), ["s"]);
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_redirect_elsewhere_is_followed_without_what_is_confidential() {
    let other = Backend::start(|_, _| status(204)).await;
    let there = format!("http://{}/a?b=c#d", other.address);
    let backend = Backend::start(move |_, _| redirect(307, &there)).await;
    let check = HealthCheck {
        method: Method::HEAD,
        hostname: Some("app.test".into()),
        headers: vec![
            (
                HeaderName::from_static("authorization"),
                HeaderValue::from_static("s"),
            ),
            (HeaderName::from_static("x-a"), HeaderValue::from_static("b")),
        ],
        ..once()
    };
    // Another name of the same machine, so that the host differs.
    let endpoint = named(
        "a",
        Scheme::Http,
        "localhost",
        backend.address.port(),
        Condition::Ready,
    );
    assert_eq!(Watched::one(check, endpoint).reason().await, "");
    assert_eq!(other.line(0), "HEAD /a?b=c HTTP/1.1");
    assert_eq!(other.header(0, "host"), [other.address.to_string()]);
    assert_eq!(other.header(0, "x-a"), ["b"]);
    assert_eq!(other.header(0, "authorization"), Vec::<String>::new());
    assert_eq!(backend.header(0, "authorization"), ["s"]);
}

#[tokio::test]
async fn redirects_that_lead_nowhere_are_told() {
    for (location, reason) in [
        ("/again", "GET / led to 10 redirects"),
        (
            "ftp://a.test/",
            "GET / gave a redirect to ftp://a.test/, which is neither http nor https",
        ),
        (
            "http://[x/",
            "GET / gave a redirect to http://[x/, which is no URL",
        ),
    ] {
        let backend = Backend::start(move |_, _| redirect(301, location)).await;
        assert_eq!(reason_of(once(), backend.address).await, reason);
        let requests = if location == "/again" { 10 } else { 1 };
        assert_eq!(backend.heads().len(), requests, "{location}");
    }
    // An answer that names no place is the last one.
    let backend = Backend::start(|_, _| status(302)).await;
    assert_eq!(reason_of(once(), backend.address).await, "");
}

#[tokio::test]
async fn redirects_are_left_alone_when_that_is_wanted() {
    let backend = Backend::start(|_, _| redirect(302, "/login")).await;
    let check = HealthCheck {
        follow_redirects: false,
        ..once()
    };
    assert_eq!(reason_of(check, backend.address).await, "");
    assert_eq!(backend.heads().len(), 1);
}

#[tokio::test]
async fn the_connection_is_used_again() {
    let backend =
        Backend::start(|_, _| Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec())).await;
    let mut watched = Watched::one(quick(), endpoint(Scheme::Http, backend.address));
    for _ in 0..5 {
        assert_eq!(watched.reason().await, "");
    }
    assert_eq!(backend.connections(), 1);
}

/// The back end may close what is idle at any moment, also just as the next check is sent.
#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced() {
    let backend = Backend::start(|number, _| match number % 2 {
        0 => Act::Close(Vec::new()),
        _ => status(200),
    })
    .await;
    let mut watched = Watched::one(quick(), endpoint(Scheme::Http, backend.address));
    for _ in 0..5 {
        assert_eq!(watched.reason().await, "");
    }
    assert!(backend.connections() >= 5, "{}", backend.connections());
}

#[tokio::test]
async fn a_tcp_check_wants_a_connection_and_nothing_else() {
    let check = HealthCheck {
        mode: CheckMode::Tcp,
        ..once()
    };
    let backend = Backend::start(|_, _| status(500)).await;
    assert_eq!(reason_of(check.clone(), backend.address).await, "");
    assert_eq!(backend.heads().len(), 0);
    assert_eq!(reason_of(check, dead().await).await, "connection refused");
}

#[tokio::test]
async fn what_no_request_can_hold_is_told() {
    let backend = Backend::start(|_, _| status(200)).await;
    let check = HealthCheck {
        path: "/a b".into(),
        ..once()
    };
    let reason = reason_of(check, backend.address).await;
    assert!(reason.contains("/a b at the host 127.0.0.1"), "{reason}");
}
