//! The layouts of `edge_steer`: the grant, the addresses, and where the listeners stand.

use crate::{assert_layout, counters};

/// Name of the program.
pub const PROGRAM: &str = "edge_steer";
/// Map `STEER_GRANT`: an array of one [`Grant`].
pub const GRANT: &str = "STEER_GRANT";
/// Map `STEER_BINDS`: an LPM trie from [`BindKey`] to [`Bind`].
pub const BINDS: &str = "STEER_BINDS";
/// Map `STEER_SOCKETS`: a sockmap, [`SLOTS`] entries for each destination, of which the first ones are used.
pub const SOCKETS: &str = "STEER_SOCKETS";
/// Map `STEER_WIDTHS`: an array of `u32`: how many slots a destination uses, one for each listener.
pub const WIDTHS: &str = "STEER_WIDTHS";
/// Map `STEER_STATS`: a per-CPU array of `u64`, indexed by [`Verdict`].
pub const STATS: &str = "STEER_STATS";

/// Most entries of `STEER_BINDS`: a thousand ports on a hundred addresses, and some. Unused ones cost nothing.
pub const MAX_BINDS: u32 = 131_072;
/// Most destinations, which are entry points of one protocol.
pub const MAX_DESTS: u32 = 64;
/// Most listeners of one destination.
pub const SLOTS: u32 = 64;

/// Until when this node may answer for its addresses.
///
/// The fields are written one by one by a plain copy in the kernel, word for word; the program decides by
/// `valid_until` and `on_loss` alone, each a single word, so a torn read can't grant what neither writer granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Grant {
    /// The lease's fencing token: never goes down.
    pub epoch: u64,
    /// Nanoseconds of `CLOCK_BOOTTIME`. At this time and after it new connections are refused; 0 grants nothing.
    pub valid_until: u64,
    /// What happens without a grant: [`ON_LOSS_REFUSE`] or [`ON_LOSS_PASS`].
    pub on_loss: u32,
    /// Zero.
    pub reserved: u32,
}

assert_layout!(Grant, 24, epoch @ 0, valid_until @ 8, on_loss @ 16, reserved @ 20);

/// Without a grant: refuse at once, so that the client tries elsewhere.
pub const ON_LOSS_REFUSE: u32 = 0;
/// Without a grant: an ordinary listener of another process may have it, as beside a Traefik on the same ports.
pub const ON_LOSS_PASS: u32 = 1;

/// TCP in [`BindKey::protocol`].
pub const TCP: u8 = 6;
/// UDP in [`BindKey::protocol`].
pub const UDP: u8 = 17;
/// IPv4 in [`BindKey::family`]; the address takes the first four bytes.
pub const V4: u8 = 4;
/// IPv6 in [`BindKey::family`].
pub const V6: u8 = 6;

/// Bits of a [`BindKey`] before the address, all of which always count.
pub const BIND_HEAD_BITS: u32 = 32;

/// What a client asked for, as the data of an LPM key.
///
/// The program looks it up with the port, and then with port 0, which stands for any: an entry that names the port
/// wins over one for any port, however long its prefix. Among entries with one port the longest prefix wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct BindKey {
    /// [`TCP`] or [`UDP`].
    pub protocol: u8,
    /// [`V4`] or [`V6`].
    pub family: u8,
    /// In network order; 0 for any.
    pub port: [u8; 2],
    /// In network order; bytes that the family does not use are 0.
    pub address: [u8; 16],
}

assert_layout!(BindKey, 20, protocol @ 0, family @ 1, port @ 2, address @ 4);

/// Where connections to an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Bind {
    /// Below [`MAX_DESTS`]; its listeners are the entries from `dest * SLOTS` of `STEER_SOCKETS`.
    pub dest: u32,
}

assert_layout!(Bind, 4, dest @ 0);

counters! {
    /// What the program can say about a lookup, and its counter in `STEER_STATS`.
    Verdict {
        /// Not one of our addresses: left alone.
        Unbound = "unbound",
        /// Given to a listener.
        Steered = "steered",
        /// Ours, but the grant is over: refused.
        NoGrant = "no_grant",
        /// Ours, but the grant is over, and somebody else may have it ([`ON_LOSS_PASS`]).
        Passed = "passed",
        /// Ours, and nobody listens: refused rather than given to another process.
        NoListener = "no_listener",
        /// Ours, but the kernel would not have the listener: a socket of the wrong family or protocol.
        Unassignable = "unassignable",
    }
}

impl Verdict {
    /// Whether the lookup goes on; otherwise the client is refused.
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(self, Self::Unbound | Self::Steered | Self::Passed)
    }
}
