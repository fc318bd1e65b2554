//! The life of a request: one generation, one decision, the first candidate that works.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use constellation_table::{
    Decision, Endpoint, EntryPointId, RequestMeta, Router, Service, Turn, decide, host, path,
};
use http::header;
use http::{HeaderValue, Method, Version};
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::{H1UpgradePolicy, HttpPeer};
use pingora_error::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use smallvec::SmallVec;

use super::Edge;
use super::answer::{self, Answer};
use super::connection::Connection;
use super::forwarded::{self, Upgrade};
use super::refusal::Refusal;
use super::retry::{Attempt, Failure, Verdict, is_idempotent, retry_verdict};
use super::upstream::{Addresses, EndpointState, Names, ServiceState, text_value};
use crate::Generation;
use crate::access_log::Record;
use crate::metrics::{EndpointFailure, Finished, InFlight, Protocol, RouteMetrics, RouterMetrics};

/// The pingora application of one worker.
pub(crate) struct App {
    edge: Arc<Edge>,
    names: Names,
    /// Our host name, for `X-Forwarded-Server`.
    server: HeaderValue,
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

/// What is known of one request while it lasts.
pub(crate) struct Exchange {
    started: Instant,
    connection: Option<Arc<Connection>>,
    route: Option<Route>,
    candidates: SmallVec<[Arc<Endpoint>; 4]>,
    /// Which candidate, and which of its addresses, is tried now.
    candidate: usize,
    addresses: Addresses,
    address: usize,
    attempts: usize,
    /// The request body received so far, for the limit in HTTP/2.
    body: u64,
    /// The back end has begun to answer.
    answered: bool,
    upgrade: Upgrade,
    /// The status to give when every attempt has failed.
    failure: u16,
    attempt: Option<InFlight>,
    running: Option<InFlight>,
    /// The target as received, when it was rewritten.
    target: Option<Box<str>>,
    /// When the current attempt began, and how long the ended ones took.
    asked: Option<Instant>,
    origin_duration: Duration,
    origin_status: Option<u16>,
}

/// The route a request took.
struct Route {
    router: Arc<Router>,
    service: Arc<Service>,
}

impl Route {
    /// The counters of the router, looked up on its first request.
    fn metrics(&self, edge: &Edge, entry_point: EntryPointId) -> Option<&RouteMetrics> {
        let metrics: &RouterMetrics = self
            .router
            .slot
            .get_or_init(|| edge.metrics.router(&self.router))?;
        metrics.on(entry_point)
    }
}

impl Exchange {
    fn service_state(&self, edge: &Edge) -> Option<&ServiceState> {
        let route = self.route.as_ref()?;
        route
            .service
            .slot
            .get_or_init(|| ServiceState::new(&route.service, &edge.metrics))
    }

    fn endpoint(&self, edge: &Edge) -> Option<(&Arc<Endpoint>, &EndpointState)> {
        let endpoint = self.candidates.get(self.candidate)?;
        let route = self.route.as_ref()?;
        let state = self.service_state(edge)?.of(&route.service, endpoint)?;
        Some((endpoint, state))
    }

    fn has_others(&self) -> bool {
        self.candidate + 1 < self.candidates.len() || self.address + 1 < self.addresses.len()
    }

    /// The current attempt is over.
    fn end_attempt(&mut self) {
        self.attempt = None;
        if let Some(asked) = self.asked.take() {
            self.origin_duration += asked.elapsed();
        }
    }

