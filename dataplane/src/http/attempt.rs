//! One attempt at one endpoint, once there is a connection ([`super::dial`]): the request on it, and the head of the response.
//!
//! All futures here are polled by the exchange's own task, which also fills the [`Body`]; so waiting for a piece of it
//! needs no waker.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use constellation_table::{Endpoint, Live};
use h2::SendStream;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::{Instant, sleep_until};

use super::backlog::Backlog;
use super::body::{Body, Piece};
use super::pool::{Key, Pool};
use super::retry::Failure;

/// Interim responses (1xx) that a back end may send before the final one.
const MAX_INTERIM: u8 = 16;

/// A connection to a back end with a request on it.
pub(super) struct Upstream {
    pool: Arc<Pool>,
    session: HttpSession,
    /// The sending half in HTTP/2, which works while the other half reads.
    writer: Option<SendStream<Bytes>>,
    /// `None`: the connection is not to be kept here.
    key: Option<Key>,
    /// For HTTP/2, whose connections pingora keeps.
    peer: Option<Box<HttpPeer>>,
    endpoint: Arc<Endpoint>,
    reused: bool,
    /// Pieces of the body taken.
    position: usize,
    /// A piece that the flow control of HTTP/2 does not let go yet.
    unsent: Bytes,
    /// What an HTTP/1 connection has not taken yet.
    backlog: Backlog,
    /// The whole request was sent, or sending it has failed.
    sent: bool,
    send_failed: Option<Box<Error>>,
    interim: u8,
    /// When the head of the request was sent.
    asked: std::time::Instant,
    /// The body is over.
    ended: bool,
}

/// How waiting for a response ended.
pub(super) enum Reached {
    /// A final head, or an interim one after which waiting goes on with [`wait`].
    Head(Box<Upstream>, Box<ResponseHeader>),
    /// None.
    Failed(Failed),
}

/// An attempt that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) failure: Failure,
    pub(super) error: Box<Error>,
}

/// Sends the request and waits for the head of a response. `limit`: from the request sent to the head.
pub(super) async fn ask(
    mut upstream: Box<Upstream>,
    head: Box<RequestHeader>,
    body: Option<Body>,
    limit: Option<Duration>,
) -> Reached {
    upstream.asked = std::time::Instant::now();
    if let Err(error) = upstream.send_head(head, body.is_none()).await {
        return match unsendable(&error) {
            Some(failure) => Reached::Failed(Failed { failure, error }),
            None => upstream.failed(error),
        };
    }
    wait(upstream, body, limit).await
}

/// Waits for the head of a response while the rest of the request is sent.
pub(super) async fn wait(
    mut upstream: Box<Upstream>,
    body: Option<Body>,
    limit: Option<Duration>,
) -> Reached {
    let mut deadline = None;
    loop {
        if upstream.sent && deadline.is_none() {
            deadline = limit.map(|limit| Instant::now() + limit);
        }
        let event = match &body {
            Some(body) if !upstream.sent => upstream.head_or_piece(body).await,
            _ => match deadline {
                None => Event::Head(upstream.read_head().await),
                Some(at) => tokio::select! {
                    biased;
                    head = upstream.read_head() => Event::Head(head),
                    () = sleep_until(at) => {
                        let error = Error::explain(ErrorType::ReadTimedout, "no response in time");
                        return upstream.failed(error.into_up());
                    }
                },
            },
        };
        match event {
            Event::Head(Ok(head)) => {
                if head.status.is_informational() && head.status.as_u16() != 101 {
                    upstream.interim += 1;
                    if upstream.interim > MAX_INTERIM {
                        let error =
                            Error::explain(ErrorType::InvalidHTTPHeader, "too many interim responses");
                        return upstream.failed(error.into_up());
                    }
                }
                return Reached::Head(upstream, head);
            }
            Event::Head(Err(error)) => {
                // What went wrong first tells more.
                let first = upstream.send_failed.take().unwrap_or(error);
                return upstream.failed(first);
            }
            Event::Piece(piece) => {
                if let Err(error) = upstream.send_piece(piece).await {
                    return upstream.failed(error);
                }
            }
        }
    }
}

enum Event {
    Head(Result<Box<ResponseHeader>>),
    Piece(Piece),
}

/// A piece of a response body.
pub(super) enum Chunk<'u> {
    /// In the buffer of the connection.
    Buffered(&'u [u8]),
    /// On its own.
    Owned(Bytes),
}

