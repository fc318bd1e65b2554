//! The end of a request: counters and the access log.

use std::time::SystemTime;

use http::Version;
use pingora_core::protocols::http::ServerSession;

use super::answer;
use super::connection::Connection;
use super::exchange::Exchange;
use super::proxy::App;
use crate::access_log::Record;
use crate::metrics::{Finished, Protocol};

impl App {
    /// Counts and logs a request that ended.
    pub(super) fn account(&self, session: &mut ServerSession, exchange: &Exchange, connection: &Connection) {
        let request = session.req_header();
        let status = session
            .response_written()
            .map_or(0, |response| response.status.as_u16());
        let protocol = match request.version {
            Version::HTTP_2 => Protocol::Http2,
            _ if connection.is_upgraded() => Protocol::Upgrade,
            _ => Protocol::Http1,
        };
        let finished = Finished {
            method: request.method.as_str().into(),
            status,
            protocol,
            duration: exchange.started.elapsed(),
            request_bytes: session.body_bytes_read() as u64,
            response_bytes: session.body_bytes_sent() as u64,
        };
        let entry_point = connection.entry_point.id;
        let routed = exchange
            .route
            .as_ref()
            .and_then(|route| route.metrics(&self.edge, entry_point));
        let unrouted = || Some(self.edge.metrics.entry_point(entry_point)?.unrouted());
        if let Some(metrics) = routed.or_else(unrouted) {
            metrics.finish(&finished);
        }
        let retries = u32::try_from(exchange.attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        let log = &self.edge.access_log;
        if !log.wants(status, finished.duration, retries) {
            return;
        }
        let endpoint = exchange.endpoint();
        log.record(Record {
            start: SystemTime::now()
                .checked_sub(finished.duration)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            duration: finished.duration,
            origin_duration: exchange.origin_duration,
            client: connection.client,
            username: exchange.user.clone(),
            entry_point: connection.entry_point.name.clone(),
            method: request.method.clone(),
            target: exchange
                .target
                .clone()
                .unwrap_or_else(|| String::from_utf8_lossy(request.raw_path()).into()),
            host: answer::authority(request).into(),
            version: request.version,
            status,
            origin_status: exchange.origin_status,
            request_bytes: finished.request_bytes,
            response_bytes: finished.response_bytes,
            origin_bytes: exchange.origin_bytes,
            router: exchange.route.as_ref().map(|r| r.router.spec.name.clone()),
            service: exchange.service().map(|s| s.name.clone()),
            endpoint: endpoint.map(|(endpoint, _)| endpoint.name.clone()),
            endpoint_url: endpoint.map(|(_, state)| state.url.clone()),
            retries,
            attempts: smallvec::SmallVec::new(),
            tls: connection.tls.as_ref().map(|tls| tls.details.clone()),
            request_headers: log.request_headers(&request.headers),
            response_headers: session
                .response_written()
                .map(|response| log.response_headers(&response.headers))
                .unwrap_or_default(),
        });
    }
}
