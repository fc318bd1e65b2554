//! What an attempt came to, and what follows.

use std::sync::Arc;

use constellation_middleware::predicate::Attempted;
use constellation_middleware::{MAX_ATTEMPTS, Retrying};
use constellation_table::AttemptOutcome;
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType};
use pingora_http::ResponseHeader;
use tokio::time::Instant;

use super::next::Next;
use super::{Lost, Phase, Race, Won};
use crate::access_log::AttemptOutcome as LineOutcome;
use crate::http::attempt::{self, Failed, Upstream};
use crate::http::body::Body;
use crate::http::downstream::send_head;
use crate::http::exchange::Exchange;
use crate::http::forwarded::Upgrade;
use crate::http::retry::{self, Attempt, Failure, Verdict, retry_verdict};
use crate::metrics::{EndpointFailure, HedgeOutcome};

impl Race<'_> {
    /// An interim response: it goes to the client when it can only belong to the final one.
    pub(super) async fn interim(
        &mut self,
        number: usize,
        upstream: Box<Upstream>,
        head: Box<ResponseHeader>,
        session: &mut ServerSession,
        exchange: &Exchange,
    ) -> Result<(), Lost> {
        if self.running.len() == 1 && exchange_is_http11(session) {
            send_head(session, head, false).await.map_err(Lost::Client)?;
        }
        let candidate = self.running.get(number).map_or(0, |running| running.candidate);
        let limit = self.limit(candidate, exchange);
        let waiting = attempt::wait(upstream, self.body.clone(), limit);
        if let Some(running) = self.running.get_mut(number) {
            running.phase = Phase::Waiting(Box::pin(waiting));
        }
        Ok(())
    }

    /// A sound final response.
    pub(super) fn answered(
        &mut self,
        number: usize,
        upstream: Box<Upstream>,
        head: Box<ResponseHeader>,
        exchange: &mut Exchange,
    ) -> Option<Won> {
        let status = head.status.as_u16();
        let latency = upstream.latency();
        self.record(number, AttemptOutcome::Answered { status, latency }, exchange);
        self.count_answer(number, exchange);
        exchange.origin_status = Some(status);
        exchange.reached = true;
        let candidate = self.running.get(number).map_or(0, |running| running.candidate);
        let left_to_next = exchange.leg_of(candidate).is_some_and(|leg| leg.moves_on(status));
        let by_policy = self.policy().retry.statuses.contains(&status);
        let again = asked_for(Failure::Status { leave: false }, status, exchange);
        let bad = by_policy || again > 0;
        let wanted_elsewhere = (bad || left_to_next) && exchange.upgrade != Upgrade::Other;
        let failure = Failure::Status { leave: !bad };
        if bad {
            self.count_failure(number, EndpointFailure::Status, exchange);
        }
        if !wanted_elsewhere && self.policy().hedge.percentile.is_some() {
            self.runtime.latency.record(latency);
        }
        let most = match (by_policy || !bad, self.policy().retry.attempts) {
            // Only middlewares want it elsewhere.
            (false, _) => 0,
            (true, attempts) => attempts.map_or(usize::MAX, usize::from),
        };
        if wanted_elsewhere && self.goes_on(failure, number, exchange, most, again) {
            self.tell(number, LineOutcome::Status(status), exchange);
            self.why = Some(EndpointFailure::Status);
            let running = self.take(number, exchange)?;
            if running.hedge {
                self.runtime.metrics.hedge(HedgeOutcome::Lost);
            }
            let held = (upstream, head, running.candidate, running.busy);
            if let Some((upstream, ..)) = self.held.replace(held) {
                self.discard(upstream);
            }
            return None;
        }
        self.tell(number, LineOutcome::Status(status), exchange);
        let running = self.take(number, exchange)?;
        if let Some(token) = running.token
            && !wanted_elsewhere
        {
            token.refund();
        }
        if running.hedge {
            self.runtime.metrics.hedge(HedgeOutcome::Won);
        }
        Some((upstream, head, running.candidate, running.busy))
    }

    /// An attempt failed without a response.
    pub(super) fn failed(&mut self, number: usize, failed: Failed, exchange: &mut Exchange) {
        let Failed { failure, error } = failed;
        exchange.reached |= !matches!(
            failure,
            Failure::Connect { .. } | Failure::Departed | Failure::NotProcessed
        );
        let why = reason(failure, &error);
        if let Some(endpoint) = self.endpoint_of(number, exchange) {
            tracing::debug!(endpoint = %endpoint.name, ?failure, %error, "an attempt failed");
            self.count_failure(number, why, exchange);
        }
        self.tell(number, LineOutcome::Failed(why), exchange);
        self.why = Some(why);
        if let Some(outcome) = outcome_of(failure) {
            self.record(number, outcome, exchange);
        }
        let most = self.policy().retry.attempts.map_or(usize::MAX, usize::from);
        let again = asked_for(failure, status_of(failure), exchange);
        self.goes_on(failure, number, exchange, most, again);
        let is_gone = match failure {
            Failure::Departed => true,
            Failure::Connect { .. } => self
                .endpoint_of(number, exchange)
                // A node that can't be reached, or has no instance, leaves nobody who could serve.
                .is_some_and(|endpoint| endpoint.live.departed() || endpoint.peer.is_some()),
            _ => false,
        };
        if is_gone && matches!(self.next, Next::Nothing) {
            self.failure = 503;
        }
        let Some(running) = self.take(number, exchange) else {
            return;
        };
        if running.hedge {
            self.runtime.metrics.hedge(HedgeOutcome::Lost);
        }
        if let (Some(token), Failure::Connect { .. } | Failure::Departed | Failure::NotProcessed) =
            (running.token, failure)
        {
            token.refund();
        }
    }

    /// Plans what follows the failure of attempt `number`. Whether the request goes on without its result. `most`:
    /// attempts that the service's policy makes; `again`: attempts that middlewares ask for.
    pub(super) fn goes_on(
        &mut self,
        failure: Failure,
        number: usize,
        exchange: &Exchange,
        most: usize,
        again: usize,
    ) -> bool {
        let another = self.running.len() > 1 || !matches!(self.next, Next::Nothing);
        let candidate = self.running.get(number).map_or(0, |running| running.candidate);
        let from = match failure {
            Failure::Status { leave: true } => {
                exchange.candidates.get(candidate).map_or(0, |line| line.leg + 1)
            }
            _ => 0,
        };
        let other = Self::untried(exchange, None, from, std::time::Instant::now());
        let verdict = retry_verdict(&Attempt {
            failure,
            // What a WebSocket asks for begins with its 101. Of other protocols nobody knows.
            repeatable: exchange.repeatable && exchange.upgrade != Upgrade::Other,
            replayable: self.body.as_ref().is_none_or(Body::is_whole),
            made: exchange.attempts,
            most,
            others: other.is_some(),
            excused: self.excused,
            again,
        });
        // Others may be stale for the same reason: no second one is tried.
        self.excused |= failure.is_excused_once();
        let mut at = self.pause(exchange);
        let (candidate, paid, fresh) = match (verdict, other) {
            (Verdict::GiveUp(status, why), _) => {
                if !matches!(failure, Failure::Status { .. }) {
                    self.failure = status;
                }
                if !another {
                    self.runtime.metrics.gave_up(why);
                }
                return another;
            }
            _ if another => return true,
            (Verdict::Next { paid }, Some(other)) => (other, paid, self.excused),
            (Verdict::Round { paid }, _) => {
                let pause = |retrying: &Arc<Retrying>| {
                    Instant::now() + retrying.pause(exchange.attempts, retry::random_share())
                };
                at = exchange.retrying.last().map(pause);
                ((candidate + 1) % exchange.candidates.len().max(1), paid, true)
            }
            (Verdict::Next { .. } | Verdict::Again, _) => (candidate, false, true),
        };
        if !matches!(failure, Failure::Status { .. }) {
            self.failure = 502;
        }
        self.next = Next::Attempt {
            candidate,
            at,
            paid,
            fresh,
            give_up: None,
        };
        true
    }

    /// The pause before the next attempt: none before the second one, then a random part of one that doubles.
    pub(super) fn pause(&self, exchange: &Exchange) -> Option<Instant> {
        let pause = retry::pause(&self.policy().retry, exchange.attempts)?;
        Some(Instant::now() + pause)
    }
}

