//! A lease over real nodes: held, renewed, handed over, and lost by one that falls silent, with the leader and without.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use constellation_cluster::lease::{BootTime, Held, Holder, HolderState, LeaseKey, Timing};
use constellation_cluster::raft::Consensus;
use constellation_cluster::state::{ClientId, Command, NodeId, Outcome, Request};

use crate::testnet::{Cluster, soon};

/// A process that wants the lease, with numbers for its requests.
struct Process {
    client: ClientId,
    sequence: u64,
    holder: Holder,
}

impl Process {
    fn new(node: u64) -> Self {
        let client = ClientId {
            node: NodeId(node),
            incarnation: 1,
        };
        let timing = Timing::new(Duration::from_millis(1000), Duration::from_millis(150)).expect("a timing");
        Self {
            client,
            sequence: 0,
            holder: Holder::new(LeaseKey::DnsWriter, client, timing),
        }
    }

    /// Proposes what there is to propose, and takes the answer.
    async fn turn(&mut self, cluster: &Cluster) {
        let Some(proposal) = self.holder.poll(BootTime::now()) else {
            tokio::task::yield_now().await;
            return;
        };
        self.sequence += 1;
        let command = Command::Lease(proposal.command);
        let request = Request {
            client: self.client,
            sequence: self.sequence,
            command,
        };
        match cluster.apply(&request).await {
            Outcome::Lease(outcome) => self.holder.answered(proposal.attempt, &outcome),
            other => panic!("{other:?}"),
        }
    }

    /// Asks until it may act.
    async fn holds(&mut self, cluster: &Cluster) -> Held {
        soon("the lease", async {
            loop {
                cluster
                    .leader()
                    .await
                    .state()
                    .read(|state| self.holder.observe(state.leases()));
                if self.holder.state() == HolderState::Without {
                    self.holder.want();
                }
                self.turn(cluster).await;
                if let Some(held) = self.holder.held(BootTime::now()) {
                    return held;
                }
            }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_goes_from_hand_to_hand_and_runs_out_under_a_new_leader_too() {
    let cluster = Arc::new(Cluster::of(3).await);
    let done = Arc::new(AtomicBool::new(false));
    let expire = |id| tokio::spawn(Arc::clone(&cluster).expire(id, Arc::clone(&done)));
    let mut timers: Vec<_> = (1..=3).map(expire).collect();

    let (mut first, mut second, mut third) = (Process::new(11), Process::new(12), Process::new(13));
    let held = first.holds(&cluster).await;
    // Handed over: the next has it at once, and acts after a renewal of its own.
    first.holder.hand_over(second.client);
    assert_eq!(first.holder.held(BootTime::now()), None);
    soon("the transfer", async {
        while first.holder.state() != HolderState::Without {
            first.turn(&cluster).await;
        }
    })
    .await;
    let handed = second.holds(&cluster).await;
    assert!(handed.token() > held.token());
    // The second falls silent; the third gets it once its time is over, not before its deadline.
    let taken = third.holds(&cluster).await;
    assert!(taken.token() > handed.token());
    assert_eq!(handed.remaining(BootTime::now()), None, "two could act");
    // The third falls silent, and the leader with it.
    let leader = cluster.leader().await.watch().borrow().leader.expect("a leader");
    cluster.cut(leader);
    let last = first.holds(&cluster).await;
    assert!(last.token() > taken.token());
    assert_eq!(taken.remaining(BootTime::now()), None, "two could act");

    cluster.mend();
    done.store(true, Ordering::Relaxed);
    for timer in timers.drain(..) {
        soon("a timer's end", timer).await.expect("a timer");
    }
}
