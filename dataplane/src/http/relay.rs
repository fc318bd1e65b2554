//! A response on its way to the client, while the rest of the request is on its way to the back end.

use bytes::{Bytes, BytesMut};
use constellation_table::Live;
use http::{Method, Version, header};
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use tokio::time::sleep;

use super::answer::Own;
use super::attempt::{Chunk, Upstream};
use super::body::{Body, Share};
use super::buffering::replacing;
use super::chain::{Left, Transforms};
use super::downstream::{send_chunk, send_data, send_head};
use super::exchange::Exchange;
use super::forwarded;
use super::meshed;
use super::proxy::App;
use super::race::{Winner, wanted};
use crate::departure;

/// What a transform holds back goes to the client when nothing more has come for so long. Long enough for the pieces of
/// one page, short enough for a conversation.
const FLUSH_AFTER: std::time::Duration = std::time::Duration::from_millis(10);

impl App {
    /// Hands the response on to its end.
    pub(super) async fn relay(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        winner: Winner,
    ) -> Result<()> {
        let began = std::time::Instant::now();
        let Winner {
            mut upstream,
            head,
            body,
            body_done,
            busy,
        } = winner;
        if let Some(body) = &body {
            body.settle();
        }
        let relayed = self
            .pass(session, exchange, &mut upstream, head, body.as_ref(), body_done)
            .await;
        exchange.origin_duration += began.elapsed();
        exchange.origin_bytes = upstream.received();
        let idle_for = exchange.endpoint().map(|(_, state)| state.idle_for());
        match relayed? {
            Passed::Whole => {
                exchange.give_places_back();
                session.finish_body().await.map_err(Error::into_down)?;
            }
            Passed::Replaced => {
                drop(busy);
                self.discard(upstream);
                return Ok(());
            }
        }
        drop(busy);
        if let Some(idle_for) = idle_for {
            upstream.release(idle_for).await;
        }
        Ok(())
    }

    /// Tries to keep the connection of a response that nobody wants; closes it when many are being read to their end.
    pub(super) fn discard(&self, upstream: Box<Upstream>) {
        if let Ok(place) = self.discarding.clone().try_acquire_owned() {
            tokio::spawn(async move {
                upstream.discard(None).await;
                drop(place);
            });
        }
    }

