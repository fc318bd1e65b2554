//! Real nodes in one process, over real sockets on loopback: they form, agree, hand leases over, come and go.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "all of this is a test, also what stands outside of functions marked as one"
)]

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use constellation_cluster::lease::{Damping, Held, LeaseKey, Timing};
use constellation_cluster::raft::Timers;
use constellation_cluster::state::Wish;
use constellation_link::Refused;
use constellation_node::{
    Actuator, Counts, Founder, Home, Joiner, Load, LoadReport, Node, Previous, ServiceId, Services, Settings,
    found, join, recover,
};
use tempfile::TempDir;
use tokio::net::TcpListener;

const HANG: Duration = Duration::from_secs(60);

fn ip() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

fn settings(gossip: SocketAddr, priority: u32) -> Settings {
    Settings {
        advertise: None,
        gossip,
        peers: Vec::new(),
        timers: Timers::LAN,
        gossip_timing: constellation_gossip::Timing::LAN,
        // Long enough for a process to be replaced on a machine that is busy with other tests.
        lease: Timing::new(Duration::from_secs(10), Duration::from_secs(1)).unwrap(),
        damping: Damping {
            settle: Duration::from_secs(3600),
            stagger: Duration::from_millis(200),
        },
        priority,
        region: None,
        public: Vec::new(),
        release: "test".to_owned(),
        capabilities: Vec::new(),
    }
}

/// Waits until something holds.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let until = tokio::time::Instant::now() + HANG;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < until, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Held(u64, Option<String>),
    Released(u64),
    Lost(u64),
}

/// Writes down what it is told, over all nodes in one order.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<Vec<(String, Told)>>>);

impl Book {
    fn all(&self) -> Vec<(String, Told)> {
        self.0.lock().unwrap().clone()
    }
}

struct Scribe {
    node: String,
    book: Book,
    last: Option<Held>,
}

impl Scribe {
    fn put(&self, told: Told) {
        self.book.0.lock().unwrap().push((self.node.clone(), told));
    }
}

impl Actuator for Scribe {
    fn held(
        &mut self,
        held: Held,
        previous: Option<Previous>,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        if self.last.map(Held::token) != Some(held.token()) {
            self.put(Told::Held(
                held.token().get(),
                previous.map(|previous| previous.node),
            ));
        }
        self.last = Some(held);
        Box::pin(std::future::ready(Ok(())))
    }

    fn release(
        &mut self,
        _to: Option<Previous>,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        let token = self.last.take().expect("held before").token().get();
        self.put(Told::Released(token));
        Box::pin(std::future::ready(Ok(())))
    }

    fn lost(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let token = self.last.take().expect("held before").token().get();
        self.put(Told::Lost(token));
        Box::pin(std::future::ready(()))
    }
}

struct Cluster {
    folder: TempDir,
    book: Book,
}

impl Cluster {
    async fn start(&self, name: &str, ports: (u16, u16), priority: u32) -> Node {
        let listener = eventually("the port", async || TcpListener::bind((ip(), ports.0)).await.ok()).await;
        let gossip = SocketAddr::new(ip(), ports.1);
        let failed = Arc::new(|failure: &_| panic!("{failure}"));
        let data = self.folder.path().join(name);
        let node = Node::start(&data, listener, settings(gossip, priority), None, failed)
            .await
            .unwrap();
        let scribe = Scribe {
            node: name.to_owned(),
            book: self.book.clone(),
            last: None,
        };
        node.take_part(LeaseKey::LbLeader, Box::new(scribe));
        node.set_ready(true).await;
        node
    }

    fn founder(&self, name: &str, ports: (u16, u16)) -> Founder {
        Founder {
            node: name.parse().unwrap(),
            advertise: ip(),
            address: SocketAddr::new(ip(), ports.0).to_string(),
            gossip: SocketAddr::new(ip(), ports.1).to_string(),
        }
    }

    async fn found(&self, name: &str, ports: (u16, u16)) {
        let founder = self.founder(name, ports);
        found(&self.home(name), &founder).await.unwrap();
    }

    fn home(&self, name: &str) -> Home {
        Home::below(&self.folder.path().join(name))
    }

