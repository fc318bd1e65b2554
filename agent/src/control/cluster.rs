//! The cluster over the API: who is in it, who leads, who holds which lease, and what operators want of that.
//!
//! A node in no cluster is shown as a cluster of one, as far as there is something to show; what needs a cluster is refused with
//! a word on how to make one.

use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use constellation_cluster::lease::LeaseKey;
use constellation_cluster::raft::Role;
use constellation_cluster::state::Wish;
use constellation_identity::NodeName;
use constellation_node::{ClusterReport, LeaseReport, LoadReport, Node, NodeReport, OrderError};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::{ControlState, rfc3339};

/// The longest life of a join token, and how long it is good where nobody says.
const TOKEN_RANGE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(7 * 24 * 3600);
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// How long a read that has to be current may take.
const CATCHING_UP: Duration = Duration::from_secs(5);

/// A node as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct NodeView {
    name: String,
    id: Option<u64>,
    this: bool,
    online: bool,
    cordoned: bool,
    draining: bool,
    voter: bool,
    leader: bool,
    witness: bool,
    priority: Option<u32>,
    region: Option<String>,
    version: Option<String>,
    address: Option<String>,
    public_ip: Option<String>,
    tailscale_ip: Option<String>,
    capabilities: Vec<String>,
    leases: Vec<String>,
    last_seen: Option<String>,
    /// As it told last; `None` of a node of no cluster, or that has not told.
    load: Option<LoadReport>,
    /// Nobody looks yet.
    warp_healthy: Option<bool>,
}

impl NodeView {
    pub(super) fn is_online(&self) -> bool {
        self.online
    }

    /// The name of the node that leads the log, where this is it.
    pub(super) fn leading(&self) -> Option<&str> {
        self.leader.then_some(&*self.name)
    }

    fn of(node: &NodeReport, now: SystemTime) -> Self {
        // RFC 6598, which Tailscale takes its addresses from; its IPv6 addresses are in one prefix.
        let tailscale = node.address.filter(|ip| match ip {
            std::net::IpAddr::V4(v4) => v4.octets()[0] == 100 && (64..128).contains(&v4.octets()[1]),
            std::net::IpAddr::V6(v6) => v6.segments()[..3] == [0xfd7a, 0x115c, 0xa1e0],
        });
        Self {
            name: node.name.clone(),
            id: Some(node.id),
            this: node.this,
            online: node.online,
            cordoned: node.wish != Wish::Serve,
            draining: node.wish == Wish::Drain,
            voter: node.voter,
            leader: node.leader,
            witness: node.role == Role::Witness,
            priority: node.priority,
            region: node.region.clone(),
            version: node.release.clone(),
            address: node.address.map(|ip| ip.to_string()),
            public_ip: node.public.first().map(ToString::to_string),
            tailscale_ip: tailscale.map(|ip| ip.to_string()),
            capabilities: node.capabilities.clone(),
            leases: node.leases.clone(),
            last_seen: node.online.then(|| rfc3339(now)),
            load: node.load,
            warp_healthy: None,
        }
    }

    /// The only node of no cluster.
    fn alone(state: &ControlState, now: SystemTime) -> Self {
        Self {
            name: state.facts.name.clone(),
            id: None,
            this: true,
            online: true,
            cordoned: false,
            draining: state.draining.is_cancelled(),
            voter: false,
            leader: false,
            witness: false,
            priority: Some(state.facts.priority.into()),
            region: state.facts.region.clone(),
            version: Some(state.facts.version.to_owned()),
            address: None,
            public_ip: None,
            tailscale_ip: None,
            capabilities: Vec::new(),
            leases: Vec::new(),
            last_seen: Some(rfc3339(now)),
            load: None,
            warp_healthy: None,
        }
    }
}

type Answer<T> = Result<Json<T>, Problem>;

fn unavailable(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

fn member(state: &ControlState) -> Result<Node, Problem> {
    state.cluster.node().ok_or_else(|| match state.cluster.identity() {
        Some(identity) => unavailable(format!(
            "node {} is a member of cluster {}, and its part of it does not run now; try again, or see the log",
            identity.node, identity.cluster
        )),
        None => Problem::new(
            StatusCode::CONFLICT,
            "this node is in no cluster: `constellation init` makes one, `constellation join` gets into one",
        ),
    })
}

fn named(name: &str) -> Result<NodeName, Problem> {
    name.parse().map_err(|error: constellation_identity::NameError| {
        Problem::new(StatusCode::BAD_REQUEST, error.to_string())
    })
}

/// All nodes as this one sees them.
pub(super) fn nodes_of(state: &ControlState) -> Vec<NodeView> {
    let now = SystemTime::now();
    match state.cluster.node() {
        Some(node) => node
            .report()
            .nodes
            .iter()
            .map(|node| NodeView::of(node, now))
            .collect(),
        None => vec![NodeView::alone(state, now)],
    }
}

/// How current an answer has to be.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Consistency {
    /// As this node knows, which may be a moment old; without a majority, too.
    #[default]
    Local,
    /// What the log holds (members, what is wanted of them, leases, votes) is not older than the question. Who is
    /// heard of and what they tell of themselves is this node's knowledge all the same.
    Linearizable,
}

