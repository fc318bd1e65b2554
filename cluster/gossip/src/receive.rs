//! From datagrams to messages: every check on what comes in, without a socket.

use std::collections::HashMap;
use std::net::SocketAddr;

use constellation_identity::{ClusterId, NodeName};

use crate::counters::Refused;
use crate::envelope::{Sender, open};
use crate::fragment::Assembly;
use crate::key::KeyRing;
use crate::members::Members;

/// How many senders' windows are kept. Only names in the list of members have one, where there is a list.
const SENDERS_LIMIT: usize = 1024;

/// A whole message by a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where the answer goes: what the sender says of itself, not what the packet says.
    pub from: SocketAddr,
    /// For chitchat.
    pub bytes: Vec<u8>,
}

/// Which sequence numbers of a life were seen: the highest, and which of the 127 before it.
struct Window {
    generation: u64,
    highest: u64,
    seen: u128,
}

impl Window {
    fn accept(&mut self, sequence: u64) -> bool {
        if let Some(ahead) = sequence.checked_sub(self.highest).filter(|ahead| *ahead > 0) {
            self.seen = u32::try_from(ahead)
                .ok()
                .and_then(|ahead| self.seen.checked_shl(ahead))
                .unwrap_or(0)
                | 1;
            self.highest = sequence;
            return true;
        }
        let behind = u32::try_from(self.highest - sequence).unwrap_or(u32::MAX);
        let Some(bit) = 1_u128.checked_shl(behind).filter(|bit| self.seen & bit == 0) else {
            return false;
        };
        self.seen |= bit;
        true
    }
}

/// The receiving side of a node.
#[derive(Default)]
pub struct Receiver {
    windows: HashMap<NodeName, Window>,
    assembly: Assembly,
}

impl Receiver {
    /// Takes a datagram. None: accepted, but its message is not whole yet.
    pub fn accept(
        &mut self,
        keys: &KeyRing,
        cluster: ClusterId,
        members: &Members,
        datagram: &[u8],
    ) -> Result<Option<Message>, Refused> {
        let part = open(keys, cluster, datagram)?;
        if !members.admits(&part.sender.name, part.sender.generation) {
            return Err(Refused::NotAMember);
        }
        self.fresh(&part.sender, part.sequence)?;
        let from = part.sender.address;
        Ok(self.assembly.add(part).map(|bytes| Message { from, bytes }))
    }

    fn fresh(&mut self, sender: &Sender, sequence: u64) -> Result<(), Refused> {
        if self.windows.len() >= SENDERS_LIMIT && !self.windows.contains_key(&sender.name) {
            // Not reached by a cluster; forgetting costs the protection against replays, not the memory.
            self.windows.clear();
        }
        let new = Window {
            generation: sender.generation,
            highest: sequence,
            seen: 0,
        };
        let window = self.windows.entry(sender.name.clone()).or_insert(new);
        if sender.generation < window.generation {
            return Err(Refused::FormerLife);
        }
        if sender.generation > window.generation {
            *window = Window {
                generation: sender.generation,
                highest: sequence,
                seen: 0,
            };
        }
        if window.accept(sequence) {
            Ok(())
        } else {
            Err(Refused::Replay)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Part, seal};
    use crate::fragment::cut;
    use crate::key::GossipKey;

    struct Bench {
        key: GossipKey,
        cluster: ClusterId,
        receiver: Receiver,
        members: Members,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                key: GossipKey::generate().unwrap(),
                cluster: ClusterId::from_bytes([1; 16]),
                receiver: Receiver::default(),
                members: Members::anybody(),
            }
        }

        fn sealed(&self, name: &str, generation: u64, sequence: u64) -> Vec<u8> {
            let sender = Sender {
                name: name.parse().unwrap(),
                generation,
                address: "10.0.0.1:1".parse().unwrap(),
            };
            let part = Part {
                sender,
                sequence,
                index: 0,
                count: 1,
                body: vec![1],
            };
            seal(&self.key, self.cluster, &part).unwrap()
        }

