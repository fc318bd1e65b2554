//! Three nodes and more: they elect, replicate, lose their leader, catch up by snapshot, and answer reads that are current.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use constellation_cluster::raft::{Consensus, ProposeError, ReadError};
use constellation_cluster::state::{DocumentOutcome, NodeId, Outcome};
use tokio::time::timeout;

use crate::history::{Operation, Register, Verdict, check};
use crate::testnet::{Cluster, member, soon, value, write};

fn leader_of(node: &impl Consensus) -> NodeId {
    node.watch().borrow().leader.expect("a leader")
}

fn changed(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Document(DocumentOutcome::Changed { revision }) => *revision,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_outlive_their_leader_and_a_restart() {
    let cluster = Cluster::of(3).await;
    let first = changed(&cluster.apply(&write(9, 1, "a", 1)).await);
    for id in 1..=3 {
        cluster.applied(id, first).await;
        assert_eq!(value(&cluster.node(id), "a"), 1, "node {id}");
    }
    let old = leader_of(&cluster.leader().await);
    cluster.stop(old).await;
    let second = changed(&cluster.apply(&write(9, 2, "a", 2)).await);
    assert!(second > first);
    assert_ne!(leader_of(&cluster.leader().await), old);
    // The same request again is answered with what it came to, by another leader than the first time, too.
    assert_eq!(changed(&cluster.apply(&write(9, 1, "a", 1)).await), first);
    assert_eq!(value(&cluster.leader().await, "a"), 2);
    // The one that was gone catches up.
    cluster.start(old.0).await;
    cluster.applied(old.0, second).await;
    assert_eq!(value(&cluster.node(old.0), "a"), 2);
    // All at once, as after a power cut.
    for id in 1..=3 {
        cluster.stop(NodeId(id)).await;
    }
    for id in 1..=3 {
        cluster.start(id).await;
    }
    let leader = cluster.leader().await;
    assert_eq!(value(&leader, "a"), 2);
    assert_eq!(leader.watch().borrow().members.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_not_asked_to_founds_no_cluster_and_one_that_is_a_member_founds_no_other() {
    let cluster = Cluster::new();
    let alone = cluster.start(1).await;
    let view = alone.watch().borrow().clone();
    assert_eq!((view.leader, view.members.len(), view.term), (None, 0, 0));
    let refused = alone.propose(write(9, 1, "a", 1)).await;
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: None }));
    alone.found(member(1)).await.expect("founded");
    cluster.apply(&write(9, 1, "a", 1)).await;
    alone.found(member(1)).await.expect_err("founded already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_that_is_far_behind_gets_a_snapshot_and_then_a_vote() {
    let cluster = Cluster::of(1).await;
    let mut last = 0;
    for sequence in 1..=200 {
        last = changed(
            &cluster
                .apply(&write(9, sequence, &format!("d{}", sequence % 7), sequence))
                .await,
        );
    }
    let snapshot = cluster.folder(1).join("state.snapshot");
    assert!(snapshot.exists(), "200 entries and no snapshot");
    for id in 2..=3 {
        cluster.start(id).await;
        cluster
            .leader()
            .await
            .add_learner(NodeId(id), member(id))
            .await
            .expect("a learner");
        cluster.applied(id, last).await;
        assert!(
            cluster.folder(id).join("state.snapshot").exists(),
            "node {id} was given entries that are gone"
        );
        let [theirs, ours] = [id, 1].map(|id| cluster.node(id).state().read(Clone::clone));
        assert_eq!(theirs, ours);
    }
    cluster.promote(3).await;
    // Their votes count: the first one is not needed any more.
    cluster.stop(NodeId(1)).await;
    cluster.apply(&write(9, 201, "after", 1)).await;
    // And it is taken out, so that one of two that are left is not enough.
    cluster.leader().await.remove(NodeId(1)).await.expect("removed");
    let leader = cluster.leader().await;
    let mut view = leader.watch();
    soon("two members", view.wait_for(|view| view.members.len() == 2))
        .await
        .expect("a view");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_answers_no_read_and_acknowledges_nothing() {
    let cluster = Cluster::of(3).await;
    cluster.apply(&write(9, 1, "a", 1)).await;
    let old = cluster.leader().await;
    cluster.cut(leader_of(&old));
    let lost = timeout(Duration::from_secs(1), old.propose(write(8, 1, "a", 99))).await;
    assert!(
        !matches!(lost, Ok(Ok(_))),
        "acknowledged without a majority: {lost:?}"
    );
    cluster.apply(&write(9, 2, "a", 2)).await;
    let read = soon("an answer", old.read_barrier()).await;
    assert!(
        matches!(read, Err(ReadError::NoQuorum(_) | ReadError::NotLeader { .. })),
        "{read:?}"
    );
    cluster.mend();
    let now = changed(&cluster.apply(&write(9, 3, "a", 3)).await);
    let old = old
        .watch()
        .borrow()
        .members
        .keys()
        .next()
        .copied()
        .expect("a member");
    cluster.applied(old.0, now).await;
    assert_eq!(value(&cluster.node(old.0), "a"), 3);
}

/// Two clients write and two read one register while leaders are cut off; what they saw has to have an order.
#[tokio::test(flavor = "multi_thread")]
async fn what_clients_see_of_a_register_is_linearizable() {
    const STEPS: usize = 1_000_000;
    let cluster = Arc::new(Cluster::of(3).await);
    let (clock, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut clients = Vec::new();
    for client in 1..=4_u64 {
        let (cluster, clock, done) = (Arc::clone(&cluster), Arc::clone(&clock), Arc::clone(&done));
        clients.push(tokio::spawn(async move {
            let mut history = Vec::new();
            let mut sequence = 0;
            while !done.load(Ordering::Relaxed) && history.len() < 150 {
                let nodes = cluster.nodes();
                let Some(node) = nodes.iter().find(|node| node.watch().borrow().leading) else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let called = clock.fetch_add(1, Ordering::SeqCst);
                if client <= 2 {
                    sequence += 1;
                    let value_written = client * 1_000_000 + sequence;
                    let answer = timeout(
                        Duration::from_secs(1),
                        node.propose(write(client, sequence, "register", value_written)),
                    )
                    .await;
                    let returned = clock.fetch_add(1, Ordering::SeqCst);
                    let returned = matches!(answer, Ok(Ok(_))).then_some(returned);
                    history.push(Operation {
                        called,
                        returned,
                        what: Register::Write(value_written),
                    });
                } else if let Ok(Ok(())) = timeout(Duration::from_secs(1), node.read_barrier()).await {
                    let seen = value(node, "register");
                    let returned = Some(clock.fetch_add(1, Ordering::SeqCst));
                    history.push(Operation {
                        called,
                        returned,
                        what: Register::Read(seen),
                    });
                }
            }
            history
        }));
    }
    for round in 0..4_u64 {
        let old = leader_of(&cluster.leader().await);
        cluster.cut(old);
        // Another leads, and has something applied, before the old one comes back.
        cluster.apply(&write(9, round + 1, "other", round)).await;
        cluster.mend();
    }
    done.store(true, Ordering::Relaxed);
    let mut history = Vec::new();
    for client in clients {
        history.extend(soon("a client", client).await.expect("a client"));
    }
    let reads = history
        .iter()
        .filter(|one| matches!(one.what, Register::Read(value) if value > 0))
        .count();
    assert!(
        reads > 0,
        "nobody read what was written, in {} operations",
        history.len()
    );
    assert_eq!(check(&history, STEPS), Verdict::Linearizable, "{history:?}");
}
