//! Between openraft and whatever carries bytes to the other members.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Member, Types};
use crate::state::{MAX_DOCUMENT_BYTES, NodeId};

/// How many entries go into one call.
pub(super) const ENTRIES_IN_A_CALL: u64 = 64;

/// The largest request that a [`Transport`] is given: entries of the largest documents, and a quarter of a megabyte around
/// them. A larger one is none of ours.
pub const MAX_CALL_BYTES: usize = ENTRIES_IN_A_CALL as usize * MAX_DOCUMENT_BYTES + 256 * 1024;

/// How long a member that could not be reached is left alone.
const BACKOFF: Duration = Duration::from_millis(50);

/// Carries bytes to a member and brings its answer, which is what [`super::RaftNode::serve`] gives there.
///
/// It makes sure that the member is who it is called and of this cluster, in both directions: openraft believes everybody.
/// A call that is dropped may have arrived.
pub trait Transport: Send + Sync + 'static {
    /// Brings `request` to a member, and its answer back, or gives up after `within`.
    fn call(
        &self,
        to: NodeId,
        member: &Member,
        request: Vec<u8>,
        within: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, TransportError>> + Send;
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransportError {
    /// No connection; it is left alone for a moment.
    #[error("node {node} can't be reached: {detail}")]
    Unreachable {
        /// Which.
        node: NodeId,
        /// What the system said.
        detail: String,
    },
    /// It may have arrived.
    #[error("no answer from node {node}: {detail}")]
    NoAnswer {
        /// Which.
        node: NodeId,
        /// What happened instead.
        detail: String,
    },
}

/// What is sent.
#[derive(Serialize, Deserialize)]
pub(super) enum Call {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<NodeId>),
    Snapshot(InstallSnapshotRequest<Types>),
    Stand(super::transfer::Stand),
}

pub(super) type Appended = Result<AppendEntriesResponse<NodeId>, RaftError<NodeId>>;
pub(super) type Voted = Result<VoteResponse<NodeId>, RaftError<NodeId>>;
pub(super) type Installed = Result<InstallSnapshotResponse<NodeId>, RaftError<NodeId, InstallSnapshotError>>;

/// Makes a [`Peer`] for each member.
pub(super) struct Peers<T>(pub(super) Arc<T>);

/// The way to one member.
pub(super) struct Peer<T> {
    id: NodeId,
    member: Member,
    transport: Arc<T>,
}

impl<T: Transport> RaftNetworkFactory<Types> for Peers<T> {
    type Network = Peer<T>;

    async fn new_client(&mut self, target: NodeId, node: &Member) -> Peer<T> {
        Peer {
            id: target,
            member: node.clone(),
            transport: Arc::clone(&self.0),
        }
    }
}

type Failed<E> = RPCError<NodeId, Member, E>;

impl<T: Transport> Peer<T> {
    async fn call<A, E>(&self, call: &Call, within: Duration) -> Result<A, Failed<E>>
    where
        A: DeserializeOwned,
        E: std::error::Error + DeserializeOwned,
    {
        let request =
            postcard::to_stdvec(call).map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
        let answer = self.transport.call(self.id, &self.member, request, within).await;
        let answer = answer.map_err(|error| match error {
            TransportError::Unreachable { .. } => RPCError::Unreachable(Unreachable::new(&error)),
            TransportError::NoAnswer { .. } => RPCError::Network(NetworkError::new(&error)),
        })?;
        postcard::from_bytes::<Result<A, E>>(&answer)
            .map_err(|error| RPCError::Network(NetworkError::new(&error)))?
            .map_err(|error| RPCError::RemoteError(RemoteError::new(self.id, error)))
    }
}

impl<T: Transport> RaftNetwork<Types> for Peer<T> {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, Failed<RaftError<NodeId>>> {
        self.call(&Call::Append(rpc), option.hard_ttl()).await
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, Failed<RaftError<NodeId, InstallSnapshotError>>> {
        self.call(&Call::Snapshot(rpc), option.hard_ttl()).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, Failed<RaftError<NodeId>>> {
        self.call(&Call::Vote(rpc), option.hard_ttl()).await
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(BACKOFF))
    }
}

impl<T> fmt::Debug for Peer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("id", &self.id)
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}