impl Chunk<'_> {
    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Buffered(data) => data.len(),
            Self::Owned(data) => data.len(),
        }
    }

    /// The bytes on their own.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Buffered(data) => Bytes::copy_from_slice(data),
            Self::Owned(data) => data,
        }
    }
}

impl Upstream {
    pub(super) fn new(
        pool: &Arc<Pool>,
        session: HttpSession,
        key: Option<Key>,
        peer: Option<Box<HttpPeer>>,
        endpoint: Arc<Endpoint>,
        reused: bool,
    ) -> Box<Self> {
        let backlog = match &session {
            HttpSession::H1(h1) => Backlog::of(h1.stream()),
            _ => Backlog::default(),
        };
        Box::new(Self {
            pool: pool.clone(),
            session,
            writer: None,
            key,
            peer,
            endpoint,
            reused,
            position: 0,
            unsent: Bytes::new(),
            backlog,
            sent: false,
            send_failed: None,
            interim: 0,
            asked: std::time::Instant::now(),
            ended: false,
        })
    }

    /// The live side of the endpoint.
    pub(super) fn live(&self) -> Arc<Live> {
        self.endpoint.live.clone()
    }

    /// Since the head of the request was sent.
    pub(super) fn latency(&self) -> Duration {
        self.asked.elapsed()
    }

