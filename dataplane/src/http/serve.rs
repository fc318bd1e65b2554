//! One connection from its first byte: which protocol it speaks, TLS, the hand-over to pingora, and its end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pingora_core::apps::ServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{SocketDigest, Stream};
use pingora_http::ResponseHeader;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, TlsSession};
use super::ends::Ends;
use super::framing::RequestStream;
use super::head::HeadLimits;
use super::io::{Io, SocketInfo, Transport};
use super::refusal::Refusal;
use super::{EntryPointState, Proxy};
use crate::l4::{hello, tcp};
use crate::mesh::{self, Role};
use crate::metrics::{HandshakeOutcome, TlsVersion};
use crate::tls;

/// What a client that speaks HTTP/2 without negotiation sends first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// One read of first bytes.
const FIRST_READ: usize = 4096;
/// How long a connection without a request may stay silent while we drain.
pub(super) const LAST_CALL: Duration = Duration::from_millis(500);
/// How long a connection is kept for a client that still sends while it should read our answer.
const LINGER: Duration = Duration::from_secs(2);
/// How much such a client may still send.
const LINGER_BYTES: usize = 1 << 20;

/// Serves one connection to its end.
pub(crate) async fn serve_connection(
    proxy: Arc<Proxy>,
    entry_point: Arc<EntryPointState>,
    mut socket: TcpStream,
    client: SocketAddr,
    stopping: watch::Receiver<bool>,
) {
    let Ok(local) = socket.local_addr() else {
        return;
    };
    let deadline = Instant::now() + entry_point.settings.limits.header_timeout;
    let mut first = Vec::new();
    let peer = client.ip();
    let mut ends = Ends::of(client, local);
    if entry_point.settings.proxy_protocol.is_in_use() {
        // In a box: most entry points have no use for its size.
        let asking = Box::pin(ends.ask(&proxy, &entry_point, &mut socket, &mut first, deadline));
        let asked = tokio::select! {
            biased;
            asked = asking => asked,
            () = last_call(stopping.clone()) => return,
        };
        match asked {
            Some(told) => ends = told,
            None => return,
        }
    }
    let role = proxy.edge.settings.mesh.role();
    if *role != Role::Serve && !entry_point.settings.by_service {
        let arrived = mesh::Arrived {
            socket,
            first,
            ends: [ends.client, ends.local],
            idle: entry_point.settings.limits.idle_timeout,
            stopping: stopping.clone(),
        };
        // In a box: a node that serves has no use for its size.
        let relaying = Box::pin(mesh::relay(
            &proxy.edge.settings.mesh,
            proxy.links(),
            &proxy.edge.settings.node,
            &entry_point.settings.name,
            arrived,
        ));
        match relaying.await {
            Some((back, read)) => (socket, first) = (back, read),
            None => return,
        }
    }
    let entered = Entered {
        socket,
        first,
        peer,
        ends,
        deadline,
    };
    let closing = Closing {
        token: proxy.app.draining.clone(),
        told: stopping,
    };
    serve_entered(proxy, entry_point, entered, closing).await;
}

/// How a connection learns that it is to end: both say the same.
pub(crate) struct Closing {
    /// For HTTP/1, before each request.
    pub(crate) token: CancellationToken,
    /// For HTTP/2 and whatever is no HTTP.
    pub(crate) told: watch::Receiver<bool>,
}

/// Serves a connection that came in at an entry point of another node as if it had been accepted here.
pub(crate) async fn serve_relayed(
    proxy: Arc<Proxy>,
    entry_point: Arc<EntryPointState>,
    socket: TcpStream,
    client: SocketAddr,
    local: SocketAddr,
    closing: Closing,
) {
    let deadline = Instant::now() + entry_point.settings.limits.header_timeout;
    let entered = Entered {
        socket,
        first: Vec::new(),
        peer: client.ip(),
        ends: Ends::of(client, local),
        deadline,
    };
    serve_entered(proxy, entry_point, entered, closing).await;
}

/// Serves the one request of a tunnel.
pub(crate) async fn serve_tunnelled(proxy: &Proxy, stream: Stream) {
    // It is to be closed when the request is over.
    let served = proxy.app.serve(ServerSession::new_http1(stream), true).await;
    debug_assert!(served.is_none(), "a connection that is closed is used again");
}

/// A connection of which it is known whose it is.
struct Entered {
    socket: TcpStream,
    first: Vec<u8>,
    peer: IpAddr,
    ends: Ends,
    deadline: Instant,
}

