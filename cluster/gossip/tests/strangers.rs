//! Who is not let in, and who is let out: other keys, other clusters, garbage, rotation, removed nodes and former lives.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::Arc;

use common::{Setup, eventually, health, name};
use constellation_gossip::{Event, Gone, GossipKey, KeyRing, Members, Refused};
use constellation_identity::ClusterId;
use tokio::net::UdpSocket;

#[tokio::test]
async fn another_key_and_another_cluster_are_kept_out() {
    let setup = Setup::new();
    let mut nodes = setup.nodes(2).await;
    let address = nodes[0].gossip.address();
    let wrong_key = Setup {
        keys: KeyRing::new(GossipKey::generate().unwrap()),
        ..setup.clone()
    };
    let wrong_cluster = Setup {
        cluster: ClusterId::generate().unwrap(),
        ..setup.clone()
    };
    for (other, why) in [(wrong_key, Refused::Key), (wrong_cluster, Refused::Forged)] {
        let stranger = other.node("stranger", 1, &[address]).await;
        eventually(|| nodes[0].gossip.counters().total_refused(why) >= 3).await;
        assert!(stranger.gossip.view().peers.is_empty());
        assert_eq!(
            stranger.gossip.counters().total_received(),
            0,
            "not a word came back"
        );
    }
    for text in [
        "",
        "x",
        "GET / HTTP/1.1\r\n\r\n",
        &"y".repeat(1400),
        &"z".repeat(20_000),
    ] {
        UdpSocket::bind("127.0.0.1:0")
            .await
            .unwrap()
            .send_to(text.as_bytes(), address)
            .await
            .unwrap();
    }
    let refused = |why| nodes[0].gossip.counters().total_refused(why);
    eventually(|| refused(Refused::Foreign) == 3 && refused(Refused::Size) == 2).await;
    // And it goes on as if nothing had been.
    nodes[1].tell("web", true).await;
    nodes[0]
        .view(|view| {
            view.peers
                .get(&name("n1"))
                .is_some_and(|peer| health(peer, "web").is_some())
        })
        .await;
    assert_eq!(nodes[0].gossip.view().peers.len(), 1);
}

#[tokio::test]
async fn the_key_rotates_and_nobody_is_lost() {
    let setup = Setup::new();
    let mut nodes = setup.nodes(4).await;
    let (old, new) = (setup.keys.seals().clone(), GossipKey::generate().unwrap());
    let steps = [
        KeyRing::rotating(old.clone(), new.clone()),
        KeyRing::rotating(new.clone(), old.clone()),
        KeyRing::new(new.clone()),
    ];
    let mut events = Vec::new();
    for (step, ring) in steps.iter().enumerate() {
        // One node after the other, with rounds in between: every mixture of this step and the one before is seen.
        for at in 0..nodes.len() {
            nodes[at].gossip.set_keys(ring.clone());
            let service = format!("step-{step}-{at}");
            nodes[at].tell(&service, true).await;
            let teller = name(&format!("n{at}"));
            for (other, node) in nodes.iter_mut().enumerate() {
                if other != at {
                    events.extend(
                        node.view(|view| {
                            view.peers
                                .get(&teller)
                                .is_some_and(|peer| health(peer, &service).is_some())
                        })
                        .await,
                    );
                }
            }
        }
    }
    let lost: Vec<_> = events
        .iter()
        .filter(|event| !matches!(event, Event::Changed { .. }))
        .collect();
    assert!(lost.is_empty(), "{lost:#?}");
    for node in &nodes {
        assert_eq!(
            node.gossip.counters().total_refused(Refused::Key),
            0,
            "not a datagram was lost"
        );
    }
    // The old key opens nothing any more.
    let late = setup.node("late", 1, &[nodes[0].gossip.address()]).await;
    eventually(|| nodes[0].gossip.counters().total_refused(Refused::Key) >= 3).await;
    assert!(late.gossip.view().peers.is_empty());
}

