//! The clock that deadlines are written in, those of leases and those in the kernel's maps: `CLOCK_BOOTTIME`, which never
//! goes back and goes on while the machine is suspended. (`std::time::Instant` is `CLOCK_MONOTONIC` on Linux, which stands
//! still then.)

use std::ops::Add;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A point in time in nanoseconds since boot; the same figure as in the kernel's maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(u64);

impl BootTime {
    /// Now, as the eBPF programs see it.
    #[must_use]
    pub fn now() -> Self {
        // Can only fail for a clock that the kernel does not know; this one is older than every BPF program type.
        // The time of boot is the safe answer then: every deadline counts as far away, and the kernel judges anyway.
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Self(0), |now| Self::from_nanos(nanos(now.into())))
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
        Self(self.0.saturating_add(nanos(duration)))
    }
}

/// The end of time, 584 years after boot, is as good as any later time.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::BootTime;

    #[test]
    fn sums_saturate_and_what_has_passed_has_nothing_left() {
        let start = BootTime::from_nanos(10);
        assert_eq!(start + Duration::MAX, BootTime::from_nanos(u64::MAX));
        let later = start + Duration::from_nanos(5);
        assert_eq!(later.remaining(start), Some(Duration::from_nanos(5)));
        assert_eq!(start.remaining(start), None);
        assert_eq!(start.remaining(later), None);
    }
}
