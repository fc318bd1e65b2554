//! What a middleware answers by itself.

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use pingora_http::ResponseHeader;

use crate::field::FieldName;

/// A whole response. `Content-Length` and `Date` are added by whoever sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200 to 599.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// A line of plain text, in the way that Go's `http.Error` writes it.
    pub fn error(status: u16, text: &'static str) -> Self {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        let no_sniff = HeaderName::from_static("x-content-type-options");
        headers.insert(no_sniff, HeaderValue::from_static("nosniff"));
        Self {
            status,
            headers,
            body: Bytes::from_static(text.as_bytes()),
        }
    }

    /// A text without a type.
    pub fn plain(status: u16, text: impl Into<Bytes>) -> Self {
        Self {
            body: text.into(),
            ..Self::empty(status)
        }
    }

    /// Its headers, with names as Go writes them.
    pub fn fields(&self) -> impl Iterator<Item = (Bytes, &HeaderValue)> {
        let written = |name: &HeaderName| FieldName::of(name.clone()).written;
        self.headers
            .iter()
            .map(move |(name, value)| (written(name), value))
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// With the headers of a response as well.
    #[must_use]
    pub(crate) fn with_all(mut self, response: &ResponseHeader) -> Self {
        for (name, value) in &response.headers {
            self.headers.append(name.clone(), value.clone());
        }
        self
    }
}

/// The text that Go's library has for a status.
pub(crate) fn reason(status: u16) -> Option<&'static str> {
    Some(match status {
        203 => "Non-Authoritative Information",
        413 => "Request Entity Too Large",
        414 => "Request URI Too Long",
        416 => "Requested Range Not Satisfiable",
        status => StatusCode::from_u16(status).ok()?.canonical_reason()?,
    })
}
