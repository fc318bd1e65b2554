//! Who asks: a node, and which of its lives.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A node of the cluster, for as long as it is a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl From<u64> for NodeId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One process of a node.
///
/// A process that starts takes an incarnation above all that its node had before (a counter on disk, durable before the
/// first request). Requests of an earlier one are refused from the first request of a later one on, so that a process
/// that was frozen can't renew what its successor does not know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientId {
    /// The node.
    pub node: NodeId,
    /// Which of its processes; grows from start to start.
    pub incarnation: u64,
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.incarnation)
    }
}
