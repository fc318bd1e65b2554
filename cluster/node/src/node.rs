//! A node of the cluster at work: starts everything in its order, and says what there is of it. What operators ask of it is in
//! [`crate::orders`], how it ends in [`crate::ending`].
//!
//! ```text
//! links (one port) -> Answers -> log, exports, lease loops
//! log -> state -> membership -> links, gossip            who is a member
//!              -> leases -> lease loops -> actuators      who may act
//! gossip -> view -> placement, exports of others -> PeerNode
//! ```

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use constellation_cluster::lease::{Damping, LeaseKey, Timing};
use constellation_cluster::raft::{Figures, OnFailure, RaftNode, StartError as LogError, Timers};
use constellation_cluster::state::ClientId;
use constellation_gossip::{Load, Members as Gossipers, Metadata, Standing, View};
use constellation_identity::UnixSeconds;
use constellation_identity::tls::Credentials;
use constellation_link::{Counters, Links, Membership, RaftTransport, Server};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::{Core, Seen};
use crate::gossiping::GossipTask;
use crate::home::{Home, HomeError, Identity};
use crate::lease::{Actuator, LeaseReport, LeaseSettings, Task};
use crate::pull::{self, Heard, MAX_EXPORT, Nudges, Own, PeerNode};
use crate::serve::{Answers, Orders};
use crate::telling::Telling;
use crate::{expiry, membership, quorum, recovery, upkeep};

/// How a node runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// By which address others reach it; `None`: as it was found when it joined.
    pub advertise: Option<IpAddr>,
    /// Where it gossips.
    pub gossip: SocketAddr,
    /// Whom to ask first, HOST:PORT of their gossip, beside the members.
    pub peers: Vec<String>,
    /// How fast the log is.
    pub timers: Timers,
    /// How fast gossip is.
    pub gossip_timing: constellation_gossip::Timing,
    /// How long leases last.
    pub lease: Timing,
    /// How slow they are to move.
    pub damping: Damping,
    /// Lower is preferred.
    pub priority: u32,
    /// Its region.
    pub region: Option<String>,
    /// Its public addresses, at most four.
    pub public: Vec<IpAddr>,
    /// Its release.
    pub release: String,
    /// What it can do, at most sixteen labels.
    pub capabilities: Vec<String>,
}

/// Why a node does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Its identity or its files.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The replicated log.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What gossip sent and took since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GossipTraffic {
    /// Datagrams.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Datagrams that were taken.
    pub received: u64,
    /// Datagrams that were not.
    pub refused: u64,
}

/// A running node. Clones are the same one.
#[derive(Clone)]
pub struct Node(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) core: Arc<Core>,
    pub(crate) home: Home,
    pub(crate) settings: Settings,
    pub(crate) credentials: watch::Receiver<Arc<Credentials>>,
    pub(crate) renew_now: Arc<Notify>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) orders: Orders,
    pub(crate) reports: Mutex<Vec<watch::Receiver<LeaseReport>>>,
    pub(crate) own: Arc<Own>,
    pub(crate) exported: Arc<Notify>,
    pub(crate) peers: watch::Receiver<Arc<Vec<PeerNode>>>,
    pub(crate) ready: watch::Sender<bool>,
    pub(crate) standing: Mutex<Standing>,
    pub(crate) telling: tokio::sync::Mutex<Telling>,
    /// As it was measured last.
    pub(crate) load: Mutex<Option<Load>>,
    pub(crate) quorum: watch::Receiver<bool>,
    pub(crate) removed: watch::Receiver<bool>,
    pub(crate) tasks: TaskTracker,
    pub(crate) leases: TaskTracker,
    /// Ends the lease loops, before all others.
    pub(crate) letting_go: CancellationToken,
    pub(crate) stop: CancellationToken,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.0.core.identity).finish()
    }
}

