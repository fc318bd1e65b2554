//! From a request to the head of its response: attempts one after the other, and at times two at once.
//!
//! The loop here owns everything that can happen meanwhile: an attempt moves on or fails, the client sends more of the
//! body or leaves, time passes. What follows a failure is [`retry_verdict`]'s to say; whether it may cost anything is
//! the budget's.

use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
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
use super::exchange::{Candidate, Exchange};
use super::forwarded::Upgrade;
use super::outgoing::{self, Towards};
use super::proxy::App;
use super::response;
use super::retry::{Attempt, Failure, Verdict, retry_verdict};
use super::runtime::ServiceRuntime;
use super::upstream::{EndpointState, ServiceState};
use crate::access_log::{AttemptLine, AttemptOutcome as LineOutcome};
use crate::departure;
use crate::metrics::{EndpointFailure, GaveUp, HedgeOutcome, InFlight, RetryOutcome};

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
/// How long a request waits for a token of the budget that is out.
const TOKEN_WAIT: Duration = Duration::from_secs(10);

/// The response that goes to the client.
pub(super) struct Winner {
    pub(super) upstream: Box<Upstream>,
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
    Connecting(Step<Result<Box<Upstream>, Failed>>),
    Waiting(Step<Reached>),
}

enum Moved {
    Connected(Box<Upstream>),
    Reached(Box<Upstream>, Box<ResponseHeader>),
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
    /// The request is the probe of an endpoint that had failed.
    probe: Option<Probe>,
    /// Sent while another attempt was running.
    hedge: bool,
    look: Look,
}

/// When a waiting request is looked at next, and how things were when it began to wait.
struct Look {
    at: Instant,
    /// Answers of the endpoint, and of all of the service, when the endpoint was last seen to answer.
    before: (u64, u64),
    /// When that was.
    silent: Instant,
    /// Answers of siblings from the begin to then.
    earlier: u64,
    /// The endpoint was found to leave it unanswered.
    unanswered: bool,
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
        /// The end of waiting for a token, once one is waited for.
        give_up: Option<Instant>,
    },
}

impl Next {
    /// Whether the time of the attempt has come. Its pause is over then and is not looked at again.
    fn is_due(&mut self, now: Instant) -> bool {
        let Self::Attempt { at, .. } = self else {
            return false;
        };
        if at.is_some_and(|at| at > now) {
            return false;
        }
        *at = None;
        true
    }

    /// Begins to wait for a token, unless it does already.
    fn wait_for_token(&mut self, now: Instant) {
        if let Self::Attempt { give_up, .. } = self {
            give_up.get_or_insert(now + TOKEN_WAIT);
        }
    }

    fn waits_for_token(&self) -> bool {
        matches!(self, Self::Attempt { give_up: Some(_), .. })
    }

    /// Whether it has waited for a token for too long.
    fn has_given_up(&self, now: Instant) -> bool {
        matches!(self, Self::Attempt { give_up: Some(end), .. } if *end <= now)
    }

    /// When it is to be looked at.
    fn wake(&self) -> Option<Instant> {
        match self {
            Self::Attempt { at, give_up, .. } => at.or(*give_up),
            Self::Nothing => None,
        }
    }
}

