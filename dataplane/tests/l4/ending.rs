//! How a connection ends: resets, limits, and the end of the node.

use std::io::ErrorKind;
use std::time::Duration;

use constellation_dataplane::table::{StreamTransport, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Backend, Plan, Stream, exact, reset, rest, soon, until};

#[tokio::test]
async fn a_reset_of_the_back_end_is_a_reset_of_the_client() {
    let backend = Backend::start(|mut socket| async move {
        let byte = socket.read_u8().await?;
        socket.write_all(&[byte]).await?;
        socket.read_u8().await?;
        reset(socket);
        Ok(())
    })
    .await;
    let node = Plan::streams(vec![Stream::to(&[backend.address])]).start();
    for _ in 0..20 {
        let mut client = node.connect().await;
        client.write_all(b"a").await.unwrap();
        assert_eq!(exact(&mut client, 1).await, b"a");
        client.write_all(b"b").await.unwrap();
        assert_eq!(
            rest(&mut client).await.unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
    }
    until("the count", || node.ended("server_reset") == 20.0).await;
}

#[tokio::test]
async fn a_reset_of_the_client_is_a_reset_of_the_back_end() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let backend = Backend::start(move |mut socket| {
        let tell = tell.clone();
        async move {
            let byte = socket.read_u8().await?;
            socket.write_all(&[byte]).await?;
            tell.send(socket.read_u8().await.map_err(|error| error.kind()))
                .unwrap();
            Ok(())
        }
    })
    .await;
    let node = Plan::streams(vec![Stream::to(&[backend.address])]).start();
    for _ in 0..20 {
        let mut client = node.connect().await;
        client.write_all(b"a").await.unwrap();
        assert_eq!(exact(&mut client, 1).await, b"a");
        reset(client);
        let seen = soon("the reset", told.recv()).await.unwrap();
        assert_eq!(seen, Err(ErrorKind::ConnectionReset));
    }
    until("the count", || node.ended("client_reset") == 20.0).await;
}

#[tokio::test]
async fn the_termination_delay_ends_what_outlives_its_other_half() {
    let backend = Backend::start(|mut socket| async move {
        while socket.read_u8().await.is_ok() {}
        socket.write_all(b"a part").await?;
        std::future::pending().await
    })
    .await;
    let node = Plan::streams(vec![Stream {
        transport: Transport {
            stream: StreamTransport {
                termination_delay: Some(Duration::from_millis(200)),
                ..StreamTransport::default()
            },
            ..Transport::default()
        },
        ..Stream::to(&[backend.address])
    }])
    .start();
    let mut client = node.connect().await;
    client.shutdown().await.unwrap();
    assert_eq!(exact(&mut client, 6).await, b"a part");
    assert_eq!(
        rest(&mut client).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    until("the count", || node.ended("half_open") == 1.0).await;
}

#[tokio::test]
async fn streams_get_the_drain_time_and_are_then_cut() {
    let backend = Backend::greets("hi").await;
    let mut plan = Plan::streams(vec![Stream::to(&[backend.address])]);
    plan.drain = Duration::from_millis(400);
    let node = plan.start();
    let (mut stays, mut ends) = (node.connect().await, node.connect().await);
    assert_eq!(exact(&mut stays, 2).await, b"hi");
    assert_eq!(exact(&mut ends, 2).await, b"hi");
    let stopping = tokio::spawn(node.stop());
    for client in [&mut stays, &mut ends] {
        client.write_all(b"on").await.unwrap();
        assert_eq!(exact(client, 2).await, b"on");
    }
    ends.shutdown().await.unwrap();
    assert_eq!(rest(&mut ends).await.unwrap(), b"");
    assert_eq!(
        rest(&mut stays).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    let (cut, log) = stopping.await.unwrap();
    assert_eq!(cut, 1);
    let ends: Vec<_> = log.iter().map(|line| line["End"].as_str().unwrap()).collect();
    assert_eq!(ends, ["complete", "cut"]);
}
