//! Copies of a request for mirrors. They are sent when the request is over, on their own, so that a mirror can neither
//! slow it nor fail it; whatever a mirror answers is thrown away.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use constellation_table::{Endpoint, Mirrored, Service};
use pingora_core::protocols::http::ServerSession;
use tokio::sync::Semaphore;

use super::attempt::Failed;
use super::body::{Body, Kept, Share};
use super::connection::Connection;
use super::exchange::Exchange;
use super::forwarded::Upgrade;
use super::outgoing;
use super::proxy::App;

/// Copies that one worker sends at once; further ones are left out.
pub(super) const AT_ONCE: usize = 128;
/// The time that one copy may take.
const LONGEST: Duration = Duration::from_secs(30);
/// Most bytes of a body that are copied where the definition sets no limit.
const MAX_BODY: u64 = 1 << 20;

/// The copies that one request needs.
pub(super) struct Copies {
    to: Vec<Copy>,
    /// The request's body so far; `None` when it got too large for all of them, or for all copies together.
    body: Option<Pieces>,
    size: u64,
}

/// A body and its share of what all copies may keep.
type Pieces = (Vec<Bytes>, Share);

struct Copy {
    service: Arc<Service>,
    endpoint: Arc<Endpoint>,
    /// `None`: without the body.
    most: Option<u64>,
}

impl Copies {
    /// The copies for the mirrors that were drawn.
    pub(super) fn of(mirrors: Vec<Mirrored<'_>>, all: &Arc<Kept>) -> Option<Box<Self>> {
        let copy = |mirror: Mirrored<'_>| {
            let leg = mirror.leg.filter(|_| mirror.drawn)?;
            let spec = &mirror.node.spec;
            Some(Copy {
                service: leg.service.clone(),
                endpoint: leg.candidates.order.first()?.endpoint.clone(),
                most: spec.mirror_body.then(|| spec.max_body_bytes.unwrap_or(MAX_BODY)),
            })
        };
        let to: Vec<_> = mirrors.into_iter().filter_map(copy).collect();
        (!to.is_empty()).then(|| {
            Box::new(Self {
                to,
                body: Some((Vec::new(), Share::of(all))),
                size: 0,
            })
        })
    }

    /// Takes in a piece of the request's body.
    pub(super) fn push(&mut self, data: &Bytes) {
        self.size += data.len() as u64;
        let useless = |copy: &Copy| copy.most.is_none_or(|most| most < self.size);
        if self.to.iter().all(useless) {
            self.body = None;
        }
        self.body = self.body.take().and_then(|(mut pieces, mut share)| {
            pieces.push(data.clone());
            share.take(data.len() as u64).then_some((pieces, share))
        });
    }
}

impl App {
    /// Sends the copies of a request that is over.
    pub(super) fn send_copies(&self, session: &mut ServerSession, exchange: &mut Exchange) {
        let Some(copies) = exchange.copies.take() else {
            return;
        };
        // A part of a body is no body.
        if exchange.upgrade != Upgrade::None || !session.is_body_done() {
            return;
        }
        let Copies { to, body, size } = *copies;
        let body = body.map(Arc::new);
        for copy in to {
            let body = match (copy.most, &body) {
                (None, _) => None,
                (Some(most), Some(body)) if size <= most => Some(body.clone()),
                // The definition says that it is not mirrored, or there is no room.
                (Some(_), _) => continue,
            };
            self.send_copy(session, exchange.connection.as_ref(), &copy, body, size);
        }
    }

    fn send_copy(
        &self,
        session: &mut ServerSession,
        connection: Option<&Arc<Connection>>,
        copy: &Copy,
        pieces: Option<Arc<Pieces>>,
        size: u64,
    ) {
        let Ok(place) = self.mirroring.clone().try_acquire_owned() else {
            tracing::debug!(service = %copy.service.name, "too many copies at once: one is left out");
            return;
        };
        let Some(beside) = self.beside(&copy.service, &copy.endpoint, connection) else {
            return;
        };
        let Some(Ok(mut head)) = beside
            .towards()
            .map(|towards| outgoing::head(session, Upgrade::None, towards))
        else {
            return;
        };
        if copy.most.is_none() && size > 0 {
            head.remove_header(&http::header::CONTENT_LENGTH);
            head.remove_header(&http::header::TRANSFER_ENCODING);
        }
        if let Err(error) = beside.introduce(&mut head, LONGEST) {
            tracing::debug!(%error, "a copy can't be sent to another node");
            return;
        }
        let body = pieces.as_ref().filter(|_| size > 0).map(|pieces| {
            // It is sent once, and its share is taken already.
            let body = Body::new(0, Arc::default());
            for piece in &pieces.0 {
                body.push(piece.clone());
            }
            body.finish();
            body
        });
        tokio::spawn(async move {
            let _held = (place, pieces);
            let sending = async {
                let (upstream, _) = beside.ask(head, body).await?;
                upstream.discard(None).await;
                Ok::<(), Failed>(())
            };
            match tokio::time::timeout(LONGEST, sending).await {
                Ok(Ok(())) => {}
                Ok(Err(failed)) => tracing::debug!(error = %failed.error, "a copy failed"),
                Err(_) => tracing::debug!("a copy took too long"),
            }
        });
    }
}

/// The places for copies of one worker.
pub(super) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(AT_ONCE))
}
