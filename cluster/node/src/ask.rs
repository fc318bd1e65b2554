//! What nodes ask each other, and what joiners ask: the bodies of calls over [`constellation_link`].

use constellation_cluster::lease::LeaseKey;
use constellation_cluster::raft::Role;
use constellation_cluster::state::{ClientId, NodeId, Outcome, Request};
use constellation_identity::{JoinGrant, JoinRequest, Refusal, RenewRequest};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A question to a member.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Has a request applied; for the leader.
    Propose(Request),
    /// Takes somebody in who asked another member; for the leader.
    Join(JoinCall),
    /// The asker's next certificate; for the leader.
    Renew(RenewRequest),
    /// Gives a lease to another process; for the node that has it.
    HandOver {
        /// Which.
        key: LeaseKey,
        /// To whom.
        to: ClientId,
    },
    /// There is another export of the asker's.
    Changed {
        /// Its version.
        version: u64,
    },
    /// Whether it is there.
    Presence,
    /// How far the asker has to have applied the log to read what is current; for the leader.
    ReadIndex,
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Proposed(Result<Outcome, NotApplied>),
    Joined(Result<Joined, JoinFailure>),
    Renewed(Result<JoinGrant, JoinFailure>),
    HandedOver(Result<(), String>),
    Noted,
    ReadIndex(Result<u64, NotApplied>),
}

/// Why a request was not applied, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NotApplied {
    /// Ask that one, if it is known.
    NotLeader(Option<NodeId>),
    /// It takes part no more.
    Stopped(String),
    /// It took too long.
    Late,
}

/// What a joiner sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinCall {
    /// Who it is and by which token.
    pub request: JoinRequest,
    /// Where its links will listen, HOST:PORT.
    pub address: String,
    /// Where it will gossip, HOST:PORT.
    pub gossip: String,
    /// What it is for.
    pub role: Role,
}

/// What it gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Its certificate and whom to believe.
    pub grant: JoinGrant,
    /// Its number.
    pub id: NodeId,
}

/// Why it gets nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum JoinFailure {
    /// Not taken in.
    #[error(transparent)]
    Refused(Refusal),
    /// The cluster can't say now.
    #[error("the cluster can't take anybody in now: {0}; try again, the token is still good")]
    NotNow(String),
    /// Too many.
    #[error("the cluster has all the members it can have ({0})")]
    Full(usize),
}

/// A question for something large.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Pull {
    /// What the node tells of its services, in this version or a later one.
    Export,
}

/// A body, or nothing where it is not one of ours. The lengths are bounded where they are read.
pub(crate) fn decode<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(body).ok()?;
    rest.is_empty().then_some(value)
}

/// Reads bytes as every kind of message, for the fuzzer: what can be read can be written, and is read again as the same.
#[doc(hidden)]
pub fn read_any(bytes: &[u8]) {
    fn one<'b, T: Deserialize<'b> + Serialize>(bytes: &'b [u8]) {
        if let Some(value) = decode::<T>(bytes) {
            assert!(encode(&value).is_some(), "what was read can be written");
        }
    }
    one::<Ask>(bytes);
    one::<Reply>(bytes);
    one::<Pull>(bytes);
    one::<JoinCall>(bytes);
    one::<Result<Joined, JoinFailure>>(bytes);
}

/// As a body.
pub(crate) fn encode<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    postcard::to_stdvec(value)
        .inspect_err(
            |error| tracing::error!(%error, "a message between nodes can't be written: this is a defect"),
        )
        .ok()
}
