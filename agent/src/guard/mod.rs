//! The guard: whose packets come in at all.
//!
//! [`prepare`] finds out whether `edge_guard` works here; [`Guard::engage`] puts it into force once nobody else serves. The
//! lists are the [`book`]'s: what the configuration says, and what operators ([`wish`]) and the proxy ([`offenders`]) ask for
//! while the node runs, which the [`store`] keeps. [`force`] writes them into the kernel, follows the devices and moves into
//! their drivers under attack; where the kernel can't, the data plane's gate refuses the same prefixes. One thread
//! ([`watch`]) does everything that has its time: ends of bans, events, devices, the alarm, offences.
//!
//! Independent of steering: either is there without the other, and only the lock is shared ([`crate::kernel`]).

mod book;
mod force;
mod metrics;
mod offenders;
mod report;
mod routes;
mod store;
mod watch;
mod wish;

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use constellation_config::{Config, Guard as GuardConfig, GuardMode, Protocol, XdpMode};
use constellation_dataplane::gate::{Gate, Lists as GateLists};
use constellation_dataplane::offence::Offences;
use constellation_ebpf_loader as loader;
use constellation_ebpf_loader::abi::guard::Verdict;
use constellation_ebpf_loader::{Availability, BootTime, Feature};
use ipnet::IpNet;

use self::book::{Allowance, Ban, Book, CONFIGURED, Now, Origin};
use self::force::{Active, Loaded};
pub use self::metrics::register;
use self::offenders::Offenders;
use self::report::{AllowedReport, DeniedReport};
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

/// How much may be written into the log of what strangers do: an attack must not fill the disk.
#[derive(Default)]
struct Lines {
    until: Option<BootTime>,
    written: u32,
    left_out: u32,
}

impl Lines {
    const EACH_MINUTE: u32 = 20;

    /// Whether there may be another line. The first of a minute says how many were left out before.
    fn another(&mut self, now: BootTime) -> bool {
        if self.until.is_none_or(|until| now >= until) {
            if self.left_out > 0 {
                tracing::info!(
                    lines = self.left_out,
                    "lines of the guard were left out; constellation guard status shows the last events, guard list the bans"
                );
            }
            *self = Self {
                until: Some(now + Duration::from_secs(60)),
                ..Self::default()
            };
        }
        let may = self.written < Self::EACH_MINUTE;
        if may {
            self.written += 1;
        } else {
            self.left_out += 1;
        }
        may
    }
}

/// Raises the counter of a label.
fn raise<L: PartialEq>(counts: &mut Vec<(L, u64)>, label: L, by: u64) {
    match counts.iter_mut().find(|(known, _)| *known == label) {
        Some((_, count)) => *count += by,
        None => counts.push((label, by)),
    }
}

/// Finds out whether the guard works here, as far as `edge.guard.mode` asks for it.
///
/// # Errors
/// When the configuration needs it and it can't be had.
pub fn prepare(config: &Config, kernel: &Kernel) -> Result<Guard, Failure> {
    let guard = &config.edge.guard;
    let stage = match guard.mode {
        GuardMode::Off => Stage::Ordinary(Reason::Disabled(OFF)),
        GuardMode::Auto | GuardMode::Ebpf => match load(kernel) {
            Ok(loaded) => Stage::Prepared(Box::new(loaded)),
            Err(reason) if guard.mode == GuardMode::Ebpf => {
                return Err(reason.refusal("edge.guard.mode is ebpf", WHAT));
            }
            Err(reason) => {
                tracing::warn!(%reason, "the guard is not used: {WHAT_STANDS_IN}");
                Stage::Ordinary(reason)
            }
        },
    };
    let state = State {
        config: guard.clone(),
        ports: Vec::new(),
        stage,
        book: Book::default(),
        unwritten: false,
        unkept: None,
        trusted: trusted(config),
        offenders: Offenders::default(),
        events: VecDeque::new(),
        counts: Counts::default(),
        held: false,
        watching: false,
        next_look: BootTime::now(),
        next_write: BootTime::now(),
        lines: Lines::default(),
    };
    Ok(Guard(Arc::new(Shared {
        kernel: kernel.clone(),
        gate: Gate::default(),
        inbox: Arc::new(Inbox::new().map_err(|error| {
            let text =
                format!("cannot make a descriptor for the guard: {error}; check the limit on open files");
            Failure::new(crate::cli::Exit::System, text)
        })?),
        store: Mutex::new(Store::new(&config.node.data_dir)),
        state: Mutex::new(state),
    })))
}

