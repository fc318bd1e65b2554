//! The addresses that are steered, and what it takes to get from one set of them to another.

use std::collections::HashMap;
use std::fmt;

use aya::maps::lpm_trie::Key;
use constellation_ebpf_abi::steer::{BIND_HEAD_BITS, Bind as Value, BindKey, MAX_BINDS, TCP, UDP, V4, V6};
use ipnet::IpNet;

use super::{Dest, Steering};
use crate::Error;
use crate::layout::Shared;

/// The protocol of a bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP: the program is asked for every new connection.
    Tcp,
    /// UDP, QUIC with it: the program is asked for every datagram that no connected socket takes.
    Udp,
}

/// Addresses whose connections go to one destination.
///
/// Of several that match, one that names the port wins over one for any port; then the longest prefix wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bind {
    /// The protocol.
    pub protocol: Protocol,
    /// The addresses; bits beyond the prefix are ignored. `0.0.0.0/0` and `::/0` stand for all of a family.
    pub addresses: IpNet,
    /// The port; 0 for any.
    pub port: u16,
    /// Where connections go.
    pub dest: Dest,
}

impl fmt::Display for Bind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        match self.port {
            0 => write!(formatter, "{} any port/{protocol}", self.addresses),
            port => write!(formatter, "{} port {port}/{protocol}", self.addresses),
        }
    }
}

/// What [`Steering::set_binds`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Entries that are new or lead elsewhere now.
    pub written: usize,
    /// Entries that are gone.
    pub removed: usize,
}

/// A key, and before it how many of its bits count.
pub(super) type Place = (u32, BindKey);
/// The destination of every place.
pub(super) type Bound = HashMap<Place, u32>;

impl Steering {
    /// Makes the set of steered addresses this one. Writes only what differs, new entries before old ones go, so that an
    /// address in both sets is steered throughout.
    ///
    /// # Errors
    /// [`Error::TooManyBinds`] and [`Error::Contradiction`] before anything is written; those of the kernel, after
    /// which calling it again goes on from where it stopped.
    pub fn set_binds(&mut self, binds: &[Bind]) -> Result<Changes, Error> {
        let wanted = wanted(binds)?;
        let (write, remove) = difference(&self.bound, &wanted);
        for (place, dest) in &write {
            let written = self.binds.insert(
                &Key::new(place.0, Shared(place.1)),
                Shared(Value { dest: *dest }),
                0,
            );
            written.map_err(|error| Error::kernel("adding a steered address", &error))?;
            self.bound.insert(*place, *dest);
        }
        for place in &remove {
            let removed = self.binds.remove(&Key::new(place.0, Shared(place.1)));
            removed.map_err(|error| Error::kernel("removing a steered address", &error))?;
            self.bound.remove(place);
        }
        Ok(Changes {
            written: write.len(),
            removed: remove.len(),
        })
    }
}

/// The entries that a set of binds stands for.
fn wanted(binds: &[Bind]) -> Result<Bound, Error> {
    let mut wanted = Bound::with_capacity(binds.len());
    for bind in binds {
        let earlier = wanted.insert(place(bind), bind.dest.number());
        if earlier.is_some_and(|earlier| earlier != bind.dest.number()) {
            return Err(Error::Contradiction(bind.to_string()));
        }
    }
    if wanted.len() > MAX_BINDS as usize {
        return Err(Error::TooManyBinds(wanted.len()));
    }
    Ok(wanted)
}

/// What to write and what to remove, to get from one set to another.
fn difference(bound: &Bound, wanted: &Bound) -> (Vec<(Place, u32)>, Vec<Place>) {
    let write = wanted
        .iter()
        .filter(|(place, dest)| bound.get(place) != Some(dest));
    let remove = bound.keys().filter(|place| !wanted.contains_key(place));
    (
        write.map(|(place, dest)| (*place, *dest)).collect(),
        remove.copied().collect(),
    )
}

/// Where a bind goes.
fn place(bind: &Bind) -> Place {
    let mut address = [0; 16];
    let family = match bind.addresses.trunc() {
        IpNet::V4(net) => {
            address[..4].copy_from_slice(&net.addr().octets());
            V4
        }
        IpNet::V6(net) => {
            address = net.addr().octets();
            V6
        }
    };
    let protocol = match bind.protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    let prefix = BIND_HEAD_BITS + u32::from(bind.addresses.prefix_len());
    (
        prefix,
        BindKey {
            protocol,
            family,
            port: bind.port.to_be_bytes(),
            address,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::{Bind, Dest, Protocol, difference, place, wanted};
    use crate::Error;

    fn bind(addresses: &str, port: u16, dest: u32) -> Bind {
        Bind {
            protocol: Protocol::Tcp,
            addresses: addresses.parse().unwrap(),
            port,
            dest: Dest::new(dest).unwrap(),
        }
    }

    #[test]
    fn bits_beyond_the_prefix_do_not_count() {
        assert_eq!(
            place(&bind("10.1.2.3/8", 80, 0)),
            place(&bind("10.0.0.0/8", 80, 0))
        );
        assert_ne!(
            place(&bind("10.0.0.0/8", 80, 0)),
            place(&bind("10.0.0.0/9", 80, 0))
        );
        assert_ne!(place(&bind("0.0.0.0/0", 80, 0)), place(&bind("::/0", 80, 0)));
    }

    #[test]
    fn only_what_differs_is_written() {
        let before = wanted(&[bind("10.0.0.1/32", 80, 0), bind("10.0.0.2/32", 80, 0)]).unwrap();
        let after = wanted(&[bind("10.0.0.1/32", 80, 0), bind("10.0.0.2/32", 80, 1)]).unwrap();
        let (write, remove) = difference(&before, &after);
        assert_eq!(write, [(place(&bind("10.0.0.2/32", 80, 1)), 1)]);
        assert!(remove.is_empty());
        let (write, remove) = difference(&after, &wanted(&[]).unwrap());
        assert!(write.is_empty());
        assert_eq!(remove.len(), 2);
    }

    #[test]
    fn one_address_can_not_lead_to_two_places() {
        let twice = [bind("10.0.0.1/32", 80, 0), bind("10.0.0.1/32", 80, 0)];
        assert_eq!(
            wanted(&twice).unwrap().len(),
            1,
            "the same twice is no contradiction"
        );
        let error = wanted(&[twice[0], bind("10.0.0.1/32", 80, 1)]).unwrap_err();
        assert!(
            matches!(&error, Error::Contradiction(what) if what == "10.0.0.1/32 port 80/tcp"),
            "{error}"
        );
    }
}
