//! What is known of an endpoint from moment to moment: who waits at it, how fast it answers, and whether it may take
//! new requests. Shared by all workers and carried from one generation to the next.
//!
//! Three separate facts are kept, each with its reason: what the active checks say, what live traffic says (outlier
//! ejection), and the circuit breaker. [`crate::View`] combines them with the endpoint's [`crate::Condition`]. Each is
//! a plain state machine in a file of its own; a lock is taken when one may change, which a success among successes
//! never does.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::policy::{ErrorRate, HealthCheck};
use crate::{Policy, Slot};

mod breaker;
mod check;
mod facts;
mod failure;
mod latency;
mod outlier;
mod service;
mod standing;
mod window;

pub(crate) use facts::{Changes, Fact, Verdict};
pub use service::{ServiceLive, Transition, Transitions};
pub use standing::{BreakerState, CheckState, LastFailure, OutlierState, Standing, WindowCounts};

use facts::Facts;
use failure::{Evidence, Failure, Rate};
use latency::Latency;
use window::Window;

/// A probe waits for an answer for at least this long, and for eight times the endpoint's latency, before it is silence.
const PATIENCE: Duration = Duration::from_millis(250);

/// The live facts of one endpoint.
#[derive(Debug, Default)]
pub struct Live {
    in_flight: AtomicU32,
    answers: AtomicU64,
    latency: Latency,
    /// A success may change a fact.
    attention: AtomicBool,
    /// Since when somebody holds the one [`Probe`], in nanoseconds and one more; 0: nobody does.
    probed: AtomicU64,
    departed: AtomicBool,
    /// What the times in atomics count from.
    epoch: OnceLock<Instant>,
    /// The windows of outlier detection and breaker.
    windows: [OnceLock<Box<Window>>; 2],
    facts: Mutex<Facts>,
    /// What the data plane hangs on the endpoint's identity (idle connections, departure signal); it outlives changes
    /// of condition and weight.
    pub slot: Slot,
}

/// What became of one attempt at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response head came, after this time.
    Answered {
        /// Its status.
        status: u16,
        /// From the request sent to the head.
        latency: Duration,
    },
    /// A connection was made for a stream, after this time. More is not expected of a server of streams.
    Connected {
        /// From the begin of the connect to the end of its TLS handshake, if there is one.
        latency: Duration,
    },
    /// No connection: refused, unreachable, TLS failed.
    ConnectFailed,
    /// No connection in time.
    ConnectTimeout,
    /// The connection ended, or carried no sound HTTP, before a response head was complete.
    Broken,
    /// No response head in the time allowed.
    TimedOut,
    /// Requests to it stay unanswered while its siblings answer.
    Unanswered,
    /// Nothing can be said of the endpoint: the client left, or another attempt won.
    Abandoned,
}

/// A request at the endpoint; counts as in flight until it is dropped.
#[derive(Debug)]
pub struct Running(Arc<Live>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The one probe that an endpoint on probation admits at a time. Dropping it lets the next request be the probe, so
/// whoever makes the attempt keeps it until the outcome is recorded.
#[derive(Debug)]
pub struct Probe(Arc<Live>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.probed.store(0, Ordering::Release);
    }
}

impl Live {
    /// Counts a request as in flight.
    pub fn begin(self: &Arc<Self>) -> Running {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Running(self.clone())
    }

    /// Requests at the endpoint now, over all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Response heads it has given since it is known.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// The moving average of the latency of its good answers; `None` before the first one.
    pub fn latency(&self) -> Option<Duration> {
        self.latency.mean()
    }

    /// Marks it as gone or going: no new request, and idle connections to it are of no use any more.
    pub fn depart(&self) {
        self.departed.store(true, Ordering::Release);
    }

    /// Whether it is gone or going, in a generation that may be newer than the one at hand.
    pub fn departed(&self) -> bool {
        self.departed.load(Ordering::Acquire)
    }

    /// It is there (again).
    pub(crate) fn arrive(&self) {
        self.departed.store(false, Ordering::Release);
    }

