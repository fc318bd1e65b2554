//! Joiners: one request, one answer, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use constellation_identity::tls::{joining, server_name};
use constellation_identity::{JoinToken, UnixSeconds};
use constellation_link::frame::JOIN_REQUEST_BYTES;
use constellation_link::{LinkError, Purpose, Refused, join};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::node::{Cluster, HANG, soon, until};

fn token(cluster: &Cluster) -> JoinToken {
    let hour = Duration::from_secs(3600);
    let (token, _) =
        JoinToken::generate(cluster.id, cluster.authority.pin(), UnixSeconds::now(), hour).expect("a token");
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_is_answered_by_the_first_node_that_is_there() {
    let cluster = Cluster::new();
    let a = cluster.node("a").await;
    let mut gone = cluster.node("gone").await;
    gone.stop().await;
    let addresses = [gone.address.to_string(), a.address.to_string()];
    let body = vec![b'j'; JOIN_REQUEST_BYTES];
    let answer = join(&addresses, &token(&cluster), body.clone(), HANG)
        .await
        .expect("an answer");
    assert_eq!(answer, [b"joined: ", &*body].concat());
    assert_eq!(a.counters.accepted(Purpose::Join), 1);
    let dropped = join(&addresses, &token(&cluster), b"drop".to_vec(), HANG).await;
    assert!(matches!(dropped, Err(LinkError::NoAnswer { .. })), "{dropped:?}");
    let long = join(
        &addresses,
        &token(&cluster),
        vec![0; JOIN_REQUEST_BYTES + 1],
        HANG,
    )
    .await;
    assert!(matches!(long, Err(LinkError::TooLarge { .. })), "{long:?}");
    let nobody = join(&addresses[..1], &token(&cluster), vec![], HANG).await;
    assert!(matches!(nobody, Err(LinkError::Unreachable { .. })), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_tells_nothing_to_whom_its_token_does_not_vouch_for() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let a = theirs.node("a").await;
    let refused = join(&[a.address.to_string()], &token(&ours), b"secret".to_vec(), HANG).await;
    let Err(LinkError::Refused { reason, .. }) = &refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("nothing was sent"), "{reason}");
    until("the handshake", || a.counters.handshakes_failed() == 1).await;
    assert_eq!(a.counters.accepted(Purpose::Join), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_can_send_one_request_and_no_call() {
    let cluster = Cluster::new();
    let a = cluster.node("a").await;
    let connect = || async {
        let stream = TcpStream::connect(a.address).await.expect("a connection");
        let config = Arc::new(joining(&token(&cluster)).expect("a configuration"));
        TlsConnector::from(config)
            .connect(server_name(), stream)
            .await
            .expect("a handshake")
    };
    let request = |service: u8, length: u32| {
        let body = vec![b'x'; usize::try_from(length).expect("fits")];
        [&length.to_be_bytes()[..], &[0; 4], &[service, 0], &body].concat()
    };
    // Two at once: the second is not looked at.
    let mut stream = connect().await;
    stream
        .write_all(&[request(2, 1), request(2, 1)].concat())
        .await
        .expect("written");
    let mut answer = Vec::new();
    drop(soon("the end", stream.read_to_end(&mut answer)).await);
    assert_eq!(&answer[10..], b"joined: x");
    assert_eq!(a.counters.accepted(Purpose::Join), 1);
    // A call of the log, and a request that is too long.
    for (count, bytes) in [(1, request(1, 1)), (2, request(2, 16 * 1024 + 1))] {
        let mut stream = connect().await;
        // It is cut before all of it is written.
        drop(stream.write_all(&bytes).await);
        drop(stream.flush().await);
        let mut answer = Vec::new();
        drop(soon("the end", stream.read_to_end(&mut answer)).await);
        assert_eq!(answer, b"");
        until("the count", || a.counters.refused(Refused::Malformed) == count).await;
    }
    assert_eq!(a.counters.accepted(Purpose::Join), 1);
}
