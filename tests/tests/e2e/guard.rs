//! Who is denied gets nothing in, who is allowed always does, and what was said outlasts the node.
//!
//! Each test has a network namespace with a cable to a peer's, so that its packets come in at a device.

use std::net::SocketAddr;

use constellation_tests::backend::Backend;
use constellation_tests::client::wire::Wire;
use constellation_tests::node::{Node, NodeBuilder, route};
use constellation_tests::peer::{self, DEVICE, PEERS, Peer};
use constellation_tests::{eventually, require};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

pub(crate) const HOST: &str = "app.test";
const WEB: &str = "10.9.0.1:8000";
pub(crate) const ALICE: &str = PEERS[0];
pub(crate) const BOB: &str = PEERS[1];
pub(crate) fn web() -> SocketAddr {
    WEB.parse().unwrap()
}

/// A node that guards the cable, and does not steer.
pub(crate) fn builder(backend: &Backend) -> NodeBuilder {
    Node::builder()
        .guarding(&[DEVICE])
        .config(json!({ "entryPoints": { "web": { "address": [WEB] } } }))
        .dynamic("routes.json", &route(HOST, &[backend.url()]).to_string())
}

pub(crate) async fn guard(node: &Node) -> Value {
    node.ask("/api/v1/guard").await.json()
}

pub(crate) async fn packets(node: &Node, verdict: &str) -> u64 {
    guard(node).await["packets"][verdict].as_u64().unwrap()
}

/// Whether a connection from one of the peer's addresses comes about; that it does not is known from the counter.
pub(crate) async fn comes_in(node: &Node, peer: &Peer, from: &str) -> bool {
    let denied = packets(node, "denied").await;
    let stream = peer.begin(from, web()).unwrap();
    eventually("a connection is made or denied", async || {
        if stream.peer_addr().is_ok() {
            return Ok(true);
        }
        if packets(node, "denied").await > denied {
            return Ok(false);
        }
        Err("neither")
    })
    .await
}

pub(crate) async fn cli(node: &Node, arguments: &str) -> String {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let answer = node.cli(&arguments).await;
    assert_eq!(answer.code, 0, "{arguments:?}: {answer:?}");
    answer.stdout
}

pub(crate) async fn lists(node: &Node) -> Value {
    node.cli(&["guard", "list", "--json"]).await.json()
}

pub(crate) fn edit(node: &Node, change: impl FnOnce(&mut Value)) {
    let text = std::fs::read(node.config_file()).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    change(&mut config);
    std::fs::write(node.config_file(), config.to_string()).unwrap();
}

pub(crate) async fn pinned(node: &Node) -> Value {
    node.cli(&["ebpf", "status", "--json"]).await.json()
}

async fn until_denied(node: &Node, count: usize) {
    eventually("so many prefixes are denied", async || {
        let guard = guard(node).await;
        (guard["denied"] == count)
            .then_some(())
            .ok_or(format!("{guard}\n{}", node.log()))
    })
    .await;
}

#[test]
fn a_ban_holds_until_it_ends_or_is_lifted_and_the_allow_list_wins() {
    require!(peer::run(&[], async |peer: Peer| {
        let backend = Backend::start("app").await;
        let node = builder(&backend).start().await;
        assert_eq!(peer.get(ALICE, web(), HOST).await, Ok(200));
        let said = cli(&node, &format!("guard deny {ALICE} 192.0.2.0/24 --reason scans")).await;
        assert!(said.contains(&format!("denied: {ALICE}/32")), "{said}");
        assert!(!comes_in(&node, &peer, ALICE).await);
        assert_eq!(peer.get(BOB, web(), HOST).await, Ok(200), "a neighbour");
        // It is told why, once in a while.
        eventually("the event arrives", async || {
            let guard = guard(&node).await;
            let event = &guard["events"][0];
            let told = event["source"] == ALICE && event["reason"] == "scans" && event["verdict"] == "denied";
            told.then_some(()).ok_or(guard.to_string())
        })
        .await;

        cli(&node, &format!("guard allow {ALICE} --reason office")).await;
        assert!(comes_in(&node, &peer, ALICE).await, "allowed, and denied as well");
        let both = lists(&node).await;
        assert_eq!(both["allowed"][0]["reason"], "office");
        assert_eq!(both["denied"][0]["origin"], "operator");
        let text = cli(&node, "guard list").await;
        assert!(text.contains("LIST") && text.contains("scans"), "{text}");
        cli(&node, &format!("guard disallow {ALICE}")).await;
        assert!(!comes_in(&node, &peer, ALICE).await);
        cli(&node, &format!("guard undeny {ALICE}")).await;
        assert!(comes_in(&node, &peer, ALICE).await);
        let said = cli(&node, &format!("guard undeny {ALICE}")).await;
        assert!(said.contains("is not on the deny list"), "{said}");

        // One that ends by itself, inside one that does not: the longer prefix must not hide the other for ever.
        cli(&node, "guard deny 10.9.0.4/31").await;
        cli(&node, "guard deny 10.9.0.4 --for 1s").await;
        assert!(!comes_in(&node, &peer, "10.9.0.4").await);
        until_denied(&node, 2).await;
        assert!(
            !comes_in(&node, &peer, "10.9.0.4").await,
            "still denied by the network"
        );
        cli(&node, "guard undeny 10.9.0.4/31").await;
        assert!(comes_in(&node, &peer, "10.9.0.4").await);

        let metrics = node.metrics().await;
        assert_eq!(metrics.sum("constellation_guard_denied_prefixes", &[]), 1.0);
        assert_eq!(metrics.sum("constellation_guard_allowed_prefixes", &[]), 0.0);
        assert_eq!(
            metrics.sum("constellation_guard_bans_total", &[("source", "operator")]),
            4.0
        );
        let attached = [("device", DEVICE), ("hook", "tcx")];
        assert_eq!(metrics.sum("constellation_guard_attached", &attached), 1.0);
        assert!(metrics.sum("constellation_guard_packets_total", &[("verdict", "denied")]) >= 4.0);
        assert!(metrics.sum("constellation_guard_events_total", &[("verdict", "denied")]) >= 1.0);
        let status = cli(&node, "status").await;
        assert!(
            status.contains("guard        active at edge/tcx: 1 denied, 0 allowed"),
            "{status}"
        );
        assert!(status.contains("steering     disabled"), "{status}");
    }));
}

