//! The thread that does what has its time: ends of bans, events of the programs, devices, the alarm, offences.
//!
//! It sleeps until one of these is due or somebody wakes it. It shares nothing with the control runtime, which may be busy
//! compiling, and holds the guard's state for some system calls at a time.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use constellation_dataplane::offence::{Offence, Report};
use constellation_ebpf_loader::BootTime;
use constellation_ebpf_loader::guard as loader;
use ipnet::IpNet;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::book::{Ban, Now, Origin};
use super::offenders::{reason, source_of};
use super::report::EventReport;
use super::{MAX_EVENTS, Shared, Stage, State, raise, routes};

/// Between two looks at counters, devices and files.
const TICK: Duration = Duration::from_secs(1);
/// Between two writings of the file, for what nobody waits for.
const WRITES: Duration = Duration::from_secs(5);
/// What comes within this time is done in one go.
const TOGETHER: Duration = Duration::from_millis(50);
/// Offences that wait to be counted; more are lost, and counted as that.
const MAX_WAITING: usize = 8192;
/// Offences that are counted in one go.
const BATCH: usize = 4096;

/// What the data plane and the API put in front of the thread.
pub(super) struct Inbox {
    bell: EventFd,
    /// Whether the bell was rung for what waits, so that it is rung once.
    rung: AtomicBool,
    listening: AtomicBool,
    offences: SyncSender<(IpAddr, Offence)>,
    waiting: Mutex<Receiver<(IpAddr, Offence)>>,
    lost: AtomicU64,
}

impl Inbox {
    pub(super) fn new() -> io::Result<Self> {
        let (offences, waiting) = mpsc::sync_channel(MAX_WAITING);
        Ok(Self {
            bell: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
            rung: AtomicBool::new(false),
            listening: AtomicBool::new(false),
            offences,
            waiting: Mutex::new(waiting),
            lost: AtomicU64::new(0),
        })
    }

    /// Whether offences are wanted.
    pub(super) fn listen(&self, listening: bool) {
        self.listening.store(listening, Ordering::Relaxed);
    }

    /// Offences that came faster than they could be counted.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// There is something to look at.
    pub(super) fn wake(&self) {
        if let Err(error) = self.bell.write(1)
            && error != Errno::EAGAIN
        {
            tracing::debug!(%error, "the guard's thread can't be woken; it wakes by itself");
        }
    }

    /// Nobody has rung yet.
    fn hush(&self) {
        // That nobody has rung is no fault.
        if let Err(error) = self.bell.read()
            && error != Errno::EAGAIN
        {
            tracing::debug!(%error, "the guard's bell can't be silenced");
        }
        self.rung.store(false, Ordering::Release);
    }

    fn take(&self) -> Vec<(IpAddr, Offence)> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.try_iter().take(BATCH).collect()
    }
}

impl Report for Inbox {
    fn report(&self, source: IpAddr, offence: Offence) {
        if !self.listening.load(Ordering::Relaxed) {
            return;
        }
        if self.offences.try_send((source, offence)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }
}

/// Starts the thread. It ends when the guard is off, or with the node.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<()> {
    let (weak, inbox) = (Arc::downgrade(shared), shared.inbox.clone());
    std::thread::Builder::new()
        .name("guard".to_owned())
        .spawn(move || watch(&weak, &inbox))
        .map(drop)
}

fn watch(shared: &Weak<Shared>, inbox: &Inbox) {
    loop {
        let (timeout, events) = {
            let Some(shared) = shared.upgrade() else { return };
            let mut state = shared.state();
            let now = Now::take();
            if !state.tick(&shared, now) {
                state.watching = false;
                return;
            }
            let due = (state.due_in(now.boot), state.events_descriptor());
            let writes = state.writes(now.boot);
            drop(state);
            if writes {
                shared.keep();
            }
            due
        };
        sleep(inbox, events.as_ref(), timeout);
    }
}

