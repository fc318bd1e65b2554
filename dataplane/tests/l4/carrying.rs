//! Bytes both ways: exact, however they come and end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Backend, Plan, Stream, exchange, rest, soon, until};

fn pattern(seed: u32, length: usize) -> Vec<u8> {
    (0..length / 4)
        .flat_map(|word| {
            (word as u32)
                .wrapping_mul(2_654_435_761)
                .wrapping_add(seed)
                .to_le_bytes()
        })
        .collect()
}

#[tokio::test]
async fn a_half_close_reaches_the_back_end_and_its_answer_the_client() {
    const LENGTH: usize = 300_000;
    let backend = Backend::start(|mut socket| async move {
        let mut asked = Vec::new();
        socket.read_to_end(&mut asked).await?;
        socket.write_all(&pattern(u32::from(asked[0]), LENGTH)).await
    })
    .await;
    let node = Plan::streams(vec![Stream::to(&[backend.address])]).start();
    for seed in 0..200u8 {
        let mut client = node.connect().await;
        client.write_all(&[seed]).await.unwrap();
        client.shutdown().await.unwrap();
        let got = rest(&mut client).await.unwrap();
        assert!(
            got == pattern(u32::from(seed), LENGTH),
            "round {seed}: {} bytes",
            got.len()
        );
    }
}

#[tokio::test]
async fn bulk_both_ways_is_exact_and_counted() {
    const LENGTH: usize = 32 << 20;
    let backend = Backend::echo("").await;
    let node = Plan::streams(vec![Stream::to(&[backend.address])]).start();
    let data = pattern(7, LENGTH);
    let mut client = node.connect().await;
    let (mut from, mut to) = client.split();
    let mut got = Vec::new();
    soon("the bytes", async {
        tokio::try_join!(
            async {
                to.write_all(&data).await?;
                to.shutdown().await
            },
            async { from.read_to_end(&mut got).await.map(|_| ()) }
        )
    })
    .await
    .unwrap();
    assert!(got == data);
    until("the end", || node.ended("complete") == 1.0).await;
    let length = LENGTH as f64;
    assert_eq!(node.metric("constellation_tcp_received_bytes_total"), length);
    assert_eq!(node.metric("constellation_tcp_sent_bytes_total"), length);
    assert!(node.metric("constellation_tcp_spliced_bytes_total") > length);
    assert_eq!(node.metric("constellation_tcp_open_connections"), 0.0);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test]
async fn a_storm_of_short_connections_leaves_nothing_behind() {
    const ROUNDS: usize = 40;
    const AT_ONCE: usize = 50;
    let backend = Backend::echo("").await;
    let node = Plan::streams(vec![Stream::to(&[backend.address])]).start();
    let storm = async || {
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..AT_ONCE {
            let client = node.connect().await;
            let said = format!("client {number}");
            clients.spawn(async move { (exchange(client, said.as_bytes()).await, said) });
        }
        while let Some(answer) = clients.join_next().await {
            let (answer, said) = answer.unwrap();
            assert_eq!(answer.unwrap(), said);
        }
    };
    storm().await;
    until("the first ones to end", || {
        node.ended("complete") == AT_ONCE as f64
    })
    .await;
    let before = descriptors();
    for _ in 1..ROUNDS {
        storm().await;
    }
    let all = (ROUNDS * AT_ONCE) as f64;
    until("all to end", || node.ended("complete") == all).await;
    until("the descriptors", || descriptors() <= before).await;
    assert_eq!(backend.connections(), ROUNDS * AT_ONCE);
}