/// One request on its way to a response.
struct Race<'a> {
    app: &'a App,
    service: Arc<Service>,
    runtime: Arc<ServiceRuntime>,
    running: SmallVec<[Running; 2]>,
    /// A response whose status was to be tried elsewhere; it goes to the client when nothing better comes.
    held: Option<(Box<Upstream>, Box<ResponseHeader>, usize, Busy)>,
    body: Option<Body>,
    body_done: bool,
    next: Next,
    deadline: Option<Instant>,
    hedge_at: Option<Instant>,
    /// A hedge was not made for want of a token.
    denied: bool,
    failure: u16,
    /// An attempt failed in a way that costs nothing once.
    excused: bool,
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
        for leg in &exchange.legs {
            Exchange::prepare(&self.edge, &leg.service);
        }
        let body_done = session.is_body_empty();
        let body = (!body_done).then(|| {
            let limit = if exchange.upgrade == Upgrade::None {
                exchange.replay_bytes()
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
            denied: false,
            failure: 502,
            excused: false,
            why: None,
        };
        let won = race.run(session, exchange).await;
        race.end(won.is_ok(), exchange);
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

type Won = (Box<Upstream>, Box<ResponseHeader>, usize, Busy);

/// What the loop woke up for.
enum Event {
    Moved(usize, Moved),
    Client(pingora_error::Result<Option<Bytes>>),
    Token(Option<Token>),
    Time,
    /// Two attempts run, one has sent all that came of the body, and no more of it can be kept for both.
    Stuck,
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
                Event::Stuck => self.abandon(0, exchange),
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
                give_up: None,
            };
        }
    }

    /// Starts what can be started now. A status when nothing runs and nothing is planned.
    fn proceed(&mut self, session: &mut ServerSession, exchange: &mut Exchange) -> Option<u16> {
        loop {
            let Next::Attempt { paid, .. } = self.next else {
                return self.running.is_empty().then_some(self.failure);
            };
            let now = Instant::now();
            if !self.next.is_due(now) {
                return None;
            }
            if !paid {
                self.start_next(None, session, exchange);
                continue;
            }
            match self.runtime.budget.try_take() {
                Some(token) => self.start_next(Some(token), session, exchange),
                None => {
                    self.next.wait_for_token(now);
                    return None;
                }
            }
        }
    }

    async fn event(&mut self, session: &mut ServerSession) -> Event {
        let attempts = self.running.len();
        let body = self.body.as_ref();
        let wake = self.wake();
        let budget = self.runtime.budget.clone();
        let waits_for_token = self.next.waits_for_token();
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
            () = stuck(body, body_done, attempts) => Event::Stuck,
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
        looks
            .chain(self.next.wake())
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
        // The first attempt follows the decision at once, where nobody waits for a place.
        let now = match exchange.attempts {
            0 if self.policy().limits.max_in_flight.is_none() => exchange.started,
            _ => std::time::Instant::now(),
        };
        let others = Self::untried(exchange, Some(candidate), 0, now).is_some();
        let Some(service) = exchange.leg_of(candidate).map(|leg| leg.service.clone()) else {
            return;
        };
        let Some(line) = exchange.candidates.get_mut(candidate) else {
            return;
        };
        line.tried = true;
        let probe = line.probe.take();
        let endpoint = line.endpoint.clone();
        let Some(state) = ServiceState::known(&service).and_then(|s| s.of(&service, &endpoint)) else {
            return;
        };
        let before = answers(&service, &endpoint);
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
        let phase = match attempt::idle(&self.app.pool, &service, &endpoint, manner) {
            Some(upstream) => self.ask(upstream, candidate, session, exchange),
            None => Phase::Connecting(Box::pin(attempt::connect(
                self.app.pool.clone(),
                self.app.names.clone(),
                service,
                endpoint.clone(),
                manner,
            ))),
        };
        self.running.push(Running {
            candidate,
            phase,
            since: now,
            busy,
            token,
            probe,
            hedge,
            look: Look {
                at: Instant::from_std(now) + self.patience(&endpoint),
                before,
                silent: Instant::from_std(now),
                earlier: 0,
                unanswered: false,
            },
        });
        self.plan_hedge(session);
    }

    /// How long a request may wait before it is asked whether its endpoint still answers anybody.
    fn patience(&self, endpoint: &Endpoint) -> Duration {
        let usual = endpoint.live.latency().unwrap_or_default();
        (usual * USUAL).clamp(PATIENCE, LONGEST_LOOK)
    }

    fn plan_hedge(&mut self, session: &ServerSession) {
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
    fn limit(&self, candidate: usize, exchange: &Exchange) -> Option<Duration> {
        let transport = exchange
            .leg_of(candidate)
            .and_then(|leg| leg.service.transport.timeouts.response_header);
        let limits = [transport, self.policy().retry.per_try];
        limits.into_iter().flatten().min()
    }

    /// A candidate with what is known of it.
    fn reach(
        candidate: usize,
        exchange: &Exchange,
    ) -> Option<(&Arc<Service>, &Arc<Endpoint>, &EndpointState)> {
        let service = &exchange.leg_of(candidate)?.service;
        let endpoint = &exchange.candidates.get(candidate)?.endpoint;
        let state = ServiceState::known(service)?.of(service, endpoint)?;
        Some((service, endpoint, state))
    }

    /// Sends the request on a connection.
    fn ask(
        &self,
        upstream: Box<Upstream>,
        candidate: usize,
        session: &mut ServerSession,
        exchange: &Exchange,
    ) -> Phase {
        let limit = self.limit(candidate, exchange);
        let head = Self::reach(candidate, exchange)
            .ok_or_else(|| Error::new_in(ErrorType::InternalError))
            .and_then(|(service, endpoint, state)| {
                let towards = Towards {
                    service,
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
                let candidate = self.running.get(number).map_or(0, |running| running.candidate);
                let phase = self.ask(upstream, candidate, session, exchange);
                if let Some(running) = self.running.get_mut(number) {
                    running.phase = phase;
                }
                Ok(None)
            }
            Moved::Reached(upstream, head) if is_interim(&head) => {
                self.interim(number, upstream, head, session, exchange).await?;
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
    fn answered(
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
        let candidate = self.running.get(number).map_or(0, |running| running.candidate);
        let left_to_next = exchange.leg_of(candidate).is_some_and(|leg| leg.moves_on(status));
        let bad = self.policy().retry.statuses.contains(&status);
        let wanted_elsewhere = (bad || left_to_next) && exchange.upgrade != Upgrade::Other;
        let failure = Failure::Status { leave: !bad };
        if bad {
            self.count_failure(number, EndpointFailure::Status, exchange);
        }
        if !wanted_elsewhere && self.policy().hedge.percentile.is_some() {
            self.runtime.latency.record(latency);
        }
        if wanted_elsewhere && self.goes_on(failure, number, exchange) {
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
    fn failed(&mut self, number: usize, failed: Failed, exchange: &mut Exchange) {
        let Failed { failure, error } = failed;
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
        self.goes_on(failure, number, exchange);
        let is_gone = match failure {
            Failure::Departed => true,
            Failure::Connect { .. } => self
                .endpoint_of(number, exchange)
                .is_some_and(|endpoint| endpoint.live.departed()),
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

    /// Plans what follows the failure of attempt `number`. Whether the request goes on without its result.
    fn goes_on(&mut self, failure: Failure, number: usize, exchange: &Exchange) -> bool {
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
            most: self.policy().retry.attempts.map_or(usize::MAX, usize::from),
            others: other.is_some(),
            excused: self.excused,
        });
        // Others may be stale for the same reason: no second one is tried.
        self.excused |= failure.is_excused_once();
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
            (Verdict::Next { .. } | Verdict::Again, _) => (candidate, false, true),
        };
        if !matches!(failure, Failure::Status { .. }) {
            self.failure = 502;
        }
        self.next = Next::Attempt {
            candidate,
            at: self.pause(exchange),
            paid,
            fresh,
            give_up: None,
        };
        true
    }

    /// The pause before the next attempt: none before the second one, then a random part of one that doubles.
    fn pause(&self, exchange: &Exchange) -> Option<Instant> {
        let pause = super::retry::pause(&self.policy().retry, exchange.attempts)?;
        Some(Instant::now() + pause)
    }

    /// The first candidate that was not tried and may be, in leg `from` or a later one.
    fn untried(
        exchange: &Exchange,
        but: Option<usize>,
        from: usize,
        now: std::time::Instant,
    ) -> Option<usize> {
        let may = |(number, line): (usize, &Candidate)| {
            let service = || exchange.legs.get(line.leg).map(|leg| &leg.service);
            Some(number) != but
                && line.leg >= from
                && !line.tried
                && (line.probe.is_some() || service().is_some_and(|s| s.may_try(&line.endpoint, now)))
        };
        exchange.candidates.iter().enumerate().position(may)
    }

    fn endpoint_of(&self, number: usize, exchange: &Exchange) -> Option<Arc<Endpoint>> {
        let candidate = self.running.get(number)?.candidate;
        Some(exchange.candidates.get(candidate)?.endpoint.clone())
    }

    fn record(&self, number: usize, outcome: AttemptOutcome, exchange: &Exchange) {
        let Some(endpoint) = self.endpoint_of(number, exchange) else {
            return;
        };
        let candidate = self.running.get(number).map_or(0, |running| running.candidate);
        let Some(leg) = exchange.leg_of(candidate) else {
            return;
        };
        let transitions = leg.service.record(&endpoint, outcome, std::time::Instant::now());
        self.app.edge.note(&leg.service, &transitions);
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

    fn count_failure(&self, number: usize, reason: EndpointFailure, exchange: &Exchange) {
        let candidate = self.running.get(number).map_or(0, |running| running.candidate);
        if let Some((.., state)) = Self::reach(candidate, exchange) {
            state.metrics.failed(reason);
        }
    }

    fn count_answer(&self, number: usize, exchange: &Exchange) {
        let candidate = self.running.get(number).map_or(0, |running| running.candidate);
        if let Some(runtime) = exchange
            .leg_of(candidate)
            .and_then(|leg| leg.service.live.slot.get::<Arc<ServiceRuntime>>())
        {
            runtime.answers.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(&mut self, number: usize, exchange: &mut Exchange) -> Option<Running> {
        if number >= self.running.len() {
            return None;
        }
        let running = self.running.remove(number);
        exchange.origin_duration += running.since.elapsed();
        Some(running)
    }

    /// Tries to keep the connection of a response that nobody wants; closes it when many are being read to their end.
    fn discard(&self, upstream: Box<Upstream>) {
        if let Ok(place) = self.app.discarding.clone().try_acquire_owned() {
            tokio::spawn(async move {
                upstream.discard(None).await;
                drop(place);
            });
        }
    }

    /// Time passed. A status when the request has no more of it.
    fn on_time(&mut self, session: &mut ServerSession, exchange: &mut Exchange) -> Option<u16> {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.runtime.metrics.gave_up(GaveUp::Deadline);
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
    fn look(&mut self, number: usize, now: Instant, session: &mut ServerSession, exchange: &mut Exchange) {
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
    fn hung(
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
    fn hedge(&mut self, session: &mut ServerSession, exchange: &mut Exchange) {
        let most = self.policy().retry.attempts.map_or(usize::MAX, usize::from);
        let allowed = self.running.len() == 1
            && matches!(self.next, Next::Nothing)
            && exchange.repeatable
            && exchange.upgrade != Upgrade::Other
            && exchange.attempts < most.min(super::retry::MAX_ATTEMPTS)
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

    /// Gives an attempt up of which nothing bad is known.
    fn abandon(&mut self, number: usize, exchange: &mut Exchange) {
        self.record(number, AttemptOutcome::Abandoned, exchange);
        self.tell(number, LineOutcome::Abandoned, exchange);
        if self
            .running
            .get(number)
            .is_some_and(|running| running.look.unanswered)
        {
            self.count_failure(number, EndpointFailure::Unanswered, exchange);
        }
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

    /// The request has its response (`won`), or will have none: what still runs is given up.
    fn end(&mut self, won: bool, exchange: &mut Exchange) {
        for number in (0..self.running.len()).rev() {
            let unanswered = |running: &Running| running.look.unanswered;
            if won && self.running.get(number).is_some_and(unanswered) {
                // What it left unanswered was answered elsewhere.
                self.record(number, AttemptOutcome::Unanswered, exchange);
            }
            self.abandon(number, exchange);
        }
        if let Some((upstream, ..)) = self.held.take() {
            self.discard(upstream);
        }
        // What was not asked is free for another request's probe, however long this response lasts.
        for candidate in &mut exchange.candidates {
            candidate.probe = None;
        }
    }
}

/// The answers of an endpoint, and of all of its service.
fn answers(service: &Service, endpoint: &Endpoint) -> (u64, u64) {
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
    fn is_left_unanswered(&self, service: &Service, endpoint: &Endpoint, patience: Duration) -> bool {
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

/// Waits until one of two attempts needs more of the body than can be kept for both.
async fn stuck(body: Option<&Body>, body_done: bool, attempts: usize) {
    poll_fn(|_| {
        let stuck = |body: &Body| attempts > 1 && body.wants_more(1) && !body.wants_more(attempts);
        if !body_done && body.is_some_and(stuck) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A time that has passed and stays would wake the request again and again, for as long as tokens are out.
    #[test]
    fn a_pause_that_is_over_wakes_nobody_while_a_token_is_waited_for() {
        let now = Instant::now();
        let later = now + Duration::from_millis(20);
        let mut next = Next::Attempt {
            candidate: 0,
            at: Some(later),
            paid: true,
            fresh: false,
            give_up: None,
        };
        assert!(!next.is_due(now));
        assert_eq!((next.wake(), next.waits_for_token()), (Some(later), false));
        assert!(next.is_due(later));
        next.wait_for_token(later);
        let end = later + TOKEN_WAIT;
        assert_eq!((next.wake(), next.waits_for_token()), (Some(end), true));
        // Whoever asks later has no more time.
        assert!(next.is_due(end));
        next.wait_for_token(end);
        assert!(next.has_given_up(end) && !next.has_given_up(later));
    }
}
