//! Metric families whose label sets can be dropped again, and a histogram without a lock.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Metrics by label set. The library's family can't forget what a predicate names; this one can.
pub(super) struct Family<L, M>(Arc<RwLock<HashMap<L, M>>>);

impl<L, M> Clone for Family<L, M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L, M> Default for Family<L, M> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<L, M> fmt::Debug for Family<L, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Family")
    }
}

impl<L: Hash + Eq, M: Clone + Default> Family<L, M> {
    /// The metric of a label set, made on first use. Takes a lock: handles keep what it returns.
    pub(super) fn of(&self, labels: L) -> M {
        let known = self
            .0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&labels)
            .cloned();
        known.unwrap_or_else(|| {
            self.0
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(labels)
                .or_default()
                .clone()
        })
    }

    /// Calls `look` with every label set.
    pub(super) fn each(&self, look: impl FnMut(&L)) {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .for_each(look);
    }

    /// Drops the label sets that `keep` does not want. Handles that still hold one count into nothing.
    pub(super) fn retain(&self, keep: impl Fn(&L) -> bool) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|labels, _| keep(labels));
    }
}

impl<L, M> Family<L, M> {
    /// Adds up one figure of every metric.
    pub(super) fn sum<N: std::iter::Sum>(&self, figure: impl Fn(&M) -> N) -> N {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .map(figure)
            .sum()
    }
}

impl<L, M: TypedMetric> TypedMetric for Family<L, M> {
    const TYPE: MetricType = M::TYPE;
}

impl<L, M> EncodeMetric for Family<L, M>
where
    L: EncodeLabelSet + Hash + Eq,
    M: EncodeMetric + TypedMetric,
{
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        for (labels, metric) in self.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            metric.encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// Upper bounds of the duration buckets, seconds. From a fast local back end to a request near the usual time limits.
const BOUNDS: [f64; 14] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

/// A histogram of durations. The library's takes a lock for every observation, which all workers would share.
#[derive(Clone, Debug, Default)]
pub(super) struct DurationHistogram(Arc<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    /// One count per bound, and one for what is above all of them; not cumulative.
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// Microseconds, so that an addition is one instruction: 584,000 years until it wraps.
    sum: AtomicU64,
}

impl DurationHistogram {
    /// Counts one duration.
    pub(super) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.0.sum.fetch_add(micros, Ordering::Relaxed);
    }
}

impl TypedMetric for DurationHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for DurationHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds
            .zip(&self.0.counts)
            .map(|(bound, count)| (bound, count.load(Ordering::Relaxed)))
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let micros = Duration::from_micros(self.0.sum.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(micros.as_secs_f64(), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
