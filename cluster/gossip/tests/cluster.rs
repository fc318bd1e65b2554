//! A cluster in one process: everybody sees everything, the dead and the gone are withdrawn.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Instant;

use common::{Setup, counts, health, metadata, name};
use constellation_gossip::{
    Bulk, DATAGRAM_LIMIT, Event, Gone, Gossip, Load, Metadata, SERVICES_LIMIT, ServiceId, Standing,
    StartError, Timing,
};

const NODES: usize = 20;
const SERVICES: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_nodes_with_a_hundred_services_see_everything() {
    let setup = Setup {
        timing: Timing::LAN,
        ..Setup::new()
    };
    let mut nodes = setup.nodes(NODES).await;
    let service = |number: usize| format!("service-{number:03}");
    let begun = Instant::now();
    for node in &nodes {
        for number in 0..SERVICES {
            node.tell(&service(number), true).await;
        }
    }
    for node in &mut nodes {
        node.view(|view| {
            view.peers.len() == NODES - 1 && view.peers.values().all(|peer| peer.services.len() == SERVICES)
        })
        .await;
    }
    let largest = |nodes: &[common::Node]| {
        let each = nodes.iter().map(|node| node.gossip.counters().take_largest());
        each.fold((0, 0), |most, one| (most.0.max(one.0), most.1.max(one.1)))
    };
    let (datagram, message) = largest(&nodes);
    println!(
        "2000 instances told at once: all see all after {:?}, largest datagram {datagram} bytes, message {message}",
        begun.elapsed()
    );
    assert!(datagram <= DATAGRAM_LIMIT as u64);

    // A newcomer gets all of it at once, in messages of many datagrams.
    let mut late = setup.node("late", 1, &[nodes[0].gossip.address()]).await;
    let begun = Instant::now();
    late.view(|view| {
        view.peers.len() == NODES && view.peers.values().all(|peer| peer.services.len() == SERVICES)
    })
    .await;
    println!("a newcomer sees all after {:?}", begun.elapsed());
    for node in &mut nodes {
        node.view(|view| view.peers.len() == NODES).await;
    }
    let (datagram, message) = largest(&nodes);
    println!("largest datagram meanwhile {datagram} bytes, message {message}");
    assert!(datagram <= DATAGRAM_LIMIT as u64);

    // At rest, and then with a change on every node.
    nodes[0].rounds(50).await;
    largest(&nodes);
    let before: (u64, u64) = nodes
        .iter()
        .map(|node| node.gossip.counters().total_sent())
        .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let begun = Instant::now();
    nodes[0].rounds(100).await;
    let after: (u64, u64) = nodes
        .iter()
        .map(|node| node.gossip.counters().total_sent())
        .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let (datagram, message) = largest(&nodes);
    let seconds = begun.elapsed().as_secs_f64() * nodes.len() as f64;
    println!(
        "at rest: largest datagram {datagram} bytes, message {message}; each node {:.0} datagrams/s, {:.1} kB/s",
        (after.0 - before.0) as f64 / seconds,
        (after.1 - before.1) as f64 / seconds / 1000.0
    );
    assert!(
        message < DATAGRAM_LIMIT as u64,
        "at rest a message is one datagram"
    );
    let begun = Instant::now();
    for node in &nodes {
        node.tell(&service(7), false).await;
        let load = Load {
            connections: 1000,
            ..Load::default()
        };
        node.gossip.update(|own| own.load(&load)).await.unwrap();
    }
    for node in nodes.iter_mut() {
        node.view(|view| {
            view.peers
                .values()
                .filter(|peer| peer.name != name("late"))
                .all(|peer| health(peer, "service-007") == Some(false) && peer.load.is_some())
        })
        .await;
    }
    let (datagram, message) = largest(&nodes);
    println!(
        "a change on every node: everywhere after {:?}, largest datagram {datagram} bytes, message {message}",
        begun.elapsed()
    );
    assert!(datagram <= DATAGRAM_LIMIT as u64);
    for node in &nodes {
        assert_eq!(node.gossip.counters().total_codecs_replaced(), 0);
        assert!(node.gossip.view().peers.values().all(|peer| peer.unreadable == 0));
    }

    // One dies without a word.
    let dead = nodes.pop().unwrap();
    let dead_name = format!("n{}", NODES - 1);
    drop(dead);
    let begun = Instant::now();
    let mut first = None;
    for node in &mut nodes {
        let events = node
            .view(|view| !view.peers.contains_key(&name(&dead_name)))
            .await;
        first.get_or_insert(begun.elapsed());
        let withdrawn: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Withdrawn { peer, why } => Some((peer.name.as_str(), peer.services.len(), *why)),
                _ => None,
            })
            .collect();
        assert_eq!(withdrawn, [(dead_name.as_str(), SERVICES, Gone::Dead)]);
    }
    println!(
        "a killed node is withdrawn on the first node asked after {:?}, on all after {:?}",
        first.unwrap(),
        begun.elapsed()
    );
}