    /// Steps to the next address of this candidate, or to the next candidate.
    fn step(&mut self, connect_failed: bool) {
        if connect_failed && self.address + 1 < self.addresses.len() {
            self.address += 1;
        } else {
            self.candidate += 1;
            self.address = 0;
            self.addresses.clear();
        }
    }
}

/// What is to be done with a request.
enum Outcome {
    Answer(Answer),
    Refuse(Refusal),
    Forward,
}

impl App {
    /// Decides the request, changing its headers on the way.
    fn route(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Outcome> {
        let Some(connection) = connection_of(session) else {
            return Err(Error::explain(
                ErrorType::InternalError,
                "a request without a connection",
            ));
        };
        exchange.connection = Some(connection.clone());
        let limits = connection.entry_point.limits;
        if connection.is_last_request() {
            session.set_keepalive(None);
        }
        exchange.upgrade = forwarded::settle_upgrade(session.req_header_mut());
        // An upgraded connection may be silent for hours.
        session.set_read_timeout(limits.read_timeout.filter(|_| exchange.upgrade == Upgrade::None));
        session.set_write_timeout(limits.write_timeout);
        let request = session.req_header_mut();
        if let Err(refusal) = forwarded::apply_connection(request) {
            return Ok(Outcome::Refuse(refusal));
        }
        forwarded::set(request, &connection, &self.server)?;
        let generation = self.edge.published.load();
        let decided = self.decide(&generation, request, &connection, exchange);
        let outcome = match decided {
            Ok((outcome, rewritten)) => {
                if let Some(target) = rewritten {
                    exchange.target = Some(String::from_utf8_lossy(request.raw_path()).into());
                    retarget(request, &target)?;
                }
                outcome
            }
            Err(refusal) => Outcome::Refuse(refusal),
        };
        if matches!(outcome, Outcome::Forward) {
            forwarded::append_for(request, &connection)?;
        }
        Ok(outcome)
    }

    /// Asks the routing core. Also returns the target for the back end when it differs from what came.
    fn decide(
        &self,
        generation: &Generation,
        request: &RequestHeader,
        connection: &Connection,
        exchange: &mut Exchange,
    ) -> Result<(Outcome, Option<String>), Refusal> {
        if request.method == Method::CONNECT {
            return Err(Refusal::Connect);
        }
        let authority = answer::authority(request);
        let name = match authority {
            // HTTP/1.0 may leave it out; the wire checks saw to it that nobody else does.
            "" if request.version == Version::HTTP_10 => "".into(),
            authority => host::canonical(authority).map_err(|_| Refusal::HostInvalid)?,
        };
        if let Some(tls) = &connection.tls {
            let asked = tls.server_name.as_deref().unwrap_or_default();
            if asked != name {
                let entry_point = connection.entry_point.id;
                if *tls.options != *generation.tls.options_name_for(entry_point, &name) {
                    return Err(Refusal::Misdirected);
                }
            }
        }
        let raw = request.uri.path();
        if raw == "*" {
            return Ok((Outcome::Answer(answer::OPTIONS), None));
        }
        let query = request.uri.query();
        let normal = path::normalise(raw).map_err(|_| Refusal::Path)?;
        let meta = RequestMeta {
            entry_point: connection.entry_point.id,
            tls: connection.tls.is_some(),
            method: request.method.as_str(),
            host: &name,
            path: &normal.routing,
            query: query.unwrap_or_default(),
            headers: &request.headers,
            client: connection.client.ip(),
            turn: Turn::Take,
        };
        let target = || match query {
            Some(query) => format!("{}?{query}", normal.clean),
            None => normal.clean.clone().into_owned(),
        };
        let outcome = match decide(&generation.table, &meta) {
            Decision::Forward {
                router,
                service,
                candidates,
            } => {
                exchange.candidates = candidates.order.iter().map(|c| c.endpoint.clone()).collect();
                exchange.route = Some(Route {
                    router: router.clone(),
                    service: service.clone(),
                });
                Outcome::Forward
            }
            Decision::Unavailable { router, service, .. } => {
                let answer = answer::UNAVAILABLE.retry_after(service.retry_after);
                exchange.route = Some(Route {
                    router: router.clone(),
                    service: service.clone(),
                });
                Outcome::Answer(answer)
            }
            Decision::Redirect { redirect, .. } => {
                Outcome::Answer(Answer::redirect(redirect, &request.method, authority, &target()))
            }
            Decision::NoRoute => Outcome::Answer(answer::NO_ROUTE),
        };
        // An absolute target goes on in origin form.
        let changed = raw != normal.clean || !request.raw_path().starts_with(b"/");
        Ok((outcome, changed.then(target)))
    }

    /// Decides what follows a failed attempt and prepares for it.
    fn follow(&self, session: &mut Session, exchange: &mut Exchange, failure: Failure, error: &mut Error) {
        let request = session.req_header();
        let repeatable = is_idempotent(&request.method) && exchange.upgrade == Upgrade::None;
        let attempt = Attempt {
            failure,
            repeatable,
            replayable: !session.as_ref().retry_buffer_truncated(),
            answered: exchange.answered
                || session
                    .response_written()
                    .is_some_and(|r| !r.status.is_informational()),
            made: exchange.attempts,
            others: exchange.has_others(),
        };
        let verdict = retry_verdict(&attempt);
        if let Some((endpoint, state)) = exchange.endpoint(&self.edge) {
            tracing::debug!(endpoint = %endpoint.name, ?failure, ?verdict, %error, "an attempt failed");
            state.metrics.failed(reason(failure, error));
        }
        exchange.end_attempt();
        match verdict {
            Verdict::Next => {
                exchange.step(matches!(failure, Failure::Connect { .. }));
                error.set_retry(true);
            }
            Verdict::Again => error.set_retry(true),
            Verdict::GiveUp(status) => {
                exchange.failure = status;
                error.set_retry(false);
            }
        }
    }
}

impl App {
    /// Counts and logs a request that ended.
    fn account(&self, session: &mut Session, exchange: &Exchange, connection: &Connection) {
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
        let endpoint = exchange.endpoint(&self.edge);
        log.record(Record {
            start: SystemTime::now()
                .checked_sub(finished.duration)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            duration: finished.duration,
            origin_duration: exchange.origin_duration,
            client: connection.client,
            username: None,
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
            origin_bytes: session.upstream_body_bytes_received() as u64,
            router: exchange.route.as_ref().map(|r| r.router.spec.name.clone()),
            service: exchange.route.as_ref().map(|r| r.service.name.clone()),
            endpoint: endpoint.map(|(endpoint, _)| endpoint.name.clone()),
            endpoint_url: endpoint.map(|(_, state)| state.url.clone()),
            retries,
            tls: connection.tls.as_ref().map(|tls| tls.details.clone()),
            request_headers: log.request_headers(&request.headers),
            response_headers: session
                .response_written()
                .map(|response| log.response_headers(&response.headers))
                .unwrap_or_default(),
        });
    }
}

/// The label of a failed attempt.
fn reason(failure: Failure, error: &Error) -> EndpointFailure {
    match (failure, error.etype()) {
        (_, ErrorType::TLSHandshakeFailure | ErrorType::TLSHandshakeTimedout | ErrorType::InvalidCert) => {
            EndpointFailure::Tls
        }
        (Failure::Connect { timed_out: true }, _) => EndpointFailure::ConnectTimeout,
        (Failure::Connect { .. }, _) => EndpointFailure::Connect,
        (Failure::Silent, _) | (_, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => {
            EndpointFailure::Timeout
        }
        (_, ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2) => EndpointFailure::Protocol,
        _ => EndpointFailure::Closed,
    }
}

/// How an attempt failed after there was a connection.
fn failure_of(error: &Error, reused: bool) -> Failure {
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Failure::Silent,
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError => {
            Failure::Broken { reused }
        }
        ErrorType::H2Error | ErrorType::H2Downgrade | ErrorType::InvalidH2 | ErrorType::H1Error => {
            match error.retry {
                // GOAWAY and REFUSED_STREAM: the back end says that it did nothing (RFC 9113 section 8.7).
                pingora_error::RetryType::Decided(true) => Failure::NotProcessed,
                _ => Failure::Broken { reused },
            }
        }
        _ => Failure::Final,
    }
}

/// The connection a request came in on.
fn connection_of(session: &Session) -> Option<Arc<Connection>> {
    let handle = session.digest()?.proxy_digest.as_ref()?;
    handle
        .user_data
        .as_ref()?
        .downcast_ref::<Arc<Connection>>()
        .cloned()
}

/// Replaces path and query, keeping the authority of an HTTP/2 request.
fn retarget(request: &mut RequestHeader, target: &str) -> Result<()> {
    if request.uri.authority().is_none() {
        return request.set_raw_path(target.as_bytes());
    }
    let mut parts = request.uri.clone().into_parts();
    let invalid =
        |_| Error::explain(ErrorType::InvalidHTTPHeader, "a path that can't be rewritten").into_down();
    parts.path_and_query = Some(target.parse().map_err(invalid)?);
    let uri = http::Uri::from_parts(parts).map_err(|_| {
        Error::explain(ErrorType::InvalidHTTPHeader, "a target that can't be rewritten").into_down()
    })?;
    request.set_uri(uri);
    Ok(())
}

#[async_trait]
impl ProxyHttp for App {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange {
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

