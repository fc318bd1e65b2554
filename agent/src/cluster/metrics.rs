//! Figures of the cluster, read when somebody asks. A node in no cluster has none.

mod raft;

use std::time::SystemTime;

use constellation_link::{Direction, Refused, Service};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::Cluster;

/// Declares the families.
pub fn register(registry: &mut Registry, cluster: Cluster) {
    registry.register_collector(Box::new(ClusterCollector(cluster)));
}

#[derive(Debug)]
struct ClusterCollector(Cluster);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLease {
    lease: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfService {
    service: &'static str,
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    reason: &'static str,
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

impl Collector for ClusterCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(node) = self.0.node() else { return Ok(()) };
        let report = node.report();
        let mut metric = |name: &str, help: &str, unit: Option<Unit>, value: &dyn EncodeMetric| {
            value.encode(encoder.encode_descriptor(name, help, unit.as_ref(), value.metric_type())?)
        };
        let online = report.nodes.iter().filter(|node| node.online).count() as u64;
        let ends = report.certificate_ends;
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        metric(
            "constellation_cluster_quorum",
            "Whether a majority of the voters answers: 1 or 0",
            None,
            &gauge(u64::from(report.quorum)),
        )?;
        metric(
            "constellation_cluster_nodes",
            "Members of the cluster",
            None,
            &gauge(report.nodes.len() as u64),
        )?;
        metric(
            "constellation_cluster_nodes_online",
            "Members that are heard of",
            None,
            &gauge(online),
        )?;
        metric(
            "constellation_cluster_certificate_remaining",
            "How long this node's certificate is valid yet; it is renewed in time",
            Some(Unit::Seconds),
            &gauge(ends.saturating_sub(now.as_secs())),
        )?;
        raft::encode(&mut encoder, &report.raft, &node.raft_figures())?;
        for (name, help, of) in [
            (
                "constellation_lease_changes",
                "How often a lease got another holder, seen from here",
                (|lease| lease.changes) as fn(&constellation_node::LeaseReport) -> u64,
            ),
            (
                "constellation_lease_refusals",
                "How often a request of this node about a lease was refused",
                |lease| lease.refusals,
            ),
            (
                "constellation_lease_losses",
                "How often this node had a lease and could not keep it",
                |lease| lease.losses,
            ),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for lease in &report.leases {
                let labels = OfLease {
                    lease: lease.key.clone(),
                };
                ConstCounter::new(of(lease)).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "constellation_lease_held",
            "Whether this node holds a lease and may act: 1 or 0",
            None,
            MetricType::Gauge,
        )?;
        for lease in &report.leases {
            let labels = OfLease {
                lease: lease.key.clone(),
            };
            gauge(u64::from(lease.mine)).encode(family.encode_family(&labels)?)?;
        }
        let counters = node.counters();
        let mut family = encoder.encode_descriptor(
            "constellation_link_calls",
            "Calls between nodes, by what they are for and who asked",
            None,
            MetricType::Counter,
        )?;
        for (service, direction) in of_services() {
            let count = counters.calls(service.0, direction.0);
            let labels = OfService {
                service: service.1,
                direction: direction.1,
            };
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor(
            "constellation_link",
            "Bytes between nodes, by what they are for and who sent them",
            Some(&Unit::Bytes),
            MetricType::Counter,
        )?;
        for (service, direction) in of_services() {
            let count = counters.bytes(service.0, direction.0);
            let labels = OfService {
                service: service.1,
                direction: direction.1,
            };
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor(
            "constellation_link_refused",
            "Connections to the port of the links that were refused",
            None,
            MetricType::Counter,
        )?;
        for refused in Refused::ALL {
            let labels = OfReason {
                reason: refused.name(),
            };
            ConstCounter::new(counters.refused(refused)).encode(family.encode_family(&labels)?)?;
        }
        let Some(gossip) = node.gossip_traffic() else {
            return Ok(());
        };
        let mut metric = |name: &str, help: &str, unit: Option<Unit>, value: u64| {
            let value = ConstCounter::new(value);
            value.encode(encoder.encode_descriptor(name, help, unit.as_ref(), value.metric_type())?)
        };
        metric(
            "constellation_gossip_sent_datagrams",
            "Datagrams of gossip that were sent",
            None,
            gossip.sent,
        )?;
        metric(
            "constellation_gossip_sent",
            "Bytes of gossip that were sent",
            Some(Unit::Bytes),
            gossip.sent_bytes,
        )?;
        metric(
            "constellation_gossip_received_datagrams",
            "Datagrams of gossip that were taken",
            None,
            gossip.received,
        )?;
        metric(
            "constellation_gossip_refused_datagrams",
            "Datagrams of gossip that were refused: another key, cluster or life, a replay, or damaged",
            None,
            gossip.refused,
        )?;
        Ok(())
    }
}

type Named<T> = (T, &'static str);

fn of_services() -> impl Iterator<Item = (Named<Service>, Named<Direction>)> {
    let services = [
        (Service::Raft, "raft"),
        (Service::Control, "control"),
        (Service::Bulk, "bulk"),
    ];
    services.into_iter().flat_map(|service| {
        [(Direction::In, "in"), (Direction::Out, "out")]
            .into_iter()
            .map(move |direction| (service, direction))
    })
}
