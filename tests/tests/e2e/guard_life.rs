//! The guard over stops, crashes and upgrades, beside steering, at devices that come and go, and without the right.

use constellation_tests::backend::Backend;
use constellation_tests::client::Client;
use constellation_tests::client::http::request;
use constellation_tests::node::{Node, constellation};
use constellation_tests::packet::datagram;
use constellation_tests::peer::{self, DEVICE, EDGE, Peer};
use constellation_tests::tun::Tun;
use constellation_tests::{eventually, require, sandbox};
use http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::guard::{ALICE, BOB, HOST, builder, cli, comes_in, edit, guard, lists, packets, pinned, web};

/// What the unit grants, and what the tests' files need of root.
const SERVICE: &str = "-all,+net_bind_service,+net_admin,+bpf,+perfmon";
/// Nothing that eBPF needs.
const NO_BPF: &str = "-bpf,-perfmon,-net_admin,-sys_admin";

#[test]
fn bans_outlast_a_stop_a_crash_and_an_upgrade() {
    require!(peer::run(&[], async |peer: Peer| {
        let backend = Backend::start("app").await;
        let mut node = builder(&backend).start().await;
        cli(&node, &format!("guard deny {ALICE} --for 1h --reason first")).await;
        cli(&node, &format!("guard allow {BOB}")).await;
        let before = lists(&node).await;

        node.upgrade().await.unwrap();
        node.exit().await;
        assert_eq!(
            without_seconds(lists(&node).await),
            without_seconds(before.clone())
        );
        assert!(!comes_in(&node, &peer, ALICE).await, "over an upgrade");
        cli(&node, "guard deny 192.0.2.0/24 --reason second").await;
        let pid = node.processes()[0];
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        eventually("it has gone", async || match node.processes().len() {
            0 => Ok(()),
            left => Err(left),
        })
        .await;
        let left = pinned(&node).await;
        assert!(
            left["links"].as_array().is_none_or(Vec::is_empty),
            "a clean stop leaves nothing: {left}"
        );

        let mut node = Node::builder().in_place_of(node).start().await;
        assert!(!comes_in(&node, &peer, ALICE).await, "over a stop");
        let after = lists(&node).await;
        assert_eq!(after["denied"][1]["reason"], "second", "{after}");
        assert_eq!(after["denied"][0]["until"], before["denied"][0]["until"]);

        node.signal(Signal::SIGKILL);
        node.exit().await;
        let crashed = pinned(&node).await;
        assert_eq!(
            crashed["links"].as_array().map(Vec::len),
            Some(1),
            "in force without a process"
        );
        let file = node.directory().join("data/guard.json");
        std::fs::write(&file, "{").unwrap();
        let node = Node::builder().in_place_of(node).start().await;
        assert!(node.log().contains("pins=\"reused\""), "{}", node.log());
        assert!(node.log().contains("put aside"), "{}", node.log());
        // The file of before the last change.
        assert_eq!(lists(&node).await["denied"].as_array().map(Vec::len), Some(1));
        assert!(!comes_in(&node, &peer, ALICE).await);
        assert_eq!(
            pinned(&node).await["links"][0]["id"],
            crashed["links"][0]["id"],
            "the same link"
        );
    }));
}

fn without_seconds(mut lists: Value) -> Value {
    for denied in lists["denied"].as_array_mut().unwrap() {
        denied["remaining_seconds"] = Value::Null;
    }
    lists
}