    /// None: what pingora would add by default costs time on every request.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        let answer = match self.route(session, exchange)? {
            Outcome::Forward => {
                let metrics = exchange.route.as_ref().and_then(|route| {
                    let metrics: &RouterMetrics = route
                        .router
                        .slot
                        .get_or_init(|| self.edge.metrics.router(&route.router))?;
                    metrics.on(exchange.connection.as_ref()?.entry_point.id)
                });
                exchange.running = metrics.map(crate::metrics::RouteMetrics::begin);
                return Ok(false);
            }
            Outcome::Answer(answer) => answer,
            Outcome::Refuse(refusal) => Answer::refusal(refusal),
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
        let pass_host = exchange.route.as_ref().is_none_or(|r| r.service.pass_host_header);
        if !pass_host {
            request.insert_header("Host", state.authority.clone())?;
        }
        if !endpoint.base_path.is_empty() {
            let own = request.uri.path_and_query().map_or("/", |p| p.as_str());
            let target = format!("{}{own}", endpoint.base_path.trim_end_matches('/'));
            retarget(request, &target)?;
        }
        if exchange.upgrade == Upgrade::Other {
            forwarded::remove_hop_by_hop(request);
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
        _end: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
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
        for name in ["keep-alive", "proxy-connection", "proxy-authenticate", "upgrade"] {
            response.remove_header(name);
        }
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
            && let (Some(route), Some((_, state))) = (&exchange.route, exchange.endpoint(&self.edge))
        {
            response.insert_header("X-Constellation-Endpoint", state.name.clone())?;
            response.insert_header("X-Constellation-Service", text_value(&route.service.name))?;
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
