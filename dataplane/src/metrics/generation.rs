//! Figures read from the published generation at the moment somebody asks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use constellation_table::{BreakerState, CheckState, Endpoint, Exclusion, OutlierState, Service, Standing};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{EndpointLabels, Name, ReasonLabels, ServiceLabels};
use crate::Published;
use crate::http::retry_tokens;

/// Declares the figures about the generation that `published` holds when metrics are read: its number and age, how its
/// endpoints stand, and until when the certificates are valid.
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
        endpoint_gauges(&mut encoder, generation.table.services())?;
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

/// What is known of one endpoint as the metrics are read.
struct Known {
    labels: EndpointLabels,
    standing: Standing,
    latency: Option<Duration>,
}

impl Known {
    fn of(service: &Service, endpoint: &Endpoint, now: Instant) -> Self {
        Self {
            labels: EndpointLabels {
                service: Name::new(&service.name),
                endpoint: Name::new(&endpoint.name),
            },
            standing: service.standing(endpoint, now),
            latency: endpoint.live.latency(),
        }
    }
}

/// A gauge of every endpoint for which there is something to say.
type EndpointGauge = (&'static str, &'static str, fn(&Standing) -> Option<i64>);

const ENDPOINT_GAUGES: [EndpointGauge; 5] = [
    (
        "constellation_endpoint_up",
        "Whether the endpoint takes requests: 1 or 0",
        |standing| Some(i64::from(standing.excluded.is_none())),
    ),
    (
        "constellation_endpoint_check_healthy",
        "What active checks say: 1 healthy, 0 unhealthy; absent while there is no result",
        |standing| match standing.check {
            CheckState::Healthy { .. } => Some(1),
            CheckState::Unhealthy { .. } => Some(0),
            CheckState::Off | CheckState::Unknown { .. } => None,
        },
    ),
    (
        "constellation_endpoint_ejected",
        "What live traffic says: 0 nothing against it, 1 on probation, 2 ejected",
        |standing| {
            Some(match standing.outlier {
                OutlierState::Healthy => 0,
                OutlierState::Probation { .. } => 1,
                OutlierState::Ejected { .. } => 2,
            })
        },
    ),
    (
        "constellation_endpoint_breaker",
        "The circuit breaker: 0 closed, 1 half open, 2 open; absent where it is off",
        |standing| match standing.breaker {
            BreakerState::Off => None,
            BreakerState::Closed { .. } => Some(0),
            BreakerState::HalfOpen { .. } => Some(1),
            BreakerState::Open { .. } => Some(2),
        },
    ),
    (
        "constellation_endpoint_draining",
        "Whether the endpoint leaves: 1 or 0",
        |standing| Some(i64::from(standing.excluded == Some(Exclusion::Draining))),
    ),
];

fn endpoint_gauges(
    encoder: &mut DescriptorEncoder<'_>,
    services: &[std::sync::Arc<Service>],
) -> Result<(), std::fmt::Error> {
    let now = Instant::now();
    let of = |service: &'_ std::sync::Arc<Service>| {
        let known = service
            .endpoints
            .iter()
            .map(|endpoint| Known::of(service, endpoint, now));
        known.collect::<Vec<_>>()
    };
    let known: Vec<Known> = services.iter().flat_map(of).collect();
    for (name, help, value) in ENDPOINT_GAUGES {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for endpoint in &known {
            if let Some(value) = value(&endpoint.standing) {
                ConstGauge::new(value).encode(family.encode_family(&endpoint.labels)?)?;
            }
        }
    }
    let mut latency = encoder.encode_descriptor(
        "constellation_endpoint_latency",
        "Moving average of the time to the head of good answers",
        Some(&Unit::Seconds),
        MetricType::Gauge,
    )?;
    for endpoint in &known {
        if let Some(value) = endpoint.latency {
            ConstGauge::new(value.as_secs_f64()).encode(latency.encode_family(&endpoint.labels)?)?;
        }
    }
    excluded(encoder, &known)?;
    service_gauges(encoder, services, now)
}

/// A gauge of every service.
type ServiceGauge = (&'static str, &'static str, fn(&Service, Instant) -> i64);

const SERVICE_GAUGES: [ServiceGauge; 2] = [
    (
        "constellation_service_panic",
        "Whether too few endpoints are healthy, so that all that are there are used: 1 or 0",
        |service, now| i64::from(service.view(now).is_panic()),
    ),
    (
        "constellation_retry_budget_tokens",
        "Attempts that may go wasted now; without any, a failed attempt is followed by none that costs",
        |service, _| retry_tokens(service),
    ),
];

fn service_gauges(
    encoder: &mut DescriptorEncoder<'_>,
    services: &[std::sync::Arc<Service>],
    now: Instant,
) -> Result<(), std::fmt::Error> {
    for (name, help, value) in SERVICE_GAUGES {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for service in services {
            let labels = ServiceLabels {
                service: Name::new(&service.name),
            };
            ConstGauge::new(value(service, now)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// How many endpoints of a service each fact keeps from taking requests; facts that keep none have no series.
fn excluded(encoder: &mut DescriptorEncoder<'_>, known: &[Known]) -> Result<(), std::fmt::Error> {
    let mut family = encoder.encode_descriptor(
        "constellation_endpoints_excluded",
        "Endpoints that take no requests, by the fact that keeps them from it",
        None,
        MetricType::Gauge,
    )?;
    let mut counts: Vec<(ReasonLabels, i64)> = Vec::new();
    for endpoint in known {
        let Some(exclusion) = endpoint.standing.excluded else {
            continue;
        };
        let labels = ReasonLabels {
            service: endpoint.labels.service.clone(),
            reason: exclusion.word(),
        };
        // The endpoints of a service follow each other, and there are few facts.
        let mut last = counts.iter_mut().rev().take(8);
        match last.find(|(known, _)| *known == labels) {
            Some((_, count)) => *count += 1,
            None => counts.push((labels, 1)),
        }
    }
    for (labels, count) in &counts {
        ConstGauge::new(*count).encode(family.encode_family(labels)?)?;
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
