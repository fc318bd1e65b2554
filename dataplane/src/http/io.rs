//! The IO of one client connection as pingora sees it.
//!
//! Reading runs every HTTP/1 byte through [`RequestStream`] first: a request that must be refused is answered here, and
//! pingora sees the end of the connection instead. Writing gathers small pieces, so that head and body leave in one
//! system call. The whole-header deadline and the keep-alive limit are kept here too.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::connection::Connection;
use super::frame_watch::FrameWatch;
use super::framing::{Next, RequestStream};
use super::pace::Waiting;
use super::refusal::Refusal;
use crate::metrics::Refusal as Label;

/// Writes up to this size wait for company; a response head and a small body then leave together.
const GATHER: usize = 4096;
/// One read of bytes that must be looked at.
const READ: usize = 16 * 1024;
/// A client that will send nothing more has either left or waits for the answer (`nc -N`). It gets this long before the
/// request is given up, so that short answers arrive and back ends do not work for nobody.
const HALF_CLOSED: Duration = Duration::from_secs(1);
/// A refusal that the client does not take is given up.
const REFUSING: Duration = Duration::from_secs(5);
/// Bytes of a following request that are read ahead while the current one is being answered.
const READ_AHEAD: usize = 64 * 1024;

/// A transport that can give back the socket under it.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static {
    /// The socket.
    fn into_socket(self) -> TcpStream;
}

impl Transport for TcpStream {
    fn into_socket(self) -> TcpStream {
        self
    }
}

/// The IO of one client connection.
pub(super) struct Io<S: Transport> {
    /// Gone only while being dropped.
    inner: Option<S>,
    pub(super) connection: Arc<Connection>,
    pub(super) requests: RequestStream,
    h2: bool,
    /// Written by pingora and not yet by us.
    pub(super) pending: Vec<u8>,
    pub(super) pending_from: usize,
    pub(super) state: State,
    /// A final response has begun, so that a refusal can't be written any more.
    responding: bool,
    first_request: bool,
    /// The client has ended its side.
    half_closed: bool,
    pub(super) deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    /// For request bodies of HTTP/1.
    body: Waiting,
    /// For what the client does not take.
    send: Waiting,
    /// What the client had taken when it was looked at last.
    acked: u64,
    /// HTTP/2 only.
    pub(super) frames: Option<Box<FrameWatch>>,
    /// The client takes nothing: what is left for it is thrown away.
    pub(super) abort: bool,
    id: UniqueIDType,
    tls: Option<Arc<SslDigest>>,
    handle: Arc<ProxyDigest>,
    socket: Arc<SocketDigest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// The refusal is being written; pingora was shown nothing of the request.
    Refusing,
    /// The refusal is being written; pingora knows the head of the request.
    Aborting,
    Closed,
    Failed,
}

/// What [`Io::new`] needs to know about the socket under the transport.
pub(super) struct SocketInfo {
    /// The file descriptor, as an identity.
    pub(super) id: UniqueIDType,
    /// What pingora may ask about it.
    pub(super) digest: Arc<SocketDigest>,
    /// TLS details, when there is TLS.
    pub(super) tls: Option<Arc<SslDigest>>,
}

impl<S: Transport> Io<S> {
    /// Wraps a transport. `h2` says that the connection is HTTP/2 and needs no look.
    pub(super) fn new(
        inner: S,
        connection: Arc<Connection>,
        requests: RequestStream,
        h2: bool,
        socket: SocketInfo,
        handle: Arc<ProxyDigest>,
    ) -> Self {
        let limits = &connection.entry_point.limits;
        let deadline = Instant::now() + limits.header_timeout;
        Self {
            body: Waiting::new(limits.least_body()),
            send: Waiting::new(limits.least_send()),
            acked: 0,
            frames: h2.then(|| Box::new(FrameWatch::new(limits))),
            abort: false,
            inner: Some(inner),
            connection,
            requests,
            h2,
            pending: Vec::new(),
            pending_from: 0,
            state: State::Open,
            responding: false,
            first_request: true,
            half_closed: false,
            deadline: Some(deadline),
            timer: None,
            id: socket.id,
            tls: socket.tls,
            handle,
            socket: socket.digest,
        }
    }

    pub(super) fn inner(&mut self) -> io::Result<Pin<&mut S>> {
        self.inner
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }

    /// Sets the end of the waiting that just began or goes on.
    fn wait_from_now(&mut self) {
        let limits = &self.connection.entry_point.limits;
        let between = self.requests.is_between_requests();
        let limit = if between && !self.first_request {
            limits.idle_timeout
        } else {
            limits.header_timeout
        };
        self.deadline = Some(Instant::now() + limit);
    }

