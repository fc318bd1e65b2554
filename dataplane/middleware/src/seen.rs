//! What a middleware may know about a request beside its head.

use std::net::SocketAddr;
use std::time::Instant;

/// What a middleware may know about a request beside its head.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The other end of the TCP connection, or what a trusted PROXY protocol header says of it; never from a header.
    pub client: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Whether it came over TLS.
    pub tls: bool,
    /// The time at which the request began.
    pub now: Instant,
    /// Whether the request has no body.
    pub bodiless: bool,
    /// The name in the TLS handshake.
    pub server_name: Option<&'a str>,
}
