//! The guard: whose packets come in at all.
//!
//! [`prepare`] finds out whether `edge_guard` works here; [`Guard::engage`] puts it into force once nobody else serves. The
//! lists are the [`book`]'s: what the configuration says, and what operators ([`wish`]) and the proxy ([`offenders`]) ask for
//! while the node runs ([`operate`]), which the [`store`] keeps. [`force`] writes them into the kernel, follows the devices and moves into
//! their drivers under attack; where the kernel can't, the data plane's gate refuses the same prefixes. One thread
//! ([`watch`]) does everything that has its time: ends of bans, events, devices, the alarm, offences.
//!
//! Independent of steering: either is there without the other, and only the lock is shared ([`crate::kernel`]).

mod book;
mod force;
mod lines;
mod metrics;
mod offenders;
mod operate;
mod prepare;
mod report;
mod routes;
mod store;
mod view;
mod watch;
mod wish;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use constellation_config::{Config, Guard as GuardConfig, GuardMode, Protocol};
use constellation_dataplane::gate::{Gate, Lists as GateLists};
use constellation_dataplane::offence::Offences;
use constellation_ebpf_loader::abi::guard::Verdict;
use constellation_ebpf_loader::{BootTime, Feature};
use ipnet::IpNet;

use self::book::{Book, Now};
use self::force::{Active, Loaded};
use self::lines::Lines;
pub use self::metrics::register;
use self::offenders::Offenders;
pub use self::prepare::prepare;
use self::prepare::{load, ports, trusted};
pub use self::report::{Changed, DeviceReport, EventReport, Lists, Report};
use self::store::{Snapshot, Store};
use self::watch::Inbox;
pub use self::wish::{Refused, Wish};
use crate::cli::Failure;
use crate::kernel::{Kernel, Reason};

/// What it is called where it can't be had.
const WHAT: &str = "the guard";
const OFF: &str = "edge.guard.mode is off";
/// What stands in where it is to be used and can't.
const WHAT_STANDS_IN: &str = "the node closes connections from denied prefixes once they are made; there are no limits \
                              by source, and other programs on this host are not guarded";
/// Events that are kept for whoever asks.
const MAX_EVENTS: usize = 100;

/// The handle. Clones share one state.
#[derive(Clone)]
pub struct Guard(Arc<Shared>);

struct Shared {
    kernel: Kernel,
    gate: Gate,
    inbox: Arc<Inbox>,
    /// Taken before the state, and held while the file is written: a disk that is slow holds up nobody who only asks.
    store: Mutex<Store>,
    state: Mutex<State>,
}

struct State {
    config: GuardConfig,
    /// Ports of the entry points.
    ports: Vec<(Protocol, u16)>,
    stage: Stage,
    book: Book,
    /// Whether the file differs from the book.
    unwritten: bool,
    /// Why it could not be written.
    unkept: Option<String>,
    /// Networks that entry points trust: who is in there speaks for others.
    trusted: Vec<IpNet>,
    offenders: Offenders,
    events: VecDeque<EventReport>,
    counts: Counts,
    /// A successor is being started: what it will read must not change.
    held: bool,
    /// Whether the thread runs.
    watching: bool,
    /// When it looks at counters and devices again.
    next_look: BootTime,
    /// When it writes the file again, unless an operator waits for it.
    next_write: BootTime,
    /// Lines that it may still write.
    lines: Lines,
}

enum Stage {
    /// It works here; whoever serves until now still does.
    Prepared(Box<Loaded>),
    /// The kernel does it.
    Active(Box<Active>),
    /// It is not used; where it was to be, the data plane does what it can.
    Ordinary(Reason),
    /// A successor has it, or the node stops.
    Ended,
}

