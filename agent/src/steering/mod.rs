//! Steering: the kernel gives new connections to this node's listeners for as long as its lease lasts.
//!
//! [`prepare`] finds out whether that works here and takes the lock of the network namespace; nothing changes for clients
//! yet. [`Steering::engage`] puts the listeners and addresses into the maps, takes the lease, and puts the program into
//! force, or clears away what an earlier process left where steering is not to be. From then on a thread of its own
//! renews the lease ([`lease`] decides, this writes): it shares nothing with the control runtime, so that a busy one does
//! not cost the node its addresses. Which addresses lead to which listeners is [`layout`]'s decision.
//!
//! The addresses are bound in the ordinary way in any case, by the data plane, which knows nothing of all this: conflicts
//! show at start, and without steering the same sockets serve.

mod layout;
mod lease;
mod metrics;
mod report;
mod stand_in;

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use constellation_config::{Config, EntryPoint, Lease, Protocol, SteeringMode};
use constellation_dataplane::{listener, port_owner};
use constellation_ebpf_loader as kernel;
use constellation_ebpf_loader::steering::Changes;
use constellation_ebpf_loader::{Availability, BootTime, Error, Lock, Namespace, Origin};

use self::layout::{Layout, Listener};
use self::lease::{LocalLease, Renewal, Term};
pub use self::metrics::register;
pub use self::report::{LeaseReport, Report};
use self::stand_in::{Reason, WHAT_STANDS_IN};
use crate::cli::Failure;

/// The handle. Clones share one state.
#[derive(Clone)]
pub struct Steering(Arc<Shared>);

struct Shared {
    mode: SteeringMode,
    lease: Lease,
    state: Mutex<State>,
}

enum State {
    /// It works here; whoever serves until now still does.
    Prepared(Box<kernel::Steering>, Lock),
    /// The program is in force, and the lease is renewed.
    Active(Box<Active>),
    /// It is not used, and what an earlier process left under this lock is to be cleared away.
    Ordinary(Reason, Option<Lock>),
    /// A successor has it, or the node stops.
    Ended,
}

/// What is in force.
struct Active {
    kernel: kernel::Steering,
    lock: Lock,
    layout: Layout,
    lease: LocalLease,
    term: Term,
    renewals: u64,
    losses: u64,
    /// Whether the last renewal failed, so that one is told of once.
    failing: bool,
    /// Dropped to end the renewals; nothing once that is done.
    renewing: Option<mpsc::Sender<()>>,
}

/// Finds out whether steering works here, as far as `edge.steering` asks for it. `handed`: the lock that the process before
/// this one, or the service manager, has passed on.
///
/// # Errors
/// When the configuration needs steering and it can't be had.
pub fn prepare(config: &Config, handed: Option<OwnedFd>) -> Result<Steering, Failure> {
    let mode = config.edge.steering;
    let state = match mode {
        SteeringMode::Off => State::Ordinary(Reason::Disabled, leftover(handed)),
        SteeringMode::Auto | SteeringMode::Ebpf => match load(handed) {
            Ok((steering, lock)) => State::Prepared(Box::new(steering), lock),
            Err((reason, lock)) => {
                required_by(config).map_or(Ok(()), |who| Err(reason.refusal(&who)))?;
                if let Reason::Busy(_) = reason {
                    tracing::warn!(%reason, "steering is not used; addresses that the other node steers get nothing here");
                } else {
                    tracing::info!(%reason, "steering is not used: {WHAT_STANDS_IN}");
                }
                State::Ordinary(reason, lock)
            }
        },
    };
    Ok(Steering(Arc::new(Shared {
        mode,
        lease: config.edge.lease,
        state: Mutex::new(state),
    })))
}

/// What in the configuration can't do without steering.
fn required_by(config: &Config) -> Option<String> {
    if config.edge.steering == SteeringMode::Ebpf {
        return Some("edge.steering is ebpf".to_owned());
    }
    let with_prefix = |entry_point: &EntryPoint| {
        let prefix = entry_point.prefixes.first()?;
        Some(format!(
            "{} holds the network {prefix}",
            entry_point.address_key()
        ))
    };
    config.entry_points.iter().find_map(with_prefix)
}

