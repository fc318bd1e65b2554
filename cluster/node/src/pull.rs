//! What a node tells of its services, and how the others get it: too large for gossip, which only says that there is another
//! one. Who hears of that asks over a link.
//!
//! A change is also said directly to everybody who is there, since gossip takes a round or two.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use constellation_cluster::raft::Role;
use constellation_cluster::state::{NodeId, Wish};
use constellation_gossip::{Bulk, Label, Metadata, Standing, View};
use constellation_identity::NodeName;
use constellation_link::{LinkError, Membership, Service};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ask::{Ask, Pull, encode};
use crate::core::Core;
use crate::expiry::wait;
use crate::memory;
use crate::telling::Services;

/// The longest that is told or taken, in bytes.
pub const MAX_EXPORT: usize = 16 * 1024 * 1024 - 1024;
/// How long a pull may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait after one that failed.
const AGAIN: Duration = Duration::from_millis(500);
/// Between two times that it is written down what others told.
const REMEMBER: Duration = Duration::from_secs(2);
/// How long a node of which there is a memory is taken for alive without being heard of: longer than gossip takes to speak of it.
const TRUST: Duration = Duration::from_secs(5);
/// How long saying that there is another one may take.
const NOTE: Duration = Duration::from_secs(2);

/// Another node with what it told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerNode {
    /// Its name.
    pub name: NodeName,
    /// Its number in the log.
    pub id: NodeId,
    /// Which of its lives; 0 if it is not heard of.
    pub generation: u64,
    /// Where its links listen, the best first.
    pub addresses: Vec<String>,
    /// Lower is preferred.
    pub priority: u32,
    /// Its region.
    pub region: Option<String>,
    /// Whether it is heard of.
    pub online: bool,
    /// Whether it takes new connections.
    pub serving: bool,
    /// What it told last, also when it is not heard of any more.
    pub export: Option<Export>,
    /// How its instances fare, as gossip has it; of a node that is not heard of nothing is known.
    pub services: Services,
}

/// What a node tells, as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Export {
    /// Grows with each change, also over restarts.
    pub version: u64,
    /// The bytes.
    pub bytes: Arc<[u8]>,
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Export(version {}, {} bytes)", self.version, self.bytes.len())
    }
}

impl Export {
    fn bulk(&self) -> Bulk {
        let mut of = [0; 32];
        of.copy_from_slice(digest(&SHA256, &self.bytes).as_ref());
        Bulk {
            version: self.version,
            length: self.bytes.len() as u64,
            digest: of,
        }
    }

    fn to_answer(&self) -> Vec<u8> {
        [&self.version.to_be_bytes()[..], &self.bytes].concat()
    }

    fn from_answer(answer: &[u8]) -> Option<Self> {
        let (version, bytes) = answer.split_first_chunk()?;
        Some(Self {
            version: u64::from_be_bytes(*version),
            bytes: bytes.into(),
        })
    }
}

/// The name of exports in gossip.
fn name() -> Option<Label> {
    "export".parse().ok()
}

/// What this node tells.
#[derive(Default)]
pub(crate) struct Own(RwLock<Option<Export>>);

impl Own {
    /// Takes another one, if it is another one; the version is this life's number and a count, so that it grows over restarts.
    /// Returns the version, and whether it is another one.
    pub(crate) fn put(&self, life: u64, bytes: Arc<[u8]>) -> (u64, bool) {
        let mut own = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(export) = own.as_ref().filter(|export| export.bytes == bytes) {
            return (export.version, false);
        }
        let version = own.as_ref().map_or(life, |export| export.version + 1);
        *own = Some(Export { version, bytes });
        (version, true)
    }

    fn get(&self) -> Option<Export> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The answer to a [`Pull`].
    pub(crate) fn answer(&self, pull: &Pull) -> Option<Vec<u8>> {
        match pull {
            Pull::Export => self.get().map(|export| export.to_answer()),
        }
    }
}

