//! `edge` resolved.

use std::time::Duration;

use super::{Judge, chase, guard, virtual_ip};
use crate::raw::RawEdge;
use crate::resolved::{Edge, EdgeMode, EntryPoint, Lease, Serve, SteeringMode};

const TTL: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(60);
const LEAST_RENEW: Duration = Duration::from_millis(50);

/// Where a Traefik takes clients, the entry points are its own: routers name them, and nothing listens here.
pub(super) fn give_to_traefik(entry_points: &mut [EntryPoint]) {
    for entry_point in entry_points {
        entry_point.addresses.clear();
        entry_point.prefixes.clear();
    }
}

/// Which nodes answer, and whether the kernel steers, as far as this node takes clients at all.
fn taking_clients(raw: &RawEdge, judge: &mut Judge<'_>) -> (Serve, SteeringMode) {
    if raw.mode == EdgeMode::Direct {
        return (raw.serve, raw.steering);
    }
    let mode = raw.mode.as_str();
    if raw.serve == Serve::Holder && judge.tree.at("edge.serve").is_some() {
        judge
            .refuse("edge.serve", format!("has no meaning with edge.mode {mode}"))
            .advises("leave it out: the Traefik of every node serves");
    }
    if raw.steering == SteeringMode::Ebpf {
        judge
            .refuse("edge.steering", format!("has no meaning with edge.mode {mode}"))
            .advises("leave it out: clients connect to Traefik");
    }
    (Serve::EveryNode, SteeringMode::Off)
}

pub(super) fn one(raw: &RawEdge, entry_points: &[EntryPoint], judge: &mut Judge<'_>) -> Edge {
    let lease = Lease {
        ttl: raw.lease.ttl.0,
        renew: raw.lease.renew.0,
    };
    if !TTL.contains(&lease.ttl) {
        judge
            .refuse("edge.lease.ttl", "is out of range")
            .expects("500ms to 1m");
    } else if lease.renew < LEAST_RENEW || lease.renew > lease.ttl / 2 {
        let most = crate::duration::format(lease.ttl / 2);
        judge
            .refuse("edge.lease.renew", "is out of range")
            .expects(format!("50ms to {most}, which is half of edge.lease.ttl"));
    }
    if raw.steering == SteeringMode::Off {
        for entry_point in entry_points {
            if let Some(prefix) = entry_point.prefixes.first() {
                judge
                    .refuse(
                        &entry_point.address_key(),
                        format!("holds the network {prefix}, which needs steering, and edge.steering is off"),
                    )
                    .advises("set edge.steering to ebpf, or list the addresses one by one");
            }
        }
    }
    let (serve, steering) = taking_clients(raw, judge);
    Edge {
        mode: raw.mode,
        steering,
        serve,
        standby: raw.standby,
        lease,
        guard: guard::one(&raw.guard, judge),
        chase: chase::one(&raw.chase, entry_points, judge),
        virtual_ips: virtual_ip::all(&raw.virtual_ips, judge),
        virtual_ip_device: virtual_ip::device(&raw.virtual_ip_device, judge),
    }
}