/// Until something happens, or it is time.
fn sleep(inbox: &Inbox, events: Option<&OwnedFd>, timeout: Duration) {
    let descriptors: [Option<BorrowedFd<'_>>; 2] =
        [Some(inbox.bell.as_fd()), events.map(|events| events.as_fd())];
    let mut polled: Vec<PollFd<'_>> = descriptors
        .into_iter()
        .flatten()
        .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
        .collect();
    // To the next millisecond: a little too late is on time, a little too early is a turn for nothing.
    let millis = timeout.as_millis().saturating_add(1).min(10_000);
    let timeout = PollTimeout::try_from(i32::try_from(millis).unwrap_or(10_000)).unwrap_or(PollTimeout::ZERO);
    match poll(&mut polled, timeout) {
        Ok(0) | Err(Errno::EINTR) => {}
        // Under attack there is always something; what follows at once waits for a moment.
        Ok(_) => std::thread::sleep(TOGETHER),
        Err(error) => {
            tracing::error!(%error, "the guard's thread can't wait for anything; it looks once a second");
            std::thread::sleep(TICK);
        }
    }
    inbox.hush();
}

impl State {
    /// Does what is due. Whether there is anything left to watch over.
    fn tick(&mut self, shared: &Shared, now: Now) -> bool {
        if !self.is_used() {
            return false;
        }
        if self.held {
            return true;
        }
        let banned = self.count_offences(shared, now);
        let over = self.book.expire(now.boot);
        if over > 0 {
            tracing::debug!(over, "bans are over");
        }
        if banned + over > 0 {
            self.apply(&shared.gate);
            self.unwritten = true;
        }
        self.take_events(now);
        if now.boot >= self.next_look {
            self.next_look = now.boot + TICK;
            if let Stage::Active(active) = &mut self.stage {
                active.steer_clear(now.boot);
                if let Err(error) = active.attend_devices() {
                    tracing::warn!(%error, "the guard can't follow the devices");
                }
            }
        }
        true
    }

    /// How long there is nothing to do.
    fn due_in(&self, now: BootTime) -> Duration {
        let end = self.book.next_end().unwrap_or(self.next_look).min(self.next_look);
        if self.held {
            return TICK;
        }
        end.remaining(now).unwrap_or_default()
    }

    /// Whether it is time to write the file.
    fn writes(&mut self, now: BootTime) -> bool {
        if self.held || !self.unwritten || now < self.next_write {
            return false;
        }
        self.next_write = now + WRITES;
        true
    }

    fn events_descriptor(&self) -> Option<OwnedFd> {
        match &self.stage {
            // While it is held nobody reads them, and they would wake us again and again.
            Stage::Active(active) if !self.held => active.events_descriptor().ok(),
            _ => None,
        }
    }

    /// Bans who has offended too often; how many.
    fn count_offences(&mut self, shared: &Shared, now: Now) -> usize {
        let offences = shared.inbox.take();
        let feed = self.config.feed;
        if offences.is_empty() || !feed.enabled {
            return 0;
        }
        let own = routes::own_addresses();
        let mut bans: HashMap<IpNet, Ban> = HashMap::new();
        for (address, offence) in offences {
            raise(&mut self.counts.offences, offence.as_str(), 1);
            let source = source_of(address);
            if bans.contains_key(&source) || self.is_spared(address, source, &own) {
                continue;
            }
            if let Some(length) = self.offenders.count(source, now.boot, &feed) {
                let reason = reason(offence, &feed);
                if self.lines.another(now.boot) {
                    tracing::warn!(%source, ?length, %reason, "banned for what it did to the proxy");
                }
                let ban = Ban {
                    origin: Origin::Proxy,
                    reason: reason.into(),
                    made: now.wall,
                    until: Some(now.after(length)),
                };
                bans.insert(source, ban);
            }
        }
        let bans: Vec<_> = bans.into_iter().collect();
        match self.book.deny(&bans) {
            Ok(()) => {
                raise(&mut self.counts.bans, Origin::Proxy.as_str(), bans.len() as u64);
                bans.len()
            }
            Err(full) => {
                tracing::error!(%full, bans = bans.len(), "offenders can't be banned");
                0
            }
        }
    }

    /// Who is never banned by the proxy: who is allowed or speaks for others, this host, and who is banned already.
    fn is_spared(&self, address: IpAddr, source: IpNet, own: &[IpAddr]) -> bool {
        let overlaps = |net: &IpNet| net.contains(&source) || source.contains(net);
        address.is_loopback()
            || own.iter().any(|own| source.contains(own))
            || self.trusted.iter().any(overlaps)
            || self.book.allowances().any(|net| overlaps(&net))
            || self.book.is_configured(&source)
            // A ban of an operator, or one that is longer, stays as it is.
            || self.book.ban(&source).is_some()
    }

    fn take_events(&mut self, now: Now) {
        let Stage::Active(active) = &mut self.stage else {
            return;
        };
        let events: Vec<loader::Event> = active.take_events().collect();
        for event in events {
            raise(&mut self.counts.events, event.verdict, 1);
            let (prefix, reason) = match event.reason {
                0 => (None, None),
                number => {
                    let (prefix, reason) = self.book.told(number);
                    (prefix.map(|net| net.to_string()), Some(reason.to_string()))
                }
            };
            let port = event.port.map(|(protocol, port)| match protocol {
                6 => format!("{port}/tcp"),
                17 => format!("{port}/udp"),
                other => format!("{port}/{other}"),
            });
            let ago = now.boot.remaining(event.at).unwrap_or_default();
            if self.lines.another(now.boot) {
                tracing::info!(
                    verdict = event.verdict.label(), source = %event.source, prefix, reason, port,
                    "the guard drops packets; it tells of each source and prefix once in a while"
                );
            }
            self.events.push_front(EventReport {
                at: super::rfc3339(now.wall - ago),
                verdict: event.verdict.label(),
                source: event.source.to_string(),
                prefix,
                reason,
                port,
            });
            self.events.truncate(MAX_EVENTS);
        }
    }
}
