//! Middlewares that limit how much a service gets, and what becomes of a request that fails.

use super::{ClientTls, Confidential, SourceCriterion, options};

options! {
/// `rateLimit`.
pub struct RateLimit {
    /// Requests in a `period`; 0: no limit.
    pub average: i64,
    /// Default 1s.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub period: Option<String>,
    /// Requests at once; default 1.
    pub burst: Option<i64>,
    /// Which requests are counted together.
    pub source_criterion: Option<SourceCriterion>,
    /// Not supported: counts in a Redis.
    pub redis: Option<Redis>,
}

/// `redis` of a `rateLimit`.
pub struct Redis {
    /// `HOST:PORT` each.
    pub endpoints: Vec<String>,
    /// TLS with it.
    pub tls: Option<ClientTls>,
    /// Name.
    pub username: String,
    /// Password.
    pub password: Confidential,
    /// Number of the database.
    pub db: i64,
    /// Connections.
    pub pool_size: i64,
    /// Connections that are kept.
    pub min_idle_conns: i64,
    /// Most connections.
    pub max_active_conns: i64,
    /// Default 3s.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub read_timeout: Option<String>,
    /// Default 3s.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub write_timeout: Option<String>,
    /// Default 5s.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub dial_timeout: Option<String>,
}

/// `inFlightReq`.
pub struct InFlightReq {
    /// Requests at once; 0 lets none in.
    pub amount: i64,
    /// Which requests are counted together.
    pub source_criterion: Option<SourceCriterion>,
}

/// `circuitBreaker`.
pub struct CircuitBreaker {
    /// When it opens.
    pub expression: String,
    /// How often that is checked; default 100ms.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub check_period: Option<String>,
    /// How long it stays open; default 10s.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub fallback_duration: Option<String>,
    /// How long it takes to close; default 10s.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub recovery_duration: Option<String>,
    /// What clients get while it is open; default 503.
    pub response_code: Option<i64>,
}

/// `buffering`.
pub struct Buffering {
    /// Largest body of a request, bytes; 0: any.
    pub max_request_body_bytes: i64,
    /// Most of it in memory, bytes; default 1 MiB.
    pub mem_request_body_bytes: Option<i64>,
    /// Largest body of a response, bytes; 0: any.
    pub max_response_body_bytes: i64,
    /// Most of it in memory, bytes; default 1 MiB.
    pub mem_response_body_bytes: Option<i64>,
    /// When a request is sent again.
    pub retry_expression: String,
}

/// `retry`.
pub struct Retry {
    /// Attempts, the first included.
    pub attempts: i64,
    /// First pause before a further attempt.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub initial_interval: Option<String>,
    /// Time for all attempts.
    #[schemars(extend("format" = "go-signed-duration"))]
    pub timeout: Option<String>,
    /// Largest body that is kept for further attempts, bytes; default -1: any.
    pub max_request_body_bytes: Option<i64>,
    /// Statuses, and ranges of them, that are tried again.
    pub status: Vec<String>,
    /// Whether a server that can't be reached is not tried again.
    pub disable_retry_on_network_error: bool,
    /// Whether methods that are not idempotent are tried again as well.
    pub retry_non_idempotent_method: bool,
}
}
