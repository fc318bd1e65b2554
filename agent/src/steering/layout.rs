//! Which listeners are one destination, and which addresses lead to it.
//!
//! Pure: [`Listener`]s and entry points come in, binds come out. An entry point for connections is a destination for each
//! family, whatever address its listener is bound to, so that further addresses need no socket. An entry point for
//! datagrams is a destination for each address: a reply leaves from the address and port of the socket.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use constellation_config::{EntryPoint, Protocol};
use constellation_ebpf_loader::abi::steer::MAX_DESTS;
use constellation_ebpf_loader::steering::{Bind, Dest, Protocol as Transport};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Where an address leads that is no longer configured while the socket on it is still open: to no listener, so that it
/// is refused. The last destination there is.
const CLOSED: u32 = MAX_DESTS - 1;

/// A listening socket, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    /// Name of the entry point.
    pub(super) entry_point: Arc<str>,
    /// What it takes.
    pub(super) protocol: Protocol,
    /// Where it is bound.
    pub(super) address: SocketAddr,
    /// Whether it is for IPv6 alone.
    pub(super) only_v6: bool,
}

/// Why addresses can't be steered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LayoutError {
    /// The map is too small.
    #[error(
        "there are more entry points than can be steered: each takes one place for IPv4 and one for IPv6, each UDP \
         address one, and there are {0}"
    )]
    TooMany(usize),
    /// Nobody to give an address to.
    #[error(
        "entry point {entry_point}: {address} can't be reached without a restart: it has no listener of that family"
    )]
    NoListener {
        /// Name of the entry point.
        entry_point: String,
        /// The address or network.
        address: String,
    },
    /// One address twice.
    #[error("{address} is asked for two entry points; remove it from {entry_point}")]
    Twice {
        /// Name of the second entry point.
        entry_point: String,
        /// The address or network.
        address: String,
    },
}

/// Listeners that share a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    entry_point: Arc<str>,
    protocol: Protocol,
    address: SocketAddr,
    v4: bool,
    v6: bool,
    dest: Dest,
}

/// The destinations of a process; fixed for as long as it runs.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    listeners: Vec<Listener>,
    groups: Vec<Group>,
    closed: Dest,
}

/// What leads to one destination.
type Key = (Transport, IpNet, u16);

impl Layout {
    /// Destinations for these listeners, none of those in `taken`: a process before this one may still get connections
    /// there.
    ///
    /// # Errors
    /// When there are too few.
    pub(super) fn new(listeners: Vec<Listener>, taken: &BTreeSet<Dest>) -> Result<Self, LayoutError> {
        let most = CLOSED as usize / 2;
        let dest = |number| Dest::new(number).map_err(|_| LayoutError::TooMany(most));
        let mut free =
            (0..CLOSED).filter_map(|number| dest(number).ok().filter(|dest| !taken.contains(dest)));
        let mut groups: Vec<Group> = Vec::new();
        for (of, v4, v6) in grouped(&listeners) {
            groups.push(Group {
                entry_point: of.entry_point.clone(),
                protocol: of.protocol,
                address: of.address,
                v4,
                v6,
                dest: free.next().ok_or(LayoutError::TooMany(most))?,
            });
        }
        // Else a successor would find too few free ones.
        if groups.len() > most {
            return Err(LayoutError::TooMany(most));
        }
        Ok(Self {
            listeners,
            groups,
            closed: dest(CLOSED)?,
        })
    }

    /// Every destination with the positions of its listeners.
    pub(super) fn destinations(&self) -> impl Iterator<Item = (Dest, Vec<usize>)> {
        self.groups.iter().map(|group| {
            let listeners = self.listeners.iter().enumerate();
            let own = listeners.filter(|(_, listener)| {
                listener.entry_point == group.entry_point
                    && listener.protocol == group.protocol
                    && listener.address == group.address
            });
            (group.dest, own.map(|(position, _)| position).collect())
        })
    }

    /// What a destination takes.
    pub(super) fn protocol(&self, dest: Dest) -> Protocol {
        let group = self.groups.iter().find(|group| group.dest == dest);
        group.map(|group| group.protocol).unwrap_or_default()
    }

    /// The destination without listeners.
    pub(super) fn closed(&self) -> Dest {
        self.closed
    }

    /// Whether one of our own sockets is what stands in the way of binding `address` once more.
    pub(super) fn has_bound(&self, address: SocketAddr) -> bool {
        self.listeners.iter().any(|listener| {
            listener.protocol == Protocol::Tcp
                && listener.address.port() == address.port()
                && (listener.address.ip() == address.ip()
                    || listener.address.ip().is_unspecified()
                    || address.ip().is_unspecified())
        })
    }

