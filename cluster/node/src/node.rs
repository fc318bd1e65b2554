//! A node of the cluster at work: starts everything in its order, and ends it in the other.
//!
//! ```text
//! links (one port) -> Answers -> log, exports, lease loops
//! log -> state -> membership -> links, gossip            who is a member
//!              -> leases -> lease loops -> actuators      who may act
//! gossip -> view -> placement, exports of others -> PeerNode
//! ```

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use constellation_cluster::lease::{Damping, LeaseKey, Timing};
use constellation_cluster::raft::{Consensus as _, OnFailure, RaftNode, StartError as LogError, Timers};
use constellation_cluster::state::{ClientId, Command, Outcome, RosterCommand, RosterOutcome, Wish};
use constellation_gossip::{Config as GossipConfig, Gossip, Members as Gossipers, Metadata, Standing, View};
use constellation_identity::tls::Credentials;
use constellation_identity::{AuthorityPin, JoinToken, NodeName, UnixSeconds};
use constellation_link::{Counters, Links, Membership, RaftTransport, Server, Service};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::ask::{Ask, Reply};
use crate::core::{ApplyError, Core, GossipHandle, Seen};
use crate::home::{Home, HomeError, Identity};
use crate::lease::{Actuator, LeaseReport, LeaseSettings, Order, Task};
use crate::pull::{self, Heard, MAX_EXPORT, Nudges, Own, PeerNode};
use crate::report::{ClusterReport, NodeReport, RaftReport};
use crate::serve::{self, Answers, Orders};
use crate::{expiry, membership, quorum, recovery, secrets, upkeep};

/// How long something that an operator asked for may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long leadership of the log may take to change hands.
const STEPPING_DOWN: Duration = Duration::from_secs(2);
/// How long an address may take to answer where a member is looked for.
const LOOKING: Duration = Duration::from_secs(1);
/// How often a node that just joined looks whether the gossip keys are here.
const LOOK: Duration = Duration::from_millis(50);

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

