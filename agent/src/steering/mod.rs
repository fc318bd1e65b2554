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

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use constellation_config::{Config, EntryPoint, Lease, SteeringMode};
use constellation_ebpf_loader as loader;
use constellation_ebpf_loader::Feature;
use constellation_ebpf_loader::steering::Changes;

use self::active::{Active, Added};
pub use self::metrics::register;
pub use self::prepare::prepare;
use self::prepare::required_by;
pub use self::report::{LeaseReport, Report};
use crate::cli::Failure;
use crate::kernel::{Kernel, Reason, Standing};

/// What stands in where steering is not active.
const WHAT_STANDS_IN: &str =
    "the addresses are bound in the ordinary way: a node that hangs keeps them until it is stopped";
/// What it is called where it can't be had.
const WHAT: &str = "steering";

/// The handle. Clones share one state.
#[derive(Clone)]
pub struct Steering(Arc<Shared>);

struct Shared {
    kernel: Kernel,
    mode: SteeringMode,
    lease: Lease,
    state: Mutex<State>,
}

enum State {
    /// It works here; whoever serves until now still does.
    Prepared(Box<loader::Steering>),
    /// The program is in force, and the lease is renewed.
    Active(Box<Active>),
    /// It is not used.
    Ordinary(Reason),
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
            State::Prepared(steering) => match Active::begin(&self.0, *steering, config, sockets) {
                Ok(active) => *state = State::Active(Box::new(active)),
                Err(reason) => {
                    self.0.kernel.clear(Feature::Steering);
                    required_by(config).map_or(Ok(()), |who| Err(reason.refusal(&who, WHAT)))?;
                    tracing::warn!(%reason, "steering can't be used: {WHAT_STANDS_IN}");
                    *state = State::Ordinary(reason);
                }
            },
            State::Ordinary(reason) => {
                self.0.kernel.clear(Feature::Steering);
                *state = State::Ordinary(reason);
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
            drop(active);
            self.0.kernel.clear(Feature::Steering);
        }
    }

    /// A successor has taken over: what is pinned is its own from now on.
    pub fn leave(&self) {
        *self.state() = State::Ended;
    }

    /// Whether the program is in force.
    pub fn is_active(&self) -> bool {
        matches!(&*self.state(), State::Active(_))
    }

    /// Steering as it is now.
    pub fn report(&self) -> Report {
        let mut report = Report {
            mode: self.0.mode.as_str(),
            standing: Standing::ENDED,
            lease: None,
        };
        match &*self.state() {
            State::Prepared(_) => report.standing = Standing::WAITING,
            State::Active(active) => {
                report.standing = Standing::ACTIVE;
                report.lease = Some(active.report());
            }
            State::Ordinary(reason) => {
                report.standing = Standing::without(reason, Some(WHAT_STANDS_IN));
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