/// The query of a read.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ReadWish {
    consistency: Consistency,
}

/// The same, as it comes.
type Read = Result<Query<ReadWish>, QueryRejection>;

/// Waits until this node may answer as asked. A node on its own knows all that there is to know.
async fn current(state: &ControlState, read: Read) -> Result<(), Problem> {
    let Query(wish) = read.map_err(|rejection| {
        let detail = format!(
            "{}; expected nothing, or consistency=local or consistency=linearizable",
            rejection.body_text()
        );
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })?;
    match (wish.consistency, state.cluster.identity()) {
        (Consistency::Local, _) | (_, None) => Ok(()),
        (Consistency::Linearizable, Some(_)) => {
            let node = member(state)?;
            state
                .cluster
                .run(async move { node.catch_up(CATCHING_UP).await })
                .await
                .map_err(unavailable)?
                .map_err(|error| unavailable(error.to_string()))
        }
    }
}

pub(super) async fn nodes(State(state): State<ControlState>, read: Read) -> Answer<Vec<NodeView>> {
    current(&state, read).await?;
    Ok(Json(nodes_of(&state)))
}

pub(super) async fn node(
    State(state): State<ControlState>,
    Path(name): Path<String>,
    read: Read,
) -> Answer<NodeView> {
    current(&state, read).await?;
    let found = nodes_of(&state).into_iter().find(|node| node.name == name);
    found.map(Json).ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            format!("there is no node {name:?}; see /api/v1/nodes"),
        )
    })
}

/// Everything about the cluster, as this node sees it.
pub(super) async fn report(State(state): State<ControlState>, read: Read) -> Answer<ClusterReport> {
    current(&state, read).await?;
    Ok(Json(member(&state)?.report()))
}

/// The contract's answer of `/raft/status` and `/raft/leader`, and what operators want beside it.
#[derive(Debug, Serialize)]
pub(super) struct RaftView {
    is_leader: bool,
    leader: Option<String>,
    term: u64,
    quorum: bool,
    applied: Option<u64>,
    lag: u64,
    elections_started: u64,
    elections_won: u64,
    leader_changes: u64,
    write_mean_us: Option<u64>,
    write_longest_us: u64,
    voters: usize,
    learners: usize,
    stopped: Option<String>,
    timestamp: String,
}

pub(super) async fn raft(State(state): State<ControlState>) -> Answer<RaftView> {
    let report = member(&state)?.report();
    let raft = report.raft;
    Ok(Json(RaftView {
        is_leader: raft.is_leader,
        leader: raft.leader,
        term: raft.term,
        quorum: report.quorum,
        applied: raft.applied,
        lag: raft.lag,
        elections_started: raft.elections_started,
        elections_won: raft.elections_won,
        leader_changes: raft.leader_changes,
        write_mean_us: raft.write_mean_us,
        write_longest_us: raft.write_longest_us,
        voters: raft.voters,
        learners: raft.learners,
        stopped: raft.stopped,
        timestamp: rfc3339(SystemTime::now()),
    }))
}

pub(super) async fn leases(State(state): State<ControlState>) -> Answer<Vec<LeaseReport>> {
    Ok(Json(member(&state)?.report().leases))
}

/// What an order came to.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    done: String,
}

fn done(text: String) -> Answer<Done> {
    Ok(Json(Done { done: text }))
}