/// Attempts that a `retryExpression` can ask for.
const MOST_BY_EXPRESSION: usize = 10;

/// How many attempts, all together, middlewares ask for after such a failure. `status`: what the client would get.
fn asked_for(failure: Failure, status: u16, exchange: &Exchange) -> usize {
    let in_time = |retrying: &&Arc<Retrying>| {
        let elapsed = exchange.started.elapsed();
        retrying.timeout.is_none_or(|timeout| elapsed < timeout)
    };
    let asks = |retrying: &&Arc<Retrying>| match failure {
        Failure::Connect { .. } | Failure::Departed | Failure::NotProcessed => {
            retrying.on_network_error || retrying.statuses.contains(status)
        }
        _ => retrying.statuses.contains(status),
    };
    let asking = exchange.retrying.iter().filter(in_time).filter(asks);
    let attempted = Attempted {
        attempts: exchange.attempts,
        status,
        method: exchange.method.as_str(),
    };
    let expression = exchange
        .held
        .as_ref()
        .and_then(|held| held.buffers.retry.as_ref());
    let by_expression = expression.filter(|expression| expression.holds(&attempted));
    // Each makes its attempts in each of those around it.
    let attempts = asking
        .map(|retrying| retrying.attempts)
        .reduce(|all, attempts| (all * attempts).min(MAX_ATTEMPTS))
        .unwrap_or(0);
    attempts.max(by_expression.map_or(0, |_| MOST_BY_EXPRESSION))
}