impl Node {
    /// Starts the node that `home` says this is. `listener` is bound already; connections of other nodes' data planes go to
    /// `mesh`. `failed` is called when the log can't be kept, and has to end the process.
    ///
    /// # Errors
    /// When this node is in no cluster, or its log is not fit.
    pub async fn start(
        data: &std::path::Path,
        listener: TcpListener,
        settings: Settings,
        mesh: Option<mpsc::Sender<std::net::TcpStream>>,
        failed: OnFailure,
    ) -> Result<Self, StartError> {
        let home = Home::below(data);
        let identity = home.identity()?.ok_or_else(|| HomeError::Content {
            path: home.folder().to_owned(),
            reason: "there is no identity: this node is in no cluster".to_owned(),
        })?;
        home.check_raft()?;
        let credentials = home.credentials(identity.cluster)?;
        if let Err(error) = credentials.check(UnixSeconds::now()) {
            tracing::error!(%error, "the other nodes will not accept this one");
        }
        let (credentials_tell, credentials) = watch::channel(Arc::new(credentials));
        let counters = Arc::new(Counters::default());
        let (members_tell, members) = watch::channel(Membership::AnyOfTheCluster);
        let links = Links::new(credentials.clone(), members.clone(), Arc::clone(&counters));
        let seen = Arc::new(Seen::default());
        let transport = RaftTransport {
            links: links.clone(),
            resolver: {
                let seen = Arc::clone(&seen);
                Arc::new(move |_, member| seen.addresses(&member.name, &member.address))
            },
        };
        let timer = expiry::Timer::default();
        let raft = RaftNode::start(
            identity.id,
            home.raft(),
            settings.timers,
            Arc::new(transport),
            timer.observer(),
            failed,
        )
        .await?;
        // Not before the log is this process's: another one of this node may be about to end.
        let client = ClientId {
            node: identity.id,
            incarnation: home.begin_life()?,
        };
        let (views_tell, views) = watch::channel(Arc::new(View::default()));
        let core = Core::new(identity, client, raft, links, Arc::clone(&seen), views.clone());
        let core = Arc::new(core);
        let (gossipers_tell, gossipers) = watch::channel(Arc::new(Gossipers::anybody()));
        let (removed_tell, removed) = watch::channel(false);
        let remembered = home.remembered();
        let (peers_tell, peers) = watch::channel(Arc::new(remembered.clone()));
        let (quorum_tell, quorum) = watch::channel(false);
        let (own, nudges, orders) = (
            Arc::new(Own::default()),
            Arc::new(Nudges::default()),
            Orders::default(),
        );
        let answers = Answers {
            core: Arc::clone(&core),
            orders: Arc::clone(&orders),
            own: Arc::clone(&own),
            nudges: Arc::clone(&nudges),
        };
        let server = Server::new(
            listener,
            Arc::new(answers),
            credentials.clone(),
            members.clone(),
            mesh,
            Arc::clone(&counters),
        );
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (exported, renew_now) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let told = membership::Told {
            links: members_tell,
            gossip: gossipers_tell,
            removed: removed_tell,
        };
        tasks.spawn(server.run(stop.clone()));
        tasks.spawn(membership::tell(Arc::clone(&core), told, stop.clone()));
        tasks.spawn(membership::keep(Arc::clone(&core), stop.clone()));
        tasks.spawn(expiry::run(Arc::clone(&core), timer, stop.clone()));
        tasks.spawn(recovery::finish(Arc::clone(&core), home.clone(), stop.clone()));
        tasks.spawn(quorum::run(Arc::clone(&core), quorum_tell, stop.clone()));
        tasks.spawn(upkeep::certificate(
            Arc::clone(&core),
            home.clone(),
            credentials_tell,
            Arc::clone(&renew_now),
            stop.clone(),
        ));
        tasks.spawn(pull::announce(
            Arc::clone(&core),
            Arc::clone(&own),
            Arc::clone(&exported),
            stop.clone(),
        ));
        let heard = Heard {
            views,
            members,
            nudges,
            tell: peers_tell,
        };
        let folder = home.folder().to_owned();
        tasks.spawn(pull::follow(
            Arc::clone(&core),
            heard,
            remembered,
            folder,
            stop.clone(),
        ));
        let node = Self(Arc::new(Inner {
            core,
            home,
            settings,
            credentials,
            renew_now,
            counters,
            orders,
            reports: Mutex::default(),
            own,
            exported,
            peers,
            ready: watch::Sender::new(false),
            standing: Mutex::new(Standing::Serving),
            telling: tokio::sync::Mutex::default(),
            load: Mutex::default(),
            quorum,
            removed,
            tasks,
            leases: TaskTracker::new(),
            letting_go: CancellationToken::new(),
            stop,
        }));
        let gossip = GossipTask {
            node: Arc::downgrade(&node.0),
            core: Arc::clone(&node.0.core),
            views: views_tell,
            seen,
            members: gossipers,
            stop: node.0.stop.clone(),
        };
        node.0.tasks.spawn(gossip.run());
        Ok(node)
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.core.identity
    }