    /// Ready when the current deadline has passed.
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }

    pub(super) fn refuse(&mut self, refusal: Refusal, in_head: bool) {
        tracing::debug!(client = %self.connection.client, reason = refusal.text(), "request refused");
        self.connection.set_refused(refusal);
        if self.responding {
            self.state = State::Failed;
            return;
        }
        self.deadline = Some(Instant::now() + REFUSING);
        self.pending = refusal.to_wire();
        self.pending_from = 0;
        self.state = if in_head { State::Refusing } else { State::Aborting };
    }

    /// Writes what was gathered.
    pub(super) fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.pending_from < self.pending.len() {
            let Some(inner) = self.inner.as_mut().map(Pin::new) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let rest = self.pending.get(self.pending_from..).unwrap_or_default();
            let polled = inner.poll_write(cx, rest);
            let written = ready!(self.watch_send(cx, polled))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending_from += written;
        }
        self.pending.clear();
        self.pending_from = 0;
        Poll::Ready(Ok(()))
    }

    /// Passes on how writing went, unless the client has been taking too little for too long.
    pub(super) fn watch_send<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let (id, acked) = (self.id, &mut self.acked);
        let progress = || {
            let now = acknowledged(id).unwrap_or_default();
            now.saturating_sub(std::mem::replace(acked, now))
        };
        if polled.is_ready() {
            // To ask the kernel costs a system call.
            if self.send.is_waiting() {
                self.send.moved(progress);
            }
            return polled;
        }
        // A refusal has a time of its own.
        if self.state != State::Open {
            return Poll::Pending;
        }
        ready!(self.send.poll(cx, progress));
        tracing::debug!(client = %self.connection.client, "the client takes its response too slowly");
        self.connection.set_refused(Refusal::Calm(Label::SlowReader));
        self.state = State::Failed;
        self.abort = true;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads bytes that must be looked at. Ready with 0 at the end of the stream.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [const { MaybeUninit::<u8>::uninit() }; READ];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(self.inner()?.poll_read(cx, &mut read))?;
        let count = read.filled().len();
        self.requests.push(read.filled());
        self.body.moved(|| count.try_into().unwrap_or(u64::MAX));
        Poll::Ready(Ok(count))
    }

    /// Reads straight into the reader's buffer, at most `limit` bytes.
    fn poll_direct(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
        limit: u64,
    ) -> Poll<io::Result<usize>> {
        let before = to.filled().len();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if limit >= to.remaining() {
            ready!(self.inner()?.poll_read(cx, to))?;
        } else {
            let mut part = ReadBuf::new(to.initialize_unfilled_to(limit));
            ready!(self.inner()?.poll_read(cx, &mut part))?;
            let count = part.filled().len();
            to.advance(count);
        }
        let count = to.filled().len() - before;
        self.body.moved(|| count.try_into().unwrap_or(u64::MAX));
        Poll::Ready(Ok(count))
    }

    /// The body does not come. Ready when it is too slow, and was refused.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Who is being answered may talk as slowly as it likes.
        if self.responding || self.connection.is_unpaced() {
            return Poll::Pending;
        }
        ready!(self.body.poll(cx, || 0));
        self.refuse(Refusal::BodyTooSlow, false);
        Poll::Ready(())
    }

    /// Writes the refusal, then shows the end.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.state {
            State::Refusing | State::Aborting => {
                let aborting = self.state == State::Aborting;
                let mut ended = self.poll_pending(cx);
                if let Poll::Ready(Ok(())) = ended {
                    // With TLS this is what tells the client that the answer is whole.
                    ended = self.inner()?.poll_shutdown(cx);
                }
                let ended = match ended {
                    Poll::Ready(ended) => ended,
                    Poll::Pending => {
                        ready!(self.poll_deadline(cx));
                        Err(io::ErrorKind::TimedOut.into())
                    }
                };
                self.state = if aborting || ended.is_err() {
                    State::Failed
                } else {
                    State::Closed
                };
                self.poll_end(cx)
            }
            State::Failed => Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            State::Closed | State::Open => Poll::Ready(Ok(())),
        }
    }
}

