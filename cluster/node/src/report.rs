//! What a node says of itself and of the others.

use std::net::IpAddr;

use constellation_cluster::raft::Role;
use constellation_cluster::state::Wish;
use serde::{Deserialize, Serialize};

use crate::lease::LeaseReport;

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
    /// How many vote.
    pub voters: usize,
    /// How many members only have the log.
    pub learners: usize,
    /// Why it takes part no more.
    pub stopped: Option<String>,
}
