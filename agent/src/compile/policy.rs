//! Options to the policy that the routing core follows.

use std::str::FromStr as _;
use std::time::Duration;

use constellation_config::dynamic::{
    Algorithm, BalanceOptions, BreakerOptions, CheckMode, CheckScheme, DrainOptions, ErrorRateOptions,
    HealthCheckOptions, HedgeOptions, LimitOptions, OutlierOptions, RetryOptions, ServiceOptions, Time,
};
use constellation_table::policy::{self, Policy};
use constellation_table::{Scheme, policy::HashKey};
use http::{HeaderName, HeaderValue, Method};

/// The policy that `options` describe; what they leave out is the built-in default. An option that can't be used is
/// left out with a warning.
pub(super) fn policy(options: &ServiceOptions, warnings: &mut Vec<String>) -> Policy {
    let default = Policy::default();
    Policy {
        balance: options.balance.as_ref().map(balance).unwrap_or_default(),
        // All endpoints are equally near as long as the node has no peers.
        groups: policy::Groups::default(),
        sticky: None,
        health_check: options
            .health_check
            .as_ref()
            .and_then(|check| health_check(check, warnings)),
        outlier: options.outlier.as_ref().map(outlier).unwrap_or_default(),
        breaker: options.breaker.as_ref().map(breaker).unwrap_or_default(),
        panic: options
            .panic_threshold
            .map_or(default.panic, |threshold| policy::Panic { threshold }),
        slow_start: options
            .slow_start
            .map_or(default.slow_start, |Time(window)| policy::SlowStart { window }),
        retry: options.retry.as_ref().map(retry).unwrap_or_default(),
        hedge: options.hedge.as_ref().map(hedge).unwrap_or_default(),
        drain: options.drain.as_ref().map(drain).unwrap_or_default(),
        limits: options.limits.as_ref().map(limits).unwrap_or_default(),
    }
}

fn balance(options: &BalanceOptions) -> policy::Balance {
    match options.algorithm {
        None | Some(Algorithm::RoundRobin) => policy::Balance::RoundRobin,
        Some(Algorithm::LeastRequests) => policy::Balance::LeastRequests,
        Some(Algorithm::LeastTime) => policy::Balance::LeastTime,
        Some(Algorithm::Hash) => policy::Balance::Hash {
            key: options.hash.as_deref().map_or(HashKey::ClientAddress, hash_key),
            bound: options.bound.filter(|bound| *bound > 0),
        },
    }
}

/// `client`, `header:NAME` or `cookie:NAME`, as the schema has checked.
fn hash_key(text: &str) -> HashKey {
    match text.split_once(':') {
        Some(("header", name)) => HeaderName::from_str(name).map_or(HashKey::ClientAddress, HashKey::Header),
        Some(("cookie", name)) => HashKey::Cookie(name.into()),
        _ => HashKey::ClientAddress,
    }
}

/// `None` where servers are not checked, or can't be.
fn health_check(options: &HealthCheckOptions, warnings: &mut Vec<String>) -> Option<policy::HealthCheck> {
    if options.enabled != Some(true) {
        return None;
    }
    let default = policy::HealthCheck::default();
    let mode = match options.mode {
        None | Some(CheckMode::Http) => policy::CheckMode::Http,
        Some(CheckMode::Grpc) => policy::CheckMode::Grpc,
        Some(CheckMode::Tcp | CheckMode::Redis) => policy::CheckMode::Tcp,
    };
    let exchange = match options.mode {
        Some(CheckMode::Redis) => policy::TcpExchange::redis(),
        _ => policy::TcpExchange {
            send: options.send.as_deref().unwrap_or_default().as_bytes().into(),
            expect: options.expect.as_deref().unwrap_or_default().as_bytes().into(),
        },
    };
    let path = match path(options.path.as_deref().unwrap_or_default(), mode) {
        Ok(path) => path,
        Err(problem) => {
            warnings.push(format!("healthCheck.path {problem}; its servers are not checked"));
            return None;
        }
    };
    let interval = options.interval.map_or(default.interval, |Time(time)| time);
    Some(policy::HealthCheck {
        mode,
        path,
        method: method(options.method.as_deref(), warnings),
        scheme: match options.scheme {
            None | Some(CheckScheme::Server) => None,
            Some(CheckScheme::Http) => Some(Scheme::Http),
            Some(CheckScheme::Https) => Some(Scheme::Https),
        },
        port: options.port.filter(|port| *port > 0),
        hostname: hostname(options.hostname.as_deref(), warnings),
        headers: headers(options, warnings),
        status: options
            .status
            .and_then(|status| http::StatusCode::from_u16(status).ok()),
        follow_redirects: options.follow_redirects.unwrap_or(default.follow_redirects),
        exchange,
        interval,
        unhealthy_interval: limit(options.unhealthy_interval)
            .map_or(interval, |time| time.max(Duration::from_millis(100))),
        timeout: options.timeout.map_or(default.timeout, |Time(time)| time),
        healthy_threshold: options.healthy_threshold.unwrap_or(default.healthy_threshold),
        unhealthy_threshold: options.unhealthy_threshold.unwrap_or(default.unhealthy_threshold),
    })
}