    /// Whether the request goes out over HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.session, HttpSession::H2(_))
    }

    fn failed(self, error: Box<Error>) -> Reached {
        let downgraded = matches!(error.etype(), ErrorType::H2Downgrade | ErrorType::InvalidH2);
        if downgraded && let Some(peer) = &self.peer {
            self.pool.prefer_h1(peer);
        }
        // A node that goes closes its connections, new ones too, and may be back at once as another process.
        let reused = self.reused || self.endpoint.peer.is_some();
        Reached::Failed(Failed {
            failure: failure_of(&error, reused),
            error,
        })
    }

    async fn send_head(&mut self, head: Box<RequestHeader>, end: bool) -> Result<()> {
        match &mut self.session {
            HttpSession::H1(h1) => {
                h1.write_request_header(head).await.map_err(Error::into_up)?;
            }
            HttpSession::H2(h2) => {
                h2.write_request_header(head, end).map_err(Error::into_up)?;
                self.writer = h2.take_request_body_writer();
            }
            HttpSession::Custom(()) => {}
        }
        self.sent = end;
        Ok(())
    }

    async fn read_head(&mut self) -> Result<Box<ResponseHeader>> {
        match &mut self.session {
            HttpSession::H1(h1) => h1.read_resp_header_parts().await.map_err(Error::into_up),
            HttpSession::H2(h2) => {
                h2.read_response_header().await.map_err(Error::into_up)?;
                let head = h2.response_header().cloned().map(Box::new);
                head.ok_or_else(|| Error::explain(ErrorType::InvalidHTTPHeader, "no head").into_up())
            }
            HttpSession::Custom(()) => Err(Error::new_up(ErrorType::InternalError)),
        }
    }

    /// The next of: the head of the response; a piece of the body to send (HTTP/1); a part of the body sent (HTTP/2).
    async fn head_or_piece(&mut self, body: &Body) -> Event {
        let Self {
            session,
            writer,
            position,
            unsent,
            backlog,
            sent,
            ..
        } = self;
        if let (HttpSession::H2(h2), Some(writer)) = (&mut *session, writer) {
            let sending = poll_fn(|cx| {
                loop {
                    if *sent {
                        return Poll::Pending;
                    }
                    match ready!(poll_send(writer, unsent, position, sent, body, cx)) {
                        Ok(()) => {}
                        Err(error) => return Poll::Ready(error),
                    }
                }
            });
            return tokio::select! {
                biased;
                head = h2.read_response_header() => {
                    let head = head.map_err(Error::into_up).and_then(|()| {
                        h2.response_header().cloned().map(Box::new).ok_or_else(|| {
                            Error::explain(ErrorType::InvalidHTTPHeader, "no head").into_up()
                        })
                    });
                    Event::Head(head)
                }
                error = sending => Event::Head(Err(error)),
            };
        }
        // Reading sends the backlog on, and wakes us when that is done.
        let piece = poll_fn(|_| {
            if !backlog.takes() {
                return Poll::Pending;
            }
            match body.piece(*position) {
                Piece::Wait => Poll::Pending,
                piece => Poll::Ready(piece),
            }
        });
        match session {
            HttpSession::H1(h1) => tokio::select! {
                biased;
                piece = piece => Event::Piece(piece),
                head = h1.read_resp_header_parts() => Event::Head(head.map_err(Error::into_up)),
            },
            _ => Event::Piece(piece.await),
        }
    }

    /// Sends a piece of the body over HTTP/1. A failure is kept: the back end may have answered before it stopped
    /// listening.
    async fn send_piece(&mut self, piece: Piece) -> Result<()> {
        let HttpSession::H1(h1) = &mut self.session else {
            return Ok(());
        };
        let result = match piece {
            Piece::Data(data) => {
                self.position += 1;
                h1.write_body(&data).await.map(|_| ())
            }
            Piece::End => {
                self.sent = true;
                h1.finish_body().await.map(|_| ())
            }
            Piece::Wait => Ok(()),
            Piece::Lost => {
                return Err(
                    Error::explain(ErrorType::InternalError, "the request body was not kept").into_up(),
                );
            }
        };
        if let Err(error) = result {
            self.sent = true;
            self.send_failed = Some(error.into_up());
        }
        Ok(())
    }

    /// Whether sending the request has failed, or goes on although the response is over.
    fn is_unsound(&self) -> bool {
        self.send_failed.is_some() || !self.sent || !self.backlog.is_empty()
    }

    /// Begins with the response body. Whether there is none.
    pub(super) fn begin_body(&mut self, head: &ResponseHeader, method: &http::Method) -> Result<bool> {
        self.ended = match &mut self.session {
            HttpSession::H1(h1) => h1.is_body_done(),
            HttpSession::H2(h2) => {
                let end = h2.check_response_end_or_error().map_err(Error::into_up)?;
                let bodiless = *method == http::Method::HEAD || matches!(head.status.as_u16(), 204 | 304);
                let promised = head
                    .headers
                    .get(http::header::CONTENT_LENGTH)
                    .is_some_and(|length| length.as_bytes().iter().any(|digit| *digit != b'0'));
                if end && promised && !bodiless {
                    // The library does not compare a length with a body that is not there.
                    let error = Error::explain(ErrorType::H2Error, "a length, and no body");
                    return Err(error.into_up());
                }
                end
            }
            HttpSession::Custom(()) => true,
        };
        Ok(self.ended)
    }

    /// The next piece of the response body; `None` at its end. Meanwhile the rest of `body` goes out over HTTP/2.
    /// Cancel safe.
    pub(super) async fn read(&mut self, body: Option<&Body>) -> Result<Option<Chunk<'_>>> {
        if self.ended {
            return Ok(None);
        }
        let Self {
            session,
            writer,
            position,
            unsent,
            sent,
            send_failed,
            ..
        } = self;
        match session {
            HttpSession::H1(h1) => {
                let chunk = h1.read_body_ref().await.map_err(Error::into_up)?;
                Ok(chunk.map(Chunk::Buffered))
            }
            HttpSession::H2(h2) => {
                let sending = poll_fn(|cx| {
                    while let (Some(writer), Some(body), false) = (writer.as_mut(), body, *sent) {
                        if let Err(error) = ready!(poll_send(writer, unsent, position, sent, body, cx)) {
                            *sent = true;
                            *send_failed = Some(error);
                        }
                    }
                    Poll::<()>::Pending
                });
                let chunk = tokio::select! {
                    biased;
                    chunk = h2.read_response_body() => chunk.map_err(Error::into_up)?,
                    () = sending => None,
                };
                if chunk.is_none() {
                    h2.check_response_end_or_error().map_err(Error::into_up)?;
                }
                Ok(chunk.map(Chunk::Owned))
            }
            HttpSession::Custom(()) => Ok(None),
        }
    }

    /// Looks whether the piece read last was the end. To be called after each piece.
    pub(super) fn look_for_end(&mut self) -> Result<bool> {
        if !self.ended {
            self.ended = match &mut self.session {
                HttpSession::H1(h1) => h1.is_body_done(),
                // Trailers may follow: the end shows with the next read.
                HttpSession::H2(_) => false,
                HttpSession::Custom(()) => true,
            };
        }
        Ok(self.ended)
    }

    /// The body is over.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The trailers of HTTP/2.
    pub(super) async fn trailers(&mut self) -> Result<Option<http::HeaderMap>> {
        match &mut self.session {
            HttpSession::H2(h2) => h2.read_trailers().await.map_err(Error::into_up),
            _ => Ok(None),
        }
    }

    /// Sends a piece of the request body while the response is on its way; `None` is the end of it.
    async fn send(&mut self, data: Option<Bytes>) {
        if self.sent {
            return;
        }
        let result = match (&mut self.session, data) {
            (HttpSession::H1(h1), Some(data)) => {
                h1.maybe_upgrade_body_writer();
                h1.write_body(&data).await.map(|_| ())
            }
            (HttpSession::H1(h1), None) => {
                self.sent = true;
                h1.maybe_upgrade_body_writer();
                h1.finish_body().await.map(|_| ())
            }
            _ => Ok(()),
        };
        if let Err(error) = result {
            self.sent = true;
            self.send_failed = Some(error.into_up());
        }
    }

    /// When an HTTP/1 connection takes more, and there is more to send. To be polled beside [`Self::read`], which sends
    /// on what waits.
    pub(super) fn takes_more<'b>(&self, body: Option<&'b Body>) -> impl Future<Output = ()> + Send + use<'b> {
        let (backlog, position) = (self.backlog.clone(), self.position);
        let body = body.filter(|_| !self.sent && !self.is_http2());
        poll_fn(move |_| match body {
            Some(body) if backlog.takes() && body.has(position) => Poll::Ready(()),
            _ => Poll::Pending,
        })
    }

    /// When an upgraded connection takes more.
    pub(super) fn takes_data(&self) -> impl Future<Output = ()> + Send + use<> {
        let backlog = self.backlog.clone();
        poll_fn(move |_| match backlog.takes() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
    }

    /// Closes the connection once what waits was taken, or was not for long.
    pub(super) async fn hang_up(&mut self) {
        if let HttpSession::H1(h1) = &mut self.session {
            h1.shutdown().await;
        }
    }

    /// Sends on what came of the body, over HTTP/1. HTTP/2 does that while it reads.
    pub(super) async fn send_what_came(&mut self, body: &Body) {
        if self.is_http2() {
            return;
        }
        while !self.sent && self.backlog.takes() {
            match body.piece(self.position) {
                Piece::Wait | Piece::Lost => return,
                Piece::End => self.send(None).await,
                Piece::Data(data) => {
                    self.position += 1;
                    self.send(Some(data)).await;
                }
            }
        }
    }

    /// Sends data of an upgraded connection.
    pub(super) async fn send_upgraded(&mut self, data: Bytes) -> Result<()> {
        self.send(Some(data)).await;
        self.send_failed.take().map_or(Ok(()), Err)
    }

    /// Whether it became another protocol.
    pub(super) fn was_upgraded(&self) -> bool {
        self.session.as_http1().is_some_and(|h1| h1.was_upgraded())
    }

    /// An upgraded connection goes on taking data whatever the request's own body was.
    pub(super) fn reopen(&mut self) {
        self.sent = self.send_failed.is_some();
    }

    /// Response body bytes received.
    pub(super) fn received(&self) -> u64 {
        let received = match &self.session {
            HttpSession::H1(h1) => h1.body_bytes_received(),
            HttpSession::H2(h2) => h2.body_bytes_received(),
            HttpSession::Custom(()) => 0,
        };
        received as u64
    }

    /// Gives the connection back when all is in order, and closes it otherwise. `idle_for`: how long it is kept.
    pub(super) async fn release(self, idle_for: Option<Duration>) {
        if !self.ended || self.is_unsound() {
            return;
        }
        let Some(key) = self.key else {
            // A stream to another node, whose connection the links keep.
            return;
        };
        let pool = self.pool.clone();
        pool.release(
            self.session,
            key,
            &self.endpoint.live,
            self.peer.as_deref(),
            idle_for,
        )
        .await;
    }

    /// Reads what is left of a response that nobody wants, if that is little and quick, to keep the connection.
    pub(super) async fn discard(mut self, idle_for: Option<Duration>) {
        const MOST: u64 = 64 * 1024;
        const LONGEST: Duration = Duration::from_secs(1);
        let before = self.received();
        let reading = tokio::time::timeout(LONGEST, async {
            while !self.ended {
                if self.read(None).await?.is_none() {
                    self.ended = true;
                }
                self.look_for_end()?;
                if self.received() - before > MOST {
                    break;
                }
            }
            Ok::<(), Box<Error>>(())
        });
        if let Ok(Ok(())) = reading.await {
            self.release(idle_for).await;
        }
    }
}

