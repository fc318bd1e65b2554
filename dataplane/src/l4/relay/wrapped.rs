//! Directions between streams of which at least one is more than a socket: TLS. Copied through the thread's buffer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::lane::{Held, TURN, with_buffer};
use super::{Each, Fault, Lanes, Moved, Side};

/// A stream of bytes both ways.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// Two streams.
pub(crate) struct Wrapped<C, S> {
    client: C,
    server: S,
    lanes: Each<Lane>,
}

impl<C: Io, S: Io> Wrapped<C, S> {
    /// Between two streams; `first` goes to the server before anything else.
    pub(crate) fn new(client: C, server: S, first: Vec<u8>) -> Self {
        Self {
            client,
            server,
            lanes: Each {
                client: Lane::new(first),
                server: Lane::new(Vec::new()),
            },
        }
    }

    /// The client's stream, and what was read from it and not written.
    pub(crate) fn into_client(self) -> (C, Vec<u8>) {
        let Held::Bytes { mut data, from } = self.lanes.client.held else {
            return (self.client, Vec::new());
        };
        data.drain(..from);
        (self.client, data)
    }
}

impl<C: Io, S: Io> Lanes for Wrapped<C, S> {
    fn poll_lane(&mut self, from: Side, moved: &Moved, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Self {
            client,
            server,
            lanes,
        } = self;
        match from {
            Side::Client => lanes.client.poll(Pin::new(client), Pin::new(server), moved, cx),
            Side::Server => lanes.server.poll(Pin::new(server), Pin::new(client), moved, cx),
        }
    }

    fn poll_end(&mut self, to: Side, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match to {
            Side::Client => Pin::new(&mut self.client).poll_shutdown(cx),
            Side::Server => Pin::new(&mut self.server).poll_shutdown(cx),
        }
    }
}

/// One direction.
struct Lane {
    held: Held,
    /// Something was written that the stream may keep to itself.
    unflushed: bool,
}

impl Lane {
    fn new(first: Vec<u8>) -> Self {
        Self {
            held: Held::bytes(first),
            unflushed: false,
        }
    }

    fn poll(
        &mut self,
        mut from: Pin<&mut impl AsyncRead>,
        mut to: Pin<&mut impl AsyncWrite>,
        moved: &Moved,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        let mut turn = 0;
        loop {
            ready!(self.poll_give(to.as_mut(), moved, cx)).map_err(Fault::to)?;
            if turn >= TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let taken = with_buffer(|buffer| self.poll_copy(buffer, from.as_mut(), to.as_mut(), moved, cx));
            match taken? {
                Poll::Ready(0) => return Poll::Ready(Ok(())),
                Poll::Ready(count) => turn += count,
                Poll::Pending => {
                    if self.unflushed {
                        ready!(to.as_mut().poll_flush(cx)).map_err(Fault::to)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_give(
        &mut self,
        mut to: Pin<&mut impl AsyncWrite>,
        moved: &Moved,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Held::Bytes { data, from } = &mut self.held {
            let rest = data.get(*from..).unwrap_or_default();
            let count = ready!(to.as_mut().poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            moved.copied(count);
            *from += count;
            if *from >= data.len() {
                self.held = Held::Nothing;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and writes what the receiver takes. Ready with 0 at the end of the source.
    fn poll_copy(
        &mut self,
        buffer: &mut [u8],
        from: Pin<&mut impl AsyncRead>,
        to: Pin<&mut impl AsyncWrite>,
        moved: &Moved,
        cx: &mut Context<'_>,
    ) -> Result<Poll<usize>, Fault> {
        let mut read = ReadBuf::new(buffer);
        match from.poll_read(cx, &mut read) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(result) => result.map_err(Fault::from)?,
        }
        let data = read.filled();
        if data.is_empty() {
            return Ok(Poll::Ready(0));
        }
        moved.begin();
        let sent = match to.poll_write(cx, data) {
            Poll::Pending => 0,
            Poll::Ready(result) => result.map_err(Fault::to)?,
        };
        self.unflushed |= sent > 0;
        moved.copied(sent);
        self.held = Held::bytes(data.get(sent..).unwrap_or_default().to_vec());
        Ok(Poll::Ready(data.len()))
    }
}
