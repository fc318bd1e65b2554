//! What the parts of a running node share: its log, its links, its view of gossip, and the way to have something applied.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use constellation_cluster::raft::{Consensus as _, LeaderView, ProposeError, RaftNode};
use constellation_cluster::state::{ClientId, Command, NodeId, Outcome, Request, Roster, State};
use constellation_gossip::{Gossip, View};
use constellation_identity::NodeName;
use constellation_link::{LinkError, Links, Service};
use thiserror::Error;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::ask::{Ask, NotApplied, Reply, decode, encode};
use crate::home::Identity;

/// Requests of this node that are under way at a time: fewer than the state remembers of a client
/// (`constellation_cluster::state::WINDOW`), so that a repetition is never taken for an old one.
const UNDER_WAY: usize = 32;
/// How long one node is asked before the question is put again, maybe to another.
pub(crate) const ATTEMPT: Duration = Duration::from_millis(400);
/// How long to wait where nobody is known to lead.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// Shared by all tasks of a node.
pub(crate) struct Core {
    pub(crate) identity: Identity,
    pub(crate) client: ClientId,
    pub(crate) raft: RaftNode,
    pub(crate) links: Links,
    /// Set once the node knows the gossip key; nothing in it any more once the node stops.
    pub(crate) gossip: OnceLock<tokio::sync::RwLock<Option<Gossip>>>,
    /// What gossip knows of the others; nobody before it has begun.
    pub(crate) views: watch::Receiver<Arc<View>>,
    sequence: AtomicU64,
    under_way: Semaphore,
    /// Where members were last seen gossiping, which is where they are now.
    seen: Arc<Seen>,
}

/// Where members were last seen.
#[derive(Default)]
pub(crate) struct Seen(RwLock<BTreeMap<String, std::net::IpAddr>>);

impl Seen {
    pub(crate) fn put(&self, view: &View) {
        let seen = view
            .peers
            .values()
            .map(|peer| (peer.name.to_string(), peer.address.ip()));
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(seen);
    }

    /// Where to look for the links of a member: at the address where it gossips now, then where the log says.
    pub(crate) fn addresses(&self, name: &str, member: &str) -> Vec<String> {
        let seen = self
            .0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .copied();
        let port = member
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u16>().ok());
        let now = seen
            .zip(port)
            .map(|(ip, port)| std::net::SocketAddr::new(ip, port).to_string());
        let mut addresses: Vec<String> = now.into_iter().collect();
        if !addresses.iter().any(|address| address == member) {
            addresses.push(member.to_owned());
        }
        addresses
    }
}

/// Why a request was not applied. It may have been, or be later, after [`ApplyError::Late`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// Nobody who leads was found, or it did not answer.
    #[error(
        "the cluster did not answer in time ({0}): without a majority of the voters nothing is changed; see `constellation nodes`"
    )]
    Late(String),
    /// This node takes part no more.
    #[error("the replicated log of this node has stopped: {0}")]
    Stopped(String),
    /// Whoever leads does not talk to this node: it was removed, or one of the two does not believe the other's certificate.
    #[error("the node that leads the cluster refuses this one: {0}")]
    Refused(String),
    /// A later process of this node has taken over.
    #[error("another process of this node has taken over")]
    Superseded,
}

impl Core {
    pub(crate) fn new(
        identity: Identity,
        client: ClientId,
        raft: RaftNode,
        links: Links,
        seen: Arc<Seen>,
        views: watch::Receiver<Arc<View>>,
    ) -> Self {
        Self {
            identity,
            client,
            raft,
            links,
            gossip: OnceLock::new(),
            views,
            sequence: AtomicU64::new(0),
            under_way: Semaphore::new(UNDER_WAY),
            seen,
        }
    }