    async fn pass(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        upstream: &mut Upstream,
        mut head: Box<ResponseHeader>,
        body: Option<&Body>,
        mut body_done: bool,
    ) -> Result<Passed> {
        let end = upstream.begin_body(&head, &session.req_header().method)?;
        self.clean(exchange, &mut head)?;
        let upgraded = upstream.was_upgraded();
        let mut begin = Begin::default();
        if let Some(wanted) = wanted_first(exchange, &head).filter(|_| !end && !upgraded) {
            let room = Share::of(&self.edge.kept);
            begin = gather(session, exchange, upstream, body, &mut body_done, wanted, room).await?;
            if begin.too_long {
                let own = replacing(exchange, &head)?;
                return self.replace(session, exchange, own, body_done).await;
            }
            if begin.over && exchange.held.is_some() {
                head.remove_header(&header::TRANSFER_ENCODING);
                head.set_content_length(begin.data.len())?;
            }
        }
        let mut transforms = Transforms::default();
        if !exchange.later.is_empty() {
            let left = self.leave(session, exchange, &mut head, &begin.data, end).await?;
            match left {
                Left::Same(through) => transforms = through,
                Left::Replaced(own) => {
                    self.tell_and_send(session, exchange, *own, body_done).await?;
                    return Ok(Passed::Replaced);
                }
            }
        }
        self.frame(session, exchange, &mut head, end)?;
        let mut awaited = Awaited::of(&head);
        if end || begin.over {
            exchange.give_places_back();
        }
        send_head(session, head, end).await?;
        if upgraded {
            upstream.reopen();
            body_done = false;
        } else if end {
            return Ok(Passed::Whole);
        }
        if !begin.data.is_empty() {
            if awaited.ends_with(begin.data.len()) {
                exchange.give_places_back();
            }
            let data = transforms.push(begin.data)?;
            send_data(session, data, false).await?;
        }
        if begin.over {
            finish(session, upstream, &mut transforms).await?;
            return Ok(Passed::Whole);
        }
        if let Some(body) = body {
            upstream.send_what_came(body).await;
        }
        let live = upstream.live();
        loop {
            let held_back = transforms.hold_back();
            match next(session, upstream, body, body_done, held_back, &live).await? {
                Event::Response(Some(chunk)) if !transforms.is_empty() => {
                    let data = transforms.push(chunk.into_bytes())?;
                    send_data(session, data, false).await?;
                    if upstream.look_for_end()? {
                        exchange.give_places_back();
                        let rest = transforms.finish(&mut None)?;
                        send_data(session, rest, session.is_http2()).await?;
                        return Ok(Passed::Whole);
                    }
                }
                Event::Flush => {
                    let data = transforms.flush()?;
                    send_data(session, data, false).await?;
                }
                // In HTTP/2 the last piece says that it is the last.
                Event::Response(Some(chunk)) if session.is_http2() => {
                    let data = chunk.into_bytes();
                    let end = upstream.look_for_end()?;
                    if end {
                        exchange.give_places_back();
                    }
                    send_data(session, data, end).await?;
                    if end {
                        return Ok(Passed::Whole);
                    }
                }
                Event::Response(Some(chunk)) => {
                    if awaited.ends_with(chunk.len()) {
                        exchange.give_places_back();
                    }
                    send_chunk(session, chunk).await?;
                    if upstream.look_for_end()? {
                        return Ok(Passed::Whole);
                    }
                }
                Event::Response(None) => {
                    exchange.give_places_back();
                    finish(session, upstream, &mut transforms).await?;
                    return Ok(Passed::Whole);
                }
                Event::Request(data) if upgraded => {
                    if data.is_none() {
                        // The client has ended the conversation.
                        upstream.hang_up().await;
                        return Ok(Passed::Whole);
                    }
                    upstream.send_upgraded(data.unwrap_or_default()).await?;
                }
                Event::Room => {
                    if let Some(body) = body {
                        upstream.send_what_came(body).await;
                    }
                }
                Event::Request(data) => {
                    if let Some(body) = body {
                        body_done = exchange.take_in(data, session, body)?;
                        upstream.send_what_came(body).await;
                    }
                }
            }
        }
    }

    /// Sends a response of our own in the place of a back end's, through the middlewares that wait for one.
    async fn replace(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        mut own: Own,
        body_done: bool,
    ) -> Result<Passed> {
        let first = own.body.clone();
        let bodiless = first.is_empty() || session.req_header().method == Method::HEAD;
        let left = self
            .leave(session, exchange, &mut own.head, &first, bodiless)
            .await?;
        let own = match left {
            Left::Same(transforms) => own.through(transforms)?,
            Left::Replaced(own) => *own,
        };
        self.tell_and_send(session, exchange, own, body_done).await?;
        Ok(Passed::Replaced)
    }

    async fn tell_and_send(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        mut own: Own,
        body_done: bool,
    ) -> Result<()> {
        if !body_done {
            session.set_keepalive(None);
        }
        self.tell_served_by(exchange, &mut own.head)?;
        exchange.give_places_back();
        own.send(session).await.map_err(Error::into_down)
    }