async fn serve_entered(
    proxy: Arc<Proxy>,
    entry_point: Arc<EntryPointState>,
    entered: Entered,
    closing: Closing,
) {
    let Closing {
        token,
        told: stopping,
    } = closing;
    let Entered {
        mut socket,
        mut first,
        peer,
        ends,
        deadline,
    } = entered;
    let Ends {
        client,
        local,
        tlvs,
        _of_source,
    } = ends;
    let tell = proxy
        .edge
        .settings
        .served_by_for
        .iter()
        .any(|net| net.contains(&client.ip().to_canonical()));
    let connection = Connection::new(entry_point.settings.clone(), peer, client, local, tell, token);
    let has_tcp = proxy.edge.published.load().table.has_tcp(entry_point.settings.id);
    if has_tcp || entry_point.settings.by_service {
        let arrival = tcp::Arrival {
            socket,
            first,
            client: connection.client,
            local: connection.local,
            peer,
            tlvs,
            deadline,
            stopping: stopping.clone(),
        };
        // In boxes: connections of HTTP have no use for their size.
        match Box::pin(tcp::enter(&proxy, &entry_point, arrival)).await {
            tcp::Entered::Http(back, read) => (socket, first) = (back, read),
            tcp::Entered::Stream(stream) => {
                return Box::pin(tcp::serve(&proxy, &entry_point, stream)).await;
            }
            tcp::Entered::Over => return,
        }
    }
    let protocol = tokio::select! {
        // Who was accepted is heard, also while we drain.
        biased;
        protocol = timeout_at(deadline, detect(&mut socket, &mut first)) => protocol,
        () = last_call(stopping.clone()) => return,
    };
    let protocol = match protocol {
        Ok(Ok(Some(protocol))) => protocol,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => {
            tracing::trace!(%error, %client, "the client left before it said anything");
            return;
        }
        Err(_) => {
            if !first.is_empty() {
                let refusal = Refusal::HeaderTimeout;
                proxy.edge.refused(&entry_point.settings, peer, refusal.label());
                send_off(&mut socket, &Refusal::HeaderTimeout.to_wire()).await;
            }
            return;
        }
    };
    match protocol {
        Protocol::Tls => {
            let tls = Box::pin(handshake(&proxy, connection, Prefixed::new(first, socket)));
            let Some((stream, connection)) = tls.await else {
                return;
            };
            let h2 = connection.tls.as_ref().is_some_and(|t| t.h2);
            hand_over(&proxy, connection, stream, Vec::new(), h2, stopping).await;
        }
        Protocol::Http1 => hand_over(&proxy, connection, socket, first, false, stopping).await,
        Protocol::Http2 => hand_over(&proxy, connection, socket, first, true, stopping).await,
    }
}

/// Waits until we drain, and a new connection has had the time to say something after that.
pub(crate) async fn last_call(mut stopping: watch::Receiver<bool>) {
    // An error means that the data plane was dropped; the connection is cut from outside then.
    if stopping.wait_for(|stop| *stop).await.is_ok() {
        tokio::time::sleep(LAST_CALL).await;
    }
}

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Tls,
    Http1,
    Http2,
}

/// Reads until the protocol is clear. `None` at the end of the stream.
async fn detect(socket: &mut TcpStream, first: &mut Vec<u8>) -> io::Result<Option<Protocol>> {
    first.reserve(FIRST_READ);
    let mut known = !first.is_empty();
    loop {
        // What was read to look for a TCP router may be enough.
        if !std::mem::take(&mut known) && socket.read_buf(first).await? == 0 {
            return Ok(None);
        }
        if first.first() == Some(&hello::HANDSHAKE) {
            return Ok(Some(Protocol::Tls));
        }
        if first.starts_with(PREFACE) {
            return Ok(Some(Protocol::Http2));
        }
        if !PREFACE.starts_with(first) {
            return Ok(Some(Protocol::Http1));
        }
    }
}

/// Accepts TLS in time and counts how it went.
async fn handshake(
    proxy: &Proxy,
    mut connection: Connection,
    socket: Prefixed,
) -> Option<(TlsStream<Prefixed>, Connection)> {
    let entry_point = &connection.entry_point;
    let metrics = proxy.edge.metrics.entry_point(entry_point.id);
    let count = |version, outcome| {
        if let Some(metrics) = metrics {
            metrics.handshake(version, outcome);
        }
    };
    let limit = entry_point.limits.handshake_timeout;
    let accepting = tls::accept(socket, entry_point.id, &proxy.edge.published);
    let accepted = match timeout(limit, accepting).await {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(error)) => {
            tracing::debug!(%error, client = %connection.client, "no TLS");
            count(TlsVersion::None, error.outcome());
            return None;
        }
        Err(_) => {
            count(TlsVersion::None, HandshakeOutcome::Timeout);
            return None;
        }
    };
    count(accepted.version, accepted.outcome);
    let session = accepted.stream.get_ref().1;
    connection.tls = Some(TlsSession {
        server_name: session.server_name().map(Into::into),
        options: accepted.options,
        h2: session.alpn_protocol() == Some(b"h2"),
        details: accepted.details,
        certificates: session
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|certificate| certificate.as_ref().into())
            .collect(),
    });
    Some((accepted.stream, connection))
}

