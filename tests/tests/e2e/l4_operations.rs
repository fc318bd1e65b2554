//! What an operator sees: `routes` of all kinds, `explain tcp://`.

use constellation_tests::backend::Backend;
use constellation_tests::node::Node;
use constellation_tests::stream::Echo;
use serde_json::{Value, json};

/// A node with a router of each kind.
async fn node(http: &Backend, tcp: &[&Echo]) -> Node {
    let servers: Vec<Value> = tcp
        .iter()
        .map(|echo| json!({ "address": echo.address().to_string() }))
        .collect();
    let document = json!({
        "http": {
            "routers": { "app": { "rule": "Host(`app.test`)", "service": "app", "entryPoints": ["web"] } },
            "services": { "app": { "loadBalancer": { "servers": [{ "url": http.url() }] } } },
        },
        "tcp": {
            "routers": {
                "app": { "rule": "HostSNI(`*`)", "service": "app", "entryPoints": ["tcp"] },
                "named": {
                    "rule": "HostSNI(`db.test`)", "service": "app", "entryPoints": ["tls"],
                    "tls": { "passthrough": true },
                },
            },
            "services": { "app": { "loadBalancer": { "servers": servers } } },
        },
        "udp": {
            "routers": { "app": { "service": "app", "entryPoints": ["udp"] } },
            "services": { "app": { "loadBalancer": { "servers": [{ "address": "127.0.0.1:9" }] } } },
        },
    });
    Node::builder()
        .config(json!({ "entryPoints": {
            "tcp": { "address": "127.0.0.1:0" },
            "tls": { "address": "127.0.0.1:0" },
            "udp": { "address": "127.0.0.1:0/udp" },
        } }))
        .dynamic("routes.json", &document.to_string())
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_lists_all_three_kinds() {
    let http = Backend::start("app").await;
    let echo = Echo::plain("one").await;
    let node = node(&http, &[&echo]).await;
    let routes = node.cli(&["routes"]).await;
    assert_eq!(routes.code, 0, "{routes:#?}");
    for name in ["app@file", "tcp/app@file", "tcp/named@file", "udp/app@file"] {
        let named = |line: &str| line.split_whitespace().any(|word| word == name);
        assert!(routes.stdout.lines().any(named), "{name} in {}", routes.stdout);
    }
}