    /// Takes part in a lease from now on. Its actuator is told to stop before the node is. Returns how the lease stands; what
    /// changes with time alone is not told.
    pub fn take_part(&self, key: LeaseKey, actuator: Box<dyn Actuator>) -> watch::Receiver<LeaseReport> {
        let inner = &self.0;
        let (order, orders) = mpsc::channel(4);
        let (report, reports) = watch::channel(LeaseReport {
            key: key.to_string(),
            ..LeaseReport::default()
        });
        inner
            .orders
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone(), order);
        inner
            .reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(reports.clone());
        let task = Task {
            core: Arc::clone(&inner.core),
            key,
            settings: LeaseSettings {
                timing: inner.settings.lease,
                damping: inner.settings.damping,
            },
            priority: inner.settings.priority,
            ready: inner.ready.subscribe(),
            views: inner.core.views.clone(),
            orders,
            report,
            stop: inner.letting_go.clone(),
        };
        inner.leases.spawn(task.run(actuator));
        reports
    }

    /// Whether this node can hold leases and take connections.
    pub async fn set_ready(&self, ready: bool) {
        self.0.ready.send_replace(ready);
        let standing = if ready {
            Standing::Serving
        } else {
            Standing::Draining
        };
        *self.0.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
        self.tell_metadata().await;
    }

    pub(crate) async fn tell_metadata(&self) {
        let metadata = self.metadata();
        if let Some(gossip) = self.0.core.gossip.get()
            && let Some(gossip) = &*gossip.read().await
            && let Err(error) = gossip.update(|own| own.metadata(&metadata)).await
        {
            tracing::error!(%error, "how this node is can't be told to the others");
        }
    }

    pub(crate) fn metadata(&self) -> Metadata {
        let inner = &self.0;
        let settings = &inner.settings;
        let standing = *inner.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = settings.capabilities.iter().filter_map(|text| text.parse().ok());
        Metadata {
            standing,
            priority: settings.priority,
            region: settings.region.as_ref().and_then(|region| region.parse().ok()),
            mesh: Some(self.advertised()),
            public: settings.public.iter().copied().take(4).collect(),
            release: release(&settings.release),
            capabilities: labels
                .take(constellation_gossip::value::CAPABILITIES_LIMIT)
                .collect(),
        }
    }

    pub(crate) fn advertised(&self) -> IpAddr {
        self.0
            .settings
            .advertise
            .unwrap_or(self.0.core.identity.advertise)
    }

    /// Tells the others something about what runs here, in place of what was told before. Returns its version.
    ///
    /// # Errors
    /// In words, when it is too long.
    pub fn export(&self, bytes: Arc<[u8]>) -> Result<u64, String> {
        if bytes.len() > MAX_EXPORT {
            return Err(format!(
                "what runs here has {} bytes to tell, at most {MAX_EXPORT} are told: the other nodes keep what they know",
                bytes.len()
            ));
        }
        let (version, news) = self.0.own.put(self.0.core.client.incarnation, bytes);
        if news {
            self.0.exported.notify_one();
        }
        Ok(version)
    }

    /// The others, and what they told.
    #[must_use]
    pub fn peers(&self) -> watch::Receiver<Arc<Vec<PeerNode>>> {
        self.0.peers.clone()
    }

    /// Writes down what the others have told until now, for the process that is about to replace this one: it is written now and
    /// then otherwise. Blocks.
    pub fn remember(&self) {
        let peers = Arc::clone(&self.0.peers.borrow());
        self.0.home.remember(&peers);
    }

    /// Whether a majority of the voters answers.
    #[must_use]
    pub fn quorum(&self) -> watch::Receiver<bool> {
        self.0.quorum.clone()
    }

    /// What this node shows to others, for the data plane's own connections.
    #[must_use]
    pub fn credentials(&self) -> watch::Receiver<Arc<Credentials>> {
        self.0.credentials.clone()
    }

    /// Whether that peer is a member, by name and key.
    #[must_use]
    pub fn admits(&self, peer: &constellation_identity::NodeIdentity) -> bool {
        self.0.core.read(|state| state.roster().members().admits(peer))
    }

    /// What went over the links.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// What was counted of the replicated log.
    #[must_use]
    pub fn raft_figures(&self) -> Figures {
        self.0.core.raft.figures()
    }

    /// What gossip sent and took; `None` before it begins.
    #[must_use]
    pub fn gossip_traffic(&self) -> Option<GossipTraffic> {
        let gossip = self.0.core.gossip.get()?.try_read().ok()?;
        let counters = gossip.as_ref()?.counters();
        let (sent, sent_bytes) = counters.total_sent();
        Some(GossipTraffic {
            sent,
            sent_bytes,
            received: counters.total_received(),
            refused: constellation_gossip::Refused::ALL
                .iter()
                .map(|why| counters.total_refused(*why))
                .sum(),
        })
    }

    /// Whether this node was taken out of the cluster.
    #[must_use]
    pub fn removed(&self) -> watch::Receiver<bool> {
        self.0.removed.clone()
    }

    /// Where the membership is on disk.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.0.home
    }
}

/// A label of what may be no label.
fn release(text: &str) -> constellation_gossip::Label {
    let fitting: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
                c
            } else {
                '-'
            }
        })
        .take(64)
        .collect();
    #[expect(clippy::expect_used, reason = "a constant that is a label")]
    fitting
        .parse()
        .unwrap_or_else(|_| "unknown".parse().expect("a label"))
}
