//! Datagrams of UDP services that another node serves.

use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::cluster::{At, Cluster};
use super::support::soon;

/// Sends every datagram back with a mark in front.
async fn echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut room = vec![0; 65_536];
        loop {
            let (count, from) = socket.recv_from(&mut room).await.unwrap();
            let mut answer = b"echo:".to_vec();
            answer.extend_from_slice(&room[..count]);
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    address
}

async fn ask(client: &UdpSocket, question: &[u8]) -> Vec<u8> {
    client.send(question).await.unwrap();
    let mut room = vec![0; 65_536];
    let count = soon("the answer", client.recv(&mut room)).await.unwrap();
    room.truncate(count);
    room
}

#[tokio::test]
async fn datagrams_pass_one_by_one() {
    let address = echo().await;
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[], &[], &[At::Node("b")]);
    let far = cluster.start("b", &[], &[], &[At::Here(address)]);
    for _ in 0..3 {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(near.dns).await.unwrap();
        for length in [0, 1, 1400, 9000] {
            let question = vec![b'q'; length];
            let answer = ask(&client, &question).await;
            assert_eq!((&answer[..5], answer.len()), (&b"echo:"[..], length + 5));
        }
    }
    let taken = far.metric(
        "constellation_mesh_streams_total",
        &["direction=\"in\"", "kind=\"udp\"", "taken"],
    );
    assert_eq!(taken, 3, "one tunnel for each client");
}

#[tokio::test]
async fn a_tunnel_ends_with_its_session() {
    let address = echo().await;
    let mut cluster = Cluster::new(&["a", "b"]);
    let near = cluster.start("a", &[], &[], &[At::Node("b")]);
    let far = cluster.start("b", &[], &[], &[At::Here(address)]);
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(near.dns).await.unwrap();
    ask(&client, b"q").await;
    let open = || far.metric("constellation_mesh_open_streams", &["direction=\"in\"", "udp"]);
    assert_eq!(open(), 1);
    let ended = async {
        while open() > 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of the tunnel", ended).await;
    assert_eq!(ask(&client, b"again").await, b"echo:again");
}

#[tokio::test]
async fn a_node_that_does_not_take_it_is_left() {
    let address = echo().await;
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    let near = cluster.start("a", &[], &[], &[At::Node("b"), At::Node("c")]);
    let _passed = cluster.start("b", &[], &[], &[]);
    let _far = cluster.start("c", &[], &[], &[At::Here(address)]);
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(near.dns).await.unwrap();
    let mut room = vec![0; 65_536];
    // The first ones are lost, as datagrams may be.
    let answered = async {
        loop {
            client.send(b"q").await.unwrap();
            let waiting = tokio::time::timeout(std::time::Duration::from_millis(200), client.recv(&mut room));
            if let Ok(count) = waiting.await {
                return count.unwrap();
            }
        }
    };
    assert_eq!(soon("an answer", answered).await, 6);
}
