//! The way from a Traefik to a node and back, as `docs/migration-from-traefik.md` tells it: nobody is refused on it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use constellation_tests::backend::Backend;
use constellation_tests::client::get;
use constellation_tests::load::Load;
use constellation_tests::node::{Node, route};
use constellation_tests::server::traefik::{self, Traefik, free_address};
use constellation_tests::{eventually, require, sandbox};
use serde_json::{Value, json};

/// The router in the document, and that of Traefik's own file.
const OURS: &str = "main-with-failover@http";
const ITS_OWN: &str = "main@file";

#[test]
fn nobody_is_refused_on_the_way_from_a_traefik_and_back() {
    let program = require!(traefik::program());
    require!(sandbox::run(&[], async move || there_and_back(&program).await));
}

/// The process that serves the node has this configuration from now on.
async fn become_(node: &Node, change: Value) {
    let text = std::fs::read(node.config_file()).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    for (section, value) in change.as_object().unwrap() {
        match value {
            Value::Null => {
                config.as_object_mut().unwrap().remove(section);
            }
            value => config[section] = value.clone(),
        }
    }
    std::fs::write(node.config_file(), config.to_string()).unwrap();
    node.upgrade().await.unwrap();
    eventually("one process is left", async || match node.processes().len() {
        1 => Ok(()),
        more => Err(format!("{more} processes")),
    })
    .await;
}

async fn there_and_back(program: &Path) {
    let [web, document, failover, own_port] = std::array::from_fn(|_| free_address());
    // One is what Traefik's own files name, two what ours do: so it shows by whose routes a request went.
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let files = tempfile::tempdir().unwrap();
    let own = route("app.test", &[one.url()]).to_string();
    std::fs::write(files.path().join("routes.yaml"), &own).unwrap();
    let arguments = |files: &Path| {
        let mut arguments = traefik::polling(&format!("http://{document}/api/dynamic"));
        arguments.push(format!("--providers.file.directory={}", files.display()));
        arguments.push("--providers.precedence=http,file".to_owned());
        arguments
    };

    // Alone.
    let old = Traefik::at(program, web, &arguments(files.path())).await;
    old.until("it serves", |all| all.contains_key(ITS_OWN)).await;

    // Beside: the same routes at a port of its own.
    let node = Node::builder()
        .config(json!({ "proxy": { "servedByFor": ["127.0.0.0/8"], "workers": 2 } }))
        .dynamic("routes.json", &route("app.test", &[two.url()]).to_string())
        .start()
        .await;
    for (host, path) in [("app.test", "/"), ("app.test", "/a/b?c=d"), ("other.test", "/")] {
        let (its, ours) = (get(web, host, path).await, node.get(host, path).await);
        assert_eq!(its.status, ours.status, "{host}{path}");
    }

    // Behind: Traefik takes its routes from the node.
    let provider =
        json!({ "address": document.to_string(), "failover": { "address": failover.to_string() } });
    let behind =
        json!({ "edge": { "mode": "behind-traefik", "steering": "off" }, "traefikProvider": provider });
    unbroken("behind", web, async || {
        become_(&node, behind.clone()).await;
        old.until("it has the node's routes", is_ours).await;
        goes_to(web, "two", false).await;
    })
    .await;

    // Instead: the kernel gives the node all that is new at the port, which Traefik still has.
    let steered = json!({
        "edge": { "mode": "direct", "steering": "ebpf" },
        "entryPoints": { "web": { "address": [own_port.to_string(), format!("{}/32:{}", web.ip(), web.port())] } },
    });
    unbroken("steered", web, async || {
        become_(&node, steered.clone()).await;
        goes_to(web, "two", true).await;
    })
    .await;
    // Nothing comes to it any more.
    unbroken("Traefik goes", web, async move || old.end().await).await;
    unbroken("instead", web, async || {
        let alone = json!({ "entryPoints": { "web": { "address": web.to_string() } } });
        become_(&node, alone).await;
        goes_to(web, "two", true).await;
    })
    .await;

    // And back, the same way. It does not matter that Traefik answers 404 to everything until it has read its routes.
    unbroken("steered again", web, async || {
        become_(&node, steered.clone()).await
    })
    .await;
    let new = unbroken("Traefik comes", web, async || {
        let new = Traefik::at(program, web, &arguments(files.path())).await;
        new.until("it has the node's routes", is_ours).await;
        new
    })
    .await;
    unbroken("behind again", web, async || {
        become_(&node, behind.clone()).await;
        goes_to(web, "two", false).await;
    })
    .await;

    // Alone again: it forgets the node's routes before the node goes.
    unbroken("withdrawn", web, async || {
        let mut withdrawn = provider.clone();
        withdrawn["withdraw"] = true.into();
        become_(&node, json!({ "traefikProvider": withdrawn })).await;
        new.until("it has its own routes alone", |all| {
            all.contains_key(ITS_OWN) && all.keys().all(|name| name.ends_with("@file"))
        })
        .await;
        goes_to(web, "one", false).await;
    })
    .await;
    unbroken("alone again", web, async move || node.end().await).await;

    let log = new.log();
    traefik::assert_taken(&log);
}

fn is_ours(routers: &BTreeMap<String, String>) -> bool {
    routers.get(OURS).is_some_and(|status| status == "enabled")
}

/// Takes a step, while clients come without pause, before it and after it: none of them is refused.
async fn unbroken<T>(step: &str, web: SocketAddr, take: impl AsyncFnOnce() -> T) -> T {
    let load = Load::connecting(web, "app.test", "/", 4);
    load.more(50).await;
    let taken = take().await;
    load.more(100).await;
    let report = load.stop().await;
    assert!(
        report.failures.is_empty(),
        "{step}: {:?} served, {:#?}",
        report.served,
        report.failures
    );
    report.assert_clean();
    taken
}

/// Waits until new connections are served by this back end, and by the node itself or not.
async fn goes_to(web: SocketAddr, backend: &str, by_node: bool) {
    eventually(&format!("requests go to {backend}"), async || {
        for _ in 0..20 {
            let answer = get(web, "app.test", "/").await;
            let itself = answer.headers.contains_key("x-constellation-router");
            if answer.header("x-backend") != backend || itself != by_node {
                return Err(format!("{}: {:?}", answer.status, answer.headers));
            }
        }
        Ok(())
    })
    .await;
}
