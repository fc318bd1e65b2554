//! A stream of HTTP/2 as a stream of bytes in both directions, with back-pressure.
//!
//! The end of a direction is the end of its half of the stream. Dropped before that, the library resets the stream once
//! what was written is on its way, and the other end reads that as an error.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use pingora_core::protocols::http::v2::server::HttpSession;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of one write at the most, so that a stream doesn't keep others waiting.
const MOST: usize = 16 * 1024;

/// The stream of bytes.
pub(crate) struct Tunnel {
    from: From,
    to: SendStream<Bytes>,
    /// What was received and not read yet.
    unread: Bytes,
    ended: bool,
}

/// The half that is read.
enum From {
    /// The answer to a request of ours.
    Answer(RecvStream),
    /// The body of another node's request.
    Request(Box<HttpSession>),
}

impl Tunnel {
    /// One that this node opened.
    pub(super) fn opened(from: RecvStream, to: SendStream<Bytes>) -> Self {
        Self::new(From::Answer(from), to)
    }

    /// One that another node opened, and to which the head of the answer was sent.
    pub(super) fn accepted(from: Box<HttpSession>, to: SendStream<Bytes>) -> Self {
        Self::new(From::Request(from), to)
    }

    fn new(from: From, to: SendStream<Bytes>) -> Self {
        Self {
            from,
            to,
            unread: Bytes::new(),
            ended: false,
        }
    }

    /// The next piece; `None` at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        match &mut self.from {
            From::Answer(from) => {
                let piece = ready!(from.poll_data(cx));
                if let Some(Ok(data)) = &piece {
                    from.flow_control().release_capacity(data.len())?;
                }
                Poll::Ready(piece)
            }
            From::Request(session) => session.poll_read_body_bytes(cx),
        }
    }
}

fn broken(error: h2::Error) -> io::Error {
    match error.is_io() {
        true => error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()),
        false => io::Error::new(io::ErrorKind::ConnectionReset, error),
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match ready!(this.poll_piece(cx)) {
                Some(Ok(data)) => {
                    this.unread = data;
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = this.unread.len().min(to.remaining());
        to.put_slice(this.unread.get(..count).unwrap_or_default());
        this.unread.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.to.reserve_capacity(data.len().min(MOST));
        loop {
            // What is there already is told of once.
            let room = match this.to.capacity() {
                0 => ready!(this.to.poll_capacity(cx)),
                room => Some(Ok(room)),
            };
            let room = match room {
                Some(Ok(room)) => room,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
            let count = room.min(data.len());
            if let Some(piece @ [_, ..]) = data.get(..count) {
                let sent = this.to.send_data(Bytes::copy_from_slice(piece), false);
                return Poll::Ready(sent.map(|()| count).map_err(broken));
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if std::mem::replace(&mut this.ended, true) {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(this.to.send_data(Bytes::new(), true).map_err(broken))
    }
}
