//! The life of a request: one generation, one decision, the first candidate that works.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use http::header;
use http::{HeaderValue, Method, Version};
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::{H1UpgradePolicy, HttpPeer};
use pingora_error::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use super::Edge;
use super::answer::{self, Answer};
use super::attempts::failure_of;
use super::exchange::Exchange;
use super::forwarded::{self, Upgrade};
use super::response;
use super::retry::Failure;
use super::routing::{Outcome, retarget};
use super::upstream::{Names, text_value};
use crate::metrics::{EndpointFailure, RouteMetrics};

/// The pingora application of one worker.
pub(crate) struct App {
    pub(super) edge: Arc<Edge>,
    pub(super) names: Names,
    /// Our host name, for `X-Forwarded-Server`.
    pub(super) server: HeaderValue,
}

impl App {
    pub(super) fn new(edge: Arc<Edge>) -> Self {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            edge,
            names: Names::default(),
            server: text_value(name.trim()),
        }
    }
}

#[async_trait]
impl ProxyHttp for App {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange::new()
    }

    /// None: what pingora would add by default costs time on every request.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        let answer = match self.route(session, exchange)? {
            Outcome::Forward => {
                let metrics = exchange.route.as_ref().and_then(|route| {
                    route.metrics(&self.edge, exchange.connection.as_ref()?.entry_point.id)
                });
                exchange.running = metrics.map(RouteMetrics::begin);
                return Ok(false);
            }
            Outcome::Answer(answer) => answer,
            Outcome::Refuse(refusal) => {
                let entry_point = exchange.connection.as_ref().map(|c| c.entry_point.id);
                if let Some(metrics) = entry_point.and_then(|id| self.edge.metrics.entry_point(id)) {
                    metrics.refused(refusal.label());
                }
                Answer::refusal(refusal)
            }
        };
        answer.send(session).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _session: &mut Session, exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
        loop {
            let Some((endpoint, state)) = exchange.endpoint(&self.edge) else {
                let status = exchange.failure;
                return Err(Error::explain(ErrorType::HTTPStatus(status), "no endpoint is left").into_up());
            };
            if exchange.addresses.is_empty() {
                match state.addresses(endpoint, &self.names).await {
                    Ok(addresses) => exchange.addresses = addresses,
                    Err(error) => {
                        tracing::debug!(endpoint = %endpoint.name, %error, "no address");
                        state.metrics.failed(EndpointFailure::Connect);
                        exchange.attempts += 1;
                        exchange.step(false);
                        continue;
                    }
                }
            }
            let Some(address) = exchange.addresses.get(exchange.address).copied() else {
                exchange.step(false);
                continue;
            };
            let Some((_, state)) = exchange.endpoint(&self.edge) else {
                continue;
            };
            let peer = state.peer(address, exchange.has_others(), exchange.upgrade != Upgrade::None);
            let running = state.metrics.attempt();
            if exchange.attempts > 0 {
                state.metrics.retried();
            }
            if peer.is_err() {
                state.metrics.failed(EndpointFailure::Tls);
            }
            exchange.attempts += 1;
            match peer {
                Ok(mut peer) => {
                    exchange.attempt = Some(running);
                    exchange.asked = Some(Instant::now());
                    if exchange.upgrade == Upgrade::Other {
                        // pingora then leaves the headers alone; we removed what must not pass.
                        peer.options.http_upstream_request_policy.h1_upgrade = H1UpgradePolicy::Preserve;
                    }
                    return Ok(peer);
                }
                Err(why) => {
                    tracing::debug!(%why, "an endpoint can't be used");
                    exchange.step(false);
                }
            }
        }
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let Some((endpoint, state)) = exchange.endpoint(&self.edge) else {
            return Ok(());
        };
        // A client of HTTP/1.0 may name no host; our own request is HTTP/1.1 and must.
        let own_host = exchange
            .service()
            .is_some_and(|service| !service.pass_host_header)
            || answer::authority(request).is_empty();
        if own_host {
            request.insert_header("Host", state.authority.clone())?;
        }
        // Servers may ask for a length where the method expects content, even of none (RFC 9110, section 8.6).
        let lengthless = matches!(request.method, Method::POST | Method::PUT | Method::PATCH)
            && exchange.upgrade == Upgrade::None
            && !request.headers.contains_key(header::CONTENT_LENGTH)
            && !request.headers.contains_key(header::TRANSFER_ENCODING);
        if lengthless && session.as_downstream_mut().is_body_empty() {
            request.insert_header("Content-Length", HeaderValue::from_static("0"))?;
        }
        if !endpoint.base_path.is_empty() {
            let own = request.uri.path_and_query().map_or("/", |p| p.as_str());
            let target = format!("{}{own}", endpoint.base_path.trim_end_matches('/'));
            retarget(request, &target)?;
        }
        if exchange.upgrade == Upgrade::Other {
            forwarded::remove_hop_by_hop(request);
        }
        if session.is_http2() {
            forwarded::join_cookies(request)?;
        }
        // The one option of `TE` that concerns the next hop too; gRPC back ends insist on it.
        let trailers = |v: &HeaderValue| {
            v.as_bytes()
                .split(|b| *b == b',')
                .any(|o| o.trim_ascii().eq_ignore_ascii_case(b"trailers"))
        };
        if session
            .req_header()
            .headers
            .get_all(header::TE)
            .iter()
            .any(trailers)
        {
            request.insert_header("Te", HeaderValue::from_static("trailers"))?;
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
        // HTTP/2 ends a body with an empty frame. Written as a chunk it would be a terminator, and a second one would
        // follow: the next request on that connection would begin with it.
        if end && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        exchange.body += body.as_ref().map_or(0, |b| b.len() as u64);
        let limit = exchange
            .connection
            .as_ref()
            .and_then(|c| c.entry_point.limits.max_body_bytes);
        if exchange.upgrade == Upgrade::None && limit.is_some_and(|limit| exchange.body > limit) {
            return Err(
                Error::explain(ErrorType::HTTPStatus(413), "the request body is too large").into_down(),
            );
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        exchange.origin_status = Some(response.status.as_u16());
        if let Err(unsound) = response::check(response, exchange.upgrade)? {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, unsound.text()).into_up());
        }
        exchange.answered = !response.status.is_informational() || response.status.as_u16() == 101;
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        let Some(connection) = &exchange.connection else {
            return Ok(());
        };
        if response.status.as_u16() == 101 {
            connection.upgrade();
            return Ok(());
        }
        forwarded::clean_response(response);
        // Each hop states its own version (RFC 9110 section 2.5), whatever an old back end speaks.
        response.set_version(Version::HTTP_11);
        if session.req_header().version == Version::HTTP_10
            && response.remove_header(&header::TRANSFER_ENCODING).is_some()
        {
            // Such a client knows no chunks: the end of the connection is the end of the body.
            session.set_keepalive(None);
        }
        if session.is_process_shutting_down() {
            session.set_keepalive(None);
        }
        if connection.tell_served_by
            && let (Some(route), Some(service), Some((_, state))) =
                (&exchange.route, exchange.service(), exchange.endpoint(&self.edge))
        {
            response.insert_header("X-Constellation-Endpoint", state.name.clone())?;
            response.insert_header("X-Constellation-Service", text_value(&service.name))?;
            response.insert_header("X-Constellation-Router", text_value(&route.router.spec.name))?;
        }
        Ok(())
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        exchange: &mut Exchange,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let timed_out = matches!(
            error.etype(),
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout
        );
        if let Some((endpoint, _)) = exchange.endpoint(&self.edge) {
            self.names.forget(&endpoint.host, endpoint.port);
        }
        self.follow(session, exchange, Failure::Connect { timed_out }, &mut error);
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        exchange: &mut Exchange,
        client_reused: bool,
    ) -> Box<Error> {
        if *error.esource() == ErrorSource::Upstream {
            let failure = failure_of(&error, client_reused);
            self.follow(session, exchange, failure, &mut error);
        } else {
            error.set_retry(false);
        }
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Exchange,
    ) -> FailToProxy {
        let status = match (error.esource(), error.etype()) {
            (_, ErrorType::HTTPStatus(status)) => *status,
            (ErrorSource::Upstream, _) => exchange.failure,
            (ErrorSource::Downstream, ErrorType::ReadTimedout) => 408,
            (
                ErrorSource::Downstream,
                ErrorType::ReadError
                | ErrorType::WriteError
                | ErrorType::WriteTimedout
                | ErrorType::ConnectionClosed
                | ErrorType::ConnectError
                | ErrorType::H2Error,
            ) => 0,
            (ErrorSource::Downstream, _) => 400,
            _ => 500,
        };
        tracing::debug!(%error, status, "request failed");
        let begun = session
            .response_written()
            .is_some_and(|r| !r.status.is_informational());
        let mut can_reuse_downstream = false;
        if status > 0 && !begun {
            let answer = Answer::failure(status);
            can_reuse_downstream = status >= 500 && session.is_body_done();
            if !can_reuse_downstream {
                session.set_keepalive(None);
            }
            if let Err(error) = answer.send(session).await {
                tracing::debug!(%error, "the client was gone before the answer");
                can_reuse_downstream = false;
            }
        }
        FailToProxy {
            error_code: status,
            can_reuse_downstream,
        }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, exchange: &mut Exchange) {
        exchange.end_attempt();
        exchange.running = None;
        let Some(connection) = exchange.connection.clone() else {
            return;
        };
        self.account(session, exchange, &connection);
        connection.release();
    }

    fn suppress_error_log(&self, _session: &Session, _exchange: &Exchange, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _exchange: &Exchange,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
