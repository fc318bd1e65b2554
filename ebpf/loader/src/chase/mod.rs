//! `edge_chase`: which addresses came here from another node, and who that was.
//!
//! [`Chase::open`] changes nothing for the traffic, and neither does [`Chase::attach`], until [`Chase::set_previous`] says
//! that an address has moved. Then packets of connections that this node does not know go to the previous holder, until a
//! deadline in the kernel's own clock. To lose none, call it before the address moves.
//!
//! As with the other programs, dropping this leaves everything pinned and in force; a successor takes it over, with
//! what has moved. A chase ends by itself.

mod attachment;
mod load;
mod neighbour;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) use attachment::detach_clsact;
use aya::Ebpf;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, LpmTrie, MapData, PerCpuArray};
use aya::programs::SchedClassifier;
use constellation_ebpf_abi::chase::{self as abi, Config, MAX_MOVED, PORT_WORDS, Verdict};
use constellation_ebpf_abi::guard::port_bit;
use constellation_ebpf_abi::steer::{TCP, V4, V6};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::cost::Cost;
use crate::guard::{Device, Hook};
use crate::layout::Shared;
use crate::pins::Pins;
use crate::{BootTime, Error, Lock, Origin};

/// The handle of `edge_chase` and its maps.
pub struct Chase {
    lock: Lock,
    /// Nothing for a probe.
    pins: Option<Pins>,
    origin: Origin,
    ebpf: Ebpf,
    config: Array<MapData, Shared<Config>>,
    moved: LpmTrie<MapData, [u8; 16], Shared<abi::Previous>>,
    ports: Array<MapData, u64>,
    stats: PerCpuArray<MapData, u64>,
    /// Where this process attached it, by the device's index.
    attached: BTreeMap<u32, (Device, Hook)>,
}

impl fmt::Debug for Chase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Chase");
        shown
            .field("namespace", &self.lock.namespace())
            .field("origin", &self.origin);
        shown.field("attached", &self.attached).finish_non_exhaustive()
    }
}

/// Who held an address before, and until when its connections go there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    /// An address of the node's own, at a network that both are at.
    pub address: IpAddr,
    /// The end.
    pub until: BootTime,
}

/// What the program did with a made-up packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the kernel is to do.
    pub action: Action,
    /// The packet afterwards.
    pub packet: Vec<u8>,
    /// Nanoseconds of one run, as the kernel measured them.
    pub nanos: u32,
}

/// What the program can ask of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Go on: to other programs, and to the network stack.
    Pass,
    /// Send it to the previous holder.
    Send,
    /// Drop it.
    Drop,
}

impl Chase {
    /// Loads the program and opens what is pinned, or pins new maps in which nothing has moved. Attaches nothing.
    ///
    /// # Errors
    /// When rights are missing, or the kernel is too old (before 5.10).
    pub fn open(lock: &Lock) -> Result<Self, Error> {
        let pins = Pins::new(lock.namespace())?;
        Self::load(lock, Some(pins))
    }

