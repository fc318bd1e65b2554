//! `edge.virtualIps` and `edge.virtualIpDevice` resolved.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Judge, guard};

/// More are a mistake: each is announced to the network by itself.
const MOST: usize = 64;

pub(super) fn all(texts: &[String], judge: &mut Judge<'_>) -> Vec<IpNet> {
    if texts.len() > MOST {
        judge
            .refuse("edge.virtualIps", "has too many addresses")
            .expects(format!("at most {MOST}"));
    }
    let mut all: Vec<IpNet> = Vec::new();
    for (position, text) in texts.iter().enumerate() {
        match one(text) {
            Err((wrong, expected)) => {
                judge
                    .refuse(&format!("edge.virtualIps[{position}]"), wrong)
                    .expects(expected);
            }
            Ok(net) if all.iter().any(|other| other.addr() == net.addr()) => {
                judge
                    .refuse(&format!("edge.virtualIps[{position}]"), "is there twice")
                    .expects("each address once");
            }
            Ok(net) => all.push(net),
        }
    }
    all
}

fn one(text: &str) -> Result<IpNet, (&'static str, &'static str)> {
    let text = text.trim();
    let parsed = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let Ok(net) = parsed else {
        return Err((
            "is no address",
            "an address with the length of its network, such as 192.0.2.10/24 or 2001:db8::10/64",
        ));
    };
    let address = net.addr();
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_link_local {
        return Err((
            "can't be an address of several hosts in turn",
            "an address that clients connect to",
        ));
    }
    let has_ends = net.prefix_len() < net.max_prefix_len() - 1;
    if has_ends && (address == net.network() || address.is_ipv4() && address == net.broadcast()) {
        return Err((
            "is a network rather than an address",
            "an address within it, such as 192.0.2.10/24",
        ));
    }
    Ok(net)
}

pub(super) fn device(name: &str, judge: &mut Judge<'_>) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    if !guard::is_device(name) {
        judge
            .refuse("edge.virtualIpDevice", "is no name of a network device")
            .expects("a name as `ip link` shows it, at most 15 characters");
    }
    Some(name.to_owned())
}
