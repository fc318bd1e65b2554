//! How a running node ends: what it holds goes to others or to the process that comes after it, and everything is ended in the
//! other order than it was started in.

use std::sync::PoisonError;
use std::time::Duration;

use constellation_cluster::raft::Consensus as _;
use constellation_cluster::state::ClientId;
use tokio::sync::oneshot;

use crate::lease::Order;
use crate::node::Node;

/// How long leadership of the log may take to change hands.
const STEPPING_DOWN: Duration = Duration::from_secs(2);

impl Node {
    /// Has another voter lead the log, if this node does: a log without a leader for as long as an election takes could cost others
    /// their leases.
    async fn step_down(&self) {
        let core = &self.0.core;
        let voters = core.leader().members.values().filter(|(_, voter)| *voter).count();
        if !core.leader().leading || voters < 2 {
            return;
        }
        match tokio::time::timeout(STEPPING_DOWN, core.raft.step_down(None)).await {
            Ok(Ok(leader)) => tracing::info!(%leader, "another node leads the replicated log"),
            Ok(Err(error)) => tracing::info!(%error, "the replicated log finds its next leader itself"),
            Err(_) => tracing::info!("the replicated log finds its next leader itself"),
        }
    }

    /// Lets go of all leases, in favour of others where there are any, and tells everybody that this node takes nothing new.
    /// Returns when that is done, or their time is over.
    pub async fn let_go(&self) {
        self.set_ready(false).await;
        self.step_down().await;
        self.end_leases().await;
    }

    async fn end_leases(&self) {
        self.0.letting_go.cancel();
        self.0.leases.close();
        self.0.leases.wait().await;
    }

    /// Leaves this node's leases to the process that comes after this one, with what acts under them as it is: nothing is told to
    /// stop. To be followed by [`Node::stop`], and by a start of that process before the leases run out.
    ///
    /// # Errors
    /// In words, when it could not be said in time; then the leases run out, or are let go of, as in any other end.
    pub async fn bequeath(&self) -> Result<(), String> {
        self.step_down().await;
        let heir = self.0.home.name_heir().map_err(|error| error.to_string())?;
        let heir = ClientId {
            node: self.0.core.identity.id,
            incarnation: heir,
        };
        let loops: Vec<_> = {
            let orders = self.0.orders.read().unwrap_or_else(PoisonError::into_inner);
            orders.values().cloned().collect()
        };
        let mut answers = Vec::new();
        for one in loops {
            let (answer, answered) = oneshot::channel();
            if one.send(Order::Bequeath(heir, answer)).await.is_ok() {
                answers.push(answered);
            }
        }
        let all = async {
            for answered in answers {
                // One that ends has nothing to leave.
                drop(answered.await);
            }
        };
        tokio::time::timeout(self.0.settings.lease.ttl(), all)
            .await
            .map_err(|_| "the cluster did not answer in time".to_owned())
    }

    /// Ends everything: leases first, gossip, links, and the log last. Returns when its files are closed.
    ///
    /// `leaving`: the others are told first that this node takes nothing new, and then that it has gone. Else they are told nothing,
    /// as another process of this node goes on; after [`Node::bequeath`].
    pub async fn stop(&self, leaving: bool) {
        if leaving {
            self.let_go().await;
        } else {
            self.step_down().await;
            self.end_leases().await;
        }
        let inner = &self.0;
        if !leaving {
            // Nobody is to look into why gossip ends.
            inner.stop.cancel();
        }
        if let Some(gossip) = inner.core.gossip.get()
            && let Some(gossip) = gossip.write().await.take()
        {
            if leaving {
                gossip.leave().await;
            } else {
                drop(gossip);
            }
        }
        inner.stop.cancel();
        inner.tasks.close();
        inner.core.links.shut_down().await;
        inner.core.raft.shut_down().await;
        inner.tasks.wait().await;
    }
}