impl<S: Transport> AsyncRead for Io<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.frames.is_some() {
            return this.poll_read_frames(cx, to);
        }
        // Whoever reads has nothing more to write for now: a part of a response must not wait for the next one.
        if this.state == State::Open
            && !this.pending.is_empty()
            && let Poll::Ready(Err(error)) = this.poll_pending(cx)
        {
            return Poll::Ready(Err(error));
        }
        loop {
            if this.state != State::Open {
                return this.poll_end(cx);
            }
            let in_head = this.requests.is_in_head();
            let next = match this.requests.advance() {
                Ok(next) => next,
                Err(refusal) => {
                    this.refuse(refusal, in_head);
                    continue;
                }
            };
            match next {
                Next::Take => {
                    this.deadline = None;
                    if in_head {
                        this.first_request = false;
                    }
                    this.requests.take(to);
                    return Poll::Ready(Ok(()));
                }
                Next::Raw => {
                    return this.poll_direct(cx, to, u64::MAX).map_ok(|_| ());
                }
                Next::Direct(limit) => {
                    let Poll::Ready(count) = this.poll_direct(cx, to, limit)? else {
                        ready!(this.poll_body(cx));
                        continue;
                    };
                    this.requests.passed(count);
                    return Poll::Ready(Ok(()));
                }
                Next::Wait if this.connection.is_upgraded() => this.requests.upgrade(),
                Next::Wait if this.connection.take_released() => {
                    this.requests.next_request();
                    this.responding = false;
                    this.body.reset();
                    this.wait_from_now();
                }
                Next::Wait if this.half_closed => {
                    this.deadline.get_or_insert_with(|| Instant::now() + HALF_CLOSED);
                    ready!(this.poll_deadline(cx));
                    return Poll::Ready(Ok(()));
                }
                Next::Wait => {
                    if this.requests.held() >= READ_AHEAD {
                        return Poll::Pending;
                    }
                    if ready!(this.poll_more(cx))? == 0 {
                        this.half_closed = true;
                        this.deadline = None;
                    }
                }
                Next::Read if this.half_closed => return Poll::Ready(Ok(())),
                Next::Read => {
                    let fresh = this.requests.is_between_requests();
                    match this.poll_more(cx) {
                        Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                        // The clock of the head starts with its first byte.
                        Poll::Ready(Ok(_)) if fresh && in_head && !this.first_request => this.wait_from_now(),
                        Poll::Ready(Ok(_)) => {}
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending if !in_head => ready!(this.poll_body(cx)),
                        Poll::Pending => {
                            ready!(this.poll_deadline(cx));
                            if fresh {
                                // Nobody is waiting for an answer on a connection that never asked.
                                this.state = State::Closed;
                            } else {
                                this.refuse(Refusal::HeaderTimeout, true);
                            }
                        }
                    }
                }
            }
        }
    }
}

impl<S: Transport> AsyncWrite for Io<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.state != State::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if this.frames.is_some() {
            return this.poll_write_frames(cx, pieces);
        }
        if !this.responding {
            this.responding = pieces.first().is_some_and(|p| !is_interim(p));
        }
        let total: usize = pieces.iter().map(|p| p.len()).sum();
        if this.pending.len() + total <= GATHER {
            this.pending.reserve(GATHER);
            for piece in pieces {
                this.pending.extend_from_slice(piece);
            }
            return Poll::Ready(Ok(total));
        }
        let count = loop {
            let gathered = this.pending.len() - this.pending_from;
            let Some(inner) = this.inner.as_mut().map(Pin::new) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            if gathered == 0 {
                let polled = inner.poll_write_vectored(cx, pieces);
                break ready!(this.watch_send(cx, polled))?;
            }
            let head = IoSlice::new(this.pending.get(this.pending_from..).unwrap_or_default());
            let body = IoSlice::new(pieces.first().map_or(&[][..], |p| p));
            let polled = inner.poll_write_vectored(cx, &[head, body]);
            let written = ready!(this.watch_send(cx, polled))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if written < gathered {
                this.pending_from += written;
                continue;
            }
            this.pending.clear();
            this.pending_from = 0;
            if written > gathered {
                break written - gathered;
            }
        };
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_pending(cx))?;
        let polled = this.inner()?.poll_flush(cx);
        if polled.is_pending() {
            return this.watch_send(cx, polled);
        }
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_pending(cx))?;
        this.inner()?.poll_shutdown(cx)
    }
}

/// How many bytes the client's kernel has taken; what waits in ours does not count.
fn acknowledged(socket: UniqueIDType) -> Option<u64> {
    let info = pingora_core::protocols::l4::ext::get_tcp_info(socket);
    info.ok().map(|info| info.tcpi_bytes_acked)
}

/// Whether what is written is an interim response other than 101, after which a final one may still follow.
fn is_interim(data: &[u8]) -> bool {
    data.starts_with(b"HTTP/1.1 1") && !data.starts_with(b"HTTP/1.1 101")
}

impl<S: Transport> Drop for Io<S> {
    fn drop(&mut self) {
        if self.abort
            && let Some(inner) = self.inner.take()
        {
            // Closed at once, or the kernel would keep for minutes what the client does not take.
            let socket = inner.into_socket();
            if let Err(error) = SockRef::from(&socket).set_linger(Some(Duration::ZERO)) {
                tracing::trace!(%error, "a slow reader can't be cut off");
            }
            return;
        }
        let slowly = matches!(self.state, State::Closed | State::Failed) || self.requests.is_unfinished();
        if let Some(inner) = self.inner.take().filter(|_| slowly) {
            self.connection.set_lingering(inner.into_socket());
        }
    }
}

impl<S: Transport> fmt::Debug for Io<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Io({:?})", self.connection)
    }
}

#[async_trait]
impl<S: Transport> Shutdown for Io<S> {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(self).await {
            tracing::trace!(%error, "the client was gone before the end");
        }
    }
}

impl<S: Transport> UniqueID for Io<S> {
    fn id(&self) -> UniqueIDType {
        self.id
    }
}

impl<S: Transport> Ssl for Io<S> {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.tls.clone()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        Some(if self.h2 { ALPN::H2 } else { ALPN::H1 })
    }
}

impl<S: Transport> GetTimingDigest for Io<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl<S: Transport> GetProxyDigest for Io<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.handle.clone())
    }
}

impl<S: Transport> GetSocketDigest for Io<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.socket.clone())
    }
}

impl<S: Transport> Peek for Io<S> {}
