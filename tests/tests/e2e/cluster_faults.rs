//! The network breaks and disks fill: a majority goes on, the rest says that it can't, and all come together again.

use std::path::Path;

use anyhow::{Result, ensure};
use constellation_tests::lab::{self, Joining, Lab, LabNode, Plan, until};
use constellation_tests::require;

use crate::cluster::names;

pub(super) fn leader(node: LabNode<'_>) -> Result<usize> {
    let report = node.cluster()?;
    let name = report["raft"]["leader"].as_str();
    let number = name.and_then(|name| name.strip_prefix('n')?.parse().ok());
    number.ok_or_else(|| anyhow::anyhow!("no leader: {report}"))
}

pub(super) fn has_no_quorum(node: LabNode<'_>) -> Result<()> {
    let report = node.cluster()?;
    ensure!(report["quorum"] == false, "{report}");
    Ok(())
}

#[test]
fn a_majority_goes_on_and_the_minority_says_that_it_can_not() {
    require!(lab::possible());
    let lab = Lab::up(&Plan::test(3)).unwrap();
    let leader = until("there is a leader", || leader(lab.node(1))).unwrap();
    let others: Vec<usize> = (1..=3).filter(|number| *number != leader).collect();
    lab.isolate(leader).unwrap();
    until("the minority knows", || has_no_quorum(lab.node(leader))).unwrap();
    let refused = lab.node(leader).cli(&["cordon", "n1"]).unwrap();
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(!refused.stderr.is_empty());
    // The others agree on something meanwhile.
    let (one, two) = (lab.node(others[0]), lab.node(others[1]));
    until("the majority goes on", || one.ok(&["cordon", &two.name()])).unwrap();
    let is_cordoned = |node: LabNode<'_>| {
        let node = node.get(&format!("/api/v1/nodes/{}", two.name()))?.json()?;
        ensure!(node["cordoned"] == true, "{node}");
        Ok(())
    };
    until("both know", || is_cordoned(one).and_then(|()| is_cordoned(two))).unwrap();

    lab.heal().unwrap();
    lab.formed(1..=3).unwrap();
    until("the third has caught up", || is_cordoned(lab.node(leader))).unwrap();
    until("all follow one", || {
        let leaders = lab.nodes().map(self::leader).collect::<Result<Vec<_>>>()?;
        ensure!(leaders.iter().all(|leader| *leader == leaders[0]), "{leaders:?}");
        Ok(())
    })
    .unwrap();
    until("it serves again", || one.ok(&["uncordon", &two.name()])).unwrap();
}

#[test]
fn nobody_has_a_majority_when_all_are_apart_and_all_find_together_again() {
    require!(lab::possible());
    let lab = Lab::up(&Plan::test(3)).unwrap();
    lab.partition(&[&[1], &[2], &[3]]).unwrap();
    for node in lab.nodes() {
        until(&format!("{} knows", node.name()), || has_no_quorum(node)).unwrap();
    }
    lab.heal().unwrap();
    lab.formed(1..=3).unwrap();
}

/// The host's data folder is a file system of its own that is full now.
pub(super) fn fill(node: LabNode<'_>, ballast: &Path) -> Result<()> {
    let text = format!("dd if=/dev/zero of={} bs=4k 2>/dev/null; sync", ballast.display());
    // dd ends with an error: that is the point.
    node.place()?
        .run("sh", &["-c", &format!("{text}; true")])
        .map(drop)
}

#[test]
fn a_node_whose_disk_is_full_ends_and_comes_back_when_there_is_room() {
    require!(lab::possible());
    let lab = Lab::prepare(&Plan::test(3)).unwrap();
    let (first, full) = (lab.node(1), lab.node(3));
    let data = full.data().display().to_string();
    let mount = ["-t", "tmpfs", "-o", "size=24m", "lab", &data];
    full.place().unwrap().run("mount", &mount).unwrap();
    first.init().unwrap();
    first.start().unwrap();
    for node in [lab.node(2), full] {
        node.join(&Joining::by(first.token().unwrap())).unwrap();
        node.start().unwrap();
    }
    lab.formed(1..=3).unwrap();
    until("it votes", || {
        let raft = full.get("/api/v1/raft/status")?.json()?;
        ensure!(raft["voters"] == 3, "{raft}");
        Ok(())
    })
    .unwrap();

    let ballast = full.data().join("ballast");
    fill(full, &ballast).unwrap();
    // What the others agree on has to be written down.
    let mut orders = ["cordon", "uncordon"].iter().cycle();
    let ended = until("it can't write", || {
        for order in orders.by_ref().take(20) {
            first.ok(&[order, "n2"])?;
        }
        ensure!(full.processes().is_empty(), "it runs");
        full.exit()
    })
    .unwrap();
    assert_eq!(ended.code(), Some(74), "{}", full.log_tail(20));
    let log = full.log();
    assert!(log.contains("the replicated log can't be kept"), "{log}");
    assert!(log.contains("no space is left on the device: free some"), "{log}");

    lab.formed(1..=2).unwrap();
    until("the others go on", || first.ok(&["uncordon", "n2"])).unwrap();
    full.place()
        .unwrap()
        .run("rm", &[&ballast.display().to_string()])
        .unwrap();
    full.start().unwrap();
    lab.formed(1..=3).unwrap();
    assert_eq!(names(full).unwrap(), ["n1", "n2", "n3"]);
}
