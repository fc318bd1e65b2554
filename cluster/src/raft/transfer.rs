//! Leadership goes to another node because an operator wants it to.
//!
//! openraft 0.9 can't do that by itself. Its followers refuse every candidate for [`super::Timers::election_max`] after they last
//! heard the leader, and only then begin to count down to a candidacy of their own. The leader does not hold itself
//! to that and grants its vote at once. So:
//!
//! - Up to three voters: the leader falls silent and asks the other one to stand, once it has led for so long; the leader's
//!   vote and its own are a majority.
//! - More: the leader falls silent for that long first, and asks before anybody stands by itself.
//!
//! While it is silent the leader takes no proposals and answers no reads, which would be heard as heartbeats. Whatever
//! comes of it, it speaks again when [`Silence`] is dropped; then either it leads still, or whoever leads, or the
//! members elect as they do when a leader has died.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use openraft::Raft;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::consensus::TransferError;
use super::network::{Call, Transport, TransportError};
use super::node::RaftNode;
use super::{Member, Timers, Types};
use crate::state::NodeId;

/// How often a target that is a little behind is asked again.
const AGAIN: Duration = Duration::from_millis(10);

/// Asks a voter to stand for election.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Stand {
    /// The term of who asks, and leads in it.
    term: u64,
    /// The last index of its log.
    last: Option<u64>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Stood {
    /// It stands.
    Stands,
    /// Its log ends earlier.
    Behind(Option<u64>),
    /// It is in another term.
    Term(u64),
}

/// The answer to [`Stand`].
pub(super) async fn stand(raft: &Raft<Types>, asked: Stand) -> Stood {
    let (term, last) = {
        let metrics = raft.metrics().borrow().clone();
        (metrics.current_term, metrics.last_log_index)
    };
    if term != asked.term {
        return Stood::Term(term);
    }
    if last < asked.last {
        return Stood::Behind(last);
    }
    match raft.trigger().elect().await {
        Ok(()) => Stood::Stands,
        // It has stopped, and its term is as good an answer as any.
        Err(_) => Stood::Term(term),
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Vec<u8>, TransportError>> + Send>>;

/// Brings a call to a member, whatever the transport.
pub(super) type Carrier = Arc<dyn Fn(NodeId, Member, Vec<u8>, Duration) -> Answer + Send + Sync>;

pub(super) fn carrier<T: Transport>(transport: &Arc<T>) -> Carrier {
    let transport = Arc::clone(transport);
    Arc::new(move |to, member, request, within| {
        let transport = Arc::clone(&transport);
        Box::pin(async move { transport.call(to, &member, request, within).await })
    })
}

/// The leader is silent for as long as this lives. One at a time.
struct Silence<'a> {
    raft: &'a Raft<Types>,
    silent: &'a AtomicBool,
}

impl<'a> Silence<'a> {
    fn begin(raft: &'a Raft<Types>, silent: &'a AtomicBool) -> Option<Self> {
        if silent.swap(true, Ordering::SeqCst) {
            return None;
        }
        raft.runtime_config().heartbeat(false);
        Some(Self { raft, silent })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.raft.runtime_config().heartbeat(true);
        self.silent.store(false, Ordering::SeqCst);
    }
}

impl RaftNode {
    /// Has another voter lead: `to`, or the one with the longest log.
    pub(super) async fn transfer(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        let metrics = self.raft.metrics().borrow().clone();
        let Some(replication) = metrics.replication.filter(|_| metrics.state.is_leader()) else {
            return Err(TransferError::NotLeader {
                leader: metrics.current_leader,
            });
        };
        let membership = metrics.membership_config.membership();
        let voters: Vec<_> = membership.voter_ids().collect();
        let matched = |id: &NodeId| replication.get(id).copied().flatten().map(|log| log.index);
        let others = || voters.iter().filter(|id| **id != self.id);
        let target = match to {
            Some(to) => others()
                .find(|id| **id == to)
                .ok_or(TransferError::NotAVoter { node: to }),
            None => others().max_by_key(|id| matched(id)).ok_or(TransferError::Alone),
        };
        let target = *target?;
        let Some(member) = membership.get_node(&target).cloned() else {
            return Err(TransferError::NotAVoter { node: target });
        };
        self.hand_over(target, member, voters.len(), metrics.current_term)
            .await
    }

    async fn hand_over(
        &self,
        target: NodeId,
        member: Member,
        voters: usize,
        term: u64,
    ) -> Result<NodeId, TransferError> {
        let silence = Silence::begin(&self.raft, &self.silent).ok_or(TransferError::UnderWay)?;
        if voters > 3 {
            sleep(self.timers.silence()).await;
        } else {
            // Its own election counts as having heard a leader.
            let since = *self.leading_since.lock().unwrap_or_else(PoisonError::into_inner);
            let led = since.map_or(Duration::ZERO, |since| since.elapsed());
            sleep(self.timers.election_max.saturating_sub(led)).await;
        }
        let patience = self.timers.election_max;
        timeout(patience, self.ask(target, member, term))
            .await
            .unwrap_or(Err(TransferError::Behind { node: target }))?;
        let mut view = self.view.clone();
        let elected =
            view.wait_for(|view| view.term > term && view.leader.is_some() || view.stopped.is_some());
        let elected = timeout(patience, elected).await;
        drop(silence);
        match elected {
            Ok(Ok(view)) => match (&view.stopped, view.leader) {
                (None, Some(leader)) if leader != self.id => Ok(leader),
                (None, _) => Err(TransferError::NotElected { node: target }),
                (Some(why), _) => Err(TransferError::Stopped(why.clone())),
            },
            Ok(Err(_)) => Err(TransferError::Stopped("it was shut down".to_owned())),
            Err(_) => Err(TransferError::NotElected { node: target }),
        }
    }

    /// Returns once the target stands.
    async fn ask(&self, target: NodeId, member: Member, term: u64) -> Result<(), TransferError> {
        let failed = |detail: String| TransferError::NoAnswer { node: target, detail };
        loop {
            // What was proposed before this node fell silent may be appended still.
            let last = self.raft.metrics().borrow().last_log_index;
            let call = Call::Stand(Stand { term, last });
            let request = postcard::to_stdvec(&call).map_err(|error| failed(error.to_string()))?;
            let answer = (self.carrier)(target, member.clone(), request, self.timers.election_max);
            let answer = answer.await.map_err(|error| failed(error.to_string()))?;
            match postcard::from_bytes(&answer).map_err(|error| failed(error.to_string()))? {
                Stood::Stands => return Ok(()),
                Stood::Behind(_) => sleep(AGAIN).await,
                Stood::Term(theirs) => {
                    return Err(failed(format!("it is in term {theirs}, this node in {term}")));
                }
            }
        }
    }
}

impl Timers {
    /// How long a leader is silent until no follower holds to it any more, and none stands by itself yet: the middle between
    /// the two. A follower may have heard it last one heartbeat before.
    fn silence(self) -> Duration {
        self.election_max + self.election_min.saturating_sub(self.heartbeat) / 2
    }
}
