//! How fast a source may open connections and flows, and to which ports that applies.

use std::time::Duration;

use constellation_ebpf_abi::bucket::Limit;
use constellation_ebpf_abi::guard::{Config, PORT_WORDS, port_bit};
use constellation_ebpf_abi::steer::{TCP, UDP};

use super::Guard;
use crate::Error;
use crate::layout::Shared;
use crate::steering::Protocol;

/// Tokens of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// That many a second; 0 for no limit.
    pub per_second: u32,
    /// That many at once after a pause.
    pub burst: u32,
}

/// What applies to every source; of IPv6 a /64 is one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// New TCP connections (SYN) to guarded ports.
    pub connections: Rate,
    /// New UDP flows to guarded ports.
    pub flows: Rate,
    /// After so much silence a UDP flow is a new one.
    pub flow_idle: Duration,
    /// Between two events about one source or prefix.
    pub event_gap: Duration,
    /// Events of all sources together.
    pub events: Rate,
}

impl Default for Limits {
    /// No limits. A flow is known for 30 s, as in `nf_conntrack_udp_timeout`; one event in 10 s for each source, and 20
    /// a second in all, are what an operator can still read.
    fn default() -> Self {
        Self {
            connections: Rate::default(),
            flows: Rate::default(),
            flow_idle: Duration::from_secs(30),
            event_gap: Duration::from_secs(10),
            events: Rate {
                per_second: 20,
                burst: 100,
            },
        }
    }
}

impl Guard {
    /// Sets the limits. They hold from the next packet on; what a source has used up stays used up.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn set_limits(&mut self, limits: &Limits) -> Result<(), Error> {
        let config = Config {
            syn: limit(limits.connections),
            udp: limit(limits.flows),
            events: limit(limits.events),
            flow_idle: nanos(limits.flow_idle),
            event_gap: nanos(limits.event_gap),
            lists: self.lists,
            reserved: 0,
        };
        let set = self.config.set(0, Shared(config), 0);
        set.map_err(|error| Error::kernel("setting the guard's limits", &error))
    }

    /// Makes these the ports that limits apply to; port 0 stands for all of a protocol. Deny and allow lists apply to
    /// everything, whatever the port.
    ///
    /// # Errors
    /// Those of the kernel, after which calling it again goes on from where it stopped.
    pub fn set_guarded_ports(&mut self, ports: &[(Protocol, u16)]) -> Result<(), Error> {
        let failed = |error| Error::kernel("setting the guarded ports", &error);
        for (index, word) in (0..).zip(words(ports)) {
            if self.ports.get(&index, 0).map_err(failed)? != word {
                self.ports.set(index, word, 0).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// The map as it should be.
fn words(ports: &[(Protocol, u16)]) -> Vec<u64> {
    let mut words = vec![0; PORT_WORDS as usize];
    for (protocol, port) in ports {
        let protocol = match protocol {
            Protocol::Tcp => TCP,
            Protocol::Udp => UDP,
        };
        let (first, bit) = port_bit(protocol, *port);
        if *port == 0 {
            let half = words
                .iter_mut()
                .skip(first as usize)
                .take(PORT_WORDS as usize / 2);
            half.for_each(|word| *word = u64::MAX);
        } else if let Some(word) = words.get_mut(first as usize) {
            *word |= bit;
        }
    }
    words
}

const fn limit(rate: Rate) -> Limit {
    Limit::per_second(rate.per_second, rate.burst)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::words;
    use crate::steering::Protocol;

    #[test]
    fn any_port_stands_for_all_of_its_protocol_only() {
        let all = words(&[(Protocol::Udp, 0)]);
        assert!(all[..1024].iter().all(|word| *word == 0));
        assert!(all[1024..].iter().all(|word| *word == u64::MAX));
        let some = words(&[(Protocol::Tcp, 80), (Protocol::Tcp, 443)]);
        assert_eq!(some.iter().map(|word| word.count_ones()).sum::<u32>(), 2);
        assert_eq!((some[1], some[6]), (1 << 16, 1 << 59));
    }
}
