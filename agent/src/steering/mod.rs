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
mod authority;
mod layout;
mod lease;
mod leased;
mod local;
mod metrics;
mod prepare;
mod record;
mod report;
mod silence;
mod stand_in;

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use constellation_cluster::lease::Held;
use constellation_config::{Config, EntryPoint, Lease, SteeringMode};
use constellation_dataplane::tenure::Tenure;
use constellation_ebpf_loader as loader;
use constellation_ebpf_loader::steering::Changes;
use constellation_ebpf_loader::{BootTime, Feature};

use self::active::{Active, Added, Granting};
pub use self::authority::{Authority, GrantError};
use self::lease::LocalLease;
use self::local::Local;
pub use self::metrics::register;
pub use self::prepare::prepare;
use self::prepare::required_by;
use self::record::Record;
pub use self::report::{LeaseReport, Report};
use self::stand_in::StandIn;
use crate::cli::Failure;
use crate::kernel::{Kernel, Standing};

/// What stands in where steering is not active.
const WHAT_STANDS_IN: &str =
    "the addresses are bound in the ordinary way: a node that hangs keeps them until it is stopped";
/// The same, under a cluster's lease.
const UNDER_LEASE: &str = "connections are accepted, and reset when this node is not the holder";
/// What it is called where it can't be had.
const WHAT: &str = "steering";

/// The handle. Clones share one state.
#[derive(Clone)]
pub struct Steering(Arc<Shared>);

struct Shared {
    kernel: Kernel,
    mode: SteeringMode,
    lease: Lease,
    /// The data plane's, for where the kernel does not steer.
    tenure: Tenure,
    authority: Mutex<Authority>,
    state: Mutex<State>,
}

enum State {
    /// It works here; whoever serves until now still does.
    Prepared(Box<loader::Steering>),
    /// The program is in force, and the lease is renewed.
    Active(Box<Active>),
    /// It is not used.
    Ordinary(Box<StandIn>),
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
            State::Prepared(steering) => {
                match Active::begin(&self.0, self.authority(), *steering, config, sockets) {
                    Ok(active) => *state = State::Active(Box::new(active)),
                    Err(reason) => {
                        self.0.kernel.clear(Feature::Steering);
                        required_by(config).map_or(Ok(()), |who| Err(reason.refusal(&who, WHAT)))?;
                        tracing::warn!(%reason, "steering can't be used: {WHAT_STANDS_IN}");
                        let stand_in = StandIn::new(reason, self.authority(), self.0.tenure.clone());
                        *state = State::Ordinary(Box::new(stand_in));
                    }
                }
            }
            State::Ordinary(stand_in) => {
                self.0.kernel.clear(Feature::Steering);
                *state = State::Ordinary(stand_in);
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

    /// This node is the holder until the lease's deadline: it answers. To be called at every renewal; the kernel ends it at
    /// the deadline whether or not anybody is awake.
    ///
    /// # Errors
    /// When the lease is over or older than one that was used here, or this process does not serve; then nothing changes.
    pub fn grant(&self, held: Held) -> Result<(), GrantError> {
        match &mut *self.state() {
            State::Active(active) => active.grant(held),
            State::Ordinary(stand_in) => stand_in.grant(held),
            State::Prepared(_) | State::Ended => Err(GrantError::NotServing),
        }
    }

    /// New connections are refused from now on. To be called before the lease is let go of.
    ///
    /// # Errors
    /// When the kernel refuses. Then the grant ends at its deadline, and the lease is not to be let go of before.
    pub fn withdraw(&self) -> Result<(), GrantError> {
        match &mut *self.state() {
            State::Active(active) => active.withdraw(),
            State::Ordinary(stand_in) => stand_in.withdraw(),
            // Nothing is granted here.
            State::Prepared(_) | State::Ended => Ok(()),
        }
    }

    /// As [`Self::withdraw`], but until this time new clients are left without an answer rather than refused: their kernels
    /// ask again, and by then the network may lead them to the next holder. Where the kernel does not steer they are
    /// reset.
    ///
    /// # Errors
    /// As those of [`Self::withdraw`].
    pub fn fall_silent(&self, until: BootTime) -> Result<(), GrantError> {
        match &mut *self.state() {
            State::Active(active) => active.fall_silent(until),
            State::Ordinary(stand_in) => stand_in.withdraw(),
            State::Prepared(_) | State::Ended => Ok(()),
        }
    }

    /// The listeners get connections until this time though this node is not the holder: to pass them on to who is. Whoever
    /// serves them has to know that before.
    ///
    /// # Errors
    /// While this node is the holder, whose time would be made longer; when the kernel refuses.
    pub fn stand_by(&self, until: BootTime) -> Result<(), GrantError> {
        match &mut *self.state() {
            State::Active(active) => active.stand_by(until),
            State::Ordinary(stand_in) => stand_in.stand_by(until),
            State::Prepared(_) | State::Ended => Err(GrantError::NotServing),
        }
    }

    /// Somebody else decides from now on whether this node may answer: it has joined a cluster, or left it. What was granted
    /// until now ends. Whoever acted under the lease before has ended.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_authority(&self, authority: Authority) -> Result<(), GrantError> {
        let mut state = self.state();
        *self.0.authority.lock().unwrap_or_else(PoisonError::into_inner) = authority;
        match &mut *state {
            State::Active(active) => {
                active.end_silence()?;
                // Ends the renewals, too.
                active.granting = Granting::Lease(None);
                active.kernel.act_for(authority.issuer())?;
                active.record = Record::default();
                if authority == Authority::Local {
                    let epoch = active.kernel.granted()?.epoch;
                    let mut lease = LocalLease::after(epoch, self.0.lease.ttl);
                    let now = BootTime::now();
                    let term = lease.renew(now).term();
                    active.kernel.grant(term.epoch, term.deadline)?;
                    active.record.granted(term.epoch, term.deadline, now);
                    let local = Local::begin(&self.0, lease).map_err(GrantError::Thread)?;
                    active.granting = Granting::Local(local);
                }
            }
            State::Ordinary(stand_in) => stand_in.set_authority(authority),
            State::Prepared(_) | State::Ended => {}
        }
        Ok(())
    }

