//! Nodes that don't hold the edge carry connections to the one that does.

use std::net::{Ipv4Addr, SocketAddr};

use constellation_dataplane::mesh::{Role, View};
use tokio::io::{AsyncReadExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::cluster::{At, Cluster, Node, serving};
use super::support::{Act, Backend, ok, soon};

#[tokio::test]
async fn the_holder_serves_as_if_it_had_accepted_the_connection() {
    let (here, there) = (Backend::fixed("standby").await, Backend::fixed("holder").await);
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[At::Here(here.address)], &[], &[]);
    let far = cluster.start("b", &[At::Here(there.address)], &[], &[]);
    let mut before = near.connect().await;
    assert_eq!(before.get("/").await.text(), "standby");
    near.mesh.set_role(Role::Relay { node: "b".into() });
    let mut client = near.connect().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "holder");
    }
    let seen = there.seen().remove(0);
    assert_eq!(seen.header("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(
        seen.header("host"),
        here.seen().remove(0).header("host"),
        "nothing is read of it on the way"
    );
    // What was open stays where it is.
    assert_eq!(before.get("/").await.text(), "standby");
    assert_eq!(
        far.metric("constellation_connections_total", &["entry_point=\"web\""]),
        1
    );
    near.mesh.set_role(Role::Serve);
    assert_eq!(near.connect().await.get("/").await.text(), "standby");
    assert_eq!(client.get("/").await.text(), "holder");
}

/// A holder that thinks that another one is keeps what comes to it through the mesh.
#[tokio::test]
async fn two_nodes_that_take_each_other_for_the_holder_send_nothing_round() {
    let (one, other) = (Backend::fixed("a").await, Backend::fixed("b").await);
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[At::Here(one.address)], &[], &[]);
    let far = cluster.start("b", &[At::Here(other.address)], &[], &[]);
    near.mesh.set_role(Role::Relay { node: "b".into() });
    far.mesh.set_role(Role::Relay { node: "a".into() });
    assert_eq!(near.connect().await.get("/").await.text(), "b");
    assert_eq!(far.connect().await.get("/").await.text(), "a");
}

#[tokio::test]
async fn a_client_that_waits_for_the_holder_gets_the_next_one() {
    let backend = Backend::fixed("new holder").await;
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    let near = cluster.start("a", &[], &[], &[]);
    let _far = cluster.start("c", &[At::Here(backend.address)], &[], &[]);
    // b was never started: its port is bound, and nobody accepts.
    near.mesh.set_role(Role::Relay { node: "gone".into() });
    let mut client = near.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    near.mesh.set_role(Role::Relay { node: "c".into() });
    assert_eq!(client.response().await.text(), "new holder");
}

/// The way to a node, which can be cut.
struct Wire {
    address: SocketAddr,
    carrying: JoinHandle<()>,
}

