//! Several nodes in one process, with a network between them that can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use constellation_cluster::lease::ExpiryTimer;
use constellation_cluster::raft::{
    Consensus, LeaderView, Member, OnFailure, ProposeError, RaftNode, Timers, Transport, TransportError,
};
use constellation_cluster::state::{ClientId, Command, DocumentChange, NodeId, Outcome, Request};
use tempfile::TempDir;
use tokio::time::timeout;

/// So long that only a hang takes it; nothing is measured with it.
const HANG: Duration = Duration::from_secs(60);

pub(crate) const TIMERS: Timers = Timers {
    heartbeat: Duration::from_millis(50),
    election_min: Duration::from_millis(300),
    election_max: Duration::from_millis(600),
    snapshot_every: 50,
    keep: 10,
};

/// Waits for something that has to come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(HANG, future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come"))
}

/// What measures the time of leases on each node.
type Timer = Arc<Mutex<ExpiryTimer>>;

#[derive(Default)]
pub(crate) struct Net {
    timers: Mutex<BTreeMap<NodeId, Timer>>,
    nodes: Mutex<BTreeMap<NodeId, RaftNode>>,
    cut: Mutex<BTreeSet<NodeId>>,
}

/// The network as one node sees it.
struct Link {
    net: Arc<Net>,
    me: NodeId,
}

impl Transport for Link {
    async fn call(
        &self,
        to: NodeId,
        _member: &Member,
        request: Vec<u8>,
        within: Duration,
    ) -> Result<Vec<u8>, TransportError> {
        let unreachable = || TransportError::Unreachable {
            node: to,
            detail: "cut off".to_owned(),
        };
        let peer = self.net.reach(self.me, to).ok_or_else(unreachable)?;
        let answer = timeout(within, peer.serve(&request)).await;
        // The way back may have been cut meanwhile.
        self.net.reach(self.me, to).ok_or_else(unreachable)?;
        let no_answer = |detail: &str| TransportError::NoAnswer {
            node: to,
            detail: detail.to_owned(),
        };
        answer
            .map_err(|_| no_answer("it took too long"))?
            .ok_or_else(|| no_answer("it dropped the call"))
    }
}

impl Net {
    fn reach(&self, from: NodeId, to: NodeId) -> Option<RaftNode> {
        let cut = self.cut.lock().expect("a set");
        if cut.contains(&from) || cut.contains(&to) {
            return None;
        }
        self.nodes.lock().expect("nodes").get(&to).cloned()
    }
}

