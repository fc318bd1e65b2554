//! What is in force: the listeners and addresses in the maps, and the lease that a thread renews.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use constellation_config::{Config, EntryPoint, Protocol};
use constellation_dataplane::{listener, port_owner};
use constellation_ebpf_loader as loader;
use constellation_ebpf_loader::steering::{Bind, Changes};
use constellation_ebpf_loader::{Availability, BootTime, Error, Origin};

use super::layout::{Layout, LayoutError, Listener};
use super::lease::{LocalLease, Renewal, Term};
use super::report::LeaseReport;
use super::{Shared, State};
use crate::kernel::Reason;

/// What is in force.
pub(super) struct Active {
    kernel: loader::Steering,
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

impl Active {
    /// Puts these sockets and the addresses of the configuration into force, takes the lease, and has it renewed.
    pub(super) fn begin(
        shared: &Arc<Shared>,
        mut steering: loader::Steering,
        config: &Config,
        sockets: &[(Arc<str>, OwnedFd)],
    ) -> Result<Self, Reason> {
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
            let mut lease = LocalLease::after(epoch, shared.lease.ttl);
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
            Ok((lease, term))
        };
        let (lease, term) = put().map_err(Reason::of)?;
        let renewing = renew_by_itself(shared, shared.lease.renew).map_err(|error| {
            in_words(format!(
                "the thread that renews the lease can't be started: {error}"
            ))
        })?;
        Ok(Self {
            kernel: steering,
            layout,
            lease,
            term,
            renewals: 1,
            losses: 0,
            failing: false,
            renewing: Some(renewing),
        })
    }

    /// What to steer for these entry points, and the addresses that are new and that nobody else may have. `running` are
    /// the entry points of before.
    pub(super) fn plan(
        &self,
        running: &[EntryPoint],
        entry_points: &[EntryPoint],
    ) -> Result<(Vec<Bind>, Vec<Added>), LayoutError> {
        let binds = self.layout.binds(entry_points)?;
        let known: HashSet<&SocketAddr> = running.iter().flat_map(|before| &before.addresses).collect();
        let of_tcp = entry_points.iter().filter(|now| now.protocol == Protocol::Tcp);
        let all = of_tcp.flat_map(|now| now.addresses.iter().map(move |address| (now, address)));
        let added = all.filter(|(_, address)| {
            address.port() != 0 && !known.contains(address) && !self.layout.has_bound(**address)
        });
        let added = added.map(|(now, address)| Added {
            key: now.address_key(),
            address: *address,
        });
        Ok((binds, added.collect()))
    }

    pub(super) fn set_binds(&mut self, binds: &[Bind]) -> Result<Changes, Error> {
        self.kernel.set_binds(binds)
    }

    /// New connections are refused from now on, and the lease is renewed no more.
    pub(super) fn revoke(&mut self) {
        self.renewing = None;
        if let Err(error) = self.kernel.revoke() {
            tracing::warn!(%error, "the grant can't be revoked; it ends by itself");
        }
        self.term.deadline = BootTime::from_nanos(0);
    }

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

    pub(super) fn report(&self) -> LeaseReport {
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

/// An address that is new.
pub(super) struct Added {
    key: String,
    address: SocketAddr,
}

impl Added {
    /// Whether a start would get it; why not, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self { key, address } = self;
        let Err(error) = listener::try_address(*address) else {
            return Ok(());
        };
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => format!("it is held by {}", port_owner::tcp(*address)),
            std::io::ErrorKind::AddrNotAvailable => {
                "this host has no such address; as a network of one (IP/32:PORT) it need not be there"
                    .to_owned()
            }
            _ => "a restart would fail".to_owned(),
        };
        Err(format!("{key}: {address}: {error}; {hint}"))
    }
}
