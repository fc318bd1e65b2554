//! What the nodes of a cluster agree upon, and how: leases, documents, and the replicated log that both go through.
//!
//! **Nothing in the product uses this crate yet.** It is the groundwork of the cluster: the rules, the store and their
//! proofs, without an owner in the composition root. A [`raft::Transport`] over mutual TLS is `constellation-link`.
//!
//! What it needs before it can be used: a loop that proposes what [`lease::ExpiryTimer`] says, one for each
//! [`lease::Holder`], a loop that calls [`raft::Consensus::promote`], and a counter on disk for [`state::ClientId`].
//!
//! Data moves one way. A [`state::Request`] is proposed to the log ([`raft`]), every node applies the committed ones in
//! the same order to its own [`state::State`], and what changed is read from there. Everything that decides is a pure
//! function with time passed in ([`lease`]), so that the simulation in `tests/simulation` runs the very code.
//!
//! No wall clock is read anywhere in this crate: the state has no time in it at all, the leader measures with its
//! monotonic clock, and a holder's deadline is written in the kernel's boot clock.

pub mod lease;
pub mod raft;
pub mod state;
