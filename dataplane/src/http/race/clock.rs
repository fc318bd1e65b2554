//! What the passing of time decides: a pause is over, a hedge is due, an endpoint hangs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use constellation_table::{AttemptOutcome, Endpoint, Service};
use http::Method;
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType};
use tokio::time::Instant;

use super::next::Next;
use super::{Phase, Race, Running};
use crate::departure;
use crate::http::attempt::Failed;
use crate::http::body::Body;
use crate::http::exchange::Exchange;
use crate::http::forwarded::Upgrade;
use crate::http::retry::{self, Failure};
use crate::http::runtime::ServiceRuntime;
use crate::metrics::{GaveUp, HedgeOutcome};

/// A request that has waited for less than this is not asked about.
const PATIENCE: Duration = Duration::from_millis(250);
/// Nor one that has waited for less than this many times the usual latency.
const USUAL: u32 = 8;
/// The longest that a look at a waiting request is put off.
const LONGEST_LOOK: Duration = Duration::from_secs(2);
/// Answers of each sibling on average, and none of its own, that tell a hung endpoint from a slow one.
const SIBLING_ANSWERS: u64 = 3;
/// When clients wait for their answers before they ask again, all of them soon wait at the hung endpoint, and there are
/// fewer answers than that. Then this many times the patience tells, when several wait.
const LAST_STRAW: u32 = 4;
/// An endpoint may take this many times as long as its siblings do, however many answers they give meanwhile.
const SLOWER: u32 = 2;

impl Race<'_> {
    /// How long a request may wait before it is asked whether its endpoint still answers anybody.
    pub(super) fn patience(&self, endpoint: &Endpoint) -> Duration {
        let usual = endpoint.live.latency().unwrap_or_default();
        (usual * USUAL).clamp(PATIENCE, LONGEST_LOOK)
    }

    pub(super) fn plan_hedge(&mut self, session: &ServerSession) {
        let hedge = &self.policy().hedge;
        if hedge.percentile.is_none() {
            return;
        }
        let read = matches!(session.req_header().method, Method::GET | Method::HEAD);
        self.hedge_at = hedge
            .percentile
            .filter(|_| read && self.running.len() == 1)
            .and_then(|percent| self.runtime.latency.percentile(percent))
            .map(|latency| Instant::now() + latency.max(hedge.min_delay));
    }

    /// From the request sent to the head of the response.
    pub(super) fn limit(&self, candidate: usize, exchange: &Exchange) -> Option<Duration> {
        let transport = exchange
            .leg_of(candidate)
            .and_then(|leg| leg.service.transport.timeouts.response_header);
        let limits = [transport, self.policy().retry.per_try];
        limits.into_iter().flatten().min()
    }

    /// Time passed. A status when the request has no more of it.
    pub(super) fn on_time(&mut self, session: &mut ServerSession, exchange: &mut Exchange) -> Option<u16> {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.runtime.metrics.gave_up(GaveUp::Deadline);
            // What runs may have reached a back end; and nobody has time left to ask another one.
            exchange.reached = true;
            return Some(504);
        }
        if self.next.has_given_up(now) {
            self.runtime.metrics.gave_up(GaveUp::Budget);
            self.next = Next::Nothing;
        }
        if self.hedge_at.is_some_and(|at| at <= now) {
            self.hedge_at = None;
            if exchange.upgrade == Upgrade::None {
                self.hedge(session, exchange);
            }
        }
        for number in 0..self.running.len() {
            self.look(number, now, session, exchange);
        }
        None
    }

    /// Looks whether the endpoint of a waiting request still answers anybody.
    pub(super) fn look(
        &mut self,
        number: usize,
        now: Instant,
        session: &mut ServerSession,
        exchange: &mut Exchange,
    ) {
        let Some(endpoint) = self.endpoint_of(number, exchange) else {
            return;
        };
        let candidate = self.running.get(number).map_or(0, |running| running.candidate);
        let Some(service) = exchange.leg_of(candidate).map(|leg| leg.service.clone()) else {
            return;
        };
        let waits_for_client = self
            .body
            .as_ref()
            .is_some_and(|body| !self.body_done && body.wants_more(1));
        let patience = self.patience(&endpoint);
        let Some(running) = self
            .running
            .get_mut(number)
            .filter(|running| running.look.at <= now)
        else {
            return;
        };
        running.look.at = now + patience / 2;
        if departure::is_over(&endpoint.live, departure::Running::Request) {
            let error = Error::explain(
                ErrorType::ReadTimedout,
                "its time after the endpoint's departure is over",
            );
            let failure = Failure::Silent;
            self.failed(
                number,
                Failed {
                    failure,
                    error: error.into_up(),
                },
                exchange,
            );
            return;
        }
        let seen = answers(&service, &endpoint);
        let own = seen.0.saturating_sub(running.look.before.0);
        if waits_for_client || own > 0 {
            running.look.earlier += seen.1.saturating_sub(running.look.before.1).saturating_sub(own);
            running.look.before = seen;
            running.look.silent = now;
            return;
        }
        let connecting = matches!(running.phase, Phase::Connecting(_));
        if running.is_left_unanswered(&service, &endpoint, patience) {
            running.look.unanswered = true;
            // One request may be only slow, and nobody asks the endpoint meanwhile where the less busy one is asked, or
            // clients stay. Connects are never slow.
            if connecting || endpoint.live.in_flight() > 1 || running.probe.is_some() {
                self.record(number, AttemptOutcome::Unanswered, exchange);
            }
            self.hung(number, connecting, session, exchange);
        }
    }

    /// The endpoint leaves the request unanswered while its siblings answer.
    pub(super) fn hung(
        &mut self,
        number: usize,
        connecting: bool,
        session: &mut ServerSession,
        exchange: &mut Exchange,
    ) {
        if connecting
            && self.running.len() == 1
            && Self::untried(exchange, None, 0, std::time::Instant::now()).is_some()
        {
            let error = Error::explain(ErrorType::ConnectTimedout, "no connection while siblings answer");
            let failure = Failure::Connect { timed_out: true };
            self.failed(
                number,
                Failed {
                    failure,
                    error: error.into_up(),
                },
                exchange,
            );
            return;
        }
        if self.policy().hedge.unanswered {
            self.hedge(session, exchange);
        }
    }

    /// Starts a second attempt beside the one that runs, if that is allowed.
    pub(super) fn hedge(&mut self, session: &mut ServerSession, exchange: &mut Exchange) {
        let most = self.policy().retry.attempts.map_or(usize::MAX, usize::from);
        let allowed = self.running.len() == 1
            && matches!(self.next, Next::Nothing)
            && exchange.repeatable
            && exchange.upgrade != Upgrade::Other
            && exchange.attempts < most.min(retry::MAX_ATTEMPTS)
            && self.body.as_ref().is_none_or(Body::is_whole);
        if !allowed {
            return;
        }
        let Some(candidate) = Self::untried(exchange, None, 0, std::time::Instant::now()) else {
            return;
        };
        let Some(token) = self.runtime.budget.try_take() else {
            // The next look tries again.
            if !std::mem::replace(&mut self.denied, true) {
                self.runtime.metrics.hedge(HedgeOutcome::Denied);
            }
            return;
        };
        self.start(candidate, Some(token), false, true, session, exchange);
    }
}