/// The status of a request of which this was the last attempt.
fn status_of(failure: Failure) -> u16 {
    match failure {
        Failure::Connect { timed_out: true } | Failure::Silent => 504,
        _ => 502,
    }
}

pub(in crate::http) fn is_interim(head: &ResponseHeader) -> bool {
    head.status.is_informational() && head.status.as_u16() != 101
}

/// Only such a client knows interim responses; HTTP/2 would too, but the library sends none.
fn exchange_is_http11(session: &ServerSession) -> bool {
    session.req_header().version == http::Version::HTTP_11
}

/// What a failure says of the endpoint.
fn outcome_of(failure: Failure) -> Option<AttemptOutcome> {
    Some(match failure {
        Failure::Connect { timed_out: false } => AttemptOutcome::ConnectFailed,
        Failure::Connect { timed_out: true } => AttemptOutcome::ConnectTimeout,
        Failure::Broken { reused: false } | Failure::Unsound => AttemptOutcome::Broken,
        Failure::Silent => AttemptOutcome::TimedOut,
        // The end of an idle connection is no news.
        Failure::Broken { reused: true } | Failure::NotProcessed | Failure::Departed | Failure::Final => {
            AttemptOutcome::Abandoned
        }
        Failure::Status { .. } => return None,
    })
}

/// The label of a failed attempt.
fn reason(failure: Failure, error: &Error) -> EndpointFailure {
    match (failure, error.etype()) {
        (_, ErrorType::TLSHandshakeFailure | ErrorType::TLSHandshakeTimedout | ErrorType::InvalidCert) => {
            EndpointFailure::Tls
        }
        (Failure::Departed, _) => EndpointFailure::Departed,
        (Failure::NotProcessed, _) => EndpointFailure::NotProcessed,
        (Failure::Connect { timed_out: true }, _) => EndpointFailure::ConnectTimeout,
        (Failure::Connect { .. }, _) => EndpointFailure::Connect,
        (Failure::Silent, _) | (_, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => {
            EndpointFailure::Timeout
        }
        (Failure::Unsound, _) | (_, ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2) => {
            EndpointFailure::Protocol
        }
        _ => EndpointFailure::Closed,
    }
}
