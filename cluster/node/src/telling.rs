//! What a node tells by gossip of how it fares: the instances of its services, and its load. Only what changed is told, and load
//! only when it changed by something that matters, since each change goes to every node.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use constellation_gossip::{Counts, Load, Own, OwnError, SERVICES_LIMIT, ServiceId};
use tokio::time::Instant;

use crate::node::Node;

/// A difference of so many thousandths of the processors or of the memory matters.
const SHARE: u16 = 50;
/// So many connections or requests more or less do, if they are a quarter of what was told, too.
const FEW: u32 = 16;
/// What differs at all is told after this long.
const STALE: Duration = Duration::from_secs(60);

/// How the instances of a node's services fare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// Which version of its export these are of, or a later one's; `None`: not told yet.
    pub counted: Option<u64>,
    /// By service.
    pub counts: BTreeMap<ServiceId, Counts>,
}

/// What this node wants the others to know, and what it has told.
#[derive(Default)]
pub(crate) struct Telling {
    services: Services,
    told: Services,
    told_load: Option<(Load, Instant)>,
}

impl Telling {
    /// Writes what is new of it where gossip takes it from.
    fn write(&mut self, own: &mut Own<'_>, load: Option<Load>, now: Instant) -> Result<(), OwnError> {
        let (wanted, told) = (&self.services, &mut self.told);
        told.counts.retain(|id, _| {
            let kept = wanted.counts.contains_key(id);
            if !kept {
                own.remove_service(*id);
            }
            kept
        });
        for (id, counts) in &wanted.counts {
            if told.counts.get(id) != Some(counts) {
                own.service(*id, counts)?;
                told.counts.insert(*id, *counts);
            }
        }
        // After them: whoever sees this has seen those.
        if let Some(version) = wanted.counted.filter(|_| wanted.counted != told.counted) {
            own.counted(version)?;
            told.counted = wanted.counted;
        }
        if let Some(load) = load
            && self
                .told_load
                .is_none_or(|(told, at)| matters(&told, &load, now.saturating_duration_since(at)))
        {
            own.load(&load)?;
            self.told_load = Some((load, now));
        }
        Ok(())
    }
}

/// Whether a load is worth telling, so long after another one was told.
fn matters(told: &Load, now: &Load, since: Duration) -> bool {
    let share = |told: u16, now: u16| told.abs_diff(now) >= SHARE;
    let count = |told: u32, now: u32| told.abs_diff(now) >= FEW.max(told / 4);
    share(told.cpu_permille, now.cpu_permille)
        || share(told.memory_permille, now.memory_permille)
        || count(told.connections, now.connections)
        || count(told.requests, now.requests)
        || (told != now && since >= STALE)
}

impl Node {
    /// Tells the others how the instances of this node's services fare, in place of what was told before. Of more than
    /// [`SERVICES_LIMIT`] services, those beyond are left out: the others go by the export.
    pub async fn tell_services(&self, mut services: Services) {
        if services.counts.len() > SERVICES_LIMIT {
            services.counts = services.counts.into_iter().take(SERVICES_LIMIT).collect();
        }
        self.0.telling.lock().await.services = services;
        self.tell_all().await;
    }

    /// Tells the others how much there is to do here, if that is news; at most as often as this is called.
    pub async fn tell_load(&self, load: Load) {
        *self.0.load.lock().unwrap_or_else(PoisonError::into_inner) = Some(load);
        self.tell_all().await;
    }

    /// This node's own, as it was measured last.
    pub(crate) fn own_load(&self) -> Option<Load> {
        *self.0.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what was not told yet, once gossip runs.
    pub(crate) async fn tell_all(&self) {
        let Some(gossip) = self.0.core.gossip.get() else {
            return;
        };
        let mut telling = self.0.telling.lock().await;
        let now = Instant::now();
        let load = self.own_load();
        if let Some(gossip) = &*gossip.read().await
            && let Err(error) = gossip.update(|own| telling.write(own, load, now)).await
        {
            tracing::error!(%error, "how this node fares is not told to the others");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_changes_of_load_are_not_worth_a_word() {
        let told = Load {
            cpu_permille: 500,
            memory_permille: 300,
            connections: 400,
            requests: 4,
        };
        let second = Duration::from_secs(1);
        let table = [
            (told, false),
            (
                Load {
                    cpu_permille: 549,
                    ..told
                },
                false,
            ),
            (
                Load {
                    cpu_permille: 550,
                    ..told
                },
                true,
            ),
            (
                Load {
                    cpu_permille: 450,
                    ..told
                },
                true,
            ),
            (
                Load {
                    memory_permille: 351,
                    ..told
                },
                true,
            ),
            (
                Load {
                    connections: 499,
                    ..told
                },
                false,
            ),
            (
                Load {
                    connections: 500,
                    ..told
                },
                true,
            ),
            (
                Load {
                    connections: 300,
                    ..told
                },
                true,
            ),
            (Load { requests: 19, ..told }, false),
            (Load { requests: 20, ..told }, true),
        ];
        for (now, expected) in table {
            assert_eq!(matters(&told, &now, second), expected, "{now:?}");
            assert_eq!(matters(&told, &now, STALE), now != told, "{now:?} later");
        }
    }
}