impl Wire {
    async fn to(inlet: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let carrying = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                open.spawn(async move {
                    let mut to = TcpStream::connect(inlet).await.unwrap();
                    let _ = copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        Self { address, carrying }
    }

    /// As when the node is killed: what is open is closed, and nobody listens any more.
    async fn cut(self) {
        self.carrying.abort();
        let _ = self.carrying.await;
    }
}

/// Node a with the holder b at the end of a wire, and c, which is to be the next holder.
async fn three(holder: &Backend, next: &Backend) -> (Cluster, [Node; 3], Wire) {
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    let near = cluster.start("a", &[], &[], &[]);
    let first = cluster.start("b", &[At::Here(holder.address)], &[], &[]);
    let second = cluster.start("c", &[At::Here(next.address)], &[], &[]);
    let mut view = cluster.view("a");
    let node = view.nodes.get_mut("b").unwrap();
    let wire = Wire::to(node.addresses[0].parse().unwrap()).await;
    node.addresses = [wire.address.to_string()].into();
    near.mesh.set_view(Some(view));
    near.mesh.set_role(Role::Relay { node: "b".into() });
    (cluster, [near, first, second], wire)
}

async fn asked(backend: &Backend, requests: usize) {
    let asked = async {
        while backend.seen().len() < requests {
            tokio::task::yield_now().await;
        }
    };
    soon("the requests", asked).await;
}

/// What was not answered is asked again at the next holder, and who asks nothing keeps its connection for the next request.
#[tokio::test]
async fn a_holder_that_is_lost_fails_no_request_that_may_be_repeated() {
    let hung = Backend::start(|_, seen| match seen.head.starts_with("GET /fast") {
        true => Act::Send(ok(b"first")),
        false => Act::Hang,
    })
    .await;
    let next = Backend::fixed("second").await;
    let (_cluster, [near, _first, second], wire) = three(&hung, &next).await;
    let mut idle = near.connect().await;
    assert_eq!(idle.get("/fast").await.text(), "first");
    let mut silent = near.connect().await;
    let requests = [
        "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n",
        "PUT /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
    ];
    let mut waiting = Vec::new();
    for request in requests {
        let mut client = near.connect().await;
        assert_eq!(client.get("/fast").await.text(), "first");
        client.send(request).await;
        waiting.push(client);
    }
    let mut post = near.connect().await;
    post.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
        .await;
    let mut half = near.connect().await;
    half.send("POST / HTTP/1.1\r\nHost: a\r\n").await;
    asked(&hung, 6).await;
    wire.cut().await;
    assert_eq!(
        soon("the reset", post.0.read(&mut [0])).await.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset,
        "nobody knows whether it was done"
    );
    near.mesh.set_role(Role::Relay { node: "c".into() });
    for client in &mut waiting {
        assert_eq!(client.response().await.text(), "second");
        assert_eq!(client.get("/").await.text(), "second");
    }
    half.send("Content-Length: 4\r\n\r\nbody").await;
    assert_eq!(half.response().await.text(), "second");
    for client in [&mut idle, &mut silent] {
        assert_eq!(client.get("/").await.text(), "second");
    }
    assert_eq!(
        near.metric("constellation_mesh_resumed_connections_total", &[]),
        5
    );
    assert_eq!(
        second.metric("constellation_connections_total", &["entry_point=\"web\""]),
        5
    );
    let seen = next.seen();
    assert_eq!(seen.iter().filter(|seen| seen.head.starts_with("PUT")).count(), 1);
}

/// The node that carries may be the next holder itself.
#[tokio::test]
async fn who_becomes_the_holder_answers_what_the_lost_one_has_not() {
    let hung = Backend::start(|_, _| Act::Hang).await;
    let next = Backend::fixed("here").await;
    let (_cluster, [near, _first, _second], wire) = three(&hung, &next).await;
    near.published.publish(serving(2, next.address));
    let mut client = near.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    asked(&hung, 1).await;
    near.mesh.set_role(Role::Undecided);
    wire.cut().await;
    near.mesh.set_role(Role::Serve);
    assert_eq!(client.response().await.text(), "here");
}

/// Half an answer is not followed by another one.
#[tokio::test]
async fn an_answer_that_has_begun_ends_with_the_holder() {
    let half =
        Backend::start(|_, _| Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec())).await;
    let next = Backend::fixed("second").await;
    let (_cluster, [near, _first, _second], wire) = three(&half, &next).await;
    let mut client = near.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response_head().await.status, 200);
    assert_eq!(client.exact(4).await, b"half");
    near.mesh.set_role(Role::Relay { node: "c".into() });
    wire.cut().await;
    let end = soon("the reset", client.0.read(&mut [0])).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert!(next.seen().is_empty());
}

#[tokio::test]
async fn who_waits_for_nothing_does_not_hold_up_a_node_whose_holder_is_lost() {
    let (hung, next) = (Backend::fixed("first").await, Backend::fixed("second").await);
    let (_cluster, [mut near, _first, _second], wire) = three(&hung, &next).await;
    let mut client = near.connect().await;
    assert_eq!(client.get("/").await.text(), "first");
    wire.cut().await;
    let draining = tokio::spawn(near.drain());
    assert!(client.rest().await.is_empty());
    assert_eq!(soon("the drain", draining).await.unwrap(), 0);
}

