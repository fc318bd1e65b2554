//! The layouts of `edge_guard`: who may come in, how fast, and what is told about it.
//!
//! Addresses of both families are 16 bytes where they share a map, IPv4 as `::ffff:a.b.c.d`.

use crate::bucket::Limit;
use crate::{assert_layout, counters};

/// The program for devices whose packets begin with an Ethernet header, at TCX or clsact.
pub const PROGRAM_L2: &str = "edge_guard_l2";
/// The program for devices whose packets begin with an IP header (tun, WireGuard), at TCX or clsact.
pub const PROGRAM_L3: &str = "edge_guard_l3";
/// The program for XDP, which only devices with Ethernet headers have.
pub const PROGRAM_XDP: &str = "edge_guard_xdp";

/// Map `GUARD_CONFIG`: an array of one [`Config`].
pub const CONFIG: &str = "GUARD_CONFIG";
/// Map `GUARD_PORTS`: an array of `u64`, a bit for each guarded port; see [`port_bit`].
pub const PORTS: &str = "GUARD_PORTS";
/// Map `GUARD_ALLOW4`: an LPM trie from four bytes to a `u32` that means nothing.
pub const ALLOW4: &str = "GUARD_ALLOW4";
/// Map `GUARD_ALLOW6`: the same with 16 bytes.
pub const ALLOW6: &str = "GUARD_ALLOW6";
/// Map `GUARD_DENY4`: an LPM trie from four bytes to [`Deny`], for prefixes of all lengths but [`EXACT_BITS4`].
pub const DENY4: &str = "GUARD_DENY4";
/// Map `GUARD_DENY6`: the same with 16 bytes, but [`EXACT_BITS6`].
pub const DENY6: &str = "GUARD_DENY6";
/// Map `GUARD_EXACT4`: a hash from [`ExactKey`] to [`Deny`], for prefixes of the lengths [`EXACT_BITS4`].
pub const EXACT4: &str = "GUARD_EXACT4";
/// Map `GUARD_EXACT6`: the same for [`EXACT_BITS6`].
pub const EXACT6: &str = "GUARD_EXACT6";
/// Map `GUARD_BUCKETS`: an LRU hash from [`BucketKey`] to [`Bucket`].
pub const BUCKETS: &str = "GUARD_BUCKETS";
/// Map `GUARD_FLOWS`: an LRU hash from [`FlowKey`] to the time of its last packet.
pub const FLOWS: &str = "GUARD_FLOWS";
/// Map `GUARD_PACE`: an array of one `u64`, the bucket that all events share.
pub const PACE: &str = "GUARD_PACE";
/// Map `GUARD_STATS`: a per-CPU array of `u64`, indexed by [`Verdict`].
pub const STATS: &str = "GUARD_STATS";
/// Map `GUARD_EVENTS`: a ring buffer of [`Event`].
pub const EVENTS: &str = "GUARD_EVENTS";

/// Most denied prefixes of each map. Unused ones cost nothing.
pub const MAX_DENY: u32 = 131_072;
/// Lengths that have a hash of their own, which is three to four times as fast as the trie when there are ten thousand
/// prefixes: a host, and what is routed as one.
pub const EXACT_BITS4: [u32; 3] = [32, 24, 16];
/// The same for IPv6: a host, a customer's network, a customer's site.
pub const EXACT_BITS6: [u32; 3] = [128, 64, 48];
/// The bit of [`Config::lists`] that stands for the first of [`EXACT_BITS4`]; the others follow, and then the trie's.
pub const LISTS4: u32 = 0;
/// The same for IPv6.
pub const LISTS6: u32 = 8;
/// Most allowed prefixes of each family.
pub const MAX_ALLOW: u32 = 4096;
/// Sources with a bucket at once. The one that was used longest ago gives way.
pub const MAX_BUCKETS: u32 = 65_536;
/// UDP flows that are known at once, likewise.
pub const MAX_FLOWS: u32 = 65_536;
/// Bytes of the ring buffer: 5,000 events.
pub const EVENTS_SIZE: u32 = 256 * 1024;
/// Words of `GUARD_PORTS`: TCP's, then UDP's.
pub const PORT_WORDS: u32 = 2 * 65_536 / 64;

/// VLAN tags that are looked behind: a provider's and a customer's.
pub const MAX_VLAN_TAGS: usize = 2;
/// IPv6 extension headers that are looked behind. More than two in one packet are hardly ever seen (RFC 7872).
pub const MAX_EXTENSIONS: usize = 8;
/// Bytes at the start of a packet within which its headers must end.
pub const MAX_HEADERS: usize = 256;

/// The rates, and what counts as new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Config {
    /// Connections that a source may open to guarded TCP ports.
    pub syn: Limit,
    /// Flows that a source may begin towards guarded UDP ports.
    pub udp: Limit,
    /// All events together.
    pub events: Limit,
    /// Nanoseconds of silence after which a UDP flow is a new one.
    pub flow_idle: u64,
    /// Nanoseconds between two events about one source or prefix.
    pub event_gap: u64,
    /// Which deny lists have entries: see [`LISTS4`]. The others are not even looked at.
    pub lists: u32,
    /// Zero.
    pub reserved: u32,
}