/// Tells everybody that there is another export, each time `changed` says so, until it is stopped.
pub(crate) async fn announce(core: Arc<Core>, own: Arc<Own>, changed: Arc<Notify>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = changed.notified() => {}
        }
        let (Some(export), Some(label)) = (own.get(), name()) else {
            continue;
        };
        if let Some(gossip) = core.gossip.get()
            && let Some(gossip) = &*gossip.read().await
        {
            let told = gossip.update(|own| own.bulk(&label, &export.bulk())).await;
            if let Err(error) = told {
                tracing::error!(%error, "what runs here is not told to the other nodes");
            }
        }
        let ids: Vec<NodeId> = core.read(|state| {
            let nodes = state.roster().nodes();
            nodes
                .map(|(_, entry)| entry.id)
                .filter(|id| *id != core.identity.id)
                .collect()
        });
        let version = export.version;
        let mut notes = JoinSet::new();
        for id in ids {
            let core = Arc::clone(&core);
            // Whoever is not there hears of it by gossip.
            notes.spawn(async move { core.ask(id, &Ask::Changed { version }, NOTE).await.map(drop) });
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = notes.join_all() => {}
            // The next change does not wait for who is slow.
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// Keeps what the others tell, until it is stopped; `remembered` is what they told the process before this one.
pub(crate) async fn follow(
    core: Arc<Core>,
    mut heard: Heard,
    remembered: Vec<PeerNode>,
    folder: PathBuf,
    stop: CancellationToken,
) {
    let mut known = Known::of(remembered);
    let mut pulling: BTreeSet<NodeName> = BTreeSet::new();
    let mut pulls = JoinSet::new();
    let mut writing = JoinSet::new();
    // When it was last begun, and whether there is more since.
    let (mut written, mut unwritten): (Option<Instant>, bool) = (None, false);
    loop {
        let view = Arc::clone(&heard.views.borrow_and_update());
        heard.members.borrow_and_update();
        let peers = if known.observe(&core, &view) {
            known.peers(&core, &view)
        } else {
            heard.tell.borrow().to_vec()
        };
        for peer in &peers {
            let announced = view.peers.get(&peer.name).and_then(|of| announced(of));
            let wanted = announced.max(heard.nudges.latest(&peer.name));
            let have = peer.export.as_ref().map(|export| export.version);
            if wanted > have && pulling.insert(peer.name.clone()) {
                let (core, name, addresses) = (Arc::clone(&core), peer.name.clone(), peer.addresses.clone());
                pulls.spawn(async move {
                    let pulled = pull(&core, &name, &addresses).await;
                    if pulled.is_err() {
                        tokio::time::sleep(AGAIN).await;
                    }
                    (name, pulled)
                });
            }
        }
        heard.tell.send_if_modified(|told| {
            let changed = **told != peers;
            if changed {
                *told = Arc::new(peers);
            }
            changed
        });
        if unwritten && written.is_none_or(|at| at.elapsed() >= REMEMBER) && writing.is_empty() {
            unwritten = false;
            written = Some(Instant::now());
            let (folder, peers) = (folder.clone(), heard.tell.borrow().clone());
            writing.spawn_blocking(move || memory::store(&folder, &peers));
        }
        let again = written.filter(|_| unwritten).map(|at| at + REMEMBER);
        tokio::select! {
            () = stop.cancelled() => break,
            changed = heard.views.changed() => if changed.is_err() { break },
            changed = heard.members.changed() => if changed.is_err() { break },
            () = heard.nudges.wait() => {}
            () = wait(known.trust_ends()) => known.trust_is_over(),
            Some(_) = writing.join_next() => {}
            () = wait(again), if writing.is_empty() => {}
            Some(pulled) = pulls.join_next() => match pulled {
                Ok((name, pulled)) => {
                    pulling.remove(&name);
                    match pulled {
                        Ok(export) => unwritten |= known.told(name, export),
                        Err(error) => tracing::debug!(node = %name, %error, "what runs there can't be asked"),
                    }
                }
                Err(error) => tracing::error!(%error, "a pull ended badly"),
            },
        }
    }
    // One at a time.
    writing.join_all().await;
    if unwritten {
        memory::store(&folder, &heard.tell.borrow().clone());
    }
}

/// What is known of the others.
struct Known {
    exports: BTreeMap<NodeName, Export>,
    /// Nodes that told the process before this one something, and that gossip has not spoken of yet: taken for alive until
    /// it has had its time.
    trusted: BTreeSet<NodeName>,
    trust_ends: Option<Instant>,
    /// What each said of itself last: a process that has just started is heard of before it has said anything.
    said: BTreeMap<NodeName, Metadata>,
}

impl Known {
    fn of(remembered: Vec<PeerNode>) -> Self {
        let trusted: BTreeSet<NodeName> = remembered.iter().map(|peer| peer.name.clone()).collect();
        let exports = remembered
            .into_iter()
            .filter_map(|peer| Some((peer.name, peer.export?)));
        Self {
            exports: exports.collect(),
            trust_ends: (!trusted.is_empty()).then(|| Instant::now() + TRUST),
            trusted,
            said: BTreeMap::new(),
        }
    }

    /// Says whether the members are known, which they are not before this node has applied anything.
    fn observe(&mut self, core: &Core, view: &View) -> bool {
        let exports = &mut self.exports;
        let known = core.read(|state| {
            let roster = state.roster();
            let known = roster.nodes().next().is_some();
            if known {
                exports.retain(|name, _| roster.get(name).is_some());
            }
            known
        });
        for (name, peer) in &view.peers {
            if let Some(metadata) = &peer.metadata {
                self.said.insert(name.clone(), metadata.clone());
                // From now on gossip alone says how it is.
                self.trusted.remove(name);
            }
        }
        self.said.retain(|name, _| view.peers.contains_key(name));
        known
    }

    fn trust_ends(&self) -> Option<Instant> {
        self.trust_ends.filter(|_| !self.trusted.is_empty())
    }

    fn trust_is_over(&mut self) {
        for name in std::mem::take(&mut self.trusted) {
            tracing::warn!(node = %name, "is not heard of since this process started");
        }
    }

    /// Takes what a node told; says whether it is news.
    fn told(&mut self, name: NodeName, export: Export) -> bool {
        let known = self.exports.get(&name).map(|known| known.version);
        let news = Some(export.version) > known;
        if news {
            self.exports.insert(name, export);
        }
        news
    }

    fn peers(&self, core: &Core, view: &View) -> Vec<PeerNode> {
        peers(core, view, self)
    }
}

/// Where [`follow`] hears of changes, and where it tells.
pub(crate) struct Heard {
    pub(crate) views: watch::Receiver<Arc<View>>,
    /// Changes with the roster.
    pub(crate) members: watch::Receiver<Membership>,
    pub(crate) nudges: Arc<Nudges>,
    pub(crate) tell: watch::Sender<Arc<Vec<PeerNode>>>,
}

/// The version that gossip tells of.
fn announced(peer: &constellation_gossip::Peer) -> Option<u64> {
    let bulk = peer.bulks.get(&name()?)?;
    (bulk.length <= MAX_EXPORT as u64).then_some(bulk.version)
}

fn services(peer: &constellation_gossip::Peer) -> Services {
    Services {
        counted: peer.counted,
        counts: peer.services.clone(),
    }
}

async fn pull(core: &Core, name: &NodeName, addresses: &[String]) -> Result<Export, LinkError> {
    let body = encode(&Pull::Export).unwrap_or_default();
    let answer = core
        .links
        .call(name, addresses, Service::Bulk, body, PATIENCE)
        .await?;
    Export::from_answer(&answer).ok_or_else(|| LinkError::NoAnswer {
        peer: name.to_string(),
        detail: "it answered with less than an export".to_owned(),
    })
}

fn peers(core: &Core, view: &View, known: &Known) -> Vec<PeerNode> {
    let members: Vec<_> = core.read(|state| {
        let nodes = state.roster().nodes();
        nodes
            .filter(|(_, entry)| entry.id != core.identity.id && entry.member.role == Role::Node)
            .map(|(name, entry)| (name.clone(), entry.id, entry.wish))
            .collect()
    });
    let peer = |(name, id, wish): (NodeName, NodeId, Wish)| {
        let live = view.peers.get(&name);
        let said = known.said.get(&name);
        let trusted = known.trusted.contains(&name);
        let (_, addresses) = core.whereabouts(id)?;
        Some(PeerNode {
            generation: live.map_or(0, |peer| peer.generation),
            priority: said.map_or(u32::MAX, |said| said.priority),
            region: said.and_then(|said| said.region.as_ref().map(ToString::to_string)),
            online: live.is_some() || trusted,
            serving: wish == Wish::Serve && said.map_or(trusted, |said| said.standing == Standing::Serving),
            export: known.exports.get(&name).cloned(),
            services: live.map(|peer| services(peer)).unwrap_or_default(),
            name,
            id,
            addresses,
        })
    };
    members.into_iter().filter_map(peer).collect()
}

/// The latest versions that others said there are, ahead of gossip.
#[derive(Default)]
pub(crate) struct Nudges {
    latest: Mutex<BTreeMap<NodeName, u64>>,
    notify: Notify,
}

impl Nudges {
    pub(crate) fn put(&self, from: NodeName, version: u64) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = latest.entry(from).or_default();
        *known = version.max(*known);
        drop(latest);
        self.notify.notify_one();
    }

    fn latest(&self, of: &NodeName) -> Option<u64> {
        self.latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(of)
            .copied()
    }

    async fn wait(&self) {
        self.notify.notified().await;
    }
}
