//! Reads that are current: nothing that was acknowledged anywhere before the question is missing from the answer. (Reads by
//! index: D. Ongaro, Consensus: Bridging theory and practice, section 6.4.)
//!
//! Whoever leads says how far the log was agreed upon, after a majority has confirmed that it leads; the node that was asked
//! waits until it has applied as much, and reads what it has.

use std::time::Duration;

use constellation_cluster::raft::{Consensus as _, ReadError};
use constellation_cluster::state::NodeId;
use constellation_link::LinkError;
use tokio::time::{Instant, timeout, timeout_at};

use crate::ask::{Ask, NotApplied, Reply};
use crate::core::{ATTEMPT, ApplyError, Core, Missed};
use crate::node::Node;

impl Node {
    /// Returns once what this node has applied holds everything that was acknowledged before the call, by any node:
    /// [`Node::report`] shows members, what is wanted of them and leases as they were at some time during it. Cancel safe.
    ///
    /// # Errors
    /// When no majority answers in time, or this node takes part no more.
    pub async fn catch_up(&self, within: Duration) -> Result<(), ApplyError> {
        self.0.core.catch_up(within).await
    }
}

impl Core {
    async fn catch_up(&self, within: Duration) -> Result<(), ApplyError> {
        let until = Instant::now() + within;
        let index = self
            .of_leader(until, |leader| self.ask_index(leader, until))
            .await?;
        let mut view = self.raft.watch();
        let applied = view.wait_for(|view| view.applied >= Some(index) || view.stopped.is_some());
        match timeout_at(until, applied).await {
            Ok(Ok(view)) => match &view.stopped {
                Some(reason) => Err(ApplyError::Stopped(reason.clone())),
                None => Ok(()),
            },
            Ok(Err(_)) => Err(ApplyError::Stopped("the node stops".to_owned())),
            Err(_) => Err(ApplyError::Late(
                "this node is behind what the others have agreed upon".to_owned(),
            )),
        }
    }

    async fn ask_index(&self, leader: NodeId, until: Instant) -> Result<u64, Missed> {
        let within = ATTEMPT.min(until.saturating_duration_since(Instant::now()));
        if leader == self.identity.id {
            return match timeout(within, self.raft.read_barrier()).await {
                Ok(Ok(index)) => Ok(index),
                Ok(Err(error)) => Err(missed(not_applied(error))),
                Err(_) => Err(missed(NotApplied::Late)),
            };
        }
        match self.ask(leader, &Ask::ReadIndex, within).await {
            Ok(Reply::ReadIndex(Ok(index))) => Ok(index),
            // The other one has stopped, this one has not.
            Ok(Reply::ReadIndex(Err(NotApplied::Stopped(reason)))) => {
                Err(Missed::Silent(format!("node {leader}: {reason}")))
            }
            Ok(Reply::ReadIndex(Err(error))) => Err(missed(error)),
            Ok(_) => Err(Missed::Silent(format!("node {leader} answered something else"))),
            Err(LinkError::Stopped) => Err(Missed::Stopped("the node stops".to_owned())),
            Err(error @ LinkError::Refused { .. }) => Err(Missed::Refused(error.to_string())),
            Err(error) => Err(Missed::Silent(error.to_string())),
        }
    }

    /// Answers another node, as its leader.
    pub(crate) async fn read_index(&self) -> Result<u64, NotApplied> {
        match timeout(ATTEMPT, self.raft.read_barrier()).await {
            Ok(outcome) => outcome.map_err(not_applied),
            Err(_) => Err(NotApplied::Late),
        }
    }
}

fn not_applied(error: ReadError) -> NotApplied {
    match error {
        ReadError::NotLeader { leader } => NotApplied::NotLeader(leader),
        ReadError::NoQuorum(_) => NotApplied::Late,
        ReadError::Stopped(reason) => NotApplied::Stopped(reason),
    }
}

fn missed(error: NotApplied) -> Missed {
    match error {
        NotApplied::NotLeader(leader) => Missed::Elsewhere(leader),
        NotApplied::Stopped(reason) => Missed::Stopped(reason),
        NotApplied::Late => Missed::Silent("whoever leads is not answered by a majority".to_owned()),
    }
}