    /// The addresses of these entry points, those with port 0 as the listeners have them. Addresses that listeners have
    /// and entry points no longer name are refused.
    ///
    /// # Errors
    /// When an address has nobody to take its connections.
    pub(super) fn binds(&self, entry_points: &[EntryPoint]) -> Result<Vec<Bind>, LayoutError> {
        let mut wanted: BTreeMap<Key, Dest> = BTreeMap::new();
        for entry_point in entry_points {
            for address in self.addresses(entry_point) {
                let networks = self.networks(entry_point, address);
                if networks.is_empty() {
                    return Err(no_listener(entry_point, &address));
                }
                for (network, dest) in networks {
                    claim(
                        &mut wanted,
                        entry_point,
                        (network, address.port()),
                        dest,
                        &address,
                    )?;
                }
            }
            for prefix in &entry_point.prefixes {
                let v6 = prefix.network.addr().is_ipv6();
                let dest = self
                    .group(entry_point, v6, None)
                    .ok_or_else(|| no_listener(entry_point, prefix))?;
                claim(
                    &mut wanted,
                    entry_point,
                    (prefix.network, prefix.port),
                    dest,
                    prefix,
                )?;
            }
        }
        for listener in &self.listeners {
            for network in networks_of(listener) {
                let key = (transport(listener.protocol), network, listener.address.port());
                wanted.entry(key).or_insert(self.closed);
            }
        }
        let bind = |((protocol, addresses, port), dest)| Bind {
            protocol,
            addresses,
            port,
            dest,
        };
        Ok(wanted.into_iter().map(bind).collect())
    }

    /// What an entry point asks for, with the real ports.
    fn addresses(&self, entry_point: &EntryPoint) -> Vec<SocketAddr> {
        let asked = entry_point.addresses.iter();
        asked
            .flat_map(|asked| {
                if asked.port() != 0 {
                    return vec![*asked];
                }
                let own = self.listeners.iter().filter(|listener| {
                    *listener.entry_point == *entry_point.name
                        && (listener.address.ip() == asked.ip()
                            || listener.address.ip().is_unspecified() && asked.ip().is_unspecified())
                });
                own.map(|listener| listener.address).collect()
            })
            .collect()
    }

    /// The networks that an address stands for, with their destinations. Without IPv6 in the kernel its wildcard means
    /// IPv4 alone.
    fn networks(&self, entry_point: &EntryPoint, address: SocketAddr) -> Vec<(IpNet, Dest)> {
        let exact = (entry_point.protocol == Protocol::Udp).then_some(address);
        let all = match address.ip() {
            IpAddr::V6(ip) if ip.is_unspecified() => vec![any_v6(), any_v4()],
            ip if ip.is_unspecified() => vec![any_v4()],
            ip => vec![ip.into()],
        };
        let steered = |network: IpNet| {
            let dest = self.group(entry_point, network.addr().is_ipv6(), exact)?;
            Some((network, dest))
        };
        all.into_iter().filter_map(steered).collect()
    }

    fn group(&self, entry_point: &EntryPoint, v6: bool, exact: Option<SocketAddr>) -> Option<Dest> {
        let same = |group: &&Group| {
            // A wildcard of IPv6 that became one of IPv4.
            let fits = |asked: SocketAddr| {
                group.address.port() == asked.port()
                    && (group.address.ip() == asked.ip()
                        || group.address.ip().is_unspecified() && asked.ip().is_unspecified())
            };
            *group.entry_point == *entry_point.name
                && group.protocol == entry_point.protocol
                && if v6 { group.v6 } else { group.v4 }
                && exact.is_none_or(fits)
        };
        self.groups.iter().find(same).map(|group| group.dest)
    }
}

/// A listener of each destination, and the families it is for.
fn grouped(listeners: &[Listener]) -> Vec<(&Listener, bool, bool)> {
    let mut groups: Vec<(&Listener, bool, bool)> = Vec::new();
    for listener in listeners {
        let takes_v4 = listener.address.is_ipv4() || is_dual(listener);
        let takes_v6 = listener.address.is_ipv6();
        if listener.protocol == Protocol::Udp {
            let same = |(other, ..): &(&Listener, bool, bool)| {
                other.protocol == Protocol::Udp && other.address == listener.address
            };
            if !groups.iter().any(same) {
                groups.push((listener, takes_v4, takes_v6));
            }
            continue;
        }
        let is_served = |v6: bool| {
            groups.iter().any(|(other, v4, of_v6)| {
                other.protocol == Protocol::Tcp
                    && other.entry_point == listener.entry_point
                    && if v6 { *of_v6 } else { *v4 }
            })
        };
        let (v4, v6) = (takes_v4 && !is_served(false), takes_v6 && !is_served(true));
        if v4 || v6 {
            groups.push((listener, v4, v6));
        }
    }
    groups
}

