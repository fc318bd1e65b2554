//! What is known of one request while it lasts: its route, where it stands among the candidates, its figures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use constellation_table::{Endpoint, EntryPointId, Router, Service};
use smallvec::SmallVec;

use super::Edge;
use super::connection::Connection;
use super::forwarded::Upgrade;
use super::upstream::{Addresses, EndpointState, ServiceState};
use crate::metrics::{InFlight, RouteMetrics, RouterMetrics};

/// What is known of one request while it lasts.
pub(crate) struct Exchange {
    pub(super) started: Instant,
    pub(super) connection: Option<Arc<Connection>>,
    pub(super) route: Option<Route>,
    pub(super) candidates: SmallVec<[Arc<Endpoint>; 4]>,
    /// Which candidate, and which of its addresses, is tried now.
    pub(super) candidate: usize,
    pub(super) addresses: Addresses,
    pub(super) address: usize,
    pub(super) attempts: usize,
    /// The request body received so far, for the limit in HTTP/2.
    pub(super) body: u64,
    /// The back end has begun to answer.
    pub(super) answered: bool,
    pub(super) upgrade: Upgrade,
    /// The status to give when every attempt has failed.
    pub(super) failure: u16,
    pub(super) attempt: Option<InFlight>,
    pub(super) running: Option<InFlight>,
    /// The target as received, when it was rewritten.
    pub(super) target: Option<Box<str>>,
    /// When the current attempt began, and how long the ended ones took.
    pub(super) asked: Option<Instant>,
    pub(super) origin_duration: Duration,
    pub(super) origin_status: Option<u16>,
}

/// The route a request took.
pub(super) struct Route {
    pub(super) router: Arc<Router>,
    /// None when the router answers by itself.
    pub(super) service: Option<Arc<Service>>,
}

impl Route {
    /// The counters of the router, looked up on its first request.
    pub(super) fn metrics(&self, edge: &Edge, entry_point: EntryPointId) -> Option<&RouteMetrics> {
        let metrics: &RouterMetrics = self
            .router
            .slot
            .get_or_init(|| edge.metrics.router(&self.router))?;
        metrics.on(entry_point)
    }
}

impl Exchange {
    /// A request of which nothing is known yet.
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            connection: None,
            route: None,
            candidates: SmallVec::new(),
            candidate: 0,
            addresses: Addresses::new(),
            address: 0,
            attempts: 0,
            body: 0,
            answered: false,
            upgrade: Upgrade::None,
            failure: 502,
            attempt: None,
            running: None,
            target: None,
            asked: None,
            origin_duration: Duration::ZERO,
            origin_status: None,
        }
    }

    /// The service of the route.
    pub(super) fn service(&self) -> Option<&Arc<Service>> {
        self.route.as_ref()?.service.as_ref()
    }

    fn service_state(&self, edge: &Edge) -> Option<&ServiceState> {
        let service = self.service()?;
        service
            .slot
            .get_or_init(|| ServiceState::new(service, &edge.metrics))
    }

    /// The endpoint that is tried now.
    pub(super) fn endpoint(&self, edge: &Edge) -> Option<(&Arc<Endpoint>, &EndpointState)> {
        let endpoint = self.candidates.get(self.candidate)?;
        let state = self.service_state(edge)?.of(self.service()?, endpoint)?;
        Some((endpoint, state))
    }

    /// Whether there is another candidate or address after the current one.
    pub(super) fn has_others(&self) -> bool {
        self.candidate + 1 < self.candidates.len() || self.address + 1 < self.addresses.len()
    }

    /// The current attempt is over.
    pub(super) fn end_attempt(&mut self) {
        self.attempt = None;
        if let Some(asked) = self.asked.take() {
            self.origin_duration += asked.elapsed();
        }
    }

    /// Steps to the next address of this candidate, or to the next candidate.
    pub(super) fn step(&mut self, connect_failed: bool) {
        if connect_failed && self.address + 1 < self.addresses.len() {
            self.address += 1;
        } else {
            self.candidate += 1;
            self.address = 0;
            self.addresses.clear();
        }
    }
}
