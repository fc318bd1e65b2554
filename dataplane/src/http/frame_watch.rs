//! The part of a connection's IO that is for HTTP/2: every byte passes a [`Guard`], which may end the connection or a
//! stream of it.
//!
//! A client that does too much of something gets GOAWAY with `ENHANCE_YOUR_CALM` and the end of the connection. A stream
//! whose response is not taken is reset on both sides: the `h2` crate reads a RST_STREAM as if the client had sent it, and
//! the client gets one as if `h2` had.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::frames::{FrameLimits, Guard, Look, reset_frame};
use super::framing::Next;
use super::io::{Io, State, Transport};
use super::refusal::Refusal;
use crate::metrics::Refusal as Label;
use crate::settings::Limits;

/// What is known of the frames of one connection.
pub(super) struct FrameWatch {
    guard: Guard,
    /// The end of the time for the client's first settings, or for a header section that has begun.
    head: Option<Instant>,
    /// Frames that go to `h2` as soon as it is at the end of one.
    to_h2: Vec<u8>,
    /// Frames that go to the client as soon as it is at the end of one.
    to_client: Vec<u8>,
}

impl FrameWatch {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            guard: Guard::new(FrameLimits {
                streams: limits.max_concurrent_streams,
                header_bytes: limits.max_header_bytes,
                body: limits.least_body(),
                send: limits.least_send(),
            }),
            head: Some(Instant::now() + limits.header_timeout),
            to_h2: Vec::new(),
            to_client: Vec::new(),
        }
    }
}

impl<S: Transport> Io<S> {
    /// Reads what the client sent, or what we put in between.
    pub(super) fn poll_read_frames(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.state != State::Open {
                return self.poll_end(cx);
            }
            self.pass_frames_to_client();
            if !self.pending.is_empty()
                && let Poll::Ready(Err(error)) = self.poll_pending(cx)
            {
                return Poll::Ready(Err(error));
            }
            if self.take_frames_for_h2(to) {
                return Poll::Ready(Ok(()));
            }
            let before = to.filled().len();
            match self.poll_read_raw(cx, to) {
                Poll::Ready(Ok(())) => {
                    let bytes = to.filled().get(before..).unwrap_or_default();
                    let Err(refusal) = self.look_at_received(bytes) else {
                        return Poll::Ready(Ok(()));
                    };
                    to.set_filled(before);
                    self.calm(refusal);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let refusal = match ready!(self.poll_clock(cx)) {
                        Ok(()) => continue,
                        Err(refusal) => refusal,
                    };
                    self.calm(refusal);
                }
            }
        }
    }

    /// First what was read before the protocol was known, then what comes.
    fn poll_read_raw(&mut self, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.requests.held() > 0 && matches!(self.requests.advance(), Ok(Next::Take)) {
            self.requests.take(to);
            return Poll::Ready(Ok(()));
        }
        self.inner()?.poll_read(cx, to)
    }

    fn look_at_received(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let header_timeout = self.connection.entry_point.limits.header_timeout;
        let Some(watch) = &mut self.frames else {
            return Ok(());
        };
        let now = Instant::now();
        watch.guard.received(bytes, now.into_std())?;
        if !watch.guard.is_in_head() {
            watch.head = None;
        } else if watch.head.is_none() {
            watch.head = Some(now + header_timeout);
        }
        Ok(())
    }

    /// Nothing came. Ready when time did something: put a frame in, or found a reason to end the connection.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        let bodies = !self.connection.is_unpaced();
        let Some(watch) = &mut self.frames else {
            return Poll::Pending;
        };
        let now = Instant::now();
        let look = watch.guard.next_look(now.into_std()).map(Instant::from_std);
        let Some(next) = watch.head.into_iter().chain(look).min() else {
            return Poll::Pending;
        };
        let head = watch.head;
        self.deadline = Some(next);
        ready!(self.poll_deadline(cx));
        let now = Instant::now();
        if head.is_some_and(|head| head <= now) {
            return Poll::Ready(Err(Refusal::HeaderTimeout));
        }
        if look.is_some_and(|look| look <= now) {
            self.look_at_clock(now, bodies)?;
        }
        Poll::Ready(Ok(()))
    }

    fn look_at_clock(&mut self, now: Instant, bodies: bool) -> Result<(), Refusal> {
        let Some(watch) = &mut self.frames else {
            return Ok(());
        };
        let Look::Reset(streams) = watch.guard.look(now.into_std(), bodies)? else {
            return Ok(());
        };
        tracing::debug!(client = %self.connection.client, count = streams.len(), "streams are not read, and reset");
        for stream in streams {
            let frame = reset_frame(stream);
            watch.to_h2.extend_from_slice(&frame);
            watch.to_client.extend_from_slice(&frame);
            self.connection.count_slow_stream();
        }
        watch.guard.set_overdue(true);
        Ok(())
    }

    /// Puts frames of ours in front of what the client sends next. True when there were any.
    fn take_frames_for_h2(&mut self, to: &mut ReadBuf<'_>) -> bool {
        let Some(watch) = &mut self.frames else {
            return false;
        };
        if watch.to_h2.is_empty() || !watch.guard.client_at_boundary() {
            return false;
        }
        let count = watch.to_h2.len().min(to.remaining());
        to.put_slice(watch.to_h2.get(..count).unwrap_or_default());
        watch.to_h2.drain(..count);
        watch.guard.set_overdue(!watch.to_h2.is_empty());
        count > 0
    }

    /// Puts frames of ours behind what was sent last.
    fn pass_frames_to_client(&mut self) {
        if let Some(watch) = &mut self.frames
            && !watch.to_client.is_empty()
            && watch.guard.we_at_boundary()
        {
            self.pending.append(&mut watch.to_client);
        }
    }

    /// Writes what `h2` has to say.
    pub(super) fn poll_write_frames(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pass_frames_to_client();
        if !self.pending.is_empty() {
            ready!(self.poll_pending(cx))?;
        }
        let polled = self.inner()?.poll_write_vectored(cx, pieces);
        let count = ready!(self.watch_send(cx, polled))?;
        let Some(watch) = &mut self.frames else {
            return Poll::Ready(Ok(count));
        };
        let now = Instant::now().into_std();
        let mut left = count;
        for piece in pieces {
            let part = piece.get(..left.min(piece.len())).unwrap_or_default();
            left -= part.len();
            if let Err(refusal) = watch.guard.sent(part, now) {
                self.calm(refusal);
                return Poll::Ready(Ok(count));
            }
        }
        if watch.guard.went_away() {
            self.connection.set_refused(Refusal::Calm(Label::H2Error));
        }
        Poll::Ready(Ok(count))
    }

    /// Ends the connection, with GOAWAY if it can be put in.
    fn calm(&mut self, refusal: Refusal) {
        let words = match &self.frames {
            Some(watch) if watch.guard.we_at_boundary() => watch.guard.go_away(),
            _ => Vec::new(),
        };
        let pending = std::mem::take(&mut self.pending);
        let from = std::mem::take(&mut self.pending_from);
        // It sets words of HTTP/1, which are none here.
        self.refuse(refusal, false);
        self.pending = pending;
        self.pending_from = from;
        self.pending.extend_from_slice(&words);
        // Without words there is nothing that a slow end would save.
        self.abort = self.pending.is_empty();
    }
}
