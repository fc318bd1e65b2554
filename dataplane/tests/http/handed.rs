//! Requests of a proxy in front, each for a service that it names.

use constellation_dataplane::named;
use constellation_dataplane::table::Scheme;

use super::support::{Act, Backend, Node, Plan};

async fn node(backend: &Backend) -> Node {
    let mut plan = Plan::to(&[(Scheme::Http, backend.address)]);
    plan.by_service = true;
    plan.served_by_for = vec!["192.0.2.0/24"];
    plan.start()
}

#[tokio::test]
async fn one_connection_carries_requests_of_many_clients() {
    let backend = Backend::fixed("ok").await;
    let node = node(&backend).await;
    let mut proxy = node.connect().await;
    for number in 0..3 {
        let path = format!("{}/a%20b//c/../d?n={number}", named::path("app"));
        proxy
            .send(format!(
                "POST {path} HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 192.0.2.{number}\r\nX-Real-Ip: 192.0.2.{number}\r\n\
                 Constellation-Service: other\r\nContent-Length: 2\r\n\r\nhi"
            ))
            .await;
        let answer = proxy.response().await;
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert_eq!(answer.header("x-constellation-service"), Some("app"));
    }
    let seen = backend.seen();
    assert_eq!(seen.len(), 3);
    for (number, seen) in seen.iter().enumerate() {
        let line = seen.head.lines().next().unwrap();
        assert_eq!(line, format!("POST /a%20b/d?n={number} HTTP/1.1"));
        // What was said of the client stays as it was said.
        assert_eq!(seen.header("x-forwarded-for"), [format!("192.0.2.{number}")]);
        assert_eq!(seen.header("host"), ["app.test"]);
        assert_eq!(seen.header("constellation-service"), [""; 0]);
        assert_eq!(seen.body, b"hi");
    }
}

#[tokio::test]
async fn what_names_no_service_that_is_there_is_told_so() {
    let backend = Backend::fixed("ok").await;
    let node = node(&backend).await;
    let mut proxy = node.connect().await;
    for (path, status) in [
        ("/", 404),
        ("/app/x", 404),
        ("/.constellation/", 404),
        ("/.constellation/other/x", 503),
        ("/.constellation/app/%zz", 400),
        ("/.constellation/app", 200),
    ] {
        proxy
            .send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"))
            .await;
        let answer = proxy.response().await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("retry-after").is_some(), status == 503, "{path}");
        if status == 400 {
            proxy = node.connect().await;
        }
    }
}

#[tokio::test]
async fn a_back_end_that_refuses_is_passed_over() {
    let refusing = Backend::start(|_, _| {
        Act::Send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno".to_vec())
    })
    .await;
    let backend = Backend::fixed("ok").await;
    let mut plan = Plan::to(&[(Scheme::Http, refusing.address), (Scheme::Http, backend.address)]);
    plan.by_service = true;
    let node = plan.start();
    let mut proxy = node.connect().await;
    for _ in 0..4 {
        proxy
            .send(format!(
                "GET {}/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
                named::path("app")
            ))
            .await;
        assert_eq!(proxy.response().await.text(), "ok");
    }
}
