//! One line of the access log before it is a line.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::metrics::EndpointFailure;

/// What the request path knows about a request that ended. Bodies are counted without framing.
#[derive(Clone, Debug)]
pub struct Record {
    /// When the request's first byte was read.
    pub start: SystemTime,
    /// From then to the last byte of the response.
    pub duration: Duration,
    /// Time spent waiting for the back end, all attempts together; zero when none was asked.
    pub origin_duration: Duration,
    /// The TCP peer, or the client of a trusted PROXY protocol header.
    pub client: SocketAddr,
    /// The user name of an authenticated request.
    pub username: Option<Box<str>>,
    /// The entry point's name.
    pub entry_point: Arc<str>,
    /// The method as received.
    pub method: http::Method,
    /// The request target as received, with the query.
    pub target: Box<str>,
    /// The host as received, with a port if there was one; empty when there was none.
    pub host: Box<str>,
    /// The protocol version as received.
    pub version: http::Version,
    /// The status sent to the client; 0 when the client left before there was one.
    pub status: u16,
    /// The status of the last back end that answered.
    pub origin_status: Option<u16>,
    /// Request body bytes received.
    pub request_bytes: u64,
    /// Response body bytes sent.
    pub response_bytes: u64,
    /// Response body bytes received from the back end.
    pub origin_bytes: u64,
    /// The router that took the request.
    pub router: Option<Arc<str>>,
    /// Its service.
    pub service: Option<Arc<str>>,
    /// The endpoint tried last: container name or URL.
    pub endpoint: Option<Arc<str>>,
    /// `scheme://host:port` of that endpoint.
    pub endpoint_url: Option<Arc<str>>,
    /// Attempts beyond the first.
    pub retries: u32,
    /// Every attempt in the order they began; left empty when there was only one.
    pub attempts: SmallVec<[AttemptLine; 2]>,
    /// Present on TLS connections.
    pub tls: Option<TlsDetails>,
    /// From [`super::AccessLog::request_headers`].
    pub request_headers: Headers,
    /// From [`super::AccessLog::response_headers`].
    pub response_headers: Headers,
}

/// What is known about a connection, or a session of datagrams, that ended.
#[derive(Clone, Debug)]
pub struct StreamRecord {
    /// `tcp` or `udp`.
    pub kind: &'static str,
    /// When it was accepted.
    pub start: SystemTime,
    /// From then to its end.
    pub duration: Duration,
    /// How long it took to reach a back end, all attempts together.
    pub connect_duration: Option<Duration>,
    /// The peer, or the client of a trusted PROXY protocol header.
    pub client: SocketAddr,
    /// The entry point's name.
    pub entry_point: Arc<str>,
    /// The name that the ClientHello asked for.
    pub server_name: Option<Box<str>>,
    /// The router that took it.
    pub router: Arc<str>,
    /// Its service.
    pub service: Arc<str>,
    /// The endpoint that served it, or was tried last.
    pub endpoint: Option<Arc<str>>,
    /// `scheme://host:port` of that endpoint.
    pub endpoint_url: Option<Arc<str>>,
    /// Bytes carried from the client to the back end.
    pub received: u64,
    /// Bytes carried from the back end to the client.
    pub sent: u64,
    /// How it ended.
    pub end: &'static str,
    /// Attempts beyond the first.
    pub retries: u32,
    /// Every attempt in the order they began; left empty when there was only one.
    pub attempts: SmallVec<[AttemptLine; 2]>,
    /// Present where TLS ended here.
    pub tls: Option<TlsDetails>,
}

/// One attempt at a request or a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptLine {
    /// The endpoint's name.
    pub endpoint: Arc<str>,
    /// What became of it.
    pub outcome: AttemptOutcome,
    /// From its begin (the connection included) to its outcome.
    pub duration: Duration,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The back end answered with this status, whether or not that was passed on.
    Status(u16),
    /// The back end took the connection.
    Connected,
    /// It failed.
    Failed(EndpointFailure),
    /// It was given up before it had an outcome: another attempt answered first, or the client left.
    Abandoned,
}

/// What the TLS connection agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsDetails {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// The cipher suite's IANA name.
    pub cipher: &'static str,
    /// The subject of the client's certificate, if it showed one.
    pub client_subject: Option<Arc<str>>,
}

/// Headers kept for the log. Values share the request's buffers.
#[derive(Clone, Debug, Default)]
pub struct Headers(pub(super) Vec<(HeaderName, Option<HeaderValue>)>);
