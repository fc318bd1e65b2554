//! The replicated log's view of the links.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use constellation_cluster::raft::{Member, Transport, TransportError};
use constellation_cluster::state::NodeId;
use constellation_identity::NodeName;

use crate::error::LinkError;
use crate::frame::Service;
use crate::links::Links;

/// Where to look for a member, HOST:PORT each, in this order: what gossip says first, then the member's own address in
/// the log, which may be old. Asked when a call is made, so it is quick.
pub type Resolver = Arc<dyn Fn(NodeId, &Member) -> Vec<String> + Send + Sync>;

/// Carries the calls of [`constellation_cluster::raft::RaftNode`]. A member's name in the log is the name in its certificate.
#[derive(Clone)]
pub struct RaftTransport {
    /// What the calls go over.
    pub links: Links,
    /// Where members are.
    pub resolver: Resolver,
}

impl fmt::Debug for RaftTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftTransport")
            .field("links", &self.links)
            .finish_non_exhaustive()
    }
}

impl Transport for RaftTransport {
    async fn call(
        &self,
        to: NodeId,
        member: &Member,
        request: Vec<u8>,
        within: Duration,
    ) -> Result<Vec<u8>, TransportError> {
        let name: NodeName = member.name.parse().map_err(|error| TransportError::Unreachable {
            node: to,
            detail: format!("its name in the log is no node's name: {error}"),
        })?;
        let addresses = (self.resolver)(to, member);
        let answer = self
            .links
            .call(&name, &addresses, Service::Raft, request, within)
            .await;
        answer.map_err(|error| {
            let detail = error.to_string();
            match error {
                LinkError::Unreachable { .. } | LinkError::Refused { .. } | LinkError::Stopped => {
                    TransportError::Unreachable { node: to, detail }
                }
                LinkError::NoAnswer { .. } | LinkError::TooLarge { .. } => {
                    TransportError::NoAnswer { node: to, detail }
                }
            }
        })
    }
}
