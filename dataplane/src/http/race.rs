//! From a request to the head of its response: attempts one after the other, and at times two at once.
//!
//! The loop here owns everything that can happen meanwhile: an attempt moves on or fails, the client sends more of the
//! body or leaves, time passes. What follows a failure is [`retry_verdict`]'s to say; whether it may cost anything is
//! the budget's.

use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use constellation_table::{AttemptOutcome, Endpoint, Policy, Probe, Running as LiveRunning, Service};
use http::Method;
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType};
use pingora_http::ResponseHeader;
use smallvec::SmallVec;
use tokio::time::{Instant, sleep_until};

use super::attempt::{self, Failed, Manner, Reached, Upstream};
use super::body::Body;
use super::budget::Token;
use super::downstream::send_head;
use super::exchange::Exchange;
use super::forwarded::Upgrade;
use super::outgoing::{self, Towards};
use super::proxy::App;
use super::response;
use super::retry::{Attempt, Failure, Verdict, retry_verdict};
use super::runtime::ServiceRuntime;
use super::upstream::ServiceState;
use crate::access_log::{AttemptLine, AttemptOutcome as LineOutcome};
use crate::metrics::{EndpointFailure, GaveUp, HedgeOutcome, InFlight, RetryOutcome};

/// A request that has waited for less than this is not asked about.
const PATIENCE: Duration = Duration::from_millis(250);
/// Nor one that has waited for less than this many times the usual latency.
const USUAL: u32 = 8;
/// The longest that a look at a waiting request is put off.
const LONGEST_LOOK: Duration = Duration::from_secs(2);
/// Siblings' answers, none of the endpoint's own between, that tell a hung endpoint from a slow one.
const SIBLING_ANSWERS: u64 = 3;
/// How long a request waits for a token of the budget that is out.
const TOKEN_WAIT: Duration = Duration::from_secs(10);

/// The response that goes to the client.
pub(super) struct Winner {
    pub(super) upstream: Upstream,
    pub(super) head: Box<ResponseHeader>,
    pub(super) body: Option<Body>,
    /// The client has sent all of its body.
    pub(super) body_done: bool,
    /// Kept until the response is over: the endpoint is busy with it.
    pub(super) busy: Busy,
}

/// Counts an attempt as running at its endpoint.
pub(super) struct Busy {
    _live: LiveRunning,
    _metrics: InFlight,
}

/// Why there is no response to hand on.
pub(super) enum Lost {
    /// The client left, or broke the rules; the error says how.
    Client(Box<Error>),
    /// Every attempt failed: the client gets this status.
    Failed(u16),
}

type Step<T> = Pin<Box<dyn Future<Output = T> + Send>>;

enum Phase {
    Connecting(Step<Result<Upstream, Failed>>),
    Waiting(Step<Reached>),
}

enum Moved {
    Connected(Upstream),
    Reached(Upstream, Box<ResponseHeader>),
    Failed(Failed),
}

/// An attempt that runs.
struct Running {
    candidate: usize,
    phase: Phase,
    since: std::time::Instant,
    busy: Busy,
    /// What the attempt costs when it is wasted.
    token: Option<Token>,
    _probe: Option<Probe>,
    /// Sent while another attempt was running.
    hedge: bool,
    look: Look,
}

/// When a waiting request is looked at next, and what was seen before.
struct Look {
    at: Instant,
    /// Answers of the endpoint and of its siblings.
    seen: Option<(u64, u64)>,
    hung: bool,
}

/// What is to be done next.
enum Next {
    /// Nothing but to wait for what runs.
    Nothing,
    /// An attempt as soon as the time has come and, when it is paid, a token was had.
    Attempt {
        candidate: usize,
        at: Option<Instant>,
        paid: bool,
        fresh: bool,
        give_up: Instant,
    },
}

