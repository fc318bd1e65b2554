//! One node of the replicated log: openraft with our store, over whatever transport it is given.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openraft::error::{CheckIsLeaderError, ClientWriteError, RaftError};
use openraft::storage::RaftLogStorage as _;
use openraft::{
    ChangeMembers, Config, LogId, Raft, RaftMetrics, SnapshotPolicy, StorageError, StoredMembership,
};
use serde::Serialize;
use thiserror::Error;
use tokio::sync::watch;

use super::consensus::{Consensus, LeaderView, MemberError, ProposeError, ReadError, TransferError};
use super::figures::{Counting, Figures};
use super::network::{Appended, Call, ENTRIES_IN_A_CALL, Installed, MAX_CALL_BYTES, Peers, Transport, Voted};
use super::store::{self, Closed, LogStore, Machine, Observer, SharedState};
use super::transfer::{self, Carrier, Stood};
use super::{Member, OnFailure, Progress, StoreFailure, Types, promotable};
use crate::bug::{self, Bug};
use crate::state::{Command, NodeId, Outcome, Request};

/// How long the store may take to close once nothing is asked of it any more.
const CLOSING: Duration = Duration::from_secs(10);
/// A learner that is no further behind has caught up.
const CAUGHT_UP: u64 = 64;

/// How fast the nodes find out about each other, and how much of the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// How often the leader tells that it lives.
    pub heartbeat: Duration,
    /// How long followers wait for it at least.
    pub election_min: Duration,
    /// And at most.
    pub election_max: Duration,
    /// After how many entries a snapshot is made.
    pub snapshot_every: u64,
    /// How many entries are kept behind one, for those who are a little late.
    pub keep: u64,
}

impl Timers {
    /// For round trips of a few milliseconds: a leader that dies is replaced within 0.6 s.
    pub const LAN: Self = Self {
        heartbeat: Duration::from_millis(50),
        election_min: Duration::from_millis(150),
        election_max: Duration::from_millis(300),
        snapshot_every: 1_000,
        keep: 500,
    };
    /// For round trips of up to 200 ms.
    pub const WAN: Self = Self {
        heartbeat: Duration::from_millis(300),
        election_min: Duration::from_millis(1_200),
        election_max: Duration::from_millis(2_400),
        ..Self::LAN
    };
}

/// Why a node does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The store is not fit.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// The timers contradict each other.
    #[error("timers of the replicated log: {0}")]
    Timers(String),
    /// openraft found something in the store that it does not take.
    #[error("the replicated log does not start: {0}")]
    Raft(String),
    /// It has members already, or is to be one of another cluster.
    #[error("a cluster can't be founded on this log: {0}; a node that is a member already is only started")]
    Founded(String),
}

/// One node of the replicated log.
#[derive(Clone)]
pub struct RaftNode {
    pub(super) id: NodeId,
    pub(super) raft: Raft<Types>,
    pub(super) timers: Timers,
    pub(super) view: watch::Receiver<LeaderView>,
    /// For what openraft's network has no call for.
    pub(super) carrier: Carrier,
    /// Set while leadership is handed over.
    pub(super) silent: Arc<AtomicBool>,
    /// Since when it leads, if it does.
    pub(super) leading_since: Arc<Mutex<Option<Instant>>>,
    /// The end of the log when this process began to lead on in the term in which the one before it led.
    resumed: Option<LogId<NodeId>>,
    counting: Arc<Counting>,
    state: SharedState,
    closed: Closed,
}

impl fmt::Debug for RaftNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftNode")
            .field("id", &self.id)
            .field("view", &*self.view.borrow())
            .finish_non_exhaustive()
    }
}

impl RaftNode {
    /// Starts with what is in `folder`, which has to be there and may be empty. A node that is not a member waits to be
    /// added; it never founds a cluster because nobody came.
    ///
    /// # Errors
    /// If the store is not fit, or the timers contradict each other.
    pub async fn start<T: Transport>(
        id: NodeId,
        folder: &Path,
        timers: Timers,
        transport: Arc<T>,
        observer: Observer,
        told: OnFailure,
    ) -> Result<Self, StartError> {
        let config = timers.config().map_err(StartError::Timers)?;
        // What a recovery left undone when it was interrupted.
        store::finish(folder)?;
        let mut log = LogStore::open(&folder.join("log.redb"), id, Arc::clone(&told))?;
        let resumed = resumed(&mut log, id)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;
        let machine = Machine::open(folder, observer, told)?;
        let state = machine.state();
        let (closed, counting) = (log.closed(), log.counting());
        let carrier = transfer::carrier(&transport);
        let raft = Raft::new(id, Arc::new(config), Peers(transport), log, machine)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;
        let mut metrics = raft.metrics();
        let (tell, view) = watch::channel(view_of(&metrics.borrow_and_update()));
        let leading_since = Arc::new(Mutex::new(None));
        let since = Arc::clone(&leading_since);
        // Ends with the last handle of the node, or when nobody watches any more.
        tokio::spawn(async move {
            let mut seen = None;
            while metrics.changed().await.is_ok() {
                let now = {
                    let metrics = metrics.borrow_and_update();
                    // Most changes are that somebody has answered a heartbeat, which a view does not show.
                    let shown = shown(&metrics);
                    if seen.as_ref() == Some(&shown) {
                        continue;
                    }
                    seen = Some(shown);
                    view_of(&metrics)
                };
                if tell.is_closed() {
                    break;
                }
                {
                    let mut since = since.lock().unwrap_or_else(PoisonError::into_inner);
                    *since = now.leading.then(|| since.unwrap_or_else(Instant::now));
                }
                tell.send_if_modified(|before| {
                    let changed = *before != now;
                    *before = now;
                    changed
                });
            }
        });
        Ok(Self {
            id,
            raft,
            timers,
            view,
            carrier,
            silent: Arc::default(),
            leading_since,
            resumed,
            counting,
            state,
            closed,
        })
    }

