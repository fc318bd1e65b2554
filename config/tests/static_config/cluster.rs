//! `cluster`: where nodes listen and whom they ask, and what is refused.

use std::time::Duration;

use constellation_config::{Cluster, ClusterProfile};

use super::load;

fn cluster(text: &str) -> Cluster {
    let loaded = load("yaml", text, &[], &[]).unwrap_or_else(|(errors, _)| panic!("{text}: {errors}"));
    loaded.config.cluster
}

#[test]
fn a_port_is_at_the_advertised_address_unless_an_address_is_given() {
    let read = cluster("{}");
    assert_eq!(
        read.raft.or("10.0.0.1".parse().unwrap()).to_string(),
        "10.0.0.1:8300"
    );
    assert_eq!((read.gossip.ip, read.gossip.port), (None, 7946));
    assert_eq!(
        (read.lease, read.profile),
        (Duration::from_secs(1), ClusterProfile::Lan)
    );
    let text = "
        cluster:
          advertise: 10.0.0.1
          profile: wan
          raft: {address: '0.0.0.0:9300'}
          gossip: {address: ':9946'}
          peers: [edge-2, '10.0.0.3:1']";
    let read = cluster(text);
    assert_eq!(
        read.raft.or("10.0.0.1".parse().unwrap()).to_string(),
        "0.0.0.0:9300"
    );
    assert_eq!(read.peers, ["edge-2:9946", "10.0.0.3:1"]);
    assert_eq!(read.lease, Duration::from_secs(6));
}

#[test]
fn nonsense_is_refused() {
    for (text, expected) in [
        (
            "cluster: {advertise: 0.0.0.0}",
            "cluster.advertise: is no address that others could reach",
        ),
        ("cluster: {advertise: edge-1}", "cluster.advertise: is no address"),
        ("cluster: {lease: 100ms}", "cluster.lease: is out of range"),
        ("cluster: {lease: 1s1us}", "cluster.lease: is "),
        ("cluster: {settle: 2h}", "cluster.settle: is out of range"),
        ("cluster: {peers: ['']}", "cluster.peers[0]: is no host"),
        (
            "cluster: {raft: {address: '8300'}}",
            "cluster.raft.address: is not an address with a port",
        ),
        (
            "cluster: {raft: {address: ':8300/udp'}}",
            "cluster.raft.address: must be for TCP",
        ),
        ("cluster: {name: x}", "cluster.name: unknown key"),
    ] {
        let found = match load("yaml", text, &[], &[]) {
            Ok(_) => panic!("{text} is taken"),
            Err((errors, _)) => errors,
        };
        assert!(found.contains(expected), "{text}: {found}");
    }
}