    /// Takes from the head of a response what no client may see, and adds the cookies that keep a client where it is.
    fn clean(&self, exchange: &Exchange, head: &mut ResponseHeader) -> Result<()> {
        meshed::strip_response(head);
        if head.status.as_u16() == 101 {
            return Ok(());
        }
        forwarded::clean_response(head);
        // Each hop states its own version (RFC 9110 section 2.5), whatever an old back end speaks.
        head.set_version(Version::HTTP_11);
        let answering = exchange.leg_of(exchange.candidate).zip(exchange.endpoint());
        if let Some((leg, (endpoint, _))) = answering {
            for cookie in &leg.cookies {
                head.append_header(header::SET_COOKIE, cookie.clone())?;
            }
            if let Some(cookie) = leg.service.set_cookie(endpoint, leg.carried) {
                head.append_header(header::SET_COOKIE, cookie)?;
            }
        }
        Ok(())
    }

    /// Makes the head of a response say how its body is framed for the client.
    fn frame(
        &self,
        session: &mut ServerSession,
        exchange: &Exchange,
        head: &mut ResponseHeader,
        end: bool,
    ) -> Result<()> {
        let Some(connection) = &exchange.connection else {
            return Ok(());
        };
        if head.status.as_u16() == 101 {
            connection.upgrade();
            return Ok(());
        }
        let bodiless =
            session.req_header().method == Method::HEAD || matches!(head.status.as_u16(), 204 | 304);
        let unframed = !head.headers.contains_key(header::TRANSFER_ENCODING)
            && !head.headers.contains_key(header::CONTENT_LENGTH);
        if unframed && !bodiless {
            if !end {
                head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
            } else if !session.is_http2() {
                // An HTTP/2 back end has ended its stream with the head; in HTTP/1 nothing else would say so.
                head.insert_header(header::CONTENT_LENGTH, "0")?;
            }
        }
        if session.req_header().version == Version::HTTP_10
            && head.remove_header(&header::TRANSFER_ENCODING).is_some()
        {
            // Such a client knows no chunks: the end of the connection is the end of the body.
            session.set_keepalive(None);
        }
        if connection.closing.is_cancelled() {
            session.set_keepalive(None);
        }
        self.tell_served_by(exchange, head)
    }
}

/// How a response went to the client.
enum Passed {
    /// As it came, to its end.
    Whole,
    /// Another one went instead, and the rest of this is of no use.
    Replaced,
}

/// What is left of a body whose length the client knows; `None`: it does not.
struct Awaited(Option<u64>);

impl Awaited {
    fn of(head: &ResponseHeader) -> Self {
        let length = head.headers.get(header::CONTENT_LENGTH);
        Self(length.and_then(|length| length.to_str().ok()?.parse().ok()))
    }

    /// Counts a piece. Whether the client knows that it is the last one.
    fn ends_with(&mut self, bytes: usize) -> bool {
        self.0 = self.0.map(|left| left.saturating_sub(bytes as u64));
        self.0 == Some(0)
    }
}

enum Event<'u> {
    Response(Option<Chunk<'u>>),
    Request(Option<Bytes>),
    /// Nothing came for a while, and something is held back.
    Flush,
    /// The back end takes more of the request's body.
    Room,
}

/// How much of a body has to be there before the head goes on.
#[derive(Clone, Copy)]
enum Wanted {
    /// A piece of it.
    First,
    /// All of it, up to so many bytes; a longer one is refused, if so it is said.
    Whole { most: u64, refused: bool },
}

/// What of the body has to be there before the head goes on; `None`: nothing.
fn wanted_first(exchange: &Exchange, head: &ResponseHeader) -> Option<Wanted> {
    if let Some(held) = &exchange.held {
        let (most, refused) = held.buffers.most_of_response();
        return Some(Wanted::Whole { most, refused });
    }
    let looks = exchange.later.iter().any(|later| later.looks_at_body(head));
    looks.then_some(Wanted::First)
}

/// The begin of a body.
#[derive(Default)]
struct Begin {
    data: Bytes,
    /// It is all of it.
    over: bool,
    /// It is longer than it may be, or there is no room for it.
    too_long: bool,
    /// The room that it takes, for as long as the response lasts.
    _room: Option<Share>,
}

