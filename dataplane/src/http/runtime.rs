//! What the data plane keeps of a service over all generations and workers: its retry budget and its latency.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use constellation_table::Service;

use super::admission::Admission;
use super::budget::Budget;
use crate::metrics::{Metrics, ServiceMetrics};

/// Buckets per doubling of the latency.
const STEPS: u32 = 4;
/// The first bucket ends at 2^7 µs; the last one begins at about 36 min.
const FIRST: u32 = 7;
const BUCKETS: usize = 100;
/// Samples after which the older ones count half.
const HALVE: u32 = 2000;
/// Fewer samples than this prove nothing.
const MIN_SAMPLES: u32 = 50;

/// What the data plane keeps of a service.
#[derive(Debug)]
pub(crate) struct ServiceRuntime {
    pub(super) budget: Arc<Budget>,
    pub(super) latency: Latency,
    /// Response heads of all its endpoints.
    pub(super) answers: AtomicU64,
    pub(crate) admission: Arc<Admission>,
    pub(crate) metrics: ServiceMetrics,
}

impl ServiceRuntime {
    /// For a service that was not known before.
    pub(super) fn new(service: &Service, metrics: &Metrics) -> Self {
        Self {
            budget: Arc::new(Budget::new(&service.policy.retry)),
            latency: Latency::default(),
            answers: AtomicU64::new(0),
            admission: Arc::default(),
            metrics: metrics.service(&service.name),
        }
    }
}

/// The recent latencies of a service, in buckets that grow by a quarter of a doubling.
#[derive(Debug)]
pub(super) struct Latency {
    buckets: [AtomicU32; BUCKETS],
    samples: AtomicU32,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU32::new(0) }; BUCKETS],
            samples: AtomicU32::new(0),
        }
    }
}

impl Latency {
    /// Takes in one latency.
    pub(super) fn record(&self, latency: Duration) {
        if let Some(bucket) = self.buckets.get(bucket(latency)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        if self.samples.fetch_add(1, Ordering::Relaxed) >= HALVE {
            self.samples.store(HALVE / 2, Ordering::Relaxed);
            for bucket in &self.buckets {
                let half = bucket.load(Ordering::Relaxed) / 2;
                bucket.store(half, Ordering::Relaxed);
            }
        }
    }

    /// The latency that `percent` of the recent requests did not exceed (at most a fifth above it); `None` while too
    /// few are known.
    pub(super) fn percentile(&self, percent: u8) -> Option<Duration> {
        let counts: Vec<u32> = self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let total: u32 = counts.iter().sum();
        if total < MIN_SAMPLES {
            return None;
        }
        let rank = (u64::from(total) * u64::from(percent)).div_ceil(100);
        let mut seen = 0;
        let found = counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        })?;
        Some(upper(found))
    }
}

fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
    let exponent = micros.ilog2();
    if exponent < FIRST {
        return 0;
    }
    // The two bits below the highest one.
    let step = (micros >> (exponent - 2)) & 3;
    let bucket = u64::from((exponent - FIRST) * STEPS) + step + 1;
    usize::try_from(bucket).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The end of a bucket.
fn upper(bucket: usize) -> Duration {
    let Some(place) = bucket.checked_sub(1) else {
        return Duration::from_micros(1 << FIRST);
    };
    let place = u32::try_from(place).unwrap_or(u32::MAX);
    let (doubling, step) = (place / STEPS, place % STEPS);
    let base = 1u64 << (FIRST + doubling);
    Duration::from_micros(base + base / 4 * u64::from(step + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_falls_into_a_bucket_that_ends_a_quarter_above_it_at_most() {
        for micros in [1u64, 100, 128, 129, 1000, 5000, 123_456, 10_000_000, 60_000_000] {
            let latency = Duration::from_micros(micros);
            let end = upper(bucket(latency));
            assert!(end >= latency, "{micros}: {end:?}");
            assert!(
                end <= latency.mul_f64(1.26).max(Duration::from_micros(128)),
                "{micros}: {end:?}"
            );
        }
    }

    #[test]
    fn percentiles() {
        let latency = Latency::default();
        assert_eq!(latency.percentile(95), None);
        for _ in 0..95 {
            latency.record(Duration::from_millis(1));
        }
        for _ in 0..5 {
            latency.record(Duration::from_secs(1));
        }
        assert!(latency.percentile(95).unwrap() < Duration::from_millis(2));
        assert!(latency.percentile(99).unwrap() >= Duration::from_secs(1));
    }

    #[test]
    fn old_latencies_fade() {
        let latency = Latency::default();
        for _ in 0..HALVE {
            latency.record(Duration::from_secs(1));
        }
        for _ in 0..10 * HALVE {
            latency.record(Duration::from_millis(1));
        }
        assert!(latency.percentile(95).unwrap() < Duration::from_millis(2));
    }
}
