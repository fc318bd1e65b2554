//! The middlewares of a route around an exchange: requests meet them first to last, responses last to first.
//!
//! What they do is [`constellation_middleware`]'s business. Here is what only the data plane can do for them, and where
//! in the life of a request they have their turn: after the decision, before anything is sent; and when a response, a back
//! end's or one of our own, is about to go to the client.

use bytes::Bytes;
use constellation_middleware::{After, Answer, Ask, Chain, Flow, Seen, Transform};
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use smallvec::SmallVec;

use super::exchange::Exchange;
use super::proxy::App;

/// What became of a response on its way back.
pub(super) enum Left {
    /// It goes on, its body through these.
    Same(Transforms),
    /// This goes to the client instead.
    #[expect(dead_code, reason = "no kind replaces responses yet")]
    Replaced(Box<Answer>),
}

/// What the body of a response goes through, first to last.
#[derive(Default)]
pub(super) struct Transforms(SmallVec<[Box<dyn Transform>; 1]>);

impl Transforms {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
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

fn joined(before: Bytes, after: Bytes) -> Bytes {
    match (before.is_empty(), after.is_empty()) {
        (true, _) => after,
        (_, true) => before,
        _ => [before, after].concat().into(),
    }
}

/// A head that can't be written, or a body that can't be changed as asked.
#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
fn unfit(unfit: constellation_middleware::Unfit) -> Box<Error> {
    Error::explain(ErrorType::InternalError, unfit.to_string())
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
        let seen = Seen {
            client: connection.client,
            local: connection.local,
            tls: connection.tls.is_some(),
            now: exchange.started,
            bodiless: session.is_body_empty(),
            server_name: connection.tls.as_ref().and_then(|tls| tls.server_name.as_deref()),
        };
        let before = session.req_header().uri.clone();
        let mut answer = None;
        for middleware in chain.middlewares() {
            let request = session.req_header_mut();
            let flow = middleware.enter(request, &seen).map_err(|error| {
                tracing::debug!(%error, middleware = %middleware.name, "a middleware can't change the request");
                Error::explain(ErrorType::HTTPStatus(400), error.to_string()).into_down()
            })?;
            match flow {
                Flow::Next => {}
                Flow::Later(later) => exchange.later.push(later),
                Flow::Answer(of_middleware) => {
                    answer = Some(of_middleware);
                    break;
                }
                Flow::Ask(Ask::Never(never, _)) => match never {},
            }
        }
        if exchange.target.is_none() && session.req_header().uri != before {
            // The access log tells what the client has asked for.
            exchange.target = before.path_and_query().map(|target| target.as_str().into());
        }
        Ok(answer)
    }

    /// Lets the middlewares that wait for it have their turn at a response.
    pub(super) async fn leave(
        &self,
        session: &ServerSession,
        exchange: &mut Exchange,
        head: &mut ResponseHeader,
        bodiless: bool,
    ) -> Result<Left> {
        let mut transforms = Transforms::default();
        for later in exchange.later.iter_mut().rev() {
            let method = &session.req_header().method;
            match later.leave(head, method, bodiless).map_err(unfit)? {
                After::Next => {}
                After::Transform(transform) => transforms.0.push(transform),
                After::Never(never, _) => match never {},
            }
        }
        Ok(Left::Same(transforms))
    }
}