#[tokio::test]
async fn a_removed_node_does_not_come_back() {
    let setup = Setup::new();
    let mut nodes = setup.nodes(4).await;
    let removed = name("n3");
    let mut members = Members::listed((0..4).map(|number| name(&format!("n{number}"))));
    members.remove(&removed, 1);
    // n2 has not heard of it yet, so that it goes on spreading what n3 says.
    for node in &nodes[..2] {
        node.members.send(Arc::new(members.clone())).unwrap();
    }
    for node in &mut nodes[..2] {
        let events = node.view(|view| !view.peers.contains_key(&removed)).await;
        let why = events.iter().find_map(|event| match event {
            Event::Withdrawn { peer, why } if peer.name == removed => Some(*why),
            _ => None,
        });
        assert_eq!(why, Some(Gone::Removed));
    }
    // It tells more, directly to those who refuse it and by way of n2: it is known to gossip and left out all the same.
    nodes[3].tell("web", true).await;
    nodes[2]
        .view(|view| {
            view.peers
                .get(&removed)
                .is_some_and(|peer| health(peer, "web").is_some())
        })
        .await;
    for node in &nodes[..2] {
        let refused = node.gossip.counters().total_refused(Refused::NotAMember);
        eventually(|| node.gossip.counters().total_refused(Refused::NotAMember) >= refused + 5).await;
    }
    for node in &nodes[..2] {
        let view = node.gossip.view();
        assert_eq!(
            (view.left_out.get(&removed), view.peers.contains_key(&removed)),
            (Some(&Gone::Removed), false)
        );
    }
    nodes[2].members.send(Arc::new(members.clone())).unwrap();
    nodes[2].view(|view| !view.peers.contains_key(&removed)).await;

    // It starts again with its old state: same name, same life.
    let seeds = [nodes[0].gossip.address(), nodes[1].gossip.address()];
    drop(nodes.pop());
    let zombie = setup.node("n3", 1, &seeds).await;
    zombie.tell("web", true).await;
    let refused = nodes[0].gossip.counters().total_refused(Refused::NotAMember);
    eventually(|| nodes[0].gossip.counters().total_refused(Refused::NotAMember) >= refused + 5).await;
    assert!(
        nodes
            .iter()
            .all(|node| !node.gossip.view().peers.contains_key(&removed))
    );
    drop(zombie);

    // It joins again under its name: another life.
    members.add(removed.clone());
    for node in &nodes {
        node.members.send(Arc::new(members.clone())).unwrap();
    }
    let mut again = setup.node("n3", 2, &seeds).await;
    for node in &mut nodes {
        node.view(|view| view.peers.get(&removed).is_some_and(|peer| peer.generation == 2))
            .await;
        assert_eq!(
            health(&node.peer("n3").unwrap(), "web"),
            None,
            "without its old instances"
        );
    }
    again.view(|view| view.peers.len() == 3).await;
}

#[tokio::test]
async fn another_life_replaces_the_former_one() {
    let setup = Setup::new();
    let mut nodes = setup.nodes(3).await;
    nodes[2].tell("old", true).await;
    nodes[0]
        .view(|view| {
            view.peers
                .get(&name("n2"))
                .is_some_and(|peer| health(peer, "old").is_some())
        })
        .await;
    // It was killed; others have not noticed when the next life is there.
    drop(nodes.pop());
    let seeds = [nodes[0].gossip.address()];
    let next = setup.node("n2", 2, &seeds).await;
    next.tell("new", true).await;
    for node in &mut nodes {
        node.view(|view| {
            view.peers
                .get(&name("n2"))
                .is_some_and(|peer| health(peer, "new").is_some())
        })
        .await;
        let peer = node.peer("n2").unwrap();
        assert_eq!(
            (peer.generation, health(&peer, "old"), peer.address),
            (2, None, next.gossip.address())
        );
    }
    // The former one, from a backup, say: refused, and the present one stays.
    let former = setup.node("n2", 1, &seeds).await;
    eventually(|| nodes[0].gossip.counters().total_refused(Refused::FormerLife) >= 3).await;
    assert_eq!(nodes[0].peer("n2").unwrap().generation, 2);
    assert!(former.gossip.view().peers.is_empty());
}