/// Everything that can fail without a client noticing. With the reason comes the lock, where there is something to clear
/// away with it.
fn load(handed: Option<OwnedFd>) -> Result<(kernel::Steering, Lock), (Reason, Option<Lock>)> {
    let missing = kernel::missing_capabilities();
    if !missing.is_empty() {
        return Err((
            Reason::Unavailable(Availability::Denied { missing }),
            leftover(handed),
        ));
    }
    let lock = Namespace::current()
        .and_then(|namespace| take(&namespace, handed))
        .map_err(|error| (Reason::of(error), None))?;
    let failed = |reason: Reason| (reason, has_pins(&lock).then(|| lock.clone()));
    match kernel::probe_steering(&lock) {
        Availability::Active => {}
        unavailable => return Err(failed(Reason::Unavailable(unavailable))),
    }
    let steering = kernel::Steering::open(&lock).map_err(|error| failed(Reason::of(error)))?;
    Ok((steering, lock))
}

/// The lock that was handed over, if it is the right one; else one of our own.
fn take(namespace: &Namespace, handed: Option<OwnedFd>) -> Result<Lock, Error> {
    match handed.map(|handed| Lock::inherit(namespace, handed)) {
        Some(Ok(lock)) => return Ok(lock),
        Some(Err(error)) => tracing::warn!(%error, "taking the lock anew"),
        None => {}
    }
    Lock::take(namespace)
}

/// The lock of a namespace in which an earlier process has left its program: it would refuse every client of ours. Nothing
/// when there is nothing, or when it is another node's.
fn leftover(handed: Option<OwnedFd>) -> Option<Lock> {
    let found = Namespace::find().and_then(|namespace| {
        let Some(namespace) = namespace else {
            return Ok(None);
        };
        take(&namespace, handed).map(Some)
    });
    match found {
        Ok(lock) => lock.filter(has_pins),
        Err(Error::Busy(_)) => None,
        Err(error) => {
            tracing::debug!(%error, "whether an earlier process has left a program can't be told");
            None
        }
    }
}

fn has_pins(lock: &Lock) -> bool {
    kernel::status(lock.namespace()).is_ok_and(|status| !status.maps.is_empty() || !status.links.is_empty())
}

