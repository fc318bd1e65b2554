//! What a middleware answers by itself.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

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

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }
}
