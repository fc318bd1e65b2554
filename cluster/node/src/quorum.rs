//! Whether this node is with a majority: what it says of itself, and what nobody acts upon.
//!
//! A follower is with one while it hears of a leader; a leader asks. It is about honesty, not about safety: what must not
//! happen without a majority can't be proposed without one.

use std::sync::Arc;
use std::time::Duration;

use constellation_cluster::raft::Consensus as _;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::core::Core;

/// How often a leader asks, and for how long it waits.
const EVERY: Duration = Duration::from_millis(500);
/// How long a follower has a leader before it says so: an election would have come sooner.
const HEARD: Duration = Duration::from_millis(900);
/// How long nobody leads or answers before that is said.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs until it is stopped.
pub(crate) async fn run(core: Arc<Core>, tell: watch::Sender<bool>, stop: CancellationToken) {
    let mut view = core.raft.watch();
    let (mut without, mut following): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        let now = view.borrow_and_update().clone();
        let with = match (now.leading, now.leader) {
            _ if now.stopped.is_some() => false,
            (true, _) => matches!(timeout(EVERY, core.raft.read_barrier()).await, Ok(Ok(_))),
            (false, leader) => leader.is_some(),
        };
        // An election is no loss of a majority.
        without = if with {
            None
        } else {
            without.or(Some(Instant::now()))
        };
        following = (with && !now.leading).then(|| following.unwrap_or_else(Instant::now));
        // A leader that this node only remembers is none.
        let heard = now.leading || following.is_some_and(|since| since.elapsed() >= HEARD);
        let with = match *tell.borrow() {
            true => with || without.is_some_and(|since| since.elapsed() < PATIENCE),
            false => with && heard,
        };
        tell.send_if_modified(|told| {
            let changed = *told != with;
            if changed && !with {
                tracing::warn!(
                    "no majority of the cluster's voters answers: this node serves on with what it knows, and nothing that needs \
                     agreement is changed"
                );
            } else if changed {
                tracing::info!(leader = ?now.leader, term = now.term, "with a majority of the cluster");
            }
            *told = with;
            changed
        });
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
            changed = view.wait_for(|view| (view.leading, view.leader) != (now.leading, now.leader)) => {
                if changed.is_err() { return }
            }
        }
    }
}