fn path(text: &str, mode: policy::CheckMode) -> Result<Box<str>, String> {
    if mode != policy::CheckMode::Http {
        return Ok(text.into());
    }
    if text.contains("://") || text.starts_with("//") {
        return Err(format!(
            "{text:?} names a host: write the path alone, such as /health"
        ));
    }
    let rooted = if text.starts_with('/') {
        text.to_owned()
    } else {
        format!("/{text}")
    };
    match http::uri::PathAndQuery::from_str(&rooted) {
        Ok(_) if !rooted.contains('#') => Ok(rooted.into()),
        _ => Err(format!(
            "{text:?} is not a path: write one such as /health, with other characters than letters, digits and \
             -._~/?=& percent-encoded"
        )),
    }
}

fn method(text: Option<&str>, warnings: &mut Vec<String>) -> Method {
    let text = text.unwrap_or("GET").to_ascii_uppercase();
    Method::from_str(&text).unwrap_or_else(|_| {
        warnings.push(format!(
            "healthCheck.method {text:?} is not a request method: GET is used"
        ));
        Method::GET
    })
}

fn hostname(text: Option<&str>, warnings: &mut Vec<String>) -> Option<Box<str>> {
    let text = text.filter(|text| !text.is_empty())?;
    if http::uri::Authority::from_str(text).is_ok_and(|authority| !authority.as_str().contains('@')) {
        return Some(text.into());
    }
    warnings.push(format!(
        "healthCheck.hostname {text:?} is not a host name: the server's is used"
    ));
    None
}

fn headers(options: &HealthCheckOptions, warnings: &mut Vec<String>) -> Vec<(HeaderName, HeaderValue)> {
    let given = options.headers.iter().flatten();
    let parsed =
        given.filter_map(
            |(name, value)| match (HeaderName::from_str(name), HeaderValue::from_str(value)) {
                (Ok(name), Ok(value)) => Some((name, value)),
                _ => {
                    warnings.push(format!(
                        "healthCheck.headers: {name:?} or its value can't stand in a request: it is left out"
                    ));
                    None
                }
            },
        );
    parsed.collect()
}

/// `None` where it is off; `default` says what keys that are left out mean.
fn error_rate(options: Option<&ErrorRateOptions>, on_by_default: bool) -> Option<policy::ErrorRate> {
    let default = policy::ErrorRate::default();
    let Some(options) = options else {
        return on_by_default.then_some(default);
    };
    options
        .enabled
        .unwrap_or(on_by_default)
        .then(|| policy::ErrorRate {
            percent: options.percent.unwrap_or(default.percent),
            window: options.window.map_or(default.window, |Time(time)| time),
            min_requests: options.min_requests.unwrap_or(default.min_requests),
        })
}

fn count(number: Option<u32>, default: Option<u32>) -> Option<u32> {
    number.map_or(default, |number| (number > 0).then_some(number))
}

