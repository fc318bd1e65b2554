//! A stream whose first bytes leave in pieces.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// Between two pieces: enough for the other side to see the first alone. Nothing waits for it to have been enough.
const PAUSE: Duration = Duration::from_millis(1);

/// It.
#[derive(Debug)]
pub(super) struct Pieces {
    stream: TcpStream,
    /// Lengths of the pieces to come; what follows them leaves as it is written.
    lengths: VecDeque<usize>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Pieces {
    pub(super) fn new(stream: TcpStream, lengths: impl IntoIterator<Item = usize>) -> Self {
        Self {
            stream,
            lengths: lengths.into_iter().filter(|length| *length > 0).collect(),
            pause: None,
        }
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let length = self
            .lengths
            .front()
            .copied()
            .unwrap_or(bytes.len())
            .min(bytes.len());
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[..length]))?;
        if let Some(left) = self.lengths.front_mut() {
            *left -= written;
            if *left == 0 {
                self.lengths.pop_front();
                self.pause = Some(Box::pin(sleep(PAUSE)));
            }
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