fn claim(
    wanted: &mut BTreeMap<Key, Dest>,
    entry_point: &EntryPoint,
    (network, port): (IpNet, u16),
    dest: Dest,
    shown: &impl std::fmt::Display,
) -> Result<(), LayoutError> {
    let earlier = wanted.insert((transport(entry_point.protocol), network.trunc(), port), dest);
    if earlier.is_some_and(|earlier| earlier != dest) {
        return Err(LayoutError::Twice {
            entry_point: entry_point.name.clone(),
            address: shown.to_string(),
        });
    }
    Ok(())
}

fn no_listener(entry_point: &EntryPoint, address: &impl std::fmt::Display) -> LayoutError {
    LayoutError::NoListener {
        entry_point: entry_point.name.clone(),
        address: address.to_string(),
    }
}

/// What a socket takes in the ordinary way.
fn networks_of(listener: &Listener) -> Vec<IpNet> {
    match listener.address.ip() {
        _ if is_dual(listener) => vec![any_v6(), any_v4()],
        IpAddr::V6(ip) if ip.is_unspecified() => vec![any_v6()],
        IpAddr::V4(ip) if ip.is_unspecified() => vec![any_v4()],
        ip => vec![ip.into()],
    }
}

fn is_dual(listener: &Listener) -> bool {
    listener.address.is_ipv6() && listener.address.ip().is_unspecified() && !listener.only_v6
}

fn any_v4() -> IpNet {
    IpNet::V4(Ipv4Net::default())
}

fn any_v6() -> IpNet {
    IpNet::V6(Ipv6Net::default())
}

fn transport(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
    }
}

#[cfg(test)]
mod tests {
    use constellation_config::Prefix;

    use super::*;

    fn listener(entry_point: &str, address: &str) -> Listener {
        let (address, protocol) = match address.strip_suffix("/udp") {
            Some(address) => (address, Protocol::Udp),
            None => (address, Protocol::Tcp),
        };
        Listener {
            entry_point: entry_point.into(),
            protocol,
            address: address.parse().unwrap(),
            only_v6: false,
        }
    }

    fn entry_point(name: &str, addresses: &[&str], prefixes: &[(&str, u16)]) -> EntryPoint {
        let is_udp = addresses.iter().any(|address| address.ends_with("/udp"));
        let bare = |address: &&str| address.trim_end_matches("/udp").parse().unwrap();
        let mut entry_point = EntryPoint::new(name, addresses.iter().map(bare).collect());
        let prefix = |(network, port): &(&str, u16)| Prefix {
            network: network.parse().unwrap(),
            port: *port,
        };
        entry_point.prefixes = prefixes.iter().map(prefix).collect();
        if is_udp {
            entry_point.protocol = Protocol::Udp;
        }
        entry_point
    }

    fn layout(listeners: &[Listener]) -> Layout {
        Layout::new(listeners.to_vec(), &BTreeSet::new()).unwrap()
    }

    fn lines(layout: &Layout, entry_points: &[EntryPoint]) -> Vec<String> {
        let binds = layout.binds(entry_points).unwrap();
        let line = |bind: &Bind| format!("{bind} -> {}", bind.dest.number());
        binds.iter().map(line).collect()
    }

