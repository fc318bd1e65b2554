//! Steering: the kernel gives new connections to this node's listeners for as long as its lease lasts.
//!
//! [`prepare`] finds out whether that works here and takes the lock of the network namespace; nothing changes for clients
//! yet. [`Steering::engage`] puts the listeners and addresses into the maps, takes the lease, and puts the program into
//! force, or clears away what an earlier process left where steering is not to be. From then on a thread of its own
//! renews the lease ([`lease`] decides, [`active`] writes): it shares nothing with the control runtime, so that a busy one does
//! not cost the node its addresses. Which addresses lead to which listeners is [`layout`]'s decision.
//!
//! The addresses are bound in the ordinary way in any case, by the data plane, which knows nothing of all this: conflicts
//! show at start, and without steering the same sockets serve.

mod active;
mod layout;
mod lease;
mod metrics;
mod prepare;
mod report;
mod stand_in;

use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use constellation_config::{Config, EntryPoint, Lease, SteeringMode};
use constellation_ebpf_loader as kernel;
use constellation_ebpf_loader::steering::Changes;
use constellation_ebpf_loader::{Availability, Lock};

use self::active::{Active, Added};
pub use self::metrics::register;
pub use self::prepare::prepare;
use self::prepare::required_by;
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

impl Steering {
    /// Puts the listeners to use: from now on this process holds the lease. Where steering is not used, clears away what an
    /// earlier process left. To be called once nobody else serves.
    ///
    /// # Errors
    /// When the configuration needs steering and the kernel refuses.
    pub fn engage(&self, config: &Config, sockets: &[(Arc<str>, OwnedFd)]) -> Result<(), Failure> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Ended) {
            State::Prepared(steering, lock) => {
                match Active::begin(&self.0, *steering, &lock, config, sockets) {
                    Ok(active) => {
                        *state = State::Active(Box::new(active));
                        // Without the state, since the lease is renewed meanwhile.
                        drop(state);
                        tidy(&lock);
                    }
                    Err(reason) => {
                        clear(&lock);
                        required_by(config).map_or(Ok(()), |who| Err(reason.refusal(&who)))?;
                        tracing::warn!(%reason, "steering can't be used: {WHAT_STANDS_IN}");
                        *state = State::Ordinary(reason, None);
                    }
                }
            }
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
        let (binds, added) = match &*self.state() {
            State::Active(active) => active
                .plan(running, entry_points)
                .map_err(|error| error.to_string())?,
            _ => return Ok(None),
        };
        // Without the state, since the lease is renewed meanwhile.
        added.iter().try_for_each(Added::check)?;
        match &mut *self.state() {
            State::Active(active) => active
                .set_binds(&binds)
                .map(Some)
                .map_err(|error| error.to_string()),
            _ => Ok(None),
        }
    }

    /// The node stops, and nobody follows: new connections are refused from now on.
    pub fn revoke(&self) {
        if let State::Active(active) = &mut *self.state() {
            active.revoke();
        }
    }

    /// Takes the program out of force and removes all that is pinned. Does nothing the second time.
    pub fn detach(&self) {
        let ended = std::mem::replace(&mut *self.state(), State::Ended);
        if let State::Active(active) = ended {
            clear(active.lock());
        }
    }

    /// A successor has taken over: what is pinned is its own from now on.
    pub fn leave(&self) {
        *self.state() = State::Ended;
    }

    /// The lock, to be passed on to a successor.
    pub fn lock(&self) -> std::io::Result<Option<OwnedFd>> {
        match &*self.state() {
            State::Active(active) => active.lock().as_fd().try_clone_to_owned().map(Some),
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

/// Removes what is of no use to anybody: pins of other versions, and of network namespaces that are gone. What stays does
/// no harm.
fn tidy(lock: &Lock) {
    if let Err(error) = kernel::remove_other_versions(lock) {
        tracing::warn!(%error, "what another version has pinned can't be removed");
    }
    match kernel::remove_orphans(lock.namespace()) {
        Ok(0) => {}
        Ok(count) => tracing::info!(
            count,
            "removed what nodes in network namespaces that are gone had pinned"
        ),
        Err(error) => {
            tracing::warn!(%error, "what is left of network namespaces that are gone can't be removed")
        }
    }
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
