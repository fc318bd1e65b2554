//! Nodes on loopback and ways to wait for what they come to know.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use constellation_gossip::{
    Config, Counts, Event, Gossip, GossipKey, KeyRing, Members, Metadata, Peer, ServiceId, Standing, Timing,
    View, Watch,
};
use constellation_identity::{ClusterId, NodeName};
use tokio::sync::watch;

/// Nothing here takes seconds; whoever waits this long waits for ever.
const HANG: Duration = Duration::from_secs(60);

pub fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

pub struct Node {
    pub gossip: Gossip,
    pub watch: Watch,
    pub members: watch::Sender<Arc<Members>>,
}

/// What the nodes of a test have in common.
#[derive(Clone)]
pub struct Setup {
    pub cluster: ClusterId,
    pub keys: KeyRing,
    pub timing: Timing,
    pub members: Members,
}

impl Setup {
    /// Rounds are short, so that tests are.
    pub fn new() -> Self {
        Self {
            cluster: ClusterId::generate().unwrap(),
            keys: KeyRing::new(GossipKey::generate().unwrap()),
            timing: Timing {
                interval: Duration::from_millis(50),
                patience: 8.0,
                memory: Duration::from_secs(900),
            },
            members: Members::anybody(),
        }
    }

    pub fn config(
        &self,
        node: &str,
        generation: u64,
        seeds: &[SocketAddr],
    ) -> (Config, watch::Sender<Arc<Members>>) {
        let (tell, members) = watch::channel(Arc::new(self.members.clone()));
        let config = Config {
            cluster: self.cluster,
            node: name(node),
            generation,
            listen: "127.0.0.1:0".parse().unwrap(),
            advertise: None,
            seeds: seeds.iter().map(ToString::to_string).collect(),
            keys: self.keys.clone(),
            members,
            metadata: metadata(),
            timing: self.timing,
        };
        (config, tell)
    }

    pub async fn node(&self, node: &str, generation: u64, seeds: &[SocketAddr]) -> Node {
        let (config, members) = self.config(node, generation, seeds);
        let gossip = Gossip::start(config).await.unwrap();
        Node {
            watch: gossip.watch(),
            gossip,
            members,
        }
    }

    /// `count` nodes named n0 to n99, who all see each other.
    pub async fn nodes(&self, count: usize) -> Vec<Node> {
        let mut nodes: Vec<Node> = Vec::new();
        for number in 0..count {
            let seeds: Vec<_> = nodes
                .first()
                .map(|first| first.gossip.address())
                .into_iter()
                .collect();
            nodes.push(self.node(&format!("n{number}"), 1, &seeds).await);
        }
        for node in &mut nodes {
            node.view(|view| {
                view.peers.len() == count - 1 && view.peers.values().all(|peer| peer.metadata.is_some())
            })
            .await;
        }
        nodes
    }
}

impl Node {
    /// Waits until the view is so; gives the events on the way.
    pub async fn view(&mut self, wanted: impl Fn(&View) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        let waiting = async {
            while !wanted(self.watch.view()) {
                events.extend(self.watch.next().await.unwrap());
            }
        };
        let outcome = tokio::time::timeout(HANG, waiting).await;
        assert!(outcome.is_ok(), "not so after {HANG:?}: {:#?}", self.watch.view());
        events
    }

    pub fn peer(&self, node: &str) -> Option<Arc<Peer>> {
        self.gossip.view().peers.get(&name(node)).cloned()
    }

    /// Tells that a service has one instance, and whether that is healthy.
    pub async fn tell(&self, service: &str, healthy: bool) {
        self.gossip
            .update(|own| own.service(ServiceId::of(service), &counts(healthy)))
            .await
            .unwrap();
    }

    /// Waits until this many more datagrams were sent: the only clock that gossip has.
    pub async fn rounds(&self, datagrams: u64) {
        let until = self.gossip.counters().total_sent().0 + datagrams;
        eventually(|| self.gossip.counters().total_sent().0 >= until).await;
    }
}

/// Waits for what nothing tells about.
pub async fn eventually(wanted: impl Fn() -> bool) {
    let waiting = async {
        while !wanted() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(HANG, waiting).await.is_ok(),
        "not so after {HANG:?}"
    );
}

pub fn metadata() -> Metadata {
    Metadata {
        standing: Standing::Serving,
        priority: 100,
        region: Some("eu-1".parse().unwrap()),
        mesh: Some("100.64.0.7".parse().unwrap()),
        public: vec!["192.0.2.7".parse().unwrap()],
        release: "0.1.0".parse().unwrap(),
        capabilities: vec!["docker".parse().unwrap(), "ebpf".parse().unwrap()],
    }
}

pub fn counts(healthy: bool) -> Counts {
    Counts {
        healthy: healthy.into(),
        unhealthy: (!healthy).into(),
        ..Counts::default()
    }
}

pub fn health(peer: &Peer, service: &str) -> Option<bool> {
    let counts = peer.services.get(&ServiceId::of(service))?;
    Some(counts.healthy > 0)
}
