//! A cluster serves while its nodes are replaced, stopped and killed, and while the edge moves: nobody's request is lost.

use std::net::SocketAddr;
use std::sync::mpsc;

use anyhow::{Result, ensure};
use constellation_tests::lab::{self, HOST, Lab, LabNode, Plan, until};
use constellation_tests::load::{Load, Report};
use constellation_tests::metrics::Metrics;
use constellation_tests::require;
use nix::sys::signal::Signal;
use tokio::sync::oneshot;

/// Clients of each node.
const CLIENTS: usize = 8;
/// Requests of them before and after whatever happens.
const SOME: usize = 100;
/// What n3 alone has.
const ONLY: &str = "only.test";

/// What n1 and n3 have, and check.
const CHECKED: &str = "checked.test";

/// A cluster that n1 is the edge of.
fn cluster(plan: &Plan) -> Lab {
    let lab = Lab::up(plan).unwrap();
    let only = serde_json::json!({ "http": {
        "routers": { "only": { "rule": format!("Host(`{ONLY}`)"), "service": "only" } },
        "services": { "only": { "loadBalancer": { "servers": [{ "url": "http://127.0.0.1:9000" }] } } },
    } });
    lab.node(3).write_dynamic("only.json", &only).unwrap();
    until("n1 has the edge, and the others pass on to it", || {
        for node in lab.nodes() {
            let lease = node.lease("lb_leader")?;
            ensure!(lease["holder"] == "n1", "{lease}");
            for host in [HOST, ONLY] {
                let routes = node.get("/api/v1/routes")?.body;
                ensure!(routes.contains(host), "{} does not know {host}", node.name());
            }
        }
        Ok(())
    })
    .unwrap();
    lab
}

/// What clients of two nodes get for `host` while `happens`.
pub(super) fn during(lab: &Lab, nodes: [usize; 2], host: &str, happens: impl FnOnce()) -> Report {
    let clients = lab.client().unwrap();
    let (ready, is_ready) = mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| {
            clients.within(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let of = |number| {
                        let at = SocketAddr::new(lab::address(number), 80);
                        Load::start(at, host, "/", CLIENTS)
                    };
                    let loads = nodes.map(of);
                    for load in &loads {
                        load.more(SOME).await;
                    }
                    ready.send(()).unwrap();
                    // Or whatever happens has panicked.
                    drop(stopped.await);
                    let mut all = Report::default();
                    for load in loads {
                        load.more(SOME).await;
                        let report = load.stop().await;
                        all.failures.extend(report.failures);
                        for (backend, count) in report.served {
                            *all.served.entry(backend).or_default() += count;
                        }
                    }
                    all
                })
            })
        });
        is_ready.recv().unwrap();
        happens();
        drop(stop);
        loading.join().unwrap().unwrap()
    })
}

fn upgrade(node: LabNode<'_>) {
    node.ok(&["upgrade"]).unwrap();
    until("one process is left", || {
        let left = node.processes();
        ensure!(left.len() == 1, "{left:?}");
        Ok(())
    })
    .unwrap();
}

fn upgrades_each(lab: &Lab) {
    for node in lab.nodes() {
        let report = during(lab, [1, 2], ONLY, || upgrade(node));
        report.assert_clean();
        lab.formed(1..=3).unwrap();
    }
}

#[test]
fn nothing_is_lost_while_each_node_is_upgraded() {
    require!(lab::possible());
    upgrades_each(&cluster(&Plan::test(3)));
}

#[test]
fn nothing_is_lost_while_each_node_is_upgraded_where_the_kernel_does_not_steer() {
    require!(lab::possible());
    let ordinary = serde_json::json!({ "edge": { "steering": "off" } });
    upgrades_each(&cluster(&Plan::test(3).config(ordinary)));
}

