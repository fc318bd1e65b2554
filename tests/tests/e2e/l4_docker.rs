//! Containers of a real Docker engine with labels of TCP routers: a stop and a drain cost no new connection, and cut none
//! that is open.

use std::collections::BTreeSet;
use std::path::Path;

use constellation_tests::client::wire::Wire;
use constellation_tests::docker::Engine;
use constellation_tests::node::Node;
use constellation_tests::{eventually, require};
use serde_json::json;

const LABELS: [&str; 4] = [
    "traefik.enable=true",
    "traefik.tcp.routers.app.rule=HostSNI(`*`)",
    "traefik.tcp.routers.app.entrypoints=tcp",
    "traefik.tcp.services.app.loadbalancer.server.port=8000",
];

async fn node(engine: &Engine) -> Node {
    Node::builder()
        .config(json!({
            "entryPoints": { "tcp": { "address": "127.0.0.1:0" } },
            "providers": { "docker": { "endpoint": engine.endpoint() }, "file": null },
        }))
        .start()
        .await
}

/// Asks on an open connection who is at its other end: the back end speaks HTTP, which no router looks at.
async fn who(wire: &mut Wire) -> String {
    wire.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let (head, _) = wire.read_answer().await;
    let name = head.lines().find_map(|line| line.strip_prefix("x-backend: "));
    name.unwrap_or_else(|| panic!("no x-backend in {head}"))
        .to_owned()
}

/// Who takes new connections.
async fn taking(node: &Node) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for _ in 0..20 {
        let mut wire = Wire::connect(node.entry_point("tcp")).await;
        names.insert(who(&mut wire).await);
    }
    names
}

async fn taken_by(node: &Node, names: &[&str]) {
    let expected: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let ready = format!("{} ready endpoints", names.len());
    eventually(&ready, async || {
        let routes = node.ask("/api/v1/routes").await.json();
        let all = routes["routes"].as_array().cloned().unwrap_or_default();
        let route = all.iter().find(|route| route["name"] == "tcp/app@docker");
        match route.and_then(|route| route["ready_endpoints"].as_u64()) {
            Some(count) if count == names.len() as u64 => Ok(()),
            other => Err(format!("{other:?}: {routes:#}\n{}", node.log())),
        }
    })
    .await;
    assert_eq!(taking(node).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_and_a_drain_take_new_connections_away_and_cut_no_open_one() {
    let engine = require!(Engine::start(Path::new(env!("CARGO_BIN_EXE_testkit-backend"))).await);
    engine.run_with("leaving", &LABELS, &["--env", "LINGER=1"]).await;
    let node = node(&engine).await;
    taken_by(&node, &["leaving"]).await;
    let mut open = Wire::connect(node.entry_point("tcp")).await;
    assert_eq!(who(&mut open).await, "leaving");
    engine.run("staying", &LABELS).await;
    taken_by(&node, &["leaving", "staying"]).await;

    // An operator takes it out and back.
    let drained = node.cli(&["drain", "tcp/app", "leaving"]).await;
    assert_eq!(drained.code, 0, "{drained:#?}");
    assert_eq!(taking(&node).await, BTreeSet::from(["staying".to_owned()]));
    assert_eq!(who(&mut open).await, "leaving");
    let back = node.cli(&["undrain", "tcp/app", "leaving"]).await;
    assert_eq!(back.code, 0, "{back:#?}");
    taken_by(&node, &["leaving", "staying"]).await;

    // Docker tells it to end. For ten seconds it goes on as if nothing had been said.
    let before = node.generation().await;
    let mut stop = Box::pin(engine.docker(&["stop", "--time", "10", "leaving"]));
    tokio::select! {
        _ = &mut stop => panic!("the container ended before the node left it alone"),
        _ = node.published_after(before) => {}
    }
    assert_eq!(taking(&node).await, BTreeSet::from(["staying".to_owned()]));
    assert_eq!(who(&mut open).await, "leaving");
    stop.await;
    assert_eq!(taking(&node).await, BTreeSet::from(["staying".to_owned()]));
    drop(node);
    engine.remove().await;
}