    async fn join(&self, by: &Node, by_ports: (u16, u16), name: &str, ports: (u16, u16)) {
        let token = by.issue_token(Duration::from_secs(600)).await.unwrap();
        let joiner = Joiner {
            node: name.parse().unwrap(),
            advertise: Some(ip()),
            raft_port: ports.0,
            gossip_port: ports.1,
            witness: false,
        };
        let address = [SocketAddr::new(ip(), by_ports.0).to_string()];
        join(&self.home(name), &address, token.parse().unwrap(), &joiner)
            .await
            .unwrap();
    }
}

/// Free ports for links and gossip.
async fn ports() -> (u16, u16) {
    let tcp = TcpListener::bind((ip(), 0)).await.unwrap();
    let udp = tokio::net::UdpSocket::bind((ip(), 0)).await.unwrap();
    (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port())
}

fn holder(node: &Node) -> Option<String> {
    node.report().leases[0].holder.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_form_agree_hand_over_and_go() {
    let cluster = Cluster {
        folder: TempDir::new().unwrap(),
        book: Book::default(),
    };
    let (pa, pb, pc) = (ports().await, ports().await, ports().await);
    cluster.found("a", pa).await;
    let again = found(&cluster.home("a"), &cluster.founder("a", pa))
        .await
        .unwrap_err();
    assert!(again.to_string().contains("already"), "{again}");
    let a = cluster.start("a", pa, 100).await;
    eventually("the lease of one node", async || {
        (holder(&a)? == "a").then_some(())
    })
    .await;

    cluster.join(&a, pa, "b", pb).await;
    let b = cluster.start("b", pb, 100).await;
    eventually("the second voter", async || {
        (b.report().raft.voters == 2 && b.report().quorum).then_some(())
    })
    .await;
    // By way of a node that does not lead.
    cluster.join(&b, pb, "c", pc).await;
    let c = cluster.start("c", pc, 100).await;
    for node in [&a, &b, &c] {
        eventually("everybody", async || {
            let report = node.report();
            let online = report.nodes.iter().filter(|node| node.online).count();
            (online == 3 && report.raft.voters == 3 && report.quorum).then_some(())
        })
        .await;
        assert_eq!(holder(node).as_deref(), Some("a"));
    }

    // What one tells the others get.
    b.export(Arc::from(*b"what runs on b")).unwrap();
    let export_of = |node: &Node, of: &str| {
        let peers = node.peers().borrow().clone();
        let peer = peers.iter().find(|peer| peer.name.as_str() == of)?.clone();
        peer.export.map(|export| export.bytes.to_vec())
    };
    for node in [&a, &c] {
        eventually("the export", async || {
            (export_of(node, "b")? == b"what runs on b").then_some(())
        })
        .await;
    }

    // A planned hand-over, asked of a node that is no part of it.
    let to_b = async |node: &Node| node.hand_over(&LeaseKey::LbLeader, &"b".parse().unwrap()).await;
    to_b(&c).await.unwrap();
    for node in [&a, &b, &c] {
        eventually("the hand-over", async || (holder(node)? == "b").then_some(())).await;
    }
    to_b(&a).await.unwrap();
    // The process of the holder is replaced: the lease is the next one's without having been let go of.
    b.bequeath().await.unwrap();
    b.stop(false).await;
    let b = cluster.start("b", pb, 100).await;
    for node in [&a, &b, &c] {
        eventually("the heir", async || {
            let report = node.report();
            let online = report.nodes.iter().filter(|node| node.online).count();
            (holder(node)? == "b" && online == 3).then_some(())
        })
        .await;
    }
    eventually("it acts", async || b.report().leases[0].mine.then_some(())).await;
    let unknown = a
        .hand_over(&LeaseKey::LbLeader, &"x".parse().unwrap())
        .await
        .unwrap_err();
    assert!(unknown.contains("there is no node x"), "{unknown}");

    // A cordoned node lets go, and takes nothing.
    a.wish(&"b".parse().unwrap(), Wish::Cordon).await.unwrap();
    let next = eventually("another holder", async || {
        holder(&c).filter(|holder| holder != "b")
    })
    .await;
    eventually("the refusal", async || {
        let refused = to_b(&a).await.unwrap_err();
        refused.contains("cordoned").then_some(())
    })
    .await;
    a.wish(&"b".parse().unwrap(), Wish::Serve).await.unwrap();

    // The holder stops in order: another one has it, and nobody's lease ran out.
    let (stopped, left) = if next == "a" {
        (&a, [&b, &c])
    } else {
        (&c, [&a, &b])
    };
    stopped.stop(true).await;
    for node in left {
        eventually("another holder", async || {
            holder(node).filter(|holder| *holder != next)
        })
        .await;
        eventually("it is not heard of", async || {
            let report = node.report();
            let gone = report.nodes.iter().find(|node| node.name == next)?;
            (!gone.online && report.quorum).then_some(())
        })
        .await;
    }
    // It is taken out, by any of the others, and stays out.
    left[0].remove(&next.parse().unwrap()).await.unwrap();
    for node in left {
        eventually("two members", async || {
            let report = node.report();
            (report.nodes.len() == 2 && report.raft.voters == 2).then_some(())
        })
        .await;
    }
    left[0].stop(false).await;
    left[1].stop(false).await;

    // Nobody acted without having let go before, tokens only grew, and each said before whom it had it.
    let told = cluster.book.all();
    let mut current: Option<(String, u64)> = None;
    let (mut greatest, mut lost) = (0, None);
    for (node, what) in &told {
        match what {
            Told::Held(token, previous) => {
                // An heir goes on where the process before it was.
                assert!(
                    current.take().is_none_or(|(holder, _)| holder == *node),
                    "{told:?}"
                );
                // One that could not be renewed for a moment may be the same node's again, under the same token.
                assert!(
                    *token > greatest || lost == Some((node.clone(), *token)),
                    "{told:?}"
                );
                assert_ne!(previous.as_deref(), Some(node.as_str()), "{told:?}");
                greatest = *token;
                current = Some((node.clone(), *token));
            }
            Told::Released(token) | Told::Lost(token) => {
                assert_eq!(current.take(), Some((node.clone(), *token)), "{told:?}");
                lost = matches!(what, Told::Lost(_)).then(|| (node.clone(), *token));
            }
        }
    }
    assert!(greatest > 0 && told.len() >= 5, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_goes_on_alone_and_shuts_the_lost_ones_out() {
    let cluster = Cluster {
        folder: TempDir::new().unwrap(),
        book: Book::default(),
    };
    let (pa, pb) = (ports().await, ports().await);
    cluster.found("a", pa).await;
    let a = cluster.start("a", pa, 100).await;
    cluster.join(&a, pa, "b", pb).await;
    let b = cluster.start("b", pb, 100).await;
    eventually("two voters", async || {
        (b.report().raft.voters == 2 && b.report().quorum).then_some(())
    })
    .await;
    // Both stop; a is lost.
    let running = recover(&cluster.home("b"), pb.0, pb.1).unwrap_err();
    assert!(
        running.to_string().contains("another process has it open"),
        "{running}"
    );
    a.stop(false).await;
    b.stop(false).await;
    let recovered = recover(&cluster.home("b"), pb.0, pb.1).unwrap();
    assert_eq!(recovered.others, ["a"]);
    let b = cluster.start("b", pb, 100).await;
    eventually("alone", async || {
        let report = b.report();
        (report.nodes.len() == 1 && report.raft.voters == 1 && report.quorum).then_some(())
    })
    .await;
    eventually("the lease", async || b.report().leases[0].mine.then_some(())).await;
    // The lost one comes back with what it has: nobody talks to it, and it says that it is without the others.
    let a = cluster.start("a", pa, 100).await;
    eventually("refused", async || {
        (b.counters().refused(Refused::NotAMember) > 0).then_some(())
    })
    .await;
    assert!(!a.report().quorum);
    assert_eq!(b.report().raft.voters, 1);
    let refused = found(&cluster.home("a"), &cluster.founder("a", pa))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("already"), "{refused}");
    // It joins anew, under its old name.
    a.stop(false).await;
    cluster.home("a").abandon().unwrap();
    cluster.join(&b, pb, "a", pa).await;
    let a = cluster.start("a", pa, 100).await;
    for node in [&a, &b] {
        eventually("both again", async || {
            let report = node.report();
            let online = report.nodes.iter().filter(|node| node.online).count();
            (online == 2 && report.raft.voters == 2 && report.quorum).then_some(())
        })
        .await;
    }
    a.stop(true).await;
    b.stop(false).await;
}

/// A cluster of nodes of these names that all see each other.
async fn of(cluster: &Cluster, names: &[&str]) -> Vec<Node> {
    let first = ports().await;
    cluster.found(names[0], first).await;
    let mut nodes = vec![cluster.start(names[0], first, 100).await];
    for name in &names[1..] {
        let own = ports().await;
        cluster.join(&nodes[0], first, name, own).await;
        nodes.push(cluster.start(name, own, 100).await);
    }
    for node in &nodes {
        eventually("everybody", async || {
            let report = node.report();
            let online = report.nodes.iter().filter(|node| node.online).count();
            (online == names.len() && report.raft.voters == names.len() && report.quorum).then_some(())
        })
        .await;
    }
    nodes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_read_at_any_node_that_has_caught_up() {
    let cluster = Cluster {
        folder: TempDir::new().unwrap(),
        book: Book::default(),
    };
    let nodes = of(&cluster, &["a", "b", "c"]).await;
    let wanted = |node: &Node| {
        let report = node.report();
        let of = report.nodes.iter().find(|node| node.name == "c").unwrap();
        of.wish
    };
    let all = [Wish::Cordon, Wish::Drain, Wish::Serve];
    for (round, wish) in all.iter().cycle().take(60).enumerate() {
        let writer = &nodes[round % 3];
        writer.wish(&"c".parse().unwrap(), *wish).await.unwrap();
        // No sooner than that, and no later.
        for reader in &nodes {
            reader.catch_up(HANG).await.unwrap();
            assert_eq!(wanted(reader), *wish, "round {round}");
        }
    }
    // Alone it does not know whether the others agree on something.
    nodes[1].stop(true).await;
    nodes[2].stop(true).await;
    let error = nodes[0].catch_up(Duration::from_secs(1)).await.unwrap_err();
    assert!(error.to_string().contains("did not answer in time"), "{error}");
    nodes[0].stop(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_node_fares_is_known_to_the_others() {
    let cluster = Cluster {
        folder: TempDir::new().unwrap(),
        book: Book::default(),
    };
    let nodes = of(&cluster, &["a", "b"]).await;
    let (a, b) = (&nodes[0], &nodes[1]);
    let (web, db) = (ServiceId::of("web@docker"), ServiceId::of("db@docker"));
    let services = |version, counts: &[(ServiceId, u32, u32)]| Services {
        counted: Some(version),
        counts: counts
            .iter()
            .map(|(id, healthy, unhealthy)| {
                let counts = Counts {
                    healthy: *healthy,
                    unhealthy: *unhealthy,
                    ..Counts::default()
                };
                (*id, counts)
            })
            .collect(),
    };
    let version = b.export(Arc::from(*b"what runs on b")).unwrap();
    assert_eq!(
        b.export(Arc::from(*b"what runs on b")),
        Ok(version),
        "it is the same"
    );
    // Something comes, changes and goes.
    for told in [
        services(version, &[(web, 2, 0), (db, 1, 0)]),
        services(version, &[(web, 1, 1), (db, 1, 0)]),
        services(version + 1, &[(web, 1, 1)]),
    ] {
        b.tell_services(told.clone()).await;
        eventually("it is known", async || {
            let peers = a.peers().borrow().clone();
            let peer = peers.iter().find(|peer| peer.name.as_str() == "b")?.clone();
            (peer.services == told).then_some(())
        })
        .await;
    }
    let load = Load {
        cpu_permille: 250,
        memory_permille: 500,
        connections: 12,
        requests: 3,
    };
    b.tell_load(load).await;
    let load_of = |node: &Node| {
        let report = node.report();
        report.nodes.iter().find(|node| node.name == "b")?.load
    };
    for node in &nodes {
        eventually("the load is known", async || {
            (load_of(node)? == LoadReport::from(load)).then_some(())
        })
        .await;
    }
    // A little more or less is not told, and shown where it is.
    let little = Load { requests: 4, ..load };
    b.tell_load(little).await;
    assert_eq!(load_of(b), Some(LoadReport::from(little)));
    // What is told later was told in this order: the little one has not gone out.
    b.tell_services(services(version + 2, &[])).await;
    eventually("it is known", async || {
        let peers = a.peers().borrow().clone();
        let peer = peers.iter().find(|peer| peer.name.as_str() == "b")?.clone();
        (peer.services.counted == Some(version + 2)).then_some(())
    })
    .await;
    assert_eq!(load_of(a), Some(LoadReport::from(load)));
    for node in &nodes {
        node.stop(true).await;
    }
}