#[test]
fn nobody_changes_the_lists_unasked_or_locks_themselves_out() {
    require!(peer::run(&[], async |peer: Peer| {
        let backend = Backend::start("app").await;
        let node = builder(&backend)
            .config(json!({ "control": { "address": "10.9.0.1:0" } }))
            .start()
            .await;
        // Whoever reads may not write, from wherever.
        let file = format!("run/node-{}.token", node.pid());
        let token = std::fs::read_to_string(node.directory().join(file)).unwrap();
        let body = json!({ "prefixes": ["192.0.2.1"] }).to_string();
        let text = format!(
            "POST /api/v1/guard/deny HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let post = |token: &str| match token {
            "" => text.clone(),
            token => text.replacen("Host:", &format!("Authorization: Bearer {token}\r\nHost:"), 1),
        };
        for (token, status) in [("", 401), ("wrong", 401), (token.as_str(), 200)] {
            let mut wire = Wire::connect(node.control()).await;
            wire.send(post(token)).await;
            let answer = wire.read_to_close(constellation_tests::PATIENCE).await;
            assert_eq!(answer.status(), Some(status), "{token:?}: {}", answer.text());
        }
        assert_eq!(guard(&node).await["denied"], 1);

        let ask = async |arguments: &str| {
            let arguments: Vec<&str> = arguments.split(' ').collect();
            node.cli(&arguments).await
        };
        for (prefix, words) in [
            ("0.0.0.0/0", "is everybody"),
            ("128.0.0.0/1", "1/256"),
            ("10.9.0.0/24", "where you come from"),
            ("10.9.0.1/24", "bits beyond its prefix"),
        ] {
            let refused = ask(&format!("guard deny {prefix}")).await;
            assert_eq!(refused.code, 2, "{prefix}: {refused:?}");
            assert!(refused.stderr.contains(words), "{prefix}: {}", refused.stderr);
        }
        // The same through the API from elsewhere, where the caller is the peer.
        let denial = json!({ "prefixes": ["10.9.0.2/31"] });
        let call = async |body: &Value| {
            let stream = peer.connect(BOB, node.control()).await.unwrap();
            let body = body.to_string();
            let mut wire = Wire::over(stream);
            wire.send(format!(
                "POST /api/v1/guard/deny HTTP/1.1\r\nHost: 10.9.0.1\r\nAuthorization: Bearer {token}\r\n\
                 Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await;
            wire.read_to_close(constellation_tests::PATIENCE).await
        };
        let refused = call(&denial).await;
        assert_eq!(refused.status(), Some(422), "{}", refused.text());
        assert!(
            refused.text().contains("holds 10.9.0.3, where you come from"),
            "{}",
            refused.text()
        );
        cli(&node, &format!("guard allow {BOB}")).await;
        let denied = call(&denial).await;
        assert_eq!(denied.status(), Some(200), "{}", denied.text());
        assert!(comes_in(&node, &peer, BOB).await, "who is allowed stays in");
        let broken = call(&json!({ "prefixes": "192.0.2.1" })).await;
        assert_eq!(broken.status(), Some(422), "{}", broken.text());
        let forced = ask("guard deny 0.0.0.0/0 --force --for 1m").await;
        assert!(
            forced.stdout.contains("is everybody; it was forced"),
            "{forced:?}"
        );
        assert!(comes_in(&node, &peer, BOB).await);
        assert!(!comes_in(&node, &peer, "10.9.0.8").await);
    }));
}

#[test]
fn a_reload_applies_the_whole_section() {
    require!(peer::run(&[], async |peer: Peer| {
        let backend = Backend::start("app").await;
        let node = builder(&backend)
            .config(json!({ "edge": { "guard": { "mode": "off" } } }))
            .start()
            .await;
        assert_eq!(guard(&node).await["state"], "disabled");
        assert_eq!(node.ask("/health").await.status, 200);
        let refused = node.cli(&["guard", "deny", "192.0.2.1"]).await;
        assert!(refused.stderr.contains("edge.guard.mode is off"), "{refused:?}");
        let reload = |change: &dyn Fn(&mut Value)| {
            edit(&node, |config| change(&mut config["edge"]["guard"]));
            node.signal(Signal::SIGHUP);
        };

        reload(&|guard| {
            guard["mode"] = json!("auto");
            guard["devices"] = json!(["auto"]);
            guard["deny"] = json!([format!("{ALICE}/32")]);
        });
        until_denied(&node, 1).await;
        assert!(
            !comes_in(&node, &peer, ALICE).await,
            "the device of the default route"
        );
        let said = cli(&node, &format!("guard undeny {ALICE}")).await;
        assert!(said.contains("is in edge.guard.deny: remove it there"), "{said}");

        reload(&|guard| {
            guard["deny"] = json!([]);
            guard["allow"] = json!([format!("{BOB}/32")]);
            guard["connections"] = json!({ "perSecond": 1, "burst": 2 });
        });
        until_denied(&node, 0).await;
        // More connections than the limit admits: nobody is told, the packets are gone.
        let limited = packets(&node, "syn_limited").await;
        let flood: Vec<_> = (0..20).map(|_| peer.begin(ALICE, web()).unwrap()).collect();
        eventually("connections are limited", async || {
            let now = packets(&node, "syn_limited").await;
            (now > limited).then_some(()).ok_or(now)
        })
        .await;
        drop(flood);
        for _ in 0..20 {
            assert_eq!(
                peer.get(BOB, web(), HOST).await,
                Ok(200),
                "who is allowed has no limit"
            );
        }
        assert!(packets(&node, "allowed").await > 0);

        reload(&|guard| guard["deny"] = json!(["0.0.0.0/33"]));
        eventually("the mistake is told", async || {
            let log = node.log();
            log.contains("edge.guard.deny").then_some(()).ok_or(log)
        })
        .await;
        assert_eq!(guard(&node).await["state"], "active");
        reload(&|guard| {
            guard["deny"] = json!([]);
            guard["mode"] = json!("off");
        });
        eventually("the guard is off", async || {
            let guard = guard(&node).await;
            (guard["state"] == "disabled").then_some(()).ok_or(guard)
        })
        .await;
        assert_eq!(pinned(&node).await["links"].as_array().map_or(0, Vec::len), 0);
        assert!(!node.log().contains("need a restart"), "{}", node.log());
    }));
}

#[test]
fn ten_thousand_prefixes_are_loaded_at_once() {
    require!(peer::run(&[], async |peer: Peer| {
        let backend = Backend::start("app").await;
        let node = builder(&backend).start().await;
        let file = node.directory().join("list");
        let networks = (0..10_000).map(|n| format!("100.{}.{}.0/24", 64 + n / 256, n % 256));
        let addresses = [
            format!("{ALICE} # the peer"),
            "2001:db8::/32".to_owned(),
            String::new(),
        ];
        let lines: Vec<String> = networks.chain(addresses).collect();
        std::fs::write(&file, lines.join("\n")).unwrap();
        let said = cli(&node, &format!("guard deny --for 1h --file {}", file.display())).await;
        assert_eq!(said, "denied: 10002 prefixes\n");
        assert_eq!(guard(&node).await["denied"], 10_002);
        assert!(!comes_in(&node, &peer, ALICE).await);
        assert_eq!(peer.get(BOB, web(), HOST).await, Ok(200));
        let node = {
            let mut node = node;
            node.signal(Signal::SIGTERM);
            assert_eq!(node.exit().await.code(), Some(0), "{}", node.log());
            Node::builder().in_place_of(node).start().await
        };
        assert_eq!(guard(&node).await["denied"], 10_002, "kept");
        assert!(!comes_in(&node, &peer, ALICE).await);
        let said = cli(&node, &format!("guard undeny --file {}", file.display())).await;
        assert_eq!(said, "no longer denied: 10002 prefixes\n");
        assert!(comes_in(&node, &peer, ALICE).await);
    }));
}
