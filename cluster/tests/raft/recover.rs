//! The majority is lost for good, and what one node has goes on.

use std::fs;
use std::path::Path;

use constellation_cluster::lease::{LeaseCommand, LeaseKey, LeaseOutcome, Token};
use constellation_cluster::raft::{Consensus, RaftNode, Recovered, StoreFailure, recover};
use constellation_cluster::state::{ClientId, Command, DocumentOutcome, NodeId, Outcome, Request};
use tempfile::TempDir;
use tokio::time::{Duration, timeout};

use crate::testnet::{Cluster, member, soon, value, write};

fn acquire(sequence: u64, name: &str) -> Request {
    Request {
        client: ClientId {
            node: NodeId(9),
            incarnation: 1,
        },
        sequence,
        command: Command::Lease(LeaseCommand::Acquire {
            key: LeaseKey::service(name).expect("a name"),
            ttl_ms: 3_600_000,
        }),
    }
}

fn granted(outcome: &Outcome) -> Token {
    match outcome {
        Outcome::Lease(LeaseOutcome::Granted { token }) => *token,
        other => panic!("{other:?}"),
    }
}

fn changed(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Document(DocumentOutcome::Changed { revision }) => *revision,
        other => panic!("{other:?}"),
    }
}

fn recovered(cluster: &Cluster, id: u64) -> Recovered {
    recover(&cluster.folder(id), NodeId(id), member(id)).expect("recovered")
}

/// Starts the node, and waits until it leads alone.
async fn alone(cluster: &Cluster, id: u64) -> RaftNode {
    cluster.start(id).await;
    let leader = cluster.leader().await;
    let view = leader.watch().borrow().clone();
    assert_eq!(view.leader, Some(NodeId(id)));
    let members: Vec<_> = view
        .members
        .iter()
        .map(|(id, (_, votes))| (id.0, *votes))
        .collect();
    assert_eq!(members, [(id, true)]);
    leader
}