assert_layout!(
    Config,
    72,
    syn @ 0,
    udp @ 16,
    events @ 32,
    flow_idle @ 48,
    event_gap @ 56,
    lists @ 64,
    reserved @ 68,
);

/// A denied prefix of a usual length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ExactKey<A> {
    /// Four or 16 bytes; bits beyond the length are 0.
    pub address: A,
    /// Bits that count.
    pub bits: u32,
}

assert_layout!(ExactKey<[u8; 4]>, 8, address @ 0, bits @ 4);
assert_layout!(ExactKey<[u8; 16]>, 20, address @ 0, bits @ 16);

/// A denied prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Deny {
    /// Nanoseconds of `CLOCK_BOOTTIME` from which on it no longer counts; 0 for never.
    pub until: u64,
    /// When an event last told of it; written by the program.
    pub told_at: u64,
    /// Why, as the daemon numbers reasons.
    pub reason: u32,
    /// The low half of the jiffies at which the program last read the clock to see whether it is time to tell; written by
    /// the program.
    pub looked_at: u32,
}

assert_layout!(Deny, 24, until @ 0, told_at @ 8, reason @ 16, looked_at @ 20);

/// Jiffies between two looks at the clock because of one denied prefix: 0.1 to 1 s, by the kernel's configuration. In a flood
/// this is what saves reading it for every packet.
pub const LOOK_PAUSE: u32 = 100;

/// Whose bucket, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct BucketKey {
    /// The source; of IPv6 only the first 64 bits, which is what one customer gets.
    pub source: [u8; 16],
    /// [`crate::steer::TCP`] or [`crate::steer::UDP`].
    pub protocol: u32,
}

assert_layout!(BucketKey, 20, source @ 0, protocol @ 16);

/// A source's bucket; see [`Limit::take`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Bucket {
    /// When it would be full again.
    pub full_at: u64,
    /// When an event last told that it was empty.
    pub told_at: u64,
}

assert_layout!(Bucket, 16, full_at @ 0, told_at @ 8);

/// A UDP flow, as far as new ones are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FlowKey {
    /// The source, whole.
    pub source: [u8; 16],
    /// In network order.
    pub source_port: [u8; 2],
    /// In network order.
    pub port: [u8; 2],
}

assert_layout!(FlowKey, 20, source @ 0, source_port @ 16, port @ 18);

/// Something rare that the daemon wants to know: a prefix is hit, a source runs into its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds of `CLOCK_BOOTTIME`.
    pub at: u64,
    /// The [`Verdict`].
    pub verdict: u32,
    /// Of [`Deny::reason`]; 0 for a limit.
    pub reason: u32,
    /// The source, whole.
    pub source: [u8; 16],
    /// Destination port in network order; 0 where it was not looked at.
    pub port: [u8; 2],
    /// The protocol's number; 0 where it was not looked at.
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

assert_layout!(Event, 40, at @ 0, verdict @ 8, reason @ 12, source @ 16, port @ 32, protocol @ 34, reserved @ 35);

/// The word of `GUARD_PORTS` and the bit in it that stand for a port.
#[must_use]
#[inline(always)]
pub const fn port_bit(protocol: u8, port: u16) -> (u32, u64) {
    let half = if protocol == crate::steer::UDP {
        PORT_WORDS / 2
    } else {
        0
    };
    (half + port as u32 / 64, 1 << (port % 64))
}

counters! {
    /// What the program can say about a packet, and its counter in `GUARD_STATS`.
    Verdict {
        /// Nothing to object to.
        Passed = "passed",
        /// Neither IPv4 nor IPv6.
        NotIp = "not_ip",
        /// Headers that end before they should. The network stack drops those itself, and counts them.
        Malformed = "malformed",
        /// A later fragment, which has no ports; without the first one it comes to nothing.
        Fragment = "fragment",
        /// A new TCP connection within its source's limit.
        SynAdmitted = "syn_admitted",
        /// A packet of a known UDP flow.
        FlowKnown = "flow_known",
        /// A new UDP flow within its source's limit.
        FlowAdmitted = "flow_admitted",
        /// Would have been dropped, but the source is on the allow list.
        Allowed = "allowed",
        /// The source is on the deny list.
        Denied = "denied",
        /// A new TCP connection beyond its source's limit.
        SynLimited = "syn_limited",
        /// A new UDP flow beyond its source's limit.
        FlowLimited = "flow_limited",
        /// A first fragment too short to show what it is (RFC 1858): only an attack looks like this.
        TinyFragment = "tiny_fragment",
        /// More or longer extension headers than anybody needs.
        Overlong = "overlong",
    }
}

impl Verdict {
    /// Whether the packet goes on.
    #[must_use]
    #[inline(always)]
    pub const fn passes(self) -> bool {
        !matches!(
            self,
            Self::Denied | Self::SynLimited | Self::FlowLimited | Self::TinyFragment | Self::Overlong
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{PORT_WORDS, port_bit};
    use crate::steer::{TCP, UDP};

    #[test]
    fn every_port_has_a_bit_of_its_own() {
        assert_eq!(port_bit(TCP, 0), (0, 1));
        assert_eq!(port_bit(TCP, 65_535), (1023, 1 << 63));
        assert_eq!(port_bit(UDP, 0), (1024, 1));
        assert_eq!(port_bit(UDP, 65_535), (PORT_WORDS - 1, 1 << 63));
    }
}