/// The answers of an endpoint, and of all of its service.
pub(super) fn answers(service: &Service, endpoint: &Endpoint) -> (u64, u64) {
    let all = service.live.slot.get::<Arc<ServiceRuntime>>();
    let all = all.map_or(0, |runtime| runtime.answers.load(Ordering::Relaxed));
    (endpoint.live.answers(), all)
}

/// How long the siblings of an endpoint take on average.
fn usual_elsewhere(service: &Service, endpoint: &Endpoint) -> Duration {
    let siblings = service
        .endpoints
        .iter()
        .filter(|sibling| sibling.name != endpoint.name);
    let (sum, count) = siblings
        .filter_map(|sibling| sibling.live.latency())
        .fold((Duration::ZERO, 0), |(sum, count), latency| {
            (sum + latency, count + 1)
        });
    sum.checked_div(count).unwrap_or_default()
}

impl Running {
    /// Whether the endpoint has answered nobody for a while, although there is reason to expect it.
    pub(super) fn is_left_unanswered(
        &self,
        service: &Service,
        endpoint: &Endpoint,
        patience: Duration,
    ) -> bool {
        let (own, all) = answers(service, endpoint);
        let own = own.saturating_sub(self.look.before.0);
        let siblings = all.saturating_sub(self.look.before.1).saturating_sub(own);
        let others = service.endpoints.len().saturating_sub(1).max(1) as u64;
        let alone = endpoint.live.in_flight() < 2;
        let silent = self.look.silent.elapsed();
        let long = silent >= patience * LAST_STRAW;
        own == 0
            && silent >= usual_elsewhere(service, endpoint) * SLOWER
            && (siblings >= SIBLING_ANSWERS * others
                || (siblings + self.look.earlier > 0 && !alone && long)
                // Nobody else asks an endpoint that is excluded or on probation: its silence is evidence by itself. One
                // that leaves is asked by nobody either, and may finish what it has.
                || self.probe.is_some()
                || (!endpoint.live.departed() && !service.may_try(endpoint, std::time::Instant::now())))
    }
}
