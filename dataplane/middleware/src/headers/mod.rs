//! `headers`: headers of requests and responses, cross-origin requests, and what makes browsers careful.
//!
//! Three parts in one kind, as its options are: [`custom`] headers, [`cors`], and what is about [`security`]. On the way
//! in a preflight is answered before anything else. On the way back security comes first, so that custom headers win over
//! it, and cross-origin headers last.

mod cors;
mod custom;
mod security;

use std::sync::Arc;

use http::HeaderValue;
use pingora_http::{RequestHeader, ResponseHeader};

pub use cors::CorsOptions;
pub use security::SecurityOptions;

use crate::{Answer, Flow, Later, Seen, Unfit};
use cors::Cors;
use cors::preflight;
use custom::{RequestChanges, ResponseChanges};
use security::Security;

/// The options of [`Headers`], as written. No print shows them: values may be credentials.
#[derive(Default)]
pub struct HeadersOptions<'o> {
    /// Names and values; an empty value removes the header. `Host` is replaced and never removed.
    pub request: Vec<(&'o str, &'o str)>,
    /// The same for responses.
    pub response: Vec<(&'o str, &'o str)>,
    /// Cross-origin requests.
    pub cors: CorsOptions<'o>,
    /// What makes browsers careful.
    pub security: SecurityOptions<'o>,
}

/// Changes headers.
#[derive(Debug)]
pub struct Headers {
    request: RequestChanges,
    response: Arc<Way>,
}

/// What is done with responses.
#[derive(Debug)]
struct Way {
    changes: ResponseChanges,
    cors: Option<Cors>,
    security: Security,
}

impl Headers {
    /// Compiles the options. `warnings`: what has no effect.
    pub fn new(options: &HeadersOptions<'_>, warnings: &mut Vec<String>) -> Result<Self, String> {
        Ok(Self {
            request: RequestChanges::new(&options.request, warnings)?,
            response: Arc::new(Way {
                changes: ResponseChanges::new(&options.response)?,
                cors: Cors::new(&options.cors)?,
                security: Security::new(&options.security)?,
            }),
        })
    }

    pub(crate) fn enter(&self, request: &mut RequestHeader, seen: &Seen<'_>) -> Result<Flow<'static>, Unfit> {
        let way = &self.response;
        if let Some(cors) = &way.cors
            && let Some(origin) = preflight(request)
        {
            let mut response = ResponseHeader::build(200, None)?;
            cors.answer_preflight(request, &origin, &mut response)?;
            return Ok(Flow::Answer(Box::new(Answer::empty(200).with_all(&response))));
        }
        self.request.apply(request)?;
        let later = ChangeHeaders {
            way: way.clone(),
            origin: way
                .cors
                .as_ref()
                .and_then(|_| request.headers.get(http::header::ORIGIN).cloned()),
            secure: way.security.is_secure(request, seen),
            hides_client: self.request.hide_client(),
        };
        if way.security.knows_host(request) {
            return Ok(Flow::Later(Later::ChangeHeaders(later)));
        }
        let mut response = ResponseHeader::build(500, None)?;
        later.change(&mut response)?;
        Ok(Flow::Answer(Box::new(
            Answer::error(500, "Bad Host\n").with_all(&response),
        )))
    }
}

/// Changes the headers of one response.
#[derive(Debug)]
pub struct ChangeHeaders {
    way: Arc<Way>,
    /// `Origin` of the request.
    origin: Option<HeaderValue>,
    /// The client came over TLS, here or at a proxy in front.
    secure: bool,
    hides_client: bool,
}

impl ChangeHeaders {
    pub(crate) fn hides_client(&self) -> bool {
        self.hides_client
    }

    pub(crate) fn leave(&self, response: &mut ResponseHeader) -> Result<(), Unfit> {
        // What follows 101 is not HTTP any more.
        if response.status.as_u16() == 101 {
            return Ok(());
        }
        self.way.security.apply(self.secure, response)?;
        self.change(response)
    }

    /// What is not about security.
    fn change(&self, response: &mut ResponseHeader) -> Result<(), Unfit> {
        self.way.changes.apply(response)?;
        match &self.way.cors {
            Some(cors) => cors.apply(self.origin.as_ref(), response),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
