//! The replicated state: what every node has after it applied the same requests in the same order.
//!
//! Owns the leases, the documents, the roster and what is needed to apply a request once only. Deterministic to the byte: no clock,
//! no randomness, no map whose order depends on the process; two nodes at the same index serialise to the same bytes.

mod client;
mod documents;
mod roster;
mod sessions;

use serde::{Deserialize, Serialize};

pub use client::{ClientId, NodeId};
pub use documents::{
    Document, DocumentChange, DocumentOutcome, Documents, MAX_DOCUMENT_BYTES, MAX_DOCUMENTS, MAX_NAME_BYTES,
};
pub use roster::{Entry, MAX_MEMBERS, MAX_TOKENS, Roster, RosterCommand, RosterOutcome, Wish};
pub use sessions::{MAX_CLIENTS, Stale, WINDOW};

use crate::lease::{LeaseCommand, LeaseKey, LeaseOutcome, Leases};
use sessions::{Seen, Sessions};

/// What a client asks the cluster to do, at most once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Who asks. A lease is held by the client that acquired it, so nobody can renew or release for somebody else.
    pub client: ClientId,
    /// Counts the requests of this client from 1. A repetition carries the number of the first attempt.
    pub sequence: u64,
    /// What to do.
    pub command: Command,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// About a lease.
    Lease(LeaseCommand),
    /// About a document.
    Document(DocumentChange),
    /// About who belongs to the cluster.
    Roster(RosterCommand),
}

/// What a request came to. A repetition is answered with what the first attempt came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Of a command about a lease.
    Lease(LeaseOutcome),
    /// Of a command about a document.
    Document(DocumentOutcome),
    /// Of a command about the roster.
    Roster(RosterOutcome),
    /// Not applied, or applied so long ago that nobody remembers: the client has to look before it asks again.
    Stale(Stale),
}

/// What applying a request did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// For the client.
    pub outcome: Outcome,
    /// The lease that was touched, for who measures its time; nothing where none was.
    pub lease: Option<LeaseKey>,
}

/// The state that all nodes share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    leases: Leases,
    documents: Documents,
    roster: Roster,
    sessions: Sessions,
}

impl State {
    /// Applies the request that stands at `index` of the log. Indices only grow, which the log sees to; a lease's
    /// token is one.
    pub fn apply(&mut self, index: u64, request: &Request) -> Applied {
        match self.sessions.seen(index, request.client, request.sequence) {
            Seen::New => {}
            Seen::Answered(outcome) => return Applied { outcome, lease: None },
            Seen::Stale(stale) => {
                return Applied {
                    outcome: Outcome::Stale(stale),
                    lease: None,
                };
            }
        }
        let (outcome, lease) = match &request.command {
            Command::Lease(command) => {
                let outcome = self.leases.apply(index, request.client, command);
                let touched = outcome.changed().then(|| command.key().clone());
                (Outcome::Lease(outcome), touched)
            }
            Command::Document(change) => (Outcome::Document(self.documents.apply(index, change)), None),
            Command::Roster(command) => (Outcome::Roster(self.roster.apply(index, command)), None),
        };
        self.sessions
            .answered(request.client, request.sequence, outcome.clone());
        Applied { outcome, lease }
    }

    /// The leases that are held.
    #[must_use]
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The latest of a node's lives that asked for anything; earlier ones are refused.
    #[must_use]
    pub fn incarnation(&self, node: NodeId) -> Option<u64> {
        self.sessions.incarnation(node)
    }

    /// Who belongs to the cluster.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The documents.
    #[must_use]
    pub fn documents(&self) -> &Documents {
        &self.documents
    }
}

#[cfg(test)]
mod tests;
