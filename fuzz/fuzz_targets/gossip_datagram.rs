//! Whatever comes in on the gossip port, and whatever a member seals: refused or put together, within bounds, and nothing
//! that is not sealed under a known key is more than refused.
#![no_main]

use std::sync::LazyLock;

use constellation_gossip::envelope::{self, PARTS_LIMIT, Part, Sender};
use constellation_gossip::{DATAGRAM_LIMIT, GossipKey, KeyRing, Members, Receiver, Refused};
use constellation_identity::ClusterId;
use libfuzzer_sys::fuzz_target;

static KEY: LazyLock<GossipKey> = LazyLock::new(|| GossipKey::new([7; 32]).expect("HKDF works"));

fuzz_target!(|input: (Vec<u8>, Vec<(u8, u8, u8, u8, Vec<u8>)>)| {
    let (raw, parts) = input;
    let (ring, cluster, members) = (
        KeyRing::new(KEY.clone()),
        ClusterId::from_bytes([1; 16]),
        Members::anybody(),
    );
    let mut receiver = Receiver::default();
    let refused = receiver
        .accept(&ring, cluster, &members, &raw)
        .expect_err("nobody can seal without the key");
    assert!(matches!(
        refused,
        Refused::Size | Refused::Foreign | Refused::Format | Refused::Key | Refused::Forged
    ));
    if let Some(part) = envelope::parse(&raw) {
        assert!(part.index < part.count && part.count <= PARTS_LIMIT && !part.body.is_empty());
    }

    for (name, sequence, index, count, mut body) in parts {
        body.truncate(1000);
        let sender = Sender {
            name: format!("n{}", name % 4).parse().expect("a name"),
            generation: u64::from(name / 4),
            address: ([10, 0, 0, 1], 7946).into(),
        };
        let part = Part {
            sender,
            sequence: sequence.into(),
            index,
            count,
            body,
        };
        let datagram = envelope::seal(&KEY, cluster, &part).expect("sealed");
        assert!(datagram.len() <= DATAGRAM_LIMIT);
        let first = receiver.accept(&ring, cluster, &members, &datagram);
        if let Ok(Some(message)) = &first {
            assert!(!message.bytes.is_empty() && message.bytes.len() <= usize::from(PARTS_LIMIT) * 1000);
        }
        let again = receiver.accept(&ring, cluster, &members, &datagram);
        assert!(again.is_err(), "a datagram is taken once");
    }
});
