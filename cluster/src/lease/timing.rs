//! The two figures of a lease, checked against each other once.

use std::time::Duration;

use thiserror::Error;

use super::{MAX_TTL, MIN_TTL};

/// How long a lease lasts, and how much earlier its holder stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    ttl: Duration,
    margin: Duration,
}

/// Why two figures are no timing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TimingError {
    /// Out of range.
    #[error("a lease of {ttl:?}: expected {MIN_TTL:?} to {MAX_TTL:?} in whole milliseconds")]
    Ttl {
        /// As given.
        ttl: Duration,
    },
    /// Too small to cover clocks of different rates, or so large that renewals come too late.
    #[error("a margin of {margin:?} for a lease of {ttl:?}: expected a tenth to a half of it")]
    Margin {
        /// As given.
        margin: Duration,
        /// As given.
        ttl: Duration,
    },
}

impl Timing {
    /// A lease of `ttl` whose holder stops `margin` earlier.
    ///
    /// The margin is for clocks of different rates: with a tenth, the holder's may be 10 % slower than the leader's. It is
    /// not for pauses; those are for what checks token and deadline.
    ///
    /// # Errors
    /// If one is out of range.
    pub fn new(ttl: Duration, margin: Duration) -> Result<Self, TimingError> {
        if ttl < MIN_TTL || ttl > MAX_TTL || !ttl.subsec_nanos().is_multiple_of(1_000_000) {
            return Err(TimingError::Ttl { ttl });
        }
        if margin < ttl / 10 || margin > ttl / 2 {
            return Err(TimingError::Margin { margin, ttl });
        }
        Ok(Self { ttl, margin })
    }

    /// How long the leader waits after a renewal.
    #[must_use]
    pub fn ttl(self) -> Duration {
        self.ttl
    }

    /// How long the holder acts after it sent one.
    #[must_use]
    pub fn held_for(self) -> Duration {
        self.ttl - self.margin
    }

    /// How often the holder renews: a fifth of the whole, so that three may be lost. It bounds also how much is left of a lease
    /// when the log loses its leader, and that has to be more than an election takes.
    #[must_use]
    pub fn renew_every(self) -> Duration {
        self.ttl / 5
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Timing, TimingError};

    #[test]
    fn a_margin_is_a_tenth_to_a_half_of_a_lease_of_sane_length() {
        let ms = Duration::from_millis;
        let timing = Timing::new(ms(1000), ms(150)).unwrap();
        assert_eq!((timing.held_for(), timing.renew_every()), (ms(850), ms(200)));
        for (ttl, margin) in [(1000, 99), (1000, 501)] {
            assert!(
                matches!(Timing::new(ms(ttl), ms(margin)), Err(TimingError::Margin { .. })),
                "{ttl} {margin}"
            );
        }
        for ttl in [
            ms(0),
            ms(99),
            Duration::from_secs(3601),
            Duration::from_micros(500_500),
        ] {
            assert!(
                matches!(Timing::new(ttl, ttl / 5), Err(TimingError::Ttl { .. })),
                "{ttl:?}"
            );
        }
    }
}
