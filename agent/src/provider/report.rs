//! What status, health and metrics tell of the provider.

use std::net::SocketAddr;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use serde::Serialize;

use super::Provider;
use crate::sources::Problem;

/// The provider at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where it is polled; `None`: it is not.
    pub address: Option<SocketAddr>,
    /// Where requests of a Traefik come in for what other nodes have.
    pub failover: Option<String>,
    /// Whether there is a document.
    pub ready: bool,
    /// What it waits for, or what is wrong.
    pub reason: Option<String>,
    /// Routers in the document.
    pub routers: usize,
    /// Services in the document.
    pub services: usize,
    /// Its length.
    pub bytes: usize,
    /// By which it is known.
    pub etag: Option<String>,
    /// What is defined and not in it.
    pub left_out: Vec<Problem>,
    /// Answers by kind.
    #[serde(skip)]
    pub answers: [(&'static str, u64); 4],
}

/// Declares the families. Where there is no provider there are none.
pub fn register(registry: &mut Registry, provider: Provider) {
    registry.register_collector(Box::new(ProviderCollector(provider)));
}

#[derive(Debug)]
struct ProviderCollector(Provider);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    answer: &'static str,
}

impl Collector for ProviderCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let report = self.0.report();
        if report.address.is_none() {
            return Ok(());
        }
        let gauges = [
            (
                "constellation_traefik_document_ready",
                "Whether there is a document for Traefik: 1 or 0",
                usize::from(report.ready),
            ),
            (
                "constellation_traefik_document_routers",
                "Routers in the document for Traefik",
                report.routers,
            ),
            (
                "constellation_traefik_document_bytes",
                "Length of the document for Traefik",
                report.bytes,
            ),
            (
                "constellation_traefik_document_left_out",
                "Objects that are defined and not in the document for Traefik",
                report.left_out.len(),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let mut answers = encoder.encode_descriptor(
            "constellation_traefik_document_answers",
            "Answers to whoever polls the document for Traefik",
            None,
            MetricType::Counter,
        )?;
        for (answer, times) in report.answers {
            ConstCounter::new(times).encode(answers.encode_family(&Labels { answer })?)?;
        }
        Ok(())
    }
}
