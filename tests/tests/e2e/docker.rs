//! Containers of a real Docker engine are routed by their labels, and what happens to them costs no request that
//! could be served.

use std::collections::BTreeSet;
use std::path::Path;

use constellation_tests::client::websocket::WebSocket;
use constellation_tests::docker::Engine;
use constellation_tests::load::Load;
use constellation_tests::node::Node;
use constellation_tests::{eventually, require};
use serde_json::{Value, json};

const ENABLED: &str = "traefik.enable=true";
const PORT: &str = "traefik.http.services.app.loadbalancer.server.port=8000";
const RULE: &str = "traefik.http.routers.app.rule=Host(`app.test`)";

async fn engine() -> Result<Engine, String> {
    Engine::start(Path::new(env!("CARGO_BIN_EXE_testkit-backend"))).await
}

async fn node(engine: &Engine, docker: Value) -> Node {
    let mut docker = docker;
    docker["endpoint"] = json!(engine.endpoint());
    Node::builder()
        .config(json!({ "providers": { "docker": docker, "file": null } }))
        .start()
        .await
}

/// Waits until `GET /` of `host` is served by every one of `backends`.
async fn served_by(node: &Node, host: &str, backends: &[&str]) {
    let mut missing: Vec<&str> = backends.to_vec();
    eventually(&format!("{host} is served by {backends:?}"), async || {
        let answer = node.get(host, "/").await;
        missing.retain(|name| *name != answer.header("x-backend"));
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("{} {missing:?}\n{}", answer.status, node.log()))
        }
    })
    .await;
}