impl Steering {
    /// Puts the listeners to use: from now on this process holds the lease. Where steering is not used, clears away what an
    /// earlier process left. To be called once nobody else serves.
    ///
    /// # Errors
    /// When the configuration needs steering and the kernel refuses.
    pub fn engage(&self, config: &Config, sockets: &[(Arc<str>, OwnedFd)]) -> Result<(), Failure> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Ended) {
            State::Prepared(steering, lock) => match self.activate(*steering, &lock, config, sockets) {
                Ok(active) => *state = State::Active(Box::new(active)),
                Err(reason) => {
                    clear(&lock);
                    required_by(config).map_or(Ok(()), |who| Err(reason.refusal(&who)))?;
                    tracing::warn!(%reason, "steering can't be used: {WHAT_STANDS_IN}");
                    *state = State::Ordinary(reason, None);
                }
            },
            State::Ordinary(reason, lock) => {
                if let Some(lock) = lock {
                    clear(&lock);
                }
                *state = State::Ordinary(reason, None);
            }
            other => *state = other,
        }
        Ok(())
    }

    fn activate(
        &self,
        mut steering: kernel::Steering,
        lock: &Lock,
        config: &Config,
        sockets: &[(Arc<str>, OwnedFd)],
    ) -> Result<Active, Reason> {
        let in_words = |text: String| {
            Reason::Unavailable(Availability::Unsupported {
                errno: None,
                kernel: String::new(),
                reason: text,
            })
        };
        let listeners = listeners(config, sockets).map_err(|error| in_words(error.to_string()))?;
        let earlier = steering.destinations();
        let layout = Layout::new(listeners, &earlier).map_err(|error| in_words(error.to_string()))?;
        let binds = layout
            .binds(&config.entry_points)
            .map_err(|error| in_words(error.to_string()))?;
        let mut put = || -> Result<(LocalLease, Term), Error> {
            for (dest, positions) in layout.destinations() {
                let sockets = positions.iter().filter_map(|position| sockets.get(*position));
                let sockets: Vec<BorrowedFd<'_>> = sockets.map(|(_, socket)| socket.as_fd()).collect();
                steering.insert_listeners(dest, &sockets)?;
            }
            steering.remove_listeners(layout.closed())?;
            let (epoch, _) = steering.granted()?;
            let mut lease = LocalLease::after(epoch, self.0.lease.ttl);
            let term = lease.renew(BootTime::now()).term();
            steering.grant(term.epoch, term.deadline)?;
            // One step for each address: it leads to the listeners of before, or to these.
            steering.set_binds(&binds)?;
            for dest in earlier.iter().filter(|dest| **dest != layout.closed()) {
                steering.remove_listeners(*dest)?;
            }
            let attached = steering.attach()?;
            tracing::info!(
                epoch = term.epoch,
                addresses = steering.steered(),
                pins = match steering.origin() {
                    Origin::New => "made",
                    Origin::Pinned => "reused",
                    Origin::Rebuilt(why) => why,
                },
                program = ?attached,
                "steering: the kernel gives new connections to this process while its lease lasts"
            );
            kernel::remove_other_versions(lock)?;
            match kernel::remove_orphans(lock.namespace())? {
                0 => {}
                count => tracing::info!(
                    count,
                    "removed what nodes in network namespaces that are gone had pinned"
                ),
            }
            Ok((lease, term))
        };
        let (lease, term) = put().map_err(Reason::of)?;
        let renewing = renew_by_itself(&self.0, self.0.lease.renew).map_err(|error| {
            in_words(format!(
                "the thread that renews the lease can't be started: {error}"
            ))
        })?;
        Ok(Active {
            kernel: steering,
            lock: lock.clone(),
            layout,
            lease,
            term,
            renewals: 1,
            losses: 0,
            failing: false,
            renewing: Some(renewing),
        })
    }

    /// Makes the steered addresses those of these entry points; `None` where steering is not in force. `running` are those
    /// before.
    ///
    /// # Errors
    /// In words for the operator; then everything stays as it was, unless the kernel is what refused.
    pub fn reload(
        &self,
        running: &[EntryPoint],
        entry_points: &[EntryPoint],
    ) -> Result<Option<Changes>, String> {
        let mut state = self.state();
        let State::Active(active) = &mut *state else {
            return Ok(None);
        };
        let binds = active
            .layout
            .binds(entry_points)
            .map_err(|error| error.to_string())?;
        let known = |address: &SocketAddr| {
            running
                .iter()
                .any(|entry_point| entry_point.addresses.contains(address))
        };
        for entry_point in entry_points
            .iter()
            .filter(|entry_point| entry_point.protocol == Protocol::Tcp)
        {
            let added = entry_point
                .addresses
                .iter()
                .filter(|address| address.port() != 0 && !known(address));
            for address in added.filter(|address| !active.layout.has_bound(**address)) {
                listener::try_address(*address).map_err(|error| occupied(entry_point, *address, &error))?;
            }
        }
        let changes = active
            .kernel
            .set_binds(&binds)
            .map_err(|error| error.to_string())?;
        Ok(Some(changes))
    }

    /// The node stops, and nobody follows: new connections are refused from now on.
    pub fn revoke(&self) {
        if let State::Active(active) = &mut *self.state() {
            active.renewing = None;
            if let Err(error) = active.kernel.revoke() {
                tracing::warn!(%error, "the grant can't be revoked; it ends by itself");
            }
            active.term.deadline = BootTime::from_nanos(0);
        }
    }

    /// Takes the program out of force and removes all that is pinned. Does nothing the second time.
    pub fn detach(&self) {
        let ended = std::mem::replace(&mut *self.state(), State::Ended);
        if let State::Active(active) = ended {
            clear(&active.lock);
        }
    }

    /// A successor has taken over: what is pinned is its own from now on.
    pub fn leave(&self) {
        *self.state() = State::Ended;
    }

    /// The lock, to be passed on to a successor.
    pub fn lock(&self) -> std::io::Result<Option<OwnedFd>> {
        match &*self.state() {
            State::Active(active) => active.lock.as_fd().try_clone_to_owned().map(Some),
            _ => Ok(None),
        }
    }

    /// Steering as it is now.
    pub fn report(&self) -> Report {
        let mut report = Report {
            mode: self.0.mode.as_str(),
            state: "ended",
            reason: None,
            stand_in: None,
            errno: None,
            missing: Vec::new(),
            lease: None,
        };
        match &*self.state() {
            State::Prepared(..) => report.state = "waiting",
            State::Active(active) => {
                report.state = "active";
                report.lease = Some(active.report());
            }
            State::Ordinary(reason, _) => {
                report.state = reason.state();
                report.reason = Some(reason.to_string());
                report.stand_in = Some(WHAT_STANDS_IN);
                match reason {
                    Reason::Unavailable(Availability::Unsupported { errno, .. }) => report.errno = *errno,
                    Reason::Unavailable(Availability::Denied { missing }) => {
                        report.missing = missing.iter().map(ToString::to_string).collect();
                    }
                    _ => {}
                }
            }
            State::Ended => {}
        }
        report
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Steering").field(&self.report()).finish()
    }
}