/// Reads the begin of a response body, while the rest of the request is on its way.
async fn gather(
    session: &mut ServerSession,
    exchange: &mut Exchange,
    upstream: &mut Upstream,
    body: Option<&Body>,
    body_done: &mut bool,
    wanted: Wanted,
    mut room: Share,
) -> Result<Begin> {
    if let Some(body) = body {
        upstream.send_what_came(body).await;
    }
    let live = upstream.live();
    let mut data = BytesMut::new();
    loop {
        match next(session, upstream, body, *body_done, false, &live).await? {
            Event::Response(Some(chunk)) => {
                let chunk = chunk.into_bytes();
                data.extend_from_slice(&chunk);
                let over = upstream.look_for_end()?;
                let (enough, too_long) = match wanted {
                    Wanted::First => (!data.is_empty(), false),
                    Wanted::Whole { most, refused } => {
                        let longer = data.len() as u64 > most || !room.take(chunk.len() as u64);
                        (longer, longer && refused)
                    }
                };
                if over || enough {
                    return Ok(Begin {
                        data: data.freeze(),
                        over,
                        too_long,
                        _room: Some(room),
                    });
                }
            }
            Event::Response(None) => {
                return Ok(Begin {
                    data: data.freeze(),
                    over: true,
                    too_long: false,
                    _room: Some(room),
                });
            }
            Event::Request(piece) => {
                if let Some(body) = body {
                    *body_done = exchange.take_in(piece, session, body)?;
                    upstream.send_what_came(body).await;
                }
            }
            Event::Room => {
                if let Some(body) = body {
                    upstream.send_what_came(body).await;
                }
            }
            Event::Flush => {}
        }
    }
}

/// What happens next. `held_back`: something waits for a pause.
async fn next<'u>(
    session: &mut ServerSession,
    upstream: &'u mut Upstream,
    body: Option<&Body>,
    body_done: bool,
    held_back: bool,
    live: &Live,
) -> Result<Event<'u>> {
    let upgraded = upstream.was_upgraded();
    let running = if upgraded {
        departure::Running::Upgraded
    } else {
        departure::Running::Request
    };
    let (takes_more, takes_data) = (upstream.takes_more(body), upstream.takes_data());
    tokio::select! {
        biased;
        chunk = upstream.read(body) => Ok(Event::Response(chunk?)),
        () = takes_more, if !upgraded => Ok(Event::Room),
        read = async {
            if upgraded {
                takes_data.await;
            } else {
                wanted(body, body_done, 1).await;
            }
            session.read_body_or_idle(body_done).await
        } => Ok(Event::Request(read.map_err(Error::into_down)?)),
        () = sleep(FLUSH_AFTER), if held_back => Ok(Event::Flush),
        () = departure::limit_of(live, running) => {
            let error = Error::explain(ErrorType::ReadTimedout, "its time after the endpoint's departure is over");
            Err(error.into_up())
        }
    }
}

/// The body of the response is over: trailers follow, or nothing.
async fn finish(
    session: &mut ServerSession,
    upstream: &mut Upstream,
    transforms: &mut Transforms,
) -> Result<()> {
    let mut trailers = upstream.trailers().await?;
    if !transforms.is_empty() {
        let rest = transforms.finish(&mut trailers)?;
        let last = trailers.is_none() && session.is_http2();
        send_data(session, rest, last).await?;
    }
    if let Some(trailers) = trailers {
        session
            .write_response_trailers(trailers)
            .await
            .map_err(Error::into_down)?;
    }
    upstream.end();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_knows_the_last_piece_by_the_length() {
        let mut head = ResponseHeader::build(200, None).unwrap();
        assert!(!Awaited::of(&head).ends_with(5));
        head.insert_header("Content-Length", "5").unwrap();
        let mut awaited = Awaited::of(&head);
        assert_eq!(
            [2, 2, 1].map(|bytes| awaited.ends_with(bytes)),
            [false, false, true]
        );
        assert!(Awaited::of(&head).ends_with(7));
    }
}
