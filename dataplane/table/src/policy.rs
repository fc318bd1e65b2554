//! What an operator can say about a service's health, balancing, failover and limits, with the defaults.
//!
//! Pure data: `compile` fills it in, the routing core and the data plane read it. Durations are wall-clock lengths on
//! the monotonic clock.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use smallvec::SmallVec;

/// Everything that shapes how a service uses its endpoints.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// How endpoints take turns.
    pub balance: Balance,
    /// How endpoints that are farther away stand in for the nearest.
    pub groups: Groups,
    /// Keeps a client at its endpoint by a cookie.
    pub sticky: Option<StickyCookie>,
    /// Active checks; `None`: endpoints are not asked.
    pub health_check: Option<HealthCheck>,
    /// What is learned from live traffic.
    pub outlier: Outlier,
    /// The circuit breaker of each endpoint.
    pub breaker: Breaker,
    /// When too few endpoints are left, inferred health is ignored.
    pub panic: Panic,
    /// How an endpoint that came back is eased in.
    pub slow_start: SlowStart,
    /// Second attempts.
    pub retry: Retry,
    /// Second attempts while the first still runs.
    pub hedge: Hedge,
    /// How an endpoint that leaves is let go.
    pub drain: Drain,
    /// How much the service takes at once.
    pub limits: ServiceLimits,
}

/// How endpoints take turns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Smooth weighted round robin (Traefik `wrr`).
    #[default]
    RoundRobin,
    /// The less busy of two drawn by weight (Traefik `p2c`).
    LeastRequests,
    /// The one of two drawn by weight with the lower expected wait: EWMA of latency times requests in flight
    /// (Traefik `leasttime`).
    LeastTime,
    /// The same key goes to the same endpoint, with minimal movement on change (Traefik `hrw` with the client's address).
    Hash {
        /// What is hashed.
        key: HashKey,
        /// Most load of one endpoint in percent of the mean before its keys overflow to their next choice, 101 to
        /// 1,000; `None`: unbounded.
        bound: Option<u32>,
    },
}

/// What consistent hashing hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    ClientAddress,
    /// A request header; without it, the client's address.
    Header(HeaderName),
    /// A cookie; without it, the client's address.
    Cookie(Box<str>),
}

/// How groups of endpoints stand in for each other: those on this node, then those in its region, then by priority
/// ([`crate::Locality`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// `None`: the nearest group that can serve takes everything. A number, 100 to 1,000: a group takes everything only
    /// as long as its healthy weight times this percentage covers its whole weight, and less than that in
    /// proportion; the next group takes the rest. 140 lets a group lose two sevenths before the next one helps out.
    pub overprovisioning: Option<u32>,
}

/// Traefik's sticky cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickyCookie {
    /// Its name; compile derives one where none is given.
    pub name: Box<str>,
    /// `Secure`.
    pub secure: bool,
    /// `HttpOnly`.
    pub http_only: bool,
    /// `SameSite`: `none`, `lax`, `strict`; `None` leaves it out.
    pub same_site: Option<SameSite>,
    /// `Max-Age` in seconds; 0 leaves it out (a session cookie), below 0 is sent as 0 (deletes the cookie at once).
    pub max_age: i64,
    /// `Path`.
    pub path: Box<str>,
    /// `Domain`; `None` leaves it out.
    pub domain: Option<Box<str>>,
}

/// `SameSite` of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// `SameSite=None`.
    None,
    /// `SameSite=Lax`.
    Lax,
    /// `SameSite=Strict`.
    Strict,
}

