//! `cluster` resolved.

use std::net::IpAddr;
use std::path::PathBuf;

use super::{Judge, address, given};
use crate::duration::format;
use crate::raw::RawCluster;
use crate::resolved::{Cluster, ListenAt};

pub(super) fn one(raw: &RawCluster, judge: &mut Judge<'_>) -> Cluster {
    let default = Cluster::default();
    let lease = if raw.lease.0.is_zero() {
        raw.profile.lease()
    } else {
        raw.lease.0
    };
    let whole = lease.subsec_nanos().is_multiple_of(1_000_000);
    if !Cluster::LEASE.contains(&lease) || !whole {
        let range = Cluster::LEASE;
        judge.refuse("cluster.lease", "is out of range").expects(format!(
            "{} to {} in whole milliseconds, or 0s for what the profile has",
            format(*range.start()),
            format(*range.end())
        ));
    }
    let settle = raw.settle.0;
    if !Cluster::SETTLE.contains(&settle) {
        judge
            .refuse("cluster.settle", "is out of range")
            .expects("0s to 1h");
    }
    let gossip = listen(
        "cluster.gossip.address",
        &raw.gossip.address,
        default.gossip,
        judge,
    );
    Cluster {
        advertise: advertise(&raw.advertise, judge),
        raft: listen("cluster.raft.address", &raw.raft.address, default.raft, judge),
        peers: peers(&raw.peers, gossip.port, judge),
        gossip,
        tailscale_socket: given::<PathBuf>(Some(&raw.tailscale_socket)),
        profile: raw.profile,
        lease,
        settle,
    }
}

fn advertise(text: &str, judge: &mut Judge<'_>) -> Option<IpAddr> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    match text.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() => Some(ip),
        _ => {
            judge
                .refuse("cluster.advertise", "is no address that others could reach")
                .expects("an IP address of this node, such as 10.0.0.1 or 100.64.0.1");
            None
        }
    }
}

fn listen(key: &str, text: &str, default: ListenAt, judge: &mut Judge<'_>) -> ListenAt {
    match address::parse(text) {
        Ok(address) => ListenAt {
            ip: (!text.trim().starts_with(':')).then(|| address.ip()),
            port: address.port(),
        },
        Err(refusal) => {
            refusal.report(key, judge);
            default
        }
    }
}

/// Each with a port; that of this node's own gossip where none is given.
fn peers(texts: &[String], port: u16, judge: &mut Judge<'_>) -> Vec<String> {
    let mut peers = Vec::new();
    for (position, text) in texts.iter().enumerate() {
        match peer(text.trim(), port) {
            Some(peer) => peers.push(peer),
            None => {
                judge
                    .refuse(&format!("cluster.peers[{position}]"), "is no host")
                    .expects(
                        "HOST or HOST:PORT, such as edge-2.example.org, 10.0.0.2:7946 or [fd00::2]:7946",
                    );
            }
        }
    }
    peers
}

fn peer(text: &str, port: u16) -> Option<String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(std::net::SocketAddr::new(ip, port).to_string());
    }
    if text.parse::<std::net::SocketAddr>().is_ok() {
        return Some(text.to_owned());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok().filter(|port| *port != 0)?),
        None => (text, port),
    };
    let name = host.trim_end_matches('.');
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    (!name.is_empty() && name.len() <= 253 && name.split('.').all(label)).then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::peer;

    #[test]
    fn a_peer_is_a_host_with_a_port() {
        let cases = [
            ("10.0.0.2", Some("10.0.0.2:7946")),
            ("10.0.0.2:1", Some("10.0.0.2:1")),
            ("fd00::2", Some("[fd00::2]:7946")),
            ("[fd00::2]:9", Some("[fd00::2]:9")),
            ("edge-2.example.org", Some("edge-2.example.org:7946")),
            ("edge-2:1234", Some("edge-2:1234")),
            ("edge-2:0", None),
            ("edge-2:x", None),
            ("", None),
            ("a b", None),
            ("http://a", None),
        ];
        for (text, expected) in cases {
            assert_eq!(peer(text, 7946).as_deref(), expected, "{text}");
        }
    }
}
