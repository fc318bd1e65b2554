//! From a request to the head of its response: attempts one after the other, and at times two at once.
//!
//! The loop here owns everything that can happen meanwhile: an attempt moves on or fails, the client sends more of the
//! body or leaves, time passes. What follows a failure is [`retry_verdict`]'s to say; whether it may cost anything is
//! the budget's.

mod clock;
mod next;
mod outcome;
mod tell;

use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use constellation_table::{Endpoint, Policy, Probe, Running as LiveRunning, Service};
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType};
use pingora_http::ResponseHeader;
use smallvec::SmallVec;
use tokio::time::{Instant, sleep_until};

use self::clock::answers;
use self::next::Next;
pub(super) use self::outcome::is_interim;
use super::attempt::{self, Failed, Reached, Upstream};
use super::body::Body;
use super::budget::Token;
use super::dial::{self, Manner};
use super::exchange::{Candidate, Exchange};
use super::forwarded::Upgrade;
use super::meshed;
use super::outgoing::{self, Towards};
use super::proxy::App;
use super::response;
use super::retry::Failure;
use super::runtime::ServiceRuntime;
use super::upstream::{EndpointState, ServiceState};
use crate::metrics::{EndpointFailure, GaveUp, InFlight, RetryOutcome};

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
        let gathered = exchange.gathered.take();
        let body_done = session.is_body_empty() || gathered.is_some();
        let body = gathered.or_else(|| {
            if body_done {
                return None;
            }
            let limit = if exchange.upgrade == Upgrade::None {
                exchange.replay_bytes()
            } else {
                0
            };
            Some(Body::new(limit, self.edge.kept.clone()))
        });
        let told = exchange
            .connection
            .as_ref()
            .and_then(|connection| connection.deadline);
        let told = told.map(Instant::from_std);
        let mut race = Race {
            app: self,
            deadline: retry
                .total
                .map(|total| Instant::now() + total)
                .into_iter()
                .chain(told)
                .min(),
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
            h1_only: exchange.upgrade != Upgrade::None
                || (endpoint.peer.is_some() && !meshed::fits_http2(session.req_header())),
            fresh,
            surely: !exchange.repeatable,
        };
        let phase = match dial::idle(&self.app.pool, &service, &endpoint, manner) {
            Some(upstream) => self.ask(upstream, candidate, session, exchange),
            None if let (Some(peer), Some(connection)) = (&endpoint.peer, &exchange.connection) => {
                Phase::Connecting(Box::pin(dial::connect_to_node(
                    self.app.pool.clone(),
                    self.app.links.clone(),
                    endpoint.clone(),
                    peer.clone(),
                    [connection.client, connection.local],
                    manner,
                )))
            }
            None => Phase::Connecting(Box::pin(dial::connect(
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
                let mut head = outgoing::head(session, exchange.upgrade, towards)?;
                if let (Some(peer), Some(connection)) = (&endpoint.peer, &exchange.connection) {
                    let whole = self
                        .deadline
                        .map(|at| at.saturating_duration_since(Instant::now()));
                    let deadline = [whole, limit].into_iter().flatten().min();
                    meshed::introduce(&mut head, peer, connection, deadline)?;
                }
                Ok(head)
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
            Moved::Reached(_, head)
                if let Some(failed) = self
                    .endpoint_of(number, exchange)
                    .and_then(|endpoint| meshed::refusal_of(&endpoint, &head)) =>
            {
                self.failed(number, failed, exchange);
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

    fn take(&mut self, number: usize, exchange: &mut Exchange) -> Option<Running> {
        if number >= self.running.len() {
            return None;
        }
        let running = self.running.remove(number);
        exchange.origin_duration += running.since.elapsed();
        Some(running)
    }

    fn discard(&self, upstream: Box<Upstream>) {
        self.app.discard(upstream);
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
