//! The replicated log over real links: a cluster is founded, grows to three voters and outlives its leader.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use constellation_cluster::raft::{Consensus, Member, RaftNode, Timers, TransferError};
use constellation_cluster::state::{ClientId, Command, DocumentChange, NodeId, Request};
use constellation_identity::{NodeIdentity, UnixSeconds};
use constellation_link::{Handler, RaftTransport, Resolver, Service};
use tokio::time::{Duration, timeout};

use crate::node::{Cluster, Node, soon};

#[derive(Default)]
struct Log(OnceLock<RaftNode>);

impl Handler for Log {
    async fn answer(&self, _: &NodeIdentity, service: Service, body: Vec<u8>) -> Option<Vec<u8>> {
        assert_eq!(service, Service::Raft);
        self.0.get()?.serve(&body).await
    }

    async fn join(&self, _: Vec<u8>) -> Option<Vec<u8>> {
        None
    }
}

/// Where nodes are, as gossip would say.
type Places = Arc<Mutex<BTreeMap<NodeId, String>>>;

async fn start(cluster: &Cluster, id: u64, folder: &Path, places: &Places) -> (Node<Log>, RaftNode) {
    let name = format!("node-{id}");
    let credentials = cluster.credentials(&name, UnixSeconds::now());
    let node = cluster
        .node_with(&name, credentials, Arc::new(Log::default()), "127.0.0.1:0")
        .await;
    places
        .lock()
        .expect("places")
        .insert(NodeId(id), node.address.to_string());
    let known = Arc::clone(places);
    let resolver: Resolver = Arc::new(move |id, member| {
        let known = known.lock().expect("places").get(&id).cloned();
        known.into_iter().chain([member.address.clone()]).collect()
    });
    let transport = RaftTransport {
        links: node.links.clone(),
        resolver,
    };
    let folder = folder.join(&name);
    std::fs::create_dir_all(&folder).expect("a folder");
    let timers = Timers {
        election_min: Duration::from_millis(300),
        election_max: Duration::from_millis(600),
        ..Timers::LAN
    };
    let failed = Arc::new(move |failure: &_| panic!("node {id}: {failure}"));
    let raft = RaftNode::start(
        NodeId(id),
        &folder,
        timers,
        Arc::new(transport),
        Box::new(|_, _, _| {}),
        failed,
    )
    .await
    .expect("a node");
    assert!(node.handler.0.set(raft.clone()).is_ok());
    (node, raft)
}

fn member(id: u64) -> Member {
    Member {
        name: format!("node-{id}"),
        // Where nobody is: the resolver knows better.
        address: "127.0.0.1:1".to_owned(),
        ..Member::default()
    }
}

fn write(sequence: u64) -> Request {
    Request {
        client: ClientId {
            node: NodeId(1),
            incarnation: 1,
        },
        sequence,
        command: Command::Document(DocumentChange {
            name: "a".to_owned(),
            expected: None,
            content: Some(vec![b'x'; 20_000]),
        }),
    }
}

async fn leader(nodes: &BTreeMap<u64, (Node<Log>, RaftNode)>) -> u64 {
    soon("a leader", async {
        loop {
            for (id, (_, raft)) in nodes {
                let leads = timeout(Duration::from_secs(1), raft.read_barrier()).await;
                if matches!(leads, Ok(Ok(_))) {
                    return *id;
                }
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn apply(nodes: &BTreeMap<u64, (Node<Log>, RaftNode)>, sequence: u64) {
    soon("an outcome", async {
        loop {
            let raft = &nodes[&leader(nodes).await].1;
            let outcome = timeout(Duration::from_secs(2), raft.propose(write(sequence))).await;
            if matches!(outcome, Ok(Ok(_))) {
                return;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_form_a_cluster_over_their_links_and_outlive_their_leader() {
    let (cluster, folder, places) = (
        Cluster::new(),
        tempfile::tempdir().expect("a folder"),
        Places::default(),
    );
    let mut nodes = BTreeMap::new();
    for id in 1..=3 {
        nodes.insert(id, start(&cluster, id, folder.path(), &places).await);
    }
    nodes[&1].1.found(member(1)).await.expect("founded");
    apply(&nodes, 1).await;
    for id in 2..=3 {
        let first = &nodes[&1].1;
        first
            .add_learner(NodeId(id), member(id))
            .await
            .expect("a learner");
    }
    soon("three voters", async {
        loop {
            let raft = &nodes[&leader(&nodes).await].1;
            let voters = raft
                .watch()
                .borrow()
                .members
                .values()
                .filter(|(_, votes)| *votes)
                .count();
            if voters == 3 {
                return;
            }
            // A refusal is a change that is not through yet, and is asked again.
            if raft.promote().await.is_err() {
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    for sequence in 2..=20 {
        apply(&nodes, sequence).await;
    }
    // Leadership is handed over first, by a call over the same links.
    let first = leader(&nodes).await;
    let target = first % 3 + 1;
    let handed = nodes[&first].1.step_down(Some(NodeId(target))).await;
    println!("handed over: {handed:?}, meant for {target}");
    assert!(
        matches!(
            handed,
            Ok(_) | Err(TransferError::NotElected { .. } | TransferError::NoAnswer { .. })
        ),
        "{handed:?}"
    );
    apply(&nodes, 21).await;
    let old = leader(&nodes).await;
    let (mut node, raft) = nodes.remove(&old).expect("the leader");
    node.stop().await;
    raft.shut_down().await;
    node.links.shut_down().await;
    apply(&nodes, 22).await;
    assert_ne!(leader(&nodes).await, old);
    // Back again, at another address.
    nodes.insert(
        old,
        start_again(&cluster, old, folder.path(), &places, (node, raft)).await,
    );
    apply(&nodes, 23).await;
    let leading = leader(&nodes).await;
    let applied = nodes[&leading].1.watch().borrow().applied;
    let mut view = nodes[&old].1.watch();
    soon(
        "the rest of the log",
        view.wait_for(|view| view.applied >= applied),
    )
    .await
    .expect("a view");
}

async fn start_again(
    cluster: &Cluster,
    id: u64,
    folder: &Path,
    places: &Places,
    before: (Node<Log>, RaftNode),
) -> (Node<Log>, RaftNode) {
    drop(before);
    start(cluster, id, folder, places).await
}
