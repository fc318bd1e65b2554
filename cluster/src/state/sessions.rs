//! Which requests were applied, so that a repetition is answered and not applied again.
//!
//! Memory is bounded: one session for each node, for its latest incarnation, with the last [`WINDOW`] outcomes, and
//! [`MAX_CLIENTS`] sessions. What is older than the window counts as applied. Beyond the number of sessions the one that
//! asked longest ago is forgotten; its repetitions would be applied anew, which a command has to survive anyway
//! (all of them compare before they set, except an acquisition, which then runs out unused).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ClientId, NodeId, Outcome};

/// Outcomes that are kept for each client. A client has fewer requests under way than this.
pub const WINDOW: usize = 64;
/// Nodes whose requests are remembered.
pub const MAX_CLIENTS: usize = 512;

/// Why a request was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stale {
    /// Its number is below the window: it may have been applied.
    Sequence {
        /// The lowest number that is still looked at.
        lowest: u64,
    },
    /// A later process of its node has asked since: this one is to do nothing any more.
    Incarnation {
        /// The incarnation of that one.
        current: u64,
    },
}

/// What is known of a request before it is applied.
pub(super) enum Seen {
    New,
    Answered(Outcome),
    Stale(Stale),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sessions(BTreeMap<NodeId, Session>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    incarnation: u64,
    /// Numbers below it are not looked at.
    lowest: u64,
    answered: BTreeMap<u64, Outcome>,
    /// Where in the log it asked last.
    last_index: u64,
}

impl Sessions {
    pub(super) fn incarnation(&self, node: NodeId) -> Option<u64> {
        self.0.get(&node).map(|session| session.incarnation)
    }

    /// Looks a request up, and makes room for what it will come to.
    pub(super) fn seen(&mut self, index: u64, client: ClientId, sequence: u64) -> Seen {
        if !self.0.contains_key(&client.node) && self.0.len() >= MAX_CLIENTS {
            let oldest = self
                .0
                .iter()
                .min_by_key(|(_, session)| session.last_index)
                .map(|(node, _)| *node);
            if let Some(oldest) = oldest {
                self.0.remove(&oldest);
            }
        }
        let session = self
            .0
            .entry(client.node)
            .or_insert_with(|| Session::of(client.incarnation));
        session.last_index = index;
        if client.incarnation < session.incarnation {
            return Seen::Stale(Stale::Incarnation {
                current: session.incarnation,
            });
        }
        if client.incarnation > session.incarnation {
            *session = Session {
                last_index: index,
                ..Session::of(client.incarnation)
            };
        }
        if let Some(outcome) = session.answered.get(&sequence) {
            return Seen::Answered(outcome.clone());
        }
        if sequence < session.lowest {
            return Seen::Stale(Stale::Sequence {
                lowest: session.lowest,
            });
        }
        Seen::New
    }

    /// Keeps what a new request came to.
    pub(super) fn answered(&mut self, client: ClientId, sequence: u64, outcome: Outcome) {
        if let Some(session) = self.0.get_mut(&client.node) {
            session.answered.insert(sequence, outcome);
            if session.answered.len() > WINDOW
                && let Some((forgotten, _)) = session.answered.pop_first()
            {
                session.lowest = forgotten.saturating_add(1);
            }
        }
    }
}

impl Session {
    fn of(incarnation: u64) -> Self {
        Self {
            incarnation,
            lowest: 1,
            answered: BTreeMap::new(),
            last_index: 0,
        }
    }
}