    /// Becomes the one probe, unless another request is.
    pub(crate) fn claim(self: &Arc<Self>, now: Instant) -> Option<Probe> {
        let since = self.nanoseconds(now).saturating_add(1);
        self.probed
            .compare_exchange(0, since, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
            .then(|| Probe(self.clone()))
    }

    /// What the facts come to, and when time alone changes that.
    pub(crate) fn verdict(&self, policy: &Policy, now: Instant) -> (Verdict, Option<Instant>) {
        self.facts().verdict(policy, now)
    }

    /// Takes in what became of an attempt; the facts that changed by it.
    pub(crate) fn record(&self, policy: &Policy, outcome: Outcome, now: Instant) -> Changes {
        if let Outcome::Answered { .. } = outcome {
            self.answers.fetch_add(1, Ordering::Relaxed);
        }
        match Evidence::of(outcome, &policy.retry) {
            Evidence::Good { latency } => self.good(policy, latency, now),
            Evidence::Bad(failure) => self.bad(policy, failure, now),
            Evidence::Unanswered => {
                let probe_waits = self.probe_waits(now);
                self.change(|facts| facts.unanswered(policy, probe_waits, now))
            }
            Evidence::None => Changes::new(),
        }
    }

    fn good(&self, policy: &Policy, latency: Duration, now: Instant) -> Changes {
        let at = self.nanoseconds(now);
        self.latency.observe(latency, at);
        self.count(policy, at, false);
        if !self.attention.load(Ordering::Relaxed) {
            return Changes::new();
        }
        let began = now.checked_sub(latency).unwrap_or(now);
        self.change(|facts| facts.good(policy, began, now))
    }

    fn bad(&self, policy: &Policy, failure: Failure, now: Instant) -> Changes {
        let rates = self.count(policy, self.nanoseconds(now), true);
        self.change(|facts| facts.bad(policy, failure, rates, now))
    }

    /// Whether the probe has waited for so long that silence means something.
    fn probe_waits(&self, now: Instant) -> bool {
        let since = Duration::from_nanos(self.probed.load(Ordering::Relaxed).saturating_sub(1));
        let patience = self.latency().unwrap_or_default().saturating_mul(8).max(PATIENCE);
        self.is_probed() && Duration::from_nanos(self.nanoseconds(now)) >= since.saturating_add(patience)
    }

    fn is_probed(&self) -> bool {
        self.probed.load(Ordering::Relaxed) != 0
    }

    /// Counts a request in the windows that the policy looks at; their rates when it failed.
    fn count(&self, policy: &Policy, at: u64, failed: bool) -> (Option<Rate>, Option<Rate>) {
        let [outlier, breaker] = &self.windows;
        let count = |window: &OnceLock<Box<Window>>, policy: Option<&ErrorRate>| {
            let length = policy?.window;
            let window = window.get_or_init(Box::default);
            window.count(length, at, failed);
            failed.then(|| window.rate(length, at))
        };
        (
            count(outlier, policy.outlier.error_rate.as_ref()),
            count(breaker, policy.breaker.error_rate.as_ref()),
        )
    }

    /// Takes in the result of an active check (`Err`: why it is bad).
    pub(crate) fn checked(
        &self,
        policy: &Policy,
        check: &HealthCheck,
        result: Result<(), &str>,
        now: Instant,
    ) -> Changes {
        self.change(|facts| facts.checked(policy, check, result, now))
    }

    /// Forgets what the policy, a new one, does not look at.
    pub(crate) fn keep_only(&self, policy: &Policy) {
        self.change(|facts| {
            facts.keep_only(policy);
            Changes::new()
        });
    }

    /// Whether the active checks speak against it, whatever the policy makes of that.
    pub fn fails_checks(&self) -> bool {
        !self.facts().check.is_usable()
    }

    /// Announces what time has brought about.
    pub(crate) fn advance(&self, now: Instant) -> Changes {
        self.facts().advance(now)
    }

    /// The endpoint was started anew: forgets what was inferred of the old one.
    pub(crate) fn restart(&self) {
        let mut facts = self.facts();
        facts.restart();
        self.attention.store(false, Ordering::Relaxed);
        self.latency.clear();
        for window in self.windows.iter().filter_map(OnceLock::get) {
            window.clear();
        }
    }

    /// Changes the facts by one event. What the window of a fact that changed holds belongs to the time before, and says
    /// nothing of the time after.
    fn change(&self, event: impl FnOnce(&mut Facts) -> Changes) -> Changes {
        let mut facts = self.facts();
        let changes = event(&mut facts);
        self.attention.store(!facts.is_calm(), Ordering::Relaxed);
        let [outlier, breaker] = &self.windows;
        for change in &changes {
            match change.fact {
                Fact::Outlier => outlier.get().inspect(|window| window.clear()),
                Fact::Breaker => breaker.get().inspect(|window| window.clear()),
                Fact::Check | Fact::Panic => None,
            };
        }
        changes
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        let epoch = *self.epoch.get_or_init(|| now);
        u64::try_from(now.saturating_duration_since(epoch).as_nanos()).unwrap_or(u64::MAX)
    }
}