fn limit(time: Option<Time>) -> Option<Duration> {
    time.map(|Time(time)| time).filter(|time| !time.is_zero())
}

fn outlier(options: &OutlierOptions) -> policy::Outlier {
    let default = policy::Outlier::default();
    let on = options.enabled.unwrap_or(true);
    let ejection = options.ejection.map_or(default.ejection, |Time(time)| time);
    let max_ejection = options
        .max_ejection
        .map_or(default.max_ejection, |Time(time)| time);
    policy::Outlier {
        connect_failures: on && options.connect_failures.unwrap_or(default.connect_failures),
        consecutive_failures: count(options.consecutive_failures, default.consecutive_failures)
            .filter(|_| on),
        failure_window: limit(options.failure_window),
        error_rate: error_rate(options.error_rate.as_ref(), default.error_rate.is_some()).filter(|_| on),
        ejection,
        max_ejection: max_ejection.max(ejection),
        unanswered: on && options.unanswered.unwrap_or(default.unanswered),
    }
}

fn breaker(options: &BreakerOptions) -> policy::Breaker {
    let default = policy::Breaker::default();
    let on = options.enabled.unwrap_or(true);
    policy::Breaker {
        consecutive_failures: count(options.consecutive_failures, default.consecutive_failures)
            .filter(|_| on),
        error_rate: error_rate(options.error_rate.as_ref(), default.error_rate.is_some()).filter(|_| on),
        open: options.open.map_or(default.open, |Time(time)| time),
        successes: options.successes.unwrap_or(default.successes),
    }
}

fn retry(options: &RetryOptions) -> policy::Retry {
    let default = policy::Retry::default();
    let on = options.enabled.unwrap_or(true);
    let backoff = options.backoff.map_or(default.backoff, |Time(time)| time);
    let max_backoff = options.max_backoff.map_or(default.max_backoff, |Time(time)| time);
    policy::Retry {
        attempts: if on {
            options
                .attempts
                .map_or(default.attempts, |attempts| (attempts > 0).then_some(attempts))
        } else {
            Some(1)
        },
        statuses: options
            .statuses
            .as_ref()
            .map_or(default.statuses, |statuses| statuses.iter().copied().collect()),
        per_try: limit(options.per_try_timeout),
        total: limit(options.timeout),
        backoff,
        max_backoff: max_backoff.max(backoff),
        budget_percent: options.budget_percent.unwrap_or(default.budget_percent),
        budget_min: options.budget_min.unwrap_or(default.budget_min),
        replay_bytes: options.replay_bytes.map_or(default.replay_bytes, |bytes| bytes.0),
        idempotency_key: options.idempotency_key.unwrap_or(default.idempotency_key),
    }
}

fn hedge(options: &HedgeOptions) -> policy::Hedge {
    let default = policy::Hedge::default();
    let on = options.enabled.unwrap_or(true);
    policy::Hedge {
        percentile: options.percentile.filter(|percentile| on && *percentile > 0),
        min_delay: options.min_delay.map_or(default.min_delay, |Time(time)| time),
        unanswered: on && options.unanswered.unwrap_or(default.unanswered),
    }
}

fn drain(options: &DrainOptions) -> policy::Drain {
    let default = policy::Drain::default();
    policy::Drain {
        requests: options.requests.map_or(default.requests, |Time(time)| time),
        upgraded: options.upgraded.map_or(default.upgraded, |Time(time)| time),
    }
}

fn limits(options: &LimitOptions) -> policy::ServiceLimits {
    let default = policy::ServiceLimits::default();
    policy::ServiceLimits {
        max_in_flight: count(options.max_in_flight, default.max_in_flight),
        queue: options.queue.unwrap_or(default.queue),
        queue_timeout: options
            .queue_timeout
            .map_or(default.queue_timeout, |Time(time)| time),
        max_body_bytes: options
            .max_body_bytes
            .map_or(default.max_body_bytes, |bytes| (bytes.0 > 0).then_some(bytes.0)),
    }
}

#[cfg(test)]
mod tests;
