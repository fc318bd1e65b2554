//! Many endpoints, few sockets.

use std::collections::HashSet;

use super::*;

#[tokio::test]
async fn a_thousand_silent_endpoints_take_turns() {
    let backend = Backend::start(|_, _| Act::Hang).await;
    let check = HealthCheck {
        timeout: Duration::from_millis(200),
        ..once()
    };
    let port = backend.address.port();
    let endpoints = (0..1000)
        .map(|number| {
            named(
                &format!("e{number}"),
                Scheme::Http,
                "127.0.0.1",
                port,
                Condition::Ready,
            )
        })
        .collect();
    let mut watched = Watched::start(vec![service(check, endpoints, Transport::default())]);
    let mut seen = HashSet::new();
    while seen.len() < 1000 {
        let (subject, result) = watched.next().await;
        assert!(result.is_err());
        assert!(seen.insert(subject.endpoint.name.clone()), "each is asked once");
    }
    let most = backend.most_open.load(Ordering::SeqCst);
    // The back end may learn late of what was closed.
    assert!((100..=2 * 256).contains(&most), "{most}");
}

/// A slow endpoint is asked less often, never twice at once.
#[tokio::test]
async fn an_endpoint_is_asked_one_at_a_time() {
    let backend = Backend::start(|_, _| Act::Hang).await;
    let check = HealthCheck {
        timeout: Duration::from_millis(50),
        interval: Duration::from_millis(1),
        unhealthy_interval: Duration::from_millis(1),
        ..HealthCheck::default()
    };
    let mut watched = Watched::one(check, endpoint(Scheme::Http, backend.address));
    for _ in 0..10 {
        assert_eq!(watched.reason().await, "no answer within 50ms");
    }
    assert!(backend.most_open.load(Ordering::SeqCst) <= 2);
    assert!(backend.heads().len() <= 11);
}