/// Everything that can fail without a client noticing.
fn load(kernel: &Kernel) -> Result<Loaded, Reason> {
    let lock = kernel.claim()?;
    match loader::probe_guard(&lock) {
        Availability::Active => {
            let guard = loader::Guard::open(&lock).map_err(Reason::of)?;
            let xdp = loader::probe_guard_xdp(&lock);
            Ok(Loaded { guard, xdp })
        }
        unavailable => Err(Reason::Unavailable(unavailable)),
    }
}

/// Networks whose members speak for others.
fn trusted(config: &Config) -> Vec<IpNet> {
    let of_each = config.entry_points.iter().flat_map(|entry_point| {
        let forwarded = &entry_point.forwarded_headers.trusted_ips;
        forwarded.iter().chain(&entry_point.proxy_protocol.trusted_ips)
    });
    of_each.copied().collect()
}

/// The ports that clients come to: as configured, and as bound where any free one was asked for.
fn ports(config: &Config, bound: &[(Arc<str>, SocketAddr)]) -> Vec<(Protocol, u16)> {
    let mut ports = config.edge.guard.ports.clone();
    if ports.is_empty() {
        for entry_point in &config.entry_points {
            let here = bound.iter().filter(|(name, _)| **name == *entry_point.name);
            let of_networks = entry_point.prefixes.iter().map(|prefix| prefix.port);
            let addresses = entry_point
                .addresses
                .iter()
                .chain(here.map(|(_, address)| address));
            let all = addresses.map(SocketAddr::port).chain(of_networks);
            // Any free port is not all ports.
            ports.extend(
                all.filter(|port| *port != 0)
                    .map(|port| (entry_point.protocol, port)),
            );
        }
        ports.sort_unstable_by_key(|(protocol, port)| (*protocol == Protocol::Udp, *port));
        ports.dedup();
    }
    ports
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

    /// Denies prefixes. `caller` is where the call comes from.
    ///
    /// # Errors
    /// In words, when something speaks against it.
    pub fn deny(&self, wish: &Wish, caller: Option<IpAddr>) -> Result<Changed, Refused> {
        let (nets, length, reason) = (wish.prefixes()?, wish.length()?, wish.reason()?);
        let now = Now::take();
        self.change(|state| {
            let notes = wish.check_denial(&nets, &state.book, caller, &routes::own_addresses())?;
            let ban = Ban {
                origin: Origin::Operator,
                reason: if reason.is_empty() {
                    "no reason given"
                } else {
                    reason
                }
                .into(),
                made: now.wall,
                until: length.map(|length| now.after(length)),
            };
            let (fixed, nets): (Vec<_>, Vec<_>) =
                nets.into_iter().partition(|net| state.book.is_configured(net));
            let bans: Vec<_> = nets.iter().map(|net| (*net, ban.clone())).collect();
            state.book.deny(&bans).map_err(|full| Refused(full.to_string()))?;
            raise(
                &mut state.counts.bans,
                Origin::Operator.as_str(),
                nets.len() as u64,
            );
            tracing::info!(
                prefixes = nets.len(),
                first = nets.first().map(ToString::to_string),
                length = ?length,
                reason = %ban.reason,
                "denied by an operator"
            );
            let unchanged = fixed.iter().map(|net| format!("{net} is in {CONFIGURED}"));
            Ok((nets, unchanged.collect(), notes))
        })
    }

    /// Lifts bans that were added while the node ran.
    ///
    /// # Errors
    /// In words.
    pub fn undeny(&self, wish: &Wish) -> Result<Changed, Refused> {
        let nets = wish.prefixes()?;
        self.change(|state| {
            let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
            for net in nets {
                let fixed = state.book.is_configured(&net);
                if state.book.undeny(net) {
                    changed.push(net);
                }
                if fixed {
                    unchanged.push(format!("{net} is in {CONFIGURED}: remove it there, then SIGHUP"));
                } else if changed.last() != Some(&net) {
                    unchanged.push(format!("{net} is not on the deny list as such"));
                }
            }
            tracing::info!(prefixes = changed.len(), "bans lifted by an operator");
            Ok((changed, unchanged, Vec::new()))
        })
    }

    /// Allows prefixes.
    ///
    /// # Errors
    /// In words.
    pub fn allow(&self, wish: &Wish) -> Result<Changed, Refused> {
        let (nets, reason) = (wish.prefixes()?, wish.reason()?);
        if wish.duration.is_some() {
            return Err(Refused("an allowance has no end: leave \"for\" out".to_owned()));
        }
        let allowance = Allowance {
            reason: reason.into(),
            made: Now::take().wall,
        };
        self.change(|state| {
            let book = &state.book;
            let (fixed, nets): (Vec<_>, Vec<_>) = nets
                .into_iter()
                .partition(|net| book.is_configured_allowance(net));
            let all: Vec<_> = nets.iter().map(|net| (*net, allowance.clone())).collect();
            state.book.allow(&all).map_err(|full| Refused(full.to_string()))?;
            tracing::info!(
                prefixes = nets.len(),
                first = nets.first().map(ToString::to_string),
                "allowed by an operator"
            );
            let unchanged = fixed.iter().map(|net| format!("{net} is in edge.guard.allow"));
            Ok((nets, unchanged.collect(), Vec::new()))
        })
    }

    /// Takes back allowances that were added while the node ran.
    ///
    /// # Errors
    /// In words.
    pub fn disallow(&self, wish: &Wish) -> Result<Changed, Refused> {
        let nets = wish.prefixes()?;
        self.change(|state| {
            let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
            for net in nets {
                if state.book.disallow(net) {
                    changed.push(net);
                } else if state.book.is_configured_allowance(&net) {
                    unchanged.push(format!(
                        "{net} is in edge.guard.allow: remove it there, then SIGHUP"
                    ));
                } else {
                    unchanged.push(format!("{net} is not on the allow list as such"));
                }
            }
            tracing::info!(prefixes = changed.len(), "allowances taken back by an operator");
            Ok((changed, unchanged, Vec::new()))
        })
    }

    /// Sends the guard into the drivers, back, or leaves it to the thresholds.
    ///
    /// # Errors
    /// In words, where there is no guard in the kernel.
    pub fn set_xdp(&self, mode: XdpMode) -> Result<(), Refused> {
        let mut state = self.state();
        state.may_change()?;
        let Stage::Active(active) = &mut state.stage else {
            return Err(Refused(format!(
                "the guard is not in the kernel, so that it can't move into drivers: {}",
                state.why()
            )));
        };
        tracing::info!(xdp = mode.as_str(), "said by an operator");
        active.set_xdp(mode, BootTime::now());
        Ok(())
    }

    /// Changes the book, and everything that follows from it.
    fn change(
        &self,
        edit: impl FnOnce(&mut State) -> Result<(Vec<IpNet>, Vec<String>, Vec<String>), Refused>,
    ) -> Result<Changed, Refused> {
        let mut state = self.state();
        state.may_change()?;
        let (changed, unchanged, mut notes) = edit(&mut state)?;
        state.apply(&self.0.gate);
        state.unwritten |= !changed.is_empty();
        drop(state);
        self.0.keep();
        let state = self.state();
        if let Some(unkept) = &state.unkept {
            notes.push(format!("it is in force, but lost when the node ends: {unkept}"));
        }
        let enforced_by = match &state.stage {
            Stage::Active(active) => {
                notes.extend(active.unapplied().map(str::to_owned));
                "kernel"
            }
            _ => "node",
        };
        let kept = state.unkept.is_none();
        drop(state);
        // Its end may be the next one.
        self.0.inbox.wake();
        Ok(Changed {
            changed: changed.iter().map(ToString::to_string).collect(),
            unchanged,
            notes,
            enforced_by,
            kept,
        })
    }

    /// Both lists.
    pub fn lists(&self) -> Lists {
        let state = self.state();
        let (book, now) = (&state.book, Now::take());
        let fixed = book.configured_denials().map(|net| DeniedReport {
            prefix: net.to_string(),
            origin: Origin::Configuration.as_str(),
            reason: CONFIGURED.to_owned(),
            since: None,
            until: None,
            remaining_seconds: None,
        });
        let asked = book.bans().map(|(net, ban)| DeniedReport {
            prefix: net.to_string(),
            origin: ban.origin.as_str(),
            reason: ban.reason.to_string(),
            since: Some(rfc3339(ban.made)),
            until: ban.until.map(|until| rfc3339(until.wall)),
            remaining_seconds: ban.until.map(|until| {
                let left = until.boot.remaining(now.boot).unwrap_or_default();
                left.as_secs() + u64::from(left.subsec_nanos() > 0)
            }),
        });
        let fixed_allowed = book.configured_allowances().map(|net| AllowedReport {
            prefix: net.to_string(),
            origin: Origin::Configuration.as_str(),
            reason: "edge.guard.allow".to_owned(),
            since: None,
        });
        let asked_allowed = book.asked_allowances().map(|(net, allowance)| AllowedReport {
            prefix: net.to_string(),
            origin: Origin::Operator.as_str(),
            reason: allowance.reason.to_string(),
            since: Some(rfc3339(allowance.made)),
        });
        Lists {
            denied: fixed.chain(asked).collect(),
            allowed: fixed_allowed.chain(asked_allowed).collect(),
        }
    }

    /// The guard as it is now.
    pub fn report(&self) -> Report {
        let state = self.state();
        let (denied, allowed) = state.book.counts();
        let mut report = Report {
            mode: state.config.mode.as_str(),
            state: "ended",
            reason: None,
            stand_in: None,
            errno: None,
            missing: Vec::new(),
            devices: Vec::new(),
            xdp: None,
            denied,
            allowed,
            attack: None,
            problems: Vec::new(),
            events: state.events.iter().cloned().collect(),
            packets: std::collections::BTreeMap::new(),
            verdicts: Vec::new(),
            event_counts: state.counts.events.clone(),
            ban_counts: state.counts.bans.clone(),
            offence_counts: state.counts.offences.clone(),
            uncounted_offences: state.offenders.uncounted + self.0.inbox.lost(),
        };
        match &state.stage {
            Stage::Prepared(_) => report.state = "waiting",
            Stage::Active(active) => {
                report.state = "active";
                report.devices = active.devices();
                report.attack = Some(active.attack());
                report.xdp = Some(active.xdp());
                report.verdicts = active.verdicts();
                report.packets = report
                    .verdicts
                    .iter()
                    .map(|(verdict, count)| (verdict.label(), *count))
                    .collect();
                report.problems.extend(active.unapplied().map(str::to_owned));
                let unguarded = report.devices.iter().filter(|device| device.hook.is_none());
                let unguarded = unguarded.map(|device| {
                    let problem = device.problem.as_deref().unwrap_or("not attached");
                    format!("{}: {problem}", device.name)
                });
                report.problems.extend(unguarded);
                if report.devices.is_empty() {
                    let text = "there is no default route, so the guard is at no device; name some in edge.guard.devices";
                    report.problems.push(text.to_owned());
                }
            }
            Stage::Ordinary(reason) => {
                report.state = reason.state();
                report.reason = Some(reason.to_string());
                report.stand_in = (state.config.mode != GuardMode::Off).then_some(WHAT_STANDS_IN);
                report.errno = reason.errno();
                report.missing = reason.missing();
            }
            Stage::Ended => {}
        }
        if let Some(unkept) = &state.unkept {
            report.problems.push(format!("bans are not kept: {unkept}"));
        }
        report
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
