//! The course of a connection: which directions go on, which side has broken, and which time limit is the next.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::Ready;
use tokio::time::{Instant, Sleep, sleep_until};

use super::bell::Hearer;
use super::{Begin, Each, Ending, GRACE, Lanes, Limits, Progress, Side};

/// Where a direction stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Moving,
    /// Everything is written, and the receiver is to be told.
    Ending,
    Over,
}

pub(super) struct Course<'a> {
    limits: Limits,
    begin: &'a Begin,
    progress: &'a Progress,
    stages: Each<Stage>,
    broken: Each<bool>,
    /// The first side that broke.
    cause: Option<Side>,
    /// When a byte was moved last; kept only where there is a limit.
    moved: Instant,
    seen: u64,
    /// When one direction ended, and the other went on.
    half_open: Option<Instant>,
    grace_until: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What may happen to a connection besides bytes. Polled when its bell has rung.
pub(super) struct Events<'f, C, S, F> {
    hearer: Hearer,
    client: Option<Pin<&'f mut C>>,
    server: Option<Pin<&'f mut S>>,
    stop: Pin<&'f mut F>,
}

impl<'f, C, S, F> Events<'f, C, S, F>
where
    C: Future<Output = io::Result<Ready>>,
    S: Future<Output = io::Result<Ready>>,
    F: Future<Output = ()>,
{
    /// The errors of the two sockets, and an order to stop.
    pub(super) fn new(client: Pin<&'f mut C>, server: Pin<&'f mut S>, stop: Pin<&'f mut F>) -> Self {
        Self {
            hearer: Hearer::new(),
            client: Some(client),
            server: Some(server),
            stop,
        }
    }

    /// The sides whose sockets have an error that nobody may be reading.
    fn failed(&mut self, cx: &mut Context<'_>) -> Each<bool> {
        let (mut client, mut server) = (false, false);
        self.client.take_if(|ready| {
            client = ready.as_mut().poll(cx).is_ready();
            client
        });
        self.server.take_if(|ready| {
            server = ready.as_mut().poll(cx).is_ready();
            server
        });
        Each { client, server }
    }
}

impl<'a> Course<'a> {
    pub(super) fn new(limits: Limits, begin: &'a Begin, progress: &'a Progress) -> Self {
        Self {
            limits,
            begin,
            stages: Each::default(),
            broken: Each::default(),
            cause: None,
            moved: Instant::now(),
            seen: progress.total(),
            progress,
            half_open: None,
            grace_until: None,
            timer: None,
        }
    }