    /// Where the maps came from.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The TCP ports whose connections end at sockets of this host, and only those: connections that netfilter sends on to
    /// a container have no socket here, and would be taken for unknown ones.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn set_ports(&mut self, ports: &[u16]) -> Result<(), Error> {
        let mut words = vec![0; PORT_WORDS as usize];
        for port in ports {
            let (word, bit) = port_bit(TCP, *port);
            if let Some(bits) = words.get_mut(word as usize) {
                *bits |= bit;
            }
        }
        for (word, bits) in (0..).zip(words) {
            let written = self.ports.set(word, bits, 0);
            written.map_err(|error| Error::kernel("writing the ports", &error))?;
        }
        Ok(())
    }

    /// From now on, and until the deadline, packets for these addresses that belong to connections that this node does not
    /// know go to their previous holder; with `None`, they no longer do. The longest prefix that fits an address counts.
    ///
    /// # Errors
    /// When the previous holder is this node, or no neighbour at any device that the program is attached to; then nothing
    /// changes. Those of the kernel.
    pub fn set_previous(&mut self, addresses: IpNet, previous: Option<Previous>) -> Result<(), Error> {
        let key = key(addresses);
        let Some(previous) = previous else {
            let removed = self.moved.remove(&key);
            match removed.map_err(|error| Error::kernel("removing an address that moved", &error)) {
                Err(Error::Kernel {
                    errno: Some(nix::libc::ENOENT),
                    ..
                }) => {}
                other => other?,
            }
            return self.write_config();
        };
        let address = previous.address.to_canonical();
        if addresses.addr().is_ipv6() && address.is_ipv4() {
            return Err(Error::OtherFamily {
                moved: addresses,
                previous: address,
            });
        }
        let device = neighbour::device_of(address, self.attached.values().map(|(device, _)| device))?;
        let (family, octets) = match address {
            IpAddr::V4(address) => {
                let mut octets = [0; 16];
                octets[..4].copy_from_slice(&address.octets());
                (V4, octets)
            }
            IpAddr::V6(address) => (V6, address.octets()),
        };
        self.write_previous(
            &key,
            abi::Previous {
                until: previous.until.as_nanos(),
                device,
                family: family.into(),
                address: octets,
            },
        )
    }

    pub(crate) fn write_previous(
        &mut self,
        key: &Key<[u8; 16]>,
        previous: abi::Previous,
    ) -> Result<(), Error> {
        let moved = self.previous()?;
        let is_new = !moved.iter().any(|(net, _)| self::key(*net).data() == key.data());
        if is_new && moved.len() >= MAX_MOVED as usize {
            return Err(Error::TooManyMoved(moved.len() + 1));
        }
        let written = self.moved.insert(key, Shared(previous), 0);
        written.map_err(|error| Error::kernel("writing an address that moved", &error))?;
        self.write_config()
    }

    /// What has moved here, also what a process before was told of, and what is over by now.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn previous(&self) -> Result<Vec<(IpNet, Previous)>, Error> {
        let entries = self.moved.iter().map(|entry| {
            let (key, Shared(previous)) =
                entry.map_err(|error| Error::kernel("reading the addresses that moved", &error))?;
            let [a, b, c, d, ..] = previous.address;
            let address = if previous.family == u32::from(V6) {
                Ipv6Addr::from(previous.address).into()
            } else {
                Ipv4Addr::new(a, b, c, d).into()
            };
            let until = BootTime::from_nanos(previous.until);
            Ok((net(key.prefix_len(), key.data()), Previous { address, until }))
        });
        entries.collect()
    }

    /// Forgets what was over at `now`. It has no effect any more, but takes room.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn forget_expired(&mut self, now: BootTime) -> Result<(), Error> {
        for (net, previous) in self.previous()? {
            if previous.until <= now {
                self.set_previous(net, None)?;
            }
        }
        Ok(())
    }

    /// How often the program said what, since the maps were made, at all devices together.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn stats(&self) -> Result<Vec<(Verdict, u64)>, Error> {
        let sums = crate::maps::sums(&self.stats, abi::STATS)?;
        Ok(Verdict::ALL.iter().copied().zip(sums).collect())
    }

    /// The size of the program in the kernel.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn cost(&mut self) -> Result<Cost, Error> {
        let info = self.classifier()?.info();
        info.map(|info| Cost::of(&info))
            .map_err(|error| Error::kernel("asking for the program", &error))
    }

    /// Runs the program `repeat` times on a made-up frame, as the loopback device would receive it: it takes what is for the
    /// address `00:00:00:00:00:00`. With more than one run the packet has passed through all of them.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn test(&mut self, frame: &[u8], repeat: u32) -> Result<Outcome, Error> {
        use aya::TestRun as _;
        let mut packet = vec![0; frame.len() + 64];
        let options = aya::TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut packet),
            repeat,
            ..aya::TestRunOptions::new()
        };
        let result = self
            .classifier()?
            .test_run(options)
            .map_err(|error| Error::kernel("running edge_chase", &error))?;
        packet.truncate(result.data_size_out as usize);
        let action = match result.return_value {
            7 => Action::Send,
            2 => Action::Drop,
            _ => Action::Pass,
        };
        let nanos = u32::try_from(result.duration.as_nanos()).unwrap_or(u32::MAX);
        Ok(Outcome {
            action,
            packet,
            nanos,
        })
    }

    /// Tells the program the latest deadline of all, after which it looks at nothing.
    fn write_config(&mut self) -> Result<(), Error> {
        let previous = self.previous()?;
        let until = previous
            .iter()
            .map(|(_, previous)| previous.until.as_nanos())
            .max();
        let Shared(before) = self
            .config
            .get(&0, 0)
            .map_err(|error| Error::kernel("reading the configuration of edge_chase", &error))?;
        let seed = match before.seed {
            // Never drawn, but in one of 2^64 cases.
            0 => load::seed(),
            seed => seed,
        };
        let config = Config {
            until: until.unwrap_or(0),
            seed,
        };
        let written = self.config.set(0, Shared(config), 0);
        written.map_err(|error| Error::kernel("writing the configuration of edge_chase", &error))
    }

    /// The program, loaded.
    fn classifier(&mut self) -> Result<&mut SchedClassifier, Error> {
        let name = abi::PROGRAM;
        let found = self.ebpf.program_mut(name).ok_or(Error::Object(name))?;
        let classifier: &mut SchedClassifier = found.try_into().map_err(|_| Error::Object(name))?;
        if classifier.fd().is_err() {
            classifier
                .load()
                .map_err(|error| Error::kernel(format!("loading {name}"), &error))?;
        }
        Ok(classifier)
    }
}

pub(crate) fn key(addresses: IpNet) -> Key<[u8; 16]> {
    match addresses.trunc() {
        IpNet::V4(net) => Key::new(
            96 + u32::from(net.prefix_len()),
            net.addr().to_ipv6_mapped().octets(),
        ),
        IpNet::V6(net) => Key::new(net.prefix_len().into(), net.addr().octets()),
    }
}

fn net(bits: u32, address: [u8; 16]) -> IpNet {
    let address = Ipv6Addr::from(address);
    let bits = u8::try_from(bits).unwrap_or(128).min(128);
    match (address.to_ipv4_mapped(), bits.checked_sub(96)) {
        (Some(address), Some(bits)) => Ipv4Net::new_assert(address, bits).into(),
        _ => Ipv6Net::new_assert(address, bits).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{key, net};

    #[test]
    fn prefixes_come_back_as_they_were() {
        for text in [
            "10.1.2.3/32",
            "10.1.0.0/16",
            "0.0.0.0/0",
            "fd00::1/128",
            "fd00::/8",
            "::/0",
        ] {
            let key = key(text.parse().unwrap());
            assert_eq!(net(key.prefix_len(), key.data()).to_string(), text);
        }
    }
}
