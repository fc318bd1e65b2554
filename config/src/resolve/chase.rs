//! `edge.chase` resolved.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Judge, guard, networks};
use crate::duration::format;
use crate::raw::RawChase;
use crate::resolved::{Chase, EntryPoint, Protocol};

pub(super) fn one(raw: &RawChase, entry_points: &[EntryPoint], judge: &mut Judge<'_>) -> Chase {
    for (position, name) in raw.devices.iter().enumerate() {
        if !guard::is_device(name) {
            judge
                .refuse(
                    &format!("edge.chase.devices[{position}]"),
                    "is no name of a network device",
                )
                .expects("a name as `ip link` shows it, at most 15 characters");
        }
    }
    let duration = raw.duration.0;
    if !Chase::DURATION.contains(&duration) {
        let range = Chase::DURATION;
        judge.refuse("edge.chase.for", "is out of range").expects(format!(
            "{} to {}",
            format(*range.start()),
            format(*range.end())
        ));
    }
    let mut addresses: Vec<IpNet> = networks(&raw.addresses).iter().map(IpNet::trunc).collect();
    if raw.addresses.is_empty() {
        addresses = of_entry_points(entry_points);
    }
    Chase {
        devices: raw.devices.clone(),
        addresses,
        previous: previous(&raw.previous, judge),
        duration,
    }
}

fn previous(texts: &[String], judge: &mut Judge<'_>) -> Vec<IpAddr> {
    let mut previous: Vec<IpAddr> = Vec::new();
    for (position, text) in texts.iter().enumerate() {
        let key = format!("edge.chase.previous[{position}]");
        match text
            .trim()
            .parse::<IpAddr>()
            .map(|address| address.to_canonical())
        {
            Ok(address) if previous.iter().any(|other| other.is_ipv4() == address.is_ipv4()) => {
                judge
                    .refuse(&key, "is a second address of its family")
                    .expects("one of each family: an address has one previous holder");
            }
            Ok(address) => previous.push(address),
            Err(_) => {
                judge
                    .refuse(&key, "is no address")
                    .expects("an address of that node's own, such as 192.0.2.7 or fd00::7");
            }
        }
    }
    previous
}

/// The addresses that entry points name for connections, but for those of this machine alone.
fn of_entry_points(entry_points: &[EntryPoint]) -> Vec<IpNet> {
    let of_tcp = entry_points
        .iter()
        .filter(|entry_point| entry_point.protocol == Protocol::Tcp);
    let mut all: Vec<IpNet> = of_tcp
        .flat_map(|entry_point| {
            let addresses = entry_point
                .addresses
                .iter()
                .map(|address| address.ip().to_canonical());
            let named = addresses.filter(|ip| !ip.is_unspecified() && !ip.is_loopback());
            named
                .map(IpNet::from)
                .chain(entry_point.prefixes.iter().map(|prefix| prefix.network))
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}
