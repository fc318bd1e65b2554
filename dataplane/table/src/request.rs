//! What the decision may know about one request.

use std::net::IpAddr;
use std::time::Instant;

use http::HeaderMap;

use crate::EntryPointId;

/// One request as the decision sees it. Every field borrows from the data plane's own request; nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct RequestMeta<'r> {
    /// The entry point that accepted the connection.
    pub entry_point: EntryPointId,
    /// Whether the request came over TLS. TLS routers and plain routers are separate tables.
    pub tls: bool,
    /// The method exactly as received (`GET` is not `HEAD`, and methods are case-sensitive).
    pub method: &'r str,
    /// The host from [`crate::host::canonical`]: lower case, without a port; a trailing dot is kept.
    pub host: &'r str,
    /// The routing path from [`crate::path::normalise`]: cleaned, non-reserved escapes decoded.
    pub path: &'r str,
    /// The raw query without `?`; empty when there is none.
    pub query: &'r str,
    /// The request's headers, after untrusted `X-Forwarded-*` were removed.
    pub headers: &'r HeaderMap,
    /// The address of the TCP peer (or of the trusted PROXY protocol header), never from `X-Forwarded-For`.
    pub client: IpAddr,
    /// Whether doing the request twice has the effect of doing it once.
    pub repeatable: bool,
    /// The time of the decision.
    pub now: Instant,
    /// Whether this decision takes the service's next turn or only looks.
    pub turn: Turn,
}

/// How the balancer reads the service's cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A real request: the cursor advances by one.
    Take,
    /// A question (`explain`, dry run): the cursor stays as it is.
    Look,
    /// A fixed position, for reproducible tests.
    At(u64),
}
