//! Three nodes and more: they elect, replicate, lose their leader, catch up by snapshot, and answer reads that are current.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use constellation_cluster::raft::{Consensus, ProposeError, ReadError, StoreFailure};
use constellation_cluster::state::{DocumentOutcome, NodeId, Outcome};
use tokio::time::timeout;

use crate::testnet::{Cluster, member, soon, value, write};
use constellation_history::{Operation, Register, Verdict, check};

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
async fn a_node_that_was_shut_down_has_let_go_of_its_files() {
    let cluster = Cluster::of(3).await;
    for sequence in 1..=10 {
        cluster.apply(&write(9, sequence, "a", sequence)).await;
        // The leader, which the others are being told by, and whom they tell.
        let leader = leader_of(&cluster.leader().await);
        cluster.stop(leader).await;
        // Refused while anything of the one before is open.
        cluster.start(leader.0).await;
    }
    assert_eq!(value(&cluster.leader().await, "a"), 10);
}

/// Killed and started anew before anybody has noticed, it leads on in the same term, and what its disk says of what was agreed
/// upon is older than what it has confirmed.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_killed_reads_what_it_has_confirmed_before() {
    let cluster = Cluster::of(3).await;
    let mut led_on = 0;
    for sequence in 1..=20 {
        let leader = leader_of(&cluster.leader().await);
        cluster.apply(&write(9, sequence, "a", sequence)).await;
        // What a process leaves behind that gets no time to close its files.
        let folder = cluster.folder(leader.0);
        let left = tempfile::tempdir().expect("a folder");
        copy(&folder, left.path());
        cluster.stop(leader).await;
        copy(left.path(), &folder);
        let node = cluster.start(leader.0).await;
        let read = soon("an answer", async {
            loop {
                match node.read_barrier().await {
                    Ok(index) => break Some(index),
                    Err(ReadError::NotLeader { leader: Some(other) }) if other != leader => break None,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        let Some(index) = read.await else { continue };
        led_on += 1;
        let mut view = node.watch();
        let caught_up = view.wait_for(|view| view.applied >= Some(index));
        drop(soon("what was agreed upon", caught_up).await.expect("a node"));
        assert_eq!(value(&node, "a"), sequence);
    }
    assert!(led_on > 0, "others were elected each time");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for file in std::fs::read_dir(from).expect("a folder") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
    }
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
    let id = leader_of(&old);
    cluster.cut(id);
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
    cluster.applied(id.0, now).await;
    assert_eq!(value(&old, "a"), 3);
}

struct Shared {
    cluster: Cluster,
    clock: AtomicU64,
    answered: AtomicU64,
    done: AtomicBool,
}

impl Shared {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Returns once the clients were answered so many times more.
    async fn answers(&self, more: u64) {
        let until = self.answered.load(Ordering::Relaxed) + more;
        soon("answers", async {
            while self.answered.load(Ordering::Relaxed) < until {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// A client of one register, until it is told to stop: what it saw, in ticks of a clock that all share.
async fn client(shared: Arc<Shared>, id: u64) -> Vec<Operation<Register>> {
    /// So short that a leader that is cut off does not hold it up for long.
    const PATIENCE: Duration = Duration::from_millis(300);
    let mut history = Vec::new();
    let mut turn = usize::try_from(id).expect("few");
    let mut sequence = 0;
    while !shared.done.load(Ordering::Relaxed) {
        tokio::task::yield_now().await;
        // Several may take themselves for the leader.
        let nodes = shared.cluster.nodes();
        let leading: Vec<_> = nodes
            .iter()
            .filter(|node| node.watch().borrow().leading)
            .collect();
        turn += 1;
        let Some(node) = leading.get(turn % leading.len().max(1)) else {
            continue;
        };
        let called = shared.tick();
        if id <= 2 {
            sequence += 1;
            let number = id * 1_000_000 + sequence;
            let answer = timeout(PATIENCE, node.propose(write(id, sequence, "register", number))).await;
            let returned = matches!(answer, Ok(Ok(_))).then(|| shared.tick());
            shared
                .answered
                .fetch_add(u64::from(returned.is_some()), Ordering::Relaxed);
            history.push(Operation {
                called,
                returned,
                what: Register::Write(number),
            });
        } else if let Ok(Ok(_)) = timeout(PATIENCE, node.read_barrier()).await {
            let what = Register::Read(value(node, "register"));
            history.push(Operation {
                called,
                returned: Some(shared.tick()),
                what,
            });
            shared.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
    history
}

/// Two clients write and two read one register while leaders are cut off; what they saw has to have an order.
#[tokio::test(flavor = "multi_thread")]
async fn what_clients_see_of_a_register_is_linearizable() {
    const STEPS: usize = 200_000;
    let shared = Arc::new(Shared {
        cluster: Cluster::of(3).await,
        clock: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        done: AtomicBool::new(false),
    });
    let clients: Vec<_> = (1..=4)
        .map(|id| tokio::spawn(client(Arc::clone(&shared), id)))
        .collect();
    for round in 1..=4 {
        shared.answers(40).await;
        let old = leader_of(&shared.cluster.leader().await);
        shared.cluster.cut(old);
        // Another leads, and has something applied, before the old one comes back.
        shared.cluster.apply(&write(9, round, "other", round)).await;
        shared.answers(10).await;
        shared.cluster.mend();
    }
    shared.done.store(true, Ordering::Relaxed);
    let mut history = Vec::new();
    for client in clients {
        history.extend(soon("a client", client).await.expect("a client"));
    }
    // A write that nobody heard of and nobody read can be left out of any order, and makes the search long.
    let read: BTreeSet<_> = history
        .iter()
        .filter_map(|one| match one.what {
            Register::Read(value) => Some(value),
            Register::Write(_) => None,
        })
        .collect();
    history.retain(|one| {
        one.returned.is_some() || matches!(one.what, Register::Write(value) if read.contains(&value))
    });
    let saw = |one: &Operation<Register>| matches!(one.what, Register::Read(value) if value > 0);
    assert!(
        history.iter().any(saw),
        "nobody read what was written, in {} operations",
        history.len()
    );
    assert_eq!(check(&history, STEPS), Verdict::Linearizable, "{history:?}");
    // One read is made stale by hand: what was just taken for good is told from that.
    let last = history.iter().filter(|one| saw(one)).map(|one| one.called).max();
    let stale = history
        .iter_mut()
        .find(|one| Some(one.called) == last)
        .expect("a read");
    stale.what = Register::Read(0);
    assert_ne!(check(&history, STEPS), Verdict::Linearizable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_store_fails_says_so_and_takes_part_no_more() {
    let cluster = Cluster::new();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let hook = Arc::new(move |failure: &StoreFailure| tell.send(failure.clone()).expect("a listener"));
    let node = cluster.start_with(1, hook).await;
    node.found(member(1)).await.expect("founded");
    cluster.apply(&write(9, 1, "a", 1)).await;
    std::fs::create_dir(cluster.folder(1).join("state.snapshot.new")).expect("a folder in the way");
    // One of these makes a snapshot due.
    let mut sequence = 1;
    let failure = soon("the failure", async {
        loop {
            sequence += 1;
            assert!(sequence < 1_000, "no snapshot was due");
            tokio::select! {
                failure = told.recv() => return failure.expect("a hook"),
                _ = node.propose(write(9, sequence, "a", sequence)) => {}
            }
        }
    })
    .await;
    assert!(failure.to_string().contains("state.snapshot.new"), "{failure}");
    let mut view = node.watch();
    soon("the end", view.wait_for(|view| view.stopped.is_some()))
        .await
        .expect("a view");
    let refused = node.propose(write(9, sequence + 1, "a", 0)).await;
    assert!(matches!(refused, Err(ProposeError::Stopped(_))), "{refused:?}");
}
