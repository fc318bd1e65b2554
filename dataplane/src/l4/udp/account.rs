//! Counting what was carried, and what became of sessions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use smallvec::SmallVec;

use super::pump::Pump;
use super::session::{Key, Place, Session};
use super::table::{Removed, Standing};
use crate::access_log::StreamRecord;
use crate::metrics::{Carried, SessionEnd, UdpRouteMetrics};

/// What was carried since the counters, which all workers share, were last added to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    route: Option<Arc<UdpRouteMetrics>>,
    received: Carried,
    sent: Carried,
}

impl Tally {
    pub(super) fn received(&mut self, route: &Arc<UdpRouteMetrics>, carried: Carried) {
        self.turn_to(route);
        self.received += carried;
    }

    pub(super) fn sent(&mut self, route: &Arc<UdpRouteMetrics>, carried: Carried) {
        self.turn_to(route);
        self.sent += carried;
    }

    fn turn_to(&mut self, route: &Arc<UdpRouteMetrics>) {
        if !self.route.as_ref().is_some_and(|own| Arc::ptr_eq(own, route)) {
            self.settle();
            self.route = Some(route.clone());
        }
    }

    /// Adds it to the counters.
    pub(super) fn settle(&mut self) {
        if let Some(route) = &self.route {
            route.carried(std::mem::take(&mut self.received), std::mem::take(&mut self.sent));
        }
    }
}

/// Why a session that was given up for another one ended.
pub(super) fn eviction(standing: Standing) -> SessionEnd {
    match standing {
        Standing::Unanswered => SessionEnd::EvictedUnanswered,
        Standing::Answered | Standing::Settled => SessionEnd::Evicted,
    }
}

impl Pump {
    /// A session is over.
    pub(super) fn ended(&self, removed: Removed<Key, Box<Session>>, end: SessionEnd, now: Instant) {
        let Removed { key, session, .. } = removed;
        session.route.finish(end);
        // Forged addresses have no business on the disk.
        if matches!(end, SessionEnd::EvictedUnanswered) {
            return;
        }
        let duration = now.saturating_duration_since(session.begun);
        let failed = matches!(end, SessionEnd::Unreachable);
        let log = &self.edge.access_log;
        if !log.wants_stream(failed, duration, session.retries) {
            return;
        }
        let Place {
            service, endpoint, ..
        } = &session.place;
        log.record_stream(StreamRecord {
            kind: "udp",
            start: SystemTime::now()
                .checked_sub(duration)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            duration,
            connect_duration: None,
            client: SocketAddr::new(key.client.ip().to_canonical(), key.client.port()),
            entry_point: self.entrance.settings.name.clone(),
            server_name: None,
            router: session.router.spec.name.clone(),
            service: service.name.clone(),
            endpoint: Some(endpoint.name.clone()),
            endpoint_url: Some(endpoint.url().into()),
            received: session.received.bytes,
            sent: session.sent.bytes,
            end: end.as_str(),
            retries: session.retries,
            attempts: SmallVec::new(),
            tls: None,
        });
    }
}
