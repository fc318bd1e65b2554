//! Connections for the data plane: they go there as they came.

use std::net::SocketAddr;
use std::sync::Arc;

use constellation_identity::tls::{Credentials, server_name};
use constellation_link::{MESH_ALPN, Purpose, Refused};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::node::{Cluster, name, soon, until};

/// Sends a request to node b and reads an answer of six bytes.
async fn ask(credentials: Arc<Credentials>, address: SocketAddr) -> std::io::Result<[u8; 6]> {
    let config = credentials
        .client(&name("b"), MESH_ALPN)
        .expect("a configuration");
    let stream = TcpStream::connect(address).await?;
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(server_name(), stream)
        .await?;
    stream.write_all(b"request").await?;
    stream.flush().await?;
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_plane_does_the_handshake_itself_and_what_it_has_no_room_for_is_closed() {
    let cluster = Cluster::new();
    let (a, mut b) = (cluster.node("a").await, cluster.node("b").await);
    let credentials = || Arc::clone(&a.credentials.borrow());
    let asked = tokio::spawn(ask(credentials(), b.address));
    until("the connection", || b.counters.accepted(Purpose::Mesh) == 1).await;
    // The channel holds one, and that is in it.
    ask(credentials(), b.address).await.expect_err("closed");
    until("the count", || b.counters.refused(Refused::Mesh) == 1).await;
    let stream = soon("a stream", b.streams.recv()).await.expect("a stream");
    let stream = TcpStream::from_std(stream).expect("a stream");
    let config = b
        .credentials
        .borrow()
        .server(&[MESH_ALPN])
        .expect("a configuration");
    let mut stream = TlsAcceptor::from(Arc::new(config))
        .accept(stream)
        .await
        .expect("a handshake");
    let mut request = [0; 7];
    stream.read_exact(&mut request).await.expect("a request");
    assert_eq!(&request, b"request");
    // It is not the server's any more.
    b.stop().await;
    stream.write_all(b"answer").await.expect("written");
    stream.flush().await.expect("written");
    let answer = soon("the answer", asked)
        .await
        .expect("a task")
        .expect("an answer");
    assert_eq!(&answer, b"answer");
}
