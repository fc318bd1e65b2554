//! Nodes get into a cluster, stay in it, and never make one by themselves.

use constellation_tests::lab::{self, Joining, Lab, LabNode, Plan, Start, clock, members, until};
use constellation_tests::metrics::Metrics;
use constellation_tests::require;
use serde_json::Value;

/// The cluster and the number of this node in it, as it says itself.
pub(super) fn identity(node: LabNode<'_>) -> (String, u64) {
    let report = node.cluster().unwrap();
    let own = members(&report).find(|member| member["this"] == true).unwrap();
    (
        report["cluster"].as_str().unwrap().to_owned(),
        own["id"].as_u64().unwrap(),
    )
}

/// The names of all members that a node knows.
pub(super) fn names(node: LabNode<'_>) -> anyhow::Result<Vec<String>> {
    let report = node.cluster()?;
    let mut names: Vec<String> = members(&report)
        .filter_map(|member| member["name"].as_str())
        .map(str::to_owned)
        .collect();
    names.sort();
    Ok(names)
}

fn condition(node: LabNode<'_>, name: &str) -> Value {
    let health: Value = serde_json::from_str(&node.get("/health").unwrap().body).unwrap();
    let conditions = health["conditions"].as_array().unwrap().iter();
    conditions
        .into_iter()
        .find(|one| one["name"] == name)
        .unwrap()
        .clone()
}

#[test]
fn three_nodes_form_and_everybody_sees_everybody() {
    require!(lab::possible());
    let lab = Lab::up(&Plan::test(3)).unwrap();
    let (cluster, _) = identity(lab.node(1));
    for node in lab.nodes() {
        assert_eq!(names(node).unwrap(), ["n1", "n2", "n3"]);
        assert_eq!(identity(node).0, cluster);
        let text = node.ok(&["nodes"]).unwrap();
        assert_eq!(text.matches("online").count(), 3, "{text}");
        // Each becomes a voter by itself, and all follow the same leader.
        until("three voters and a leader", || {
            let raft = node.get("/api/v1/raft/status")?.json()?;
            anyhow::ensure!(raft["voters"] == 3 && raft["leader"].is_string(), "{raft}");
            Ok(())
        })
        .unwrap();
        let status = node.get("/api/v1/status").unwrap().json().unwrap();
        assert_eq!(
            (&status["nodes"], &status["quorum"]),
            (&3.into(), &true.into()),
            "{status}"
        );
        assert_eq!(condition(node, "cluster")["ok"], true);
    }
}

/// What a refused join leaves: nothing.
fn is_in_no_cluster(node: LabNode<'_>) {
    let left: Vec<_> = std::fs::read_dir(node.data())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name == "cluster" || name == "raft")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn who_may_not_join_is_told_why_and_nothing_is_written() {
    require!(lab::possible());
    require!(clock::library());
    let lab = Lab::prepare(&Plan::test(4)).unwrap();
    let (first, joiner, member, stranger) = (lab.node(1), lab.node(2), lab.node(3), lab.node(4));
    for founder in [first, stranger] {
        founder.init().unwrap();
        founder.start().unwrap();
    }
    let used = Joining::by(first.token().unwrap());
    member.join(&used).unwrap();
    let good = Joining::by(first.token().unwrap());
    let short = Joining::by(first.ok(&["token", "create", "--for", "1m"]).unwrap());
    let refused = |joining: &Joining, expected: &[&str]| {
        let cli = joiner.try_join(joining).unwrap();
        assert_ne!(cli.code, 0, "{cli:?}");
        for word in expected {
            assert!(cli.stderr.contains(word), "{word:?} is not in {cli:?}");
        }
        assert!(cli.stdout.is_empty(), "{cli:?}");
        is_in_no_cluster(joiner);
    };
    let with = |change: &dyn Fn(&mut Joining)| {
        let mut joining = good.clone();
        change(&mut joining);
        joining
    };
    refused(
        &with(&|joining| joining.token = "swordfish".into()),
        &["no join token"],
    );
    refused(
        &with(&|joining| {
            // One character of the secret is another one.
            let at = joining.token.len() - 40;
            let other = if joining.token.as_bytes()[at] == b'a' {
                "b"
            } else {
                "a"
            };
            joining.token.replace_range(at..=at, other);
        }),
        &["join token", "copy it again"],
    );
    // A token of another cluster, at this one: whoever answers is not whom the token vouches for.
    refused(&Joining::by(stranger.token().unwrap()), &["cluster"]);
    refused(&used, &["was used", "node n3"]);
    refused(
        &with(&|joining| joining.arguments = vec!["--set".into(), "node.name=n1".into()]),
        &[
            "a node named n1 is in the cluster already",
            "constellation remove n1",
        ],
    );
    refused(
        &with(&|joining| joining.environment = clock::off("+5h").unwrap()),
        &["clock", "NTP"],
    );
    refused(
        &with(&|joining| joining.by = lab::address(9).to_string()),
        &["10.231.0.9:8300"],
    );
    // Nobody waits for a token to expire here: both clocks go ahead.
    first.terminate().unwrap();
    let ahead = clock::off("+2h").unwrap();
    first
        .start_as(&Start {
            environment: ahead.clone(),
        })
        .unwrap();
    // Its vote alone is a majority while the second member has not started.
    let expired = Joining {
        environment: ahead,
        ..short
    };
    until("it is expired", || {
        let cli = joiner.try_join(&expired)?;
        anyhow::ensure!(cli.stderr.contains("expired at"), "{cli:?}");
        Ok(())
    })
    .unwrap();
    is_in_no_cluster(joiner);
    assert_eq!(names(first).unwrap(), ["n1", "n3"]);
    // The token that was refused for other reasons is good still.
    first.restart().unwrap();
    until("the good token is taken", || joiner.join(&good)).unwrap();
    assert_eq!(names(first).unwrap(), ["n1", "n2", "n3"]);
}

