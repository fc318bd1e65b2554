//! How the instances of services fare: counted here for the others, and read from what they have counted. Pure.
//!
//! The counts travel by gossip and the definitions by exports, each on a way of its own, so that either may be here first.
//! Which is the newer one is told by the version of the export that the counts are of.

use std::collections::BTreeMap;
use std::time::Instant;

use constellation_node::{Counts, ServiceId, Services};
use constellation_table::{CheckState, Condition, Exclusion, Service, Snapshot};

use crate::peers::{Export, Fit};

/// The instances of this node's own that these services have, in a table.
pub(super) fn count<'n>(
    table: &Snapshot,
    names: impl Iterator<Item = &'n str>,
    now: Instant,
) -> BTreeMap<ServiceId, Counts> {
    let counted = names.filter_map(|name| {
        let service = table.service(name)?;
        Some((ServiceId::of(name), of(service, now)))
    });
    counted.collect()
}

fn of(service: &Service, now: Instant) -> Counts {
    let mut counts = Counts::default();
    for endpoint in service
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.peer.is_none())
    {
        let standing = service.standing(endpoint, now);
        let count = match (standing.excluded, &endpoint.condition) {
            (_, Condition::Unavailable(_)) => &mut counts.stopped,
            (_, Condition::Draining(_)) | (Some(Exclusion::NoWeight), _) => &mut counts.draining,
            (Some(_), Condition::Ready) => &mut counts.unhealthy,
            // It is used although something speaks against it.
            (None, Condition::Ready) if standing.panic => &mut counts.unhealthy,
            (None, Condition::Ready) => match standing.check {
                CheckState::Unknown { .. } => &mut counts.starting,
                _ => &mut counts.healthy,
            },
        };
        *count = count.saturating_add(1);
    }
    counts
}

/// A service of another node's export.
pub(super) struct Told {
    name: String,
    id: ServiceId,
    /// How many of its instances could serve when it was written.
    fit: u32,
}

/// The services of an export that have instances.
pub(super) fn services(export: &Export) -> Vec<Told> {
    let named = export.names();
    named
        .map(|(name, instances)| Told {
            id: ServiceId::of(&name),
            fit: instances.fit,
            name,
        })
        .collect()
}

/// What is known of them by gossip, where that is no older than the export of this version.
pub(super) fn fit(services: &[Told], version: u64, gossip: &Services) -> BTreeMap<String, Fit> {
    let newer = gossip.counted.is_some_and(|counted| counted >= version);
    let known = services.iter().filter_map(|told| {
        let counts = gossip.counts.get(&told.id)?;
        let ready = counts.healthy.saturating_add(counts.starting);
        // Counted before the export was written, and of as many instances: what speaks against them still does.
        let same = ready.saturating_add(counts.unhealthy) == told.fit;
        (newer || same).then(|| {
            let fit = Fit {
                ready,
                failing: counts.unhealthy,
            };
            (told.name.clone(), fit)
        })
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, fit: u32) -> Told {
        Told {
            name: name.to_owned(),
            id: ServiceId::of(name),
            fit,
        }
    }

    fn gossip(counted: Option<u64>, name: &str, healthy: u32, starting: u32, unhealthy: u32) -> Services {
        let counts = Counts {
            healthy,
            starting,
            unhealthy,
            ..Counts::default()
        };
        Services {
            counted,
            counts: [(ServiceId::of(name), counts)].into(),
        }
    }

    #[test]
    fn counts_are_taken_where_they_are_no_older_than_the_export() {
        let web = "web@docker";
        let table = [
            // Nothing is known by gossip.
            (Services::default(), 2, None),
            // Of another service.
            (gossip(Some(7), "db@docker", 1, 0, 0), 2, None),
            // Newer, or as new.
            (gossip(Some(7), web, 1, 0, 1), 2, Some((1, 1))),
            (gossip(Some(8), web, 0, 0, 1), 2, Some((0, 1))),
            (gossip(Some(7), web, 1, 1, 0), 2, Some((2, 0))),
            // Older: the export counts where it is of more or fewer instances.
            (gossip(Some(6), web, 1, 0, 0), 2, None),
            (gossip(None, web, 0, 0, 3), 2, None),
            // And does not say that a failing one is well.
            (gossip(Some(6), web, 1, 0, 1), 2, Some((1, 1))),
        ];
        for (gossip, of_export, expected) in table {
            let fit = fit(&[told(web, of_export)], 7, &gossip);
            let found = fit.get(web).map(|fit| (fit.ready, fit.failing));
            assert_eq!(found, expected, "{gossip:?}");
        }
    }
}
