//! The replicated log: what is proposed becomes durable on a majority and is applied by every node in one order.
//!
//! [`Consensus`] is all that the rest sees of it, and names nothing of openraft or redb; [`RaftNode`] is what stands behind
//! it. [`Transport`] is what the node asks of the network: to bring bytes to a member and an answer back, over a
//! connection that has made sure who is at the other end. openraft authenticates nobody. [`Consensus::step_down`] is for a
//! stop that is planned, [`recover`] for when the majority is lost for good.
//!
//! What is acknowledged is on disk: [`store`] writes entries and votes with one `fsync` for all that wait, and a write that
//! fails is the end of this process ([`StoreFailure`]). It is never tried again, because after a failed `fsync` nobody knows
//! what is on the disk, and a second one that succeeds says nothing about it.

mod codec;
mod consensus;
mod failure;
mod figures;
#[doc(hidden)]
pub mod fuzzing;
mod member;
mod network;
mod node;
mod promotion;
pub mod store;
mod transfer;

pub use consensus::{Consensus, LeaderView, MemberError, ProposeError, ReadError, TransferError};
pub use failure::{OnFailure, StoreFailure};
pub use figures::{Figures, WRITE_BOUNDS, Writes};
pub use member::{Member, Role};
pub use network::{MAX_CALL_BYTES, Transport, TransportError};
pub use node::{RaftNode, StartError, Timers};
pub use promotion::{MAX_VOTERS, Progress, promotable};
pub use store::{Recovered, recover};

use std::io::Cursor;

use crate::state::{NodeId, Outcome, Request};

openraft::declare_raft_types!(
    /// What openraft is instantiated with. The store and its tests name it, nobody else.
    pub Types:
        D = Request,
        R = Option<Outcome>,
        NodeId = NodeId,
        Node = Member,
        Entry = openraft::Entry<Types>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);
