//! Middlewares that limit how much a service gets.

use std::time::Duration;

use constellation_config::{duration, dynamic};
use constellation_middleware::expression::Expression;
use constellation_middleware::{CircuitBreaker, ClientAddress, InFlightReq, Kind, RateLimit, Rules, Source};

use super::access;

/// Builds one of them; `None` when it is another kind.
pub(super) fn build(definition: &dynamic::Middleware) -> Option<Result<Kind, String>> {
    if let Some(options) = &definition.circuit_breaker {
        return Some(circuit_breaker(options));
    }
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

fn circuit_breaker(options: &dynamic::CircuitBreaker) -> Result<Kind, String> {
    let expression = Expression::parse(&options.expression).map_err(|error| {
        format!(
            "expression is {:?}: {error}; write one such as NetworkErrorRatio() > 0.5",
            options.expression
        )
    })?;
    // Zero is the default, as in Traefik.
    let or = |option, text: &Option<String>, default| {
        let time = time(option, text.as_deref())?.filter(|time| !time.is_zero());
        Ok::<_, String>(time.unwrap_or(default))
    };
    let rules = Rules {
        expression,
        check_period: or("checkPeriod", &options.check_period, Duration::from_millis(100))?,
        fallback_duration: or(
            "fallbackDuration",
            &options.fallback_duration,
            Duration::from_secs(10),
        )?,
        recovery_duration: or(
            "recoveryDuration",
            &options.recovery_duration,
            Duration::from_secs(10),
        )?,
    };
    CircuitBreaker::new(rules, options.response_code).map(Kind::CircuitBreaker)
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
