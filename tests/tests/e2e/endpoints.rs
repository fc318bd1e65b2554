//! Which endpoints take requests: active checks, live traffic, limits and times, and what the node says about it.

use std::net::SocketAddr;

use constellation_tests::backend::Backend;
use constellation_tests::client::http::{full, request};
use constellation_tests::client::wire::Wire;
use constellation_tests::client::{Client, get};
use constellation_tests::eventually;
use constellation_tests::fault::{Behaviour, FaultBackend};
use constellation_tests::node::{Node, route};
use http::Method;
use serde_json::{Value, json};

use super::balancing::{counts, expected};

/// A node with one service of these servers, `load_balancer` and options of our own added.
async fn node(urls: &[String], load_balancer: &Value, options: &Value) -> Node {
    let mut document = route("app.test", urls);
    for (key, value) in load_balancer.as_object().unwrap() {
        document["http"]["services"]["main"]["loadBalancer"][key] = value.clone();
    }
    document["constellation"] = json!({ "http": { "services": { "main": options } } });
    Node::builder()
        .dynamic("routes.json", &document.to_string())
        .start()
        .await
}

/// Waits until the endpoint at `url` is in this state, and returns what the API says of it.
async fn endpoint_is(node: &Node, url: &str, state: &str) -> Value {
    eventually(&format!("{url} is {state}"), async || {
        let answer = node.ask("/api/v1/services/main").await.json();
        let endpoints = answer["endpoints"].as_array().cloned().unwrap_or_default();
        match endpoints.into_iter().find(|endpoint| endpoint["url"] == url) {
            Some(found) if found["state"] == state => Ok(found),
            other => Err(format!("{other:?}\n{}", node.log())),
        }
    })
    .await
}

