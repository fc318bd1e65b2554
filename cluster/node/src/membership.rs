//! Who is a member, carried from the replicated state to everybody who has to know, and, by the leader, into the log's own
//! membership.
//!
//! The roster is the truth. Each node tells its links and its gossip of it; whoever leads adds to the log who is in the
//! roster and takes out who is not, and gives votes to those that have caught up. So a join or a removal is one entry of the
//! log, and what is left undone when a leader dies the next one does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use constellation_cluster::raft::{Consensus as _, LeaderView, Member, MemberError};
use constellation_cluster::state::{NodeId, Roster};
use constellation_gossip::Members as Gossipers;
use constellation_link::Membership;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::core::Core;

/// How often a leader looks whether learners have caught up.
const EVERY: Duration = Duration::from_millis(250);
/// How long a change of the log's membership may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Those who have to know.
pub(crate) struct Told {
    /// Whom links accept.
    pub(crate) links: watch::Sender<Membership>,
    /// Whom gossip accepts.
    pub(crate) gossip: watch::Sender<Arc<Gossipers>>,
    /// Set once this node is not a member any more.
    pub(crate) removed: watch::Sender<bool>,
}

/// Carries the roster to links and gossip, until it is stopped.
pub(crate) async fn tell(core: Arc<Core>, told: Told, stop: CancellationToken) {
    let mut view = core.raft.watch();
    let mut revision = 0;
    loop {
        view.borrow_and_update();
        let news = core.read(|state| {
            let roster = state.roster();
            (roster.revision() != revision).then(|| {
                revision = roster.revision();
                (
                    roster.members().clone(),
                    gossipers(roster),
                    roster.get(&core.identity.node).map(|entry| entry.id),
                )
            })
        });
        if let Some((members, gossipers, own)) = news {
            told.links.send_replace(Membership::Only(Arc::new(members)));
            told.gossip.send_if_modified(|before| {
                let changed = **before != gossipers;
                *before = Arc::new(gossipers);
                changed
            });
            if own != Some(core.identity.id) && !told.removed.send_replace(true) {
                tracing::error!(
                    node = %core.identity.node,
                    "this node was removed from the cluster: it serves on with what it knows, takes no lease, and is told nothing any \
                     more. `constellation leave --force` puts its membership aside"
                );
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = view.changed() => if changed.is_err() { return },
        }
    }
}

fn gossipers(roster: &Roster) -> Gossipers {
    let mut gossipers = Gossipers::listed(roster.nodes().map(|(name, _)| name.clone()));
    for (name, generation) in roster.former() {
        let again = roster.get(name).is_some();
        gossipers.remove(name, generation);
        if again {
            gossipers.add(name.clone());
        }
    }
    gossipers
}

/// A step towards a log whose members are those of the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Add(NodeId, Member),
    Remove(NodeId),
}

/// The next step, one at a time: additions first, so that a replaced node never leaves the cluster without a majority
/// that could have been.
fn step(roster: &BTreeMap<NodeId, Member>, log: &LeaderView, own: NodeId) -> Option<Step> {
    let missing = roster.iter().find(|(id, member)| {
        log.members
            .get(id)
            .is_none_or(|(known, voter)| !voter && known != *member)
    });
    if let Some((id, member)) = missing {
        return Some(Step::Add(*id, member.clone()));
    }
    // Itself last: it leads.
    let mut gone = log.members.keys().filter(|id| !roster.contains_key(id));
    gone.clone()
        .find(|id| **id != own)
        .or(gone.next())
        .map(|id| Step::Remove(*id))
}

/// Keeps the log's membership like the roster while this node leads, until it is stopped.
pub(crate) async fn keep(core: Arc<Core>, stop: CancellationToken) {
    let mut view = core.raft.watch();
    loop {
        let now = view.borrow_and_update().clone();
        let mut again = None;
        if now.leading {
            again = Some(EVERY);
            let roster: BTreeMap<NodeId, Member> = core.read(|state| {
                let nodes = state.roster().nodes();
                nodes.map(|(_, entry)| (entry.id, entry.member.clone())).collect()
            });
            // An empty one is a state that is not here yet.
            let next = (!roster.is_empty())
                .then(|| step(&roster, &now, core.identity.id))
                .flatten();
            let done = match &next {
                Some(Step::Add(id, member)) => {
                    timeout(PATIENCE, core.raft.add_learner(*id, member.clone())).await
                }
                Some(Step::Remove(id)) => timeout(PATIENCE, core.raft.remove(*id)).await,
                None => timeout(PATIENCE, promote(&core)).await,
            };
            match (done, next) {
                (Ok(Ok(())), Some(step)) => {
                    tracing::info!(?step, "the members of the replicated log changed");
                    again = Some(Duration::from_millis(10));
                }
                (Ok(Ok(())), None) | (Ok(Err(MemberError::NotLeader { .. })), _) => {}
                (Ok(Err(error)), step) => tracing::debug!(%error, ?step, "the members can't be changed now"),
                (Err(_), step) => {
                    tracing::warn!(?step, "a change of the members takes long: no majority answers")
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = view.wait_for(|view| view.leading != now.leading || view.members != now.members) => {
                if changed.is_err() { return }
            }
            () = pause(again) => {}
        }
    }
}

async fn pause(again: Option<Duration>) {
    match again {
        Some(again) => tokio::time::sleep(again).await,
        None => std::future::pending().await,
    }
}

async fn promote(core: &Core) -> Result<(), MemberError> {
    let promoted = core.raft.promote().await?;
    if !promoted.is_empty() {
        tracing::info!(nodes = ?promoted, "vote from now on");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(address: &str) -> Member {
        Member {
            address: address.to_owned(),
            ..Member::default()
        }
    }

    #[test]
    fn who_comes_is_added_before_who_went_is_removed_and_the_leader_goes_last() {
        let roster = |ids: &[u64]| -> BTreeMap<NodeId, Member> {
            ids.iter().map(|id| (NodeId(*id), member("a"))).collect()
        };
        let log = |ids: &[(u64, bool)]| LeaderView {
            members: ids
                .iter()
                .map(|(id, voter)| (NodeId(*id), (member("a"), *voter)))
                .collect(),
            ..LeaderView::default()
        };
        let own = NodeId(1);
        let add = |id| Some(Step::Add(NodeId(id), member("a")));
        let remove = |id| Some(Step::Remove(NodeId(id)));
        for (roster, log, expected) in [
            (roster(&[1, 2]), log(&[(1, true), (2, true)]), None),
            (roster(&[1, 2, 9]), log(&[(1, true), (2, true)]), add(9)),
            (roster(&[1, 9]), log(&[(1, true), (2, true)]), add(9)),
            (
                roster(&[1, 9]),
                log(&[(1, true), (2, true), (9, false)]),
                remove(2),
            ),
            (roster(&[9]), log(&[(1, true), (2, true), (9, true)]), remove(2)),
            (roster(&[9]), log(&[(1, true), (9, true)]), remove(1)),
        ] {
            assert_eq!(step(&roster, &log, own), expected, "{roster:?} {log:?}");
        }
        // A learner that asked again from elsewhere is found at its new address.
        let moved = BTreeMap::from([(NodeId(1), member("a")), (NodeId(2), member("b"))]);
        let expected = Some(Step::Add(NodeId(2), member("b")));
        assert_eq!(step(&moved, &log(&[(1, true), (2, false)]), own), expected);
    }
}
