//! One node: its clocks, its process with the crate's parts in it, and its kernel, which outlives the process.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use constellation_cluster::lease::{
    Attempt, BootTime, Damping, ExpiryTimer, Held, Holder, LeaseKey, Placement, Timing,
};
use constellation_cluster::state::{ClientId, NodeId, Outcome, Request, State};

use crate::network::MS;

/// One and a half tenths: what clocks of 5 % either way need is a good tenth.
pub(crate) const TTL: Duration = Duration::from_millis(1000);
pub(crate) const MARGIN: Duration = Duration::from_millis(150);
/// The most that a clock is fast or slow, in parts of a million.
pub(crate) const MAX_PPM: i64 = 50_000;

pub(crate) struct Node {
    pub(crate) id: usize,
    pub(crate) clock: Clock,
    /// Nothing runs before; a process that is down waits for its start.
    pub(crate) paused_until: u64,
    /// It is the machine that is paused, and not the process.
    pub(crate) sleeps: bool,
    pub(crate) isolated_until: u64,
    pub(crate) draining: bool,
    pub(crate) priority: u32,
    pub(crate) process: Process,
    /// What the last event of this process still has to do, one after the other, after a pause in between.
    pub(crate) unfinished: VecDeque<Effect>,
}

/// What dies in a crash.
pub(crate) struct Process {
    pub(crate) client: ClientId,
    sequence: u64,
    pub(crate) state: State,
    pub(crate) applied: usize,
    pub(crate) timer: ExpiryTimer,
    /// The term that this node thinks it leads in.
    pub(crate) leads: Option<u64>,
    pub(crate) sites: Vec<Site>,
    /// Whom to answer when the entry is applied.
    pub(crate) asked_by: BTreeMap<(ClientId, u64), usize>,
    /// Requests of this process that wait for an answer.
    pub(crate) waiting: BTreeMap<u64, Waiting>,
    /// When each lease was last renewed, as a leader that forgets to forget would have it.
    pub(crate) stale_timer: BTreeMap<LeaseKey, Instant>,
}

/// One lease, as this process deals with it.
pub(crate) struct Site {
    pub(crate) key: LeaseKey,
    pub(crate) holder: Holder,
    pub(crate) placement: Placement,
    /// How much longer than right the deadline is, with the bug that counts from the answer.
    pub(crate) too_long: Duration,
}

pub(crate) struct Waiting {
    pub(crate) site: usize,
    pub(crate) attempt: Attempt,
    pub(crate) asked: BootTime,
}

/// What a process does to the world.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Writes the kernel's map; nothing to refuse everybody.
    Kernel {
        key: LeaseKey,
        held: Option<Held>,
        too_long: Duration,
    },
    /// Sends a request to whom it thinks leads.
    Send(Request),
    /// Appends a request of its own to the log that it leads.
    Append { term: u64, request: Request },
    /// Answers a request.
    Answer {
        to: usize,
        client: ClientId,
        sequence: u64,
        outcome: Outcome,
    },
}

pub(crate) struct Clock {
    ppm: i64,
    offset: u64,
    origin: Instant,
    /// For how long the machine slept: the boot clock went on, the monotonic did not.
    pub(crate) suspended: u64,
}

impl Clock {
    pub(crate) fn new(ppm: i64, offset: u64, origin: Instant) -> Self {
        Self {
            ppm,
            offset,
            origin,
            suspended: 0,
        }
    }

    fn elapsed(&self, time: u64) -> u64 {
        let rate = u128::try_from(1_000_000 + self.ppm).expect("a clock goes forward");
        u64::try_from(u128::from(time) * rate / 1_000_000).expect("in range")
    }

    pub(crate) fn boot(&self, time: u64) -> BootTime {
        BootTime::from_nanos((self.offset + self.elapsed(time)) * 1_000)
    }

    pub(crate) fn monotonic(&self, time: u64) -> Instant {
        self.origin + Duration::from_micros(self.elapsed(time.saturating_sub(self.suspended)))
    }

    /// When the boot clock reaches `deadline`, in true time.
    pub(crate) fn when(&self, deadline: BootTime) -> u64 {
        let rate = u128::try_from(1_000_000 + self.ppm).expect("a clock goes forward");
        let local = (deadline.as_nanos() / 1_000).saturating_sub(self.offset);
        u64::try_from((u128::from(local) * 1_000_000).div_ceil(rate)).expect("in range")
    }

    /// How long a wait by this clock takes, in true time.
    pub(crate) fn lasts(&self, wait: Duration) -> u64 {
        let rate = u128::try_from(1_000_000 + self.ppm).expect("a clock goes forward");
        u64::try_from((wait.as_micros() * 1_000_000).div_ceil(rate)).expect("in range")
    }
}

impl Process {
    pub(crate) fn new(node: usize, incarnation: u64, keys: &[LeaseKey]) -> Self {
        let client = ClientId {
            node: NodeId(node as u64),
            incarnation,
        };
        let timing = Timing::new(TTL, MARGIN).expect("a timing");
        let damping = Damping {
            settle: 2 * TTL,
            stagger: Duration::from_millis(150),
        };
        let site = |key: &LeaseKey| Site {
            key: key.clone(),
            holder: Holder::new(key.clone(), client, timing),
            placement: Placement::new(damping),
            too_long: Duration::ZERO,
        };
        Self {
            client,
            sequence: 0,
            state: State::default(),
            applied: 0,
            timer: ExpiryTimer::new(),
            leads: None,
            sites: keys.iter().map(site).collect(),
            asked_by: BTreeMap::new(),
            waiting: BTreeMap::new(),
            stale_timer: BTreeMap::new(),
        }
    }

    pub(crate) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

impl Node {
    pub(crate) fn runs(&self, time: u64) -> bool {
        self.paused_until <= time
    }

    pub(crate) fn connected(&self, time: u64) -> bool {
        self.isolated_until <= time
    }

    /// When to look again, in true time: for what the parts wait for, and for placement ten times a second.
    pub(crate) fn next_wake(&self, time: u64) -> u64 {
        let boot = self.clock.boot(time);
        let now = self.clock.monotonic(time);
        let holders = self
            .process
            .sites
            .iter()
            .filter_map(|site| site.holder.next_poll(boot));
        let timer = self
            .process
            .timer
            .next()
            .map(|next| next.saturating_duration_since(now));
        let wait = holders
            .chain(timer)
            .map(|wait| self.clock.lasts(wait))
            .min()
            .unwrap_or(u64::MAX);
        time + wait.clamp(MS, 100 * MS)
    }
}