/// The line of a table or report that contains all of these.
fn line<'t>(text: &'t str, parts: &[&str]) -> &'t str {
    text.lines()
        .find(|line| parts.iter().all(|part| line.contains(part)))
        .unwrap_or_else(|| panic!("no line with {parts:?} in:\n{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn active_checks_take_an_endpoint_out_and_bring_it_back() {
    // Health is asked elsewhere than requests are served, so that only checks can know.
    let one = Backend::start("one").await;
    let two = Backend::listen("two", ([127, 0, 0, 2], 0).into(), None).await;
    let health_one = Backend::start("health of one").await;
    let at = |host: u8| SocketAddr::from(([127, 0, 0, host], health_one.address().port()));
    let health_two = Backend::listen("health of two", at(2), None).await;
    let check = json!({ "healthCheck": {
        "path": "/healthz", "port": at(1).port(), "interval": "100ms", "unhealthyInterval": "100ms", "timeout": "2s",
    } });
    let node = node(&[one.url(), two.url()], &check, &json!({ "slowStart": "0s" })).await;
    for url in [one.url(), two.url()] {
        let healthy = eventually("it was checked", async || {
            let endpoint = endpoint_is(&node, &url, "ready").await;
            if endpoint["standing"]["check"]["state"] == "healthy" {
                Ok(endpoint)
            } else {
                Err(endpoint)
            }
        });
        healthy.await;
    }
    assert_eq!(counts(&node, 10).await, expected([("one", 5), ("two", 5)]));
    assert_eq!(health_two.record().last().target, "/healthz");

    health_two.stop().await;
    let failed = endpoint_is(&node, &two.url(), "check-failed").await;
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("connection refused"), "{reason}");
    assert_eq!(counts(&node, 10).await, expected([("one", 10)]));
    let table = node.cli(&["services", "main"]).await.stdout;
    line(
        &table,
        &[&two.url(), "check-failed", "unhealthy", "connection refused"],
    );
    line(&table, &[&one.url(), "ready", "healthy"]);
    let explained = node.cli(&["explain", "http://app.test/"]).await.stdout;
    line(&explained, &["1. ", &one.url()]);
    let left_out = explained.split("left out").nth(1).unwrap_or_default();
    line(left_out, &[&two.url(), "health checks fail"]);
    line(left_out, &["connection refused"]);
    let metrics = node.metrics().await;
    let labels = [("endpoint", &*two.url())];
    assert_eq!(metrics.sum("constellation_endpoint_up", &labels), 0.0);
    assert_eq!(
        metrics.sum("constellation_endpoints_excluded", &[("reason", "check-failed")]),
        1.0
    );

    let _back = Backend::listen("health of two", at(2), None).await;
    endpoint_is(&node, &two.url(), "ready").await;
    assert_eq!(counts(&node, 10).await, expected([("one", 5), ("two", 5)]));
    // Each change is told once.
    let changes = node
        .log()
        .lines()
        .filter(|line| line.contains("unhealthy"))
        .count();
    assert_eq!(changes, 1, "{}", node.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_live_traffic_knows_is_shown() {
    let (alive, dead) = (Backend::start("alive").await, Backend::start("dead").await);
    let (urls, gone) = ([alive.url(), dead.url()], dead.url());
    dead.stop().await;
    let options = json!({ "outlier": { "ejection": "5m", "maxEjection": "5m" } });
    let node = node(&urls, &json!({}), &options).await;
    assert_eq!(counts(&node, 10).await, expected([("alive", 10)]));
    let table = node.cli(&["services"]).await.stdout;
    line(&table, &[&gone, "ejected"]);
    line(&table, &[&alive.url(), "ready"]);
    let explained = node.cli(&["explain", "http://app.test/"]).await.stdout;
    let left_out = explained.split("left out").nth(1).unwrap_or_default();
    line(left_out, &[&gone, "ejected"]);
    let metrics = node.metrics().await;
    assert_eq!(
        metrics.sum("constellation_endpoint_ejected", &[("endpoint", &*gone)]),
        2.0
    );
    assert_eq!(
        metrics.sum(
            "constellation_endpoint_transitions_total",
            &[("fact", "outlier"), ("to", "ejected")]
        ),
        1.0
    );
    // Connections that were refused cost nothing of the budget.
    assert_eq!(metrics.sum("constellation_retry_budget_tokens", &[]), 3.0);

    // Without anybody left all are used, and it is said.
    alive.stop().await;
    assert_eq!(node.get("app.test", "/").await.status, 502);
    let table = node.cli(&["services"]).await.stdout;
    line(&table, &["too few healthy endpoints", "main@file"]);
    let explained = node.cli(&["explain", "http://app.test/"]).await.stdout;
    line(&explained, &["(panic)"]);
    assert_eq!(node.metrics().await.sum("constellation_service_panic", &[]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_admits_so_many_requests_lets_some_wait_and_sends_the_others_away() {
    let backend = Backend::start("app").await;
    let limits = json!({ "limits": { "maxInFlight": 1, "queue": 1, "queueTimeout": "1m" } });
    let node = node(&[backend.url()], &json!({}), &limits).await;
    let web = node.web();
    let runs = tokio::spawn(async move { get(web, "app.test", "/gate").await });
    eventually("one request runs", async || match backend.waiting_at_gate() {
        1 => Ok(()),
        other => Err(other),
    })
    .await;
    let waits = tokio::spawn(async move { get(web, "app.test", "/gate").await });
    eventually("another one waits", async || {
        let metrics = node.metrics().await;
        match metrics.sum("constellation_service_queue_length", &[("service", "main@file")]) {
            1.0 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let refused = node.get("app.test", "/").await;
    assert_eq!(
        (refused.status.as_u16(), refused.header("retry-after")),
        (503, "5"),
        "{}",
        refused.text()
    );
    assert_eq!(
        backend.waiting_at_gate(),
        1,
        "the second one waits in front of the back end"
    );
    let refusals = [("service", "main@file"), ("reason", "full")];
    let refusals = node
        .metrics()
        .await
        .sum("constellation_service_queue_refused_total", &refusals);
    assert_eq!(refusals, 1.0);
    backend.open_gate();
    assert_eq!(runs.await.unwrap().status, 200);
    backend.open_gate();
    assert_eq!(waits.await.unwrap().status, 200);
    assert_eq!(node.get("app.test", "/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_place_longer_than_the_service_says() {
    let backend = Backend::start("app").await;
    let limits = json!({ "limits": { "maxInFlight": 1, "queueTimeout": "50ms" } });
    let node = node(&[backend.url()], &json!({}), &limits).await;
    let web = node.web();
    let runs = tokio::spawn(async move { get(web, "app.test", "/gate").await });
    eventually("one request runs", async || match backend.waiting_at_gate() {
        1 => Ok(()),
        other => Err(other),
    })
    .await;
    let refused = node.get("app.test", "/").await;
    assert_eq!(
        (refused.status.as_u16(), refused.header("retry-after")),
        (503, "5")
    );
    let refusals = [("service", "main@file"), ("reason", "timeout")];
    let refusals = node
        .metrics()
        .await
        .sum("constellation_service_queue_refused_total", &refusals);
    assert_eq!(refusals, 1.0);
    backend.open_gate();
    assert_eq!(runs.await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_for_the_service_is_refused() {
    let backend = Backend::start("app").await;
    let limits = json!({ "limits": { "maxBodyBytes": 10 } });
    let node = node(&[backend.url()], &json!({}), &limits).await;
    for (body, status) in [("0123456789", 200), ("0123456789a", 413)] {
        let mut post = request(Method::POST, "app.test", "/");
        *post.body_mut() = full(body);
        let mut client = Client::h1(node.web()).await.unwrap();
        assert_eq!(client.send(post).await.unwrap().status, status, "{body}");
    }
    assert_eq!(backend.record().count(), 1, "nothing of the second one was sent");
    let mut wire = Wire::connect(node.web()).await;
    wire.send("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n")
        .await;
    let answer = wire.read_to_close(constellation_tests::PATIENCE).await;
    assert_eq!(answer.status(), Some(413), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_times_of_a_service_end_attempts_and_requests() {
    let (hangs, other) = (
        FaultBackend::start("hangs").await,
        FaultBackend::start("other").await,
    );
    hangs.set(Behaviour::Hang).await;
    let urls = [hangs.url(), other.url()];
    // Nothing but the times ends an attempt here.
    let only = |retry: Value| {
        json!({
            "retry": retry, "breaker": false, "outlier": false, "hedge": { "unanswered": false },
        })
    };
    let patient = node(&urls, &json!({}), &only(json!({ "perTryTimeout": "600ms" }))).await;
    for _ in 0..2 {
        assert_eq!(patient.get("app.test", "/").await.status, 200);
    }
    let metrics = patient.metrics().await;
    assert_eq!(
        metrics.sum("constellation_retries_total", &[("reason", "timeout")]),
        1.0,
        "one of two requests goes to the one that hangs first"
    );
    other.set(Behaviour::Hang).await;
    assert_eq!(patient.get("app.test", "/").await.status, 504);
    let bounded = node(&urls, &json!({}), &only(json!({ "timeout": "200ms" }))).await;
    assert_eq!(bounded.get("app.test", "/").await.status, 504);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_slower_than_the_percentile_are_hedged() {
    let (slow, fast) = (
        FaultBackend::start("slow").await,
        FaultBackend::start("fast").await,
    );
    let urls = [slow.url(), fast.url()];
    let options = json!({
        "hedge": { "percentile": 95, "minDelay": "50ms", "unanswered": false }, "outlier": false,
    });
    let node = node(&urls, &json!({}), &options).await;
    let mut client = Client::h1(node.web()).await.unwrap();
    // Enough to know what is usual.
    for _ in 0..60 {
        assert_eq!(client.get("app.test", "/").await.status, 200);
    }
    slow.set(Behaviour::Ok { latency: 5000 }).await;
    for _ in 0..4 {
        assert_eq!(client.get("app.test", "/").await.status, 200);
    }
    let metrics = node.metrics().await;
    let won = metrics.sum("constellation_hedges_total", &[("outcome", "won")]);
    assert!(won >= 2.0, "{:#?}", metrics.samples());
    // What is won costs nothing.
    assert_eq!(metrics.sum("constellation_retry_budget_tokens", &[]), 3.0);
}
