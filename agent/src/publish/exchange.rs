//! The publisher's side towards other nodes: their routes are laid over the readings, and this node's are told.

use std::sync::Arc;

use tokio::time::Instant;

use crate::peers::{Exchange, Export, Exported, Own, Peer, Roster, merge};
use crate::sources::Contribution;

/// What is kept from one turn to the next.
#[derive(Debug)]
pub(super) struct Exchanging {
    exchange: Exchange,
    roster: Roster,
    /// The peers as compile gets them.
    peers: Arc<Vec<Peer>>,
    ended: bool,
}

/// Lays peers over readings on the thread of the compile; remembers what came out, so that what did not change stays the
/// same object.
#[derive(Debug)]
pub(super) struct Layer {
    own: Own,
    last: Vec<Arc<Contribution>>,
}

impl Layer {
    pub(super) fn lay(&mut self, readings: &[Arc<Contribution>], peers: &[Peer]) -> Vec<Arc<Contribution>> {
        let merged = merge(&self.own, readings, peers).into_iter();
        let known = |new: Arc<Contribution>| {
            let mut last = self.last.iter();
            last.find(|last| ***last == *new).cloned().unwrap_or(new)
        };
        self.last = merged.map(known).collect();
        self.last.clone()
    }
}

impl Exchanging {
    pub(super) fn new(exchange: Exchange) -> Self {
        Self {
            exchange,
            roster: Roster::default(),
            peers: Arc::default(),
            ended: false,
        }
    }

    pub(super) fn layer(&self) -> Layer {
        Layer {
            own: self.exchange.own.clone(),
            last: Vec::new(),
        }
    }

    /// Waits until the peers are others. Cancel safe.
    pub(super) async fn changed(&mut self) {
        let due = self.roster.next(self.exchange.grace);
        let expiry = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let change = async {
            match self.ended {
                true => std::future::pending().await,
                false => self.exchange.peers.changed().await,
            }
        };
        tokio::select! {
            changed = change => if changed.is_err() {
                // This process has left the cluster to another one, or the node stops.
                tracing::debug!("nobody tells any more what other nodes serve; what is known of them stays");
                self.ended = true;
            },
            () = expiry => {}
        }
    }

    /// Whether it is known who the others are.
    pub(super) fn was_heard(&self) -> bool {
        self.ended || self.exchange.peers.borrow().is_some()
    }

    /// The peers now, and whether they are others than the last time.
    pub(super) fn peers(&mut self, now: Instant) -> (Arc<Vec<Peer>>, bool) {
        let listed = self.exchange.peers.borrow_and_update().clone();
        if let Some(listed) = listed {
            self.roster.observe(&listed, now);
        }
        let peers = self.roster.peers(self.exchange.grace, now);
        let changed = *self.peers != peers;
        if changed {
            self.peers = Arc::new(peers);
        }
        (self.peers.clone(), changed)
    }

    /// Tells what this node serves, where that is news.
    pub(super) fn tell(&self, exported: Exported) {
        self.exchange.export.send_if_modified(|last| {
            let news = last.as_ref() != Some(&exported);
            if news {
                *last = Some(exported);
            }
            news
        });
    }
}

/// This node's routes as others get them; what can't be told is logged, and the last good export stays.
pub(super) fn export(readings: &[Arc<Contribution>]) -> Option<Exported> {
    Export::of(readings)
        .encode()
        .inspect_err(|error| tracing::error!("other nodes are not told of changes: {error}"))
        .ok()
}
