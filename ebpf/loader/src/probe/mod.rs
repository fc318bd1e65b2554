//! What of this works here, found out by really doing it: loading, attaching, and one connection through it.

use std::io;
use std::time::Duration;

use crate::Lock;
use crate::capability::Capability;
use crate::{Error, kernel};

mod chase;
mod guard;
mod steering;

/// Whether a feature works here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It was loaded, attached and tested.
    Active,
    /// The kernel can't, or something else in it is against it.
    Unsupported {
        /// The error number, where there was one.
        errno: Option<i32>,
        /// The kernel's release.
        kernel: String,
        /// In words.
        reason: String,
    },
    /// This process may not.
    Denied {
        /// What it lacks.
        missing: Vec<Capability>,
    },
    /// The operator does not want it. [`probe`] never says so; whoever skips it does.
    Disabled,
}

/// What [`probe`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `edge_steer`. Where it is not active, listeners are bound when the lease is won and closed when it is lost.
    pub steering: Availability,
    /// `edge_guard`, attached to the loopback device at TCX. Where that is not supported, clsact stands in.
    pub guard: Availability,
    /// `edge_guard` for XDP, loaded and run on a packet. Not attached: that would interrupt a device. Whether a driver
    /// takes it shows when it is needed.
    pub guard_xdp: Availability,
    /// `edge_chase`, attached to the loopback device at TCX. Where that is not supported, clsact stands in.
    pub chase: Availability,
}

/// Tries everything, beside what is attached and without touching what is pinned; leaves nothing behind.
#[must_use]
pub fn probe(lock: &Lock) -> Report {
    Report {
        steering: Availability::of(steering::probe(lock)),
        guard: Availability::of(guard::probe(lock)),
        guard_xdp: Availability::of(guard::probe_xdp(lock)),
        chase: probe_chase(lock),
    }
}

/// Tries `edge_chase` alone.
#[must_use]
pub fn probe_chase(lock: &Lock) -> Availability {
    Availability::of(chase::probe(lock))
}

/// Tries `edge_steer` alone.
#[must_use]
pub fn probe_steering(lock: &Lock) -> Availability {
    Availability::of(steering::probe(lock))
}

/// Tries `edge_guard` alone, at the loopback device.
#[must_use]
pub fn probe_guard(lock: &Lock) -> Availability {
    Availability::of(guard::probe(lock))
}

/// Tries `edge_guard` for XDP alone: loaded, and run on a packet.
#[must_use]
pub fn probe_guard_xdp(lock: &Lock) -> Availability {
    Availability::of(guard::probe_xdp(lock))
}

impl Availability {
    /// What an error while it was set up says.
    #[must_use]
    pub fn from_error(error: Error) -> Self {
        Self::of(Err(error))
    }

    fn of(outcome: Result<(), Error>) -> Self {
        match outcome {
            Ok(()) => Self::Active,
            Err(Error::Denied { missing, .. }) => Self::Denied { missing },
            Err(error) => Self::Unsupported {
                errno: match &error {
                    Error::Kernel { errno, .. } => *errno,
                    _ => None,
                },
                kernel: kernel::release(),
                reason: error.to_string(),
            },
        }
    }
}

/// Far more than anything within the machine takes.
const PATIENCE: Duration = Duration::from_secs(2);

fn failed(what: &str, error: &io::Error) -> Error {
    Error::syscall(format!("self-test: {what}"), error)
}

fn unmet(what: &str) -> Error {
    Error::Kernel {
        what: "self-test".to_owned(),
        reason: what.to_owned(),
        errno: None,
    }
}
