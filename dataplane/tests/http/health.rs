//! What active health checks do to requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use constellation_dataplane::table::policy::{HealthCheck, SlowStart};
use constellation_dataplane::table::{Policy, Scheme, Service};

use super::support::{Act, Backend, Node, Plan, endpoint, ok, soon, spec};

/// Answers requests with its name, and checks as it feels.
async fn backend(name: &'static str, well: &Arc<AtomicBool>) -> Backend {
    let well = well.clone();
    Backend::start(move |_, seen| {
        if !seen.head.starts_with("GET /healthz ") || well.load(Ordering::SeqCst) {
            Act::Send(ok(name.as_bytes()))
        } else {
            Act::Send(b"HTTP/1.1 500 Told\r\nContent-Length: 0\r\n\r\n".to_vec())
        }
    })
    .await
}

fn checked(endpoints: &[&Backend]) -> Service {
    let endpoints = endpoints
        .iter()
        .map(|backend| endpoint(Scheme::Http, "127.0.0.1", backend.address.port(), ""))
        .collect();
    let check = HealthCheck {
        path: "/healthz".into(),
        interval: Duration::from_millis(100),
        unhealthy_interval: Duration::from_millis(100),
        ..HealthCheck::default()
    };
    let mut spec = spec("app@test", endpoints);
    spec.policy = Arc::new(Policy {
        health_check: Some(check),
        slow_start: SlowStart {
            window: Duration::ZERO,
        },
        ..Policy::default()
    });
    Service::new(spec, None)
}

/// Waits until the metrics hold this line.
async fn told(node: &Node, line: &str) {
    soon(line, async {
        while !node.metrics().lines().any(|found| found.starts_with(line)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_whose_checks_fail_gets_no_requests_until_they_succeed() {
    let (well, sick) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let (good, bad) = (backend("good", &well).await, backend("bad", &sick).await);
    let plan = Plan {
        routes: vec![("PathPrefix(`/`)", checked(&[&good, &bad]))],
        ..Plan::default()
    };
    let node = plan.start();
    let of = |backend: &Backend| format!(r#"service="app@test",endpoint="{}""#, backend.address);
    let change = |to| {
        let of = of(&bad);
        format!(r#"constellation_endpoint_transitions_total{{{of},fact="check",to="{to}"}} 1"#)
    };
    told(&node, &change("unhealthy")).await;
    let mut client = node.connect().await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "good");
    }
    for (backend, outcome) in [(&good, "healthy"), (&bad, "status")] {
        let of = of(backend);
        told(
            &node,
            &format!(r#"constellation_endpoint_health_checks_total{{{of},outcome="{outcome}"}}"#),
        )
        .await;
    }
    sick.store(true, Ordering::SeqCst);
    told(&node, &change("healthy")).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(client.get("/").await.text().to_owned());
    }
    assert!(seen.contains(&"bad".to_owned()), "{seen:?}");
    soon("the end", node.plane.drain()).await;
}

/// When all checks fail, they are more likely to be wrong than right.
#[tokio::test]
async fn when_all_checks_fail_requests_are_served_all_the_same() {
    let sick = Arc::new(AtomicBool::new(false));
    let only = backend("only", &sick).await;
    let plan = Plan {
        routes: vec![("PathPrefix(`/`)", checked(&[&only]))],
        ..Plan::default()
    };
    let node = plan.start();
    told(
        &node,
        r#"constellation_endpoint_transitions_total{service="app@test",endpoint="",fact="panic",to="on"} 1"#,
    )
    .await;
    assert_eq!(node.connect().await.get("/").await.text(), "only");
}