    /// Founds a cluster with this node as the only voter. Once in the life of a cluster, because an operator said so.
    ///
    /// # Errors
    /// If the node is a member of one already.
    pub async fn found(&self, member: Member) -> Result<(), StartError> {
        let members = BTreeMap::from([(self.id, member)]);
        self.raft
            .initialize(members)
            .await
            .map_err(|error| StartError::Founded(error.to_string()))
    }

    /// Answers a call that the transport of another member brought. Nothing if it is none; the transport drops that
    /// connection.
    pub async fn serve(&self, request: &[u8]) -> Option<Vec<u8>> {
        if request.len() > MAX_CALL_BYTES {
            return None;
        }
        let answer = match postcard::from_bytes::<Call>(request).ok()? {
            Call::Append(rpc) => encode::<Appended>(&self.raft.append_entries(rpc).await),
            Call::Vote(rpc) => encode::<Voted>(&self.raft.vote(rpc).await),
            Call::Snapshot(rpc) => encode::<Installed>(&self.raft.install_snapshot(rpc).await),
            Call::Stand(asked) => encode::<Stood>(&transfer::stand(&self.raft, asked).await),
        };
        answer
            .inspect_err(
                |error| tracing::error!(%error, "an answer to a member of the cluster can't be written"),
            )
            .ok()
    }

    /// A change of members would be heard as a heartbeat.
    fn speaks(&self) -> Result<(), MemberError> {
        if self.silent.load(Ordering::SeqCst) {
            return Err(MemberError::Refused("leadership is being handed over".to_owned()));
        }
        Ok(())
    }

    /// The state as this node has applied it.
    #[must_use]
    pub fn state(&self) -> &SharedState {
        &self.state
    }

    /// What this node has counted since it started.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let (last_log, applied) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            (metrics.last_log_index, metrics.last_applied.map(|id| id.index))
        };
        self.counting.read(last_log, applied)
    }

    /// Stops taking part, and returns when the log is closed: another process may open it. Gives up waiting after 10 s, with
    /// an error in the log, should something still read it then.
    pub async fn shut_down(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "the replicated log did not stop as it should");
        }
        let mut closed = self.closed.clone();
        if tokio::time::timeout(CLOSING, closed.wait()).await.is_err() {
            tracing::error!("the replicated log has stopped, and its file is still open");
        }
    }
}

fn encode<T: Serialize>(answer: &T) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_stdvec(answer)
}

impl Timers {
    fn config(self) -> Result<Config, String> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let config = Config {
            cluster_name: "constellation".to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            install_snapshot_timeout: 10_000,
            max_payload_entries: ENTRIES_IN_A_CALL,
            replication_lag_threshold: self.snapshot_every.saturating_add(self.keep),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            snapshot_max_chunk_size: 1024 * 1024,
            max_in_snapshot_log_to_keep: self.keep,
            ..Config::default()
        };
        config.validate().map_err(|error| error.to_string())
    }
}

/// What a view is made of, as cheap as can be.
type Shown = (
    u64,
    Option<NodeId>,
    bool,
    Option<u64>,
    bool,
    Arc<StoredMembership<NodeId, Member>>,
);

fn shown(metrics: &RaftMetrics<NodeId, Member>) -> Shown {
    (
        metrics.current_term,
        metrics.current_leader,
        metrics.state.is_leader(),
        metrics.last_applied.map(|applied| applied.index),
        metrics.running_state.is_err(),
        Arc::clone(&metrics.membership_config),
    )
}

fn view_of(metrics: &RaftMetrics<NodeId, Member>) -> LeaderView {
    let membership = metrics.membership_config.membership();
    let voters: std::collections::BTreeSet<_> = membership.voter_ids().collect();
    let members = membership
        .nodes()
        .map(|(id, member)| (*id, (member.clone(), voters.contains(id))))
        .collect();
    LeaderView {
        term: metrics.current_term,
        leader: metrics.current_leader,
        leading: metrics.state.is_leader(),
        members,
        applied: metrics.last_applied.map(|applied| applied.index),
        stopped: metrics.running_state.as_ref().err().map(ToString::to_string),
    }
}

