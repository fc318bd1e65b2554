//! Attempts that middlewares ask for.

use std::net::SocketAddr;
use std::time::Duration;

use constellation_dataplane::table::Scheme;
use constellation_middleware::{Buffering, Kind, Retry, Retrying, Statuses};

use super::super::support::{Act, Backend, Plan, ok};
use super::node;

fn retrying(statuses: &[&str], non_idempotent: bool) -> Retrying {
    let statuses: Vec<_> = statuses.iter().map(|text| (*text).to_owned()).collect();
    Retrying {
        attempts: 1,
        initial_interval: Duration::from_millis(1),
        timeout: None,
        max_body: None,
        statuses: Statuses::new("status", &statuses).unwrap(),
        on_network_error: true,
        non_idempotent,
    }
}

fn retry(attempts: i64, retrying: Retrying) -> Kind {
    Kind::Retry(Retry::new(attempts, retrying, &mut Vec::new()).unwrap())
}

/// Answers 500 so often, then 200.
async fn failing(times: usize) -> Backend {
    Backend::start(move |number, _| match number <= times {
        true => Act::Send(b"HTTP/1.1 500 X\r\nContent-Length: 3\r\n\r\nerr".to_vec()),
        false => Act::Send(ok(b"good")),
    })
    .await
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const PUT: &str = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";

#[tokio::test]
async fn statuses_are_tried_again_at_the_only_server() {
    // request, attempts, statuses, also what is not idempotent, failures, status, requests seen
    let cases = [
        (GET, 3, &["500-599"][..], false, 2, 200, 3),
        (GET, 3, &["500-599"], false, 3, 500, 3),
        (GET, 1, &["500-599"], false, 1, 500, 1),
        (GET, 3, &["502"], false, 2, 500, 1),
        (GET, 3, &[], false, 2, 500, 1),
        (PUT, 3, &["500"], false, 2, 200, 3),
        (POST, 3, &["500"], false, 2, 500, 1),
        (POST, 3, &["500"], true, 2, 200, 3),
    ];
    for (request, attempts, statuses, non_idempotent, failures, status, seen) in cases {
        let backend = failing(failures).await;
        let node = node(
            &backend,
            vec![retry(attempts, retrying(statuses, non_idempotent))],
        );
        let mut client = node.connect().await;
        client.send(request).await;
        assert_eq!(
            client.response().await.status,
            status,
            "{request} {attempts} {statuses:?}"
        );
        assert_eq!(backend.seen().len(), seen, "{request} {attempts} {statuses:?}");
        let bodies = backend.seen();
        assert!(bodies.iter().all(|seen| seen.body == bodies[0].body));
    }
}

#[tokio::test]
async fn a_body_that_is_longer_than_is_kept_goes_once() {
    for (max_body, seen) in [(2, 1), (3, 2)] {
        let backend = failing(1).await;
        let retrying = Retrying {
            max_body: Some(max_body),
            ..retrying(&["500"], false)
        };
        let node = node(&backend, vec![retry(3, retrying)]);
        let mut client = node.connect().await;
        client.send(PUT).await;
        client.response().await;
        assert_eq!(backend.seen().len(), seen, "{max_body}");
    }
}

#[tokio::test]
async fn no_attempt_begins_after_the_time() {
    let backend = failing(5).await;
    let retrying = Retrying {
        timeout: Some(Duration::ZERO),
        ..retrying(&["500"], false)
    };
    let node = node(&backend, vec![retry(3, retrying)]);
    assert_eq!(node.connect().await.get("/").await.status, 500);
    assert_eq!(backend.seen().len(), 1);
}

/// A server that comes up while the request waits.
#[tokio::test]
async fn a_server_that_can_not_be_reached_is_tried_again() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    let retrying = Retrying {
        initial_interval: Duration::from_millis(200),
        ..retrying(&[], false)
    };
    let node = Plan {
        chain: vec![retry(16, retrying)],
        ..Plan::to(&[(Scheme::Http, address)])
    }
    .start();
    let mut client = node.connect().await;
    client.send(POST).await;
    // The port is bound but nobody listens: connects are refused until now.
    let mut backend = tokio::task::JoinSet::new();
    backend.spawn(async move {
        let listener = socket.listen(8).unwrap();
        let (mut socket, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, &ok(b"up"))
            .await
            .unwrap();
        std::future::pending::<()>().await;
    });
    let response = client.response().await;
    assert_eq!((response.status, response.text()), (200, "up"));
}

#[tokio::test]
async fn an_expression_asks_for_attempts_of_what_may_be_repeated() {
    let expression = |text: &str| Kind::Buffering(Buffering::new(0, 0, text).unwrap());
    // request, expression, failures, status, requests seen
    let cases = [
        (GET, "ResponseCode() == 500 && Attempts() <= 2", 2, 200, 3),
        (GET, "ResponseCode() == 500 && Attempts() <= 2", 9, 500, 3),
        (
            PUT,
            "ResponseCode() == 500 && RequestMethod() == \"PUT\"",
            1,
            200,
            2,
        ),
        (PUT, "IsNetworkError()", 1, 500, 1),
        (POST, "ResponseCode() == 500 && Attempts() <= 2", 2, 500, 1),
        (GET, "Attempts() < 99", 3, 200, 4),
    ];
    for (request, text, failures, status, seen) in cases {
        let backend = failing(failures).await;
        let node = node(&backend, vec![expression(text)]);
        let mut client = node.connect().await;
        client.send(request).await;
        assert_eq!(client.response().await.status, status, "{request} {text}");
        assert_eq!(backend.seen().len(), seen, "{request} {text}");
    }
}

/// Each makes its attempts in each of those around it, where it has to do with the failure at all.
#[tokio::test]
async fn attempts_of_several_multiply() {
    let statuses = || retry(2, retrying(&["500-599"], false));
    let network = || retry(3, retrying(&[], false));
    for (chain, expected) in [
        (vec![statuses(), statuses()], 4),
        (vec![statuses(), network()], 2),
        (vec![network(), statuses()], 2),
        (vec![network()], 1),
    ] {
        let backend = failing(usize::MAX).await;
        let node = node(&backend, chain);
        let status = node.connect().await.get("/").await.status;
        assert_eq!((status, backend.seen().len()), (500, expected));
    }
}
