//! Who is believed besides having a certificate.

use std::sync::Arc;

use constellation_identity::{Members, NodeIdentity, NodeName};
use tokio::sync::watch;

/// Who may be at the other end.
#[derive(Clone, Debug)]
pub enum Membership {
    /// Whoever has a certificate of the cluster: for a node that does not know the members yet, as its log has not come. It
    /// can't tell who was removed.
    AnyOfTheCluster,
    /// These.
    Only(Arc<Members>),
}

impl Membership {
    pub(crate) fn admits(&self, peer: &NodeIdentity) -> bool {
        match self {
            Self::AnyOfTheCluster => true,
            Self::Only(members) => members.admits(peer),
        }
    }
}

/// Returns when a peer is no member any more. Cancel safe.
pub(crate) async fn removed(members: &watch::Receiver<Membership>, peer: &NodeIdentity) {
    let mut members = members.clone();
    while members.borrow_and_update().admits(peer) {
        if members.changed().await.is_err() {
            // Nobody tells any more: the owner of the list is stopping, and whoever asks with it.
            std::future::pending::<()>().await;
        }
    }
}

/// What either side says of somebody who is none.
pub(crate) fn not_a_member(node: &NodeName) -> String {
    format!(
        "node {node} is not a member of this cluster (it was removed, or its name belongs to another key): it has to join \
         again with a new token"
    )
}