/// Hands data to HTTP/2 as far as its flow control allows.
fn poll_send(
    writer: &mut SendStream<Bytes>,
    unsent: &mut Bytes,
    position: &mut usize,
    sent: &mut bool,
    body: &Body,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Box<Error>>> {
    let failed =
        |error: h2::Error| Error::because(ErrorType::WriteError, "sending the body", error).into_up();
    if unsent.is_empty() {
        match body.piece(*position) {
            Piece::Data(data) => {
                *position += 1;
                *unsent = data;
            }
            Piece::End => {
                *sent = true;
                return Poll::Ready(writer.send_data(Bytes::new(), true).map_err(failed));
            }
            Piece::Wait => {
                // The stream may end while we wait for the client.
                if let Poll::Ready(Ok(reason)) = writer.poll_reset(cx) {
                    *sent = true;
                    if reason != h2::Reason::NO_ERROR {
                        let error =
                            Error::explain(ErrorType::WriteError, format!("the stream was reset: {reason}"));
                        return Poll::Ready(Err(error.into_up()));
                    }
                }
                return Poll::Pending;
            }
            Piece::Lost => {
                let error = Error::explain(ErrorType::InternalError, "the request body was not kept");
                return Poll::Ready(Err(error.into_up()));
            }
        }
    }
    writer.reserve_capacity(unsent.len());
    match ready!(writer.poll_capacity(cx)) {
        Some(Ok(room)) => {
            let data = unsent.split_to(room.min(unsent.len()));
            Poll::Ready(writer.send_data(data, false).map_err(failed))
        }
        Some(Err(error)) => Poll::Ready(Err(failed(error))),
        None => Poll::Ready(Err(
            Error::explain(ErrorType::WriteError, "the stream is closed").into_up()
        )),
    }
}

/// What the error of a head says that was never sent: no endpoint is to blame for it.
fn unsendable(error: &Error) -> Option<Failure> {
    if *error.etype() == ErrorType::InvalidHTTPHeader {
        return Some(Failure::Final);
    }
    let h2: &h2::Error = error.root_cause().downcast_ref()?;
    let of_connection = h2.is_go_away() || h2.is_io() || h2.is_reset() || h2.is_library();
    Some(match of_connection {
        true => Failure::NotProcessed,
        // The library does not take this head.
        false => Failure::Final,
    })
}

/// How an attempt failed after there was a connection.
fn failure_of(error: &Error, reused: bool) -> Failure {
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Failure::Silent,
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError => {
            Failure::Broken { reused }
        }
        // A connection that says so was not closed while it was idle.
        ErrorType::H2Error | ErrorType::H2Downgrade | ErrorType::InvalidH2 | ErrorType::H1Error => {
            match error.root_cause().downcast_ref() {
                Some(error) if is_unprocessed(error) => Failure::NotProcessed,
                _ => Failure::Broken { reused: false },
            }
        }
        ErrorType::InvalidHTTPHeader => Failure::Unsound,
        _ => Failure::Final,
    }
}

