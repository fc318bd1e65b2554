//! Where an endpoint stands, with the evidence: for `explain`, the API and the command line.

use std::fmt::{Display, Formatter, Result};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Live, check, facts};
use crate::{Exclusion, Policy};

/// All facts about an endpoint as of one moment. `Display` says what is remarkable, in one line; nothing of an endpoint
/// that was never used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// The fact that keeps it from taking requests; `probation` means one request at a time.
    pub excluded: Option<Exclusion>,
    /// It is used although a fact speaks against it, because too few endpoints are healthy.
    pub panic: bool,
    /// How much of its weight it has, in percent: less than 100 while it is eased in.
    pub share_percent: u32,
    /// Requests at it now.
    pub in_flight: u32,
    /// A probe is under way.
    pub probed: bool,
    /// Response heads it has given.
    pub answers: u64,
    /// Moving average of the latency of good answers, in microseconds.
    pub latency_us: Option<u64>,
    /// Attempts that failed.
    pub failures: u64,
    /// The last of them.
    pub last_failure: Option<LastFailure>,
    /// Requests in the window of outlier detection, and how many of them failed.
    pub window: Option<WindowCounts>,
    /// What the active checks say.
    pub check: CheckState,
    /// What live traffic says.
    pub outlier: OutlierState,
    /// The circuit breaker.
    pub breaker: BreakerState,
}

/// The last attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastFailure {
    /// What happened.
    pub reason: String,
    /// How long ago, in milliseconds.
    pub ago_ms: u64,
}

/// What the window of outlier detection holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowCounts {
    /// Requests that failed.
    pub failed: u32,
    /// All requests.
    pub total: u32,
}

/// What the active checks say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "state")]
pub enum CheckState {
    /// There are none.
    Off,
    /// No result yet that would settle it; usable.
    Unknown {
        /// Why the last one was bad.
        reason: Option<String>,
    },
    /// They succeed.
    Healthy {
        /// When the last one was, in milliseconds before now.
        ago_ms: u64,
        /// Why the last one was bad all the same.
        reason: Option<String>,
    },
    /// They fail.
    Unhealthy {
        /// When the last one was, in milliseconds before now.
        ago_ms: u64,
        /// Why the last one was bad; `None`: it was good, and too few were.
        reason: Option<String>,
    },
}

/// What live traffic says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "state")]
pub enum OutlierState {
    /// Nothing against it.
    Healthy,
    /// It takes no requests.
    Ejected {
        /// Why.
        reason: String,
        /// When that was, in milliseconds before now.
        ago_ms: u64,
        /// How long from now, in milliseconds.
        left_ms: u64,
        /// Ejections in a row, this one included.
        times: u32,
    },
    /// It takes one request at a time.
    Probation {
        /// Why it was ejected.
        reason: String,
        /// When that was, in milliseconds before now.
        ago_ms: u64,
        /// Ejections in a row, that one included.
        times: u32,
    },
}

/// The circuit breaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "state")]
pub enum BreakerState {
    /// Nothing can open it.
    Off,
    /// Requests pass.
    Closed {
        /// Failures in a row.
        failures: u32,
    },
    /// No requests pass.
    Open {
        /// Why.
        reason: String,
        /// When that was, in milliseconds before now.
        ago_ms: u64,
        /// How long from now, in milliseconds.
        left_ms: u64,
    },
    /// One request at a time passes.
    HalfOpen {
        /// Why it was opened.
        reason: String,
        /// When that was, in milliseconds before now.
        ago_ms: u64,
        /// Requests that succeeded.
        successes: u32,
        /// As many close it.
        needed: u32,
    },
}

impl Live {
    /// All facts, with the evidence, under what the view says of the endpoint.
    pub(crate) fn standing(
        &self,
        policy: &Policy,
        excluded: Option<Exclusion>,
        panic: bool,
        now: Instant,
    ) -> Standing {
        let at = self.nanoseconds(now);
        let window = self.windows.first().and_then(|window| window.get());
        let facts = self.facts();
        Standing {
            excluded,
            panic: panic && !facts.is_clear(policy),
            share_percent: facts.share(policy.slow_start, now).0 * 10,
            in_flight: self.in_flight(),
            probed: self.is_probed(),
            answers: self.answers(),
            latency_us: self
                .latency()
                .map(|latency| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)),
            failures: facts.failures,
            last_failure: facts.last_failure.map(|(cause, at)| LastFailure {
                reason: cause.to_string(),
                ago_ms: between(at, now),
            }),
            window: window
                .zip(policy.outlier.error_rate.as_ref())
                .map(|(window, rate)| {
                    let rate = window.rate(rate.window, at);
                    WindowCounts {
                        failed: rate.failed,
                        total: rate.total,
                    }
                }),
            check: CheckState::of(&facts.check, policy, now),
            outlier: OutlierState::of(&facts.outlier, now),
            breaker: BreakerState::of(&facts.breaker, policy, now),
        }
    }
}

/// Milliseconds from `earlier` to `later`; 0 when they are the other way round.
fn between(earlier: Instant, later: Instant) -> u64 {
    u64::try_from(later.saturating_duration_since(earlier).as_millis()).unwrap_or(u64::MAX)
}

