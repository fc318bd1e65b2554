//! The life of a request: one generation, one decision, a race for a response, and the response on its way to the
//! client.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use constellation_middleware as middleware;
use http::{HeaderValue, Method};
use pingora_core::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorSource, ErrorType, Result};
use pingora_http::ResponseHeader;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Edge;
use super::answer::{self, Answer, Own};
use super::buffering::fitting;
use super::chain::Left;
use super::connection::Connection;
use super::downstream::has_begun;
use super::exchange::Exchange;
use super::mirror;
use super::pool::Pool;
use super::race::Lost;
use super::routing::{Outcome, connection_of};
use super::serve::LAST_CALL;
use super::upstream::{Names, text_value};
use crate::mesh::Links;
use crate::mesh::head::Refusal as MeshRefusal;
use crate::metrics::{EndpointFailure, GaveUp, QueueRefusal, Refusal, RouteMetrics};

/// Unwanted responses that one worker reads at once.
const DISCARDING: usize = 256;
/// How long the rest of a request's body is read after the response, to keep the connection.
const DRAINING: Duration = Duration::from_secs(2);

/// Serves the requests of one worker.
pub(crate) struct App {
    pub(super) edge: Arc<Edge>,
    pub(super) names: Arc<Names>,
    pub(super) pool: Arc<Pool>,
    /// Connections to other nodes.
    pub(super) links: Arc<Links>,
    /// Our host name, for `X-Forwarded-Server`.
    pub(super) server: HeaderValue,
    /// The node's name, for `X-Constellation-Node`.
    node: HeaderValue,
    /// Places for copies of requests to mirrors.
    pub(super) mirroring: Arc<Semaphore>,
    /// Places for responses that nobody wants, read to their end to keep the connection.
    pub(super) discarding: Arc<Semaphore>,
    /// No further request on any connection.
    pub(super) draining: CancellationToken,
}

/// Waits until a connection is to end, and whoever was told that it stays open has had the time to send the next request:
/// it may be on its way already, and the answer to it says that the connection ends.
async fn last_call(closing: &CancellationToken) {
    closing.cancelled().await;
    tokio::time::sleep(LAST_CALL).await;
}

/// Why a stream of HTTP/2 has ended before anything was done for it. Requests with their reset right behind them
/// (CVE-2023-44487) come many at a time, and cost no back end a connection.
fn reset_already(session: &mut ServerSession) -> Option<Box<Error>> {
    let ServerSession::H2(h2) = session else {
        return None;
    };
    let Poll::Ready(reason) = pin!(h2.idle()).poll(&mut Context::from_waker(Waker::noop())) else {
        return None;
    };
    let why = match reason {
        Ok(reason) => Error::explain(
            ErrorType::H2Error,
            format!("the client reset the stream: {reason}"),
        ),
        Err(error) => error,
    };
    Some(why.into_down())
}

/// How a request ended on the client's side.
enum End {
    /// The response is complete; the connection may carry another request.
    Complete,
    /// It is not: the connection is cut.
    Cut,
}

/// Answers what the library behind the wire checks could not read.
async fn refuse_unread(session: &mut ServerSession) -> Result<()> {
    let own = Answer::refusal(super::refusal::Refusal::RequestLine).into_own()?;
    session.write_error_response(own.head, own.body).await
}

