//! How many bytes a connection has carried, for whoever asks while it lasts, and for the metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;

use super::{Each, Side};
use crate::metrics::StreamBytes;

/// Bytes after which the metrics learn of them: all connections of a route share their counters.
const TELL: u64 = 1 << 20;

/// The bytes of a connection. Its own task adds; anybody may read.
#[derive(Debug, Default)]
pub struct Progress(Each<Moved>);

/// The bytes of one direction.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// Something was read.
    begun: AtomicBool,
    copied: AtomicU64,
    spliced: AtomicU64,
    counters: Option<Counters>,
}

/// Where bytes are counted, and how many were.
#[derive(Debug)]
struct Counters {
    all: Counter,
    spliced: Counter,
    told: AtomicU64,
    told_spliced: AtomicU64,
}

impl Progress {
    /// Counts bytes into `counters` as well.
    pub(crate) fn counted(counters: &StreamBytes) -> Self {
        let moved = |all: &Counter| Moved {
            begun: AtomicBool::new(false),
            copied: AtomicU64::new(0),
            spliced: AtomicU64::new(0),
            counters: Some(Counters {
                all: all.clone(),
                spliced: counters.spliced.clone(),
                told: AtomicU64::new(0),
                told_spliced: AtomicU64::new(0),
            }),
        };
        Self(Each {
            client: moved(&counters.received),
            server: moved(&counters.sent),
        })
    }

    /// Bytes that came from that side and were written to the other one.
    pub fn from(&self, side: Side) -> u64 {
        self.0.of(side).all()
    }

    /// Those of them that were spliced.
    pub fn spliced_from(&self, side: Side) -> u64 {
        self.0.of(side).spliced.load(Ordering::Relaxed)
    }

    /// Whether a byte came from that side, written or not.
    pub(crate) fn has_begun(&self, side: Side) -> bool {
        self.0.of(side).begun.load(Ordering::Relaxed)
    }

    /// Both directions together.
    pub(super) fn total(&self) -> u64 {
        Side::BOTH.into_iter().map(|side| self.from(side)).sum()
    }

    pub(super) fn of(&self, side: Side) -> &Moved {
        self.0.of(side)
    }
}

impl Moved {
    /// Notes that bytes were read, whether or not they were written.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    pub(super) fn copied(&self, count: usize) {
        add(&self.copied, count as u64);
        self.tell(TELL);
    }

    pub(super) fn spliced(&self, count: usize) {
        add(&self.spliced, count as u64);
        self.tell(TELL);
    }

    fn all(&self) -> u64 {
        self.copied.load(Ordering::Relaxed) + self.spliced.load(Ordering::Relaxed)
    }

    /// Tells the metrics what they do not know, when it is as much as that.
    fn tell(&self, least: u64) {
        let Some(counters) = &self.counters else { return };
        let untold = self.all() - counters.told.load(Ordering::Relaxed);
        if untold < least {
            return;
        }
        counters.all.inc_by(untold);
        add(&counters.told, untold);
        let spliced = self.spliced.load(Ordering::Relaxed) - counters.told_spliced.load(Ordering::Relaxed);
        counters.spliced.inc_by(spliced);
        add(&counters.told_spliced, spliced);
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        self.tell(1);
    }
}

/// There is one writer, so nothing is lost between the two accesses.
fn add(to: &AtomicU64, count: u64) {
    let sum = to.load(Ordering::Relaxed).wrapping_add(count);
    to.store(sum, Ordering::Relaxed);
}