    /// Goes on until the connection has ended.
    pub(super) fn poll<C, S, F>(
        &mut self,
        lanes: &mut impl Lanes,
        events: &mut Events<'_, C, S, F>,
        cx: &mut Context<'_>,
    ) -> Poll<Ending>
    where
        C: Future<Output = io::Result<Ready>>,
        S: Future<Output = io::Result<Ready>>,
        F: Future<Output = ()>,
    {
        for side in Side::BOTH {
            if let Some(ending) = self.advance(side, lanes, cx) {
                return Poll::Ready(ending);
            }
        }
        if events.hearer.has_rung(cx.waker()) {
            let waker = events.hearer.waker.clone();
            let cx = &mut Context::from_waker(&waker);
            if events.stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ending::Stopped);
            }
            let failed = events.failed(cx);
            for side in Side::BOTH {
                if *failed.of(side) {
                    self.break_off(side);
                }
            }
            if let Some(ending) = self.time(cx) {
                return Poll::Ready(ending);
            }
        } else if self.is_timer_late() {
            let waker = events.hearer.waker.clone();
            if let Some(ending) = self.time(&mut Context::from_waker(&waker)) {
                return Poll::Ready(ending);
            }
        }
        let over = |side: Side| *self.stages.of(side) == Stage::Over;
        if Side::BOTH.into_iter().all(over) {
            return Poll::Ready(self.cause.map_or(Ending::Complete, Ending::Broken));
        }
        Poll::Pending
    }

    /// The sides that still waited for bytes.
    pub(super) fn unfinished(&self) -> Each<bool> {
        let waits = |side: Side| *self.stages.of(side.other()) != Stage::Over;
        Each {
            client: waits(Side::Client),
            server: waits(Side::Server),
        }
    }

    /// Up to when what was written may be waited for.
    pub(super) fn grace(&self, now: Instant) -> Option<Instant> {
        let half_open = self.half_open_until().is_some_and(|until| until <= now);
        self.grace_until.or_else(|| half_open.then(|| now + GRACE))
    }

    /// Moves on with the direction that comes from a side. An ending, when nothing more is to be done here.
    fn advance(&mut self, from: Side, lanes: &mut impl Lanes, cx: &mut Context<'_>) -> Option<Ending> {
        if *self.stages.of(from) == Stage::Moving {
            let moved = self.progress.of(from);
            match lanes.poll_lane(from, moved, cx) {
                Poll::Pending => return None,
                Poll::Ready(Ok(())) if self.is_unserved(from) => return Some(Ending::Unserved),
                // The receiver is going to be reset.
                Poll::Ready(Ok(())) if *self.broken.of(from) => *self.stages.of_mut(from) = Stage::Over,
                Poll::Ready(Ok(())) => *self.stages.of_mut(from) = Stage::Ending,
                Poll::Ready(Err(fault)) => {
                    let side = if fault.is_of_source() { from } else { from.other() };
                    if side == Side::Server && self.is_unserved(Side::Server) {
                        return Some(Ending::Unserved);
                    }
                    tracing::debug!(error = %fault.error, ?side, "a stream broke");
                    self.break_off(side);
                    *self.stages.of_mut(from) = Stage::Over;
                }
            }
        }
        if *self.stages.of(from) == Stage::Ending {
            match lanes.poll_end(from.other(), cx) {
                Poll::Pending => return None,
                Poll::Ready(ended) => {
                    *self.stages.of_mut(from) = Stage::Over;
                    let other_goes_on = *self.stages.of(from.other()) != Stage::Over;
                    // Who has told everything, and can't be told anything any more, has just left.
                    if ended.is_err() && other_goes_on {
                        self.break_off(from.other());
                    }
                    self.half_open = other_goes_on.then(Instant::now);
                }
            }
        }
        None
    }

    /// Whether the server, which ends its direction, has not been of any use.
    fn is_unserved(&self, from: Side) -> bool {
        from == Side::Server
            && self.begin.forgiving.is_some_and(|until| Instant::now() <= until)
            && *self.stages.of(Side::Client) == Stage::Moving
            && !self.progress.has_begun(Side::Server)
            && self.progress.from(Side::Client) == 0
            && !self.broken.client
    }

    /// Nothing more goes to that side; what it has sent may still arrive.
    fn break_off(&mut self, side: Side) {
        *self.broken.of_mut(side) = true;
        *self.stages.of_mut(side.other()) = Stage::Over;
        self.cause.get_or_insert(side);
        self.grace_until.get_or_insert_with(|| Instant::now() + GRACE);
    }

    /// The next time at which something is to be looked at.
    fn due(&self) -> Option<Instant> {
        let idle = self.limits.idle.and_then(|idle| self.moved.checked_add(idle));
        let limits = [idle, self.half_open_until(), self.grace_until];
        limits.into_iter().flatten().min()
    }

    fn half_open_until(&self) -> Option<Instant> {
        self.half_open?
            .max(self.moved)
            .checked_add(self.limits.half_open?)
    }

    /// Whether the timer has to be set, or set to an earlier time. Notes that bytes were moved.
    fn is_timer_late(&mut self) -> bool {
        if self.limits.idle.is_some() || self.half_open.is_some() {
            let total = self.progress.total();
            if total != std::mem::replace(&mut self.seen, total) {
                self.moved = Instant::now();
            }
        }
        let timer = self.timer.as_ref().map(|timer| timer.deadline());
        self.due()
            .is_some_and(|due| timer.is_none_or(|timer| due < timer))
    }

    /// Looks at the time limits, and sets the timer to the next one.
    fn time(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        self.is_timer_late();
        loop {
            let due = self.due()?;
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if timer.deadline() > due || (timer.is_elapsed() && timer.deadline() < due) {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return None;
            }
            let now = Instant::now();
            let is_over = |end: Option<Instant>| end.is_some_and(|end| end <= now);
            if is_over(self.grace_until) {
                return Some(self.cause.map_or(Ending::Stopped, Ending::Broken));
            }
            if is_over(self.half_open_until()) {
                return Some(Ending::HalfOpen);
            }
            if due <= now {
                return Some(Ending::Idle);
            }
        }
    }
}
