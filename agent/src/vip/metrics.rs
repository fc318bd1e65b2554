//! Figures of virtual addresses.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::edge::Edge;

/// Declares the families. There are none where no virtual address is configured.
pub fn register(registry: &mut Registry, edge: Arc<Edge>) {
    registry.register_collector(Box::new(VipCollector(edge)));
}

#[derive(Debug)]
struct VipCollector(Arc<Edge>);

impl Collector for VipCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let report = self.0.virtual_ips().report();
        if report.standing.state == "disabled" {
            return Ok(());
        }
        let mut metric = |name: &str, help: &str, unit: Option<Unit>, value: &dyn EncodeMetric| {
            value.encode(encoder.encode_descriptor(name, help, unit.as_ref(), value.metric_type())?)
        };
        metric(
            "constellation_virtual_ip_remaining",
            "How long the virtual addresses are here without another renewal; 0: they are not here",
            Some(Unit::Seconds),
            &ConstGauge::new(report.remaining.as_secs_f64()),
        )?;
        metric(
            "constellation_virtual_ip_announcements",
            "How often the virtual addresses came here",
            None,
            &ConstCounter::new(report.announced),
        )
    }
}
