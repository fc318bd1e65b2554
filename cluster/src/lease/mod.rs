//! Leases: at most one process acts, and one that lost its lease can't.
//!
//! | part | owns | reads a clock |
//! |---|---|---|
//! | [`Leases`] | who holds what, applied from the log alike on all nodes | never |
//! | [`ExpiryTimer`] | on the leader: how long each has gone without renewal | monotonic, passed in |
//! | [`Holder`] | on the holder: until when it may act, and when to ask again | boot clock, passed in |
//! | [`Placement`] | on every node: whether it should ask, or hand over | monotonic, passed in |
//!
//! The rules that make it safe:
//! 1. A token is the index in the log of the grant, so a later grant has a greater one.
//! 2. A holder counts from before it sent, less a margin; the leader counts from after it applied, all of it. The first is
//!    over before the second, whatever a message took, as long as the clocks' rates differ by less than the margin.
//! 3. Expiry goes through the log and names the token and the renewal that it is about. A renewal that was committed
//!    since the leader decided makes it void.
//! 4. A leader that begins knows nothing of how long ago anything happened, and gives all leases their whole time again.
//! 5. A holder that lets go stops first and says so then.
//! 6. What acts takes a [`Held`], which nothing but a holder with a valid lease makes. It tells token and deadline, and what
//!    has a memory of its own (the kernel's maps) checks both, since this process may be frozen between check and act.

mod command;
mod expiry;
mod held;
mod holder;
mod key;
mod leases;
mod placement;
mod timing;

pub use command::{LeaseCommand, LeaseOutcome, MAX_TTL, MIN_TTL};
pub use constellation_boot_time::BootTime;
pub use expiry::ExpiryTimer;
pub use held::Held;
pub use holder::{Attempt, Holder, HolderState, Proposal};
pub use key::{KeyError, LeaseKey, MAX_SERVICE_NAME};
pub use leases::{Lease, Leases, MAX_LEASES, Token};
pub use placement::{Candidate, Damping, Placement, Standing, Step};
pub use timing::{Timing, TimingError};
