//! What is known of an endpoint from moment to moment: who waits at it, how fast it answers, and whether it may take
//! new requests. Shared by all workers and carried from one generation to the next.
//!
//! Three separate facts are kept, each with its reason: what the active checks say, what live traffic says (outlier
//! ejection), and the circuit breaker. [`crate::View`] combines them with the endpoint's [`crate::Condition`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::{Exclusion, Policy, Slot};

mod service;

pub use service::{ServiceLive, Transition, Transitions};

/// The live facts of one endpoint.
#[derive(Debug, Default)]
pub struct Live {
    in_flight: AtomicU32,
    answers: AtomicU64,
    /// Somebody holds the one [`Probe`].
    probed: AtomicBool,
    departed: AtomicBool,
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
        self.0.probed.store(false, Ordering::Release);
    }
}

/// What the live facts of an endpoint come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It takes requests, with this many tenths of its weight.
    Usable { tenths: u32 },
    /// It takes one probe at a time, since then.
    Probation { since: Instant },
    /// It takes none.
    Excluded(Exclusion),
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

    /// The moving average of its latency; `None` before the first answer.
    pub fn latency(&self) -> Option<Duration> {
        None
    }

    /// Becomes the one probe, unless another request is.
    pub(crate) fn claim(self: &Arc<Self>) -> Option<Probe> {
        self.probed
            .compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
            .then(|| Probe(self.clone()))
    }

    /// Marks it as gone or going: no new request, and idle connections to it are of no use any more.
    pub fn depart(&self) {
        self.departed.store(true, Ordering::Release);
    }

    /// Whether it is gone or going, in a generation that may be newer than the one at hand.
    pub fn departed(&self) -> bool {
        self.departed.load(Ordering::Acquire)
    }

    /// What the facts come to, and when time alone changes that.
    pub(crate) fn verdict(&self, _policy: &Policy, _now: Instant) -> (Verdict, Option<Instant>) {
        (Verdict::Usable { tenths: 10 }, None)
    }

    /// Takes in what became of an attempt. Whether that changed what [`crate::View`] says.
    pub(crate) fn record(&self, _policy: &Policy, outcome: Outcome, _now: Instant) -> bool {
        if let Outcome::Answered { .. } = outcome {
            self.answers.fetch_add(1, Ordering::Relaxed);
        }
        false
    }
}