/// Waits until the node has seen `count` of the service's endpoints as ready.
async fn ready_endpoints(node: &Node, router: &str, count: u64) {
    eventually(&format!("{router} has {count} ready endpoints"), async || {
        let routes = node.ask("/api/v1/routes").await.json();
        let route = routes["routes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|route| route["name"] == router);
        let ready = route.and_then(|route| route["ready_endpoints"].as_u64());
        if ready == Some(count) {
            Ok(())
        } else {
            Err(format!("{ready:?}: {routes:#}"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_make_routes() {
    let engine = require!(engine().await);
    engine
        .run(
            "plain_one",
            &[ENABLED, "traefik.http.services.x.loadbalancer.server.port=8000"],
        )
        .await;
    engine
        .run(
            "custom",
            &[
                ENABLED,
                "traefik.http.routers.c.rule=Host(`custom.test`) && PathPrefix(`/api`)",
                "traefik.http.services.c.loadbalancer.server.port=8000",
            ],
        )
        .await;
    engine
        .run_with(
            "exposed",
            &[ENABLED],
            &["--expose", "8000", "--expose", "9000/udp"],
        )
        .await;
    engine
        .run(
            "hidden",
            &["traefik.http.services.h.loadbalancer.server.port=8000"],
        )
        .await;
    engine
        .run("refused", &[ENABLED, "traefik.http.routers.r.nonsense=1"])
        .await;
    let node = node(&engine, json!({})).await;
    // The default rule normalises the container's name.
    served_by(&node, "plain-one", &["plain_one"]).await;
    served_by(&node, "exposed", &["exposed"]).await;
    assert_eq!(
        node.get("custom.test", "/api/x").await.header("x-backend"),
        "custom"
    );
    assert_eq!(node.get("custom.test", "/other").await.status, 404);
    for host in ["hidden", "refused"] {
        assert_eq!(node.get(host, "/").await.status, 404, "{host}");
    }
    // The container with the bad label is named with the reason; the others are untouched.
    let said = json!([{
        "subject": "container refused",
        "message": "label `traefik.http.routers.r.nonsense`: there is no option `nonsense` here; known are entryPoints, \
            middlewares, service, rule, parentRefs, ruleSyntax, priority, tls, observability; the container is not used",
    }]);
    assert_eq!(node.status().await["problems"], said);
    // Started later, routed by its event.
    engine.run("late", &[ENABLED, PORT, RULE]).await;
    served_by(&node, "app.test", &["late"]).await;
    drop(node);
    engine.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_replicas_are_killed_stopped_relabelled_and_the_engine_restarts() {
    let mut engine = require!(engine().await);
    let labels = [ENABLED, PORT, RULE];
    for name in ["one", "two", "three"] {
        engine.run(name, &labels).await;
    }
    let node = node(&engine, json!({})).await;
    served_by(&node, "app.test", &["one", "two", "three"]).await;
    let load = Load::start(node.web(), "app.test", "/", 6);
    load.more(100).await;

    engine.docker(&["kill", "one"]).await;
    ready_endpoints(&node, "app@docker", 2).await;
    load.more(100).await;
    engine.docker(&["stop", "two"]).await;
    ready_endpoints(&node, "app@docker", 1).await;
    load.more(100).await;
    engine.docker(&["start", "one"]).await;
    ready_endpoints(&node, "app@docker", 2).await;
    served_by(&node, "app.test", &["one", "three"]).await;

    // Relabelled: created anew under its name with another rule, while the others serve the old one.
    engine.docker(&["rm", "--force", "one"]).await;
    engine
        .run(
            "one",
            &[
                ENABLED,
                "traefik.http.routers.moved.rule=Host(`moved.test`)",
                "traefik.http.services.moved.loadbalancer.server.port=8000",
            ],
        )
        .await;
    served_by(&node, "moved.test", &["one"]).await;
    load.more(100).await;

    // The engine goes and comes back; its containers run on, and so do the routes.
    engine.stop_daemon().await;
    eventually("the node sees that the engine is gone", async || {
        let health = node.ask("/health").await.json();
        if health["status"] == "degraded" {
            Ok(())
        } else {
            Err(health.to_string())
        }
    })
    .await;
    load.more(100).await;
    engine.start_daemon().await;
    load.more(100).await;
    engine.kill_daemon().await;
    load.more(100).await;
    engine.start_daemon().await;
    engine.docker(&["start", "two"]).await;
    served_by(&node, "app.test", &["two", "three"]).await;

    let report = load.stop().await;
    report.assert_clean();
    drop(node);
    engine.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_replicas_may_stop_restart_or_be_killed_under_load() {
    let engine = require!(engine().await);
    let labels = [ENABLED, PORT, RULE];
    for name in ["one", "two"] {
        engine.run(name, &labels).await;
    }
    let node = node(&engine, json!({})).await;
    served_by(&node, "app.test", &["one", "two"]).await;
    let load = Load::start(node.web(), "app.test", "/", 40);
    load.more(400).await;
    for name in ["two", "one", "two"] {
        for end in ["stop", "kill"] {
            engine.docker(&[end, name]).await;
            load.more(400).await;
            engine.docker(&["start", name]).await;
            ready_endpoints(&node, "app@docker", 2).await;
            load.more(400).await;
        }
        engine.docker(&["restart", name]).await;
        ready_endpoints(&node, "app@docker", 2).await;
        load.more(400).await;
    }
    served_by(&node, "app.test", &["one", "two"]).await;
    let report = load.stop().await;
    report.assert_clean();
    drop(node);
    engine.remove().await;
}

/// Waits until the endpoint is in this state, and returns what the API says of it.
async fn endpoint_is(node: &Node, service: &str, endpoint: &str, state: &str) -> Value {
    eventually(&format!("{endpoint} is {state}"), async || {
        let answer = node.ask(&format!("/api/v1/services/{service}")).await.json();
        let endpoints = answer["endpoints"].as_array().cloned().unwrap_or_default();
        let found = endpoints.into_iter().find(|e| e["name"] == endpoint);
        match found {
            Some(found) if found["state"] == state => Ok(found),
            other => Err(format!("{other:?}\n{}", node.log())),
        }
    })
    .await
}

/// The back ends that serve a number of requests from now on.
async fn serving(node: &Node) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for _ in 0..40 {
        let answer = node.get("app.test", "/").await;
        assert_eq!(answer.status, 200);
        names.insert(answer.header("x-backend").to_owned());
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_pauses_and_operators_decide_who_takes_requests() {
    let engine = require!(engine().await);
    let labels = [ENABLED, PORT, RULE];
    let lingering = ["--env", "LINGER=1", "--stop-timeout", "1"];
    engine.run("stays", &labels).await;
    engine.run_with("lingers", &labels, &lingering).await;
    let node = node(&engine, json!({})).await;
    served_by(&node, "app.test", &["stays", "lingers"]).await;
    let both = BTreeSet::from(["lingers".to_owned(), "stays".to_owned()]);
    let alone = |name: &str| BTreeSet::from([name.to_owned()]);

    // A signal that ends nothing changes nothing, as the event after it shows.
    let generation = node.generation().await;
    engine.docker(&["kill", "--signal", "HUP", "lingers"]).await;
    engine.docker(&["pause", "lingers"]).await;
    let paused = endpoint_is(&node, "app", "lingers", "unavailable").await;
    assert_eq!(paused["reason"], "container lingers is paused");
    assert_eq!(node.generation().await, generation + 1);
    engine.docker(&["unpause", "lingers"]).await;
    endpoint_is(&node, "app", "lingers", "ready").await;
    assert_eq!(serving(&node).await, both);

    // Told to end it still accepts, and gets nothing. It does not end, so it is ready again.
    engine.docker(&["kill", "--signal", "TERM", "lingers"]).await;
    let leaving = endpoint_is(&node, "app", "lingers", "draining").await;
    assert_eq!(leaving["reason"], "container lingers is stopping");
    assert_eq!(serving(&node).await, alone("stays"));
    endpoint_is(&node, "app", "lingers", "ready").await;
    assert_eq!(serving(&node).await, both);

    // An operator takes the other one out and back.
    let drained = node.cli(&["drain", "app", "stays"]).await;
    assert_eq!(
        (drained.code, drained.stdout.as_str()),
        (
            0,
            "stays is draining: drained by an operator; 0 requests in flight\n"
        ),
        "{drained:#?}"
    );
    assert_eq!(serving(&node).await, alone("lingers"));
    let table = node.cli(&["services", "app"]).await;
    assert!(table.stdout.contains("drained by an operator"), "{table:#?}");
    // A restart of its container does not undo that.
    engine.docker(&["restart", "stays"]).await;
    assert_eq!(serving(&node).await, alone("lingers"));
    endpoint_is(&node, "app", "stays", "draining").await;
    let back = node.cli(&["undrain", "app", "stays"]).await;
    assert!(back.stdout.starts_with("stays is ready"), "{back:#?}");
    assert_eq!(serving(&node).await, both);
    drop(node);
    engine.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_told_to_stop_gets_nothing_new_and_keeps_its_websocket_to_its_end() {
    let engine = require!(engine().await);
    let labels = [ENABLED, PORT, RULE];
    engine.run_with("leaving", &labels, &["--env", "LINGER=1"]).await;
    let node = node(&engine, json!({})).await;
    served_by(&node, "app.test", &["leaving"]).await;
    let mut socket = WebSocket::open(node.web(), "app.test").await.unwrap();
    engine.run("staying", &labels).await;
    served_by(&node, "app.test", &["leaving", "staying"]).await;
    let load = Load::start(node.web(), "app.test", "/", 10);
    load.more(100).await;
    // Ten seconds from SIGTERM to SIGKILL, in which it goes on as if nothing had been said.
    let before = node.generation().await;
    let mut stop = Box::pin(engine.docker(&["stop", "--time", "10", "leaving"]));
    tokio::select! {
        _ = &mut stop => panic!("the container ended before the node left it alone"),
        _ = node.published_after(before) => {}
    }
    for number in 0..20 {
        assert_eq!(node.get("app.test", "/").await.header("x-backend"), "staying");
        socket.echo(&format!("still here {number}")).await;
    }
    stop.await;
    socket.ended().await;
    load.more(100).await;
    load.stop().await.assert_clean();
    drop(node);
    engine.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_route_of_a_stopped_container_answers_503_and_of_a_removed_one_404_after_a_while() {
    let engine = require!(engine().await);
    engine.run("app", &[ENABLED, PORT, RULE]).await;
    let node = node(&engine, json!({ "removedGracePeriod": "2s" })).await;
    served_by(&node, "app.test", &["app"]).await;

    engine.docker(&["stop", "app"]).await;
    let answer = node.answers("app.test", "/", 503).await;
    assert_eq!(answer.header("retry-after"), "5");
    engine.docker(&["start", "app"]).await;
    served_by(&node, "app.test", &["app"]).await;

    // Removed: 503 for as long as the grace period lasts, then 404.
    engine.docker(&["stop", "app"]).await;
    node.answers("app.test", "/", 503).await;
    engine.docker(&["rm", "app"]).await;
    let mut seen = Vec::new();
    eventually(
        "the removed container's route goes after its grace period",
        async || {
            let status = node.get("app.test", "/").await.status.as_u16();
            seen.push(status);
            if status == 404 { Ok(()) } else { Err(status) }
        },
    )
    .await;
    seen.dedup();
    assert_eq!(seen, [503, 404]);
    drop(node);
    engine.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_started_before_the_engine_finds_it() {
    let mut engine = require!(engine().await);
    engine.run("app", &[ENABLED, PORT, RULE]).await;
    engine.stop_daemon().await;
    let node = node(&engine, json!({})).await;
    assert_eq!(node.get("app.test", "/").await.status, 404);
    engine.start_daemon().await;
    served_by(&node, "app.test", &["app"]).await;
    drop(node);
    engine.remove().await;
}
