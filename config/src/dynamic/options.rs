//! The options of a service that Traefik has not: health, failover, limits.
//!
//! The same shape stands in three places: labels (`constellation.http.services.NAME...`), dynamic files
//! (`constellation: { http: { services: { NAME: ... } } }`) and, for all services, the static file (`serviceDefaults`).
//! What a service leaves out, the static file says, and then [`ServiceOptions::built_in`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layered::{Layered, options, over};
pub use crate::raw::{Bytes, Time};

/// The `constellation` section: what Traefik's documents have no place for. Leave it out of files that a Traefik reads
/// as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Extensions {
    /// Options of HTTP services.
    pub http: SectionExtensions,
    /// Options of TCP services.
    pub tcp: SectionExtensions,
    /// Options of UDP services.
    pub udp: SectionExtensions,
}

/// `constellation.http`, `constellation.tcp` and `constellation.udp`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SectionExtensions {
    /// By the name of the service, `NAME` or `NAME@PROVIDER`.
    pub services: BTreeMap<String, Arc<ServiceOptions>>,
}

options! {
/// Options of one service, or of all.
pub struct ServiceOptions {
    /// How servers take turns.
    pub balance: BalanceOptions,
    /// The circuit breaker of each server.
    pub breaker: BreakerOptions,
    /// How a server that leaves is let go.
    pub drain: DrainOptions,
    /// Active checks. On where Traefik's `healthCheck` or one of `enabled`, `mode` and `path` is given for the service;
    /// `false` switches them off.
    pub health_check: HealthCheckOptions,
    /// Second attempts while the first still runs; `false` switches them off.
    pub hedge: HedgeOptions,
    /// How much the service takes at once.
    pub limits: LimitOptions,
    /// What is learned from live traffic about each server; `false` switches it off.
    pub outlier: OutlierOptions,
    /// When fewer than this percentage of the servers are healthy, health is ignored and all are used; 0 to 100, 0: never, 1: when none is left.
    #[schemars(range(max = 100))]
    pub panic_threshold: u8,
    /// Second attempts at another server; `false` switches them off.
    pub retry: RetryOptions,
    /// A server that came back gets a share that grows from a tenth to the whole over this time, 0s to 1h; 0: at once.
    #[schemars(extend("x-least" = "0s", "x-most" = "1h"))]
    pub slow_start: Time,
}

/// `balance`.
pub struct BalanceOptions {
    /// `roundRobin` by weight, `leastRequests` (the less busy of two), `leastTime` (the lower expected wait of two), or `hash`.
    pub algorithm: Algorithm,
    /// With `hash`: most requests at one server in percent of the mean before others take some of its keys, 101 to 1000; 0: no bound.
    #[schemars(extend("format" = "load-bound"))]
    pub bound: u32,
    /// With `hash`: what is hashed: `client` (address), `header:NAME` or `cookie:NAME`; without that header or cookie, the address.
    #[schemars(extend("format" = "hash-key"))]
    pub hash: String,
}

/// `breaker`.
pub struct BreakerOptions {
    /// Failures in a row that open it, 0 to 1000; 0: never by count.
    #[schemars(range(max = 1000))]
    pub consecutive_failures: u32,
    /// Whether there is one.
    pub enabled: bool,
    /// Failure rate that opens it as well.
    pub error_rate: ErrorRateOptions,
    /// How long it stays open before one request is let through, 100ms to 1h.
    #[schemars(extend("x-least" = "100ms", "x-most" = "1h"))]
    pub open: Time,
    /// Successes in a row that close it, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub successes: u32,
}

/// `errorRate`.
pub struct ErrorRateOptions {
    /// Whether the rate counts.
    pub enabled: bool,
    /// Fewer requests than this in the window prove nothing, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_requests: u32,
    /// Failures in percent of requests, 1 to 100, at and above which it acts.
    #[schemars(range(min = 1, max = 100))]
    pub percent: u8,
    /// Time over which requests are counted, 1s to 10m.
    #[schemars(extend("x-least" = "1s", "x-most" = "10m"))]
    pub window: Time,
}

/// `drain`.
pub struct DrainOptions {
    /// How long running requests may go on, 0s to 24h.
    #[schemars(extend("x-least" = "0s", "x-most" = "24h"))]
    pub requests: Time,
    /// How long upgraded connections (WebSocket) may go on, 0s to 168h.
    #[schemars(extend("x-least" = "0s", "x-most" = "168h"))]
    pub upgraded: Time,
}

/// `healthCheck`.
pub struct HealthCheckOptions {
    /// Whether servers are checked.
    pub enabled: bool,
    /// In mode tcp: what the answer has to begin with, up to 4096 bytes; empty: no answer is waited for.
    #[schemars(length(max = 4096))]
    pub expect: String,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Further request headers.
    pub headers: BTreeMap<String, String>,
    /// Good checks in a row that make an unhealthy server healthy, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub healthy_threshold: u32,
    /// `Host` of the request instead of the server's.
    pub hostname: String,
    /// Time between two checks of a healthy server, 100ms to 1h.
    #[schemars(extend("x-least" = "100ms", "x-most" = "1h"))]
    pub interval: Time,
    /// Request method.
    #[schemars(extend("format" = "http-method"))]
    pub method: String,
    /// `http` asks for the path, `grpc` the health service of gRPC, `tcp` connects, sends `send` and waits for `expect`, `redis` sends `PING` and waits for `+PONG`.
    pub mode: CheckMode,
    /// Request target, starting with `/`; in mode grpc the name of the service asked for, empty for the whole server.
    pub path: String,
    /// Port instead of the server's, 0 to 65535; 0: the server's.
    pub port: u16,
    /// `http`, `https`, or `server` for the server's.
    pub scheme: CheckScheme,
    /// In mode tcp: what is sent once connected, up to 4096 bytes.
    #[schemars(length(max = 4096))]
    pub send: String,
    /// The one status that means healthy, 100 to 599; 0: 200 to 399.
    #[schemars(extend("format" = "check-status"))]
    pub status: u16,
    /// Time for one check, 1ms to 10m.
    #[schemars(extend("x-least" = "1ms", "x-most" = "10m"))]
    pub timeout: Time,
    /// Time between two checks of an unhealthy server, up to 1h, and not less than 100ms; 0: `interval`.
    #[schemars(extend("x-least" = "0s", "x-most" = "1h"))]
    pub unhealthy_interval: Time,
    /// Bad checks in a row that make a healthy server unhealthy, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_threshold: u32,
}

/// `hedge`.
pub struct HedgeOptions {
    /// Whether there are any.
    pub enabled: bool,
    /// Never before this, 0s to 1h.
    #[schemars(extend("x-least" = "0s", "x-most" = "1h"))]
    pub min_delay: Time,
    /// A GET or HEAD that takes longer than this percentile of the service's latency is sent to a second server, 50 to 99; 0: a slow request is only slow.
    #[schemars(extend("format" = "percentile"))]
    pub percentile: u8,
    /// Send repeatable requests that wait at a server which leaves everything unanswered to another one as well.
    pub unanswered: bool,
}

/// `limits`.
pub struct LimitOptions {
    /// Largest request body, up to 1TiB; 0: the entry point's limit alone; 413 past it.
    #[schemars(extend("x-most" = "1TiB"))]
    pub max_body_bytes: Bytes,
    /// Requests at the servers at once, 0 to 10000000; 0: no limit.
    #[schemars(range(max = 10_000_000))]
    pub max_in_flight: u32,
    /// Requests that may wait for a place, 0 to 1000000; 503 with `Retry-After` past it.
    #[schemars(range(max = 1_000_000))]
    pub queue: u32,
    /// How long a request waits for a place before it gets 503, 1ms to 10m.
    #[schemars(extend("x-least" = "1ms", "x-most" = "10m"))]
    pub queue_timeout: Time,
}

/// `outlier`.
pub struct OutlierOptions {
    /// Whether a failed connect puts a server aside at once.
    pub connect_failures: bool,
    /// Failures in a row that put a server aside, 0 to 1000; 0: left to the breaker.
    #[schemars(range(max = 1000))]
    pub consecutive_failures: u32,
    /// How long a server is put aside the first time, 100ms to 1h; doubles each time.
    #[schemars(extend("x-least" = "100ms", "x-most" = "1h"))]
    pub ejection: Time,
    /// Whether anything is learned.
    pub enabled: bool,
    /// Failure rate that puts a server aside.
    pub error_rate: ErrorRateOptions,
    /// Failures further apart than this don't add up, 0s to 1h; 0: they always do.
    #[schemars(extend("x-least" = "0s", "x-most" = "1h"))]
    pub failure_window: Time,
    /// Longest time a server is put aside, 100ms to 24h.
    #[schemars(extend("x-least" = "100ms", "x-most" = "24h"))]
    pub max_ejection: Time,
    /// Whether a server that leaves requests unanswered while others answer is put aside.
    pub unanswered: bool,
}

/// `retry`.
pub struct RetryOptions {
    /// Attempts at one request, the first included, 0 to 16; 0: as many as there are servers.
    #[schemars(range(max = 16))]
    pub attempts: u8,
    /// First pause before a further attempt, 0s to 1m; it doubles, and a random part of it is used.
    #[schemars(extend("x-least" = "0s", "x-most" = "1m"))]
    pub backoff: Time,
    /// Attempts that may go wasted whatever the number of requests, 0 to 1000000.
    #[schemars(range(max = 1_000_000))]
    pub budget_min: u32,
    /// Attempts that may go wasted, in percent of the requests, 0 to 100.
    #[schemars(range(max = 100))]
    pub budget_percent: u8,
    /// Whether there are any.
    pub enabled: bool,
    /// Whether the header `Idempotency-Key` makes any method repeatable.
    pub idempotency_key: bool,
    /// Longest pause before a further attempt, 0s to 1m.
    #[schemars(extend("x-least" = "0s", "x-most" = "1m"))]
    pub max_backoff: Time,
    /// Time from the request sent to the head of the response for each attempt, 0s to 1h; then the next begins. 0: no limit.
    #[schemars(extend("x-least" = "0s", "x-most" = "1h"))]
    pub per_try_timeout: Time,
    /// Most bytes of a request body that are kept for another attempt, up to 1GiB.
    #[schemars(extend("x-most" = "1GiB"))]
    pub replay_bytes: Bytes,
    /// Statuses of a response that are tried again elsewhere: 500 to 599, 429, and for a single service also 403.
    #[schemars(schema_with = "retry_statuses")]
    pub statuses: Vec<u16>,
    /// Time for all attempts together up to the head of the response, 0s to 24h; 0: no limit.
    #[schemars(extend("x-least" = "0s", "x-most" = "24h"))]
    pub timeout: Time,
}
}