#[test]
fn nothing_is_lost_while_the_edge_moves_to_another_node_and_back() {
    require!(lab::possible());
    let lab = cluster(&Plan::test(3));
    let report = during(&lab, [1, 2], ONLY, || {
        for to in ["n2", "n1"] {
            lab.node(3).ok(&["lease", "transfer", "lb_leader", to]).unwrap();
            until("it has moved", || -> Result<()> {
                for node in lab.nodes() {
                    let lease = node.lease("lb_leader")?;
                    ensure!(lease["holder"] == to, "{lease}");
                }
                Ok(())
            })
            .unwrap();
        }
    });
    report.assert_clean();
}

#[test]
fn nothing_is_lost_while_a_node_is_stopped_and_killed_whose_service_others_have_too() {
    require!(lab::possible());
    let lab = cluster(&Plan::test(3));
    let report = during(&lab, [1, 2], HOST, || {
        lab.node(3).restart().unwrap();
        lab.formed(1..=3).unwrap();
        lab.node(3).kill().unwrap();
    });
    report.assert_clean();
}

/// Where a node would send a request for a host first.
pub(super) fn chosen(node: LabNode<'_>, host: &str) -> Result<String> {
    let explained = node.get(&format!("/api/v1/explain?url=http://{host}/"))?.json()?;
    let first = explained["candidates"][0]["name"].as_str();
    first
        .map(str::to_owned)
        .ok_or_else(|| anyhow::anyhow!("nobody: {explained}"))
}

/// How often a node has asked others for what they serve.
fn pulls(node: LabNode<'_>) -> f64 {
    let metrics = Metrics::parse(&node.get("/metrics").unwrap().body);
    let labels = [("service", "bulk"), ("direction", "out")];
    metrics.sum("constellation_link_calls_total", &labels)
}

#[test]
fn a_node_whose_instance_fails_its_check_is_not_chosen_elsewhere_and_nothing_is_asked_again_for_that() {
    require!(lab::possible());
    let lab = Lab::up(&Plan::test(3)).unwrap();
    let checked = serde_json::json!({ "http": {
        "routers": { "checked": { "rule": format!("Host(`{CHECKED}`)"), "service": "checked" } },
        "services": { "checked": { "loadBalancer": {
            "servers": [{ "url": "http://127.0.0.1:9000" }],
            "healthCheck": { "path": "/", "interval": "200ms", "timeout": "200ms" },
        } } },
    } });
    for number in [1, 3] {
        lab.node(number).write_dynamic("checked.json", &checked).unwrap();
    }
    let asked = lab.node(2);
    let chooses = |expected: &str| {
        until(&format!("n2 chooses {expected}"), || {
            let chosen = chosen(asked, CHECKED)?;
            ensure!(chosen == expected, "{chosen}");
            Ok(())
        })
        .unwrap();
    };
    // The one that is preferred, and the other one is known as well.
    chooses("node n1");
    until("n2 knows of n3", || {
        let services = asked.get("/api/v1/services/checked@file")?.json()?;
        ensure!(services["healthy_count"] == 2, "{services}");
        Ok(())
    })
    .unwrap();
    let before = pulls(asked);
    // No request is on its way that could find out.
    lab.node(1).signal_backend(Signal::SIGSTOP).unwrap();
    chooses("node n3");
    lab.node(1).signal_backend(Signal::SIGCONT).unwrap();
    chooses("node n1");
    assert_eq!(pulls(asked), before, "exports were asked for");
    // When it fails everywhere, the preferred one is tried all the same.
    for number in [1, 3] {
        lab.node(number).signal_backend(Signal::SIGSTOP).unwrap();
    }
    until("n2 knows that it fails everywhere", || {
        let explained = asked
            .get(&format!("/api/v1/explain?url=http://{CHECKED}/"))?
            .json()?;
        let candidates = explained["candidates"].as_array().map_or(0, Vec::len);
        let text = explained.to_string();
        ensure!(
            candidates == 2 && text.matches("as a last resort").count() >= 2,
            "{text}"
        );
        Ok(())
    })
    .unwrap();
    for number in [1, 3] {
        lab.node(number).signal_backend(Signal::SIGCONT).unwrap();
    }
    chooses("node n1");
    let text = asked.ok(&["nodes"]).unwrap();
    assert_eq!(text.matches("cpu ").count(), 3, "each has told its load: {text}");
}