/// Whether the back end says that it did nothing for the request (RFC 9113 section 8.7). The library tells a stream of
/// GOAWAY only when its number is above the last one processed; one with an error may come from a back end that does not
/// know any more what it processed. HTTP_1_1_REQUIRED asks for the request by other means.
///
/// What we found wrong with the connection says nothing of the sort, whatever a retry might mend.
fn is_unprocessed(error: &h2::Error) -> bool {
    error.is_remote()
        && match error.reason() {
            Some(h2::Reason::NO_ERROR) => error.is_go_away(),
            Some(h2::Reason::REFUSED_STREAM) => error.is_reset(),
            Some(h2::Reason::HTTP_1_1_REQUIRED) => true,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use h2::Reason;

    use super::*;

    /// What the library says of a stream whose connection ends in that way comes from a live connection, in the tests of
    /// the whole; here are the errors that can be made.
    #[test]
    fn what_we_find_wrong_with_a_connection_does_not_mean_that_nothing_was_done() {
        for reason in [Reason::PROTOCOL_ERROR, Reason::REFUSED_STREAM, Reason::NO_ERROR] {
            for kind in [ErrorType::H2Error, ErrorType::InvalidH2, ErrorType::H2Downgrade] {
                let mut error = Error::because(kind, "reading", h2::Error::from(reason));
                error.retry = true.into();
                assert_eq!(failure_of(&error, true), Failure::Broken { reused: false });
            }
        }
    }
}