impl CheckState {
    fn of(check: &check::Check, policy: &Policy, now: Instant) -> Self {
        let ago_ms = check.last.as_ref().map_or(0, |(at, _)| between(*at, now));
        let reason = check.reason().map(str::to_owned);
        match check.state {
            _ if policy.health_check.is_none() => Self::Off,
            check::CheckState::Unknown => Self::Unknown { reason },
            check::CheckState::Healthy => Self::Healthy { ago_ms, reason },
            check::CheckState::Unhealthy => Self::Unhealthy { ago_ms, reason },
        }
    }
}

impl OutlierState {
    fn of(outlier: &super::outlier::Outlier, now: Instant) -> Self {
        let Some(ejected) = outlier.ejected else {
            return Self::Healthy;
        };
        let reason = ejected.cause.to_string();
        let (ago_ms, times) = (between(ejected.since, now), ejected.times);
        if now < ejected.until {
            let left_ms = between(now, ejected.until);
            Self::Ejected {
                reason,
                ago_ms,
                left_ms,
                times,
            }
        } else {
            Self::Probation {
                reason,
                ago_ms,
                times,
            }
        }
    }
}

impl BreakerState {
    fn of(breaker: &super::breaker::Breaker, policy: &Policy, now: Instant) -> Self {
        let Some(open) = breaker.open.filter(|_| facts::is_on(&policy.breaker)) else {
            return if facts::is_on(&policy.breaker) {
                Self::Closed {
                    failures: breaker.run.count,
                }
            } else {
                Self::Off
            };
        };
        let (reason, ago_ms) = (open.cause.to_string(), between(open.since, now));
        if now < open.until {
            let left_ms = between(now, open.until);
            Self::Open {
                reason,
                ago_ms,
                left_ms,
            }
        } else {
            Self::HalfOpen {
                reason,
                ago_ms,
                successes: open.successes,
                needed: policy.breaker.successes.max(1),
            }
        }
    }
}

impl Display for Standing {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut parts = Vec::new();
        if self.panic {
            parts.push("used because too few are healthy".to_owned());
        }
        parts.extend(self.check.words());
        parts.extend(self.outlier.words());
        parts.extend(self.breaker.words());
        if self.probed {
            parts.push("a probe is under way".to_owned());
        }
        if self.share_percent < 100 {
            parts.push(format!("eased in with {} % of its weight", self.share_percent));
        }
        if self.in_flight > 0 {
            parts.push(format!("{} in flight", self.in_flight));
        }
        if self.answers > 0 {
            parts.push(format!("{} answers", self.answers));
        }
        if let Some(latency) = self.latency_us {
            parts.push(format!("latency {}", length(Duration::from_micros(latency))));
        }
        if let Some(LastFailure { reason, ago_ms }) = &self.last_failure {
            parts.push(format!(
                "{} failures, the last {} ago: {reason}",
                self.failures,
                millis(*ago_ms)
            ));
        }
        f.write_str(&parts.join("; "))
    }
}

impl CheckState {
    fn words(&self) -> Option<String> {
        let but = |reason: &Option<String>| {
            let reason = reason.as_ref()?;
            Some(format!(", but the last one failed: {reason}"))
        };
        match self {
            Self::Off | Self::Unknown { reason: None } => None,
            Self::Unknown { reason: Some(reason) } => Some(format!("the last health check failed: {reason}")),
            Self::Healthy { ago_ms, reason } => Some(format!(
                "health checks succeed (last {} ago{})",
                millis(*ago_ms),
                but(reason).unwrap_or_default()
            )),
            Self::Unhealthy { ago_ms, reason } => Some(format!(
                "health checks fail (last {} ago: {})",
                millis(*ago_ms),
                reason.as_deref().unwrap_or("good, and more must follow")
            )),
        }
    }
}

impl OutlierState {
    fn words(&self) -> Option<String> {
        match self {
            Self::Healthy => None,
            Self::Ejected {
                reason,
                ago_ms,
                left_ms,
                ..
            } => Some(format!(
                "ejected {} ago for another {}: {reason}",
                millis(*ago_ms),
                millis(*left_ms)
            )),
            Self::Probation { reason, ago_ms, .. } => {
                Some(format!("on probation, ejected {} ago: {reason}", millis(*ago_ms)))
            }
        }
    }
}

impl BreakerState {
    fn words(&self) -> Option<String> {
        match self {
            Self::Off | Self::Closed { .. } => None,
            Self::Open {
                reason,
                ago_ms,
                left_ms,
            } => Some(format!(
                "breaker opened {} ago for another {}: {reason}",
                millis(*ago_ms),
                millis(*left_ms)
            )),
            Self::HalfOpen {
                reason,
                ago_ms,
                successes,
                needed,
            } => Some(format!(
                "breaker half open with {successes} of {needed} successes, opened {} ago: {reason}",
                millis(*ago_ms)
            )),
        }
    }
}

fn millis(milliseconds: u64) -> String {
    length(Duration::from_millis(milliseconds))
}

/// A length of time, to three places or so.
fn length(of: Duration) -> String {
    match of.as_micros() {
        0..1_000 => format!("{} us", of.as_micros()),
        1_000..1_000_000 => format!("{} ms", of.as_millis()),
        1_000_000..100_000_000 => format!("{:.1} s", of.as_secs_f64()),
        _ => format!("{} s", of.as_secs()),
    }
}
