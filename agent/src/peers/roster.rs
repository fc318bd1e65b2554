//! Remembers a node that is gone: its endpoints go at once, its routes stay for a while. Pure, with time passed in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Peer, Standing};

/// Nodes that are remembered at once; of further ones that are gone nothing is kept.
const MAX_GONE: usize = 256;

/// The nodes that are there, and those that are gone since not too long ago.
#[derive(Debug, Default)]
pub struct Roster {
    /// With the time when they went.
    gone: BTreeMap<Arc<str>, (Instant, Peer)>,
    present: Vec<Peer>,
}

impl Roster {
    /// Takes in who is there, as of `now`. One that is no longer listed is gone like one of which that is said.
    pub fn observe(&mut self, peers: &[Peer], now: Instant) {
        let before = std::mem::take(&mut self.present);
        for peer in peers {
            match peer.standing {
                Standing::Gone => self.forget(peer.clone(), now),
                _ => {
                    self.gone.remove(&peer.node);
                    self.present.push(peer.clone());
                }
            }
        }
        for peer in before {
            if !peers.iter().any(|now| now.node == peer.node) {
                self.forget(peer, now);
            }
        }
    }

    fn forget(&mut self, peer: Peer, now: Instant) {
        let peer = Peer {
            standing: Standing::Gone,
            ..peer
        };
        if let Some((_, known)) = self.gone.get_mut(&peer.node) {
            *known = peer;
        } else if self.gone.len() < MAX_GONE {
            self.gone.insert(peer.node.clone(), (now, peer));
        }
    }

    /// Drops those that are gone for as long as `grace`, and returns all that are left.
    pub fn peers(&mut self, grace: Duration, now: Instant) -> Vec<Peer> {
        self.gone.retain(|_, (since, _)| now < *since + grace);
        let gone = self.gone.values().map(|(_, peer)| peer);
        self.present.iter().chain(gone).cloned().collect()
    }

    /// When the next one is dropped.
    pub fn next(&self, grace: Duration) -> Option<Instant> {
        self.gone.values().map(|(since, _)| *since + grace).min()
    }
}