#[test]
fn steering_and_guard_come_and_go_alone() {
    require!(peer::run(&[], async |peer: Peer| {
        let backend = Backend::start("app").await;
        let names = async |node: &Node| {
            let links = pinned(node).await["links"].clone();
            let name = |link: &Value| {
                link["pin"]
                    .as_str()
                    .unwrap()
                    .rsplit('/')
                    .next()
                    .unwrap()
                    .to_owned()
            };
            let mut names: Vec<String> = links.as_array().into_iter().flatten().map(name).collect();
            names.iter_mut().for_each(|name| {
                let cut = name
                    .trim_end_matches(|c: char| c.is_ascii_digit() || c == '_')
                    .len();
                name.truncate(cut);
            });
            names
        };
        let both = ["edge_guard_tcx", "edge_steer"];
        let mut node = builder(&backend).steering().start().await;
        assert_eq!(names(&node).await, both);
        assert_eq!(pinned(&node).await["links"][0]["device"], DEVICE);
        cli(&node, &format!("guard deny {ALICE}")).await;
        assert_eq!(peer.get(BOB, web(), HOST).await, Ok(200));

        // A successor without steering takes only that away.
        edit(&node, |config| config["edge"]["steering"] = json!("off"));
        node.upgrade().await.unwrap();
        node.exit().await;
        eventually("steering is off", async || {
            let names = names(&node).await;
            (names == both[..1]).then_some(()).ok_or(format!("{names:?}"))
        })
        .await;
        assert!(!comes_in(&node, &peer, ALICE).await);
        assert_eq!(peer.get(BOB, web(), HOST).await, Ok(200));
        node.end().await;

        // After a crash with both, a start with steering alone.
        let mut node = builder(&backend).steering().start().await;
        node.signal(Signal::SIGKILL);
        node.exit().await;
        assert_eq!(names(&node).await, both);
        edit(&node, |config| config["edge"]["guard"]["mode"] = json!("off"));
        let node = Node::builder().in_place_of(node).start().await;
        assert_eq!(names(&node).await, both[1..]);
        assert_eq!(peer.get(BOB, web(), HOST).await, Ok(200));
        assert_eq!(node.status().await["steering"]["state"], "active");
        let maps = pinned(&node).await["maps"].clone();
        let names = maps
            .as_array()
            .unwrap()
            .iter()
            .map(|map| map["name"].as_str().unwrap().to_owned());
        assert!(names.into_iter().all(|name| name.starts_with("STEER")), "{maps}");
    }));
}

#[test]
fn devices_come_and_go_and_need_no_ethernet() {
    require!(peer::run(&[], async |_: Peer| {
        let backend = Backend::start("app").await;
        let node = builder(&backend)
            .config(json!({ "edge": { "guard": { "devices": ["mesh0"], "deny": ["100.64.0.9/32"] } } }))
            .start()
            .await;
        assert!(
            guard(&node).await["devices"][0]["problem"]
                .as_str()
                .unwrap()
                .contains("no such device")
        );
        let health = node.ask("/health").await;
        assert_eq!(
            (health.status.as_u16(), &health.json()["status"]),
            (200, &json!("degraded"))
        );
        for round in 1..3 {
            let tun = Tun::make("mesh0").unwrap();
            sandbox::ip("addr add 100.64.0.1/24 dev mesh0").unwrap();
            sandbox::ip("link set mesh0 up").unwrap();
            eventually("the guard is at the device", async || {
                let guard = guard(&node).await;
                (guard["devices"][0]["hook"] == "tcx").then_some(()).ok_or(guard)
            })
            .await;
            let denied = packets(&node, "denied").await;
            let to = "100.64.0.1:9".parse().unwrap();
            tun.receives(&datagram("100.64.0.9:9".parse().unwrap(), to, b"x"))
                .unwrap();
            tun.receives(&datagram("100.64.0.8:9".parse().unwrap(), to, b"x"))
                .unwrap();
            eventually("one of them is denied", async || {
                let now = packets(&node, "denied").await;
                (now == denied + 1).then_some(()).ok_or(now)
            })
            .await;
            drop(tun);
            eventually("the device is missed", async || {
                let guard = guard(&node).await;
                guard["devices"][0]["hook"].is_null().then_some(()).ok_or(guard)
            })
            .await;
            assert_eq!(node.log().matches("the guard is at this device").count(), round);
        }
        // Whoever takes it off has their way until it is asked for again.
        let _tun = Tun::make("mesh0").unwrap();
        let at = async |hook: Value| {
            eventually("the guard is where it should be", async || {
                let guard = guard(&node).await;
                (guard["devices"][0]["hook"] == hook).then_some(()).ok_or(guard)
            })
            .await;
        };
        at(json!("tcx")).await;
        cli(&node, "ebpf detach --force").await;
        at(Value::Null).await;
        assert!(
            node.log().contains("somebody took the guard off"),
            "{}",
            node.log()
        );
        node.signal(Signal::SIGHUP);
        at(json!("tcx")).await;
    }));
}

