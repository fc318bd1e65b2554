//! The layouts of `edge_chase`: which addresses came here from another node, and who that was.
//!
//! Addresses of both families are 16 bytes, IPv4 as `::ffff:a.b.c.d`.

use crate::{assert_layout, counters};

/// Name of the program.
pub const PROGRAM: &str = "edge_chase";
/// Map `CHASE_CONFIG`: an array of one [`Config`].
pub const CONFIG: &str = "CHASE_CONFIG";
/// Map `CHASE_MOVED`: an LPM trie from an address to [`Previous`].
pub const MOVED: &str = "CHASE_MOVED";
/// Map `CHASE_PORTS`: an array of `u64`, a bit for each TCP port whose connections end at sockets of this host.
pub const PORTS: &str = "CHASE_PORTS";
/// Map `CHASE_SYNS`: an array of `u64`, two [`Syn::print`]s each.
pub const SYNS: &str = "CHASE_SYNS";
/// Map `CHASE_STATS`: a per-CPU array of `u64`, indexed by [`Verdict`].
pub const STATS: &str = "CHASE_STATS";

/// Most prefixes that can have moved.
pub const MAX_MOVED: u32 = 4096;
/// Words of `CHASE_PORTS`.
pub const PORT_WORDS: u32 = 65_536 / 64;
/// Entries of `CHASE_SYNS`, a power of two: 2 MB. With 100,000 other SYNs between a SYN and the client's next packet, as
/// in a flood of a million a second, one in 18 is forgotten.
pub const SYN_SLOTS: u32 = 1 << 18;

/// How often a packet may be chased in all, by whatever nodes: as long a chain of holders as is followed, and the end
/// of any loop.
pub const MAX_HOPS: u8 = 2;

/// What holds for all packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// The latest [`Previous::until`]. From then on no packet is looked at.
    pub until: u64,
    /// Random, so that nobody outside knows which SYNs share an entry.
    pub seed: u64,
}

assert_layout!(Config, 16, until @ 0, seed @ 8);

/// Who held an address before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Previous {
    /// Nanoseconds of `CLOCK_BOOTTIME` from which on nothing goes there.
    pub until: u64,
    /// Index of the device at whose network it is.
    pub device: u32,
    /// [`crate::steer::V4`] or [`crate::steer::V6`], of `address`. An IPv6 address that moved needs the latter.
    pub family: u32,
    /// An address of its own, directly at that network, as 4 or 16 bytes.
    pub address: [u8; 16],
}

assert_layout!(Previous, 32, until @ 0, device @ 8, family @ 12, address @ 16);

/// A SYN, or the answer to what answered it.
///
/// Where the kernel answers SYNs with cookies it keeps nothing, and the client's next packet looks like one of a connection
/// that it does not know. So the program remembers SYNs itself. The initial sequence number is part of it: who would have
/// a connection of somebody else taken for a new one by a forged SYN had to guess it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syn {
    /// Who asked.
    pub client: [u8; 16],
    /// For what.
    pub address: [u8; 16],
    /// In network order.
    pub client_port: [u8; 2],
    /// In network order.
    pub port: [u8; 2],
    /// The client's initial sequence number.
    pub sequence: u32,
}

impl Syn {
    /// The entry of `CHASE_SYNS`, and what stands for this SYN in it; never 0.
    #[must_use]
    #[inline(always)]
    pub const fn place(&self, seed: u64) -> (u32, u32) {
        let [a, b] = halves(&self.client);
        let [c, d] = halves(&self.address);
        let ports = [
            self.client_port[0],
            self.client_port[1],
            self.port[0],
            self.port[1],
        ];
        let rest = (u32::from_ne_bytes(ports) as u64) << 32 | self.sequence as u64;
        let mut hash = mix(mix(mix(mix(mix(seed, a), b), c), d), rest);
        // The last steps of MurmurHash3 (fmix64): every bit of the input reaches every bit of the result.
        hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^= hash >> 33;
        (hash as u32 % SYN_SLOTS, (hash >> 32) as u32 | 1)
    }
}

/// Puts a print into an entry, in the place of the older of two.
#[must_use]
#[inline(always)]
pub const fn remember(entry: u64, print: u32) -> u64 {
    if remembers(entry, print) {
        entry
    } else {
        entry << 32 | print as u64
    }
}

/// Whether an entry has a print.
#[must_use]
#[inline(always)]
pub const fn remembers(entry: u64, print: u32) -> bool {
    entry as u32 == print || (entry >> 32) as u32 == print
}

