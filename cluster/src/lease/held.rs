//! The proof that a lease is held, which everything that acts under one asks for.

use std::time::Duration;

use super::{BootTime, Token};

/// A lease that was held a moment ago, with what an actuator needs to check that it is held still.
///
/// Only [`super::Holder`] makes one, so code without a lease has nothing to call an actuator with:
///
/// ```compile_fail
/// use constellation_cluster::lease::{BootTime, Held};
///
/// let forged = Held { token: 1, deadline: BootTime::now() };
/// ```
///
/// It is not kept. Between making and using it the process may have been stopped for a minute, so what can compare the
/// token and the deadline at the moment of acting does (the kernel's maps), and what can't bounds its requests by
/// [`Held::remaining`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "without being given to what acts it says nothing"]
pub struct Held {
    token: Token,
    deadline: BootTime,
}

impl Held {
    pub(super) fn new(token: Token, deadline: BootTime) -> Self {
        Self { token, deadline }
    }

    /// Grows from grant to grant. What has seen a greater one refuses this.
    #[must_use]
    pub fn token(self) -> Token {
        self.token
    }

    /// At this time and after it nothing may be done under it.
    #[must_use]
    pub fn deadline(self) -> BootTime {
        self.deadline
    }

    /// How long that is from `now`; nothing once it is over.
    #[must_use]
    pub fn remaining(self, now: BootTime) -> Option<Duration> {
        self.deadline.remaining(now)
    }
}
