//! What goes wrong at one node costs no request at the others that may be sent again: back ends and nodes that die, keys and
//! certificates that change or run out, and a disk that is full. All the while `GET`s come in without a pause, and each is
//! counted.

use std::fs;

use anyhow::{Result, ensure};
use constellation_tests::lab::{self, Joining, Lab, LabNode, Plan, Start, clock, until};
use constellation_tests::require;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::cluster_faults::fill;
use crate::cluster_serving::{chosen, during};

/// What n2 and n3 have, and n1 has not, which holds the edge: each request goes from node to node, to n2 as long as that serves.
const PAIR: &str = "pair.test";

fn write_pair(node: LabNode<'_>) {
    let pair = json!({ "http": {
        "routers": { "pair": { "rule": format!("Host(`{PAIR}`)"), "service": "pair" } },
        "services": { "pair": { "loadBalancer": { "servers": [{ "url": "http://127.0.0.1:9000" }] } } },
    } });
    node.write_dynamic("pair.json", &pair).unwrap();
}

/// Waits until n1 holds the edge and sends what is for both to n2.
fn settled(lab: &Lab) {
    until("n1 has the edge, and sends to n2", || {
        for node in lab.nodes() {
            let lease = node.lease("lb_leader")?;
            ensure!(lease["holder"] == "n1", "{lease}");
        }
        let (chosen, services) = (
            chosen(lab.node(1), PAIR)?,
            lab.node(1).get("/api/v1/services/pair@file")?.json()?,
        );
        ensure!(chosen == "node n2" && services["instances"] == 2, "{services}");
        Ok(())
    })
    .unwrap();
}

fn cluster() -> Lab {
    let lab = Lab::up(&Plan::test(3)).unwrap();
    for number in [2, 3] {
        write_pair(lab.node(number));
    }
    settled(&lab);
    lab
}

/// What clients of the nodes that stay get meanwhile.
fn nothing_is_lost(lab: &Lab, happens: impl FnOnce()) {
    during(lab, [1, 3], PAIR, happens).assert_clean();
}

#[test]
fn nothing_is_lost_when_a_back_end_of_another_node_dies() {
    require!(lab::possible());
    let lab = cluster();
    nothing_is_lost(&lab, || {
        lab.node(2).signal_backend(Signal::SIGKILL).unwrap();
    });
}

#[test]
fn nothing_is_lost_when_a_node_dies_that_requests_are_at() {
    require!(lab::possible());
    let lab = cluster();
    nothing_is_lost(&lab, || {
        lab.node(2).kill().unwrap();
        // Until nothing of it is left.
        until("n1 sends to n3", || {
            let chosen = chosen(lab.node(1), PAIR)?;
            ensure!(chosen == "node n3", "{chosen}");
            Ok(())
        })
        .unwrap();
        lab.node(2).start().unwrap();
        lab.formed(1..=3).unwrap();
    });
}

/// Clients of the others are carried to the holder by them: what it has not answered, the next holder does.
#[test]
fn nothing_is_lost_at_the_others_when_the_holder_of_the_edge_dies() {
    require!(lab::possible());
    let lab = cluster();
    for _ in 0..3 {
        let happens = || {
            lab.node(1).kill().unwrap();
            until("another one holds the edge", || {
                let lease = lab.node(2).lease("lb_leader")?;
                let holder = lease["holder"].as_str();
                ensure!(matches!(holder, Some("n2" | "n3")), "{lease}");
                Ok(())
            })
            .unwrap();
        };
        during(&lab, [2, 3], PAIR, happens).assert_clean();
        lab.node(1).start().unwrap();
        lab.formed(1..=3).unwrap();
        lab.node(2).ok(&["lease", "transfer", "lb_leader", "n1"]).unwrap();
        settled(&lab);
    }
}

fn certificates(lab: &Lab) -> Vec<Vec<u8>> {
    let file = |node: LabNode<'_>| fs::read(node.data().join("cluster/node.pem")).unwrap();
    lab.nodes().map(file).collect()
}

#[test]
fn nothing_is_lost_while_keys_and_certificates_change() {
    require!(lab::possible());
    let lab = cluster();
    nothing_is_lost(&lab, || {
        for node in lab.nodes() {
            let before = certificates(&lab);
            node.ok(&["rotate", "gossip-key"]).unwrap();
            node.ok(&["rotate", "certificate"]).unwrap();
            until("the certificate is another one", || {
                let at = node.number() - 1;
                ensure!(certificates(&lab)[at] != before[at], "it is the same");
                Ok(())
            })
            .unwrap();
        }
        lab.formed(1..=3).unwrap();
    });
}

#[test]
fn nothing_is_lost_when_all_certificates_run_out_at_once() {
    require!(lab::possible());
    require!(clock::library());
    let lab = Lab::prepare(&Plan::test(3)).unwrap();
    let clock = |node: LabNode<'_>| node.folder().join("clock");
    let start = |node: LabNode<'_>| -> Result<()> {
        let environment = clock::by_file(&clock(node)).map_err(anyhow::Error::msg)?;
        node.start_as(&Start { environment })
    };
    for node in lab.nodes() {
        fs::write(clock(node), "+0").unwrap();
    }
    lab.node(1).init().unwrap();
    start(lab.node(1)).unwrap();
    for number in [2, 3] {
        let node = lab.node(number);
        write_pair(node);
        node.join(&Joining::by(lab.node(1).token().unwrap())).unwrap();
        start(node).unwrap();
    }
    lab.formed(1..=3).unwrap();
    settled(&lab);
    let before = certificates(&lab);
    nothing_is_lost(&lab, || {
        // They are good for 30 days, and nobody had a chance to renew them in time.
        for node in lab.nodes() {
            let fresh = node.folder().join("clock.new");
            fs::write(&fresh, format!("+{}", 31 * 24 * 3600)).unwrap();
            fs::rename(fresh, clock(node)).unwrap();
        }
        until("all certificates are others", || {
            let now = certificates(&lab);
            for (at, (before, now)) in before.iter().zip(&now).enumerate() {
                ensure!(before != now, "that of n{} is the same", at + 1);
            }
            Ok(())
        })
        .unwrap();
    });
    // And connections are made with them, not only those kept that were there.
    nothing_is_lost(&lab, || {
        lab.node(2).terminate().unwrap();
        start(lab.node(2)).unwrap();
        lab.formed(1..=3).unwrap();
        settled(&lab);
    });
}

#[test]
fn nothing_is_lost_when_the_disk_of_a_node_is_full() {
    require!(lab::possible());
    let lab = Lab::prepare(&Plan::test(3)).unwrap();
    let full = lab.node(2);
    let data = full.data().display().to_string();
    let mount = ["-t", "tmpfs", "-o", "size=24m", "lab", &data];
    full.place().unwrap().run("mount", &mount).unwrap();
    lab.node(1).init().unwrap();
    lab.node(1).start().unwrap();
    for number in [2, 3] {
        let node = lab.node(number);
        write_pair(node);
        node.join(&Joining::by(lab.node(1).token().unwrap())).unwrap();
        node.start().unwrap();
    }
    lab.formed(1..=3).unwrap();
    settled(&lab);
    nothing_is_lost(&lab, || {
        fill(full, &full.data().join("ballast")).unwrap();
        until("it can't write", || {
            // An entry each, though it changes nothing.
            for _ in 0..20 {
                lab.node(1).ok(&["uncordon", "n3"])?;
            }
            ensure!(full.processes().is_empty(), "it runs");
            Ok(())
        })
        .unwrap();
        lab.formed([1, 3]).unwrap();
    });
}