#[tokio::test]
async fn who_may_not_serve_and_finds_no_holder_resets() {
    let backend = Backend::fixed("served").await;
    let mut cluster = Cluster::new(&["a"]);
    let near = cluster.start("a", &[At::Here(backend.address)], &[], &[]);
    for role in [Role::Refuse, Role::Relay { node: "gone".into() }] {
        near.mesh.set_role(role);
        // The reset may be quicker than whoever has connected looks.
        let end = async {
            let mut client = TcpStream::connect(near.web).await?;
            client.read(&mut [0]).await
        };
        let end = soon("the end", end).await;
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
    assert!(backend.seen().is_empty());
}

/// Waits until this node has so many tunnels of connections open.
async fn relays(node: &Node, count: u64) {
    let open = async {
        let labels = ["direction=\"in\"", "kind=\"entry-point\""];
        while node.metric("constellation_mesh_open_streams", &labels) != count {
            tokio::task::yield_now().await;
        }
    };
    soon("the tunnels", open).await;
}

/// Who was told that the connection stays open may have sent the next request already. It is answered, and the answer says
/// that the connection ends. That is so whichever of the two nodes stops.
#[tokio::test]
async fn a_client_is_told_before_its_connection_ends_whichever_node_stops() {
    for holder_stops in [true, false] {
        let backend = Backend::fixed("holder").await;
        let mut cluster = Cluster::new(&["a", "b"]);
        let mut near = cluster.start("a", &[], &[], &[]);
        let mut far = cluster.start("b", &[At::Here(backend.address)], &[], &[]);
        near.mesh.set_role(Role::Relay { node: "b".into() });
        let mut clients = Vec::new();
        for _ in 0..10 {
            let mut client = near.connect().await;
            let response = client.get("/").await;
            assert_eq!(
                (response.status, response.header("connection")),
                (200, Some("keep-alive"))
            );
            clients.push(client);
        }
        let draining = match holder_stops {
            true => tokio::spawn(far.drain()),
            false => tokio::spawn(near.drain()),
        };
        let mut told = JoinSet::new();
        for mut client in clients {
            told.spawn(async move {
                // Some may be answered before the word has come; none is cut.
                loop {
                    let response = client.get("/").await;
                    assert_eq!((response.status, response.text()), (200, "holder"));
                    if response.header("connection") == Some("close") {
                        assert!(client.rest().await.is_empty(), "an orderly end");
                        return;
                    }
                }
            });
        }
        told.join_all().await;
        assert_eq!(soon("the drain", draining).await.unwrap(), 0);
        if !holder_stops {
            // What does not come from the node that stops is not affected.
            relays(&far, 0).await;
            assert_eq!(
                far.connect().await.get("/").await.header("connection"),
                Some("keep-alive")
            );
        }
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_more_does_not_hold_up_the_drain_of_who_relays() {
    let backend = Backend::fixed("holder").await;
    let mut cluster = Cluster::new(&["a", "b"]);
    let mut near = cluster.start("a", &[], &[], &[]);
    let _far = cluster.start("b", &[At::Here(backend.address)], &[], &[]);
    near.mesh.set_role(Role::Relay { node: "b".into() });
    let mut client = near.connect().await;
    assert_eq!(client.get("/").await.status, 200);
    let draining = tokio::spawn(near.drain());
    assert!(client.rest().await.is_empty());
    drop(client);
    assert_eq!(soon("the drain", draining).await.unwrap(), 0);
}

#[tokio::test]
async fn who_comes_before_it_is_known_who_serves_waits() {
    let backend = Backend::fixed("served").await;
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[At::Here(backend.address)], &[], &[]);
    let far = cluster.start("b", &[At::Here(backend.address)], &[], &[]);
    for role in [Role::Serve, Role::Relay { node: "b".into() }] {
        near.mesh.set_role(Role::Undecided);
        let mut client = near.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let relayed = role != Role::Serve;
        near.mesh.set_role(role);
        assert_eq!(client.response().await.text(), "served");
        relays(&far, u64::from(relayed)).await;
    }
}

#[tokio::test]
async fn a_node_that_does_not_know_yet_who_belongs_to_the_cluster_lets_others_wait() {
    let backend = Backend::fixed("served").await;
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[At::Node("b")], &[], &[]);
    let far = cluster.start("b", &[At::Here(backend.address)], &[], &[]);
    let known = cluster.view("b");
    far.mesh.set_view(Some(View {
        admits: None,
        ..known.clone()
    }));
    let mut client = near.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
        .await;
    let waiting = async {
        while near.metric("constellation_requests_in_flight", &[]) == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("the request", waiting).await;
    far.mesh.set_view(Some(known));
    let response = client.response().await;
    assert_eq!((response.status, response.text()), (200, "served"));
    assert_eq!(
        far.metric("constellation_mesh_connections_total", &["stranger"]),
        0
    );
}