pub(crate) struct Cluster {
    net: Arc<Net>,
    folder: TempDir,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self {
            net: Arc::default(),
            folder: TempDir::new().expect("a folder"),
        }
    }

    /// A cluster of nodes 1 to `count`, all of them voters.
    pub(crate) async fn of(count: u64) -> Self {
        let cluster = Self::new();
        cluster.start(1).await.found(member(1)).await.expect("founded");
        let first = cluster.leader().await;
        for id in 2..=count {
            cluster.start(id).await;
            first
                .add_learner(NodeId(id), member(id))
                .await
                .expect("a learner");
        }
        cluster.promote(usize::try_from(count).expect("few")).await;
        cluster
    }

    pub(crate) fn folder(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("node-{id}"))
    }

    /// Starts a node, with what is in its folder.
    pub(crate) async fn start(&self, id: u64) -> RaftNode {
        self.start_with(id, Arc::new(move |failure| panic!("node {id}: {failure}")))
            .await
    }

    /// The same, with something else to do when its store fails.
    pub(crate) async fn start_with(&self, id: u64, failed: OnFailure) -> RaftNode {
        let folder = self.folder(id);
        std::fs::create_dir_all(&folder).expect("a folder");
        let link = Arc::new(Link {
            net: Arc::clone(&self.net),
            me: NodeId(id),
        });
        let timer = Timer::default();
        let fed = Arc::clone(&timer);
        let observer = move |term, touched: Option<&_>, leases: &_| {
            fed.lock()
                .expect("a timer")
                .applied(Instant::now(), term, touched, leases);
        };
        let node = RaftNode::start(NodeId(id), &folder, TIMERS, link, Box::new(observer), failed)
            .await
            .expect("a node");
        self.net.timers.lock().expect("timers").insert(NodeId(id), timer);
        self.net
            .nodes
            .lock()
            .expect("nodes")
            .insert(NodeId(id), node.clone());
        node
    }

    /// Stops a node; its folder stays.
    pub(crate) async fn stop(&self, id: NodeId) {
        let node = self.net.nodes.lock().expect("nodes").remove(&id).expect("a node");
        node.shut_down().await;
    }

    pub(crate) fn node(&self, id: u64) -> RaftNode {
        self.net
            .nodes
            .lock()
            .expect("nodes")
            .get(&NodeId(id))
            .expect("a node")
            .clone()
    }

    pub(crate) fn nodes(&self) -> Vec<RaftNode> {
        self.net.nodes.lock().expect("nodes").values().cloned().collect()
    }

    pub(crate) fn cut(&self, id: NodeId) {
        self.net.cut.lock().expect("a set").insert(id);
    }

    pub(crate) fn mend(&self) {
        self.net.cut.lock().expect("a set").clear();
    }

    /// The node that a majority of those which are connected takes for the leader.
    pub(crate) async fn leader(&self) -> RaftNode {
        soon("a leader", async {
            loop {
                let cut = self.net.cut.lock().expect("a set").clone();
                for node in self.nodes() {
                    let view = node.watch().borrow().clone();
                    if let (true, Some(leader)) = (view.leading, view.leader)
                        && !cut.contains(&leader)
                        && node.read_barrier().await.is_ok()
                    {
                        return node;
                    }
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// Has a node propose what its timer says is over, for as long as it runs; it says so only while it leads.
    pub(crate) async fn expire(self: Arc<Self>, id: u64, until: Arc<AtomicBool>) {
        let node = self.node(id);
        let timer = Arc::clone(&self.net.timers.lock().expect("timers")[&NodeId(id)]);
        let client = ClientId {
            node: NodeId(id),
            incarnation: 1,
        };
        let mut sequence = 0;
        while !until.load(Ordering::Relaxed) {
            let view = node.watch().borrow().clone();
            let due = node.state().read(|state| {
                let mut timer = timer.lock().expect("a timer");
                match view.leading {
                    true => timer.lead(Instant::now(), view.term, state.leases()),
                    false => timer.follow(),
                }
                timer.due(Instant::now())
            });
            for command in due {
                sequence += 1;
                let request = Request {
                    client,
                    sequence,
                    command: Command::Lease(command),
                };
                // Whatever it comes to, the timer says it again if it did not help.
                drop(timeout(Duration::from_secs(1), node.propose(request)).await);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Gives votes until there are so many voters.
    pub(crate) async fn promote(&self, voters: usize) {
        soon("the voters", async {
            loop {
                let leader = self.leader().await;
                let now = voters_of(&leader.watch().borrow());
                if now == voters {
                    return;
                }
                // A refusal is a change that is not through yet, and is asked again.
                if leader.promote().await.is_err() {
                    tokio::task::yield_now().await;
                }
            }
        })
        .await;
    }

    /// Has a request applied by whoever leads, as often as it takes, under the same number.
    pub(crate) async fn apply(&self, request: &Request) -> Outcome {
        soon("an outcome", async {
            loop {
                match timeout(
                    Duration::from_secs(2),
                    self.leader().await.propose(request.clone()),
                )
                .await
                {
                    Ok(Ok(outcome)) => return outcome,
                    Ok(Err(ProposeError::NotLeader { .. })) | Err(_) => {}
                    Ok(Err(ProposeError::Stopped(_))) => tokio::task::yield_now().await,
                }
            }
        })
        .await
    }

    /// Returns once a node has applied that much.
    pub(crate) async fn applied(&self, id: u64, index: u64) {
        let mut view = self.node(id).watch();
        soon("an index", view.wait_for(|view| view.applied >= Some(index)))
            .await
            .expect("a node that runs");
    }
}

fn voters_of(view: &LeaderView) -> usize {
    view.members.values().filter(|(_, voter)| *voter).count()
}

pub(crate) fn member(id: u64) -> Member {
    Member {
        name: format!("node-{id}"),
        address: format!("192.0.2.{id}:8300"),
        ..Member::default()
    }
}

pub(crate) fn write(client: u64, sequence: u64, name: &str, value: u64) -> Request {
    let change = DocumentChange {
        name: name.to_owned(),
        expected: None,
        content: Some(value.to_string().into_bytes()),
    };
    let client = ClientId {
        node: NodeId(client),
        incarnation: 1,
    };
    Request {
        client,
        sequence,
        command: Command::Document(change),
    }
}

/// What a node has in a document, as a figure; 0 for nothing.
pub(crate) fn value(node: &RaftNode, name: &str) -> u64 {
    let text = node.state().read(|state| {
        state
            .documents()
            .get(name)
            .map(|document| document.content.clone())
    });
    text.map_or(0, |text| {
        String::from_utf8(text).expect("text").parse().expect("a figure")
    })
}
