//! The published generation: one swap makes routes, endpoints and certificates change together.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwap, Guard};
use constellation_table::Snapshot;
use tokio::sync::watch;

use crate::tls::TlsView;

/// Everything the data plane needs to serve, immutable.
#[derive(Debug)]
pub struct Generation {
    /// Routers, services, endpoints.
    pub table: Snapshot,
    /// Certificates and TLS options by server name.
    pub tls: TlsView,
    /// When it was published; for status and metrics only.
    pub published: SystemTime,
}

/// The one place where generations are swapped. Cloning shares the place.
#[derive(Clone, Debug)]
pub struct Published(Arc<Place>);

#[derive(Debug)]
struct Place {
    current: ArcSwap<Generation>,
    /// The number of the current generation.
    number: watch::Sender<u64>,
}

impl Published {
    /// Starts with a first generation.
    pub fn new(first: Generation) -> Self {
        let number = watch::Sender::new(first.table.generation());
        Self(Arc::new(Place {
            current: ArcSwap::from_pointee(first),
            number,
        }))
    }

    /// The current generation, for the length of one request.
    pub fn load(&self) -> Guard<Arc<Generation>> {
        self.0.current.load()
    }

    /// The current generation, to keep.
    pub fn load_full(&self) -> Arc<Generation> {
        self.0.current.load_full()
    }

    /// Replaces the generation. Requests under way keep the one they took.
    pub fn publish(&self, next: Generation) {
        let number = next.table.generation();
        self.0.current.store(Arc::new(next));
        self.0.number.send_replace(number);
    }

    /// The number of the current generation, told anew after each publish. What [`Published::load`] gives is at least
    /// as new as the number that was told.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.number.subscribe()
    }
}
