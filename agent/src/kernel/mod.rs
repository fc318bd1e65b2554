//! What this node owns in the kernel: the lock of its network namespace, for all eBPF programs together.
//!
//! Programs are used one by one, as the configuration asks for them ([`crate::steering`], [`crate::guard`]); the lock is
//! taken once, by whichever asks first, and inherited from the process before this one where that handed it over. Who does
//! not use its program has what an earlier process left of it cleared away, and of nothing else. Once everything is in force,
//! [`Kernel::settle`] removes what is of no use to anybody, or gives the lock up where nothing is used.

mod ports;
mod reason;
mod standing;

use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use constellation_ebpf_loader::{
    Availability, Error, Feature, Lock, Namespace, missing_capabilities, remove_orphans,
    remove_other_versions,
};

pub use self::ports::ports;
pub use self::reason::Reason;
pub use self::standing::Standing;

/// The handle. Clones share the lock.
#[derive(Clone)]
pub struct Kernel(Arc<Mutex<Ownership>>);

enum Ownership {
    /// Nobody has asked yet. With the lock, unseen, that the process before this one or the service manager has passed on.
    Unclaimed(Option<OwnedFd>),
    /// This process may change what is pinned.
    Owned(Lock),
    /// A successor has it.
    Left,
}

impl Kernel {
    /// Takes nothing yet. `handed`: the lock that the process before this one, or the service manager, has passed on.
    pub fn new(handed: Option<OwnedFd>) -> Self {
        Self(Arc::new(Mutex::new(Ownership::Unclaimed(handed))))
    }

    /// The lock, for whoever is to use a program.
    ///
    /// # Errors
    /// When this process may not, another node has it, or there is no place for pins.
    pub fn claim(&self) -> Result<Lock, Reason> {
        let missing = missing_capabilities();
        if !missing.is_empty() {
            return Err(Reason::Unavailable(Availability::Denied { missing }));
        }
        let mut state = self.state();
        match Namespace::current().and_then(|namespace| state.lock(&namespace)) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(Reason::Busy("a successor has taken over".to_owned())),
            Err(error) => Err(Reason::of(error)),
        }
    }

    /// Takes a program out of force and removes what is pinned of it, whoever put it there; nothing where another node
    /// has the lock. What it belongs to would refuse clients otherwise, with nobody to change its mind.
    pub fn clear(&self, feature: Feature) {
        let cleared = Namespace::find().and_then(|namespace| {
            let Some(namespace) = namespace else {
                return Ok(false);
            };
            if !feature.has_pins(&namespace)? {
                return Ok(false);
            }
            match self.state().lock(&namespace) {
                Ok(Some(lock)) => feature.detach(&lock),
                Ok(None) | Err(Error::Busy(_)) => Ok(false),
                Err(error) => Err(error),
            }
        });
        match cleared {
            Ok(false) => {}
            Ok(true) => tracing::info!("{}: detached, and what was pinned is removed", feature.name()),
            Err(error) => tracing::error!(
                %error,
                "what is pinned of {} can't be removed, and stays in force; run `constellation ebpf detach` as root",
                feature.name()
            ),
        }
    }

    /// Everything that is used is in force: clears away what is of no use to anybody, or gives the lock up where nothing
    /// is `in_use`.
    pub fn settle(&self, in_use: bool) {
        let mut state = self.state();
        match &*state {
            Ownership::Owned(lock) if in_use => {
                let lock = lock.clone();
                // Without the state: it is asked for meanwhile.
                drop(state);
                tidy(&lock);
            }
            Ownership::Owned(_) | Ownership::Unclaimed(_) => *state = Ownership::Unclaimed(None),
            Ownership::Left => {}
        }
    }

    /// The lock, to be passed on to a successor; nothing where it is not held.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn descriptor(&self) -> std::io::Result<Option<OwnedFd>> {
        match &*self.state() {
            Ownership::Owned(lock) => lock.as_fd().try_clone_to_owned().map(Some),
            _ => Ok(None),
        }
    }

    /// A successor has taken over: what is pinned is its own from now on.
    pub fn leave(&self) {
        *self.state() = Ownership::Left;
    }

    fn state(&self) -> MutexGuard<'_, Ownership> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ownership {
    /// The lock, taken or inherited now if it was not before; nothing when a successor has it.
    fn lock(&mut self, namespace: &Namespace) -> Result<Option<Lock>, Error> {
        match self {
            Self::Owned(lock) => Ok(Some(lock.clone())),
            Self::Left => Ok(None),
            Self::Unclaimed(handed) => {
                let inherited = handed.take().map(|handed| Lock::inherit(namespace, handed));
                let lock = match inherited {
                    Some(Ok(lock)) => lock,
                    Some(Err(error)) => {
                        tracing::warn!(%error, "taking the lock anew");
                        Lock::take(namespace)?
                    }
                    None => Lock::take(namespace)?,
                };
                *self = Self::Owned(lock.clone());
                Ok(Some(lock))
            }
        }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*self.state() {
            Ownership::Unclaimed(_) => "unclaimed",
            Ownership::Owned(_) => "owned",
            Ownership::Left => "left",
        };
        write!(f, "Kernel({state})")
    }
}

/// Removes pins of other versions, and of network namespaces that are gone. What stays does no harm.
fn tidy(lock: &Lock) {
    if let Err(error) = remove_other_versions(lock) {
        tracing::warn!(%error, "what another version has pinned can't be removed");
    }
    match remove_orphans(lock.namespace()) {
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