impl App {
    /// Panics, as pingora does, when the system's certificate authorities can't be loaded.
    pub(super) fn new(edge: Arc<Edge>) -> Self {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            node: text_value(&edge.settings.node),
            links: Arc::new(Links::new(
                edge.settings.mesh.clone(),
                edge.metrics.mesh().clone(),
            )),
            edge,
            names: Arc::default(),
            pool: Arc::new(Pool::new()),
            server: text_value(name.trim()),
            mirroring: mirror::places(),
            discarding: Arc::new(Semaphore::new(DISCARDING)),
            draining: CancellationToken::new(),
        }
    }

    /// Serves one request. Returns the connection when it can carry another.
    pub(super) async fn serve(&self, mut session: ServerSession, stopping: bool) -> Option<ReusedHttpStream> {
        if !self.read_request(&mut session).await {
            return None;
        }
        if stopping || self.closing(connection_of(&session).as_ref()).is_cancelled() {
            session.set_keepalive(None);
        }
        session.set_total_drain_timeout(Some(DRAINING));
        let mut exchange = Exchange::new();
        let end = self.answer(&mut session, &mut exchange).await;
        self.send_copies(&mut session, &mut exchange);
        exchange.running = None;
        let connection = exchange.connection.take()?;
        self.account(&mut session, &exchange, &connection);
        connection.release();
        if matches!(end, End::Cut) {
            return None;
        }
        let settings = HttpPersistentSettings::for_session(&session);
        match session.finish().await {
            Ok(reusable) => reusable.map(|stream| ReusedHttpStream::from_reusable_stream(stream, settings)),
            Err(error) => {
                tracing::debug!(%error, "the client was gone before the end");
                None
            }
        }
    }

    /// Whether there is a request.
    async fn read_request(&self, session: &mut ServerSession) -> bool {
        let connection = connection_of(session);
        let closing = self.closing(connection.as_ref());
        let read = tokio::select! {
            // Who has sent a request is heard, also while we drain.
            biased;
            read = session.read_request() => read,
            () = last_call(closing) => return false,
        };
        match read {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(%error, "no request");
                if matches!(error.etype(), ErrorType::InvalidHTTPHeader)
                    && let Err(error) = refuse_unread(session).await
                {
                    tracing::debug!(%error, "the client was gone before the refusal");
                }
                session.shutdown().await;
                false
            }
        }
    }

    /// How a connection ends. Not a copy: making one takes a lock, and this is asked for each request.
    fn closing<'a>(&'a self, connection: Option<&'a Arc<Connection>>) -> &'a CancellationToken {
        connection.map_or(&self.draining, |connection| &connection.closing)
    }

    async fn answer(&self, session: &mut ServerSession, exchange: &mut Exchange) -> End {
        let routed = match self.route(session, exchange) {
            Ok(outcome @ (Outcome::Forward | Outcome::Answer(_))) => {
                match self.enter(session, exchange).await {
                    Ok(None) => Ok(outcome),
                    Ok(Some(answer)) => return self.send_answer(session, exchange, *answer).await,
                    Err(error) => Err(error),
                }
            }
            other => other,
        };
        let answer = match routed {
            Ok(Outcome::Forward) => return self.forward(session, exchange).await,
            Ok(Outcome::Answer(answer)) => answer,
            Ok(Outcome::Refuse(refusal)) => {
                if let Some(connection) = &exchange.connection {
                    self.edge
                        .refused(&connection.entry_point, connection.peer, refusal.label());
                }
                Answer::refusal(refusal)
            }
            Err(error) => {
                tracing::debug!(%error, "a request that can't be handled");
                Answer::failure(status_of(&error))
            }
        };
        self.send(session, exchange, answer).await
    }

    async fn forward(&self, session: &mut ServerSession, exchange: &mut Exchange) -> End {
        let metrics = exchange
            .route
            .as_ref()
            .and_then(|route| route.metrics(&self.edge, exchange.connection.as_ref()?.entry_point.id));
        exchange.running = metrics.map(RouteMetrics::begin);
        if let Some(error) = reset_already(session) {
            return self.fail(session, exchange, &error).await;
        }
        if exchange.announces_too_much(session.req_header()) {
            return self.send(session, exchange, Answer::failure(413)).await;
        }
        let prepared = exchange
            .service()
            .and_then(|service| Some((service.clone(), Exchange::prepare(&self.edge, service)?)));
        let Some((service, runtime)) = prepared else {
            return self.send(session, exchange, Answer::failure(500)).await;
        };
        match self.gather(session, exchange).await {
            Ok(None) => {}
            Ok(Some(own)) => return ended(self.send_own(session, exchange, own).await),
            Err(error) => return self.fail(session, exchange, &error).await,
        }
        let limits = &service.policy.limits;
        let admitted = {
            let _queued = limits.max_in_flight.map(|_| runtime.metrics.queued());
            let entering = runtime
                .admission
                .enter(limits.max_in_flight, limits.queue, limits.queue_timeout);
            // Who waits may leave. With a body that is seen only when it is read, which is the attempts' business.
            let watched = session.is_body_empty();
            tokio::select! {
                biased;
                admitted = entering => Ok(admitted),
                Err(error) = session.read_body_or_idle(true), if watched => Err(error.into_down()),
            }
        };
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(error) => return self.fail(session, exchange, &error).await,
        };
        let _place = match admitted {
            Ok(place) => place,
            Err(refused) => {
                runtime.metrics.queue_refused(QueueRefusal::from(&refused));
                exchange.refusal = Some(MeshRefusal::Busy);
                let answer = answer::BUSY.retry_after(service.retry_after);
                return self.send(session, exchange, answer).await;
            }
        };
        if let Err(error) = exchange.settle_headers(session.req_header_mut()) {
            return self.fail(session, exchange, &error).await;
        }
        let retry_after = service.retry_after;
        let _live = runtime.budget.enter(&service.policy.retry);
        match self.race(session, exchange, service, runtime).await {
            Ok(winner) => match self.relay(session, exchange, winner).await {
                Ok(()) => End::Complete,
                Err(error) => {
                    self.count_break(exchange, &error);
                    self.fail(session, exchange, &error).await
                }
            },
            Err(Lost::Client(error)) => self.fail(session, exchange, &error).await,
            Err(Lost::Failed(status)) => {
                if !exchange.reached {
                    exchange.refusal = Some(MeshRefusal::Unreachable);
                }
                let keep = session.is_body_done();
                let answer = match status {
                    503 => answer::UNAVAILABLE.retry_after(retry_after),
                    status => Answer::bad_gateway(status, keep),
                };
                if !keep {
                    session.set_keepalive(None);
                }
                self.send(session, exchange, answer).await
            }
        }
    }

    /// Counts a response that the back end broke off: nothing can follow it.
    fn count_break(&self, exchange: &Exchange, error: &Error) {
        if *error.esource() != ErrorSource::Upstream {
            return;
        }
        if let Some((_, state)) = exchange.endpoint() {
            state.metrics.failed(failure_of(error));
        }
        // The budget and its figures are the first service's.
        let first = exchange.route.as_ref().and_then(|route| route.service.as_ref());
        if let Some(runtime) = first.and_then(|service| Exchange::prepare(&self.edge, service)) {
            runtime.metrics.gave_up(GaveUp::Answered);
        }
    }

    /// Ends a request that broke: with an answer when none has begun.
    async fn fail(&self, session: &mut ServerSession, exchange: &mut Exchange, error: &Error) -> End {
        let status = status_of(error);
        tracing::debug!(%error, status, "request failed");
        if status == 408 {
            let entry_point = exchange.connection.as_ref().map(|c| c.entry_point.id);
            if let Some(metrics) = entry_point.and_then(|id| self.edge.metrics.entry_point(id)) {
                metrics.refused(Refusal::BodyTimeout);
            }
        }
        if has_begun(session) || status == 0 {
            session.shutdown().await;
            return End::Cut;
        }
        session.set_keepalive(None);
        // Why it has failed is said, however short responses have to be.
        exchange.held = None;
        self.send(session, exchange, Answer::failure(status)).await
    }

    async fn send(&self, session: &mut ServerSession, exchange: &mut Exchange, answer: Answer) -> End {
        let sent = match answer.into_own().and_then(|own| fitting(exchange, own)) {
            Ok(own) => self.send_own(session, exchange, own).await,
            Err(error) => Err(error),
        };
        ended(sent)
    }

    /// Sends what a middleware answers. The rest of the request's body is read as far as it is worth the connection.
    async fn send_answer(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        answer: middleware::Answer,
    ) -> End {
        let sent = match Own::of_middleware(answer).and_then(|own| fitting(exchange, own)) {
            Ok(own) => self.send_own(session, exchange, own).await,
            Err(error) => Err(error),
        };
        ended(sent)
    }

    /// Sends a response of our own, once the middlewares that wait for one have seen it.
    pub(super) async fn send_own(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        mut own: Own,
    ) -> Result<()> {
        let bodiless = own.body.is_empty() || session.req_header().method == Method::HEAD;
        if !exchange.later.is_empty() {
            let first = own.body.clone();
            let left = self
                .leave(session, exchange, &mut own.head, &first, bodiless)
                .await?;
            own = match left {
                Left::Same(transforms) => own.through(transforms)?,
                Left::Replaced(instead) => Own {
                    close: own.close,
                    ..*instead
                },
            };
        }
        if let Some(refusal) = exchange.refusal_to_node() {
            let (name, value) = refusal.field();
            own.head.insert_header(name, value)?;
        }
        self.tell_served_by(exchange, &mut own.head)?;
        exchange.give_places_back();
        own.send(session).await
    }

    /// Tells who may know it who served the request, or who would have.
    pub(super) fn tell_served_by(&self, exchange: &Exchange, head: &mut ResponseHeader) -> Result<()> {
        if !exchange.connection.as_ref().is_some_and(|c| c.tell_served_by) {
            return Ok(());
        }
        // Where another node has served it, its answer says so.
        let of_peer = exchange.attempts > 0
            && exchange
                .endpoint()
                .is_some_and(|(endpoint, _)| endpoint.peer.is_some())
            && head.headers.contains_key("x-constellation-node");
        if !of_peer {
            head.insert_header("X-Constellation-Node", self.node.clone())?;
        }
        if let Some(route) = &exchange.route {
            head.insert_header("X-Constellation-Router", text_value(&route.router.spec.name))?;
        }
        if let Some(service) = exchange.service() {
            head.insert_header("X-Constellation-Service", text_value(&service.name))?;
        }
        if exchange.attempts > 0 {
            if let Some((_, state)) = exchange.endpoint().filter(|_| !of_peer) {
                head.insert_header("X-Constellation-Endpoint", state.name.clone())?;
            }
            head.insert_header("X-Constellation-Attempts", exchange.attempts)?;
        }
        Ok(())
    }
}

/// How a request ends whose answer was sent, or could not be.
fn ended(sent: Result<()>) -> End {
    match sent {
        Ok(()) => End::Complete,
        Err(error) => {
            tracing::debug!(%error, "the client was gone before the answer");
            End::Cut
        }
    }
}

/// How a response broke off.
fn failure_of(error: &Error) -> EndpointFailure {
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => EndpointFailure::Timeout,
        ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 => EndpointFailure::Protocol,
        _ => EndpointFailure::Closed,
    }
}

/// The status for a request that failed without a response; 0 when the client is gone.
fn status_of(error: &Error) -> u16 {
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(status)) => *status,
        (ErrorSource::Upstream, _) => 502,
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
    }
}
