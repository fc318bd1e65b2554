//! Who decides that this node may answer, and what can be said against a grant.

use constellation_ebpf_loader::Error;
use constellation_ebpf_loader::steering::Issuer;

/// Who decides that this node may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// The node itself, for a few seconds at a time.
    Local,
    /// A cluster, by a lease. Nobody is answered before [`super::Steering::grant`].
    Lease(Issuer),
}

impl Authority {
    /// A cluster, by its id.
    #[must_use]
    pub fn cluster(id: &[u8]) -> Self {
        Self::Lease(Issuer::of_cluster(id))
    }

    pub(super) fn issuer(self) -> Issuer {
        match self {
            Self::Local => Issuer::LOCAL,
            Self::Lease(issuer) => issuer,
        }
    }

    /// In status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Lease(_) => "lease",
        }
    }
}

/// Why nothing was granted, or not taken back. What the kernel has ends at its deadline in any case.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The node decides by itself.
    #[error(
        "this node answers by its own authority: it has to be told of its cluster before it acts under a lease"
    )]
    NotUnderLease,
    /// The deadline has passed: the lease was not renewed in time, or this process was stopped.
    #[error("the lease (token {token}) was over before it could be used")]
    Over {
        /// Of the lease.
        token: u64,
    },
    /// This node is the holder.
    #[error("this node is the holder (token {token}): it has to let go before it stands by")]
    Holding {
        /// Of the lease.
        token: u64,
    },
    /// A later lease was used here.
    #[error("the lease (token {given}) is older than one that was used here (token {seen})")]
    Stale {
        /// Of this lease.
        given: u64,
        /// Of the later one.
        seen: u64,
    },
    /// The process before this one serves, or the one after it does.
    #[error(
        "this process does not serve: the one before it has not let go, or the one after it has taken over"
    )]
    NotServing,
    /// The kernel, or what is written there, is against it.
    #[error(transparent)]
    Kernel(#[from] Error),
    /// No sockets to be had.
    #[error("no socket that leaves clients unanswered can be made: {0}; check the limit on open files")]
    Silence(std::io::Error),
    /// No thread to be had.
    #[error("the thread that renews the node's own lease can't be started: {0}")]
    Thread(std::io::Error),
}
