//! The middlewares of a route around an exchange: requests meet them first to last, responses last to first.
//!
//! What they do is [`constellation_middleware`]'s business. Here is what only the data plane can do for them, and where
//! in the life of a request they have their turn: after the decision, before anything is sent; and when a response, a back
//! end's or one of our own, is about to go to the client.

use bytes::Bytes;
use constellation_middleware::{After, Answer, Ask, Buffers, Chain, Flow, Later, Seen, Transform, Unfit};
use http::header::RETRY_AFTER;
use http::{HeaderValue, Method};
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use smallvec::SmallVec;

use super::answer::Own;
use super::buffering::{Held, announced};
use super::exchange::Exchange;
use super::forwarded::Upgrade;
use super::proxy::App;
use super::verifying::Crowded;

/// What became of a response on its way back.
pub(super) enum Left {
    /// It goes on, its body through these.
    Same(Transforms),
    /// This goes to the client instead.
    Replaced(Box<Own>),
}

/// What a body goes through, first to last.
#[derive(Default)]
pub(super) struct Transforms(SmallVec<[Box<dyn Transform>; 1]>);

impl Transforms {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one after the others.
    pub(super) fn add(&mut self, transform: Box<dyn Transform>) {
        self.0.push(transform);
    }

    /// What may go on of a piece of the body.
    pub(super) fn push(&mut self, mut data: Bytes) -> Result<Bytes> {
        for transform in &mut self.0 {
            data = transform.push(data).map_err(unfit)?;
        }
        Ok(data)
    }

    /// Whether something is held back that may go on.
    pub(super) fn hold_back(&self) -> bool {
        self.0.iter().any(|transform| transform.holds_back())
    }

    /// What is held back and may go on.
    pub(super) fn flush(&mut self) -> Result<Bytes> {
        let mut data = Bytes::new();
        for transform in &mut self.0 {
            let before = if data.is_empty() {
                Bytes::new()
            } else {
                transform.push(data).map_err(unfit)?
            };
            data = joined(before, transform.flush().map_err(unfit)?);
        }
        Ok(data)
    }

    /// What is left at the end of the body.
    pub(super) fn finish(&mut self, trailers: &mut Option<http::HeaderMap>) -> Result<Bytes> {
        let mut data = Bytes::new();
        for transform in &mut self.0 {
            let before = if data.is_empty() {
                Bytes::new()
            } else {
                transform.push(data).map_err(unfit)?
            };
            data = joined(before, transform.finish(trailers).map_err(unfit)?);
        }
        Ok(data)
    }
}

/// What these say of any response.
fn announce(all: &[Later], head: &mut ResponseHeader) -> Result<()> {
    all.iter()
        .try_for_each(|later| later.announce(head))
        .map_err(unfit)
}

fn joined(before: Bytes, after: Bytes) -> Bytes {
    match (before.is_empty(), after.is_empty()) {
        (true, _) => after,
        (_, true) => before,
        _ => [before, after].concat().into(),
    }
}

/// A head that can't be written, or a body that can't be changed as asked.
#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
fn unfit(unfit: Unfit) -> Box<Error> {
    Error::explain(ErrorType::InternalError, unfit.to_string())
}

/// A head of a request that a middleware can't change as asked.
#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
pub(super) fn unfit_request(unfit: Unfit) -> Box<Error> {
    tracing::debug!(error = %unfit, "a middleware can't change the request");
    Error::explain(ErrorType::HTTPStatus(400), unfit.to_string()).into_down()
}

/// Whether a body is known to be longer than this before it is read.
fn is_longer(session: &ServerSession, exchange: &Exchange, most: u64) -> bool {
    let known = match &exchange.gathered {
        Some(gathered) => Some(gathered.length()),
        None if exchange.upgrade != Upgrade::None => None,
        None => announced(session),
    };
    known.is_some_and(|length| length > most)
}