/// One request on its way to a response.
struct Race<'a> {
    app: &'a App,
    service: Arc<Service>,
    runtime: Arc<ServiceRuntime>,
    running: SmallVec<[Running; 2]>,
    /// A response whose status was to be tried elsewhere; it goes to the client when nothing better comes.
    held: Option<(Upstream, Box<ResponseHeader>, usize, Busy)>,
    body: Option<Body>,
    body_done: bool,
    next: Next,
    deadline: Option<Instant>,
    hedge_at: Option<Instant>,
    failure: u16,
    /// How the attempt before failed.
    why: Option<EndpointFailure>,
}

impl App {
    /// Gets a response for the request, from whichever candidate gives one.
    pub(super) async fn race(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        service: Arc<Service>,
        runtime: Arc<ServiceRuntime>,
    ) -> Result<Winner, Lost> {
        let retry = &service.policy.retry;
        let body_done = session.is_body_empty();
        let body = (!body_done).then(|| {
            let limit = if exchange.upgrade == Upgrade::None {
                retry.replay_bytes
            } else {
                0
            };
            Body::new(limit, self.edge.kept.clone())
        });
        let mut race = Race {
            app: self,
            deadline: retry.total.map(|total| Instant::now() + total),
            service,
            runtime,
            running: SmallVec::new(),
            held: None,
            body,
            body_done,
            next: Next::Nothing,
            hedge_at: None,
            failure: 502,
            why: None,
        };
        let won = race.run(session, exchange).await;
        race.end(exchange);
        if exchange.attempts > 1 {
            let good = won
                .as_ref()
                .is_ok_and(|(_, head, ..)| !race.policy().retry.statuses.contains(&head.status.as_u16()));
            race.runtime.metrics.retried(match good {
                true => RetryOutcome::Saved,
                false => RetryOutcome::Failed,
            });
        }
        let (upstream, head, candidate, busy) = won?;
        exchange.candidate = candidate;
        Ok(Winner {
            upstream,
            head,
            body: race.body.take(),
            body_done: race.body_done,
            busy,
        })
    }
}

type Won = (Upstream, Box<ResponseHeader>, usize, Busy);

/// What the loop woke up for.
enum Event {
    Moved(usize, Moved),
    Client(pingora_error::Result<Option<Bytes>>),
    Token(Option<Token>),
    Time,
}