fn refused(error: &OrderError) -> Problem {
    let status = match error {
        OrderError::UnknownNode(_) => StatusCode::NOT_FOUND,
        OrderError::TokensFull => StatusCode::CONFLICT,
        OrderError::Apply(_) | OrderError::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    Problem::new(status, error.to_string())
}

async fn wish(state: &ControlState, name: String, wish: Wish, words: &str) -> Answer<Done> {
    let (node, name) = (member(state)?, named(&name)?);
    let text = format!("node {name} {words}");
    state
        .cluster
        .run(async move { node.wish(&name, wish).await })
        .await
        .map_err(unavailable)?
        .map_err(|error| refused(&error))?;
    tracing::info!("{text}, says an operator");
    done(text)
}

pub(super) async fn cordon(State(state): State<ControlState>, Path(name): Path<String>) -> Answer<Done> {
    wish(&state, name, Wish::Cordon, "gets no new connections and no lease").await
}

pub(super) async fn drain(State(state): State<ControlState>, Path(name): Path<String>) -> Answer<Done> {
    wish(
        &state,
        name,
        Wish::Drain,
        "gets nothing new, and what it has may end",
    )
    .await
}

pub(super) async fn uncordon(State(state): State<ControlState>, Path(name): Path<String>) -> Answer<Done> {
    wish(&state, name, Wish::Serve, "serves").await
}

pub(super) async fn remove(State(state): State<ControlState>, Path(name): Path<String>) -> Answer<Done> {
    let (node, name) = (member(&state)?, named(&name)?);
    if name == node.identity().node {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "a node does not remove itself: `constellation leave` there, or ask another node to remove it",
        ));
    }
    let text = format!("node {name} is no member any more; its certificate is refused everywhere");
    state
        .cluster
        .run(async move { node.remove(&name).await })
        .await
        .map_err(unavailable)?
        .map_err(|error| refused(&error))?;
    tracing::warn!("{text}, says an operator");
    done(text)
}

/// To whom.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transfer {
    to: String,
}

fn body<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    body.map(|Json(body)| body)
        .map_err(|rejection| Problem::new(StatusCode::BAD_REQUEST, rejection.body_text()))
}

pub(super) async fn transfer(
    State(state): State<ControlState>,
    Path(key): Path<String>,
    wish: Result<Json<Transfer>, JsonRejection>,
) -> Answer<Done> {
    let (node, to) = (member(&state)?, named(&body(wish)?.to)?);
    let key: LeaseKey = key
        .parse()
        .map_err(|error: constellation_cluster::lease::KeyError| {
            Problem::new(StatusCode::NOT_FOUND, error.to_string())
        })?;
    let text = format!("{key} goes to node {to}");
    state
        .cluster
        .run(async move { node.hand_over(&key, &to).await })
        .await
        .map_err(unavailable)?
        .map_err(|error| Problem::new(StatusCode::CONFLICT, error))?;
    done(text)
}

/// For how long.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TokenWish {
    /// Such as `30m`.
    #[serde(rename = "for")]
    lifetime: Option<String>,
}

/// A join token. Shown once.
#[derive(Serialize)]
pub(super) struct TokenView {
    token: String,
    expires_in_seconds: u64,
}

pub(super) async fn token(
    State(state): State<ControlState>,
    wish: Result<Json<TokenWish>, JsonRejection>,
) -> Answer<TokenView> {
    let node = member(&state)?;
    let lifetime = match body(wish)?.lifetime {
        Some(text) => constellation_config::duration::parse(&text)
            .filter(|lifetime| TOKEN_RANGE.contains(lifetime))
            .ok_or_else(|| {
                Problem::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    format!("{text:?} is no life of a join token: expected 1m to 7d as in 30m or 24h"),
                )
            })?,
        None => TOKEN_LIFETIME,
    };
    let token = state
        .cluster
        .run(async move { node.issue_token(lifetime).await })
        .await
        .map_err(unavailable)?
        .map_err(|error| refused(&error))?;
    Ok(Json(TokenView {
        token: token.to_string(),
        expires_in_seconds: lifetime.as_secs(),
    }))
}

pub(super) async fn rotate_gossip(State(state): State<ControlState>) -> Answer<Done> {
    let node = member(&state)?;
    state
        .cluster
        .run(async move { node.rotate_gossip().await })
        .await
        .map_err(unavailable)?
        .map_err(unavailable)?;
    done("gossip is sealed with another key".to_owned())
}

pub(super) async fn renew_certificate(State(state): State<ControlState>) -> Answer<Done> {
    member(&state)?.renew_certificate();
    done("this node asks for another certificate now; see certificate_ends in /api/v1/cluster".to_owned())
}

/// Takes this node out: leases go to others, then it is no member any more, then its part of the cluster ends and what it has
/// of it on disk is put aside.
pub(super) async fn leave(State(state): State<ControlState>) -> Answer<Done> {
    let node = member(&state)?;
    let cluster = state.cluster.clone();
    let left = state
        .cluster
        .run(async move { cluster.leave(node).await })
        .await
        .map_err(unavailable)?
        .map_err(unavailable)?;
    done(left)
}
