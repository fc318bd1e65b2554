//! A real DNS server behind the edge over UDP and TCP, and `dig`.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use constellation_tests::node::Node;
use constellation_tests::server::dns::{Dns, Programs, TEXTS};
use constellation_tests::{eventually, require};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// A node with the entry points `dns` (UDP) and `dns-tcp`.
async fn node(servers: &[&Dns], balancer: &Value) -> Node {
    let servers: Vec<Value> = servers
        .iter()
        .map(|server| json!({ "address": server.address().to_string() }))
        .collect();
    let mut udp = json!({ "servers": servers });
    for (key, value) in balancer.as_object().unwrap() {
        udp[key] = value.clone();
    }
    let document = json!({
        "udp": {
            "routers": { "dns": { "entryPoints": ["dns"], "service": "dns" } },
            "services": { "dns": { "loadBalancer": udp } },
        },
        "tcp": {
            "routers": { "dns": { "entryPoints": ["dns-tcp"], "rule": "HostSNI(`*`)", "service": "dns" } },
            "services": { "dns": { "loadBalancer": { "servers": servers } } },
        },
    });
    Node::builder()
        .config(json!({ "entryPoints": {
            "dns": { "address": "127.0.0.1:0/udp" }, "dns-tcp": { "address": "127.0.0.1:0" },
        } }))
        .dynamic("routes.json", &document.to_string())
        .start()
        .await
}

/// Small and large answers, and a hundred clients at once, each of which gets its own.
async fn answers(programs: &Programs, address: SocketAddr, protocol: &str) {
    let dig = async |question: &[&str]| programs.dig(address, &[question, &[protocol]].concat()).await;
    assert_eq!(dig(&["name.test", "TXT"]).await.ok(), "\"one\"");
    let large = dig(&["large.test", "TXT", "+bufsize=4096", "+ignore"]).await;
    let texts: BTreeSet<&str> = large.ok().lines().collect();
    assert_eq!(texts.len(), TEXTS, "{large:?}");
    assert!(texts.iter().all(|text| text.len() == 252), "{large:?}");

    let mut clients = JoinSet::new();
    for host in 0..100 {
        let (programs, protocol) = (programs.clone(), protocol.to_owned());
        clients.spawn(async move {
            let said = programs
                .dig(address, &[&format!("host{host}.test"), "A", &protocol])
                .await;
            assert_eq!(said.ok(), format!("10.9.8.{host}"));
        });
    }
    clients.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_is_answered_over_udp_and_tcp() {
    let programs = require!(Programs::find());
    let server = Dns::start(&programs, "one").await;
    let node = node(&[&server], &json!({})).await;
    for (edge, protocol) in [("dns", "+notcp"), ("dns-tcp", "+tcp")] {
        answers(&programs, server.address(), protocol).await;
        answers(&programs, node.entry_point(edge), protocol).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_spread_over_two_servers_and_leave_one_that_died() {
    let programs = require!(Programs::find());
    let (mut one, two) = (
        Dns::start(&programs, "one").await,
        Dns::start(&programs, "two").await,
    );
    let node = node(&[&one, &two], &json!({})).await;
    let names = async || {
        let mut names = BTreeSet::new();
        for _ in 0..6 {
            // Each `dig` has a port of its own, so it is a client of its own.
            let said = programs
                .dig(
                    node.entry_point("dns"),
                    &["name.test", "TXT", "+notcp", "+time=1"],
                )
                .await;
            names.insert(said.stdout.trim().to_owned());
        }
        names
    };
    let both = ["\"one\"", "\"two\""].map(str::to_owned);
    assert_eq!(names().await, BTreeSet::from(both));
    one.daemon().kill().await;
    eventually(
        "all are answered by the one that is left",
        async || match names().await {
            names if names == BTreeSet::from(["\"two\"".to_owned()]) => Ok(()),
            names => Err(format!("{names:?}")),
        },
    )
    .await;
}
