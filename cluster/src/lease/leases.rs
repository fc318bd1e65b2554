//! Who holds what: the part of the replicated state that is about leases. No time in it; what a lease lasts is a figure
//! that is carried along for the leader and the holder.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{LeaseCommand, LeaseKey, LeaseOutcome, MAX_TTL, MIN_TTL};
use crate::bug::{self, Bug};
use crate::state::ClientId;

/// How many leases there can be at a time.
pub const MAX_LEASES: usize = 4096;

/// The fencing token of a grant: the index in the log where it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(u64);

impl Token {
    /// As a figure, for what keeps it: a map in the kernel, the comment of a DNS record.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A lease that somebody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who.
    pub holder: ClientId,
    /// Under which token.
    pub token: Token,
    /// The index in the log of the last renewal, or of the grant.
    pub renewal: u64,
    ttl_ms: u32,
}

impl Lease {
    /// How long it lasts without renewal.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        Duration::from_millis(u64::from(self.ttl_ms))
    }
}

/// The leases that are held. Free ones are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases(BTreeMap<LeaseKey, Lease>);

impl Leases {
    /// The lease, if somebody has it.
    #[must_use]
    pub fn get(&self, key: &LeaseKey) -> Option<&Lease> {
        self.0.get(key)
    }

    /// All that are held, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&LeaseKey, &Lease)> {
        self.0.iter()
    }

    /// Applies what `client` asked for at `index` of the log.
    pub(crate) fn apply(&mut self, index: u64, client: ClientId, command: &LeaseCommand) -> LeaseOutcome {
        match command {
            LeaseCommand::Acquire { key, ttl_ms } => self.acquire(index, client, key, *ttl_ms),
            LeaseCommand::Renew { key, token } => match self.held(key, client, *token) {
                None => LeaseOutcome::NotHeld,
                Some(lease) => {
                    lease.renewal = index;
                    LeaseOutcome::Renewed { token: *token }
                }
            },
            LeaseCommand::Release { key, token } => match self.held(key, client, *token) {
                None => LeaseOutcome::NotHeld,
                Some(_) => {
                    self.0.remove(key);
                    LeaseOutcome::Released
                }
            },
            LeaseCommand::Transfer { key, token, to } => match self.held(key, client, *token) {
                None => LeaseOutcome::NotHeld,
                Some(lease) => {
                    let token = Token(index);
                    *lease = Lease {
                        holder: *to,
                        token,
                        renewal: index,
                        ttl_ms: lease.ttl_ms,
                    };
                    LeaseOutcome::Transferred { token }
                }
            },
            LeaseCommand::Expire { key, token, renewal } => match self.0.get(key) {
                Some(lease)
                    if lease.token == *token
                        && (lease.renewal == *renewal || bug::is(Bug::ExpiryIgnoresRenewal)) =>
                {
                    self.0.remove(key);
                    LeaseOutcome::Expired
                }
                _ => LeaseOutcome::NotHeld,
            },
        }
    }

    fn acquire(&mut self, index: u64, client: ClientId, key: &LeaseKey, ttl_ms: u32) -> LeaseOutcome {
        let ttl = Duration::from_millis(u64::from(ttl_ms));
        if let Some(lease) = self.0.get(key) {
            return LeaseOutcome::Taken {
                holder: lease.holder,
                token: lease.token,
            };
        }
        if ttl < MIN_TTL || ttl > MAX_TTL {
            return LeaseOutcome::InvalidTtl;
        }
        if self.0.len() >= MAX_LEASES {
            return LeaseOutcome::Full;
        }
        let token = Token(index);
        self.0.insert(
            key.clone(),
            Lease {
                holder: client,
                token,
                renewal: index,
                ttl_ms,
            },
        );
        LeaseOutcome::Granted { token }
    }

    /// The lease, if this client has it under this token.
    fn held(&mut self, key: &LeaseKey, client: ClientId, token: Token) -> Option<&mut Lease> {
        self.0
            .get_mut(key)
            .filter(|lease| lease.holder == client && lease.token == token)
    }
}
