//! The ports that clients come to.

use std::net::SocketAddr;
use std::sync::Arc;

use constellation_config::{EntryPoint, Protocol};

/// Those of the entry points: as configured, and as bound where any free one was asked for. May name one more than once.
pub fn ports(entry_points: &[EntryPoint], bound: &[(Arc<str>, SocketAddr)]) -> Vec<(Protocol, u16)> {
    let of_one = |entry_point: &EntryPoint| {
        let here = bound.iter().filter(|(name, _)| **name == *entry_point.name);
        let addresses = entry_point
            .addresses
            .iter()
            .chain(here.map(|(_, address)| address));
        let of_networks = entry_point.prefixes.iter().map(|prefix| prefix.port);
        let all = addresses.map(SocketAddr::port).chain(of_networks);
        // Any free port is not all ports.
        let real: Vec<_> = all
            .filter(|port| *port != 0)
            .map(|port| (entry_point.protocol, port))
            .collect();
        real
    };
    entry_points.iter().flat_map(of_one).collect()
}
