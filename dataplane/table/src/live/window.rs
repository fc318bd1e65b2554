//! Successes and failures over a sliding window, counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::failure::Rate;

/// Parts of the window; one of them is always being emptied, so the window is exact to a tenth.
const BUCKETS: u64 = 10;

/// Each bucket holds the number of its turn (22 bits), successes and failures (21 bits each).
#[derive(Debug, Default)]
pub(super) struct Window([AtomicU64; BUCKETS as usize]);

const COUNT_BITS: u32 = 21;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const TURN_MASK: u64 = (1 << 22) - 1;

#[derive(Clone, Copy, Default)]
struct Bucket {
    turn: u64,
    good: u64,
    bad: u64,
}

impl Bucket {
    fn unpack(packed: u64) -> Self {
        Self {
            turn: packed >> (2 * COUNT_BITS),
            good: (packed >> COUNT_BITS) & COUNT_MAX,
            bad: packed & COUNT_MAX,
        }
    }

    fn pack(self) -> u64 {
        (self.turn << (2 * COUNT_BITS)) | (self.good << COUNT_BITS) | self.bad
    }

    fn count(mut self, turn: u64, failed: bool) -> Self {
        if self.turn != turn {
            self = Self {
                turn,
                good: 0,
                bad: 0,
            };
        }
        if self.good.max(self.bad) == COUNT_MAX {
            // Two million requests in a tenth of the window: the ratio is what matters.
            self.good /= 2;
            self.bad /= 2;
        }
        if failed {
            self.bad += 1;
        } else {
            self.good += 1;
        }
        self
    }
}

/// The number of the bucket's turn at `now` nanoseconds; never 0, which is an empty bucket's.
fn turn(window: Duration, now: u64) -> u64 {
    let length = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX) / BUCKETS;
    now / length.max(1) + BUCKETS
}

impl Window {
    /// Counts one request that ended at `now` nanoseconds.
    pub(super) fn count(&self, window: Duration, now: u64, failed: bool) {
        let turn = turn(window, now);
        if let Some(bucket) = self.bucket(turn) {
            let add = |packed| Some(Bucket::unpack(packed).count(turn & TURN_MASK, failed).pack());
            // The function never says no, so there is always a result.
            bucket
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
                .ok();
        }
    }

    /// The rate over the window that ends at `now` nanoseconds.
    pub(super) fn rate(&self, window: Duration, now: u64) -> Rate {
        let newest = turn(window, now);
        let mut rate = Rate::default();
        for turn in (newest + 1).saturating_sub(BUCKETS)..=newest {
            let Some(bucket) = self.bucket(turn) else { continue };
            let bucket = Bucket::unpack(bucket.load(Ordering::Relaxed));
            if bucket.turn == turn & TURN_MASK {
                let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
                rate.failed = rate.failed.saturating_add(count(bucket.bad));
                rate.total = rate.total.saturating_add(count(bucket.good + bucket.bad));
            }
        }
        rate
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for bucket in &self.0 {
            bucket.store(0, Ordering::Relaxed);
        }
    }

    fn bucket(&self, turn: u64) -> Option<&AtomicU64> {
        self.0.get(usize::try_from(turn % BUCKETS).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    fn at(milliseconds: u64) -> u64 {
        milliseconds * 1_000_000
    }

    #[test]
    fn slides() {
        let window = Window::default();
        assert_eq!(window.rate(TEN, 0), Rate { failed: 0, total: 0 });
        for second in 0..10 {
            window.count(TEN, at(second * 1000), second < 3);
        }
        assert_eq!(window.rate(TEN, at(9_999)), Rate { failed: 3, total: 10 });
        assert_eq!(window.rate(TEN, at(10_000)), Rate { failed: 2, total: 9 });
        assert_eq!(window.rate(TEN, at(12_500)), Rate { failed: 0, total: 7 });
        assert_eq!(window.rate(TEN, at(100_000)), Rate { failed: 0, total: 0 });
        window.clear();
        assert_eq!(window.rate(TEN, at(9_999)), Rate::default());
    }

    #[test]
    fn a_full_bucket_keeps_its_ratio() {
        let full = Bucket {
            turn: 7,
            good: COUNT_MAX,
            bad: COUNT_MAX / 2,
        };
        let next = full.count(7, false);
        assert!(next.good > COUNT_MAX / 2 && next.bad == COUNT_MAX / 4);
        let packed = Bucket::unpack(next.pack());
        assert_eq!((packed.turn, packed.good, packed.bad), (7, next.good, next.bad));
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(
            mut requests in prop::collection::vec((0u64..60_000, any::<bool>()), 0..300),
            end in 0u64..70_000,
        ) {
            requests.sort_unstable();
            requests.retain(|(time, _)| *time <= end);
            let window = Window::default();
            for (time, failed) in &requests {
                window.count(TEN, at(*time), *failed);
            }
            let first = (end / 1000).saturating_sub(9) * 1000;
            let within: Vec<_> = requests.iter().filter(|(time, _)| *time >= first).collect();
            let failed = within.iter().filter(|(_, failed)| *failed).count();
            prop_assert_eq!(
                window.rate(TEN, at(end)),
                Rate { failed: u32::try_from(failed).unwrap(), total: u32::try_from(within.len()).unwrap() }
            );
        }
    }
}
