//! What can be asked about a lease, and what it comes to. Who asks is told by the request around it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{LeaseKey, Token};
use crate::state::ClientId;

/// The shortest lease.
pub const MIN_TTL: Duration = Duration::from_millis(100);
/// The longest lease.
pub const MAX_TTL: Duration = Duration::from_secs(3600);

/// What can be asked about a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseCommand {
    /// To get it, if nobody has it: not from oneself either. A process that started anew does not know what the one
    /// before still does, and waits like everybody else.
    Acquire {
        /// Which one.
        key: LeaseKey,
        /// For how long, in milliseconds, without renewal.
        ttl_ms: u32,
    },
    /// To keep it.
    Renew {
        /// Which one.
        key: LeaseKey,
        /// Of the grant.
        token: Token,
    },
    /// To let go of it. The holder has stopped acting before it asks.
    Release {
        /// Which one.
        key: LeaseKey,
        /// Of the grant.
        token: Token,
    },
    /// To let go of it in favour of somebody, under a token of their own. The holder has stopped acting before it asks;
    /// the other acts once it has renewed, since only that tells it until when.
    Transfer {
        /// Which one.
        key: LeaseKey,
        /// Of the grant that ends.
        token: Token,
        /// Who gets it.
        to: ClientId,
    },
    /// The leader's verdict that its time is over. Void if it was renewed meanwhile.
    Expire {
        /// Which one.
        key: LeaseKey,
        /// Of the grant.
        token: Token,
        /// The index of the last renewal that the leader knew of.
        renewal: u64,
    },
}

/// What a command about a lease came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseOutcome {
    /// It is the asker's, under this token.
    Granted {
        /// The index in the log.
        token: Token,
    },
    /// It is the asker's still.
    Renewed {
        /// Of the grant.
        token: Token,
    },
    /// It is free.
    Released,
    /// It is another's.
    Transferred {
        /// Of the new grant.
        token: Token,
    },
    /// It is free: the time was over.
    Expired,
    /// Somebody has it, maybe the asker itself.
    Taken {
        /// Who.
        holder: ClientId,
        /// Of their grant.
        token: Token,
    },
    /// The asker does not have it under that token; or what was to expire is gone, or was renewed.
    NotHeld,
    /// No lease of that length: out of [`MIN_TTL`] to [`MAX_TTL`].
    InvalidTtl,
    /// There are [`super::MAX_LEASES`] already.
    Full,
}

impl LeaseCommand {
    /// Which lease it is about.
    #[must_use]
    pub fn key(&self) -> &LeaseKey {
        match self {
            Self::Acquire { key, .. }
            | Self::Renew { key, .. }
            | Self::Release { key, .. }
            | Self::Transfer { key, .. }
            | Self::Expire { key, .. } => key,
        }
    }
}

impl LeaseOutcome {
    /// Whether the lease is another one than before, or lasts longer.
    #[must_use]
    pub fn changed(&self) -> bool {
        match self {
            Self::Granted { .. }
            | Self::Renewed { .. }
            | Self::Released
            | Self::Transferred { .. }
            | Self::Expired => true,
            Self::Taken { .. } | Self::NotHeld | Self::InvalidTtl | Self::Full => false,
        }
    }
}
