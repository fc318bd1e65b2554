//! What follows from a middleware's look at a request, and what it does when the response comes.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method};
use pingora_http::ResponseHeader;

use crate::Answer;

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
}

/// What a middleware needs of the data plane before it can decide.
#[derive(Debug)]
pub enum Ask<'m> {
    /// Nothing asks yet.
    #[doc(hidden)]
    Never(std::convert::Infallible, std::marker::PhantomData<&'m ()>),
}

/// What a middleware does when the response comes. It is kept until the response is over, so that a place that is
/// counted may hang on it.
#[derive(Debug)]
pub enum Later {
    /// Nothing waits yet.
    #[doc(hidden)]
    Never(std::convert::Infallible),
}

impl Later {
    /// Changes the head of a response, and says what is to become of its body. `bodiless`: none follows, whatever the
    /// head says.
    pub fn leave(
        &mut self,
        response: &mut ResponseHeader,
        method: &Method,
        bodiless: bool,
    ) -> Result<After<'_>, Unfit> {
        let _ = (response, method, bodiless);
        match self {
            Self::Never(never) => match *never {},
        }
    }
}

/// What follows from a middleware's look at the head of a response.
#[derive(Debug)]
pub enum After<'l> {
    /// The next one has its turn.
    Next,
    /// The same, and the body goes through this.
    Transform(Box<dyn Transform>),
    /// Nothing else yet.
    #[doc(hidden)]
    Never(std::convert::Infallible, std::marker::PhantomData<&'l ()>),
}

/// Changes the body of a response on its way. Whoever installs one takes care of the head (`Content-Length`).
pub trait Transform: fmt::Debug + Send {
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
