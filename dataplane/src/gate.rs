//! Whose connections are closed unheard, where the kernel does not drop their packets.
//!
//! It stands in for `edge_guard`: the lists are the same, the allow list wins as well, and it is the peer's address that
//! counts, not what the peer says about others. It is asked after the handshake, so that a flood costs what it costs
//! without it; and what is open stays open. Without lists it costs one load.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use ipnet::IpNet;

/// The lists in force. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<ArcSwapOption<Lists>>);

/// Who is refused.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    denied: Prefixes,
    allowed: Prefixes,
}

impl Gate {
    /// Goes by these lists from now on; `None`: refuses nobody.
    pub fn set(&self, lists: Option<Lists>) {
        self.0.store(lists.map(Arc::new));
    }

    /// Whether a peer is to be refused.
    pub(crate) fn refuses(&self, peer: IpAddr) -> bool {
        let lists = self.0.load();
        lists.as_ref().is_some_and(|lists| lists.refuse(peer))
    }
}

impl Lists {
    /// Who is in `denied` is refused, but for who is in `allowed`.
    pub fn new(denied: impl IntoIterator<Item = IpNet>, allowed: impl IntoIterator<Item = IpNet>) -> Self {
        Self {
            denied: Prefixes::new(denied),
            allowed: Prefixes::new(allowed),
        }
    }

    fn refuse(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.denied.hold(peer) && !self.allowed.hold(peer)
    }
}

/// A set of prefixes: for each length that occurs, one look.
#[derive(Clone, Debug, Default)]
struct Prefixes {
    v4: Vec<(u8, HashSet<u32>)>,
    v6: Vec<(u8, HashSet<u128>)>,
}

impl Prefixes {
    fn new(nets: impl IntoIterator<Item = IpNet>) -> Self {
        let mut prefixes = Self::default();
        for net in nets {
            match net.trunc() {
                IpNet::V4(net) => add(&mut prefixes.v4, net.prefix_len(), net.addr().into()),
                IpNet::V6(net) => add(&mut prefixes.v6, net.prefix_len(), net.addr().into()),
            }
        }
        prefixes
    }

    fn hold(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => {
                let bits = u32::from(v4);
                let cut = |length: u8| u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0) & bits;
                self.v4.iter().any(|(length, nets)| nets.contains(&cut(*length)))
            }
            IpAddr::V6(v6) => {
                let bits = u128::from(v6);
                let cut = |length: u8| u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0) & bits;
                self.v6.iter().any(|(length, nets)| nets.contains(&cut(*length)))
            }
        }
    }
}

fn add<A: Eq + Hash>(of_lengths: &mut Vec<(u8, HashSet<A>)>, length: u8, network: A) {
    match of_lengths.iter_mut().find(|(known, _)| *known == length) {
        Some((_, networks)) => {
            networks.insert(network);
        }
        None => of_lengths.push((length, HashSet::from([network]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allow_list_wins_and_every_length_counts() {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let gate = Gate::default();
        let refuses = |peer: &str| gate.refuses(peer.parse().unwrap());
        assert!(!refuses("192.0.2.1"), "nobody before there are lists");
        let denied = nets(&["192.0.2.7/24", "198.51.100.1/32", "2001:db8::/32", "::1/128"]);
        gate.set(Some(Lists::new(
            denied,
            nets(&["192.0.2.8/31", "2001:db8:7::/48"]),
        )));
        let table = [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.9", false),
            ("192.0.3.1", false),
            ("198.51.100.1", true),
            ("198.51.100.2", false),
            ("2001:db8:1::1", true),
            ("2001:db8:7::1", false),
            ("::1", true),
            ("::2", false),
        ];
        for (peer, expected) in table {
            assert_eq!(refuses(peer), expected, "{peer}");
        }
        gate.set(Some(Lists::new(
            nets(&["0.0.0.0/0", "::/0"]),
            nets(&["10.0.0.0/8"]),
        )));
        assert!(refuses("1.2.3.4") && refuses("fe80::1") && !refuses("10.1.2.3"));
        gate.set(None);
        assert!(!refuses("1.2.3.4"));
    }
}
