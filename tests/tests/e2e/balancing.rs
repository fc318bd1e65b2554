//! Requests are spread over the servers of a service exactly as their weights say.

use std::collections::BTreeMap;

use constellation_tests::backend::Backend;
use constellation_tests::client::Client;
use constellation_tests::node::Node;
use serde_json::json;

pub(super) async fn counts(node: &Node, requests: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut client = Client::h1(node.web()).await.unwrap();
    for _ in 0..requests {
        let answer = client.get("app.test", "/").await;
        *counts.entry(answer.echo().backend().to_owned()).or_default() += 1;
    }
    counts
}

pub(super) fn expected<const N: usize>(counts: [(&str, usize); N]) -> BTreeMap<String, usize> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn round_robin_gives_every_server_the_same() {
    let backends = [
        Backend::start("one").await,
        Backend::start("two").await,
        Backend::start("three").await,
    ];
    let urls: Vec<String> = backends.iter().map(Backend::url).collect();
    let node = Node::routing("app.test", &urls).await;
    assert_eq!(
        counts(&node, 30).await,
        expected([("one", 10), ("two", 10), ("three", 10)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_give_exact_shares() {
    let (five, two, none) = (
        Backend::start("five").await,
        Backend::start("two").await,
        Backend::start("none").await,
    );
    let document = json!({ "http": {
        "routers": { "r": { "rule": "Host(`app.test`)", "service": "s" } },
        "services": { "s": { "loadBalancer": { "servers": [
            { "url": five.url(), "weight": 5 },
            { "url": two.url(), "weight": 2 },
            { "url": none.url(), "weight": 0 },
        ] } } },
    } });
    let node = Node::builder()
        .dynamic("routes.json", &document.to_string())
        .start()
        .await;
    assert_eq!(counts(&node, 70).await, expected([("five", 50), ("two", 20)]));
    assert_eq!(none.record().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_change_elsewhere_does_not_restart_the_round() {
    let backends = [Backend::start("one").await, Backend::start("two").await];
    let urls: Vec<String> = backends.iter().map(Backend::url).collect();
    let node = Node::routing("app.test", &urls).await;
    let mut client = Client::h1(node.web()).await.unwrap();
    for round in 0..6 {
        let first = client.get("app.test", "/").await.echo().backend().to_owned();
        let before = node.generation().await;
        let other = json!({ "http": {
            "routers": { "other": { "rule": format!("Host(`other-{round}.test`)"), "service": "other" } },
            "services": { "other": { "loadBalancer": { "servers": [{ "url": urls[0] }] } } },
        } });
        node.write_dynamic("other.json", &other.to_string());
        node.published_after(before).await;
        let second = client.get("app.test", "/").await.echo().backend().to_owned();
        assert_ne!(first, second, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_costs_no_repeatable_request_and_repeats_no_other() {
    let (alive, dead) = (Backend::start("alive").await, Backend::start("dead").await);
    let urls = [dead.url(), alive.url()];
    dead.stop().await;
    let node = Node::routing("app.test", &urls).await;
    assert_eq!(counts(&node, 20).await, expected([("alive", 20)]));
    // Not a byte of it was sent, so even a POST may go to the other server; and it does so once.
    let mut client = Client::h1(node.web()).await.unwrap();
    alive.record().clear();
    for number in 0..10 {
        let mut request =
            constellation_tests::client::http::request(http::Method::POST, "app.test", "/order");
        *request.body_mut() = constellation_tests::client::http::full(format!("order {number}"));
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.echo().body(), format!("order {number}"));
    }
    assert_eq!(alive.record().count(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_server_dead_the_answer_is_502() {
    let dead = Backend::start("dead").await;
    let url = dead.url();
    dead.stop().await;
    let node = Node::routing("app.test", &[url]).await;
    assert_eq!(node.get("app.test", "/").await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_servers_answers_503_with_retry_after() {
    let node = Node::routing("app.test", &[]).await;
    let answer = node.get("app.test", "/").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "5"));
}
