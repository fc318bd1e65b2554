//! Leadership is handed over, and where that fails the members elect as ever.

use constellation_cluster::raft::{Consensus, RaftNode, TransferError};
use constellation_cluster::state::NodeId;

use crate::testnet::{Cluster, value, write};

fn id_of(node: &RaftNode) -> NodeId {
    node.watch().borrow().leader.expect("a leader")
}

/// Hands over so many times in a circle. How often whom it was meant for led, and how often somebody else.
async fn hand_over(voters: u64, times: u64) -> (u64, u64) {
    let cluster = Cluster::of(voters).await;
    let (mut meant, mut other) = (0, 0);
    for turn in 1..=times {
        cluster.apply(&write(9, turn, "a", turn)).await;
        let leader = cluster.leader().await;
        let old = id_of(&leader);
        let target = NodeId(old.0 % voters + 1);
        match leader.step_down(Some(target)).await {
            Ok(now) if now == target => meant += 1,
            Ok(now) => {
                assert_ne!(now, old);
                other += 1;
            }
            Err(
                TransferError::NotElected { .. }
                | TransferError::NoAnswer { .. }
                | TransferError::Behind { .. },
            ) => {}
            Err(error) => panic!("{error}"),
        }
        // Whatever came of it, whoever leads now takes requests: the heartbeats are back.
        let leader = cluster.leader().await;
        leader.read_barrier().await.expect("a leader");
    }
    cluster.apply(&write(9, times + 1, "a", times + 1)).await;
    assert_eq!(value(&cluster.leader().await, "a"), times + 1);
    (meant, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_goes_to_whom_it_is_meant_for_among_two_three_and_five() {
    const TIMES: u64 = 10;
    for voters in [2, 3, 5] {
        let (meant, other) = hand_over(voters, TIMES).await;
        println!("{voters} voters: {meant} of {TIMES} as meant, {other} to another one");
        assert!(meant > TIMES / 2, "{voters} voters: {meant} of {TIMES}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cant_lead_is_not_made_to() {
    let cluster = Cluster::of(1).await;
    let alone = cluster.leader().await;
    assert_eq!(alone.step_down(None).await, Err(TransferError::Alone));
    let nobody = NodeId(7);
    let refused = Err(TransferError::NotAVoter { node: nobody });
    assert_eq!(alone.step_down(Some(nobody)).await, refused);
    assert_eq!(
        alone.step_down(Some(NodeId(1))).await,
        Err(TransferError::NotAVoter { node: NodeId(1) })
    );
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let old = id_of(&leader);
    let follower = cluster.node(old.0 % 3 + 1);
    let refused = follower.step_down(None).await;
    assert!(
        matches!(refused, Err(TransferError::NotLeader { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_cut_off_leaves_a_leader_that_leads_on() {
    for voters in [3, 5] {
        let cluster = Cluster::of(voters).await;
        cluster.apply(&write(9, 1, "a", 1)).await;
        let leader = cluster.leader().await;
        let target = NodeId(id_of(&leader).0 % voters + 1);
        cluster.cut(target);
        let (first, second) = tokio::join!(leader.step_down(Some(target)), leader.step_down(Some(target)));
        assert!(matches!(first, Err(TransferError::NoAnswer { .. })), "{first:?}");
        assert_eq!(second, Err(TransferError::UnderWay));
        cluster.apply(&write(9, 2, "a", 2)).await;
        // An attempt that is dropped leaves nothing behind.
        let leader = cluster.leader().await;
        let target = NodeId(id_of(&leader).0 % voters + 1);
        {
            let attempt = leader.step_down(Some(target));
            tokio::pin!(attempt);
            tokio::select! {
                biased;
                _ = &mut attempt => {}
                () = tokio::task::yield_now() => {}
            }
        }
        cluster.mend();
        cluster.apply(&write(9, 3, "a", 3)).await;
        assert_eq!(value(&cluster.leader().await, "a"), 3);
    }
}