impl App {
    /// Lets the middlewares of the route have their turn at a request. An answer when one of them answers.
    pub(super) async fn enter(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
    ) -> Result<Option<Box<Answer>>> {
        let Some((route, connection)) = exchange.route.as_ref().zip(exchange.connection.as_ref()) else {
            return Ok(None);
        };
        if route.router.spec.middlewares.is_none() {
            return Ok(None);
        }
        let (router, connection) = (route.router.clone(), connection.clone());
        let Some(chain) = Chain::of(router.spec.middlewares.as_ref()) else {
            return Ok(None);
        };
        let tls = connection.tls.as_ref();
        let seen = Seen {
            client: connection.client,
            local: connection.local,
            tls: tls.is_some(),
            now: exchange.started,
            bodiless: session.is_body_empty(),
            server_name: tls.and_then(|tls| tls.server_name.as_deref()),
            router: router.name(),
            turn: 0,
            certificates: tls.map(|tls| &*tls.certificates).unwrap_or_default(),
        };
        let before = session.req_header().uri.clone();
        let mut answer = None;
        for (turn, middleware) in chain.middlewares().iter().enumerate() {
            let seen = Seen { turn, ..seen };
            let mut flow = middleware
                .enter(session.req_header_mut(), &seen)
                .map_err(unfit_request)?;
            while let Flow::Ask(ask) = flow {
                flow = self.settle(ask, session, exchange, &seen).await?;
            }
            match flow {
                // None are left.
                Flow::Next | Flow::Ask(_) => {}
                Flow::Later(later) => {
                    if let Some(transform) = later.incoming() {
                        exchange.incoming.add(transform);
                    }
                    exchange.later.push(later);
                }
                Flow::User(user, later) => {
                    exchange.user = Some(user);
                    exchange.later.extend(later);
                }
                Flow::Answer(of_middleware) => {
                    answer = Some(of_middleware);
                    break;
                }
            }
        }
        if exchange.target.is_none() && session.req_header().uri != before {
            // The access log tells what the client has asked for.
            exchange.target = before.path_and_query().map(|target| target.as_str().into());
        }
        Ok(answer)
    }

    /// Does what a middleware needs before it can decide.
    async fn settle<'m>(
        &self,
        ask: Ask<'m>,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        seen: &Seen<'_>,
    ) -> Result<Flow<'m>> {
        match ask {
            Ask::Authorize(auth) => self.authorize(auth, session, exchange, seen).await,
            Ask::Buffer(buffers) => {
                if is_longer(session, exchange, buffers.most_of_request()) {
                    // What stands inside is not to count it.
                    return Ok(Flow::Answer(Box::new(Buffers::too_long_request())));
                }
                exchange.method = session.req_header().method.clone();
                // The limits of an outer one hold for what goes through both.
                let around = exchange.later.len();
                exchange.held = Some(match &exchange.held {
                    Some(outer) => outer.and(buffers, around),
                    None => Held::new(buffers, around),
                });
                Ok(Flow::Next)
            }
            Ask::Retry(retrying) => {
                exchange.repeatable |= retrying.non_idempotent;
                exchange.retrying.push(retrying.clone());
                Ok(Flow::Next)
            }
            Ask::Verify(verify) => match self.edge.verifying.run(verify.work()).await {
                Ok(right) => verify
                    .finish(right, session.req_header_mut())
                    .map_err(unfit_request),
                Err(Crowded) => {
                    let answer = Answer::error(503, "too many passwords at once\n");
                    let later = HeaderValue::from_static("1");
                    Ok(Flow::Answer(Box::new(answer.with(RETRY_AFTER, later))))
                }
            },
            Ask::Wait(wait) => {
                tokio::time::sleep(wait).await;
                Ok(Flow::Next)
            }
        }
    }

    /// Lets the middlewares that wait for it have their turn at a response. `first`: how its body begins, as far as that
    /// is known.
    pub(super) async fn leave(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        head: &mut ResponseHeader,
        first: &[u8],
        bodiless: bool,
    ) -> Result<Left> {
        let mut later = std::mem::take(&mut exchange.later);
        let left = self
            .leave_all(session, exchange, &mut later, head, first, bodiless)
            .await;
        // What is counted while the response lasts hangs on them.
        exchange.later = later;
        left
    }

    async fn leave_all(
        &self,
        session: &mut ServerSession,
        exchange: &Exchange,
        all: &mut [Later],
        head: &mut ResponseHeader,
        first: &[u8],
        bodiless: bool,
    ) -> Result<Left> {
        let method = session.req_header().method.clone();
        let mut transforms = Transforms::default();
        let mut instead: Option<Own> = None;
        announce(all, head)?;
        for index in (0..all.len()).rev() {
            let (outer, inner) = all.split_at_mut(index);
            let Some(later) = inner.first_mut() else { continue };
            let after = match &mut instead {
                None => later.leave(head, &method, first, bodiless),
                Some(own) => {
                    let bodiless = own.body.is_empty() || method == Method::HEAD;
                    later.leave(&mut own.head, &method, &own.body, bodiless)
                }
            };
            match after.map_err(unfit)? {
                After::Next => {}
                After::Transform(transform) => transforms.add(transform),
                After::Page(page) => {
                    let mut own = self.fetch(session, exchange, &page).await?;
                    announce(outer, &mut own.head)?;
                    instead = Some(own);
                    transforms = Transforms::default();
                }
            }
        }
        match instead {
            None => Ok(Left::Same(transforms)),
            Some(own) => own.through(transforms).map(|own| Left::Replaced(Box::new(own))),
        }
    }
}
