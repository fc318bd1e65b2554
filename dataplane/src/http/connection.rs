//! What one client connection knows: shared by its IO, the requests on it and the task that serves it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::HeaderValue;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::refusal::Refusal;
use crate::access_log::TlsDetails;
use crate::settings::EntryPoint;

/// One client connection.
///
/// Its worker is the only thread that touches it; the atomics are there because pingora asks for `Sync`.
pub(super) struct Connection {
    /// Where it was accepted.
    pub(super) entry_point: Arc<EntryPoint>,
    /// The client's address; an IPv4 address that came in through an IPv6 socket is shown as IPv4.
    pub(super) client: SocketAddr,
    /// Our address.
    pub(super) local: SocketAddr,
    /// The client's address as a header value, made once.
    pub(super) client_value: HeaderValue,
    /// The other end of the TCP connection, whatever it said about the client.
    pub(super) peer: IpAddr,
    /// Whether the client's forwarding headers are believed.
    pub(super) trusted: bool,
    /// Whether answers name who served.
    pub(super) tell_served_by: bool,
    /// The node that has sent it, which knows the client's own connection; `None`: the client itself.
    pub(super) node: Option<Arc<str>>,
    /// The connection of a proxy in front that the client's requests come over, each client's among those of others; `None`:
    /// the client's own. What the IO has to know is said there.
    pub(super) carrier: Option<Arc<Connection>>,
    /// When the node that has sent the request stops waiting for a response.
    pub(super) deadline: Option<std::time::Instant>,
    /// The TLS session, if any.
    pub(super) tls: Option<TlsSession>,
    /// Cancelled: it ends after the current or the next request, or when none comes soon.
    pub(super) closing: CancellationToken,
    /// The response of the current request is over: the next request may be read.
    released: AtomicBool,
    /// The current request became another protocol.
    upgraded: AtomicBool,
    /// Request bodies have no minimum rate here.
    unpaced: AtomicBool,
    requests: AtomicU32,
    /// Streams that were reset because the client did not take their responses.
    slow_streams: AtomicU32,
    /// Why the connection was refused on the wire.
    refused: OnceLock<Refusal>,
    /// The socket of a connection that must not be closed abruptly, handed over when its IO is dropped.
    lingering: Mutex<Option<TcpStream>>,
}

/// What is known of a TLS session.
#[derive(Clone, Debug)]
pub(super) struct TlsSession {
    /// The name the client asked for.
    pub(super) server_name: Option<Box<str>>,
    /// Name of the TLS options it was made under.
    pub(super) options: Arc<str>,
    /// Whether HTTP/2 was chosen.
    pub(super) h2: bool,
    /// For the access log.
    pub(super) details: TlsDetails,
    /// The client's certificates as DER, its own first; empty: it has shown none.
    pub(super) certificates: Box<[Box<[u8]>]>,
}

impl Connection {
    /// A connection that was just accepted.
    pub(super) fn new(
        entry_point: Arc<EntryPoint>,
        peer: IpAddr,
        client: SocketAddr,
        local: SocketAddr,
        tell_served_by: bool,
        closing: CancellationToken,
    ) -> Self {
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        let trusted = entry_point.forwarded.insecure
            || entry_point
                .forwarded
                .trusted_ips
                .iter()
                .any(|net| net.contains(&client.ip()));
        Self {
            client_value: ip_value(client.ip()),
            entry_point,
            peer,
            client,
            local,
            trusted,
            tell_served_by,
            node: None,
            carrier: None,
            deadline: None,
            tls: None,
            closing,
            released: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            unpaced: AtomicBool::new(false),
            requests: AtomicU32::new(0),
            slow_streams: AtomicU32::new(0),
            refused: OnceLock::new(),
            lingering: Mutex::new(None),
        }
    }

    /// Counts a request; whether it is the last one that the entry point allows on a connection.
    pub(super) fn is_last_request(&self) -> bool {
        let count = self.requests.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.entry_point
            .limits
            .max_requests_per_connection
            .is_some_and(|max| count >= max)
    }

    /// The connection that has an IO.
    fn carried(&self) -> &Self {
        self.carrier.as_deref().unwrap_or(self)
    }

    /// The response is over; the IO may look at the next request.
    pub(super) fn release(&self) {
        self.carried().released.store(true, Ordering::Relaxed);
    }

    /// Whether [`Self::release`] was called since the last time this was asked.
    pub(super) fn take_released(&self) -> bool {
        self.released.swap(false, Ordering::Relaxed)
    }

    /// The request changed the protocol of the connection (101).
    pub(super) fn upgrade(&self) {
        self.carried().upgraded.store(true, Ordering::Relaxed);
    }

    /// Whether the protocol was changed.
    pub(super) fn is_upgraded(&self) -> bool {
        self.carried().upgraded.load(Ordering::Relaxed)
    }

    /// A request on this connection has a body that is a conversation (gRPC): from here on bodies may pause.
    pub(super) fn unpace(&self) {
        self.carried().unpaced.store(true, Ordering::Relaxed);
    }

    /// Whether bodies may pause.
    pub(super) fn is_unpaced(&self) -> bool {
        self.carried().unpaced.load(Ordering::Relaxed)
    }

    /// A stream was reset because the client did not take its response.
    pub(super) fn count_slow_stream(&self) {
        self.carried().slow_streams.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub(super) fn slow_streams(&self) -> u32 {
        self.slow_streams.load(Ordering::Relaxed)
    }

    /// The wire checks refused a request; the first reason stays.
    pub(super) fn set_refused(&self, refusal: Refusal) {
        self.refused.get_or_init(|| refusal);
    }

    /// Why the connection ended, if the wire checks ended it.
    pub(super) fn refused(&self) -> Option<Refusal> {
        self.refused.get().copied()
    }

    pub(super) fn set_lingering(&self, socket: TcpStream) {
        *self.lingering.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
    }

    /// The socket to close slowly, if the IO left one.
    pub(super) fn take_lingering(&self) -> Option<TcpStream> {
        self.lingering
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} ({})", self.client, self.local, self.entry_point.name)
    }
}

/// An IP address as a header value.
pub(super) fn ip_value(ip: IpAddr) -> HeaderValue {
    // Digits, dots and colons always make a header value.
    HeaderValue::from_str(&ip.to_string()).unwrap_or_else(|_| HeaderValue::from_static("0.0.0.0"))
}
