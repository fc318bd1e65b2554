//! Rules left out on purpose, to see that the simulation notices.

use std::time::Instant;

use constellation_cluster::lease::LeaseCommand;
use constellation_cluster::state::{Applied, Command, Request, State};

use crate::node::{Process, TTL};

/// A rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// Expiry compares the token only.
    ExpiryIgnoresRenewal,
    /// The holder counts from when the answer came.
    DeadlineFromAnswer,
    /// A leader goes on with the times of when it led before.
    TimerKeepsItsTimes,
    /// The holder takes no margin.
    NoMargin,
    /// The holder says that it lets go before it stops.
    ReleasesBeforeItStops,
}

impl Bug {
    /// Each with what has to be said of it.
    pub(crate) const ALL: [(Self, &str); 5] = [
        (Self::ExpiryIgnoresRenewal, "after its last renewal"),
        (Self::DeadlineFromAnswer, "accepts under token"),
        (Self::TimerKeepsItsTimes, "after its last renewal"),
        (Self::NoMargin, "accepts under token"),
        (Self::ReleasesBeforeItStops, "accepts under token"),
    ];
}

/// Applies a request; with the bug, an expiry takes whatever renewal there is.
pub(crate) fn apply(bug: Bug, state: &mut State, index: usize, request: &Request) -> Applied {
    let mut request = request.clone();
    if bug == Bug::ExpiryIgnoresRenewal
        && let Command::Lease(LeaseCommand::Expire { key, renewal, .. }) = &mut request.command
        && let Some(lease) = state.leases().get(key)
    {
        *renewal = lease.renewal;
    }
    state.apply(index as u64, &request)
}

/// What a leader would expire that goes on with the times of an earlier term.
pub(crate) fn stale_due(process: &mut Process, now: Instant) -> Vec<LeaseCommand> {
    let mut due = Vec::new();
    for (key, lease) in process.state.leases().iter() {
        let since = process.stale_timer.entry(key.clone()).or_insert(now);
        if now.saturating_duration_since(*since) >= TTL {
            *since = now;
            due.push(LeaseCommand::Expire {
                key: key.clone(),
                token: lease.token,
                renewal: lease.renewal,
            });
        }
    }
    due
}