impl Active {
    /// Renews the lease, or takes it anew where it was lost.
    fn renew(&mut self) {
        let mut lease = self.lease.clone();
        let renewal = lease.renew(BootTime::now());
        let term = renewal.term();
        match self.kernel.grant(term.epoch, term.deadline) {
            Ok(()) => {}
            Err(error @ Error::StaleEpoch { .. }) => {
                tracing::info!(%error, "another process holds the lease: this one renews it no more");
                self.renewing = None;
                return;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "the lease can't be renewed; new connections are refused once it has ended");
                }
                return;
            }
        }
        self.lease = lease;
        self.term = term;
        self.renewals += 1;
        self.failing = false;
        if let Renewal::Anew { gap, .. } = renewal {
            self.losses += 1;
            tracing::warn!(
                epoch = term.epoch,
                ?gap,
                "the lease had ended before it was renewed (the process was stopped, or the machine slept or was too \
                 busy): new connections were refused meanwhile. It is granted anew"
            );
        }
    }

    fn report(&self) -> LeaseReport {
        let verdicts = self.kernel.stats().unwrap_or_else(|error| {
            tracing::debug!(%error, "the counters of steering can't be read");
            Vec::new()
        });
        LeaseReport {
            epoch: self.term.epoch,
            remaining: self.term.deadline.remaining(BootTime::now()).unwrap_or_default(),
            renewals: self.renewals,
            losses: self.losses,
            steered: self.kernel.steered(),
            verdicts,
        }
    }
}

/// Renews the lease of `shared` on a thread of its own, until the sender is dropped.
fn renew_by_itself(shared: &Arc<Shared>, every: Duration) -> std::io::Result<mpsc::Sender<()>> {
    let (sender, stop) = mpsc::channel();
    let shared: Weak<Shared> = Arc::downgrade(shared);
    let renew = move || {
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(every) {
            let Some(shared) = shared.upgrade() else { return };
            let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let State::Active(active) = &mut *state
                && active.renewing.is_some()
            {
                active.renew();
            }
        }
    };
    std::thread::Builder::new()
        .name("lease".to_owned())
        .spawn(renew)?;
    Ok(sender)
}

/// The sockets as the layout sees them, in the same order.
fn listeners(config: &Config, sockets: &[(Arc<str>, OwnedFd)]) -> std::io::Result<Vec<Listener>> {
    let protocol = |name: &str| {
        let mut entry_points = config.entry_points.iter();
        let found = entry_points.find(|entry_point| *entry_point.name == *name);
        found.map(|entry_point| entry_point.protocol).unwrap_or_default()
    };
    let listener = |(name, socket): &(Arc<str>, OwnedFd)| {
        let socket = socket2::SockRef::from(socket);
        let address = socket.local_addr()?.as_socket();
        let address = address.ok_or_else(|| std::io::Error::other("a listening socket has no IP address"))?;
        Ok(Listener {
            entry_point: name.clone(),
            protocol: protocol(name),
            address,
            only_v6: address.is_ipv6() && socket.only_v6()?,
        })
    };
    sockets.iter().map(listener).collect()
}

fn occupied(entry_point: &EntryPoint, address: SocketAddr, error: &std::io::Error) -> String {
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => format!("it is held by {}", port_owner::tcp(address)),
        std::io::ErrorKind::AddrNotAvailable => {
            "this host has no such address; as a network of one (IP/32:PORT) it need not be there".to_owned()
        }
        _ => "a restart would fail".to_owned(),
    };
    format!("{}: {address}: {error}; {hint}", entry_point.address_key())
}

/// Takes everything out of force.
fn clear(lock: &Lock) {
    match kernel::detach(lock) {
        Ok(()) => tracing::info!("steering: detached, and what was pinned is removed"),
        Err(error) => tracing::error!(
            %error,
            "what is pinned can't be removed, and refuses clients of its addresses; run `constellation ebpf detach` as root"
        ),
    }
}
