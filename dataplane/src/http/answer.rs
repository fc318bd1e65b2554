//! Answers of our own: no route, nothing available, redirects, refusals after the wire checks, failed back ends.

use bytes::Bytes;
use constellation_middleware as middleware;
use constellation_table::Redirect;
use http::{Method, StatusCode, header};
use pingora_core::protocols::http::ServerSession;
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use super::body::Share;
use super::chain::Transforms;
use super::downstream::send_head;

use super::refusal::Refusal;

/// Nothing here matches.
pub(super) const NO_ROUTE: Answer = Answer::text(404, "404 page not found\n");
/// A route, but nothing that serves it.
pub(super) const UNAVAILABLE: Answer = Answer::text(503, "no available server\n");
/// The service takes no more.
pub(super) const BUSY: Answer = Answer::text(503, "too many requests at once\n");
/// `OPTIONS *` asks about us, not about a back end.
pub(super) const OPTIONS: Answer = Answer::text(200, "");

/// An answer of our own.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    status: u16,
    text: &'static str,
    /// One more header.
    header: Option<(&'static str, String)>,
    /// Nothing but the words of its status, without a type, as Traefik writes failures and redirects.
    bare: bool,
    close: bool,
}

impl Answer {
    const fn text(status: u16, text: &'static str) -> Self {
        Self {
            status,
            text,
            header: None,
            bare: false,
            close: false,
        }
    }

    /// The answer to a request that failed on its way; it ends the connection.
    pub(super) fn failure(status: u16) -> Self {
        let text = match status {
            408 => "Request Timeout",
            413 => "Content Too Large",
            504 => "Gateway Timeout",
            500 => "Internal Server Error",
            400 => "Bad Request",
            _ => "Bad Gateway",
        };
        let status = if text == "Bad Gateway" { 502 } else { status };
        Self {
            bare: true,
            close: true,
            ..Self::text(status, text)
        }
    }

    /// The answer to a request for which no back end had one. `keep`: the client may go on using its connection.
    pub(super) fn bad_gateway(status: u16, keep: bool) -> Self {
        Self {
            close: !keep,
            ..Self::failure(status)
        }
    }

    /// The answer to a request that the wire checks let through and that is refused all the same.
    pub(super) fn refusal(refusal: Refusal) -> Self {
        Self {
            close: true,
            ..Self::text(refusal.status(), refusal.text())
        }
    }

    /// Adds `Retry-After`, seconds.
    pub(super) fn retry_after(self, seconds: u32) -> Self {
        Self {
            header: Some(("Retry-After", seconds.to_string())),
            ..self
        }
    }

    /// A redirect to another scheme. `name` is the host without a port, `target` path and query.
    pub(super) fn redirect(redirect: &Redirect, method: &Method, name: &str, target: &str) -> Self {
        let status = match (method == Method::GET, redirect.permanent) {
            (true, false) => 302,
            (true, true) => 301,
            (false, false) => 307,
            (false, true) => 308,
        };
        let text = match status {
            301 => "Moved Permanently",
            302 => "Found",
            307 => "Temporary Redirect",
            _ => "Permanent Redirect",
        };
        let name = if name.contains(':') {
            format!("[{name}]")
        } else {
            name.to_owned()
        };
        let default = matches!(
            (&*redirect.scheme, redirect.port),
            ("https", Some(443)) | ("http", Some(80))
        );
        let location = match redirect.port {
            Some(port) if !default => format!("{}://{name}:{port}{target}", redirect.scheme),
            _ => format!("{}://{name}{target}", redirect.scheme),
        };
        Self {
            header: Some(("Location", location)),
            bare: true,
            ..Self::text(status, text)
        }
    }

    /// The head and the body to send. The connection ends after it when [`Own::close`] says so.
    pub(super) fn into_own(self) -> Result<Own> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut head = ResponseHeader::build(status, Some(6))?;
        if !self.text.is_empty() && !self.bare {
            head.insert_header("Content-Type", "text/plain; charset=utf-8")?;
            head.insert_header("X-Content-Type-Options", "nosniff")?;
        }
        if let Some((name, value)) = self.header {
            head.insert_header(name, value)?;
        }
        head.set_content_length(self.text.len())?;
        Ok(Own {
            head,
            body: Bytes::from_static(self.text.as_bytes()),
            close: self.close,
            _room: None,
        })
    }
}

/// A response of our own, whole.
pub(super) struct Own {
    /// With the length of the body, for whoever looks at that; what is sent states that of the body as it is then.
    pub(super) head: ResponseHeader,
    pub(super) body: Bytes,
    /// The connection ends after it.
    pub(super) close: bool,
    /// The room that its body takes, where that is counted.
    pub(super) _room: Option<Share>,
}

impl Own {
    /// What a middleware answers.
    pub(super) fn of_middleware(answer: middleware::Answer) -> Result<Self> {
        let mut head = ResponseHeader::build(answer.status, Some(answer.headers.len() + 1))?;
        for (name, value) in answer.fields() {
            head.append_header(name, value.clone())?;
        }
        head.set_content_length(answer.body.len())?;
        Ok(Self {
            head,
            body: answer.body,
            close: false,
            _room: None,
        })
    }

    /// With its body sent through these.
    pub(super) fn through(mut self, mut transforms: Transforms) -> Result<Self> {
        if !transforms.is_empty() {
            let first = transforms.push(std::mem::take(&mut self.body))?;
            self.body = [first, transforms.finish(&mut None)?].concat().into();
        }
        Ok(self)
    }

    /// Sends it.
    pub(super) async fn send(mut self, session: &mut ServerSession) -> Result<()> {
        let never = matches!(self.head.status.as_u16(), 204 | 304);
        if never {
            self.head.remove_header(&header::CONTENT_LENGTH);
        } else {
            self.head.set_content_length(self.body.len())?;
        }
        if self.close {
            session.set_keepalive(None);
        }
        let bodiless = never || self.body.is_empty() || session.req_header().method == Method::HEAD;
        send_head(session, Box::new(self.head), bodiless).await?;
        if !bodiless {
            session.write_response_body(self.body, true).await?;
        }
        Ok(())
    }
}

/// The authority a request names: `Host`, or `:authority` of HTTP/2. Empty when there is none.
pub(super) fn authority(request: &RequestHeader) -> &str {
    request
        .headers
        .get(http::header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| request.uri.authority().map(http::uri::Authority::as_str))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_as_traefik_does() {
        // method, permanent, port, host, status, location
        let cases = [
            ("GET", false, None, "a.test", 302, "https://a.test/x?y"),
            ("GET", true, None, "a.test", 301, "https://a.test/x?y"),
            ("HEAD", true, None, "a.test", 308, "https://a.test/x?y"),
            ("POST", false, Some(443), "a.test", 307, "https://a.test/x?y"),
            ("POST", true, Some(8443), "a.test", 308, "https://a.test:8443/x?y"),
            ("GET", false, Some(8443), "::1", 302, "https://[::1]:8443/x?y"),
        ];
        for (method, permanent, port, name, status, location) in cases {
            let redirect = Redirect {
                scheme: "https".into(),
                port,
                permanent,
            };
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = Answer::redirect(&redirect, &method, name, "/x?y");
            assert_eq!(answer.status, status);
            assert_eq!(answer.header, Some(("Location", location.to_owned())));
        }
    }
}
