//! The way from a Traefik to a node and back, as `docs/migration-from-traefik.md` tells it: nobody is refused on it.

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
    // Linux 5.14: what waits for a listener that goes is given to the other one of the port.
    std::fs::write("/proc/sys/net/ipv4/tcp_migrate_req", "1").unwrap();
    let [web, document, failover] = [free_address(), free_address(), free_address()];
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
    let old = Traefik::beside(program, web, &arguments(files.path())).await;
    old.until("it serves", |all| all.contains_key(ITS_OWN)).await;
    let load = Load::connecting(web, "app.test", "/", 4);
    load.more(100).await;

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
    load.more(100).await;

    // Behind: Traefik takes its routes from the node.
    let provider =
        json!({ "address": document.to_string(), "failover": { "address": failover.to_string() } });
    become_(
        &node,
        json!({ "edge": { "mode": "behind-traefik", "steering": "off" }, "traefikProvider": provider }),
    )
    .await;
    old.until("it has the node's routes", |all| {
        all.get(OURS).is_some_and(|s| s == "enabled")
    })
    .await;
    goes_to(web, "two", false).await;
    load.more(100).await;

    // Instead: the node takes the port as well, the kernel gives it all that is new, and Traefik goes.
    become_(
        &node,
        json!({
            "edge": { "mode": "direct", "steering": "ebpf" },
            "entryPoints": { "web": { "address": web.to_string(), "reusePort": true } },
        }),
    )
    .await;
    goes_to(web, "two", true).await;
    load.more(100).await;
    old.end().await;
    load.more(100).await;

    // And back, the same way: Traefik takes the port as well, and gets nothing until the node goes behind it. So it does not
    // matter that it answers 404 to everything until it has read its routes.
    let new = Traefik::beside(program, web, &arguments(files.path())).await;
    new.until("it has the node's routes", |all| {
        all.get(OURS).is_some_and(|s| s == "enabled")
    })
    .await;
    load.more(100).await;
    become_(
        &node,
        json!({ "edge": { "mode": "behind-traefik", "steering": "off" } }),
    )
    .await;
    goes_to(web, "two", false).await;
    load.more(100).await;

    // Alone again: it forgets the node's routes before the node goes.
    let mut withdrawn = provider.clone();
    withdrawn["withdraw"] = true.into();
    become_(&node, json!({ "traefikProvider": withdrawn })).await;
    new.until("it has its own routes alone", |all| {
        all.contains_key(ITS_OWN) && all.keys().all(|name| name.ends_with("@file"))
    })
    .await;
    goes_to(web, "one", false).await;
    node.end().await;
    load.more(100).await;

    let report = load.stop().await;
    println!("served: {:?}", report.served);
    report.assert_clean();
    let log = new.log();
    println!("lines of Traefik by level: {:?}", traefik::levels(&log));
    assert_eq!(traefik::refusals(&log), [""; 0]);
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