#[inline(always)]
const fn halves(address: &[u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    [
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
    ]
}

#[inline(always)]
const fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

/// The hop limit (TTL) that a packet goes on with, if it may be chased: never more than [`MAX_HOPS`], and less than it came
/// with. A packet that is delivered needs none, and nobody on its way raises it.
#[must_use]
#[inline(always)]
pub const fn hops_left(hop_limit: u8) -> Option<u8> {
    match hop_limit {
        0 | 1 => None,
        hops if hops > MAX_HOPS => Some(MAX_HOPS),
        hops => Some(hops - 1),
    }
}

counters! {
    /// What the program can say about a packet, and its counter in `CHASE_STATS`.
    Verdict {
        /// No address has moved here lately.
        Idle = "idle",
        /// Not for this host, as a device sees it that listens to everything.
        NotHost = "not_host",
        /// Neither IPv4 nor IPv6.
        NotIp = "not_ip",
        /// Of a VLAN, which has a device of its own.
        Tagged = "tagged",
        /// Headers that end before they should. The network stack drops those itself, and counts them.
        Malformed = "malformed",
        /// For an address that did not move.
        NotMoved = "not_moved",
        /// For an address that moved, but too long ago.
        Expired = "expired",
        /// More or longer extension headers than anybody needs.
        Overlong = "overlong",
        /// A fragment: whose it is only shows when all are there.
        Fragment = "fragment",
        /// Neither TCP nor an error about it.
        NotTcp = "not_tcp",
        /// TCP to a port that is not ours.
        NotPort = "not_port",
        /// Begins a connection, which is this node's.
        Opening = "opening",
        /// Of a connection that this node knows.
        Known = "known",
        /// Answers a SYN that came here and of which the kernel keeps nothing: a cookie comes back.
        Awaited = "awaited",
        /// Of a connection that this node does not know, but was chased too often already.
        HopLimit = "hop_limit",
        /// Of a connection that this node does not know: sent to the previous holder.
        Chased = "chased",
        /// An ICMP error about such a connection: sent to the previous holder.
        ChasedError = "chased_error",
        /// Would have been chased, but the kernel had no memory for it: dropped, so that the client tries again.
        Failed = "failed",
    }
}

impl Verdict {
    /// Whether the packet goes to the previous holder.
    #[must_use]
    #[inline(always)]
    pub const fn is_chased(self) -> bool {
        matches!(self, Self::Chased | Self::ChasedError)
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_HOPS, SYN_SLOTS, Syn, hops_left, remember, remembers};

    const SYN: Syn = Syn {
        client: [1; 16],
        address: [2; 16],
        client_port: [3, 4],
        port: [5, 6],
        sequence: 7,
    };

    #[test]
    fn every_part_of_a_syn_counts() {
        let others = [
            Syn {
                client: [9; 16],
                ..SYN
            },
            Syn {
                address: [9; 16],
                ..SYN
            },
            Syn {
                client_port: [9; 2],
                ..SYN
            },
            Syn { port: [9; 2], ..SYN },
            Syn { sequence: 9, ..SYN },
        ];
        let swapped = Syn {
            client: SYN.address,
            address: SYN.client,
            ..SYN
        };
        for other in others.into_iter().chain([swapped]) {
            assert_ne!(SYN.place(0), other.place(0), "{other:?}");
        }
        assert_ne!(SYN.place(0), SYN.place(1), "the seed");
        assert!(SYN.place(0).0 < SYN_SLOTS && SYN.place(0).1 != 0);
    }

    #[test]
    fn syns_spread_over_the_entries() {
        // As many as there are entries: 1/e of them stay empty if all are as likely (0.3679).
        let mut hit = [0_u64; SYN_SLOTS as usize / 64];
        for sequence in 0..SYN_SLOTS {
            let (slot, _) = Syn { sequence, ..SYN }.place(0x1234);
            hit[slot as usize / 64] |= 1 << (slot % 64);
        }
        let empty: u32 = hit.iter().map(|word| word.count_zeros()).sum();
        let share = f64::from(empty) / f64::from(SYN_SLOTS);
        assert!((0.36..0.376).contains(&share), "{share}");
    }

    #[test]
    fn an_entry_keeps_the_last_two() {
        let entry = remember(remember(remember(0, 1), 2), 2);
        assert!(remembers(entry, 1) && remembers(entry, 2));
        let entry = remember(entry, 3);
        assert!(!remembers(entry, 1) && remembers(entry, 2) && remembers(entry, 3));
    }

    #[test]
    fn a_packet_is_chased_so_often_and_no_more() {
        for hop_limit in 0..=u8::MAX {
            let chased = core::iter::successors(hops_left(hop_limit), |hops| hops_left(*hops)).count();
            let expected = usize::from(MAX_HOPS).min(usize::from(hop_limit.saturating_sub(1)));
            assert_eq!(chased, expected, "{hop_limit}");
        }
    }
}