/// Gives the connection to pingora until it ends.
async fn hand_over<S: Transport + AsRawFd>(
    proxy: &Proxy,
    connection: Connection,
    stream: S,
    first: Vec<u8>,
    h2: bool,
    stopping: watch::Receiver<bool>,
) {
    let limits = connection.entry_point.limits;
    let heads = HeadLimits {
        bytes: limits.max_header_bytes,
        lines: limits.max_headers,
        body: limits.max_body_bytes,
    };
    let requests = if h2 {
        RequestStream::raw(heads, first)
    } else {
        RequestStream::new(heads, first)
    };
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    // Nobody has set them before: the digest was made on the line above.
    let known = digest
        .peer_addr
        .set(Some(PeerAddr::Inet(connection.client)))
        .is_err()
        || digest
            .local_addr
            .set(Some(PeerAddr::Inet(connection.local)))
            .is_err();
    debug_assert!(!known, "a fresh digest knows no address");
    let tls = connection.tls.as_ref().map(|t| {
        Arc::new(SslDigest::new(
            t.details.cipher,
            t.details.version,
            None,
            None,
            Vec::new(),
        ))
    });
    let info = SocketInfo {
        id: stream.as_raw_fd(),
        digest: Arc::new(digest),
        tls,
    };
    let connection = Arc::new(connection);
    let Ok(unused) = ResponseHeader::build(200, Some(0)) else {
        return;
    };
    // pingora hands this digest to every request of the connection, in HTTP/1 and HTTP/2 alike.
    let handle = Arc::new(ProxyDigest::new(
        Box::new(unused),
        Some(Box::new(connection.clone())),
    ));
    let io = Io::new(stream, connection.clone(), requests, h2, info, handle);
    let Some(app) = proxy.on(&connection.entry_point) else {
        return;
    };
    // It ends the connection by itself; what it returns is a stream to be used again, which it never is.
    drop(app.process_new(Box::new(io), &stopping).await);
    let refused = |refusal| {
        proxy
            .edge
            .refused(&connection.entry_point, connection.peer, refusal);
    };
    if let Some(refusal) = connection.refused() {
        refused(refusal.label());
    }
    for _ in 0..connection.slow_streams() {
        refused(crate::metrics::Refusal::SlowReader);
    }
    if let Some(socket) = connection.take_lingering() {
        linger(socket).await;
    }
}

/// Answers a connection that never became one of pingora's.
async fn send_off(socket: &mut TcpStream, last_words: &[u8]) {
    let sent = timeout(LINGER, async {
        socket.write_all(last_words).await?;
        socket.shutdown().await
    });
    if let Ok(Err(error)) = sent.await {
        tracing::trace!(%error, "the client was gone before the refusal");
    }
}

/// Says that we are done, and reads what still arrives: closing a socket with unread bytes would reset the connection
/// and could take our answer with it (RFC 9112 section 9.6).
async fn linger(mut socket: TcpStream) {
    let reading = async {
        socket.shutdown().await?;
        let mut waste = vec![0; 16 * 1024];
        let mut left = LINGER_BYTES;
        loop {
            let count = socket.read(&mut waste).await?;
            left = left.saturating_sub(count);
            if count == 0 || left == 0 {
                return io::Result::Ok(());
            }
        }
    };
    if let Ok(Err(error)) = timeout(LINGER, reading).await {
        tracing::trace!(%error, "the client broke off");
    }
}

/// A socket of which some bytes were read already.
pub(super) struct Prefixed {
    first: Vec<u8>,
    taken: usize,
    socket: TcpStream,
}

impl Prefixed {
    fn new(first: Vec<u8>, socket: TcpStream) -> Self {
        Self {
            first,
            taken: 0,
            socket,
        }
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.first.is_empty() {
            return Pin::new(&mut this.socket).poll_read(cx, to);
        }
        let rest = this.first.get(this.taken..).unwrap_or_default();
        let count = rest.len().min(to.remaining());
        to.put_slice(rest.get(..count).unwrap_or_default());
        this.taken += count;
        if this.taken == this.first.len() {
            this.first = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl AsRawFd for Prefixed {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Transport for TlsStream<Prefixed> {
    fn into_socket(self) -> TcpStream {
        self.into_inner().0.socket
    }
}
