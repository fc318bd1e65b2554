//! Nodes on loopback with real certificates: calls, strangers, joins, and the replicated log over it all.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "all of this is a test, also what stands outside of functions marked as one"
)]

mod calls;
mod joins;
mod lifecycle;
mod mesh;
mod node;
mod proxy;
mod raft;
mod strangers;
