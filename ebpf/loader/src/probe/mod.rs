//! What of this works here, found out by really doing it: loading, attaching, and one connection through it.

use crate::Lock;
use crate::capability::Capability;
use crate::{Error, kernel};

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
    /// `edge_steer`.
    pub steering: Availability,
}

/// Tries everything, beside what is attached and without touching what is pinned; leaves nothing behind.
#[must_use]
pub fn probe(lock: &Lock) -> Report {
    Report {
        steering: Availability::of(steering::probe(lock)),
    }
}

impl Availability {
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