    /// The state as this node has applied it.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        self.raft.state().read(read)
    }

    pub(crate) fn leader(&self) -> LeaderView {
        self.raft.watch().borrow().clone()
    }

    /// What is known of the others now.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.views.borrow())
    }

    /// The name and addresses of a member.
    pub(crate) fn whereabouts(&self, id: NodeId) -> Option<(NodeName, Vec<String>)> {
        let in_log = self.leader().members.get(&id).map(|(member, _)| member.clone());
        let member = in_log.or_else(|| self.read(|state| entry_of(state.roster(), id)))?;
        let name: NodeName = member.name.parse().ok()?;
        let addresses = self.seen.addresses(&member.name, &member.address);
        Some((name, addresses))
    }

    /// Asks a member.
    pub(crate) async fn ask(&self, id: NodeId, ask: &Ask, within: Duration) -> Result<Reply, LinkError> {
        let unreachable = |detail: &str| LinkError::Unreachable {
            peer: format!("node {id}"),
            detail: detail.to_owned(),
        };
        let (name, addresses) = self
            .whereabouts(id)
            .ok_or_else(|| unreachable("it is no member that this node knows"))?;
        let body = encode(ask).ok_or_else(|| unreachable("the question can't be written"))?;
        let answer = self
            .links
            .call(&name, &addresses, Service::Control, body, within)
            .await?;
        decode(&answer).ok_or_else(|| LinkError::NoAnswer {
            peer: format!("node {name}"),
            detail: "it answered something else: do both run the same release?".to_owned(),
        })
    }

    /// Has a command applied, by whoever leads, once, however often it has to be asked.
    pub(crate) async fn apply(&self, command: Command, within: Duration) -> Result<Outcome, ApplyError> {
        let until = Instant::now() + within;
        let late = |detail: &str| ApplyError::Late(detail.to_owned());
        let permit = timeout_at(until, self.under_way.acquire()).await;
        let _permit = permit
            .map_err(|_| late("too many requests of this node wait already"))?
            .map_err(|_| late("the node stops"))?;
        let request = Request {
            client: self.client,
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            command,
        };
        let outcome = self
            .of_leader(until, |leader| self.attempt(leader, &request, until))
            .await?;
        if let Outcome::Stale(stale) = &outcome {
            tracing::debug!(?stale, "a request was too old to be looked at");
            return Err(ApplyError::Superseded);
        }
        Ok(outcome)
    }

    /// What `ask` gets of whoever leads, asked again until then.
    pub(crate) async fn of_leader<T, A: Future<Output = Result<T, Missed>>>(
        &self,
        until: Instant,
        ask: impl Fn(NodeId) -> A,
    ) -> Result<T, ApplyError> {
        let mut view = self.raft.watch();
        let mut hint = None;
        let mut last = ApplyError::Late("nobody leads".to_owned());
        while Instant::now() < until {
            let known = view.borrow_and_update().leader;
            let Some(leader) = hint.take().or(known) else {
                // Whoever is elected tells at once.
                drop(timeout_at(until.min(Instant::now() + PAUSE * 5), view.changed()).await);
                continue;
            };
            match ask(leader).await {
                Ok(answer) => return Ok(answer),
                Err(Missed::Stopped(reason)) => return Err(ApplyError::Stopped(reason)),
                Err(Missed::Elsewhere(Some(other))) if other != leader => hint = Some(other),
                Err(Missed::Elsewhere(_)) => tokio::time::sleep(PAUSE).await,
                Err(Missed::Silent(detail)) => {
                    last = ApplyError::Late(detail);
                    tokio::time::sleep(PAUSE).await;
                }
                Err(Missed::Refused(reason)) => {
                    last = ApplyError::Refused(reason);
                    tokio::time::sleep(PAUSE * 5).await;
                }
            }
        }
        Err(last)
    }

    async fn attempt(&self, leader: NodeId, request: &Request, until: Instant) -> Result<Outcome, Missed> {
        let within = ATTEMPT.min(until.saturating_duration_since(Instant::now()));
        if leader == self.identity.id {
            return match timeout(within, self.raft.propose(request.clone())).await {
                Ok(Ok(outcome)) => Ok(outcome),
                Ok(Err(ProposeError::NotLeader { leader })) => Err(Missed::Elsewhere(leader)),
                Ok(Err(ProposeError::Stopped(reason))) => Err(Missed::Stopped(reason)),
                Err(_) => Err(Missed::Silent(
                    "this node leads, and no majority answers it".to_owned(),
                )),
            };
        }
        match self.ask(leader, &Ask::Propose(request.clone()), within).await {
            Ok(Reply::Proposed(Ok(outcome))) => Ok(outcome),
            Ok(Reply::Proposed(Err(NotApplied::NotLeader(leader)))) => Err(Missed::Elsewhere(leader)),
            Ok(Reply::Proposed(Err(NotApplied::Stopped(reason)))) => {
                Err(Missed::Silent(format!("node {leader}: {reason}")))
            }
            Ok(Reply::Proposed(Err(NotApplied::Late))) => Err(Missed::Silent(format!(
                "node {leader} leads, and no majority answers it"
            ))),
            Ok(_) => Err(Missed::Silent(format!("node {leader} answered something else"))),
            Err(LinkError::Stopped) => Err(Missed::Stopped("the node stops".to_owned())),
            Err(error @ LinkError::Refused { .. }) => Err(Missed::Refused(error.to_string())),
            Err(error) => Err(Missed::Silent(error.to_string())),
        }
    }

    /// Proposes for another node, as its leader.
    pub(crate) async fn propose_for(&self, request: Request) -> Result<Outcome, NotApplied> {
        match timeout(ATTEMPT, self.raft.propose(request)).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(ProposeError::NotLeader { leader })) => Err(NotApplied::NotLeader(leader)),
            Ok(Err(ProposeError::Stopped(reason))) => Err(NotApplied::Stopped(reason)),
            Err(_) => Err(NotApplied::Late),
        }
    }
}

fn entry_of(roster: &Roster, id: NodeId) -> Option<constellation_cluster::raft::Member> {
    let mut nodes = roster.nodes();
    nodes
        .find(|(_, entry)| entry.id == id)
        .map(|(_, entry)| entry.member.clone())
}

/// Why an attempt came to nothing.
pub(crate) enum Missed {
    Elsewhere(Option<NodeId>),
    Silent(String),
    Refused(String),
    Stopped(String),
}
