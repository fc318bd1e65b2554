//! Nodes that don't hold the edge carry connections to the one that does.

use constellation_dataplane::mesh::Role;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::cluster::{At, Cluster};
use super::support::{Backend, soon};

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
