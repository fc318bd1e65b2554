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
    /// The name of the router.
    pub router: &'a str,
    /// Which of the router's middlewares has its turn. What a middleware counts, it counts for each router and turn.
    pub turn: usize,
    /// The client's certificates as DER, its own first; empty: it has shown none.
    pub certificates: &'a [Box<[u8]>],
}

/// A request from this address, as tests need it.
#[cfg(test)]
pub(crate) fn seen_from(client: &str) -> Seen<'static> {
    Seen {
        client: client.parse().unwrap(),
        local: "127.0.0.1:80".parse().unwrap(),
        tls: false,
        now: Instant::now(),
        bodiless: true,
        server_name: None,
        router: "r@file",
        turn: 0,
        certificates: &[],
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A request of a client on this machine.
    pub(crate) fn seen(tls: bool) -> Seen<'static> {
        Seen {
            tls,
            ..seen_from("127.0.0.1:5000")
        }
    }
}
