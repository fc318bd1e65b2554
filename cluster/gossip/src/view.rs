//! What this node knows of the others: who lives and is a member, typed; and how that changed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use chitchat::{ChitchatId, NodeState};
use constellation_identity::NodeName;
use tokio::sync::watch;

use crate::members::Members;
use crate::own::{BULK, BULKS_LIMIT, COUNTED, LOAD, METADATA, SERVICE, SERVICES_LIMIT};
use crate::value::{Bulk, Counted, Counts, Label, Load, Metadata, ServiceId, Standing};

/// Another node, alive and a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: NodeName,
    /// Which of its lives.
    pub generation: u64,
    /// Where it gossips.
    pub address: SocketAddr,
    /// Counts its changes.
    pub version: u64,
    /// None until its first values came, or if they can't be read.
    pub metadata: Option<Metadata>,
    /// None until it told.
    pub load: Option<Load>,
    /// How the instances of its services fare.
    pub services: BTreeMap<ServiceId, Counts>,
    /// Which version of its export these are of, or a later one's. None until it told.
    pub counted: Option<u64>,
    /// What can be pulled there.
    pub bulks: BTreeMap<Label, Bulk>,
    /// How many of its values can't be read here: another release, or a fault.
    pub unreadable: usize,
}

impl Peer {
    fn read(name: NodeName, id: &ChitchatId, state: &NodeState) -> Self {
        let mut peer = Self {
            name,
            generation: id.generation_id,
            address: id.gossip_advertise_addr,
            version: state.max_version(),
            metadata: None,
            load: None,
            services: BTreeMap::new(),
            counted: None,
            bulks: BTreeMap::new(),
            unreadable: 0,
        };
        for (key, value) in state.key_values() {
            if peer.put(key, value).is_none() {
                peer.unreadable += 1;
            }
        }
        peer
    }

    fn put(&mut self, key: &str, value: &str) -> Option<()> {
        if key == METADATA {
            self.metadata = Some(value.parse().ok()?);
        } else if key == LOAD {
            self.load = Some(value.parse().ok()?);
        } else if key == COUNTED {
            self.counted = Some(value.parse::<Counted>().ok()?.0);
        } else if let Some(id) = key.strip_prefix(SERVICE) {
            let id = id.parse().ok().filter(|_| self.services.len() < SERVICES_LIMIT)?;
            self.services.insert(id, value.parse().ok()?);
        } else if let Some(name) = key.strip_prefix(BULK) {
            let name = name.parse().ok().filter(|_| self.bulks.len() < BULKS_LIMIT)?;
            self.bulks.insert(name, value.parse().ok()?);
        } else {
            return None;
        }
        Some(())
    }

    fn leaving(&self) -> bool {
        self.metadata
            .as_ref()
            .is_some_and(|metadata| metadata.standing == Standing::Leaving)
    }
}

/// Why a node is no longer in the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gone {
    /// Not heard of for too long.
    Dead,
    /// It said so.
    Left,
    /// The cluster removed it.
    Removed,
}

/// All other nodes that live and are members, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Them.
    pub peers: BTreeMap<NodeName, Arc<Peer>>,
    /// Who gossips and is left out, and why: explains what happened to who is no longer in `peers`.
    pub left_out: BTreeMap<NodeName, Gone>,
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A node is there that was not.
    Joined(Arc<Peer>),
    /// A node changed what it tells, or started again (then its generation differs).
    Changed {
        /// Before.
        old: Arc<Peer>,
        /// After.
        new: Arc<Peer>,
    },
    /// A node is gone: nothing of it may be used any more.
    Withdrawn {
        /// What was known of it.
        peer: Arc<Peer>,
        /// Why.
        why: Gone,
    },
}

impl View {
    /// From chitchat's live nodes. What did not change is taken over from `previous`.
    pub(crate) fn build(
        own: &NodeName,
        live: &BTreeMap<ChitchatId, NodeState>,
        members: &Members,
        previous: &Self,
    ) -> Self {
        let mut view = Self::default();
        for (id, state) in live {
            // Nobody of our own release has another kind of name.
            let Ok(name) = id.node_id.parse::<NodeName>() else {
                continue;
            };
            if name == *own {
                continue;
            }
            if !members.admits(&name, id.generation_id) {
                view.left_out.insert(name, Gone::Removed);
                continue;
            }
            if view
                .peers
                .get(&name)
                .is_some_and(|peer| peer.generation > id.generation_id)
            {
                continue;
            }
            let peer = match previous.peers.get(&name) {
                Some(known)
                    if (known.generation, known.address, known.version)
                        == (id.generation_id, id.gossip_advertise_addr, state.max_version()) =>
                {
                    Arc::clone(known)
                }
                _ => Arc::new(Peer::read(name.clone(), id, state)),
            };
            view.peers.insert(name, peer);
        }
        let left: Vec<_> = view
            .peers
            .values()
            .filter(|peer| peer.leaving())
            .map(|peer| peer.name.clone())
            .collect();
        for name in left {
            view.peers.remove(&name);
            view.left_out.insert(name, Gone::Left);
        }
        for name in view.peers.keys() {
            // A former life that was removed explains nothing once the next one is in.
            view.left_out.remove(name);
        }
        view
    }

    /// What happened between two views: withdrawals first, as they must not wait.
    pub fn changes(old: &Self, new: &Self) -> Vec<Event> {
        let withdrawn = old
            .peers
            .iter()
            .filter(|(name, _)| !new.peers.contains_key(*name))
            .map(|(name, peer)| {
                let why = new.left_out.get(name).copied().unwrap_or(Gone::Dead);
                Event::Withdrawn {
                    peer: Arc::clone(peer),
                    why,
                }
            });
        let others = new
            .peers
            .iter()
            .filter_map(|(name, peer)| match old.peers.get(name) {
                None => Some(Event::Joined(Arc::clone(peer))),
                Some(before) if before == peer => None,
                Some(before) => Some(Event::Changed {
                    old: Arc::clone(before),
                    new: Arc::clone(peer),
                }),
            });
        withdrawn.chain(others).collect()
    }
}

/// Follows the view. Misses no state: what changed twice between two calls is told as one change.
#[derive(Debug, Clone)]
pub struct Watch {
    views: watch::Receiver<Arc<View>>,
    told: Arc<View>,
}

impl Watch {
    pub(crate) fn new(views: watch::Receiver<Arc<View>>) -> Self {
        Self {
            views,
            told: Arc::default(),
        }
    }

    /// The next changes, never none; at first everybody who is there. None when gossip ended. Cancel safe.
    pub async fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            let now = Arc::clone(&self.views.borrow_and_update());
            let changes = View::changes(&self.told, &now);
            self.told = now;
            if !changes.is_empty() {
                return Some(changes);
            }
            self.views.changed().await.ok()?;
        }
    }

    /// The view that the events so far add up to.
    pub fn view(&self) -> &Arc<View> {
        &self.told
    }
}
