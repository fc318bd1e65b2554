//! Tells the others how this node fares: its services' instances as soon as that changes, its load every now and then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use constellation_dataplane::Published;
use constellation_dataplane::metrics::Metrics;
use constellation_node::{Load, Node, Services};
use procfs::{Current as _, CurrentSI as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::fitness;

/// Between two times that instances are counted: gossip has a round about as often.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two times that the load is measured.
const MEASURE: Duration = Duration::from_secs(2);

/// What is told of the data plane.
#[derive(Clone, Debug)]
pub struct Pulse {
    /// What is served.
    pub published: Published,
    /// Connections and requests.
    pub metrics: Arc<Metrics>,
    /// Changes when something is known of an endpoint that was not.
    pub health: watch::Receiver<u64>,
}

/// Which services the others know of this node, and by which version of the export.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) version: u64,
    pub(super) services: Arc<[Box<str>]>,
}

/// Tells how the instances fare, until it is stopped. `known` is read before the table, so that the table is no older.
pub(super) async fn services(
    node: Node,
    pulse: Pulse,
    mut known: watch::Receiver<Option<Known>>,
    stop: CancellationToken,
) {
    let Pulse {
        published,
        mut health,
        ..
    } = pulse;
    let mut generations = published.changes();
    loop {
        health.mark_unchanged();
        generations.mark_unchanged();
        let now = Instant::now();
        let mut next = None;
        let told = known.borrow_and_update().clone();
        if let Some(known) = told {
            let generation = published.load_full();
            let names = || known.services.iter().map(|name| &**name);
            let services = Services {
                counted: Some(known.version),
                counts: fitness::count(&generation.table, names(), now),
            };
            next = names()
                .filter_map(|name| generation.table.service(name)?.view(now).next_change())
                .min();
            drop(generation);
            node.tell_services(services).await;
        }
        let change = async {
            tokio::select! {
                changed = health.changed() => changed.is_ok(),
                changed = generations.changed() => changed.is_ok(),
                changed = known.changed() => changed.is_ok(),
                () = until(next) => true,
            }
        };
        let told_of = tokio::select! {
            () = stop.cancelled() => return,
            told_of = change => told_of,
        };
        // Whoever tells of changes has ended: so does this.
        if !told_of {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

/// Tells the load, until it is stopped.
pub(super) async fn load(node: Node, metrics: Arc<Metrics>, stop: CancellationToken) {
    let mut before = None;
    loop {
        let count = |count: i64| u32::try_from(count.max(0)).unwrap_or(u32::MAX);
        let ticks = Ticks::read();
        let load = Load {
            cpu_permille: before.zip(ticks).map_or(0, |(before, now)| busy(before, now)),
            memory_permille: memory().unwrap_or(0),
            connections: count(metrics.open_connections()),
            requests: count(metrics.in_flight()),
        };
        before = ticks;
        node.tell_load(load).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(MEASURE) => {}
        }
    }
}

/// What all processors of this host have spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    idle: u64,
}

impl Ticks {
    /// `None` where `/proc` is missing.
    fn read() -> Option<Self> {
        let total = procfs::KernelStats::current().ok()?.total;
        let idle = total.idle.saturating_add(total.iowait.unwrap_or(0));
        let busy = [
            total.user,
            total.nice,
            total.system,
            total.irq.unwrap_or(0),
            total.softirq.unwrap_or(0),
            total.steal.unwrap_or(0),
        ];
        Some(Self {
            busy: busy.into_iter().fold(0, u64::saturating_add),
            idle,
        })
    }
}

/// The busy share of the time between, in thousandths.
fn busy(before: Ticks, now: Ticks) -> u16 {
    let busy = now.busy.saturating_sub(before.busy);
    let all = busy.saturating_add(now.idle.saturating_sub(before.idle));
    permille(busy, all)
}

fn permille(part: u64, whole: u64) -> u16 {
    let permille = part.saturating_mul(1000).checked_div(whole).unwrap_or(0);
    u16::try_from(permille.min(1000)).unwrap_or(1000)
}

/// The share of the memory that is in use, in thousandths.
fn memory() -> Option<u16> {
    let memory = procfs::Meminfo::current().ok()?;
    let free = memory.mem_available.unwrap_or(memory.mem_free);
    Some(permille(memory.mem_total.saturating_sub(free), memory.mem_total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_passed() {
        let at = |busy, idle| Ticks { busy, idle };
        assert_eq!(busy(at(100, 100), at(150, 150)), 500);
        assert_eq!(busy(at(100, 100), at(100, 300)), 0);
        assert_eq!(busy(at(100, 100), at(300, 100)), 1000);
        assert_eq!(busy(at(100, 100), at(100, 100)), 0);
        // A host whose idle time went back, as some do.
        assert_eq!(busy(at(100, 100), at(110, 90)), 1000);
    }

    #[test]
    fn this_host_has_processors_and_memory() {
        let ticks = Ticks::read().unwrap();
        assert!(ticks.busy > 0 && ticks.idle > 0, "{ticks:?}");
        let memory = memory().unwrap();
        assert!((1..1000).contains(&memory), "{memory}");
    }
}