    #[test]
    fn an_entry_point_is_one_destination_for_each_family() {
        let layout = layout(&[
            listener("any", "[::]:80"),
            listener("any", "[::]:80"),
            listener("both", "127.0.0.1:1"),
            listener("both", "[::1]:1"),
            listener("both", "127.0.0.2:1"),
        ]);
        let destinations: Vec<_> = layout
            .destinations()
            .map(|(dest, of)| (dest.number(), of))
            .collect();
        assert_eq!(destinations, [(0, vec![0, 1]), (1, vec![2]), (2, vec![3])]);
        let entry_points = [
            entry_point("any", &["[::]:80"], &[]),
            entry_point(
                "both",
                &["127.0.0.1:1", "[::1]:1", "127.0.0.2:1", "127.0.0.3:9"],
                &[("10.0.0.0/8", 5), ("fd00::/64", 5)],
            ),
        ];
        let expected = [
            "0.0.0.0/0 port 80/tcp -> 0",
            "10.0.0.0/8 port 5/tcp -> 1",
            "127.0.0.1/32 port 1/tcp -> 1",
            "127.0.0.2/32 port 1/tcp -> 1",
            "127.0.0.3/32 port 9/tcp -> 1",
            "::/0 port 80/tcp -> 0",
            "::1/128 port 1/tcp -> 2",
            "fd00::/64 port 5/tcp -> 2",
        ];
        let mut seen = lines(&layout, &entry_points);
        seen.sort();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_free_port_is_the_one_that_was_found() {
        let layout = layout(&[listener("web", "127.0.0.1:40000")]);
        let web = entry_point("web", &["127.0.0.1:0"], &[]);
        assert_eq!(lines(&layout, &[web]), ["127.0.0.1/32 port 40000/tcp -> 0"]);
    }

    #[test]
    fn datagrams_keep_to_the_address_that_they_came_to() {
        let layout = layout(&[
            listener("dns", "10.0.0.1:53/udp"),
            listener("dns", "10.0.0.2:53/udp"),
        ]);
        let dns = entry_point("dns", &["10.0.0.1:53/udp", "10.0.0.2:53/udp"], &[]);
        assert_eq!(
            lines(&layout, &[dns]),
            ["10.0.0.1/32 port 53/udp -> 0", "10.0.0.2/32 port 53/udp -> 1"]
        );
        let other = entry_point("dns", &["10.0.0.1:54/udp"], &[]);
        assert!(matches!(
            layout.binds(&[other]),
            Err(LayoutError::NoListener { .. })
        ));
    }

    #[test]
    fn an_address_that_is_no_longer_configured_is_closed() {
        let layout = layout(&[listener("web", "[::]:80"), listener("web", "127.0.0.1:81")]);
        let web = entry_point("web", &["10.0.0.1:80"], &[]);
        assert_eq!(
            lines(&layout, &[web]),
            [
                "0.0.0.0/0 port 80/tcp -> 63",
                "10.0.0.1/32 port 80/tcp -> 0",
                "127.0.0.1/32 port 81/tcp -> 63",
                "::/0 port 80/tcp -> 63",
            ]
        );
    }

    #[test]
    fn without_ipv6_the_wildcard_is_that_of_ipv4() {
        let layout = layout(&[listener("web", "0.0.0.0:80"), listener("dns", "0.0.0.0:53/udp")]);
        let entry_points = [
            entry_point("dns", &["[::]:53/udp"], &[]),
            entry_point("web", &["[::]:80"], &[]),
        ];
        assert_eq!(
            lines(&layout, &entry_points),
            ["0.0.0.0/0 port 80/tcp -> 0", "0.0.0.0/0 port 53/udp -> 1"]
        );
    }

    #[test]
    fn a_successor_leaves_the_destinations_of_its_predecessor_alone() {
        let listeners = [listener("a", "127.0.0.1:1"), listener("b", "127.0.0.1:2")];
        let taken = [0, 2].map(|number| Dest::new(number).unwrap()).into();
        let layout = Layout::new(listeners.to_vec(), &taken).unwrap();
        let numbers: Vec<u32> = layout.destinations().map(|(dest, _)| dest.number()).collect();
        assert_eq!(numbers, [1, 3]);
        let many: Vec<_> = (0..32)
            .map(|port| listener("dns", &format!("127.0.0.1:{}/udp", port + 1)))
            .collect();
        assert_eq!(
            Layout::new(many, &BTreeSet::new()).unwrap_err(),
            LayoutError::TooMany(31)
        );
    }

    #[test]
    fn a_family_without_a_listener_and_an_address_twice_are_refused() {
        let layout = layout(&[listener("a", "127.0.0.1:1"), listener("b", "127.0.0.1:2")]);
        let v6 = entry_point("a", &["127.0.0.1:1", "[::1]:1"], &[]);
        let error = layout.binds(&[v6]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("[::1]:1 can't be reached without a restart"),
            "{error}"
        );
        let twice = [
            entry_point("a", &["10.0.0.1:1"], &[]),
            entry_point("b", &[], &[("10.0.0.1/32", 1)]),
        ];
        let error = layout.binds(&twice).unwrap_err();
        assert!(error.to_string().contains("remove it from b"), "{error}");
    }
}
