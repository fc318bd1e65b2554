//! Back ends that fail, and those that mean harm.

use super::*;
use crate::metrics::CheckOutcome;

fn impatient() -> HealthCheck {
    HealthCheck {
        timeout: Duration::from_millis(200),
        ..once()
    }
}

#[tokio::test]
async fn each_failure_has_its_reason() {
    let ended = "the connection ended before the answer was complete";
    let silent = "no answer within 200ms";
    type Case = (fn() -> Act, &'static str, CheckOutcome);
    let acts: [Case; 9] = [
        (|| Act::Hang, silent, CheckOutcome::Timeout),
        (|| Act::Close(Vec::new()), ended, CheckOutcome::Closed),
        (
            || Act::Close(b"HTTP/1.1 200 OK\r\nConte".to_vec()),
            ended,
            CheckOutcome::Closed,
        ),
        (
            || Act::Close(b"SSH-2.0-x\r\n\r\n".to_vec()),
            "the answer is not HTTP",
            CheckOutcome::Protocol,
        ),
        (
            || Act::Flood(vec![0xff; 4096]),
            "the answer is not HTTP",
            CheckOutcome::Protocol,
        ),
        (
            || Act::Flood(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
            silent,
            CheckOutcome::Timeout,
        ),
        (
            || Act::Drip(b"HTTP/1.1 200 OK\r\nX: ".to_vec()),
            silent,
            CheckOutcome::Timeout,
        ),
        (
            || Act::Drip(b" ".to_vec()),
            "the answer is not HTTP",
            CheckOutcome::Protocol,
        ),
        (
            || Act::Send(format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000)).into_bytes()),
            "the head of the answer is too large",
            CheckOutcome::Protocol,
        ),
    ];
    for (number, (act, reason, outcome)) in acts.into_iter().enumerate() {
        let backend = Backend::start(move |_, _| act()).await;
        let mut watched = Watched::one(impatient(), endpoint(Scheme::Http, backend.address));
        let (_, result) = watched.next().await;
        assert_eq!(result, Err(Failure::new(outcome, reason)), "{number}");
    }
}

#[tokio::test]
async fn an_endless_head_ends_at_its_limit() {
    let backend = Backend::start(|_, _| {
        let line = format!("X-Filler: {}\r\n", "x".repeat(1000));
        Act::Flood([b"HTTP/1.1 200 OK\r\n".to_vec(), line.into_bytes()].concat())
    })
    .await;
    let reason = reason_of(once(), backend.address).await;
    assert!(
        ["the head of the answer is too large", "the answer is not HTTP"].contains(&reason.as_str()),
        "{reason}"
    );
}

#[tokio::test]
async fn nobody_at_the_port() {
    assert_eq!(reason_of(once(), dead().await).await, "connection refused");
}

/// A body that has no end takes neither the verdict nor the next checks.
#[tokio::test]
async fn a_body_without_end_is_not_read() {
    for act in [
        || Act::Flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
        || Act::Flood([b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 100_000]].concat()),
        || Act::Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n".to_vec()),
        || Act::Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n".to_vec()),
    ] {
        let backend = Backend::start(move |_, _| act()).await;
        let mut watched = Watched::one(quick(), endpoint(Scheme::Http, backend.address));
        for number in 1..=3 {
            assert_eq!(watched.reason().await, "");
            assert_eq!(backend.connections(), number, "the connection is not used again");
        }
    }
}

/// Bytes that nobody asked for, after a sound answer.
#[tokio::test]
async fn noise_between_checks_ends_the_connection_only() {
    let backend = Backend::start(|_, _| {
        Act::Send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
                .to_vec(),
        )
    })
    .await;
    let mut watched = Watched::one(quick(), endpoint(Scheme::Http, backend.address));
    for _ in 0..3 {
        assert_eq!(watched.reason().await, "");
    }
}
