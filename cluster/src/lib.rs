//! What the nodes of a cluster agree upon, and how: leases, documents, who is a member, and the replicated log that all of it
//! goes through.
//!
//! `cluster/node` runs it: it proposes what [`lease::ExpiryTimer`] says, has a loop for each [`lease::Holder`], and calls
//! [`raft::Consensus::promote`]; `cluster/link` carries the log's calls.
//!
//! Data moves one way. A [`state::Request`] is proposed to the log ([`raft`]), every node applies the committed ones in
//! the same order to its own [`state::State`], and what changed is read from there. Everything that decides is a pure
//! function with time passed in ([`lease`]), so that the simulation in `tests/simulation` runs the very code.
//!
//! No wall clock is read anywhere in this crate: the state has no time in it at all, the leader measures with its
//! monotonic clock, and a holder's deadline is written in the kernel's boot clock.

mod bug;
pub mod lease;
pub mod raft;
pub mod state;
