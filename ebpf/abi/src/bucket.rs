//! The limit of a rate, as pure arithmetic: the virtual scheduling form of the generic cell rate algorithm (ITU-T I.371).
//!
//! A bucket is one number, the time at which it would be full again if nothing more were taken. There is nothing to
//! divide and nothing to fill up on a timer, and two processors that race for one bucket admit one packet too many at
//! worst.

/// A rate with a burst, both as times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Limit {
    /// Nanoseconds that a token takes to grow back; 0 stands for no limit.
    pub interval: u64,
    /// Nanoseconds that all tokens but one take: `(burst - 1) * interval`.
    pub tolerance: u64,
}

crate::assert_layout!(Limit, 16, interval @ 0, tolerance @ 8);

impl Limit {
    /// No limit.
    pub const NONE: Self = Self {
        interval: 0,
        tolerance: 0,
    };

    /// So many a second, and so many at once. A rate of 0 is no limit; a burst of 0 is one of 1.
    #[must_use]
    pub const fn per_second(rate: u32, burst: u32) -> Self {
        if rate == 0 {
            return Self::NONE;
        }
        // Never 0, which would be no limit: a u32 is at most 4.3 times a billion.
        let interval = match 1_000_000_000 / rate as u64 {
            0 => 1,
            interval => interval,
        };
        Self {
            interval,
            tolerance: interval * burst.saturating_sub(1) as u64,
        }
    }

    /// Takes a token at `now`: the bucket's new value, or nothing when it is empty.
    ///
    /// `full_at` is the bucket's value, 0 for one that was never used. Both are nanoseconds of one clock.
    #[must_use]
    #[inline(always)]
    pub const fn take(&self, full_at: u64, now: u64) -> Option<u64> {
        let from = if full_at > now { full_at } else { now };
        if from - now > self.tolerance {
            return None;
        }
        Some(from + self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::Limit;

    #[test]
    fn a_burst_and_then_the_rate() {
        let limit = Limit::per_second(10, 5);
        let mut full_at = 0;
        let now = 1_000_000_000;
        for _ in 0..5 {
            full_at = limit.take(full_at, now).expect("within the burst");
        }
        assert_eq!(limit.take(full_at, now), None, "the burst is over");
        assert_eq!(
            limit.take(full_at, now + 99_999_999),
            None,
            "a token takes 100 ms"
        );
        let full_at = limit
            .take(full_at, now + 100_000_000)
            .expect("one has grown back");
        assert_eq!(limit.take(full_at, now + 100_000_000), None, "only one");
    }

    #[test]
    fn an_idle_bucket_holds_no_more_than_its_burst() {
        let limit = Limit::per_second(10, 2);
        let full_at = limit.take(0, 1).expect("the first");
        let later = 3_600_000_000_000;
        let full_at = limit.take(full_at, later).expect("the first after an hour");
        let full_at = limit.take(full_at, later).expect("the second");
        assert_eq!(limit.take(full_at, later), None);
    }

    #[test]
    fn odd_rates_stay_limits() {
        assert_eq!(Limit::per_second(0, 7), Limit::NONE);
        assert_eq!(
            Limit::per_second(u32::MAX, 0),
            Limit {
                interval: 1,
                tolerance: 0
            }
        );
        assert!(Limit::per_second(1, u32::MAX).tolerance > 0, "no overflow");
    }
}
