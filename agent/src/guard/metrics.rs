//! Figures of the guard, read when somebody asks.

use constellation_ebpf_loader::abi::guard::Verdict;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Guard;

/// Declares the families. Where the guard is off there is `constellation_guard_active` alone.
pub fn register(registry: &mut Registry, guard: Guard) {
    registry.register_collector(Box::new(GuardCollector(guard)));
}

#[derive(Debug)]
struct GuardCollector(Guard);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OffenceLabels {
    offence: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeviceLabels {
    device: String,
    hook: &'static str,
}

const HOOKS: [&str; 3] = ["tcx", "clsact", "xdp"];
const ORIGINS: [&str; 2] = ["operator", "proxy"];

impl Collector for GuardCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let report = self.0.report();
        let gauge = |encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64| {
            let value = ConstGauge::new(value);
            value.encode(encoder.encode_descriptor(name, help, None, value.metric_type())?)
        };
        gauge(
            &mut encoder,
            "constellation_guard_active",
            "Whether the guard is in the kernel: 1 or 0",
            i64::from(report.standing.state == "active"),
        )?;
        if report.mode == "off" {
            return Ok(());
        }
        let of_size = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
        gauge(
            &mut encoder,
            "constellation_guard_denied_prefixes",
            "Prefixes on the deny list",
            of_size(report.denied),
        )?;
        gauge(
            &mut encoder,
            "constellation_guard_allowed_prefixes",
            "Prefixes on the allow list, which wins",
            of_size(report.allowed),
        )?;
        let mut bans = encoder.encode_descriptor(
            "constellation_guard_bans",
            "Bans that were added while this process ran, by who asked for them",
            None,
            MetricType::Counter,
        )?;
        for source in ORIGINS {
            let count = report.ban_counts.iter().find(|(known, _)| *known == source);
            let count = count.map_or(0, |(_, count)| *count);
            ConstCounter::new(count).encode(bans.encode_family(&SourceLabels { source })?)?;
        }
        let mut offences = encoder.encode_descriptor(
            "constellation_guard_offences",
            "What clients did that nobody does in good faith, where edge.guard.feed is enabled",
            None,
            MetricType::Counter,
        )?;
        for (offence, count) in &report.offence_counts {
            ConstCounter::new(*count).encode(offences.encode_family(&OffenceLabels { offence })?)?;
        }
        let uncounted = ConstCounter::new(report.uncounted_offences);
        uncounted.encode(encoder.encode_descriptor(
            "constellation_guard_uncounted_offences",
            "Offences that came faster than they could be counted, or of more sources than are counted",
            None,
            MetricType::Counter,
        )?)?;
        let Some(attack) = &report.attack else {
            return Ok(());
        };
        gauge(
            &mut encoder,
            "constellation_guard_under_attack",
            "Whether the guard drops so much that it is an attack, or somebody says so: 1 or 0",
            i64::from(attack.under_attack),
        )?;
        ConstCounter::new(attack.alarms).encode(encoder.encode_descriptor(
            "constellation_guard_alarms",
            "Attacks since this process serves",
            None,
            MetricType::Counter,
        )?)?;
        let mut attached = encoder.encode_descriptor(
            "constellation_guard_attached",
            "Whether the guard is at this hook of this device: 1 or 0",
            None,
            MetricType::Gauge,
        )?;
        for device in &report.devices {
            for hook in HOOKS {
                let labels = DeviceLabels {
                    device: device.name.clone(),
                    hook,
                };
                let is_there = ConstGauge::new(i64::from(device.hook == Some(hook)));
                is_there.encode(attached.encode_family(&labels)?)?;
            }
        }
        verdicts(
            &mut encoder,
            "constellation_guard_packets",
            "Packets that the guard was shown, since its maps were made",
            &report.verdicts,
        )?;
        verdicts(
            &mut encoder,
            "constellation_guard_events",
            "What the programs told of, which is each source and prefix once in a while",
            &report.event_counts,
        )
    }
}

fn verdicts(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: &[(Verdict, u64)],
) -> Result<(), std::fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (verdict, count) in counts {
        let labels = VerdictLabels {
            verdict: verdict.label(),
        };
        ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
