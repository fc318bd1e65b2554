//! A gossiping node: chitchat on the sealed transport, and the task that keeps the view.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, ProtocolVersion, spawn_chitchat,
};
use constellation_identity::{ClusterId, NodeName};
use thiserror::Error;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::counters::Counters;
use crate::envelope::Sender;
use crate::key::KeyRing;
use crate::members::Members;
use crate::own::{METADATA, Own, OwnError};
use crate::transport::{Sealed, Shared};
use crate::value::{Metadata, Standing};
use crate::view::{View, Watch};

/// How fast gossip is, and how soon it gives up on a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// From round to round; each goes to three nodes.
    pub interval: Duration,
    /// How many mean intervals of silence make a node dead (phi).
    pub patience: f64,
    /// For how long a dead node is remembered, and deleted values are.
    pub memory: Duration,
}

impl Timing {
    /// For nodes that reach each other within milliseconds: a dead one is found within two seconds.
    pub const LAN: Self = Self {
        interval: Duration::from_millis(250),
        patience: 6.0,
        memory: Duration::from_secs(900),
    };

    /// For nodes with oceans between them.
    pub const WAN: Self = Self {
        interval: Duration::from_secs(1),
        patience: 8.0,
        memory: Duration::from_secs(900),
    };
}

/// What a node needs to gossip.
#[derive(Debug)]
pub struct Config {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeName,
    /// Its life: [`crate::next_generation`].
    pub generation: u64,
    /// Where to listen. Port 0 takes any, for tests.
    pub listen: SocketAddr,
    /// Where others reach it, if that is not where it listens.
    pub advertise: Option<SocketAddr>,
    /// `HOST:PORT` of nodes to ask first; names are resolved again every minute.
    pub seeds: Vec<String>,
    /// The keys.
    pub keys: KeyRing,
    /// Who belongs to the cluster.
    pub members: watch::Receiver<Arc<Members>>,
    /// What to tell from the start.
    pub metadata: Metadata,
    /// How fast.
    pub timing: Timing,
}

/// Why gossip does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The port is taken, or the address not ours.
    #[error("gossip can't listen on UDP {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Others could not answer.
    #[error(
        "gossip listens on {address} and would tell others to answer there: that is not an address, set the one where they \
         reach this node"
    )]
    Advertise {
        /// Where.
        address: SocketAddr,
    },
    /// Others would not read it.
    #[error("the metadata can't be gossiped: {0}")]
    Metadata(#[from] OwnError),
    /// chitchat, or the codec.
    #[error("gossip can't start: {0:#}")]
    Chitchat(anyhow::Error),
}

/// A node that gossips until it is dropped (others find it dead) or leaves (others are told).
pub struct Gossip {
    handle: ChitchatHandle,
    shared: Arc<Shared>,
    views: watch::Receiver<Arc<View>>,
    following: JoinHandle<()>,
    interval: Duration,
}

