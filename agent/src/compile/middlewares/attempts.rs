//! Middlewares that say how often a request is tried, and when its body goes on.

use std::time::Duration;

use constellation_config::{duration, dynamic};
use constellation_middleware::{Buffering, Kind, Retry, Retrying, Statuses};

/// Longest pause between two attempts.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);

/// Builds one of these; `None` when it is another kind.
pub(super) fn build(
    definition: &dynamic::Middleware,
    warnings: &mut Vec<String>,
) -> Option<Result<Kind, String>> {
    if let Some(options) = &definition.buffering {
        return Some(buffering(options));
    }
    definition.retry.as_ref().map(|options| retry(options, warnings))
}

fn buffering(options: &dynamic::Buffering) -> Result<Kind, String> {
    Buffering::new(
        options.max_request_body_bytes,
        options.max_response_body_bytes,
        &options.retry_expression,
    )
    .map(Kind::Buffering)
}

fn retry(options: &dynamic::Retry, warnings: &mut Vec<String>) -> Result<Kind, String> {
    let read = |option: &str, text: &Option<String>| match text {
        None => Ok(Duration::ZERO),
        Some(text) => duration::parse(text)
            .ok_or_else(|| format!("{option} is {text:?}: write a duration such as 100ms, not negative")),
    };
    let initial_interval = read("initialInterval", &options.initial_interval)?;
    if initial_interval > LONGEST_INTERVAL {
        return Err(format!(
            "initialInterval is {}: write at most {}",
            duration::format(initial_interval),
            duration::format(LONGEST_INTERVAL)
        ));
    }
    let timeout = read("timeout", &options.timeout)?;
    let retrying = Retrying {
        attempts: 1,
        initial_interval,
        timeout: (!timeout.is_zero()).then_some(timeout),
        // Below zero: any, which is what the service's policy allows.
        max_body: options
            .max_request_body_bytes
            .and_then(|bytes| u64::try_from(bytes).ok()),
        statuses: Statuses::new("status", &options.status)?,
        on_network_error: !options.disable_retry_on_network_error,
        non_idempotent: options.retry_non_idempotent_method,
    };
    Retry::new(options.attempts, retrying, warnings).map(Kind::Retry)
}
