//! What pingora wants to know of a stream that is not one of its own.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::metrics::MeshBytes;

/// A stream between nodes, or a tunnel in one, as pingora takes it.
pub(crate) struct MeshIo<S> {
    inner: S,
    /// Handed to every request on it.
    handle: Option<Arc<ProxyDigest>>,
    http2: bool,
}

impl<S> MeshIo<S> {
    /// HTTP/2 in it.
    pub(crate) fn http2(inner: S, handle: Arc<ProxyDigest>) -> Self {
        Self {
            inner,
            handle: Some(handle),
            http2: true,
        }
    }

    /// HTTP/1.1 in it.
    pub(crate) fn http1(inner: S, handle: Option<Arc<ProxyDigest>>) -> Self {
        Self {
            inner,
            handle,
            http2: false,
        }
    }
}

/// A stream whose bytes are counted.
pub(crate) struct Counted<S> {
    inner: S,
    bytes: MeshBytes,
}

impl<S> Counted<S> {
    pub(crate) fn new(inner: S, bytes: MeshBytes) -> Self {
        Self { inner, bytes }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, to);
        self.bytes.received(to.filled().len() - before);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, data);
        if let Poll::Ready(Ok(count)) = written {
            self.bytes.sent(count);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MeshIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, to)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeshIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for MeshIo<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a stream between nodes")
    }
}

#[async_trait]
impl<S: AsyncWrite + Unpin + Send> Shutdown for MeshIo<S> {
    async fn shutdown(&mut self) {
        if let Err(error) = self.inner.shutdown().await {
            tracing::trace!(%error, "the other node was gone before the end");
        }
    }
}

impl<S> UniqueID for MeshIo<S> {
    /// No descriptor is its own.
    fn id(&self) -> UniqueIDType {
        -1
    }
}

impl<S> Ssl for MeshIo<S> {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.http2.then_some(ALPN::H2)
    }
}

impl<S> GetTimingDigest for MeshIo<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl<S> GetProxyDigest for MeshIo<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.handle.clone()
    }
}

impl<S> GetSocketDigest for MeshIo<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl<S> Peek for MeshIo<S> {}
