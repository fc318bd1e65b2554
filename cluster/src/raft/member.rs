//! A member of the cluster as the log has it.

use serde::{Deserialize, Serialize};

/// Where a member is found, and what it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The name that an operator knows it by.
    pub name: String,
    /// Where its transport listens, HOST:PORT.
    pub address: String,
    /// Where it gossips, HOST:PORT.
    pub gossip: String,
    /// What it is for.
    pub role: Role,
}

/// What a member is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Carries traffic, and votes if it is one of the voters.
    #[default]
    Node,
    /// Votes and keeps the log, and carries nothing: the third voter of two hosts.
    Witness,
}