/// Active health checks: Traefik's options, plus `tcp` and thresholds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub mode: CheckMode,
    /// Request target, starting with `/`. In gRPC mode the name of the service asked for; empty, or with a leading `/`:
    /// the whole server.
    pub path: Box<str>,
    /// Request method.
    pub method: Method,
    /// `http` or `https` instead of the endpoint's scheme.
    pub scheme: Option<crate::Scheme>,
    /// Port instead of the endpoint's.
    pub port: Option<u16>,
    /// `Host` header instead of the endpoint's. TLS goes by the transport, as requests do.
    pub hostname: Option<Box<str>>,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The status that means healthy; `None`: 200 to 399.
    pub status: Option<StatusCode>,
    /// Whether redirects are followed (up to ten).
    pub follow_redirects: bool,
    /// In mode `tcp`: what is said and heard once connected.
    pub exchange: TcpExchange,
    /// Between two checks of a healthy endpoint, 100 ms to 1 h. Jitter of up to 10 % is taken off.
    pub interval: Duration,
    /// Between two checks of an unhealthy endpoint.
    pub unhealthy_interval: Duration,
    /// One check, from connect to the status.
    pub timeout: Duration,
    /// Good checks in a row that make an unhealthy endpoint healthy, 1 to 100.
    pub healthy_threshold: u32,
    /// Bad checks in a row that make a healthy endpoint unhealthy, 1 to 100. The second and later ones follow within a
    /// second.
    pub unhealthy_threshold: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            mode: CheckMode::Http,
            path: "/".into(),
            method: Method::GET,
            scheme: None,
            port: None,
            hostname: None,
            headers: Vec::new(),
            status: None,
            follow_redirects: true,
            exchange: TcpExchange::default(),
            interval: Duration::from_secs(30),
            unhealthy_interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            healthy_threshold: 1,
            unhealthy_threshold: 2,
        }
    }
}

/// What an active check asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckMode {
    /// An HTTP request.
    #[default]
    Http,
    /// `grpc.health.v1.Health/Check`.
    Grpc,
    /// That a TCP connection can be made, and what [`HealthCheck::exchange`] asks for is answered.
    Tcp,
}

/// What a TCP check says and wants to hear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpExchange {
    /// Sent once connected; empty: nothing.
    pub send: Box<[u8]>,
    /// What the answer begins with; empty: none is waited for.
    pub expect: Box<[u8]>,
}

impl TcpExchange {
    /// `PING` and `+PONG`. A Redis that wants a password answers something else: name its answer with `expect` there.
    pub fn redis() -> Self {
        Self {
            send: (*b"PING\r\n").into(),
            expect: (*b"+PONG").into(),
        }
    }
}

/// What is learned from live traffic (passive health).
#[derive(Clone, Debug, PartialEq)]
pub struct Outlier {
    /// A failed connect ejects at once. Default true.
    pub connect_failures: bool,
    /// Failures in a row that eject; `None` leaves that to the breaker.
    pub consecutive_failures: Option<u32>,
    /// Traefik's `passiveHealthCheck.failureWindow`: failures further apart than this do not add up.
    pub failure_window: Option<Duration>,
    /// Failure rate that ejects.
    pub error_rate: Option<ErrorRate>,
    /// First ejection; doubles each time up to `max_ejection`, and one good answer after it starts anew.
    pub ejection: Duration,
    /// Longest ejection.
    pub max_ejection: Duration,
    /// Ejects an endpoint that leaves requests unanswered while its siblings answer. Default true.
    pub unanswered: bool,
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            connect_failures: true,
            consecutive_failures: None,
            failure_window: None,
            error_rate: Some(ErrorRate::default()),
            ejection: Duration::from_secs(2),
            max_ejection: Duration::from_secs(60),
            unanswered: true,
        }
    }
}

/// A rate of failures over a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorRate {
    /// Failures in percent of requests, 1 to 100, at and above which it acts. Default 50.
    pub percent: u8,
    /// The window, 1 s to 10 min. Default 10 s.
    pub window: Duration,
    /// Fewer requests than this in the window prove nothing. Default 20.
    pub min_requests: u32,
}

impl Default for ErrorRate {
    fn default() -> Self {
        Self {
            percent: 50,
            window: Duration::from_secs(10),
            min_requests: 20,
        }
    }
}

/// The circuit breaker of each endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    /// Failures in a row that open it; `None`: never by count. Default 5.
    pub consecutive_failures: Option<u32>,
    /// Failure rate that opens it. Default none.
    pub error_rate: Option<ErrorRate>,
    /// How long it stays open before one probe is let through. Default 30 s.
    pub open: Duration,
    /// Successes of probes in a row that close it. Default 2.
    pub successes: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            consecutive_failures: Some(5),
            error_rate: None,
            open: Duration::from_secs(30),
            successes: 2,
        }
    }
}

