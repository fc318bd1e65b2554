//! The leader's loop: proposes the end of every lease that has gone without renewal for all of its time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use constellation_cluster::lease::{ExpiryTimer, LeaseKey, Leases};
use constellation_cluster::raft::{Consensus as _, store::Observer};
use constellation_cluster::state::Command;
use tokio_util::sync::CancellationToken;

use crate::core::Core;

/// How long a proposal may take; the timer says it again if it did not help.
const PATIENCE: Duration = Duration::from_secs(1);

/// Fed by the log as it applies entries, read by [`run`].
#[derive(Clone, Default)]
pub(crate) struct Timer(Arc<Mutex<ExpiryTimer>>);

impl Timer {
    /// What the log tells of each entry.
    pub(crate) fn observer(&self) -> Observer {
        let timer = Arc::clone(&self.0);
        Box::new(move |term: u64, touched: Option<&LeaseKey>, leases: &Leases| {
            let mut timer = timer.lock().unwrap_or_else(PoisonError::into_inner);
            timer.applied(Instant::now(), term, touched, leases);
        })
    }
}

/// Runs until it is stopped; does something only while this node leads.
pub(crate) async fn run(core: Arc<Core>, timer: Timer, stop: CancellationToken) {
    let mut view = core.raft.watch();
    loop {
        let now = view.borrow_and_update().clone();
        // In this order, as the log holds both when it applies: the state, then the timer.
        let (due, next) = core.read(|state| {
            let mut timer = timer.0.lock().unwrap_or_else(PoisonError::into_inner);
            match now.leading {
                true => timer.lead(Instant::now(), now.term, state.leases()),
                false => timer.follow(),
            }
            (timer.due(Instant::now()), timer.next())
        });
        for command in due {
            let key = command.key().to_string();
            let core = Arc::clone(&core);
            // Not waited for: another lease may be over meanwhile. Each ends by its patience.
            tokio::spawn(async move {
                let outcome = core.apply(Command::Lease(command), PATIENCE).await;
                tracing::info!(lease = %key, ?outcome, "not renewed in time");
            });
        }
        let until = next.map(tokio::time::Instant::from_std);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = view.changed() => if changed.is_err() { return },
            () = wait(until) => {}
        }
    }
}

/// Until then, or for ever.
pub(crate) async fn wait(until: Option<tokio::time::Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