#[test]
fn without_the_right_the_node_runs_and_refuses_by_itself() {
    require!(peer::run(&[], async |peer: Peer| {
        let backend = Backend::start("app").await;
        {
            let node = builder(&backend).capabilities(SERVICE).start().await;
            assert_eq!(guard(&node).await["state"], "active");
            cli(&node, &format!("guard deny {ALICE} --for 1h")).await;
            assert!(!comes_in(&node, &peer, ALICE).await);
            node.signal(Signal::SIGKILL);
            eventually("it has gone", async || {
                peer.get(BOB, web(), HOST).await.err().ok_or("it serves")
            })
            .await;
        }
        let node = builder(&backend)
            .config(json!({ "edge": { "guard": { "mode": "auto" } } }))
            .capabilities(NO_BPF)
            .start()
            .await;
        assert_eq!(
            pinned(&node).await["links"].as_array().map_or(0, Vec::len),
            0,
            "what was left is gone"
        );
        let guard = guard(&node).await;
        assert_eq!(guard["state"], "denied", "{guard}");
        assert_eq!(
            guard["missing"],
            json!(["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"])
        );
        assert!(
            guard["stand_in"]
                .as_str()
                .unwrap()
                .contains("the node closes connections")
        );
        assert_eq!(node.ask("/health").await.json()["status"], "healthy");
        assert_eq!(peer.get(ALICE, web(), HOST).await, Ok(200));
        let said = cli(&node, &format!("guard deny {ALICE} --for 1h")).await;
        assert!(said.contains("the node itself closes connections"), "{said}");
        let client = Client::over(peer.connect(ALICE, web()).await.unwrap(), false, "http");
        let answer = client.await.unwrap().send(request(Method::GET, HOST, "/")).await;
        assert!(answer.is_err(), "closed unheard: {answer:?}");
        assert_eq!(peer.get(BOB, web(), HOST).await, Ok(200));
        let metrics = node.metrics().await;
        let refused = metrics.sum("constellation_refused_total", &[("reason", "denied")]);
        assert_eq!(refused, 1.0, "{}", node.ask("/metrics").await.text());
        cli(&node, &format!("guard allow {ALICE}")).await;
        assert_eq!(peer.get(ALICE, web(), HOST).await, Ok(200));
        let attack = node.cli(&["guard", "attack", "on"]).await;
        assert!(attack.stderr.contains("not in the kernel"), "{attack:?}");
        drop(node);

        let run = format!(
            "run --set control.address=127.0.0.1:0 --set entryPoints.web.address={EDGE}:81 --set edge.steering=off --set \
             edge.guard.mode=ebpf"
        );
        let refused = std::process::Command::new("setpriv")
            .args(["--bounding-set", NO_BPF, "--inh-caps", "-all"])
            .arg(constellation_tests::node::binary())
            .args(run.split(' '))
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(77), "{stderr}");
        assert!(
            stderr.contains("edge.guard.mode is ebpf") && stderr.contains("lacks CAP_BPF"),
            "{stderr}"
        );
        let unread = constellation(&["guard", "deny", "192.0.2.1", "--control", "127.0.0.1:1"], &[]).await;
        assert_eq!(unread.code, 69, "{unread:?}");
    }));
}