/// When so few endpoints are usable that health is more likely to be wrong than right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panic {
    /// When less than this percentage of the endpoints that are there (not stopped, not draining, with weight) is
    /// healthy, all of them are used. 0 turns it off; the default 1 means: when none is left.
    pub threshold: u8,
}

impl Default for Panic {
    fn default() -> Self {
        Self { threshold: 1 }
    }
}

/// How an endpoint that came back is eased in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowStart {
    /// Its weight rises from a tenth to the whole over this time. Default 10 s; zero turns it off.
    pub window: Duration,
}

impl Default for SlowStart {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
        }
    }
}

/// Second attempts.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Attempts at one request, the first included, 1 to 16; `None`: as many as there are candidates.
    pub attempts: Option<u8>,
    /// Statuses of a response that are tried again elsewhere. Default 502, 503, 504.
    pub statuses: SmallVec<[u16; 4]>,
    /// From the request sent to the head of the response, for each attempt; then the next one begins. Default none.
    pub per_try: Option<Duration>,
    /// For all attempts together, up to the head of the response. Default none.
    pub total: Option<Duration>,
    /// First pause before an attempt. The first retry at another endpoint waits for nothing; the pause doubles from
    /// then on, and a random part of it is used (full jitter). Default 25 ms.
    pub backoff: Duration,
    /// Longest pause. Default 250 ms.
    pub max_backoff: Duration,
    /// Attempts that may go wasted, in percent of the requests. Default 10.
    pub budget_percent: u8,
    /// Attempts that may go wasted whatever the number of requests. Default 3.
    pub budget_min: u32,
    /// Most bytes of a request body that are kept for another attempt. Default 1 MiB.
    pub replay_bytes: u64,
    /// Whether `Idempotency-Key` makes any method repeatable. Default true.
    pub idempotency_key: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: None,
            statuses: SmallVec::from_slice(&[502, 503, 504]),
            per_try: None,
            total: None,
            backoff: Duration::from_millis(25),
            max_backoff: Duration::from_millis(250),
            budget_percent: 10,
            budget_min: 3,
            replay_bytes: 1 << 20,
            idempotency_key: true,
        }
    }
}

/// Second attempts while the first still runs; the first answer wins.
#[derive(Clone, Debug, PartialEq)]
pub struct Hedge {
    /// A GET or HEAD that takes longer than this percentile of the service's latency, 50 to 99, is sent to a second
    /// endpoint as well. Default none: a slow request is only slow.
    pub percentile: Option<u8>,
    /// Never before this. Default 10 ms.
    pub min_delay: Duration,
    /// Repeatable requests that wait at an endpoint that leaves everything unanswered while its siblings answer are
    /// sent to a sibling as well. Default true.
    pub unanswered: bool,
}

impl Default for Hedge {
    fn default() -> Self {
        Self {
            percentile: None,
            min_delay: Duration::from_millis(10),
            unanswered: true,
        }
    }
}

/// How an endpoint that leaves is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long running requests may go on. Default 30 s.
    pub requests: Duration,
    /// How long upgraded connections (WebSocket) may go on. Default 10 min.
    pub upgraded: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            requests: Duration::from_secs(30),
            upgraded: Duration::from_secs(600),
        }
    }
}

/// How much the service takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceLimits {
    /// Requests at its endpoints at once, over all workers; `None`: no limit.
    pub max_in_flight: Option<u32>,
    /// Requests that may wait for a place; further ones get 503 with `Retry-After`. Default 100.
    pub queue: u32,
    /// How long one waits before it gets 503. Default 5 s.
    pub queue_timeout: Duration,
    /// Largest request body in bytes; `None`: the entry point's limit alone.
    pub max_body_bytes: Option<u64>,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        Self {
            max_in_flight: None,
            queue: 100,
            queue_timeout: Duration::from_secs(5),
            max_body_bytes: None,
        }
    }
}
