//! What must hold, checked against true time, which no node knows.

use std::collections::BTreeMap;

use constellation_cluster::lease::{LeaseCommand, LeaseKey, LeaseOutcome};
use constellation_cluster::state::{Applied, Command, Outcome, Request};

use crate::counts::{Counts, Violation};
use crate::node::{MAX_PPM, TTL};

#[derive(Default)]
pub(crate) struct Oracle {
    leases: BTreeMap<LeaseKey, Watched>,
}

#[derive(Default)]
struct Watched {
    /// The greatest token that was granted.
    token: u64,
    /// When the last grant or renewal was committed.
    renewed: u64,
    /// The greatest token that a kernel accepted under.
    used: u64,
    /// What each node's kernel was told last: under which token it accepts, and until when.
    kernels: BTreeMap<usize, (u64, u64)>,
}

impl Oracle {
    /// An entry was committed and was applied.
    pub(crate) fn committed(
        &mut self,
        time: u64,
        request: &Request,
        applied: &Applied,
        counts: &mut Counts,
    ) -> Result<(), Violation> {
        let (Command::Lease(command), Outcome::Lease(outcome)) = (&request.command, &applied.outcome) else {
            counts.stale += 1;
            return Ok(());
        };
        if outcome.changed() && applied.lease.is_none() {
            counts.repetitions += 1;
            return Ok(());
        }
        let lease = self.leases.entry(command.key().clone()).or_default();
        match outcome {
            LeaseOutcome::Granted { token } | LeaseOutcome::Transferred { token } => {
                if token.get() <= lease.token {
                    return Err(format!("{}: token {token} after {}", command.key(), lease.token));
                }
                lease.token = token.get();
                lease.renewed = time;
                match command {
                    LeaseCommand::Transfer { .. } => counts.transfers += 1,
                    _ => counts.grants += 1,
                }
            }
            LeaseOutcome::Renewed { .. } => {
                lease.renewed = time;
                counts.renewals += 1;
            }
            LeaseOutcome::Expired => {
                counts.expiries += 1;
                let fastest = u128::try_from(1_000_000 + MAX_PPM).expect("positive");
                let least = u64::try_from(TTL.as_micros() * 1_000_000 / fastest).expect("in range");
                let after = time - lease.renewed;
                if after < least {
                    return Err(format!(
                        "{}: expired {after} us after its last renewal was committed, expected {least} at least",
                        command.key()
                    ));
                }
            }
            LeaseOutcome::Released => counts.releases += 1,
            LeaseOutcome::NotHeld if matches!(command, LeaseCommand::Expire { .. }) => {
                counts.void_expiries += 1
            }
            _ => counts.refusals += 1,
        }
        Ok(())
    }

    /// `node`'s kernel accepts under `token` from now until `until`, or refuses from now on with nothing.
    pub(crate) fn kernel(
        &mut self,
        time: u64,
        key: &LeaseKey,
        node: usize,
        accepts: Option<(u64, u64)>,
    ) -> Result<(), Violation> {
        let lease = self.leases.entry(key.clone()).or_default();
        let Some((token, until)) = accepts else {
            lease.kernels.remove(&node);
            return Ok(());
        };
        if until > time {
            let others = lease.kernels.iter().filter(|(other, _)| **other != node);
            for (other, (theirs, theirs_until)) in others {
                if *theirs_until > time && *theirs != token {
                    return Err(format!(
                        "{key}: node {node} accepts under token {token} while node {other} does under {theirs} for \
                         another {} us",
                        theirs_until - time
                    ));
                }
            }
            if token < lease.used {
                return Err(format!(
                    "{key}: node {node} accepts under token {token} after {}",
                    lease.used
                ));
            }
            lease.used = token;
        }
        lease.kernels.insert(node, (token, until));
        Ok(())
    }

    /// The nodes whose kernels accept now.
    pub(crate) fn accepting(&self, time: u64, key: &LeaseKey) -> Vec<usize> {
        let kernels = self
            .leases
            .get(key)
            .map(|lease| &lease.kernels)
            .into_iter()
            .flatten();
        kernels
            .filter(|(_, (_, until))| *until > time)
            .map(|(node, _)| *node)
            .collect()
    }
}
