//! Gossip of a running node: begins once its key is known, and follows its keys and its view.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use constellation_cluster::raft::Consensus as _;
use constellation_gossip::{Config as GossipConfig, Event, Gossip, Members as Gossipers, View};
use tokio::sync::{RwLock, watch};
use tokio_util::sync::CancellationToken;

use crate::core::{Core, Seen};
use crate::node::{Inner, Node};
use crate::secrets;

/// How often a node that just joined looks whether the gossip keys are here.
const LOOK: Duration = Duration::from_millis(50);

/// Begins gossip once its key is known, and follows its keys and its view.
pub(crate) struct GossipTask {
    pub(crate) node: Weak<Inner>,
    pub(crate) core: Arc<Core>,
    pub(crate) views: watch::Sender<Arc<View>>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) members: watch::Receiver<Arc<Gossipers>>,
    pub(crate) stop: CancellationToken,
}

impl GossipTask {
    pub(crate) async fn run(self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.gossip() => {}
        }
    }

    async fn gossip(&self) {
        let mut log = self.core.raft.watch();
        let keys = loop {
            match self.core.read(secrets::gossip) {
                Ok(keys) => break keys,
                Err(secrets::SecretError::Missing(_)) => tokio::time::sleep(LOOK).await,
                Err(error) => {
                    tracing::error!(%error, "gossip can't begin");
                    tokio::time::sleep(Duration::from_secs(10)).await;
                }
            }
        };
        let mut revision = self.core.read(secrets::gossip_revision);
        let gossip = loop {
            let Some(node) = self.node.upgrade().map(Node) else {
                return;
            };
            let config = self.config(&node, keys.clone());
            drop(node);
            match Gossip::start(config).await {
                Ok(gossip) => break gossip,
                Err(error) => {
                    // The process before this one may still have the port.
                    tracing::warn!(%error, "gossip does not begin yet");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        };
        tracing::info!(address = %gossip.address(), "gossips");
        let mut watch = gossip.watch();
        let ended = gossip.ended();
        drop(self.core.gossip.set(RwLock::new(Some(gossip))));
        if let Some(node) = self.node.upgrade().map(Node) {
            node.tell_metadata().await;
            node.tell_all().await;
            node.0.exported.notify_one();
        }
        tokio::pin!(ended);
        loop {
            tokio::select! {
                events = watch.next() => match events {
                    Some(events) => {
                        for event in events {
                            said(&event);
                        }
                        self.seen.put(watch.view());
                        self.views.send_replace(Arc::clone(watch.view()));
                    }
                    None => return,
                },
                changed = log.changed() => {
                    if changed.is_err() { return }
                    let now = self.core.read(secrets::gossip_revision);
                    if now == revision { continue }
                    revision = now;
                    let Some(gossip) = self.core.gossip.get() else { return };
                    match (self.core.read(secrets::gossip), &*gossip.read().await) {
                        (Ok(keys), Some(gossip)) => gossip.set_keys(keys),
                        (Err(error), _) => tracing::error!(%error, "the other gossip key can't be read"),
                        (_, None) => return,
                    }
                }
                outcome = &mut ended => {
                    if let Err(error) = outcome {
                        tracing::error!(%error, "gossip ended: this node is taken for dead by the others until it is started anew");
                    }
                    return;
                }
            }
        }
    }

    fn config(&self, node: &Node, keys: constellation_gossip::KeyRing) -> GossipConfig {
        let settings = &node.0.settings;
        let identity = &self.core.identity;
        let members = self.core.read(|state| {
            let others = state.roster().nodes().filter(|(name, _)| **name != identity.node);
            others
                .map(|(_, entry)| entry.member.gossip.clone())
                .collect::<Vec<_>>()
        });
        let mut seeds = settings.peers.clone();
        seeds.extend(members.into_iter().filter(|seed| !seed.is_empty()));
        GossipConfig {
            cluster: identity.cluster,
            node: identity.node.clone(),
            generation: self.core.client.incarnation,
            listen: settings.gossip,
            advertise: Some(SocketAddr::new(node.advertised(), settings.gossip.port())),
            seeds,
            keys,
            members: self.members.clone(),
            metadata: node.metadata(),
            timing: settings.gossip_timing,
        }
    }
}

fn said(event: &Event) {
    match event {
        Event::Joined(peer) => tracing::info!(node = %peer.name, address = %peer.address, "is there"),
        Event::Changed { old, new } if old.generation != new.generation => {
            tracing::info!(node = %new.name, "started anew");
        }
        Event::Changed { .. } => {}
        Event::Withdrawn { peer, why } => tracing::warn!(node = %peer.name, ?why, "is gone"),
    }
}
