//! All that the rest of the program sees of the replicated log.

use std::collections::BTreeMap;
use std::future::Future;

use thiserror::Error;
use tokio::sync::watch;

use super::Member;
use crate::state::{NodeId, Outcome, Request};

/// Agreement between the nodes of a cluster, as seen from one of them.
///
/// Every future may be dropped. What it asked for may happen all the same: nothing but asking again with the same sequence
/// number tells.
pub trait Consensus: Send + Sync + 'static {
    /// Has a request applied, and says what it came to. Only the leader can.
    ///
    /// After any error it may have been applied or be applied later: it is asked again, of the leader, under the same
    /// sequence number.
    fn propose(&self, request: Request) -> impl Future<Output = Result<Outcome, ProposeError>> + Send;

    /// Returns once this node has applied all that was acknowledged anywhere before the call. Only the leader can; it
    /// asks a majority whether it still is. Returns the index of the last entry that has to be applied for that: another
    /// node that has applied as much is as current.
    fn read_barrier(&self) -> impl Future<Output = Result<u64, ReadError>> + Send;

    /// Lets a node have the log, without a vote. Returns once that is agreed upon, not when it has caught up.
    fn add_learner(&self, id: NodeId, member: Member)
    -> impl Future<Output = Result<(), MemberError>> + Send;

    /// Gives a vote to the learners that have caught up and that [`super::promotable`] has room for; says to which.
    fn promote(&self) -> impl Future<Output = Result<Vec<NodeId>, MemberError>> + Send;

    /// Takes a node's vote and the log from it.
    fn remove(&self, id: NodeId) -> impl Future<Output = Result<(), MemberError>> + Send;

    /// Hands leadership over, for a stop that is planned: to `to`, or to the voter with the longest log. Says who leads then,
    /// which is somebody else than `to` if the election went that way. Only the leader can.
    ///
    /// Until this returns the leader takes no proposals and answers no reads: about one round trip with up to three voters,
    /// about [`super::Timers::election_max`] with more. After an error the members elect as they do when a leader has died,
    /// if this one does not lead any more. The future may be dropped, which ends the attempt; it may succeed all the same.
    ///
    /// It went as meant in 40 of 40 attempts each with 2, 3 and 5 voters in one process, and has not been measured over networks
    /// whose round trips are long.
    fn step_down(&self, to: Option<NodeId>) -> impl Future<Output = Result<NodeId, TransferError>> + Send;

    /// Who leads, and who is a member, as this node knows.
    fn watch(&self) -> watch::Receiver<LeaderView>;
}

/// Who leads, and who is a member, as one node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderView {
    /// The term, which only grows.
    pub term: u64,
    /// Who leads in it, if that is known.
    pub leader: Option<NodeId>,
    /// Whether that is this node.
    pub leading: bool,
    /// All members, and whether they vote.
    pub members: BTreeMap<NodeId, (Member, bool)>,
    /// The index of the last entry that this node has applied.
    pub applied: Option<u64>,
    /// Why this node takes part no more.
    pub stopped: Option<String>,
}

/// Why a request was not answered. It may have been applied.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// Another node leads, or nobody.
    #[error("not the leader; that is {}", leader_text(*.leader))]
    NotLeader {
        /// Whom to ask, if that is known.
        leader: Option<NodeId>,
    },
    /// This node takes part no more.
    #[error("the replicated log of this node has stopped: {0}")]
    Stopped(String),
}

/// Why the state here can't be called current.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    /// Another node leads, or nobody.
    #[error("not the leader; that is {}", leader_text(*.leader))]
    NotLeader {
        /// Whom to ask, if that is known.
        leader: Option<NodeId>,
    },
    /// No majority answers.
    #[error("no majority answers: {0}")]
    NoQuorum(String),
    /// This node takes part no more.
    #[error("the replicated log of this node has stopped: {0}")]
    Stopped(String),
}

/// Why the members are as they were, as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MemberError {
    /// Another node leads, or nobody.
    #[error("not the leader; that is {}", leader_text(*.leader))]
    NotLeader {
        /// Whom to ask, if that is known.
        leader: Option<NodeId>,
    },
    /// A change before it is not through, or this one would leave no voter.
    #[error("the members can't be changed like that now: {0}")]
    Refused(String),
    /// This node takes part no more.
    #[error("the replicated log of this node has stopped: {0}")]
    Stopped(String),
}

/// Why leadership was not handed over, as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransferError {
    /// Another node leads, or nobody.
    #[error("not the leader; that is {}", leader_text(*.leader))]
    NotLeader {
        /// Whom to ask, if that is known.
        leader: Option<NodeId>,
    },
    /// It can't lead.
    #[error("node {node} is no other voter: name one that has a vote")]
    NotAVoter {
        /// Which.
        node: NodeId,
    },
    /// There is nobody.
    #[error("this node is the only voter: add another one first")]
    Alone,
    /// One at a time.
    #[error("leadership is being handed over already: wait for that")]
    UnderWay,
    /// It does not have what this node has.
    #[error("node {node} is too far behind to lead: wait until it has caught up, or name another one")]
    Behind {
        /// Which.
        node: NodeId,
    },
    /// It was not reached, or does not want to.
    #[error("node {node} does not stand for election ({detail}): check that it runs, then try again")]
    NoAnswer {
        /// Which.
        node: NodeId,
        /// What happened instead.
        detail: String,
    },
    /// It stood and has not won, as far as is known here.
    #[error("node {node} stood for election and is not known to have won: look who leads, then try again")]
    NotElected {
        /// Which.
        node: NodeId,
    },
    /// This node takes part no more.
    #[error("the replicated log of this node has stopped: {0}")]
    Stopped(String),
}

fn leader_text(leader: Option<NodeId>) -> String {
    leader.map_or_else(
        || "not known, ask again after an election".to_owned(),
        |leader| format!("node {leader}"),
    )
}