#[test]
fn a_node_that_restarts_or_is_killed_is_the_same_member() {
    require!(lab::possible());
    let lab = Lab::up(&Plan::test(3)).unwrap();
    let node = lab.node(2);
    let before = identity(node);
    node.restart().unwrap();
    lab.formed(1..=3).unwrap();
    assert_eq!(identity(node), before);
    node.kill().unwrap();
    node.start().unwrap();
    lab.formed(1..=3).unwrap();
    assert_eq!(identity(node), before);
    for node in lab.nodes() {
        assert_eq!(names(node).unwrap(), ["n1", "n2", "n3"], "{}", node.name());
    }
}

#[test]
fn a_process_that_replaces_another_is_the_same_member() {
    require!(lab::possible());
    let lab = Lab::up(&Plan::test(3)).unwrap();
    for node in lab.nodes() {
        let (before, processes) = (identity(node), node.processes());
        node.ok(&["upgrade"]).unwrap();
        until("the old process has gone", || {
            let now = node.processes();
            anyhow::ensure!(now.len() == 1 && now != processes, "{now:?}");
            Ok(())
        })
        .unwrap();
        lab.formed(1..=3).unwrap();
        assert_eq!(identity(node), before);
    }
}

#[test]
fn a_node_whose_peers_are_gone_says_so_and_forms_nothing() {
    require!(lab::possible());
    let lab = Lab::up(&Plan::test(3)).unwrap();
    // One that led goes on in its term without being asked, and has no majority for anything; any other asks for votes.
    let led = until("there is a leader", || crate::cluster_faults::leader(lab.node(1))).unwrap();
    let node = lab.node(led % 3 + 1);
    let before = identity(node);
    for node in lab.nodes() {
        node.kill().unwrap();
    }
    node.start().unwrap();
    let term = |node: LabNode<'_>| -> anyhow::Result<u64> {
        Ok(node.cluster()?["raft"]["term"].as_u64().unwrap_or_default())
    };
    let began = until("it answers", || term(node)).unwrap();
    // It asks for votes again and again, and gets none.
    until("it has asked for votes three times", || {
        let term = term(node)?;
        anyhow::ensure!(term >= began + 3, "term {term} after {began}");
        Ok(())
    })
    .unwrap();
    let report = node.cluster().unwrap();
    assert_eq!(
        (&report["quorum"], &report["raft"]["is_leader"]),
        (&false.into(), &false.into()),
        "{report}"
    );
    assert_eq!(identity(node), before);
    assert_eq!(names(node).unwrap(), ["n1", "n2", "n3"]);
    assert_eq!(
        node.get("/api/v1/status").unwrap().json().unwrap()["quorum"],
        false
    );
    let cluster = condition(node, "cluster");
    assert_eq!(cluster["ok"], false, "{cluster}");
    assert!(
        cluster["reason"].as_str().unwrap().contains("no majority"),
        "{cluster}"
    );
    let metrics = Metrics::parse(&node.get("/metrics").unwrap().body);
    assert_eq!(metrics.sum("constellation_cluster_quorum", &[]), 0.0);
    let order = node.cli(&["cordon", "n2"]).unwrap();
    assert_ne!(order.code, 0, "nothing is changed without a majority: {order:?}");

    node.kill().unwrap();
    lab.node(led).start().unwrap();
    until("neither has the one that led", || {
        crate::cluster_faults::has_no_quorum(lab.node(led))
    })
    .unwrap();
    let order = lab.node(led).cli(&["cordon", "n2"]).unwrap();
    assert_ne!(order.code, 0, "nothing is changed without a majority: {order:?}");

    for other in (1..=3).filter(|other| *other != led) {
        lab.node(other).start().unwrap();
    }
    lab.formed(1..=3).unwrap();
    assert_eq!(identity(node), before);
}
