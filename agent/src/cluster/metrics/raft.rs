//! Figures of the replicated log.

use std::fmt;

use constellation_cluster::raft::{Figures, WRITE_BOUNDS, Writes};
use constellation_node::RaftReport;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Unit;

use super::gauge;

pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    report: &RaftReport,
    figures: &Figures,
) -> fmt::Result {
    let mut metric = |name: &str, help: &str, unit: Option<Unit>, value: &dyn EncodeMetric| {
        value.encode(encoder.encode_descriptor(name, help, unit.as_ref(), value.metric_type())?)
    };
    metric(
        "constellation_raft_term",
        "Term of the replicated log",
        None,
        &gauge(report.term),
    )?;
    metric(
        "constellation_raft_leader",
        "Whether this node leads the replicated log: 1 or 0",
        None,
        &gauge(u64::from(report.is_leader)),
    )?;
    metric(
        "constellation_raft_applied_index",
        "The last entry of the replicated log that is applied here",
        None,
        &gauge(figures.applied.unwrap_or(0)),
    )?;
    metric(
        "constellation_raft_last_log_index",
        "The last entry of the replicated log that is here, applied or not",
        None,
        &gauge(figures.last_log.unwrap_or(0)),
    )?;
    metric(
        "constellation_raft_apply_lag",
        "Entries that are here and not applied: not known to be with a majority yet, or late",
        None,
        &gauge(figures.lag()),
    )?;
    metric(
        "constellation_raft_voters",
        "Members that vote",
        None,
        &gauge(report.voters as u64),
    )?;
    for (name, help, value) in [
        (
            "constellation_raft_elections_started",
            "How often this node stood for election: each vote for itself that it wrote",
            figures.elections_started,
        ),
        (
            "constellation_raft_elections_won",
            "How often this node was elected",
            figures.elections_won,
        ),
        (
            "constellation_raft_leader_changes",
            "How often this node learned of a leader in another term, itself included; the same one elected anew counts",
            figures.leader_changes,
        ),
    ] {
        metric(name, help, None, &ConstCounter::new(value))?;
    }
    metric(
        "constellation_raft_log_write",
        "How long a commit to the file of the log took, which ends with an fsync: entries, votes and removals that waited together",
        Some(Unit::Seconds),
        &Took(&figures.writes),
    )
}

/// A histogram of what was counted elsewhere.
struct Took<'a>(&'a Writes);

impl EncodeMetric for Took<'_> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = WRITE_BOUNDS.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.0.counts).collect();
        let sum = self.0.total.as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, self.0.count(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::collector::Collector;
    use prometheus_client::registry::Registry;

    use super::*;

    #[derive(Debug)]
    struct Fixed(Figures);

    impl Collector for Fixed {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            super::encode(&mut encoder, &RaftReport::default(), &self.0)
        }
    }

    #[test]
    fn what_was_counted_is_what_is_shown() {
        let mut counts = [0; WRITE_BOUNDS.len() + 1];
        (counts[0], counts[14]) = (2, 1);
        let figures = Figures {
            elections_started: 3,
            elections_won: 2,
            leader_changes: 5,
            last_log: Some(9),
            applied: Some(7),
            writes: Writes {
                counts,
                total: Duration::from_millis(6_500),
                longest: Duration::from_secs(6),
            },
        };
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Fixed(figures)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        for line in [
            "constellation_raft_elections_started_total 3",
            "constellation_raft_elections_won_total 2",
            "constellation_raft_leader_changes_total 5",
            "constellation_raft_last_log_index 9",
            "constellation_raft_apply_lag 2",
            "constellation_raft_log_write_seconds_sum 6.5",
            "constellation_raft_log_write_seconds_count 3",
            "constellation_raft_log_write_seconds_bucket{le=\"0.0001\"} 2",
            "constellation_raft_log_write_seconds_bucket{le=\"5.0\"} 2",
            "constellation_raft_log_write_seconds_bucket{le=\"+Inf\"} 3",
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
        }
    }
}
