//! Middlewares that limit how much a service gets.

use std::time::Duration;

use constellation_config::{duration, dynamic};
use constellation_middleware::{ClientAddress, InFlightReq, Kind, RateLimit, Source};

use super::access;

/// Builds one of them; `None` when it is another kind.
pub(super) fn build(definition: &dynamic::Middleware) -> Option<Result<Kind, String>> {
    if let Some(options) = &definition.in_flight_req {
        return Some(in_flight_req(options));
    }
    if let Some(options) = &definition.rate_limit {
        return Some(rate_limit(options));
    }
    None
}

fn rate_limit(options: &dynamic::RateLimit) -> Result<Kind, String> {
    if options.redis.is_some() {
        return Err(
            "redis: counts in a Redis are not supported, each node counts by itself: remove it, and divide average and burst \
             by the number of nodes that clients reach"
                .to_owned(),
        );
    }
    let by_address = || Source::Address(ClientAddress::default());
    let source = access::source(options.source_criterion.as_ref(), by_address)?;
    let period = time("period", options.period.as_deref())?.unwrap_or(Duration::from_secs(1));
    Ok(Kind::RateLimit(RateLimit::new(
        options.average,
        period,
        options.burst.unwrap_or(1),
        source,
    )))
}

fn in_flight_req(options: &dynamic::InFlightReq) -> Result<Kind, String> {
    let source = access::source(options.source_criterion.as_ref(), || Source::Host)?;
    Ok(Kind::InFlightReq(InFlightReq::new(options.amount, source)))
}

/// A duration that is not below zero.
fn time(option: &str, text: Option<&str>) -> Result<Option<Duration>, String> {
    let Some(text) = text else { return Ok(None) };
    match duration::parse(text) {
        Some(time) => Ok(Some(time)),
        None => Err(format!("{option} is {text:?}: expected {}", duration::EXPECTED)),
    }
}