        fn take(&mut self, datagram: &[u8]) -> Result<Option<Message>, Refused> {
            let ring = KeyRing::new(self.key.clone());
            self.receiver.accept(&ring, self.cluster, &self.members, datagram)
        }

        fn say(&mut self, name: &str, generation: u64, sequence: u64) -> Result<Option<Message>, Refused> {
            let datagram = self.sealed(name, generation, sequence);
            self.take(&datagram)
        }
    }

    #[test]
    fn a_replay_is_refused_and_disorder_is_not() {
        let mut bench = Bench::new();
        let recorded = bench.sealed("a", 1, 1000);
        assert!(bench.take(&recorded).is_ok());
        assert_eq!(bench.take(&recorded), Err(Refused::Replay));
        for (sequence, fine) in [
            (1003, true),
            (1001, true),
            (1001, false),
            (1002, true),
            (1003, false),
            (1000, false),
            (876, true),
            (876, false),
            (875, false),
            (5000, true),
            (5000, false),
            (4999, true),
            (4873, true),
            (4872, false),
            (u64::MAX, true),
            (5001, false),
            (0, false),
            (u64::MAX - 1, true),
            (u64::MAX, false),
        ] {
            let outcome = bench.say("a", 1, sequence);
            assert_eq!(outcome.is_ok(), fine, "{sequence}");
        }
        assert!(bench.say("b", 1, 1000).is_ok(), "windows are each sender's own");
    }

    #[test]
    fn the_highest_life_counts() {
        let mut bench = Bench::new();
        assert!(bench.say("a", 5, 100).is_ok());
        assert!(bench.say("a", 6, 1).is_ok());
        assert_eq!(bench.say("a", 5, 101), Err(Refused::FormerLife));
        assert!(bench.say("a", 6, 2).is_ok());
    }

    #[test]
    fn a_removed_node_is_refused_whatever_it_says() {
        let mut bench = Bench::new();
        let name: NodeName = "a".parse().unwrap();
        assert!(bench.say("a", 5, 1).is_ok());
        bench.members.remove(&name, 5);
        assert_eq!(bench.say("a", 5, 2), Err(Refused::NotAMember));
        assert!(bench.say("a", 6, 1).is_ok(), "it joined again");
        bench.members = Members::listed(["b".parse().unwrap()]);
        assert_eq!(bench.say("a", 6, 2), Err(Refused::NotAMember));
    }

    #[test]
    fn refused_datagrams_leave_no_trace() {
        let mut bench = Bench::new();
        bench.members = Members::listed(["b".parse().unwrap()]);
        for sequence in 0..10 {
            assert_eq!(bench.say("a", u64::MAX, sequence), Err(Refused::NotAMember));
        }
        bench.members = Members::anybody();
        assert!(bench.say("a", 1, 1).is_ok());
    }

    #[test]
    fn long_messages_are_whole_and_answered_to_the_sender() {
        let mut bench = Bench::new();
        let sender = Sender {
            name: "a".parse().unwrap(),
            generation: 1,
            address: "10.0.0.9:7946".parse().unwrap(),
        };
        let long: Vec<u8> = (0..50_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let datagrams: Vec<_> = cut(&sender, 7, &long)
            .unwrap()
            .iter()
            .map(|part| seal(&bench.key, bench.cluster, part).unwrap())
            .collect();
        assert!(datagrams.len() > 40);
        let messages: Vec<_> = datagrams
            .iter()
            .rev()
            .filter_map(|datagram| bench.take(datagram).unwrap())
            .collect();
        assert_eq!(
            messages,
            [Message {
                from: sender.address,
                bytes: long
            }]
        );
    }

    #[test]
    fn memory_is_bounded() {
        let mut bench = Bench::new();
        for number in 0..SENDERS_LIMIT + 10 {
            assert!(bench.say(&format!("n{number}"), 1, 1).is_ok());
        }
        assert!(bench.receiver.windows.len() <= SENDERS_LIMIT);
    }
}
