//! Connections of TCP services that another node serves.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::cluster::{At, Cluster};
use super::support::soon;

/// Reads to the end, then answers with what it read and the client's address as it sees it.
async fn reader() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                socket.read_to_end(&mut all).await.unwrap();
                all.extend_from_slice(b", all of it");
                socket.write_all(&all).await.unwrap();
            });
        }
    });
    address
}

#[tokio::test]
async fn half_closed_ends_pass() {
    let address = reader().await;
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[], &[At::Node("b")], &[]);
    let _far = cluster.start("b", &[], &[At::Here(address)], &[]);
    let mut client = near.connect_db().await;
    let long = vec![b'x'; 3 << 20];
    client.send(&long).await;
    client.0.shutdown().await.unwrap();
    let answer = client.rest().await;
    assert_eq!(answer.len(), long.len() + 11);
    assert!(answer.ends_with(b"x, all of it"));
}

#[tokio::test]
async fn the_server_may_speak_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[], &[At::Node("b")], &[]);
    let _far = cluster.start("b", &[], &[At::Here(listener.local_addr().unwrap())], &[]);
    let mut client = near.connect_db().await;
    let (mut served, _) = soon("the connection", listener.accept()).await.unwrap();
    served.write_all(b"hello").await.unwrap();
    assert_eq!(client.exact(5).await, b"hello");
}

/// Whether the other end was reset.
async fn was_reset(socket: &mut TcpStream) -> bool {
    let mut waste = Vec::new();
    let error = soon("the end", socket.read_to_end(&mut waste)).await.unwrap_err();
    error.kind() == std::io::ErrorKind::ConnectionReset
}

#[tokio::test]
async fn a_reset_stays_a_reset_either_way() {
    for client_resets in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut cluster = Cluster::new(&["a", "b"]);
        let near = cluster.start("a", &[], &[At::Node("b")], &[]);
        let _far = cluster.start("b", &[], &[At::Here(listener.local_addr().unwrap())], &[]);
        let mut client = near.connect_db().await;
        client.send("x").await;
        let (mut served, _) = soon("the connection", listener.accept()).await.unwrap();
        let mut byte = [0];
        soon("a byte", served.read_exact(&mut byte)).await.unwrap();
        served.write_all(b"y").await.unwrap();
        assert_eq!(client.exact(1).await, b"y");
        let (broken, mut told) = match client_resets {
            true => (client.0, served),
            false => (served, client.0),
        };
        broken.set_zero_linger().unwrap();
        drop(broken);
        assert!(was_reset(&mut told).await);
    }
}

#[tokio::test]
async fn a_node_that_has_no_back_end_is_passed_over() {
    let address = reader().await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for at_b in [vec![], vec![At::Node("a")], vec![At::Here(gone)]] {
        let mut cluster = Cluster::new(&["a", "b", "c"]);
        let near = cluster.start("a", &[], &[At::Node("b"), At::Node("c")], &[]);
        let _passed = cluster.start("b", &[], &at_b, &[]);
        let far = cluster.start("c", &[], &[At::Here(address)], &[]);
        let mut client = near.connect_db().await;
        client.send("some").await;
        client.0.shutdown().await.unwrap();
        assert_eq!(client.rest().await, b"some, all of it");
        let taken = far.metric(
            "constellation_mesh_streams_total",
            &["direction=\"in\"", "kind=\"tcp\"", "taken"],
        );
        assert_eq!(taken, 1);
    }
}

#[tokio::test]
async fn nodes_that_point_at_each_other_reset_the_client() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[], &[At::Node("b")], &[]);
    let far = cluster.start("b", &[], &[At::Node("a")], &[]);
    // The reset may be quicker than whoever has connected looks.
    let end = async {
        let mut client = TcpStream::connect(near.db).await?;
        client.read(&mut [0]).await
    };
    let end = soon("the end", end).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let refused = far.metric(
        "constellation_mesh_streams_total",
        &["direction=\"in\"", "kind=\"tcp\"", "no-local-instance"],
    );
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn a_back_end_is_told_whose_connection_it_is() {
    let address = reader().await;
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[], &[At::Node("b")], &[]);
    let far = cluster.start("b", &[], &[], &[]);
    far.published.publish(super::cluster::told(2, address));
    let mut client = near.connect_db().await;
    let port = client.0.local_addr().unwrap().port();
    client.send("some").await;
    client.0.shutdown().await.unwrap();
    let expected = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}\r\nsome, all of it",
        near.db.port()
    );
    assert_eq!(String::from_utf8(client.rest().await).unwrap(), expected);
}
