//! Members come and go: who is lost is replaced, who leaves or is removed is out for good, keys change under way.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::ensure;
use constellation_tests::lab::{self, Joining, Lab, LabNode, Plan, members, until};
use constellation_tests::require;

use crate::cluster::{identity, names};

fn know_only(lab: &Lab, nodes: &[usize], expected: &[&str]) {
    for number in nodes {
        until("the members are known", || {
            let names = names(lab.node(*number))?;
            ensure!(names == expected, "{names:?}");
            Ok(())
        })
        .unwrap();
    }
}

/// As after a new installation.
fn wipe(node: LabNode<'_>) {
    fs::remove_dir_all(node.data()).unwrap();
    fs::create_dir(node.data()).unwrap();
}

#[test]
fn a_dead_node_is_replaced_by_a_new_one_of_the_same_name() {
    require!(lab::possible());
    let lab = Lab::up(&Plan::test(3)).unwrap();
    let (first, lost) = (lab.node(1), lab.node(3));
    let before = identity(lost);
    lost.kill().unwrap();
    wipe(lost);
    // While the old one is a member there can be no second one of its name.
    let refused = lost.try_join(&Joining::by(first.token().unwrap())).unwrap();
    assert!(refused.stderr.contains("a node named n3"), "{refused:?}");
    until("it is removed", || first.ok(&["remove", "n3"])).unwrap();
    know_only(&lab, &[1, 2], &["n1", "n2"]);
    lost.join(&Joining::by(first.token().unwrap())).unwrap();
    lost.start().unwrap();
    lab.formed(1..=3).unwrap();
    let after = identity(lost);
    assert_eq!(after.0, before.0);
    assert_ne!(after.1, before.1, "it is another one");
    know_only(&lab, &[1, 2, 3], &["n1", "n2", "n3"]);
}

#[test]
fn a_node_that_leaves_is_out_and_may_come_again() {
    require!(lab::possible());
    let lab = Lab::up(&Plan::test(3)).unwrap();
    let (first, leaver) = (lab.node(1), lab.node(2));
    let before = identity(leaver);
    let said = leaver.ok(&["leave"]).unwrap();
    assert!(said.contains("node n2 has left"), "{said}");
    know_only(&lab, &[1, 3], &["n1", "n3"]);
    // It serves on, and is in no cluster.
    assert_eq!(leaver.get("/api/v1/cluster").unwrap().status, 409);
    leaver.restart().unwrap();
    assert_eq!(leaver.get("/api/v1/cluster").unwrap().status, 409);
    until("it serves on its own", || leaver.serves()?.by("n2")).unwrap();

    leaver.terminate().unwrap();
    leaver.join(&Joining::by(first.token().unwrap())).unwrap();
    leaver.start().unwrap();
    lab.formed(1..=3).unwrap();
    assert_ne!(identity(leaver).1, before.1);
}

#[test]
fn a_removed_node_is_refused_and_is_told_so() {
    require!(lab::possible());
    let lab = Lab::up(&Plan::test(3)).unwrap();
    let (first, removed) = (lab.node(1), lab.node(3));
    // It does not hear of its removal when it happens.
    lab.isolate(3).unwrap();
    until("it is removed", || first.ok(&["remove", "n3"])).unwrap();
    know_only(&lab, &[1, 2], &["n1", "n2"]);
    lab.heal().unwrap();
    until("it is refused", || {
        let report = removed.cluster()?;
        let others = members(&report).filter(|member| member["this"] != true);
        let online = others.filter(|member| member["online"] == true).count();
        ensure!(report["quorum"] == false && online == 0, "{report}");
        Ok(())
    })
    .unwrap();
    until("it knows", || {
        let log = removed.log();
        ensure!(
            log.contains("removed") || log.contains("is not a member"),
            "{log}"
        );
        Ok(())
    })
    .unwrap();
    // Its restart changes nothing.
    removed.restart().unwrap();
    assert_ne!(removed.cli(&["cordon", "n1"]).unwrap().code, 0);
    know_only(&lab, &[1, 2], &["n1", "n2"]);
    lab.formed(1..=2).unwrap();
}

#[test]
fn keys_and_certificates_change_and_nobody_goes_offline() {
    require!(lab::possible());
    let lab = Lab::up(&Plan::test(3)).unwrap();
    let certificates = || -> Vec<Vec<u8>> {
        let file = |node: LabNode<'_>| fs::read(node.data().join("cluster/node.pem")).unwrap();
        lab.nodes().map(file).collect()
    };
    let (before, done) = (certificates(), AtomicBool::new(false));
    let polls = std::thread::scope(|scope| {
        let poll = scope.spawn(|| {
            let mut polls = 0;
            let mut offline = Vec::new();
            while !done.load(Ordering::Relaxed) {
                for node in lab.nodes() {
                    let report = node.cluster().unwrap();
                    let gone = members(&report).filter(|member| member["online"] != true);
                    offline.extend(gone.map(|member| format!("{} says {member}", node.name())));
                    polls += 1;
                }
            }
            (polls, offline)
        });
        for node in lab.nodes() {
            node.ok(&["rotate", "gossip-key"]).unwrap();
            node.ok(&["rotate", "certificate"]).unwrap();
            let number = node.number();
            let renewed = until("the certificate is another one", || {
                let now = certificates();
                ensure!(now[number - 1] != before[number - 1], "it is the same");
                Ok(())
            });
            // Whatever happens, the other thread ends.
            if renewed.is_err() {
                done.store(true, Ordering::Relaxed);
            }
            renewed.unwrap();
        }
        let polls = poll_more(&lab);
        done.store(true, Ordering::Relaxed);
        let (counted, offline) = poll.join().unwrap();
        assert!(offline.is_empty(), "{offline:#?}");
        polls.min(counted)
    });
    assert!(polls > 0);
    lab.formed(1..=3).unwrap();
    // A connection with the new certificates, not only with those that were open.
    lab.node(2).restart().unwrap();
    lab.formed(1..=3).unwrap();
}

/// Everybody hears of everybody several more times, so that what was sealed with the last key has gone around.
fn poll_more(lab: &Lab) -> usize {
    for _ in 0..20 {
        lab.formed(1..=3).unwrap();
    }
    20
}
