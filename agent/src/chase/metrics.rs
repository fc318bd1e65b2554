//! Figures of the chase, read from the kernel when somebody asks.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Chase;

/// Declares the families. Where the chase is not active there is `constellation_chase_active` alone.
pub fn register(registry: &mut Registry, chase: Chase) {
    registry.register_collector(Box::new(ChaseCollector(chase)));
}

#[derive(Debug)]
struct ChaseCollector(Chase);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    verdict: &'static str,
}

impl Collector for ChaseCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let report = self.0.report();
        let is_active = report.standing.state == "active";
        let active = ConstGauge::new(i64::from(is_active));
        active.encode(encoder.encode_descriptor(
            "constellation_chase_active",
            "Whether the program that sends packets to previous holders is in force: 1 or 0",
            None,
            active.metric_type(),
        )?)?;
        if !is_active {
            return Ok(());
        }
        let moved = ConstGauge::new(i64::try_from(report.moved.len()).unwrap_or(i64::MAX));
        moved.encode(encoder.encode_descriptor(
            "constellation_chase_addresses",
            "Addresses and networks that moved here and whose connections stay with the node before",
            None,
            moved.metric_type(),
        )?)?;
        let mut packets = encoder.encode_descriptor(
            "constellation_chase_packets",
            "Packets that the program has seen, since its maps were made",
            None,
            MetricType::Counter,
        )?;
        for (verdict, times) in report.verdicts {
            let labels = Labels {
                verdict: verdict.label(),
            };
            ConstCounter::new(times).encode(packets.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
