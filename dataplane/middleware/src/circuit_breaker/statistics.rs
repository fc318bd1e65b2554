//! What was seen of responses lately: statuses over ten seconds, latencies over a minute.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Statuses are counted in so many pieces of a second each.
const COUNT_PIECES: usize = 10;
/// Latencies are counted in so many pieces of ten seconds each.
const LATENCY_PIECES: usize = 6;
/// Latencies of one power of two are told apart in so many steps: by less than one part in a hundred.
const STEP_BITS: u32 = 7;

/// What was seen of responses.
#[derive(Debug)]
pub(super) struct Statistics {
    statuses: Window<u16, COUNT_PIECES>,
    /// By [`step`]; `None`: nobody asks.
    latencies: Option<Window<u16, LATENCY_PIECES>>,
}

impl Statistics {
    /// Nothing was seen yet. `latencies`: whether they are counted.
    pub(super) fn new(latencies: bool) -> Self {
        Self {
            statuses: Window::new(Duration::from_secs(1)),
            latencies: latencies.then(|| Window::new(Duration::from_secs(10))),
        }
    }

    /// Takes in a response.
    pub(super) fn record(&mut self, status: u16, latency: Duration, now: Instant) {
        self.statuses.add(status, now);
        if let Some(latencies) = &mut self.latencies {
            latencies.add(step(latency), now);
        }
    }

    /// The share of responses that say that the service could not be reached, or did not answer in time.
    pub(super) fn network_error_ratio(&self) -> f64 {
        let errors = self.statuses.count(502..503) + self.statuses.count(504..505);
        ratio(errors, self.statuses.count(0..u16::MAX))
    }

    /// How many responses with the first statuses there are for each with the second.
    pub(super) fn status_ratio(&self, first: Range<u16>, second: Range<u16>) -> f64 {
        ratio(self.statuses.count(first), self.statuses.count(second))
    }

    /// The latency in whole milliseconds which so many percent of the responses do not exceed.
    pub(super) fn latency_at(&self, percent: f64) -> f64 {
        let Some(latencies) = &self.latencies else {
            return 0.0;
        };
        let sums = latencies.sums();
        let all: u64 = sums.values().sum();
        let rank = (percent.clamp(0.0, 100.0) / 100.0 * precise(all) + 0.5).floor();
        let mut before = 0;
        for (step, count) in sums {
            before += count;
            if precise(before) >= rank {
                return (longest(step).as_secs_f64() * 1000.0).floor();
            }
        }
        0.0
    }
}

/// Zero of nothing.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        precise(part) / precise(whole)
    }
}

/// Counts beyond this are never reached in a minute.
fn precise(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The step in which a latency is counted: the power of two of its microseconds and the bits that follow the first.
fn step(latency: Duration) -> u16 {
    let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX).max(1);
    let power = micros.ilog2();
    let bits = if power >= STEP_BITS {
        micros >> (power - STEP_BITS)
    } else {
        micros << (STEP_BITS - power)
    };
    let bits = bits & ((1 << STEP_BITS) - 1);
    u16::try_from(power << STEP_BITS | bits).unwrap_or(u16::MAX)
}

/// The longest latency of a step.
fn longest(step: u16) -> Duration {
    let (power, bits) = (
        u32::from(step) >> STEP_BITS,
        u64::from(step) & ((1 << STEP_BITS) - 1),
    );
    let first = (1 << STEP_BITS) + bits;
    Duration::from_micros(match power.checked_sub(STEP_BITS) {
        Some(shift) => ((first + 1) << shift) - 1,
        // Steps are finer than microseconds here.
        None => first >> (STEP_BITS - power),
    })
}

/// Counts of keys over the last `PIECES` pieces of time.
#[derive(Debug)]
struct Window<K, const PIECES: usize> {
    piece: Duration,
    /// When the newest piece began.
    begun: Option<Instant>,
    /// The newest first.
    pieces: [BTreeMap<K, u64>; PIECES],
}

impl<K: Ord + Copy, const PIECES: usize> Window<K, PIECES> {
    fn new(piece: Duration) -> Self {
        Self {
            piece,
            begun: None,
            pieces: [const { BTreeMap::new() }; PIECES],
        }
    }

    fn add(&mut self, key: K, now: Instant) {
        let begun = *self.begun.get_or_insert(now);
        let passed = now.saturating_duration_since(begun).as_nanos() / self.piece.as_nanos();
        let passed = usize::try_from(passed).unwrap_or(PIECES);
        if passed > 0 {
            let gone = passed.min(PIECES);
            self.pieces.rotate_right(gone);
            self.pieces.iter_mut().take(gone).for_each(BTreeMap::clear);
            self.begun = match passed < PIECES {
                true => u32::try_from(passed)
                    .ok()
                    .map(|passed| begun + self.piece * passed),
                false => Some(now),
            };
        }
        if let Some(newest) = self.pieces.first_mut() {
            *newest.entry(key).or_default() += 1;
        }
    }

    fn count(&self, keys: Range<K>) -> u64 {
        let counts = self.pieces.iter().flat_map(|piece| piece.iter());
        counts
            .filter(|(key, _)| keys.contains(key))
            .map(|(_, count)| count)
            .sum()
    }

    fn sums(&self) -> BTreeMap<K, u64> {
        let mut sums = BTreeMap::new();
        for (key, count) in self.pieces.iter().flat_map(|piece| piece.iter()) {
            *sums.entry(*key).or_default() += count;
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_is_forgotten() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut seen = Statistics::new(false);
        seen.record(500, Duration::ZERO, at(0));
        seen.record(200, Duration::ZERO, at(9_900));
        assert_eq!(seen.status_ratio(500..600, 0..600), 0.5);
        seen.record(200, Duration::ZERO, at(10_100));
        assert_eq!(seen.status_ratio(500..600, 0..600), 0.0);
        assert_eq!(seen.statuses.count(0..600), 2);
        seen.record(200, Duration::ZERO, at(100_000));
        assert_eq!(seen.statuses.count(0..600), 1);
        // A worker that is late by a little.
        seen.record(200, Duration::ZERO, at(99_000));
        assert_eq!(seen.statuses.count(0..600), 2);
    }

    #[test]
    fn latencies_are_told_apart_by_one_in_a_hundred() {
        let now = Instant::now();
        for micros in [
            1,
            2,
            99,
            127,
            128,
            1_000,
            10_001,
            123_456,
            10_000_000,
            4_000_000_000,
        ] {
            let latency = Duration::from_micros(micros);
            let found = longest(step(latency));
            assert!(
                found >= latency && found.as_secs_f64() <= latency.as_secs_f64() * 1.01,
                "{micros}: {found:?}"
            );
        }
        let mut seen = Statistics::new(true);
        assert_eq!(seen.latency_at(50.0), 0.0);
        for millis in 1..=100 {
            seen.record(200, Duration::from_millis(millis), now);
        }
        for (percent, least) in [(0.0, 1.0), (50.0, 50.0), (99.0, 99.0), (100.0, 100.0)] {
            let found = seen.latency_at(percent);
            assert!(found >= least && found <= least * 1.01, "{percent}: {found}");
        }
    }
}