impl Gossip {
    /// Binds and starts.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let failed = |source| StartError::Bind {
            address: config.listen,
            source,
        };
        let socket = UdpSocket::bind(config.listen).await.map_err(failed)?;
        let address = config
            .advertise
            .map_or_else(|| socket.local_addr(), Ok)
            .map_err(failed)?;
        if address.ip().is_unspecified() || address.port() == 0 {
            return Err(StartError::Advertise { address });
        }
        let sender = Sender {
            name: config.node.clone(),
            generation: config.generation,
            address,
        };
        let shared = Arc::new(Shared {
            cluster: config.cluster,
            sender,
            keys: RwLock::new(config.keys),
            members: config.members.clone(),
            counters: Counters::default(),
        });
        let Timing {
            interval,
            patience,
            memory,
        } = config.timing;
        let chitchat = ChitchatConfig {
            chitchat_id: ChitchatId::new(config.node.as_str(), config.generation, address),
            cluster_id: config.cluster.to_string(),
            gossip_interval: interval,
            listen_addr: config.listen,
            seed_nodes: config.seeds,
            failure_detector_config: FailureDetectorConfig {
                phi_threshold: patience,
                // Short enough to notice that the mesh became slower, long enough not to trust three good intervals.
                sampling_window_size: 100,
                max_interval: interval * 10,
                initial_interval: interval,
                dead_node_grace_period: memory,
            },
            marked_for_deletion_grace_period: memory,
            catchup_callback: None,
            extra_liveness_predicate: None,
            // The transport says how messages are written; by this chitchat only counts how much room they leave, and would
            // compress them for that.
            protocol_version: ProtocolVersion::V0,
        };
        let transport = Sealed::new(Arc::clone(&shared), socket);
        let handle = spawn_chitchat(chitchat, Vec::new(), &transport)
            .await
            .map_err(StartError::Chitchat)?;
        let metadata = &config.metadata;
        handle
            .with_chitchat(|chitchat| Own(chitchat.self_node_state()).metadata(metadata))
            .await?;

        let mut live = handle
            .with_chitchat(|chitchat| chitchat.live_nodes_watcher())
            .await;
        let mut members = config.members;
        let (tell, views) = watch::channel(Arc::new(View::default()));
        let own = config.node;
        let following = tokio::spawn(async move {
            loop {
                let view = {
                    let (live, members) = (live.borrow_and_update(), members.borrow_and_update());
                    View::build(&own, &live, &members, &tell.borrow())
                };
                tell.send_if_modified(|told| {
                    let changed = **told != view;
                    if changed {
                        *told = Arc::new(view);
                    }
                    changed
                });
                let ended = tokio::select! {
                    changed = live.changed() => changed.is_err(),
                    // Whoever told the members may be gone: the last word stays.
                    Ok(()) = members.changed() => false,
                };
                if ended {
                    return;
                }
            }
        });
        Ok(Self {
            handle,
            shared,
            views,
            following,
            interval,
        })
    }

    /// Where others reach this node.
    pub fn address(&self) -> SocketAddr {
        self.shared.sender.address
    }

    /// Changes what this node tells of itself; goes out with the next round.
    pub async fn update<T>(&self, mut change: impl FnMut(&mut Own<'_>) -> T) -> T {
        self.handle
            .with_chitchat(|chitchat| change(&mut Own(chitchat.self_node_state())))
            .await
    }

    /// What is known of the others now.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.views.borrow())
    }

    /// Follows what is known of the others, beginning with everybody who is there.
    pub fn watch(&self) -> Watch {
        Watch::new(self.views.clone())
    }

    /// Gossips with whoever is at `address` in the next round, beside the usual ones: somebody who was found there.
    pub fn greet(&self, address: SocketAddr) {
        if self.handle.gossip(address).is_err() {
            tracing::debug!(%address, "gossip has ended, nobody is greeted");
        }
    }

    /// A step of a key rotation; takes effect with the next datagram.
    pub fn set_keys(&self, keys: KeyRing) {
        *self.shared.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// What went over the wire.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Ends when gossip did: by a fault, which the error names, or because it left. The owner decides what follows.
    pub fn ended(&self) -> impl Future<Output = Result<(), anyhow::Error>> + use<> {
        self.handle.termination_watcher()
    }

    /// Tells everybody that this node stops, waits for two rounds, and stops. Who misses it finds the node dead.
    pub async fn leave(self) {
        let peers: Vec<SocketAddr> = self.view().peers.values().map(|peer| peer.address).collect();
        let told = self
            .update(|own| {
                let metadata = own.0.get(METADATA).and_then(|text| text.parse::<Metadata>().ok());
                metadata.map(|metadata| {
                    own.metadata(&Metadata {
                        standing: Standing::Leaving,
                        ..metadata
                    })
                })
            })
            .await;
        if told.is_some_and(|told| told.is_ok()) && !peers.is_empty() {
            for peer in peers {
                if self.handle.gossip(peer).is_err() {
                    return;
                }
            }
            tokio::time::sleep(self.interval * 2).await;
        }
        if self.handle.initiate_shutdown().is_ok() {
            // Whatever it says: it has ended.
            drop(self.handle.termination_watcher().await);
        }
    }
}

impl Drop for Gossip {
    fn drop(&mut self) {
        self.handle.abort();
        self.following.abort();
    }
}
