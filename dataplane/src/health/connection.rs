//! One connection to one place, HTTP/1 or HTTP/2, kept from one check to the next.

use std::time::Duration;

use bytes::Bytes;
use constellation_table::{Endpoint, EndpointSpec, Scheme, Transport};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pingora_core::connectors::TransportConnector;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::upstreams::peer::HttpPeer;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use super::names::Names;
use crate::http::{IMPATIENT, Trust, template};
use crate::metrics::CheckOutcome;

/// Most bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;
/// HTTP/2 flow control: an answer's body is not read beyond this.
const WINDOW: u32 = 64 * 1024;
/// A connection that is not ready for the next request by then is not used again.
const READY: Duration = Duration::from_secs(1);

/// What all checks share to reach anybody.
pub(super) struct Net {
    pub(super) connector: TransportConnector,
    pub(super) names: Names,
}

/// Where a connection goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) scheme: Scheme,
    /// Host name or IP address literal without brackets.
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

/// How a place is reached.
pub(super) struct Route<'a> {
    pub(super) place: &'a Place,
    pub(super) transport: &'a Transport,
    pub(super) trust: &'a Trust,
    /// The protocol needs HTTP/2.
    pub(super) h2_only: bool,
    /// Whether the transport's client certificate is shown to it.
    pub(super) known: bool,
}

/// When a check must be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    /// The whole time that there was.
    pub(super) limit: Duration,
}

impl Deadline {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            at: Instant::now() + limit,
            limit,
        }
    }
}

/// An open connection; dropping it closes it.
pub(super) struct Connection {
    pub(super) place: Place,
    sender: Sender,
    driver: AbortHandle,
}

enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Place {
    /// `host[:port]` as in a `Host` header.
    pub(super) fn authority(&self) -> String {
        let (open, close) = if self.host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        let default = if self.scheme == Scheme::Https { 443 } else { 80 };
        if self.port == default {
            format!("{open}{}{close}", self.host)
        } else {
            format!("{open}{}{close}:{}", self.host, self.port)
        }
    }

    /// `http` or `https`.
    pub(super) fn scheme_name(&self) -> &'static str {
        if self.scheme == Scheme::Https {
            "https"
        } else {
            "http"
        }
    }
}

impl Connection {
    /// Connects, with TLS where the place wants it.
    pub(super) async fn open(route: &Route<'_>, net: &Net, deadline: Deadline) -> Result<Self, Failure> {
        let stream = connect(route, net, deadline).await?;
        let over_tls = route.place.scheme == Scheme::Https;
        let h2 = match over_tls {
            true => stream.selected_alpn_proto() == Some(ALPN::H2),
            false => route.place.scheme == Scheme::H2c,
        };
        if route.h2_only && !h2 {
            return Err(Failure::new(
                CheckOutcome::Protocol,
                "it does not offer HTTP/2 by ALPN, which gRPC needs",
            ));
        }
        let (sender, driver) = match h2 {
            true => handshake_h2(stream, deadline).await?,
            false => handshake_h1(stream).await?,
        };
        Ok(Self {
            place: route.place.clone(),
            sender,
            driver,
        })
    }

    /// Whether it speaks HTTP/2.
    pub(super) fn is_h2(&self) -> bool {
        matches!(self.sender, Sender::H2(_))
    }

    /// Waits until the next request can be sent; `false`: never.
    pub(super) async fn ready(&mut self) -> bool {
        let ready = async {
            match &mut self.sender {
                Sender::H1(sender) => sender.ready().await.is_ok(),
                Sender::H2(sender) => sender.ready().await.is_ok(),
            }
        };
        tokio::time::timeout(READY, ready).await.unwrap_or(false)
    }

    /// Sends a request and waits for the head of the answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        deadline: Deadline,
    ) -> Result<Response<Incoming>, Failure> {
        let answer = async {
            match &mut self.sender {
                Sender::H1(sender) => sender.send_request(request).await,
                Sender::H2(sender) => sender.send_request(request).await,
            }
        };
        timeout_at(deadline.at, answer)
            .await
            .map_err(|_| Failure::no_answer(deadline.limit))?
            .map_err(|error| Failure::exchange(&error))
    }
}

/// A connection to the first address that takes one, with TLS where the place wants it.
async fn connect(route: &Route<'_>, net: &Net, deadline: Deadline) -> Result<Stream, Failure> {
    let Place { host, port, .. } = route.place;
    // Half of the time is left for those who were known before.
    let addresses = net.names.addresses(host, *port, deadline.limit / 2).await;
    let addresses = addresses.map_err(|error| Failure::name(host, &error))?;
    let mut failure = None;
    for (position, address) in addresses.iter().enumerate() {
        let last = position + 1 == addresses.len();
        let until = match last {
            true => deadline.at,
            false => deadline.at.min(Instant::now() + IMPATIENT),
        };
        let peer = peer(route, *address);
        failure = match timeout_at(until, net.connector.new_stream(&peer)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => Some(Failure::stream(&error)),
            Err(_) => Some(Failure::no_connection(deadline.limit)),
        };
    }
    net.names.forget(host);
    Err(failure.unwrap_or_else(|| Failure::no_connection(deadline.limit)))
}

/// The peer as requests reach it, but for the time limits, which are the check's own.
fn peer(route: &Route<'_>, address: std::net::SocketAddr) -> HttpPeer {
    let Place { scheme, host, port } = route.place.clone();
    let scheme = if scheme == Scheme::Tls {
        Scheme::Https
    } else {
        scheme
    };
    let endpoint = Endpoint::new(EndpointSpec {
        name: "".into(),
        scheme,
        host,
        port,
        base_path: "".into(),
        weight: 1,
        condition: constellation_table::Condition::Ready,
        url_as_written: "".into(),
        locality: constellation_table::Locality::default(),
        peer: None,
    });
    let mut peer = template(&endpoint, address, route.transport, route.trust);
    peer.options.connection_timeout = None;
    peer.options.total_connection_timeout = None;
    peer.options.read_timeout = None;
    if route.h2_only && scheme == Scheme::Https {
        peer.options.set_http_version(2, 2);
    }
    if !route.known {
        peer.client_cert_key = None;
    }
    peer
}

async fn handshake_h1(stream: Stream) -> Result<(Sender, AbortHandle), Failure> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Failure::exchange(&error))?;
    // Ends with the connection, and with the `Connection` that holds its handle. How it ended is told by the request.
    let driver = tokio::spawn(async move { connection.await.unwrap_or_default() });
    Ok((Sender::H1(sender), driver.abort_handle()))
}

async fn handshake_h2(stream: Stream, deadline: Deadline) -> Result<(Sender, AbortHandle), Failure> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX));
    let (sender, connection) = timeout_at(deadline.at, builder.handshake(TokioIo::new(stream)))
        .await
        .map_err(|_| Failure::no_answer(deadline.limit))?
        .map_err(|error| Failure::exchange(&error))?;
    let driver = tokio::spawn(async move { connection.await.unwrap_or_default() });
    Ok((Sender::H2(sender), driver.abort_handle()))
}
