//! Random clusters: whatever nodes there are, whatever they have and whoever sees whom, nothing goes round in circles, what
//! can be served is, and who is gone leaves nothing behind. A failure names the seed.

use std::time::Duration;

use constellation_table::{RequestMeta, Service, Turn, decide_here};
use tokio::time::Instant;

use super::*;
use crate::peers::Roster;

const GRACE: Duration = Duration::from_secs(600);
const SERVICES: [&str; 4] = ["s0", "s1", "s2", "s3"];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

struct Member {
    own: Own,
    readings: Vec<Arc<Contribution>>,
    peer: Peer,
}

/// A node with some instances of some services; some of them are stopped.
fn member(number: u64, random: &mut Random) -> Member {
    let node = format!("n{number}");
    let mut document = Contribution {
        provider: "docker",
        ..Contribution::default()
    };
    for service in SERVICES {
        if random.chance(40) {
            continue;
        }
        let servers: Vec<(String, bool)> = (0..random.below(4))
            .map(|instance| (format!("http://10.{number}.0.{instance}"), random.chance(60)))
            .collect();
        let servers: Vec<(&str, bool)> = servers.iter().map(|(url, ready)| (&**url, *ready)).collect();
        let one = containers(service, &servers);
        document
            .dynamic
            .http
            .routers
            .extend(one.dynamic.http.routers.clone());
        document
            .dynamic
            .http
            .services
            .extend(one.dynamic.http.services.clone());
        document.origins.extend(one.origins.clone());
    }
    let readings = vec![Arc::new(document)];
    let mut peer = peer(&node, &readings);
    peer.region = format!("r{}", random.below(2)).into();
    peer.priority = u32::try_from(random.below(3)).unwrap();
    Member {
        own: Own {
            node: node.into(),
            region: peer.region.clone(),
            domain: "d.test".into(),
        },
        readings,
        peer,
    }
}

fn meta(headers: &http::HeaderMap) -> RequestMeta<'_> {
    RequestMeta {
        entry_point: constellation_table::EntryPointId(0),
        tls: false,
        method: "POST",
        host: "",
        path: "/",
        query: "",
        headers,
        client: "192.0.2.7".parse().unwrap(),
        repeatable: false,
        now: std::time::Instant::now(),
        turn: Turn::Look,
    }
}

/// The nodes that serve a request of this service that came in at `table`'s node, following every candidate.
fn served_at(service: &Service, own: &str, tables: &BTreeMap<Arc<str>, Snapshot>, seed: u64) -> Vec<String> {
    let headers = http::HeaderMap::new();
    let mut served = Vec::new();
    let ready = service
        .endpoints
        .iter()
        .filter(|e| e.condition == Condition::Ready);
    for endpoint in ready {
        let Some(peer) = &endpoint.peer else {
            served.push(own.to_owned());
            continue;
        };
        assert_ne!(*peer.node, *own, "seed {seed}: {own} sends to itself");
        // One that was never heard of by now has no table: it is unreachable.
        let Some(there) = tables.get(&peer.node) else {
            continue;
        };
        if let Some((_, found)) = decide_here(there, &peer.service, &meta(&headers)) {
            let here = found.order.iter().all(|found| found.endpoint.peer.is_none());
            assert!(here, "seed {seed}: {} would send on what {own} sent", peer.node);
            if !found.order.is_empty() {
                served.push(peer.node.to_string());
            }
        }
    }
    served
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let count = 2 + random.below(5);
    let members: Vec<Member> = (0..count).map(|number| member(number, &mut random)).collect();
    // Who sees whom, and how.
    let mut seen: Vec<Vec<Peer>> = Vec::new();
    for own in &members {
        let mut peers = Vec::new();
        for other in &members {
            let standing = match random.below(10) {
                0 => continue,
                1 => Standing::Cordoned,
                2 => Standing::Draining,
                3 => Standing::Gone,
                _ => Standing::Ready,
            };
            // A node may be told of itself, too.
            if other.own.node != own.own.node || random.chance(20) {
                peers.push(Peer {
                    standing,
                    ..other.peer.clone()
                });
            }
        }
        seen.push(peers);
    }
    let tables: BTreeMap<Arc<str>, Snapshot> = members
        .iter()
        .zip(&seen)
        .map(|(own, peers)| (own.own.node.clone(), table(&own.own, &own.readings, peers)))
        .collect();
    for (own, peers) in members.iter().zip(&seen) {
        let at = &tables[&own.own.node];
        for service in at.services() {
            served_at(service, &own.own.node, &tables, seed);
        }
        for service in SERVICES {
            let fit = |member: &Member| {
                let instances = member.peer.export.providers["docker"].instances.get(service);
                instances.is_some_and(|instances| instances.fit > 0)
            };
            let mut may_serve: Vec<String> = members
                .iter()
                .filter(|member| fit(member))
                .filter(|member| {
                    let told = |peer: &&Peer| peer.node == member.own.node;
                    let reachable = peers
                        .iter()
                        .find(told)
                        .is_some_and(|p| p.standing == Standing::Ready);
                    member.own.node == own.own.node || reachable
                })
                .map(|member| member.own.node.to_string())
                .collect();
            may_serve.sort();
            let known = at.service(&format!("{service}@docker"));
            let mut served =
                known.map_or_else(Vec::new, |known| served_at(known, &own.own.node, &tables, seed));
            served.sort();
            served.dedup();
            assert_eq!(served, may_serve, "seed {seed}: {service} from {}", own.own.node);
        }
    }
    leave(&members, &seen, &mut random, seed);
}

/// Nodes leave one after the other, in any order.
fn leave(members: &[Member], seen: &[Vec<Peer>], random: &mut Random, seed: u64) {
    let (own, mut listed) = (&members[0], seen[0].clone());
    let (mut roster, mut now) = (Roster::default(), Instant::now());
    roster.observe(&listed, now);
    while !listed.is_empty() {
        let at = usize::try_from(random.below(listed.len() as u64)).unwrap();
        let gone = listed.remove(at);
        now += Duration::from_secs(1);
        roster.observe(&listed, now);
        let peers = roster.peers(GRACE, now);
        let table = table(&own.own, &own.readings, &peers);
        let of_gone = |service: &Arc<Service>| {
            let mut endpoints = service.endpoints.iter();
            endpoints.any(|e| e.peer.as_ref().is_some_and(|peer| peer.node == gone.node))
        };
        assert!(
            !table.services().iter().any(of_gone),
            "seed {seed}: endpoints of {}",
            gone.node
        );
    }
    now += GRACE;
    let peers = roster.peers(GRACE, now);
    assert!(peers.is_empty(), "seed {seed}: {peers:?}");
    let (left, alone) = (
        table(&own.own, &own.readings, &peers),
        table(&own.own, &own.readings, &[]),
    );
    let names =
        |table: &Snapshot| -> Vec<String> { table.routers().iter().map(|r| r.name().to_owned()).collect() };
    assert_eq!(names(&left), names(&alone), "seed {seed}");
}

#[test]
fn random_clusters_serve_without_circles() {
    for seed in 0..150 {
        run(seed);
    }
}
