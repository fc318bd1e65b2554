//! The IO of a connection to a back end over HTTP/1.
//!
//! Writing never waits: what the back end does not take at once is kept here and goes out while its response is read.
//! So a back end that answers before it has read the request, or while it reads it, is heard. Whoever writes looks at
//! [`Backlog::is_empty`] first; that is what bounds the memory.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection is closed with what the back end has not taken by then.
const CLOSING: Duration = Duration::from_secs(5);

/// How much was written and is still here; for those who write.
#[derive(Clone, Debug, Default)]
pub(super) struct Backlog(Arc<AtomicUsize>);

/// The back end takes nothing more.
const BROKEN: usize = usize::MAX;

impl Backlog {
    /// That of an HTTP/1 connection's stream; an empty one when the stream has none.
    pub(super) fn of(stream: &Stream) -> Self {
        stream
            .as_any()
            .downcast_ref::<Patient>()
            .map(|patient| patient.backlog.clone())
            .unwrap_or_default()
    }

    /// Whether everything written was taken.
    pub(super) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Whether to write now. Also when the back end takes nothing more: the writer is told so.
    ///
    /// The task that reads the connection is woken when this changes.
    pub(super) fn takes(&self) -> bool {
        matches!(self.0.load(Ordering::Relaxed), 0 | BROKEN)
    }

    fn set(&self, count: usize) {
        self.0.store(count, Ordering::Relaxed);
    }
}

/// A stream that takes what is written to it at once.
pub(super) struct Patient {
    inner: Stream,
    unsent: Vec<u8>,
    /// How much of it was taken.
    from: usize,
    /// The stream below may hold back what it took.
    unflushed: bool,
    backlog: Backlog,
}

impl Patient {
    pub(super) fn new(inner: Stream) -> Self {
        Self {
            inner,
            unsent: Vec::new(),
            from: 0,
            unflushed: false,
            backlog: Backlog::default(),
        }
    }

    fn broke(&mut self) {
        self.unsent = Vec::new();
        self.from = 0;
        self.unflushed = false;
        self.backlog.set(BROKEN);
    }

    fn is_broken(&self) -> bool {
        self.backlog.0.load(Ordering::Relaxed) == BROKEN
    }

    /// Sends what is here. Ready when all was taken.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.unsent.get(self.from..) {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.from += count,
                Err(error) => return Poll::Ready(Err(error)),
            }
            self.unflushed = true;
            self.backlog.set(self.unsent.len() - self.from);
        }
        if self.from > 0 {
            self.unsent = Vec::new();
            self.from = 0;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_broken() {
            ready!(self.poll_unsent(cx))?;
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl AsyncRead for Patient {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.unsent.is_empty() || this.unflushed {
            let waited = !this.backlog.takes();
            // A back end that takes nothing more may have said why.
            if let Poll::Ready(Err(_)) = this.poll_unsent(cx) {
                this.broke();
            }
            if waited && this.backlog.takes() {
                cx.waker().wake_by_ref();
            }
        }
        Pin::new(&mut this.inner).poll_read(cx, to)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_broken() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if this.unsent.is_empty() {
            match Pin::new(&mut this.inner).poll_write(cx, data) {
                Poll::Ready(Ok(count)) => {
                    this.unflushed = true;
                    return Poll::Ready(Ok(count));
                }
                Poll::Ready(Err(error)) => {
                    this.broke();
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => {}
            }
        }
        this.unsent.extend_from_slice(data);
        this.backlog.set(this.unsent.len() - this.from);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_broken() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // What remains goes out with the next read.
        if let Poll::Ready(Err(error)) = this.poll_unsent(cx) {
            this.broke();
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_close(cx)
    }
}

impl fmt::Debug for Patient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Patient({:?})", self.inner)
    }
}

#[async_trait]
impl Shutdown for Patient {
    async fn shutdown(&mut self) {
        let closing = std::future::poll_fn(|cx| self.poll_close(cx));
        match tokio::time::timeout(CLOSING, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::trace!(%error, "the back end was gone before the end"),
            Err(_) => tracing::trace!("the back end takes nothing: it is not waited for"),
        }
    }
}

impl UniqueID for Patient {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for Patient {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for Patient {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for Patient {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl GetSocketDigest for Patient {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

impl Peek for Patient {}