impl Race<'_> {
    fn policy(&self) -> &Policy {
        &self.service.policy
    }

    async fn run(&mut self, session: &mut ServerSession, exchange: &mut Exchange) -> Result<Won, Lost> {
        self.plan_first(exchange);
        loop {
            if let Some(lost) = self.proceed(session, exchange) {
                return self.fall_back(lost);
            }
            let event = self.event(session).await;
            match event {
                Event::Moved(number, moved) => {
                    if let Some(won) = self.moved(number, moved, session, exchange).await? {
                        return Ok(won);
                    }
                }
                Event::Client(Ok(data)) => self.take_in(data, session, exchange)?,
                Event::Client(Err(error)) => return Err(Lost::Client(error.into_down())),
                Event::Token(Some(token)) => self.start_next(Some(token), session, exchange),
                Event::Token(None) => {
                    self.runtime.metrics.gave_up(GaveUp::Budget);
                    self.next = Next::Nothing;
                    if self.running.is_empty() {
                        return self.fall_back(self.failure);
                    }
                }
                Event::Time => {
                    if let Some(status) = self.on_time(session, exchange) {
                        return self.fall_back(status);
                    }
                }
            }
        }
    }

    /// The response that is there after all, or none.
    fn fall_back(&mut self, status: u16) -> Result<Won, Lost> {
        self.held.take().ok_or(Lost::Failed(status))
    }

    fn plan_first(&mut self, exchange: &Exchange) {
        if let Some(candidate) = exchange.candidates.iter().position(|c| !c.tried) {
            self.next = Next::Attempt {
                candidate,
                at: None,
                paid: false,
                fresh: false,
                give_up: Instant::now() + TOKEN_WAIT,
            };
        }
    }

    /// Starts what can be started now. A status when nothing runs and nothing is planned.
    fn proceed(&mut self, session: &mut ServerSession, exchange: &mut Exchange) -> Option<u16> {
        loop {
            match &self.next {
                Next::Attempt { at, paid, .. } => {
                    if at.is_some_and(|at| at > Instant::now()) {
                        return None;
                    }
                    if !*paid {
                        self.start_next(None, session, exchange);
                        continue;
                    }
                    match self.runtime.budget.try_take() {
                        Some(token) => self.start_next(Some(token), session, exchange),
                        None => return None,
                    }
                }
                Next::Nothing if self.running.is_empty() => return Some(self.failure),
                Next::Nothing => return None,
            }
        }
    }

    async fn event(&mut self, session: &mut ServerSession) -> Event {
        let attempts = self.running.len();
        let body = self.body.as_ref();
        let wake = self.wake();
        let budget = self.runtime.budget.clone();
        let waits_for_token = matches!(&self.next, Next::Attempt { paid: true, at, .. } if at.is_none_or(|at| at <= Instant::now()));
        let body_done = self.body_done;
        let running = &mut self.running;
        tokio::select! {
            biased;
            (number, moved) = poll_fn(|cx| {
                for (number, attempt) in running.iter_mut().enumerate() {
                    if let Poll::Ready(moved) = attempt.poll(cx) {
                        return Poll::Ready((number, moved));
                    }
                }
                Poll::Pending
            }) => Event::Moved(number, moved),
            read = async {
                wanted(body, body_done, attempts).await;
                session.read_body_or_idle(body_done).await
            } => Event::Client(read),
            token = budget.take(), if waits_for_token => Event::Token(token),
            () = async {
                match wake {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            } => Event::Time,
        }
    }

    /// When something is to be looked at.
    fn wake(&self) -> Option<Instant> {
        let looks = self.running.iter().map(|running| running.look.at);
        let planned = match &self.next {
            Next::Attempt { at, give_up, .. } => Some(at.unwrap_or(*give_up)),
            Next::Nothing => None,
        };
        looks
            .chain(planned)
            .chain(self.deadline)
            .chain(self.hedge_at)
            .min()
    }

    fn take_in(
        &mut self,
        data: Option<Bytes>,
        session: &mut ServerSession,
        exchange: &mut Exchange,
    ) -> Result<(), Lost> {
        self.body_done = match &self.body {
            Some(body) => exchange.take_in(data, session, body).map_err(Lost::Client)?,
            None => true,
        };
        Ok(())
    }

    /// Starts the planned attempt.
    fn start_next(&mut self, token: Option<Token>, session: &mut ServerSession, exchange: &mut Exchange) {
        let Next::Attempt { candidate, fresh, .. } = std::mem::replace(&mut self.next, Next::Nothing) else {
            return;
        };
        self.start(candidate, token, fresh, false, session, exchange);
    }

    fn start(
        &mut self,
        candidate: usize,
        token: Option<Token>,
        fresh: bool,
        hedge: bool,
        session: &mut ServerSession,
        exchange: &mut Exchange,
    ) {
        let others = self.untried(exchange, Some(candidate)).is_some();
        let Some(line) = exchange.candidates.get_mut(candidate) else {
            return;
        };
        line.tried = true;
        let probe = line.probe.take();
        let endpoint = line.endpoint.clone();
        let Some(state) = ServiceState::known(&self.service).and_then(|s| s.of(&self.service, &endpoint))
        else {
            return;
        };
        let busy = Busy {
            _live: endpoint.live.begin(),
            _metrics: state.metrics.attempt(),
        };
        if exchange.attempts > 0 {
            state.metrics.retried();
        }
        if let (false, Some(reason)) = (hedge, self.why.take()) {
            self.runtime.metrics.retry(reason);
        }
        exchange.attempts += 1;
        exchange.candidate = candidate;
        let manner = Manner {
            impatient: others,
            h1_only: exchange.upgrade != Upgrade::None,
            fresh,
            surely: !exchange.repeatable,
        };
        let phase = match attempt::idle(&self.app.pool, &self.service, &endpoint, manner) {
            Some(upstream) => self.ask(upstream, &endpoint, session, exchange),
            None => Phase::Connecting(Box::pin(attempt::connect(
                self.app.pool.clone(),
                self.app.names.clone(),
                self.service.clone(),
                endpoint.clone(),
                manner,
            ))),
        };
        self.running.push(Running {
            candidate,
            phase,
            since: std::time::Instant::now(),
            busy,
            token,
            _probe: probe,
            hedge,
            look: Look {
                at: Instant::now() + self.patience(&endpoint),
                // From the start: once every client waits, nobody is left for a sibling to answer.
                seen: Some(self.answers(&endpoint)),
                hung: false,
            },
        });
        self.plan_hedge(session);
    }

    /// How many answers the endpoint has given, and its siblings.
    fn answers(&self, endpoint: &Arc<Endpoint>) -> (u64, u64) {
        let siblings = self.service.endpoints.iter();
        let siblings = siblings.filter(|sibling| !Arc::ptr_eq(sibling, endpoint));
        let siblings = siblings.map(|sibling| sibling.live.answers()).sum();
        (endpoint.live.answers(), siblings)
    }

    /// How long a request may wait before it is asked whether its endpoint still answers anybody.
    fn patience(&self, endpoint: &Endpoint) -> Duration {
        let usual = endpoint.live.latency().unwrap_or_default();
        (usual * USUAL).clamp(PATIENCE, LONGEST_LOOK)
    }

    fn plan_hedge(&mut self, session: &ServerSession) {
        let hedge = &self.policy().hedge;
        let read = matches!(session.req_header().method, Method::GET | Method::HEAD);
        self.hedge_at = hedge
            .percentile
            .filter(|_| read && self.running.len() == 1)
            .and_then(|percent| self.runtime.latency.percentile(percent))
            .map(|latency| Instant::now() + latency.max(hedge.min_delay));
    }

    /// Sends the request on a connection.
    fn ask(
        &self,
        upstream: Upstream,
        endpoint: &Arc<Endpoint>,
        session: &mut ServerSession,
        exchange: &Exchange,
    ) -> Phase {
        let limits = [
            self.service.transport.timeouts.response_header,
            self.policy().retry.per_try,
        ];
        let limit = limits.into_iter().flatten().min();
        let state = ServiceState::known(&self.service).and_then(|s| s.of(&self.service, endpoint));
        let head = state
            .ok_or_else(|| Error::new_in(ErrorType::InternalError))
            .and_then(|state| {
                let towards = Towards {
                    service: &self.service,
                    endpoint,
                    state,
                    http2: upstream.is_http2(),
                };
                outgoing::head(session, exchange.upgrade, towards)
            });
        match head {
            Ok(head) => Phase::Waiting(Box::pin(attempt::ask(upstream, head, self.body.clone(), limit))),
            Err(error) => Phase::Waiting(Box::pin(async {
                Reached::Failed(Failed {
                    failure: Failure::Final,
                    error,
                })
            })),
        }
    }

    /// An attempt moved on. The winner, when it is one.
    async fn moved(
        &mut self,
        number: usize,
        moved: Moved,
        session: &mut ServerSession,
        exchange: &mut Exchange,
    ) -> Result<Option<Won>, Lost> {
        match moved {
            Moved::Connected(upstream) => {
                let Some(endpoint) = self.endpoint_of(number, exchange) else {
                    return Ok(None);
                };
                let phase = self.ask(upstream, &endpoint, session, exchange);
                if let Some(running) = self.running.get_mut(number) {
                    running.phase = phase;
                }
                Ok(None)
            }
            Moved::Reached(upstream, head) if is_interim(&head) => {
                self.interim(number, upstream, head, session).await?;
                Ok(None)
            }
            Moved::Reached(upstream, mut head) => match response::check(&mut head, exchange.upgrade) {
                Ok(Ok(())) => Ok(self.answered(number, upstream, head, exchange)),
                Ok(Err(unsound)) => {
                    let error = Error::explain(ErrorType::InvalidHTTPHeader, unsound.text()).into_up();
                    let failure = Failure::Unsound;
                    self.failed(number, Failed { failure, error }, exchange);
                    Ok(None)
                }
                Err(error) => {
                    let failure = Failure::Unsound;
                    self.failed(number, Failed { failure, error }, exchange);
                    Ok(None)
                }
            },
            Moved::Failed(failed) => {
                self.failed(number, failed, exchange);
                Ok(None)
            }
        }
    }

    /// An interim response: it goes to the client when it can only belong to the final one.
    async fn interim(
        &mut self,
        number: usize,
        upstream: Upstream,
        head: Box<ResponseHeader>,
        session: &mut ServerSession,
    ) -> Result<(), Lost> {
        if self.running.len() == 1 && exchange_is_http11(session) {
            send_head(session, head, false).await.map_err(Lost::Client)?;
        }
        let limits = [
            self.service.transport.timeouts.response_header,
            self.policy().retry.per_try,
        ];
        let limit = limits.into_iter().flatten().min();
        let waiting = attempt::wait(upstream, self.body.clone(), limit);
        if let Some(running) = self.running.get_mut(number) {
            running.phase = Phase::Waiting(Box::pin(waiting));
        }
        Ok(())
    }

    /// A sound final response.
    fn answered(
        &mut self,
        number: usize,
        upstream: Upstream,
        head: Box<ResponseHeader>,
        exchange: &mut Exchange,
    ) -> Option<Won> {
        let status = head.status.as_u16();
        let latency = upstream.latency();
        self.record(number, AttemptOutcome::Answered { status, latency }, exchange);
        exchange.origin_status = Some(status);
        let wanted_elsewhere =
            self.policy().retry.statuses.contains(&status) && exchange.upgrade == Upgrade::None;
        if !wanted_elsewhere && self.policy().hedge.percentile.is_some() {
            self.runtime.latency.record(latency);
        }
        if wanted_elsewhere && self.goes_on(Failure::Status, number, exchange) {
            self.tell(number, LineOutcome::Status(status), exchange);
            self.why = Some(EndpointFailure::Status);
            let running = self.take(number, exchange)?;
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
    fn failed(&mut self, number: usize, failed: Failed, exchange: &mut Exchange) {
        let Failed { failure, error } = failed;
        if let Some(endpoint) = self.endpoint_of(number, exchange) {
            tracing::debug!(endpoint = %endpoint.name, ?failure, %error, "an attempt failed");
            if let Some(state) =
                ServiceState::known(&self.service).and_then(|s| s.of(&self.service, &endpoint))
            {
                state.metrics.failed(reason(failure, &error));
            }
        }
        let why = reason(failure, &error);
        self.tell(number, LineOutcome::Failed(why), exchange);
        self.why = Some(why);
        if let Some(outcome) = outcome_of(failure) {
            self.record(number, outcome, exchange);
        }
        self.goes_on(failure, number, exchange);
        let Some(running) = self.take(number, exchange) else {
            return;
        };
        if let (Some(token), Failure::Connect { .. } | Failure::NotProcessed) = (running.token, failure) {
            token.refund();
        }
    }

    /// Plans what follows the failure of attempt `number`. Whether the request goes on without its result.
    fn goes_on(&mut self, failure: Failure, number: usize, exchange: &Exchange) -> bool {
        let another = self.running.len() > 1 || !matches!(self.next, Next::Nothing);
        let candidate = self.running.get(number).map_or(0, |running| running.candidate);
        let other = self.untried(exchange, None);
        let verdict = retry_verdict(&Attempt {
            failure,
            repeatable: exchange.repeatable && exchange.upgrade == Upgrade::None,
            replayable: self.body.as_ref().is_none_or(Body::is_whole),
            made: exchange.attempts,
            most: self.policy().retry.attempts.map_or(usize::MAX, usize::from),
            others: other.is_some(),
        });
        let (candidate, paid, fresh) = match (verdict, other) {
            (Verdict::GiveUp(status), _) => {
                if failure != Failure::Status {
                    self.failure = status;
                }
                return another;
            }
            _ if another => return true,
            (Verdict::Next { paid }, Some(other)) => (other, paid, false),
            (Verdict::Next { .. } | Verdict::Again, _) => (candidate, false, true),
        };
        if failure != Failure::Status {
            self.failure = 502;
        }
        self.next = Next::Attempt {
            candidate,
            at: self.pause(exchange),
            paid,
            fresh,
            give_up: Instant::now() + TOKEN_WAIT,
        };
        true
    }

    /// The pause before the next attempt: none before the second one, then a random part of one that doubles.
    fn pause(&self, exchange: &Exchange) -> Option<Instant> {
        let retry = &self.policy().retry;
        let doublings = u32::try_from(exchange.attempts).ok()?.checked_sub(2)?;
        let longest = retry
            .backoff
            .saturating_mul(1 << doublings.min(16))
            .min(retry.max_backoff);
        Some(Instant::now() + longest.mul_f64(random_share()))
    }

    /// The first candidate that was not tried and may be.
    fn untried(&self, exchange: &Exchange, but: Option<usize>) -> Option<usize> {
        let now = std::time::Instant::now();
        exchange.candidates.iter().enumerate().position(|(number, line)| {
            Some(number) != but
                && !line.tried
                && (line.probe.is_some() || self.service.may_try(&line.endpoint, now))
        })
    }

    fn endpoint_of(&self, number: usize, exchange: &Exchange) -> Option<Arc<Endpoint>> {
        let candidate = self.running.get(number)?.candidate;
        Some(exchange.candidates.get(candidate)?.endpoint.clone())
    }

    fn record(&self, number: usize, outcome: AttemptOutcome, exchange: &Exchange) {
        let Some(endpoint) = self.endpoint_of(number, exchange) else {
            return;
        };
        let now = std::time::Instant::now();
        let transitions = self.service.record(&endpoint, outcome, now);
        self.app.edge.note(&self.service, transitions);
    }

    /// Writes down how an attempt ended; a single good one needs no words.
    fn tell(&self, number: usize, outcome: LineOutcome, exchange: &mut Exchange) {
        let good = matches!(outcome, LineOutcome::Status(_)) && exchange.attempts == 1;
        let (Some(running), Some(endpoint), false) =
            (self.running.get(number), self.endpoint_of(number, exchange), good)
        else {
            return;
        };
        exchange.lines.push(AttemptLine {
            endpoint: endpoint.name.clone(),
            outcome,
            duration: running.since.elapsed(),
        });
    }

    fn take(&mut self, number: usize, exchange: &mut Exchange) -> Option<Running> {
        if number >= self.running.len() {
            return None;
        }
        let running = self.running.remove(number);
        exchange.origin_duration += running.since.elapsed();
        Some(running)
    }

    fn discard(&self, upstream: Upstream) {
        tokio::spawn(upstream.discard(None));
    }

    /// Time passed. A status when the request has no more of it.
    fn on_time(&mut self, session: &mut ServerSession, exchange: &mut Exchange) -> Option<u16> {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Some(504);
        }
        if let Next::Attempt {
            give_up, at: None, ..
        } = &self.next
            && *give_up <= now
        {
            self.next = Next::Nothing;
        }
        if self.hedge_at.is_some_and(|at| at <= now) {
            self.hedge_at = None;
            self.hedge(session, exchange);
        }
        for number in 0..self.running.len() {
            self.look(number, now, session, exchange);
        }
        None
    }

    /// Looks whether the endpoint of a waiting request still answers anybody.
    fn look(&mut self, number: usize, now: Instant, session: &mut ServerSession, exchange: &mut Exchange) {
        let Some(endpoint) = self.endpoint_of(number, exchange) else {
            return;
        };
        let waits_for_client = self
            .body
            .as_ref()
            .is_some_and(|body| !self.body_done && body.wants_more(1));
        let patience = self.patience(&endpoint);
        let answers = self.answers(&endpoint);
        let Some(running) = self
            .running
            .get_mut(number)
            .filter(|running| running.look.at <= now)
        else {
            return;
        };
        running.look.at = now + patience / 2;
        if waits_for_client {
            running.look.seen = None;
            return;
        }
        match running.look.seen {
            Some((own, others)) if own == answers.0 => {
                running.look.hung |= answers.1 >= others + SIBLING_ANSWERS;
            }
            _ => {
                running.look.seen = Some(answers);
                running.look.hung = false;
            }
        }
        if running.look.hung {
            let connecting = matches!(running.phase, Phase::Connecting(_));
            self.hung(number, connecting, session, exchange);
        }
    }

    /// The endpoint leaves requests unanswered while its siblings answer.
    fn hung(
        &mut self,
        number: usize,
        connecting: bool,
        session: &mut ServerSession,
        exchange: &mut Exchange,
    ) {
        self.record(number, AttemptOutcome::Unanswered, exchange);
        if connecting && self.running.len() == 1 && self.untried(exchange, None).is_some() {
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
    fn hedge(&mut self, session: &mut ServerSession, exchange: &mut Exchange) {
        let most = self.policy().retry.attempts.map_or(usize::MAX, usize::from);
        let allowed = self.running.len() == 1
            && matches!(self.next, Next::Nothing)
            && exchange.repeatable
            && exchange.upgrade == Upgrade::None
            && exchange.attempts < most.min(super::retry::MAX_ATTEMPTS)
            && self.body.as_ref().is_none_or(Body::is_whole);
        if !allowed {
            return;
        }
        let Some(candidate) = self.untried(exchange, None) else {
            return;
        };
        let Some(token) = self.runtime.budget.try_take() else {
            // The next look tries again.
            self.runtime.metrics.hedge(HedgeOutcome::Denied);
            return;
        };
        self.start(candidate, Some(token), false, true, session, exchange);
    }

    /// The request has its response, or will have none: what still runs is given up.
    fn end(&mut self, exchange: &mut Exchange) {
        for number in (0..self.running.len()).rev() {
            self.record(number, AttemptOutcome::Abandoned, exchange);
            self.tell(number, LineOutcome::Abandoned, exchange);
            if let Some(running) = self.take(number, exchange) {
                if running.hedge {
                    self.runtime.metrics.hedge(HedgeOutcome::Lost);
                }
                // It cost the back end something, but nothing was wrong with it.
                if let Some(token) = running.token {
                    token.refund();
                }
            }
        }
        if let Some((upstream, ..)) = self.held.take() {
            self.discard(upstream);
        }
    }
}

impl Running {
    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Moved> {
        match &mut self.phase {
            Phase::Connecting(connecting) => connecting.as_mut().poll(cx).map(|result| match result {
                Ok(upstream) => Moved::Connected(upstream),
                Err(failed) => Moved::Failed(failed),
            }),
            Phase::Waiting(waiting) => waiting.as_mut().poll(cx).map(|reached| match reached {
                Reached::Head(upstream, head) => Moved::Reached(upstream, head),
                Reached::Failed(failed) => Moved::Failed(failed),
            }),
        }
    }
}

/// Waits until the client is to be read: for more of the body, or to see whether it leaves. What wants more are the
/// attempts, which the same task polls before; so no waker is needed.
pub(super) async fn wanted(body: Option<&Body>, body_done: bool, attempts: usize) {
    poll_fn(|_| {
        if body_done || body.is_some_and(|body| body.wants_more(attempts)) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

fn is_interim(head: &ResponseHeader) -> bool {
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
        Failure::Broken { reused: true } | Failure::NotProcessed | Failure::Final => {
            AttemptOutcome::Abandoned
        }
        Failure::Status => return None,
    })
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
        (Failure::Unsound, _) | (_, ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2) => {
            EndpointFailure::Protocol
        }
        _ => EndpointFailure::Closed,
    }
}

/// A random number from 0 to 1.
fn random_share() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(()) >> 40;
    let bits = u32::try_from(bits).unwrap_or(0);
    f64::from(bits) / f64::from(1u32 << 24)
}
