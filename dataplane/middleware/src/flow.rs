//! What follows from a middleware's look at a request, and what it does when the response comes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use pingora_http::ResponseHeader;

use crate::buffering::Buffers;
use crate::circuit_breaker::Watch;
use crate::compress::CompressResponse;
use crate::content_type::DetectType;
use crate::errors::{ErrorPage, Page};
use crate::forward_auth::{AuthCookies, ForwardAuth};
use crate::grpc_web::GrpcWebResponse;
use crate::headers::ChangeHeaders;
use crate::retry::Retrying;
use crate::{Answer, Place, Verify};

/// What follows from a middleware's look at a request.
#[derive(Debug)]
pub enum Flow<'m> {
    /// The next one has its turn.
    Next,
    /// The same, and this when the response comes.
    Later(Later),
    /// It answers by itself; neither the middlewares after it nor the service see the request.
    Answer(Box<Answer>),
    /// It needs what only the data plane can do.
    Ask(Ask<'m>),
    /// The next one has its turn; this is whose request it is, and this is done when the response comes.
    User(Box<str>, Option<Later>),
}

/// What a middleware needs of the data plane before it can decide.
#[derive(Debug)]
pub enum Ask<'m> {
    /// Another service is to be asked.
    Authorize(&'m ForwardAuth),
    /// Bodies are to be taken whole before they go on.
    Buffer(&'m Arc<Buffers>),
    /// More attempts are to be made than the service's policy makes.
    Retry(&'m Arc<Retrying>),
    /// Credentials are to be checked, which takes long.
    Verify(Verify<'m>),
    /// The request waits for so long, then the next one has its turn.
    Wait(Duration),
}

/// What a middleware does when the response comes. It is kept until the response is over, so that a place that is
/// counted may hang on it.
#[derive(Debug)]
pub enum Later {
    /// Sets cookies.
    AuthCookies(AuthCookies),
    /// Changes its headers.
    ChangeHeaders(ChangeHeaders),
    /// Compresses its body.
    Compress(CompressResponse),
    /// Guesses its type.
    DetectType(DetectType),
    /// Puts a page in its place.
    Errors(ErrorPage),
    /// Makes gRPC-Web of it.
    GrpcWeb(GrpcWebResponse),
    /// The place of the request is given back.
    Place(Place),
    /// A circuit breaker takes its status in.
    Watch(Watch),
}

impl Later {
    /// Whether it has to see how the body of this response begins before its head goes to the client.
    pub fn looks_at_body(&self, response: &ResponseHeader) -> bool {
        match self {
            Self::DetectType(later) => later.looks_at_body(response),
            _ => false,
        }
    }

    /// What the body of the request goes through on its way to the service.
    pub fn incoming(&self) -> Option<Box<dyn Transform>> {
        match self {
            Self::GrpcWeb(later) => later.incoming(),
            _ => None,
        }
    }

    /// What it says of any response, before the middlewares inside of it have their turn: Traefik has written that before it
    /// knows the response, so that they may change it.
    pub fn announce(&self, response: &mut ResponseHeader) -> Result<(), Unfit> {
        match self {
            Self::Compress(_) => CompressResponse::announce(response),
            _ => Ok(()),
        }
    }

    /// The response does not go on as it is: who only takes in what it was does so.
    pub fn discard(self, response: &ResponseHeader) {
        if let Self::Watch(watch) = self {
            watch.leave(response);
        }
    }

    /// Whether services get no `X-Forwarded-For`, as long as no other middleware sets it.
    pub fn hides_client(&self) -> bool {
        match self {
            Self::ChangeHeaders(later) => later.hides_client(),
            _ => false,
        }
    }

    /// Changes the head of a response, and says what is to become of its body. `first`: how the body begins, as far as
    /// that is known. `bodiless`: none follows, whatever the head says.
    pub fn leave(
        &mut self,
        response: &mut ResponseHeader,
        method: &Method,
        first: &[u8],
        bodiless: bool,
    ) -> Result<After, Unfit> {
        let _ = method;
        match self {
            Self::AuthCookies(later) => later.leave(response).map(|()| After::Next),
            Self::ChangeHeaders(later) => later.leave(response).map(|()| After::Next),
            Self::Compress(later) => later.leave(response, bodiless),
            Self::DetectType(later) => later.leave(response, first).map(|()| After::Next),
            Self::Errors(later) => Ok(match later.leave(response.status.as_u16()) {
                Some(page) => After::Page(Box::new(page)),
                None => After::Next,
            }),
            Self::GrpcWeb(later) => later.leave(response, bodiless),
            Self::Place(_) => Ok(After::Next),
            Self::Watch(watch) => {
                watch.leave(response);
                Ok(After::Next)
            }
        }
    }
}

/// What follows from a middleware's look at the head of a response.
#[derive(Debug)]
pub enum After {
    /// The next one has its turn.
    Next,
    /// A page is to be fetched, and goes to the client instead.
    Page(Box<Page>),
    /// The next one has its turn, and the body goes through this.
    Transform(Box<dyn Transform>),
}

/// Changes the body of a response on its way. Whoever installs one takes care of the head (`Content-Length`).
pub trait Transform: fmt::Debug + Send + Sync {
    /// Takes a piece in and gives what may go on; nothing, while it waits for more.
    fn push(&mut self, data: Bytes) -> Result<Bytes, Unfit>;
    /// Nothing has come for a while: gives what it holds back and may go on.
    fn flush(&mut self) -> Result<Bytes, Unfit>;
    /// Whether [`Self::flush`] would give something.
    fn holds_back(&self) -> bool;
    /// The body is over: gives what is left. It may take the trailers, or add some.
    fn finish(&mut self, trailers: &mut Option<HeaderMap>) -> Result<Bytes, Unfit>;
}

/// Something that can't be written as a header or a target, or a body that can't be changed as asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub Box<str>);

impl Unfit {
    /// With these words.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }
}

impl From<Box<pingora_error::Error>> for Unfit {
    fn from(error: Box<pingora_error::Error>) -> Self {
        Self(error.to_string().into())
    }
}
