//! The end of a connection: counters and the access log. Whatever ends it, also a cut from outside, is written down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use constellation_table::{Endpoint, Service, TcpRouter};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::opening::Opening;
use super::{Arrival, Scene};
use crate::access_log::{AttemptLine, AttemptOutcome, StreamRecord, TlsDetails};
use crate::http::Edge;
use crate::l4::relay::{Progress, Side};
use crate::metrics::{EndpointFailure, InFlight, StreamEnd, StreamRouteMetrics, StreamRouterMetrics};
use crate::settings::EntryPoint;

/// What is written down about a connection.
pub(super) struct Account {
    edge: Arc<Edge>,
    router: Arc<TcpRouter>,
    entry_point: Arc<EntryPoint>,
    client: SocketAddr,
    server_name: Option<Box<str>>,
    started: Instant,
    service: Arc<str>,
    endpoint: Option<(Arc<str>, Arc<str>)>,
    /// How long it took to reach a back end.
    connected: Option<Duration>,
    pub(super) attempts: usize,
    lines: SmallVec<[AttemptLine; 2]>,
    pub(super) tls: Option<TlsDetails>,
    pub(super) progress: Progress,
    /// What is written down when nobody says how it ended.
    end: StreamEnd,
    _open: InFlight,
}

impl Account {
    /// `None` for a router that is not known on the entry point, which decides nothing there.
    pub(super) fn open(
        scene: &Scene<'_>,
        router: &Arc<TcpRouter>,
        arrival: &Arrival,
        opening: &Opening,
    ) -> Option<Self> {
        let entry_point = scene.entry_point.settings.clone();
        let known: &StreamRouterMetrics = router
            .slot
            .get_or_init(|| scene.edge.metrics.stream_router(router))?;
        let metrics = known.on(entry_point.id)?;
        Some(Self {
            progress: Progress::counted(metrics.bytes()),
            _open: metrics.begin(),
            edge: scene.edge.clone(),
            router: router.clone(),
            entry_point,
            client: SocketAddr::new(arrival.client.ip().to_canonical(), arrival.client.port()),
            server_name: opening.hello.as_ref().and_then(|hello| hello.server_name.clone()),
            started: Instant::now(),
            service: router.spec.target.name().clone(),
            endpoint: None,
            connected: None,
            attempts: 0,
            lines: SmallVec::new(),
            tls: None,
            end: StreamEnd::Cut,
        })
    }

    fn metrics(&self) -> Option<&StreamRouteMetrics> {
        let metrics: &StreamRouterMetrics = self.router.slot.get()?;
        metrics.on(self.entry_point.id)
    }

    /// The service that is to serve it.
    pub(super) fn goes_to(&mut self, service: &Service) {
        self.service = service.name.clone();
    }

    /// The endpoint that is tried.
    pub(super) fn tries(&mut self, endpoint: &Endpoint, url: &Arc<str>) {
        self.attempts += 1;
        self.endpoint = Some((endpoint.name.clone(), url.clone()));
    }

    /// An endpoint has taken it.
    pub(super) fn connected(&mut self) {
        let after = self.started.elapsed();
        self.connected = Some(after);
        if let Some(metrics) = self.metrics() {
            metrics.connected(after);
        }
    }

    /// How an attempt went.
    pub(super) fn line(&mut self, endpoint: &Endpoint, outcome: AttemptOutcome, duration: Duration) {
        self.lines.push(AttemptLine {
            endpoint: endpoint.name.clone(),
            outcome,
            duration,
        });
    }

    /// The last attempt connected, and was of no use.
    pub(super) fn failed_after_all(&mut self, reason: EndpointFailure) {
        if let Some(line) = self.lines.last_mut() {
            line.outcome = AttemptOutcome::Failed(reason);
        }
    }

    /// It has ended so.
    pub(super) fn close(mut self, end: StreamEnd) {
        self.end = end;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some(metrics) = self.metrics() {
            metrics.finish(self.end);
        }
        let duration = self.started.elapsed();
        let retries = u32::try_from(self.attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        let log = &self.edge.access_log;
        if !log.wants_stream(self.end.is_unserved(), duration, retries) {
            return;
        }
        let (endpoint, endpoint_url) = self.endpoint.take().unzip();
        log.record_stream(StreamRecord {
            kind: "tcp",
            start: SystemTime::now()
                .checked_sub(duration)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            duration,
            connect_duration: self.connected,
            client: self.client,
            entry_point: self.entry_point.name.clone(),
            server_name: self.server_name.take(),
            router: self.router.spec.name.clone(),
            service: self.service.clone(),
            endpoint,
            endpoint_url,
            received: self.progress.from(Side::Client),
            sent: self.progress.from(Side::Server),
            end: self.end.as_str(),
            retries,
            attempts: std::mem::take(&mut self.lines),
            tls: self.tls.take(),
        });
    }
}