/// Three nodes with some documents and a lease, and one entry that only the leader has. All are stopped. The leader, the
/// highest index and the token.
async fn lost(snapshot: bool) -> (Cluster, u64, Token) {
    let cluster = Cluster::of(3).await;
    let token = granted(&cluster.apply(&acquire(1, "web")).await);
    let mut last = 0;
    for sequence in 2..if snapshot { 150 } else { 20 } {
        last = changed(&cluster.apply(&write(9, sequence, "a", sequence)).await);
    }
    for id in 1..=3 {
        cluster.applied(id, last).await;
    }
    let leader = cluster.leader().await;
    let id = leader.watch().borrow().leader.expect("a leader");
    cluster.cut(id);
    let unknown = timeout(
        Duration::from_millis(200),
        leader.propose(write(8, 1, "unknown", 7)),
    )
    .await;
    assert!(!matches!(unknown, Ok(Ok(_))), "{unknown:?}");
    for id in 1..=3 {
        cluster.stop(NodeId(id)).await;
    }
    cluster.mend();
    assert_eq!(cluster.folder(id.0).join("state.snapshot").exists(), snapshot);
    (cluster, id.0, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_goes_on_with_all_that_it_has_and_others_join_it() {
    for snapshot in [false, true] {
        let (cluster, id, token) = lost(snapshot).await;
        let last = if snapshot { 149 } else { 19 };
        let report = recovered(&cluster, id);
        assert_eq!(
            report.members.keys().map(|id| id.0).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        assert!(report.uncertain >= 1, "{report:?}");
        assert!(
            report.index >= report.last.expect("a last") + 1_000_000,
            "{report:?}"
        );
        assert!(report.kept.join("log.redb").exists());
        assert_eq!(report.kept.join("state.snapshot").exists(), snapshot);
        let node = alone(&cluster, id).await;
        assert_eq!((value(&node, "a"), value(&node, "unknown")), (last, 7));
        let web = LeaseKey::service("web").expect("a name");
        let held = node
            .state()
            .read(|state| state.leases().get(&web).map(|lease| lease.token));
        assert_eq!(held, Some(token));
        // A new grant is beyond any of before, and a repeated request is what it was.
        if !snapshot {
            // Otherwise it is too long ago.
            let again = cluster.apply(&acquire(1, "web")).await;
            assert_eq!(Some(granted(&again)), held);
        }
        let token = granted(&cluster.apply(&acquire(last + 1, "next")).await);
        assert!(token.get() > report.index, "{token:?}");
        // One of the lost, with an empty folder, and a new one.
        for other in [id % 3 + 1, 4] {
            if other < 4 {
                fs::remove_dir_all(cluster.folder(other)).expect("removed");
            }
            cluster.start(other).await;
            let leader = cluster.leader().await;
            leader
                .add_learner(NodeId(other), member(other))
                .await
                .expect("a learner");
        }
        cluster.promote(3).await;
        let revision = changed(&cluster.apply(&write(9, 500, "a", 500)).await);
        for other in [id % 3 + 1, 4] {
            cluster.applied(other, revision).await;
            let [theirs, ours] = [other, id].map(|id| cluster.node(id).state().read(Clone::clone));
            assert_eq!(theirs, ours);
        }
        cluster.stop(NodeId(id)).await;
        cluster.apply(&write(9, 501, "a", 501)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_and_a_node_that_was_recovered_before_are_recovered_alike() {
    let (cluster, leader, _) = lost(false).await;
    let id = leader % 3 + 1;
    let first = recovered(&cluster, id);
    // Never started in between, and then started.
    let second = recovered(&cluster, id);
    assert!(second.index >= first.index + 1_000_000);
    assert_ne!(first.kept, second.kept);
    let node = alone(&cluster, id).await;
    assert_eq!((value(&node, "a"), value(&node, "unknown")), (19, 0));
    cluster.apply(&write(9, 20, "a", 20)).await;
    cluster.stop(NodeId(id)).await;
    let third = recovered(&cluster, id);
    assert!(third.index >= second.index + 1_000_000);
    let node = alone(&cluster, id).await;
    assert_eq!(value(&node, "a"), 20);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copied");
        }
    }
}

/// The folder as a crash leaves it after so many steps: the files of before are `old`, those of after `new`.
fn crashed(steps: usize, old: &Path, new: &Path, folder: &Path) {
    drop(fs::remove_dir_all(folder));
    copy(old, folder);
    let (ready, kept) = (folder.join("recovery.ready"), folder.join("before-recovery-1"));
    let make = |name: &str| {
        fs::create_dir(folder.join(name)).expect("a folder");
        for file in ["log.redb", "state.snapshot"] {
            fs::copy(new.join(file), folder.join(name).join(file)).expect("copied");
        }
    };
    if steps <= 1 {
        make("recovery.unfinished");
        fs::write(folder.join("recovery.unfinished/log.redb"), "half").expect("written");
        if steps == 1 {
            fs::create_dir(&kept).expect("a folder");
        }
        return;
    }
    make("recovery.ready");
    fs::create_dir(&kept).expect("a folder");
    let mut left = steps - 2;
    for file in ["state.snapshot", "log.redb"] {
        let moves = [
            (folder.join(file), kept.join(file)),
            (ready.join(file), folder.join(file)),
        ];
        for (from, to) in moves {
            if left == 0 {
                return;
            }
            fs::rename(from, to).expect("renamed");
            left -= 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_the_old_or_the_new() {
    let (cluster, id, _) = lost(true).await;
    let aside = TempDir::new().expect("a folder");
    let (old, new) = (aside.path().join("old"), aside.path().join("new"));
    copy(&cluster.folder(id), &old);
    let report = recovered(&cluster, id);
    copy(&cluster.folder(id), &new);
    for steps in 0..=6 {
        for again in [false, true] {
            crashed(steps, &old, &new, &cluster.folder(id));
            if again {
                // The operator asks once more, instead of a start.
                let more = recovered(&cluster, id);
                assert!(more.index >= report.index, "after {steps} steps");
            } else if steps <= 1 {
                // The old one: it knows its peers, and leads nothing without them.
                let node = cluster.start(id).await;
                let mut view = node.watch();
                soon("its peers", view.wait_for(|view| view.members.len() == 3))
                    .await
                    .expect("a view");
                cluster.stop(NodeId(id)).await;
                continue;
            }
            let node = alone(&cluster, id).await;
            assert_eq!(
                (value(&node, "a"), value(&node, "unknown")),
                (149, 7),
                "after {steps} steps"
            );
            cluster.stop(NodeId(id)).await;
            for left in ["recovery.ready", "recovery.unfinished"] {
                assert!(
                    !cluster.folder(id).join(left).exists() || !again && steps <= 1,
                    "{left}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cant_be_recovered_is_left_as_it_is() {
    let empty = TempDir::new().expect("a folder");
    let error = recover(empty.path(), NodeId(1), member(1)).expect_err("nothing there");
    assert!(error.to_string().contains("nothing can be recovered"), "{error}");
    assert_eq!(fs::read_dir(empty.path()).expect("a folder").count(), 0);
    let cluster = Cluster::of(1).await;
    cluster.apply(&write(9, 1, "a", 1)).await;
    let running = recover(&cluster.folder(1), NodeId(1), member(1)).expect_err("it runs");
    assert!(matches!(running, StoreFailure::InUse { .. }), "{running}");
    cluster.stop(NodeId(1)).await;
    let other = recover(&cluster.folder(1), NodeId(2), member(2)).expect_err("another's");
    assert!(matches!(other, StoreFailure::Foreign { .. }), "{other}");
    let node = cluster.start(1).await;
    cluster.applied(1, 2).await;
    assert_eq!(value(&node, "a"), 1);
}
