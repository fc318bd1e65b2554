//! Figures of steering, read from the kernel when somebody asks.

use constellation_ebpf_loader::abi::steer::Verdict;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::Steering;

/// Declares the families. Where steering is not active there is `constellation_steering_active` alone.
pub fn register(registry: &mut Registry, steering: Steering) {
    registry.register_collector(Box::new(SteeringCollector(steering)));
}

#[derive(Debug)]
struct SteeringCollector(Steering);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    verdict: &'static str,
}

impl Collector for SteeringCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let report = self.0.report();
        let is_active = report.standing.state == "active";
        let lease = report.lease;
        let mut metric = |name: &str, help: &str, unit: Option<Unit>, value: &dyn EncodeMetric| {
            value.encode(encoder.encode_descriptor(name, help, unit.as_ref(), value.metric_type())?)
        };
        metric(
            "constellation_steering_active",
            "Whether the program in the kernel gives connections to the listeners: 1 or 0",
            None,
            &ConstGauge::new(i64::from(is_active)),
        )?;
        let Some(lease) = lease else { return Ok(()) };
        metric(
            "constellation_steering_grant_remaining",
            "How long the kernel lets this node answer without another renewal",
            Some(Unit::Seconds),
            &ConstGauge::new(lease.remaining.as_secs_f64()),
        )?;
        metric(
            "constellation_steering_epoch",
            "Epoch of the lease",
            None,
            &ConstGauge::new(i64::try_from(lease.epoch).unwrap_or(i64::MAX)),
        )?;
        metric(
            "constellation_steering_renewals",
            "Grants of the lease by this process, extensions included",
            None,
            &ConstCounter::new(lease.renewals),
        )?;
        metric(
            "constellation_steering_losses",
            "How often the lease had ended before it was renewed",
            None,
            &ConstCounter::new(lease.losses),
        )?;
        metric(
            "constellation_steering_refused_grants",
            "Grants that were refused: the lease was over, or older than one before, or the kernel was against it",
            None,
            &ConstCounter::new(lease.refused),
        )?;
        metric(
            "constellation_steering_holder",
            "Whether new connections are this node's to answer: 1 or 0; 0 also when it gets them to pass them on",
            None,
            &ConstGauge::new(i64::from(!lease.stands_by && !lease.remaining.is_zero())),
        )?;
        metric(
            "constellation_steering_addresses",
            "Addresses, networks and ports that are steered",
            None,
            &ConstGauge::new(i64::try_from(lease.steered).unwrap_or(i64::MAX)),
        )?;
        let mut lookups = encoder.encode_descriptor(
            "constellation_steering_lookups",
            "New connections and datagrams that the program was asked about, since its maps were made",
            None,
            MetricType::Counter,
        )?;
        for (verdict, times) in lease.verdicts {
            let labels = Labels {
                verdict: Verdict::label(verdict),
            };
            ConstCounter::new(times).encode(lookups.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