/// Why what an operator asked for was not done.
#[derive(Debug, Error)]
pub enum OrderError {
    /// Not agreed upon.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// No such member.
    #[error("there is no node {0} in this cluster: `constellation nodes` lists them")]
    UnknownNode(NodeName),
    /// There are too many.
    #[error("the cluster remembers as many join tokens as it can; wait for some to expire")]
    TokensFull,
    /// No randomness, no authority.
    #[error("{0}")]
    Failed(String),
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
pub struct Node(Arc<Inner>);

struct Inner {
    core: Arc<Core>,
    home: Home,
    settings: Settings,
    credentials: watch::Receiver<Arc<Credentials>>,
    renew_now: Arc<Notify>,
    counters: Arc<Counters>,
    orders: Orders,
    reports: Mutex<Vec<watch::Receiver<LeaseReport>>>,
    own: Arc<Own>,
    exported: Arc<Notify>,
    peers: watch::Receiver<Arc<Vec<PeerNode>>>,
    /// The view of gossip, also before it has begun.
    views: watch::Receiver<Arc<View>>,
    ready: watch::Sender<bool>,
    standing: Mutex<Standing>,
    quorum: watch::Receiver<bool>,
    removed: watch::Receiver<bool>,
    tasks: TaskTracker,
    leases: TaskTracker,
    /// Ends the lease loops, before all others.
    letting_go: CancellationToken,
    stop: CancellationToken,
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
        let core = Arc::new(Core::new(identity, client, raft, links, Arc::clone(&seen)));
        let (gossipers_tell, gossipers) = watch::channel(Arc::new(Gossipers::anybody()));
        let (removed_tell, removed) = watch::channel(false);
        let (views_tell, views) = watch::channel(Arc::new(View::default()));
        let remembered = home.remembered();
        let (peers_tell, peers) = watch::channel(Arc::new(remembered.clone()));
        let (quorum_tell, quorum) = watch::channel(false);
        let (own, nudges, orders) = (
            Arc::new(Own::default()),
            Arc::new(Nudges::default()),
            Orders::default(),
        );
        let answers = Arc::new(Answers {
            core: OnceLock::from(Arc::clone(&core)),
            orders: Arc::clone(&orders),
            own: Arc::clone(&own),
            nudges: Arc::clone(&nudges),
            report: OnceLock::new(),
        });
        let server = Server::new(
            listener,
            Arc::clone(&answers),
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
            views: views.clone(),
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
            views,
            ready: watch::Sender::new(false),
            standing: Mutex::new(Standing::Serving),
            quorum,
            removed,
            tasks,
            leases: TaskTracker::new(),
            letting_go: CancellationToken::new(),
            stop,
        }));
        let weak = Arc::downgrade(&node.0);
        let own_report = move || {
            let node = Self(weak.upgrade()?);
            node.report().nodes.into_iter().find(|one| one.this)
        };
        drop(answers.report.set(Box::new(own_report)));
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
            views: inner.views.clone(),
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

    async fn tell_metadata(&self) {
        let metadata = self.metadata();
        if let Some(handle) = self.0.core.gossip.get()
            && let Some(gossip) = &*handle.gossip.read().await
            && let Err(error) = gossip.update(|own| own.metadata(&metadata)).await
        {
            tracing::error!(%error, "how this node is can't be told to the others");
        }
    }

    fn metadata(&self) -> Metadata {
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

    fn advertised(&self) -> IpAddr {
        self.0
            .settings
            .advertise
            .unwrap_or(self.0.core.identity.advertise)
    }

    /// Tells the others something about what runs here, in place of what was told before.
    ///
    /// # Errors
    /// In words, when it is too long.
    pub fn export(&self, bytes: Arc<[u8]>) -> Result<(), String> {
        if bytes.len() > MAX_EXPORT {
            return Err(format!(
                "what runs here has {} bytes to tell, at most {MAX_EXPORT} are told: the other nodes keep what they know",
                bytes.len()
            ));
        }
        if self.0.own.put(self.0.core.client.incarnation, bytes) {
            self.0.exported.notify_one();
        }
        Ok(())
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

    /// Looks for members that are not heard of at addresses where they may be, asks whoever answers there as one of them to gossip,
    /// and says how many did. Nobody else is told anything: a link shows who is at its other end before it is used.
    pub async fn look_for_members(&self, at: &[IpAddr]) -> usize {
        let core = &self.0.core;
        let view = core.view();
        let missing: Vec<_> = core.read(|state| {
            let nodes = state.roster().nodes();
            let missing =
                nodes.filter(|(name, entry)| entry.id != core.identity.id && !view.peers.contains_key(*name));
            missing
                .map(|(name, entry)| (name.clone(), entry.member.clone()))
                .collect()
        });
        let port = |address: &str| {
            address
                .rsplit_once(':')
                .and_then(|(_, port)| port.parse::<u16>().ok())
        };
        let mut found = 0;
        for (name, member) in missing {
            let (Some(links), Some(gossips)) = (port(&member.address), port(&member.gossip)) else {
                continue;
            };
            let Some(ask) = crate::ask::encode(&Ask::Report) else {
                continue;
            };
            for ip in at {
                let address = [SocketAddr::new(*ip, links).to_string()];
                let answer = core
                    .links
                    .call(&name, &address, Service::Control, ask.clone(), LOOKING);
                if answer.await.is_err() {
                    continue;
                }
                tracing::info!(node = %name, %ip, "found");
                found += 1;
                if let Some(handle) = core.gossip.get()
                    && let Some(gossip) = &*handle.gossip.read().await
                {
                    gossip.greet(SocketAddr::new(*ip, gossips));
                }
                break;
            }
        }
        found
    }

    /// What went over the links.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// What gossip sent and took; `None` before it begins.
    #[must_use]
    pub fn gossip_traffic(&self) -> Option<GossipTraffic> {
        let handle = self.0.core.gossip.get()?;
        let gossip = handle.gossip.try_read().ok()?;
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

    /// Says what is wanted of a member.
    ///
    /// # Errors
    /// When there is none of that name, or the cluster does not agree in time.
    pub async fn wish(&self, node: &NodeName, wish: Wish) -> Result<(), OrderError> {
        let command = RosterCommand::Wish {
            node: node.clone(),
            wish,
        };
        self.order(node, command).await
    }

    /// Takes a member out, whether it is there or not; what is sealed for gossip gets another key then.
    ///
    /// # Errors
    /// When there is none of that name, or the cluster does not agree in time.
    pub async fn remove(&self, node: &NodeName) -> Result<(), OrderError> {
        let generation = self
            .0
            .core
            .view()
            .peers
            .get(node)
            .map_or(0, |peer| peer.generation);
        let command = RosterCommand::Remove {
            node: node.clone(),
            generation,
        };
        self.order(node, command).await?;
        if *node != self.0.core.identity.node {
            let core = Arc::clone(&self.0.core);
            self.0.tasks.spawn(async move {
                if let Err(error) = upkeep::rotate_gossip(&core).await {
                    tracing::error!(
                        error,
                        "the gossip key that the removed node has is still in use: `constellation gossip rotate`"
                    );
                }
            });
        }
        Ok(())
    }

    /// Takes this node out, after [`Node::let_go`].
    ///
    /// # Errors
    /// When the cluster does not agree in time: it is a member still.
    pub async fn leave(&self) -> Result<(), OrderError> {
        let node = self.0.core.identity.node.clone();
        match self.remove(&node).await {
            // The answer could not come any more: whoever gave it does not talk to those who have left.
            Err(OrderError::Apply(ApplyError::Refused(reason))) => {
                tracing::debug!(reason, "has left");
                Ok(())
            }
            other => other,
        }
    }

    async fn order(&self, node: &NodeName, command: RosterCommand) -> Result<(), OrderError> {
        match self.0.core.apply(Command::Roster(command), PATIENCE).await? {
            Outcome::Roster(RosterOutcome::Unknown) => Err(OrderError::UnknownNode(node.clone())),
            _ => Ok(()),
        }
    }

    /// A one-time join token, good for so long.
    ///
    /// # Errors
    /// When the cluster does not agree in time.
    pub async fn issue_token(&self, lifetime: Duration) -> Result<Zeroizing<String>, OrderError> {
        let cluster = self.0.core.identity.cluster;
        let failed = |error: &dyn fmt::Display| OrderError::Failed(error.to_string());
        let pin = self
            .0
            .core
            .read(|state| secrets::authority(state, cluster))
            .map(|authority| authority.pin())
            .map_err(|error| failed(&error))?;
        self.issue(cluster, pin, lifetime).await
    }

    async fn issue(
        &self,
        cluster: constellation_identity::ClusterId,
        pin: AuthorityPin,
        lifetime: Duration,
    ) -> Result<Zeroizing<String>, OrderError> {
        let (token, record) = JoinToken::generate(cluster, pin, UnixSeconds::now(), lifetime)
            .map_err(|error| OrderError::Failed(error.to_string()))?;
        let command = Command::Roster(RosterCommand::IssueToken(record));
        match self.0.core.apply(command, PATIENCE).await? {
            Outcome::Roster(RosterOutcome::Done) => Ok(token.to_text()),
            _ => Err(OrderError::TokensFull),
        }
    }

    /// Gives the gossip a new key.
    ///
    /// # Errors
    /// In words, when another one does so too, or the cluster does not agree in time.
    pub async fn rotate_gossip(&self) -> Result<(), String> {
        upkeep::rotate_gossip(&self.0.core).await
    }

    /// Has this node's certificate renewed now.
    pub fn renew_certificate(&self) {
        self.0.renew_now.notify_one();
    }

    /// Has a lease handed over to a node, by whichever has it.
    ///
    /// # Errors
    /// In words, when it can't be or did not come to it.
    pub async fn hand_over(&self, key: &LeaseKey, to: &NodeName) -> Result<(), String> {
        let core = &self.0.core;
        let (entry, lease) =
            core.read(|state| (state.roster().get(to).cloned(), state.leases().get(key).cloned()));
        let entry = entry.ok_or_else(|| OrderError::UnknownNode(to.clone()).to_string())?;
        let Some(lease) = lease else {
            return Err(format!(
                "nobody holds {key} now; it goes to the best node by itself"
            ));
        };
        let incarnation = if entry.id == core.identity.id {
            core.client.incarnation
        } else {
            let view = core.view();
            let latest = core.read(|state| state.incarnation(entry.id));
            let peer = view
                .peers
                .get(to)
                .filter(|peer| latest.is_none_or(|latest| latest <= peer.generation))
                .ok_or_else(|| format!("node {to} is not heard of now, so it can't be given {key}"))?;
            peer.generation
        };
        let to = ClientId {
            node: entry.id,
            incarnation,
        };
        if lease.holder.node == core.identity.id {
            return serve::hand_over(&self.0.orders, key, to).await;
        }
        let ask = Ask::HandOver { key: key.clone(), to };
        match core.ask(lease.holder.node, &ask, PATIENCE).await {
            Ok(Reply::HandedOver(outcome)) => outcome,
            Ok(_) => Err("the holder answered something else: do both run the same release?".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The cluster as this node sees it.
    #[must_use]
    pub fn report(&self) -> ClusterReport {
        let inner = &self.0;
        let core = &inner.core;
        let (log, view) = (core.leader(), core.view());
        let metadata = self.metadata();
        let own = core.identity.id;
        let nodes = core.read(|state| {
            let leases: Vec<_> = state
                .leases()
                .iter()
                .map(|(key, lease)| (key.to_string(), lease.holder.node))
                .collect();
            let node = |(name, entry): (&NodeName, &constellation_cluster::state::Entry)| {
                let this = entry.id == own;
                let peer = view.peers.get(name);
                let metadata = if this {
                    Some(&metadata)
                } else {
                    peer.and_then(|peer| peer.metadata.as_ref())
                };
                NodeReport {
                    name: name.to_string(),
                    id: entry.id.0,
                    this,
                    online: this || peer.is_some(),
                    address: match this {
                        true => Some(self.advertised()),
                        false => peer.map(|peer| peer.address.ip()),
                    },
                    public: metadata
                        .map(|metadata| metadata.public.clone())
                        .unwrap_or_default(),
                    priority: metadata.map(|metadata| metadata.priority),
                    region: metadata.and_then(|metadata| metadata.region.as_ref().map(ToString::to_string)),
                    release: metadata.map(|metadata| metadata.release.to_string()),
                    capabilities: metadata
                        .map(|metadata| metadata.capabilities.iter().map(ToString::to_string).collect())
                        .unwrap_or_default(),
                    wish: entry.wish,
                    role: entry.member.role,
                    voter: log.members.get(&entry.id).is_some_and(|(_, voter)| *voter),
                    leader: log.leader == Some(entry.id),
                    leases: leases
                        .iter()
                        .filter(|(_, holder)| *holder == entry.id)
                        .map(|(key, _)| key.clone())
                        .collect(),
                }
            };
            state.roster().nodes().map(node).collect()
        });
        let leader = log
            .leader
            .and_then(|id| core.read(|state| state.roster().name(id).map(ToString::to_string)));
        let voters = log.members.values().filter(|(_, voter)| *voter).count();
        let reports = inner.reports.lock().unwrap_or_else(PoisonError::into_inner);
        ClusterReport {
            cluster: core.identity.cluster.to_string(),
            node: core.identity.node.to_string(),
            quorum: *inner.quorum.borrow(),
            removed: *inner.removed.borrow(),
            raft: RaftReport {
                term: log.term,
                leader,
                is_leader: log.leading,
                applied: log.applied,
                voters,
                learners: log.members.len() - voters,
                stopped: log.stopped.clone(),
            },
            nodes,
            leases: reports.iter().map(|report| report.borrow().clone()).collect(),
            certificate_ends: inner.credentials.borrow().certificate().ends().0,
            gossip: core.gossip.get().is_some(),
        }
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

    /// Has another voter lead the log, if this node does: a log without a leader for as long as an election takes could cost others
    /// their leases.
    async fn step_down(&self) {
        let core = &self.0.core;
        let voters = core.leader().members.values().filter(|(_, voter)| *voter).count();
        if !core.leader().leading || voters < 2 {
            return;
        }
        match tokio::time::timeout(STEPPING_DOWN, core.raft.step_down(None)).await {
            Ok(Ok(leader)) => tracing::info!(%leader, "another node leads the replicated log"),
            Ok(Err(error)) => tracing::info!(%error, "the replicated log finds its next leader itself"),
            Err(_) => tracing::info!("the replicated log finds its next leader itself"),
        }
    }

    /// Lets go of all leases, in favour of others where there are any, and tells everybody that this node takes nothing new.
    /// Returns when that is done, or their time is over.
    pub async fn let_go(&self) {
        self.set_ready(false).await;
        self.step_down().await;
        self.end_leases().await;
    }

    async fn end_leases(&self) {
        self.0.letting_go.cancel();
        self.0.leases.close();
        self.0.leases.wait().await;
    }

    /// Leaves this node's leases to the process that comes after this one, with what acts under them as it is: nothing is told to
    /// stop. To be followed by [`Node::stop`], and by a start of that process before the leases run out.
    ///
    /// # Errors
    /// In words, when it could not be said in time; then the leases run out, or are let go of, as in any other end.
    pub async fn bequeath(&self) -> Result<(), String> {
        self.step_down().await;
        let heir = self.0.home.name_heir().map_err(|error| error.to_string())?;
        let heir = ClientId {
            node: self.0.core.identity.id,
            incarnation: heir,
        };
        let loops: Vec<_> = {
            let orders = self.0.orders.read().unwrap_or_else(PoisonError::into_inner);
            orders.values().cloned().collect()
        };
        let mut answers = Vec::new();
        for one in loops {
            let (answer, answered) = oneshot::channel();
            if one.send(Order::Bequeath(heir, answer)).await.is_ok() {
                answers.push(answered);
            }
        }
        let all = async {
            for answered in answers {
                // One that ends has nothing to leave.
                drop(answered.await);
            }
        };
        tokio::time::timeout(self.0.settings.lease.ttl(), all)
            .await
            .map_err(|_| "the cluster did not answer in time".to_owned())
    }

    /// Ends everything: leases first, gossip, links, and the log last. Returns when its files are closed.
    ///
    /// `leaving`: the others are told first that this node takes nothing new, and then that it has gone. Else they are told nothing,
    /// as another process of this node goes on; after [`Node::bequeath`].
    pub async fn stop(&self, leaving: bool) {
        if leaving {
            self.let_go().await;
        } else {
            self.step_down().await;
            self.end_leases().await;
        }
        let inner = &self.0;
        if !leaving {
            // Nobody is to look into why gossip ends.
            inner.stop.cancel();
        }
        if let Some(handle) = inner.core.gossip.get()
            && let Some(gossip) = handle.gossip.write().await.take()
        {
            if leaving {
                gossip.leave().await;
            } else {
                drop(gossip);
            }
        }
        inner.stop.cancel();
        inner.tasks.close();
        inner.core.links.shut_down().await;
        inner.core.raft.shut_down().await;
        inner.tasks.wait().await;
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

/// Begins gossip once its key is known, and follows its keys and its view.
struct GossipTask {
    node: std::sync::Weak<Inner>,
    core: Arc<Core>,
    views: watch::Sender<Arc<View>>,
    seen: Arc<Seen>,
    members: watch::Receiver<Arc<Gossipers>>,
    stop: CancellationToken,
}

impl GossipTask {
    async fn run(self) {
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
        let handle = GossipHandle {
            gossip: tokio::sync::RwLock::new(Some(gossip)),
            views: self.views.subscribe(),
        };
        drop(self.core.gossip.set(handle));
        if let Some(node) = self.node.upgrade().map(Node) {
            node.tell_metadata().await;
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
                    let Some(handle) = self.core.gossip.get() else { return };
                    match (self.core.read(secrets::gossip), &*handle.gossip.read().await) {
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

fn said(event: &constellation_gossip::Event) {
    use constellation_gossip::Event;
    match event {
        Event::Joined(peer) => tracing::info!(node = %peer.name, address = %peer.address, "is there"),
        Event::Changed { old, new } if old.generation != new.generation => {
            tracing::info!(node = %new.name, "started anew");
        }
        Event::Changed { .. } => {}
        Event::Withdrawn { peer, why } => tracing::warn!(node = %peer.name, ?why, "is gone"),
    }
}