#[derive(Default)]
struct Counts {
    events: Vec<(Verdict, u64)>,
    bans: Vec<(&'static str, u64)>,
    offences: Vec<(&'static str, u64)>,
}

/// Raises the counter of a label.
fn raise<L: PartialEq>(counts: &mut Vec<(L, u64)>, label: L, by: u64) {
    match counts.iter_mut().find(|(known, _)| *known == label) {
        Some((_, count)) => *count += by,
        None => counts.push((label, by)),
    }
}

impl Guard {
    /// For the data plane: whose connections it closes itself.
    pub fn gate(&self) -> Gate {
        self.0.gate.clone()
    }

    /// For the data plane: where it tells what clients do.
    pub fn offences(&self) -> Offences {
        Offences::to(self.0.inbox.clone())
    }

    /// Puts the guard into force, or clears away what an earlier process left where it is not to be. To be called once
    /// nobody else serves.
    ///
    /// # Errors
    /// When the configuration needs it and the kernel refuses.
    pub fn engage(&self, config: &Config, bound: &[(Arc<str>, SocketAddr)]) -> Result<(), Failure> {
        let store = self.0.store();
        let mut state = self.state();
        let state = &mut *state;
        state.ports = ports(config, bound);
        state.book.configure(&state.config.deny, &state.config.allow);
        if state.config.mode != GuardMode::Off {
            state.read(&store);
        }
        match std::mem::replace(&mut state.stage, Stage::Ended) {
            Stage::Prepared(loaded) => {
                match Active::begin(*loaded, &state.config, &state.ports, &state.book).map_err(Reason::of) {
                    Ok(active) => state.stage = Stage::Active(Box::new(active)),
                    Err(reason) => {
                        self.0.kernel.clear(Feature::Guard);
                        if state.config.mode == GuardMode::Ebpf {
                            return Err(reason.refusal("edge.guard.mode is ebpf", WHAT));
                        }
                        tracing::warn!(%reason, "the guard can't be used: {WHAT_STANDS_IN}");
                        state.stage = Stage::Ordinary(reason);
                    }
                }
            }
            Stage::Ordinary(reason) => {
                self.0.kernel.clear(Feature::Guard);
                state.stage = Stage::Ordinary(reason);
            }
            other => state.stage = other,
        }
        self.follow(state);
        Ok(())
    }

    /// Makes everything else follow a change of stage or configuration.
    fn follow(&self, state: &mut State) {
        state.apply(&self.0.gate);
        let used = state.is_used();
        self.0.inbox.listen(used && state.config.feed.enabled);
        if used && !state.watching {
            match watch::start(&self.0) {
                Ok(()) => state.watching = true,
                Err(error) => tracing::error!(
                    %error,
                    "the thread of the guard can't be started: bans do not end, and nothing else happens by itself"
                ),
            }
        }
    }

    /// Goes by another configuration from now on.
    ///
    /// # Errors
    /// In words for the operator; then everything stays as it was, unless the kernel is what refused.
    pub fn reload(&self, config: &Config, bound: &[(Arc<str>, SocketAddr)]) -> Result<(), String> {
        let store = self.0.store();
        let mut state = self.state();
        let state = &mut *state;
        if state.held || matches!(state.stage, Stage::Ended | Stage::Prepared(_)) {
            return Err("the node is being replaced or stopped".to_owned());
        }
        let guard = &config.edge.guard;
        let was_used = state.is_used();
        // Also where it was not to be had before: what was in the way may be gone.
        let loaded = match (&state.stage, guard.mode) {
            (_, GuardMode::Off) => None,
            (Stage::Active(active), _) if !active.is_taken_away() => None,
            (_, GuardMode::Auto) => Some(load(&self.0.kernel)),
            (_, GuardMode::Ebpf) => {
                let loaded = load(&self.0.kernel);
                if let Err(reason) = &loaded {
                    return Err(format!(
                        "edge.guard.mode is ebpf, and the guard can't be used: {reason}"
                    ));
                }
                Some(loaded)
            }
        };
        state.config = guard.clone();
        state.ports = ports(config, bound);
        state.trusted = trusted(config);
        state.book.configure(&guard.deny, &guard.allow);
        if guard.mode != GuardMode::Off && !was_used {
            state.read(&store);
        }
        let began = loaded.map(|loaded| {
            loaded.and_then(|loaded| {
                Active::begin(loaded, &state.config, &state.ports, &state.book).map_err(Reason::of)
            })
        });
        let mut outcome = Ok(());
        match (began, &mut state.stage) {
            (Some(Ok(active)), stage) => *stage = Stage::Active(Box::new(active)),
            (Some(Err(reason)), stage) => {
                tracing::warn!(%reason, "the guard is not used: {WHAT_STANDS_IN}");
                *stage = Stage::Ordinary(reason);
                self.0.kernel.clear(Feature::Guard);
            }
            (None, stage) if guard.mode == GuardMode::Off => {
                *stage = Stage::Ordinary(Reason::Disabled(OFF));
                self.0.kernel.clear(Feature::Guard);
            }
            (None, Stage::Active(active)) => {
                outcome = active
                    .configure(&state.config, &state.ports)
                    .map_err(|error| error.to_string());
                if outcome.is_ok() {
                    active.steer_clear(BootTime::now());
                }
            }
            (None, _) => {}
        }
        self.follow(state);
        self.0.inbox.wake();
        outcome
    }

    /// Whether the kernel does it.
    pub fn is_active(&self) -> bool {
        matches!(self.state().stage, Stage::Active(_))
    }

    /// A successor is being started, or is not any more: what it reads must not change under its hands.
    pub fn hold(&self, held: bool) {
        self.state().held = held;
        if held {
            self.0.keep();
        }
        self.0.inbox.wake();
    }

    /// A successor has taken over: what is pinned and what is kept is its own from now on.
    pub fn leave(&self) {
        self.state().stage = Stage::Ended;
        self.0.inbox.wake();
    }

    /// Takes the guard out of force and removes all that is pinned of it; bans are kept in the file. Does nothing the
    /// second time.
    pub fn detach(&self) {
        self.0.keep();
        let ended = std::mem::replace(&mut self.state().stage, Stage::Ended);
        self.0.inbox.wake();
        if let Stage::Active(active) = ended {
            drop(active);
            self.0.kernel.clear(Feature::Guard);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what was asked for at run time, where that has changed. Waits for the disk.
    fn keep(&self) {
        let store = self.store();
        let snapshot = {
            let mut state = self.state();
            if !state.is_used() || !std::mem::take(&mut state.unwritten) {
                return;
            }
            Snapshot::of(&state.book, Now::take())
        };
        let outcome = store.save(&snapshot);
        let mut state = self.state();
        let text = outcome
            .err()
            .map(|error| format!("{}: {error}; see node.dataDir", store.file().display()));
        state.unwritten |= text.is_some();
        if let Some(text) = &text
            && state.unkept.as_ref() != Some(text)
        {
            tracing::error!("bans can't be kept over a stop: {text}");
        }
        state.unkept = text;
    }
}

impl State {
    /// Whether there is a guard, of whatever kind.
    fn is_used(&self) -> bool {
        match &self.stage {
            Stage::Active(_) => true,
            Stage::Ordinary(_) => self.config.mode != GuardMode::Off,
            Stage::Prepared(_) | Stage::Ended => false,
        }
    }

    /// Whether it can be told to do something else now.
    fn may_change(&self) -> Result<(), Refused> {
        let text = match &self.stage {
            _ if self.held => "the node is being replaced by a new process: ask again in a moment",
            Stage::Ended | Stage::Prepared(_) => "the node starts or stops: ask again in a moment",
            Stage::Ordinary(_) if self.config.mode == GuardMode::Off => {
                "there is no guard: edge.guard.mode is off. Set it to auto, then SIGHUP (systemctl reload)"
            }
            Stage::Active(_) | Stage::Ordinary(_) => return Ok(()),
        };
        Err(Refused(text.to_owned()))
    }

    fn why(&self) -> String {
        match &self.stage {
            Stage::Ordinary(reason) => reason.to_string(),
            _ => "the node stops".to_owned(),
        }
    }

    /// Puts what is kept into the book.
    fn read(&mut self, store: &Store) {
        if let Some(error) = store.load(&mut self.book, Now::take()) {
            tracing::error!("bans that were kept can't be read: {error}");
            self.unwritten = true;
        }
    }

    /// Makes the kernel, or the data plane where it stands in, what the book says.
    fn apply(&mut self, gate: &Gate) {
        let stands_in = matches!(self.stage, Stage::Ordinary(_)) && self.config.mode != GuardMode::Off;
        gate.set(
            stands_in
                .then(|| GateLists::new(self.book.denials().map(|(net, _)| net), self.book.allowances())),
        );
        if let Stage::Active(active) = &mut self.stage {
            active.apply(&self.book);
        }
    }
}

fn rfc3339(time: std::time::SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&self.report()).finish()
    }
}
