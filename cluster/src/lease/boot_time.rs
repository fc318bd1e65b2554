//! The clock that a holder's deadline is written in: the kernel's `CLOCK_BOOTTIME`, which never goes back and goes on
//! while the machine is suspended. (`std::time::Instant` is `CLOCK_MONOTONIC` on Linux, which stands still then.)

use std::ops::Add;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point in time in nanoseconds since boot; the same figure as in the kernel's maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(u64);

impl BootTime {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    /// From nanoseconds since boot.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since boot.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long until then from `now`; nothing once it has passed.
    #[must_use]
    pub const fn remaining(self, now: Self) -> Option<Duration> {
        match self.0.checked_sub(now.0) {
            None | Some(0) => None,
            Some(nanos) => Some(Duration::from_nanos(nanos)),
        }
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        // The end of time, 584 years after boot, is as good as any later time.
        Self(
            self.0
                .saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}
