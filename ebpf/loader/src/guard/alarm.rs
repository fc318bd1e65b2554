//! Whether there is an attack, by how much is dropped: raised at once, and cleared only after a while of calm, so that
//! the guard does not move to and fro with every wave.

use std::time::Duration;

use crate::BootTime;

/// The state of the alarm. Feed it with [`Self::observe`], and hand what it says to
/// [`Guard::set_under_attack`](super::Guard::set_under_attack).
#[derive(Clone, Debug)]
pub struct Alarm {
    thresholds: Thresholds,
    /// When it was last raised or the rate was last too high for calm.
    excited_at: Option<BootTime>,
    /// The last observation.
    last: Option<(BootTime, u64)>,
}

/// When the alarm changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Drops a second that raise it.
    pub raise: u64,
    /// Drops a second below which it is calm. Lower than `raise`.
    pub calm: u64,
    /// How long it has to be calm before the alarm is cleared.
    pub patience: Duration,
}

impl Default for Thresholds {
    /// A dropped packet costs 0.16 µs more at TCX than at XDP (1.53 and 2.02 million a second, `docs/benchmarks.md`), which
    /// is 1 % of a CPU at this rate; below it, the offloads that some drivers give up for XDP are worth more.
    fn default() -> Self {
        Self {
            raise: 50_000,
            calm: 5_000,
            patience: Duration::from_secs(60),
        }
    }
}

impl Alarm {
    /// Calm.
    #[must_use]
    pub const fn new(thresholds: Thresholds) -> Self {
        Self {
            thresholds,
            excited_at: None,
            last: None,
        }
    }

    /// Raised at `now`, as an earlier process has left it: calm has to be seen before it is cleared.
    #[must_use]
    pub const fn raised(thresholds: Thresholds, now: BootTime) -> Self {
        Self {
            thresholds,
            excited_at: Some(now),
            last: None,
        }
    }

    /// Goes by other thresholds from now on.
    pub const fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    /// Whether there is an attack, as last seen.
    #[must_use]
    pub const fn is_raised(&self) -> bool {
        self.excited_at.is_some()
    }

    /// Takes the counter of drops (which only goes up) at `now`, and says whether there is an attack.
    pub fn observe(&mut self, dropped: u64, now: BootTime) -> bool {
        let Some((before, earlier)) = self.last else {
            self.last = Some((now, dropped));
            return self.is_raised();
        };
        let Some(elapsed) = now.remaining(before) else {
            return self.is_raised();
        };
        self.last = Some((now, dropped));
        let rate = per_second(dropped.saturating_sub(earlier), elapsed);
        let threshold = if self.excited_at.is_some() {
            self.thresholds.calm
        } else {
            self.thresholds.raise
        };
        if rate >= threshold {
            self.excited_at = Some(now);
        } else if self
            .excited_at
            .is_some_and(|since| now >= since + self.thresholds.patience)
        {
            self.excited_at = None;
        }
        self.is_raised()
    }
}

fn per_second(count: u64, elapsed: Duration) -> u64 {
    let rate = u128::from(count) * 1_000_000_000 / elapsed.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Alarm, Thresholds};
    use crate::BootTime;

    #[test]
    fn raised_at_once_and_cleared_after_calm() {
        let thresholds = Thresholds {
            raise: 1000,
            calm: 100,
            patience: Duration::from_secs(3),
        };
        let mut alarm = Alarm::new(thresholds);
        let mut dropped = 5_000_000;
        // Drops in each second, and whether there is an attack after it. The first one is only a start.
        let seconds = [
            (0, false),
            (999, false),
            (1000, true),
            // Waves: neither loud enough to raise it nor calm.
            (500, true),
            (99, true),
            (100, true),
            (0, true),
            (0, true),
            (0, false),
            (500, false),
            (2000, true),
        ];
        for (second, (drops, expected)) in (100..).zip(seconds) {
            dropped += drops;
            let now = BootTime::from_nanos(second * 1_000_000_000);
            assert_eq!(alarm.observe(dropped, now), expected, "second {second}");
            assert_eq!(alarm.observe(dropped, now), expected, "no time has passed");
        }
    }

    #[test]
    fn who_takes_over_during_an_attack_waits_for_calm() {
        let patience = Duration::from_secs(3);
        let thresholds = Thresholds {
            patience,
            ..Thresholds::default()
        };
        let start = BootTime::from_nanos(7_000_000_000);
        let mut alarm = Alarm::raised(thresholds, start);
        assert!(alarm.observe(9, start), "nothing was seen yet");
        assert!(alarm.observe(9, start + Duration::from_secs(2)));
        assert!(!alarm.observe(9, start + patience));
    }

    #[test]
    fn a_counter_that_begins_anew_is_no_attack() {
        let mut alarm = Alarm::new(Thresholds::default());
        assert!(!alarm.observe(u64::MAX, BootTime::from_nanos(1)));
        assert!(!alarm.observe(0, BootTime::from_nanos(2)));
    }
}
