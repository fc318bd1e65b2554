//! Bodies that go on when they are whole.
//!
//! A request's body is read to its end before an endpoint is chosen, and goes on with its length. What all requests keep
//! together is bounded; who finds no room is told to come again.

use constellation_middleware::Buffers;
use http::header;
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, Result};

use super::answer::{self, Own};
use super::body::Body;
use super::exchange::Exchange;
use super::forwarded::Upgrade;
use super::proxy::App;

impl App {
    /// Reads the whole body of a request that is to be buffered. An answer when it can't be.
    pub(super) async fn gather(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
    ) -> Result<Option<Own>> {
        let Some(buffers) = exchange
            .buffers
            .clone()
            .filter(|_| exchange.upgrade == Upgrade::None)
        else {
            return Ok(None);
        };
        match self
            .gather_body(session, exchange, buffers.most_of_request())
            .await?
        {
            Gathered::Whole => Ok(None),
            Gathered::TooLong => too_long().map(Some),
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
        let announced = session.req_header().headers.get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|announced| announced > most) {
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

/// A response of our own, or what takes its place where it is longer than a middleware around it lets pass.
pub(super) fn fitting(exchange: &Exchange, own: Own) -> Result<Own> {
    let limit = exchange
        .buffers
        .as_ref()
        .map(|buffers| buffers.most_of_response());
    match limit {
        Some((most, true)) if own.body.len() as u64 > most => Ok(Own {
            close: own.close,
            ..Own::of_middleware(Buffers::too_long_response())?
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
