//! Bodies that go on when they are whole.
//!
//! A request's body is read to its end before an endpoint is chosen, and goes on with its length. What all requests keep
//! together is bounded; who finds no room is told to come again.

use std::sync::Arc;

use constellation_middleware::Buffers;
use http::header;
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, Result};
use pingora_http::ResponseHeader;

use super::answer::{self, Own};
use super::body::Body;
use super::exchange::Exchange;
use super::forwarded::Upgrade;
use super::proxy::App;

/// What middlewares ask about bodies, and where in the chain they stand.
pub(super) struct Held {
    pub(super) buffers: Arc<Buffers>,
    /// How many of those that wait for the response stand around the middleware whose limit holds for requests.
    around_request: usize,
    /// The same for responses.
    around_response: usize,
}

impl Held {
    /// `around`: how many of those that wait for the response stand around it.
    pub(super) fn new(buffers: &Arc<Buffers>, around: usize) -> Self {
        Self {
            buffers: buffers.clone(),
            around_request: around,
            around_response: around,
        }
    }

    /// With another one inside: the tighter limits hold.
    pub(super) fn and(&self, inner: &Buffers, around: usize) -> Self {
        let both = self.buffers.and(inner);
        // A request meets the outer one first, a response the inner one.
        let outer_refuses = both.most_of_request() == self.buffers.most_of_request();
        let inner_refuses = both.most_of_response() == inner.most_of_response();
        Self {
            around_request: if outer_refuses {
                self.around_request
            } else {
                around
            },
            around_response: if inner_refuses {
                around
            } else {
                self.around_response
            },
            buffers: Arc::new(both),
        }
    }
}

impl App {
    /// Reads the whole body of a request that is to be buffered. An answer when it can't be.
    pub(super) async fn gather(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
    ) -> Result<Option<Own>> {
        let held = exchange
            .held
            .as_ref()
            .filter(|_| exchange.upgrade == Upgrade::None);
        let Some((most, around)) = held.map(|held| (held.buffers.most_of_request(), held.around_request))
        else {
            return Ok(None);
        };
        match self.gather_body(session, exchange, most).await? {
            Gathered::Whole => Ok(None),
            Gathered::TooLong => {
                exchange.later.truncate(around);
                too_long().map(Some)
            }
            Gathered::NoRoom => {
                let retry_after = exchange.service().map_or(1, |service| service.retry_after);
                let own = answer::BUSY.clone().retry_after(retry_after).into_own();
                own.map(|own| Some(Own { close: true, ..own }))
            }
        }
    }

    /// Reads the whole body of a request and keeps it in the exchange, where it has one.
    pub(super) async fn gather_body(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        most: u64,
    ) -> Result<Gathered> {
        if let Some(gathered) = &exchange.gathered {
            return Ok(match gathered.length() > most {
                true => Gathered::TooLong,
                false => Gathered::Whole,
            });
        }
        if session.is_body_empty() || exchange.upgrade != Upgrade::None {
            return Ok(Gathered::Whole);
        }
        if announced(session).is_some_and(|announced| announced > most) {
            return Ok(Gathered::TooLong);
        }
        let body = Body::new(most, self.edge.kept.clone());
        let mut done = false;
        while !done {
            let data = session.read_body_or_idle(false).await.map_err(Error::into_down)?;
            done = exchange.take_in(data, session, &body)?;
            if exchange.body > most {
                return Ok(Gathered::TooLong);
            }
            if !body.is_whole() {
                return Ok(Gathered::NoRoom);
            }
        }
        let request = session.req_header_mut();
        request.remove_header(&header::TRANSFER_ENCODING);
        request.insert_header("Content-Length", body.length())?;
        exchange.gathered = Some(body);
        Ok(Gathered::Whole)
    }
}

/// The length that the client has announced.
pub(super) fn announced(session: &ServerSession) -> Option<u64> {
    let length = session.req_header().headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// What goes to the client in the place of a response that is longer than a middleware lets pass. Those inside of it see no
/// more of that.
pub(super) fn replacing(exchange: &mut Exchange, head: &ResponseHeader) -> Result<Own> {
    let around = exchange.held.as_ref().map_or(0, |held| held.around_response);
    for inner in exchange.later.drain(around.min(exchange.later.len())..) {
        inner.discard(head);
    }
    Own::of_middleware(Buffers::too_long_response())
}

/// A response of our own, or what takes its place where it is longer than a middleware around it lets pass.
pub(super) fn fitting(exchange: &mut Exchange, own: Own) -> Result<Own> {
    let limit = exchange.held.as_ref().map(|held| held.buffers.most_of_response());
    match limit {
        Some((most, true)) if own.body.len() as u64 > most => Ok(Own {
            close: own.close,
            ..replacing(exchange, &own.head)?
        }),
        _ => Ok(own),
    }
}

/// What came of reading a whole body.
pub(super) enum Gathered {
    /// It is kept, or there is none.
    Whole,
    /// It is longer than it may be, and was not read to its end.
    TooLong,
    /// There is no room to keep it.
    NoRoom,
}

/// The rest of such a body is not read.
fn too_long() -> Result<Own> {
    let own = Own::of_middleware(Buffers::too_long_request())?;
    Ok(Own { close: true, ..own })
}
