//! A moving average of latency, kept without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is older than this weighs little.
const MEMORY: u64 = 5_000_000_000;

/// Least and most weight of one answer, in 1,024ths: an endpoint with thousands of answers a second is not ruled by
/// one of them, and an idle one follows at once but not wholly.
const WEIGHT: (u64, u64) = (4, 256);

/// Longer answers count as this long, so that nothing overflows.
const LONGEST: u64 = 3_600_000_000_000;

/// An average that decays with time. Two answers at the same moment may lose one of them; the average is a guide.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// Nanoseconds; 0 before the first answer.
    mean: AtomicU64,
    /// When the last answer came, in nanoseconds.
    at: AtomicU64,
}

impl Latency {
    /// Takes in an answer that came at `now` nanoseconds.
    pub(super) fn observe(&self, latency: Duration, now: u64) {
        let latency = u64::try_from(latency.as_nanos())
            .unwrap_or(LONGEST)
            .clamp(1, LONGEST);
        let since = now.saturating_sub(self.at.swap(now, Ordering::Relaxed));
        let mean = self.mean.load(Ordering::Relaxed);
        let mean = if mean == 0 {
            latency
        } else {
            let weight =
                (since.min(LONGEST) * 1024 / (since.min(LONGEST) + MEMORY)).clamp(WEIGHT.0, WEIGHT.1);
            // Half a step of rounding, so that a steady latency is reached and not only approached.
            let step = |difference: u64| (difference * weight + 512) / 1024;
            if latency >= mean {
                mean + step(latency - mean)
            } else {
                mean - step(mean - latency)
            }
        };
        self.mean.store(mean.max(1), Ordering::Relaxed);
    }

    pub(super) fn mean(&self) -> Option<Duration> {
        match self.mean.load(Ordering::Relaxed) {
            0 => None,
            mean => Some(Duration::from_nanos(mean)),
        }
    }

    pub(super) fn clear(&self) {
        self.mean.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean in milliseconds after answers of `latencies`, one every `every` milliseconds.
    fn mean(every: u64, latencies: impl IntoIterator<Item = u64>) -> u128 {
        let latency = Latency::default();
        for (time, milliseconds) in (1..).map(|n| n * every * 1_000_000).zip(latencies) {
            latency.observe(Duration::from_millis(milliseconds), time);
        }
        latency.mean().unwrap().as_millis()
    }

    #[test]
    fn follows_and_forgets() {
        assert_eq!(Latency::default().mean(), None);
        assert_eq!(mean(1, [40]), 40);
        assert_eq!(mean(1, vec![40; 1000]), 40);
        // One slow answer among many moves it by a hair, whether they are many a second or few.
        assert!((10..=60).contains(&mean(1, [vec![10; 5000], vec![10_000]].concat())));
        assert!((10..=2600).contains(&mean(60_000, [10, 10, 10_000])));
        // A lasting change is followed within the memory's length.
        let after = mean(10, [vec![10; 1000], vec![100; 1000]].concat());
        assert!((80..=100).contains(&after), "{after}");
        let after = mean(1000, [vec![100; 100], vec![10; 30]].concat());
        assert!((10..=15).contains(&after), "{after}");
    }

    #[test]
    fn silly_values() {
        let latency = Latency::default();
        for time in [u64::MAX, 0, 5, u64::MAX] {
            latency.observe(Duration::MAX, time);
            latency.observe(Duration::ZERO, time);
        }
        assert!(latency.mean().is_some());
    }
}
