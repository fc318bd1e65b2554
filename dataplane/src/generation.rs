//! The published generation: one swap makes routes, endpoints and certificates change together.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwap, Guard};
use constellation_table::Snapshot;

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
pub struct Published(Arc<ArcSwap<Generation>>);

impl Published {
    /// Starts with a first generation.
    pub fn new(first: Generation) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    /// The current generation, for the length of one request.
    pub fn load(&self) -> Guard<Arc<Generation>> {
        self.0.load()
    }

    /// The current generation, to keep.
    pub fn load_full(&self) -> Arc<Generation> {
        self.0.load_full()
    }

    /// Replaces the generation. Requests under way keep the one they took.
    pub fn publish(&self, next: Generation) {
        self.0.store(Arc::new(next));
    }
}