    /// The data plane's end of accepting, for where the kernel does not steer.
    pub fn tenure(&self) -> &Tenure {
        &self.0.tenure
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

    /// This process takes over from one that runs, and nobody has told it yet who answers. Where the kernel does not steer,
    /// whoever comes until then is accepted nevertheless, to wait for that. Where it does, what it was told goes on.
    pub fn bridge(&self, until: BootTime) {
        if let State::Ordinary(stand_in) = &mut *self.state() {
            stand_in.bridge(until);
        }
    }

    /// Whether the kernel gives this node connections as the holder's, by what was granted here last.
    pub fn holds(&self) -> bool {
        matches!(&*self.state(), State::Active(active) if active.record.holds(BootTime::now()))
    }

    /// Whether the program is in force.
    pub fn is_active(&self) -> bool {
        matches!(&*self.state(), State::Active(_))
    }

    /// Steering as it is now.
    pub fn report(&self) -> Report {
        let mut report = Report {
            mode: self.0.mode.as_str(),
            authority: self.authority().as_str(),
            standing: Standing::ENDED,
            lease: None,
        };
        match &*self.state() {
            State::Prepared(_) => report.standing = Standing::WAITING,
            State::Active(active) => {
                report.standing = Standing::ACTIVE;
                report.lease = Some(active.report());
            }
            State::Ordinary(stand_in) => {
                let stands_in = match self.authority() {
                    Authority::Local => WHAT_STANDS_IN,
                    Authority::Lease(_) => UNDER_LEASE,
                };
                report.standing = Standing::without(&stand_in.reason, Some(stands_in));
                report.lease = stand_in.report();
            }
            State::Ended => {}
        }
        report
    }

    /// Who decides that this node may answer.
    pub fn authority(&self) -> Authority {
        *self.0.authority.lock().unwrap_or_else(PoisonError::into_inner)
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