/// A process that was started anew and finds that it led leads on in the same term, without an entry that says so. What is
/// on its disk as agreed upon may be older than what the process before it has confirmed; but all of that is in the log.
async fn resumed(log: &mut LogStore, id: NodeId) -> Result<Option<LogId<NodeId>>, StorageError<NodeId>> {
    let vote = log.read_vote().await?;
    let leads = vote.is_some_and(|vote| vote.is_committed() && vote.leader_id().voted_for() == Some(id));
    if !leads {
        return Ok(None);
    }
    Ok(log.get_log_state().await?.last_log_id)
}

type WriteError = RaftError<NodeId, ClientWriteError<NodeId, Member>>;

fn member_error(error: WriteError) -> MemberError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
            MemberError::NotLeader { leader: to.leader_id }
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            MemberError::Refused(error.to_string())
        }
        RaftError::Fatal(fatal) => MemberError::Stopped(fatal.to_string()),
    }
}

impl Consensus for RaftNode {
    async fn propose(&self, request: Request) -> Result<Outcome, ProposeError> {
        // Nor does it go into the log of every node first.
        if let Command::Document(change) = &request.command
            && let Some(unfit) = change.unfit()
        {
            return Ok(Outcome::Document(unfit));
        }
        if self.silent.load(Ordering::SeqCst) {
            return Err(ProposeError::NotLeader { leader: None });
        }
        match self.raft.client_write(request).await {
            Ok(response) => response
                .data
                .ok_or_else(|| ProposeError::Stopped("a request was applied as something else".to_owned())),
            Err(error) => Err(match member_error(error) {
                MemberError::NotLeader { leader } => ProposeError::NotLeader { leader },
                MemberError::Refused(detail) | MemberError::Stopped(detail) => ProposeError::Stopped(detail),
            }),
        }
    }

    async fn read_barrier(&self) -> Result<u64, ReadError> {
        if self.silent.load(Ordering::SeqCst) {
            return Err(ReadError::NotLeader { leader: None });
        }
        if bug::is(Bug::StaleReads) {
            return Ok(0);
        }
        match self.raft.ensure_linearizable().await {
            // A leader has an entry of its own at least.
            Ok(last) => {
                let index = last.map_or(0, |last| last.index);
                let of_then = |resumed: &LogId<NodeId>| {
                    last.is_none_or(|last| last.leader_id.term <= resumed.leader_id.term)
                };
                Ok(self
                    .resumed
                    .filter(of_then)
                    .map_or(index, |resumed| resumed.index.max(index)))
            }
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to))) => {
                Err(ReadError::NotLeader { leader: to.leader_id })
            }
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(error))) => {
                Err(ReadError::NoQuorum(error.to_string()))
            }
            Err(RaftError::Fatal(fatal)) => Err(ReadError::Stopped(fatal.to_string())),
        }
    }

    async fn add_learner(&self, id: NodeId, member: Member) -> Result<(), MemberError> {
        self.speaks()?;
        self.raft
            .add_learner(id, member, false)
            .await
            .map(|_| ())
            .map_err(member_error)
    }

    async fn promote(&self) -> Result<Vec<NodeId>, MemberError> {
        self.speaks()?;
        let metrics = self.raft.metrics().borrow().clone();
        let Some(replication) = &metrics.replication else {
            return Err(MemberError::NotLeader {
                leader: metrics.current_leader,
            });
        };
        let members = view_of(&metrics)
            .members
            .into_iter()
            .map(|(id, (member, voter))| {
                let matched = replication
                    .get(&id)
                    .copied()
                    .flatten()
                    .map(|matched| matched.index);
                (
                    id,
                    Progress {
                        member,
                        voter,
                        matched,
                    },
                )
            });
        let chosen = promotable(&members.collect(), metrics.last_log_index.unwrap_or(0), CAUGHT_UP);
        if !chosen.is_empty() {
            let change = ChangeMembers::AddVoterIds(chosen.iter().copied().collect());
            self.raft
                .change_membership(change, true)
                .await
                .map_err(member_error)?;
        }
        Ok(chosen)
    }

    async fn remove(&self, id: NodeId) -> Result<(), MemberError> {
        self.speaks()?;
        let voter = self
            .view
            .borrow()
            .members
            .get(&id)
            .is_some_and(|(_, voter)| *voter);
        let ids = std::collections::BTreeSet::from([id]);
        let change = if voter {
            ChangeMembers::RemoveVoters(ids)
        } else {
            ChangeMembers::RemoveNodes(ids)
        };
        self.raft
            .change_membership(change, false)
            .await
            .map(|_| ())
            .map_err(member_error)
    }

    async fn step_down(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        self.transfer(to).await
    }

    fn watch(&self) -> watch::Receiver<LeaderView> {
        self.view.clone()
    }
}