/// `balance.algorithm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Algorithm {
    /// Smooth weighted round robin.
    RoundRobin,
    /// The less busy of two.
    LeastRequests,
    /// The one of two with the lower expected wait.
    LeastTime,
    /// The same key to the same server.
    Hash,
}

/// `healthCheck.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CheckMode {
    /// An HTTP request.
    Http,
    /// `grpc.health.v1.Health/Check`.
    Grpc,
    /// A TCP connection.
    Tcp,
    /// `PING` of a Redis.
    Redis,
}

/// `healthCheck.scheme`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CheckScheme {
    /// The server's.
    Server,
    /// Clear text.
    Http,
    /// TLS.
    Https,
}

impl Layered for Algorithm {}
impl Layered for CheckMode {}
impl Layered for CheckScheme {}

fn retry_statuses(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let item = serde_json::json!({"type": "integer", "format": "retry-status"});
    schemars::json_schema!({"type": ["array", "null"], "items": item})
}

impl ServiceOptions {
    /// What applies where nobody says anything: a complete set.
    pub fn built_in() -> Self {
        let seconds = |seconds| Some(Time(Duration::from_secs(seconds)));
        let millis = |millis| Some(Time(Duration::from_millis(millis)));
        let error_rate = |enabled| {
            Some(ErrorRateOptions {
                enabled: Some(enabled),
                min_requests: Some(20),
                percent: Some(50),
                window: seconds(10),
            })
        };
        Self {
            balance: Some(BalanceOptions {
                algorithm: Some(Algorithm::RoundRobin),
                bound: Some(0),
                hash: Some("client".to_owned()),
            }),
            breaker: Some(BreakerOptions {
                consecutive_failures: Some(5),
                enabled: Some(true),
                error_rate: error_rate(false),
                open: seconds(30),
                successes: Some(2),
            }),
            drain: Some(DrainOptions {
                requests: seconds(30),
                upgraded: seconds(600),
            }),
            health_check: Some(HealthCheckOptions {
                enabled: Some(false),
                expect: Some(String::new()),
                follow_redirects: Some(true),
                headers: Some(BTreeMap::new()),
                healthy_threshold: Some(1),
                hostname: Some(String::new()),
                interval: seconds(30),
                method: Some("GET".to_owned()),
                mode: Some(CheckMode::Http),
                path: Some(String::new()),
                port: Some(0),
                scheme: Some(CheckScheme::Server),
                send: Some(String::new()),
                status: Some(0),
                timeout: seconds(5),
                unhealthy_interval: seconds(0),
                unhealthy_threshold: Some(2),
            }),
            hedge: Some(HedgeOptions {
                enabled: Some(true),
                min_delay: millis(10),
                percentile: Some(0),
                unanswered: Some(true),
            }),
            limits: Some(LimitOptions {
                max_body_bytes: Some(Bytes(0)),
                max_in_flight: Some(0),
                queue: Some(100),
                queue_timeout: seconds(5),
            }),
            outlier: Some(OutlierOptions {
                connect_failures: Some(true),
                consecutive_failures: Some(0),
                ejection: seconds(2),
                enabled: Some(true),
                error_rate: error_rate(true),
                failure_window: seconds(0),
                max_ejection: seconds(60),
                unanswered: Some(true),
            }),
            panic_threshold: Some(1),
            retry: Some(RetryOptions {
                attempts: Some(0),
                backoff: millis(25),
                budget_min: Some(3),
                budget_percent: Some(10),
                enabled: Some(true),
                idempotency_key: Some(true),
                max_backoff: millis(250),
                per_try_timeout: seconds(0),
                replay_bytes: Some(Bytes(1 << 20)),
                statuses: Some(vec![502, 503, 504]),
                timeout: seconds(0),
            }),
            slow_start: seconds(10),
        }
    }
}
