//! Figures read from the published generation at the moment somebody asks.

use std::time::{SystemTime, UNIX_EPOCH};

use constellation_table::Condition;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{EndpointLabels, Name};
use crate::{Generation, Published};

/// Declares the figures about the generation that `published` holds when metrics are read: its number and age, which
/// endpoints can serve, and until when the certificates are valid.
pub fn register_generation(registry: &mut Registry, published: Published) {
    registry.register_collector(Box::new(GenerationCollector(published)));
}

#[derive(Debug)]
struct GenerationCollector(Published);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    subject: Name,
    fingerprint: Name,
}

impl Collector for GenerationCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let generation = self.0.load_full();
        let age = SystemTime::now()
            .duration_since(generation.published)
            .unwrap_or_default();
        gauge(
            &mut encoder,
            "constellation_configuration_generation",
            "Number of the generation that serves",
            None,
            i64::try_from(generation.table.generation()).unwrap_or(i64::MAX),
        )?;
        gauge(
            &mut encoder,
            "constellation_configuration_age",
            "Time since that generation was published",
            Some(Unit::Seconds),
            age.as_secs_f64(),
        )?;
        gauge(
            &mut encoder,
            "constellation_routers",
            "Routers that serve",
            None,
            i64::try_from(generation.table.routers().len()).unwrap_or(i64::MAX),
        )?;
        let mut up = encoder.encode_descriptor(
            "constellation_endpoint_up",
            "Whether the endpoint takes requests: 1 or 0",
            None,
            MetricType::Gauge,
        )?;
        for service in generation.table.services() {
            for endpoint in &service.endpoints {
                let labels = EndpointLabels {
                    service: Name::new(&service.name),
                    endpoint: Name::new(&endpoint.name),
                };
                let ready = i64::from(endpoint.condition == Condition::Ready);
                ConstGauge::new(ready).encode(up.encode_family(&labels)?)?;
            }
        }
        health_checks(&mut encoder, &generation)?;
        let mut not_after = encoder.encode_descriptor(
            "constellation_tls_certificate_not_after",
            "Until when a certificate is valid, Unix time",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for certificate in generation.tls.certificates() {
            let labels = CertificateLabels {
                subject: Name::new(&certificate.subject),
                fingerprint: Name::new(&certificate.fingerprint),
            };
            ConstGauge::new(unix_seconds(certificate.not_after)).encode(not_after.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// What the active checks say of the endpoints that they ask.
fn health_checks(
    encoder: &mut DescriptorEncoder<'_>,
    generation: &Generation,
) -> Result<(), std::fmt::Error> {
    let mut healthy = encoder.encode_descriptor(
        "constellation_endpoint_check_healthy",
        "Whether the active health checks find the endpoint healthy: 1 or 0",
        None,
        MetricType::Gauge,
    )?;
    let services = generation.table.services().iter();
    for service in services.filter(|service| service.policy.health_check.is_some()) {
        for endpoint in &service.endpoints {
            if endpoint.condition != Condition::Ready {
                continue;
            }
            let labels = EndpointLabels {
                service: Name::new(&service.name),
                endpoint: Name::new(&endpoint.name),
            };
            let value = i64::from(!endpoint.live.fails_checks());
            ConstGauge::new(value).encode(healthy.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn gauge<N>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    value: N,
) -> Result<(), std::fmt::Error>
where
    ConstGauge<N>: EncodeMetric,
{
    let metric = ConstGauge::new(value);
    metric.encode(encoder.encode_descriptor(name, help, unit.as_ref(), metric.metric_type())?)
}

/// Seconds since 1970, negative before.
pub(super) fn unix_seconds(when: SystemTime) -> f64 {
    match when.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}
