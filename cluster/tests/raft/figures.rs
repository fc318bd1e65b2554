//! What a node counts of its log.

use constellation_cluster::raft::{Consensus as _, Figures};

use crate::testnet::{Cluster, soon, write};

#[tokio::test(flavor = "multi_thread")]
async fn elections_leaders_and_writes_are_counted() {
    let cluster = Cluster::of(3).await;
    let founder = cluster.leader().await;
    let before = founder.figures();
    // Founding is an election among one, and everybody who joined learned of a leader.
    assert!(before.elections_won >= 1, "{before:?}");
    assert!(before.elections_started >= before.elections_won, "{before:?}");
    let old = founder.watch().borrow().leader.expect("a leader");
    cluster.apply(&write(9, 1, "a", 1)).await;
    let writes = founder.figures().writes;
    assert!(
        writes.count() > before.writes.count(),
        "an entry was acknowledged"
    );
    assert!(
        !writes.longest.is_zero() && writes.longest <= writes.total,
        "{writes:?}"
    );

    let count = |figures: fn(&Figures) -> u64| -> Vec<u64> {
        let others = (1..=3).filter(|id| *id != old.0);
        others.map(|id| figures(&cluster.node(id).figures())).collect()
    };
    let changes = count(|figures| figures.leader_changes);
    let won: u64 = count(|figures| figures.elections_won).iter().sum();
    cluster.stop(old).await;
    let next = cluster.leader().await;
    assert!(next.figures().elections_started >= next.figures().elections_won);
    assert!(count(|figures| figures.elections_won).iter().sum::<u64>() > won);
    // Both who are left hear of the new leader.
    soon("a change of leaders at each", async {
        let heard = || count(|figures| figures.leader_changes);
        while heard().iter().zip(&changes).any(|(now, before)| now <= before) {
            tokio::task::yield_now().await;
        }
    })
    .await;

    // A node that has applied all that it has is not behind.
    let last = next.figures().last_log.expect("entries");
    let id = next.watch().borrow().leader.expect("a leader").0;
    cluster.applied(id, last).await;
    soon("nothing to apply", async {
        while next.figures().lag() != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_nobody_follows_has_what_it_can_not_apply() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let id = leader.watch().borrow().leader.expect("a leader");
    cluster.apply(&write(9, 1, "a", 1)).await;
    cluster.cut(id);
    // In its log, and never on a majority's disk.
    let asked = leader.clone();
    let proposal = tokio::spawn(async move { asked.propose(write(9, 2, "a", 2)).await });
    soon("an entry that waits", async {
        while leader.figures().lag() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    proposal.abort();
}