/// Prints how soon small clusters notice a death, at the timing that a LAN gets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dead_are_withdrawn_in_clusters_of_every_size() {
    for count in [2, 3, 5] {
        let setup = Setup {
            timing: Timing::LAN,
            ..Setup::new()
        };
        let mut nodes = setup.nodes(count).await;
        // Until the intervals are those of a cluster at work.
        nodes[0].rounds(30).await;
        drop(nodes.pop());
        let begun = Instant::now();
        for node in &mut nodes {
            let events = node.view(|view| view.peers.len() == count - 2).await;
            assert!(
                events
                    .iter()
                    .any(|event| matches!(event, Event::Withdrawn { why: Gone::Dead, .. }))
            );
        }
        println!(
            "{count} nodes: a killed one is withdrawn on all after {:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test]
async fn who_leaves_says_so() {
    let mut nodes = Setup::new().nodes(3).await;
    nodes.pop().unwrap().gossip.leave().await;
    for node in &mut nodes {
        let events = node.view(|view| !view.peers.contains_key(&name("n2"))).await;
        assert!(
            events.iter().any(
                |event| matches!(event, Event::Withdrawn { peer, why: Gone::Left } if peer.name == name("n2"))
            ),
            "{events:?}"
        );
    }
}

#[tokio::test]
async fn everything_that_is_told_arrives_and_what_is_taken_back_goes() {
    let mut nodes = Setup::new().nodes(2).await;
    let load = Load {
        cpu_permille: 500,
        memory_permille: 1,
        connections: 7,
        requests: 9,
    };
    let bulk = Bulk {
        version: 3,
        length: 100_000,
        digest: [7; 32],
    };
    let cordoned = Metadata {
        standing: Standing::Cordoned,
        ..metadata()
    };
    let label = "definitions".parse().unwrap();
    nodes[0].tell("web", false).await;
    nodes[0]
        .gossip
        .update(|own| {
            own.load(&load)?;
            own.bulk(&label, &bulk)?;
            own.counted(3)?;
            own.metadata(&cordoned)
        })
        .await
        .unwrap();
    let address = nodes[0].gossip.address();
    nodes[1]
        .view(|view| {
            view.peers
                .get(&name("n0"))
                .is_some_and(|peer| peer.bulks.len() == 1 && peer.load.is_some())
        })
        .await;
    let peer = nodes[1].peer("n0").unwrap();
    assert_eq!(
        (peer.load, peer.metadata.as_ref(), peer.address, peer.counted),
        (Some(load), Some(&cordoned), address, Some(3))
    );
    assert_eq!(
        (peer.bulks.get(&label), health(&peer, "web")),
        (Some(&bulk), Some(false))
    );

    nodes[0]
        .gossip
        .update(|own| {
            own.remove_service(ServiceId::of("web"));
            own.remove_bulk(&label);
        })
        .await;
    nodes[1]
        .view(|view| {
            view.peers
                .get(&name("n0"))
                .is_some_and(|peer| peer.bulks.is_empty() && peer.services.is_empty())
        })
        .await;
}

#[tokio::test]
async fn what_others_could_not_read_is_not_told() {
    let nodes = Setup::new().nodes(2).await;
    let long = Metadata {
        capabilities: vec!["x".parse().unwrap(); 17],
        ..metadata()
    };
    let error = nodes[0]
        .gossip
        .update(|own| own.metadata(&long))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("at most 16 labels"), "{error}");
    let too_many = nodes[0]
        .gossip
        .update(|own| {
            (0..=SERVICES_LIMIT).find_map(|number| {
                let id = ServiceId::of(&number.to_string());
                own.service(id, &counts(true))
                    .err()
                    .map(|error| (number, error.to_string()))
            })
        })
        .await;
    let (number, error) = too_many.unwrap();
    assert_eq!(number, SERVICES_LIMIT);
    assert!(error.contains("tells 1024 of its kind already"), "{error}");
}

#[tokio::test]
async fn why_gossip_does_not_start() {
    let setup = Setup::new();
    let first = setup.node("a", 1, &[]).await;
    let (mut config, _members) = setup.config("b", 1, &[]);
    config.listen = first.gossip.address();
    let error = Gossip::start(config).await.err().unwrap();
    assert!(
        matches!(error, StartError::Bind { address, .. } if address == first.gossip.address()),
        "{error}"
    );
    let (mut config, _members) = setup.config("b", 1, &[]);
    config.listen = "0.0.0.0:0".parse().unwrap();
    let error = Gossip::start(config).await.err().unwrap();
    assert!(
        error
            .to_string()
            .contains("set the one where they reach this node"),
        "{error}"
    );
}
