//! Reading and writing a non-blocking socket by shared reference, with the runtime's knowledge of its readiness kept
//! right.
//!
//! The runtime learns of readiness by edges: once it believes a socket readable, it does so until somebody finds it
//! empty and says so. A read that fills less than the buffer has found it empty, which saves the read that would come
//! back with nothing; the same goes for writing. Each function here does its system call and the correction in one
//! step, so that an edge that comes meanwhile is not lost.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::sys::socket::{MsgFlags, recv, send as send_to};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::splice::Pipe;

/// Reads what has come, up to the length of `into`; 0 at the end of the stream.
pub(super) fn receive(socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    let most = into.len();
    exactly_or_cleared(socket, Interest::READABLE, most, || {
        Ok(recv(socket.as_raw_fd(), into, MsgFlags::MSG_DONTWAIT)?)
    })
}

/// Writes what the socket takes of `data`.
pub(super) fn send(socket: &TcpStream, data: &[u8]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    exactly_or_cleared(socket, Interest::WRITABLE, data.len(), || {
        Ok(send_to(socket.as_raw_fd(), data, flags)?)
    })
}

/// Moves what has come into an empty pipe; 0 at the end of the stream. How much a pipe holds depends on how the bytes
/// came, so a pipe that is not full says nothing of the socket; only one that stays empty does.
pub(super) fn fill(socket: &TcpStream, pipe: &Pipe) -> io::Result<usize> {
    socket.try_io(Interest::READABLE, || pipe.fill_from(socket))
}

/// Moves what the socket takes of the `held` bytes of a pipe.
pub(super) fn drain(socket: &TcpStream, pipe: &Pipe, held: usize) -> io::Result<usize> {
    exactly_or_cleared(socket, Interest::WRITABLE, held, || pipe.drain_to(socket, held))
}

/// Runs an operation that may move up to `most` bytes. When it moved fewer, the socket has no more, or takes no more.
fn exactly_or_cleared(
    socket: &TcpStream,
    interest: Interest,
    most: usize,
    operation: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    let mut moved = 0;
    let result = socket.try_io(interest, || {
        moved = operation()?;
        if 0 < moved && moved < most {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(moved)
    });
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && moved > 0 => Ok(moved),
        other => other,
    }
}

/// A socket that several hold: who speaks TLS over it, and who watches it for a reset.
#[derive(Clone, Debug)]
pub(crate) struct Socket(Arc<TcpStream>);

impl Socket {
    /// Shares a socket.
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self(Arc::new(socket))
    }

    /// The socket.
    pub(crate) fn get(&self) -> &TcpStream {
        &self.0
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match receive(&self.0, to.initialize_unfilled()) {
                Ok(count) => {
                    to.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match send(&self.0, data) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(end(&self.0))
    }
}

/// A socket of which some bytes were read already.
#[derive(Debug)]
pub(crate) struct Replay {
    first: Vec<u8>,
    taken: usize,
    socket: Socket,
}

impl Replay {
    /// `first` is read before what comes from the socket.
    pub(crate) fn new(first: Vec<u8>, socket: Socket) -> Self {
        Self {
            first,
            taken: 0,
            socket,
        }
    }
}

impl AsyncRead for Replay {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = self.first.get(self.taken..).unwrap_or_default();
        if rest.is_empty() {
            self.first = Vec::new();
            return Pin::new(&mut self.socket).poll_read(cx, to);
        }
        let count = rest.len().min(to.remaining());
        to.put_slice(rest.get(..count).unwrap_or_default());
        self.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Says that nothing more will be written.
pub(super) fn end(socket: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Write)
}

/// Makes the close of the socket a reset: what was not sent is dropped, and the peer learns that the stream is not
/// whole.
pub(crate) fn reset_on_close(socket: &TcpStream) {
    if let Err(error) = socket2::SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO)) {
        tracing::trace!(%error, "a connection can't be reset");
    }
}

/// Whether bytes that were written are not with the peer yet. Of a socket that can't be asked nothing is to be expected.
pub(super) fn is_delivering(socket: &TcpStream) -> bool {
    pingora_core::protocols::l4::ext::get_tcp_info(socket.as_raw_fd())
        .is_ok_and(|info| info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0)
}
