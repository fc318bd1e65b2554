//! What a node says of itself and of the others.

use std::net::IpAddr;
use std::sync::PoisonError;
use std::time::Duration;

use constellation_cluster::raft::Role;
use constellation_cluster::state::{Entry, Wish};
use constellation_gossip::Load;
use constellation_identity::NodeName;
use serde::{Deserialize, Serialize};

use crate::lease::LeaseReport;
use crate::node::Node;

/// A node of the cluster, as one of them sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Its number in the log.
    pub id: u64,
    /// Whether it is the one that reports.
    pub this: bool,
    /// Whether it is heard of; of itself a node always hears.
    pub online: bool,
    /// Where it is reached by other nodes, as far as that is known.
    pub address: Option<IpAddr>,
    /// Its public addresses.
    pub public: Vec<IpAddr>,
    /// Lower is preferred.
    pub priority: Option<u32>,
    /// Its region.
    pub region: Option<String>,
    /// Its release.
    pub release: Option<String>,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// What an operator wants of it.
    pub wish: Wish,
    /// What it is for.
    pub role: Role,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it leads the log, as far as the one that reports knows.
    pub leader: bool,
    /// The leases that it has.
    pub leases: Vec<String>,
    /// How much it has to do, as it told last.
    pub load: Option<LoadReport>,
}

/// How much a node has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Of all its processors, in thousandths.
    pub cpu_permille: u16,
    /// Of its memory, in thousandths.
    pub memory_permille: u16,
    /// Connections of clients that are open.
    pub connections: u32,
    /// Requests under way.
    pub requests: u32,
}

impl From<Load> for LoadReport {
    fn from(load: Load) -> Self {
        let Load {
            cpu_permille,
            memory_permille,
            connections,
            requests,
        } = load;
        Self {
            cpu_permille,
            memory_permille,
            connections,
            requests,
        }
    }
}

/// The cluster, as one of its nodes sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterReport {
    /// Which cluster.
    pub cluster: String,
    /// Which node reports.
    pub node: String,
    /// Whether a majority of the voters answers.
    pub quorum: bool,
    /// Whether this node was removed.
    pub removed: bool,
    /// The log.
    pub raft: RaftReport,
    /// All members.
    pub nodes: Vec<NodeReport>,
    /// The leases that this node takes part in.
    pub leases: Vec<LeaseReport>,
    /// When this node's certificate ends, in seconds since 1970.
    pub certificate_ends: u64,
    /// Whether gossip runs.
    pub gossip: bool,
}

/// The replicated log of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftReport {
    /// The term, which only grows.
    pub term: u64,
    /// Who leads, by name.
    pub leader: Option<String>,
    /// Whether that is this node.
    pub is_leader: bool,
    /// The last entry that was applied here.
    pub applied: Option<u64>,
    /// How many entries are here and not applied yet.
    pub lag: u64,
    /// How often this node stood for election since it started.
    pub elections_started: u64,
    /// How often it was elected.
    pub elections_won: u64,
    /// How often it learned of a leader in another term.
    pub leader_changes: u64,
    /// How long a write of the log took on average, in microseconds; `None` before the first.
    pub write_mean_us: Option<u64>,
    /// And the longest.
    pub write_longest_us: u64,
    /// How many vote.
    pub voters: usize,
    /// How many members only have the log.
    pub learners: usize,
    /// Why it takes part no more.
    pub stopped: Option<String>,
}

impl Node {
    /// The cluster as this node sees it.
    #[must_use]
    pub fn report(&self) -> ClusterReport {
        let inner = &self.0;
        let core = &inner.core;
        let (log, view) = (core.leader(), core.view());
        let metadata = self.metadata();
        let own = core.identity.id;
        let load = self.own_load();
        let nodes = core.read(|state| {
            let leases: Vec<_> = state
                .leases()
                .iter()
                .map(|(key, lease)| (key.to_string(), lease.holder.node))
                .collect();
            let node = |(name, entry): (&NodeName, &Entry)| {
                let this = entry.id == own;
                let peer = view.peers.get(name);
                let metadata = if this {
                    Some(&metadata)
                } else {
                    peer.and_then(|peer| peer.metadata.as_ref())
                };
                NodeReport {
                    name: name.to_string(),
                    id: entry.id.0,
                    this,
                    online: this || peer.is_some(),
                    address: match this {
                        true => Some(self.advertised()),
                        false => peer.map(|peer| peer.address.ip()),
                    },
                    public: metadata
                        .map(|metadata| metadata.public.clone())
                        .unwrap_or_default(),
                    priority: metadata.map(|metadata| metadata.priority),
                    region: metadata.and_then(|metadata| metadata.region.as_ref().map(ToString::to_string)),
                    release: metadata.map(|metadata| metadata.release.to_string()),
                    capabilities: metadata
                        .map(|metadata| metadata.capabilities.iter().map(ToString::to_string).collect())
                        .unwrap_or_default(),
                    wish: entry.wish,
                    role: entry.member.role,
                    voter: log.members.get(&entry.id).is_some_and(|(_, voter)| *voter),
                    leader: log.leader == Some(entry.id),
                    load: if this {
                        load
                    } else {
                        peer.and_then(|peer| peer.load)
                    }
                    .map(LoadReport::from),
                    leases: leases
                        .iter()
                        .filter(|(_, holder)| *holder == entry.id)
                        .map(|(key, _)| key.clone())
                        .collect(),
                }
            };
            state.roster().nodes().map(node).collect()
        });
        let leader = log
            .leader
            .and_then(|id| core.read(|state| state.roster().name(id).map(ToString::to_string)));
        let voters = log.members.values().filter(|(_, voter)| *voter).count();
        let figures = core.raft.figures();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let reports = inner.reports.lock().unwrap_or_else(PoisonError::into_inner);
        ClusterReport {
            cluster: core.identity.cluster.to_string(),
            node: core.identity.node.to_string(),
            quorum: *inner.quorum.borrow(),
            removed: *inner.removed.borrow(),
            raft: RaftReport {
                term: log.term,
                leader,
                is_leader: log.leading,
                applied: log.applied,
                lag: figures.lag(),
                elections_started: figures.elections_started,
                elections_won: figures.elections_won,
                leader_changes: figures.leader_changes,
                write_mean_us: figures.writes.mean().map(micros),
                write_longest_us: micros(figures.writes.longest),
                voters,
                learners: log.members.len() - voters,
                stopped: log.stopped.clone(),
            },
            nodes,
            leases: reports.iter().map(|report| report.borrow().clone()).collect(),
            certificate_ends: inner.credentials.borrow().certificate().ends().0,
            gossip: core.gossip.get().is_some(),
        }
    }
}
