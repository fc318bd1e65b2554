//! `forwardAuth`: another service is asked who may pass.
//!
//! It gets a request without a body, or with it where that is asked for, that tells of the client's: [`ForwardAuth::question`].
//! What it answers decides: [`ForwardAuth::answered`]. Asking is the data plane's business.

mod address;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use constellation_table::Service;
use constellation_table::regexp::Regexp;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, SET_COOKIE,
    TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method};
use pingora_http::{RequestHeader, ResponseHeader};

pub use self::address::AuthAddress;
use crate::field::FieldName;
use crate::identity::set_trusted;
use crate::{Answer, Ask, Flow, Later, Seen, Unfit};

/// What belongs to one hop, or to the body of the client's request.
const NOT_PASSED: [HeaderName; 11] = [
    CONNECTION,
    CONTENT_LENGTH,
    http::header::EXPECT,
    HeaderName::from_static("keep-alive"),
    http::header::PROXY_AUTHENTICATE,
    http::header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The forwarding headers that `trustForwardHeader` is about.
const FORWARDING: [&str; 11] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-method",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-forwarded-tls-client-cert",
    "x-forwarded-tls-client-cert-info",
    "x-forwarded-uri",
    "x-real-ip",
];

/// Asks another service who may pass.
pub struct ForwardAuth {
    service: Arc<Service>,
    address: AuthAddress,
    trust: Option<bool>,
    response_headers: Vec<FieldName>,
    response_pattern: Option<Regexp>,
    /// Empty: all.
    request_headers: Vec<HeaderName>,
    cookies: Arc<[Box<str>]>,
    user_header: Option<HeaderName>,
    /// Most bytes of the body that go along; `None`: it does not.
    body: Option<u64>,
    most_of_answer: Option<u64>,
    keep_location: bool,
    keep_method: bool,
}

impl fmt::Debug for ForwardAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardAuth")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// The options of [`ForwardAuth`], as written.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardAuthOptions<'o> {
    /// Whether forwarding headers of the request go along as they are, or none of them does. `None`: those that have a meaning
    /// here are set anew, others go along as every header does.
    pub trust_forward_header: Option<bool>,
    /// Headers of the answer that the request gets.
    pub auth_response_headers: &'o [String],
    /// The same, by a pattern of names; empty: none.
    pub auth_response_headers_regex: &'o str,
    /// Headers of the request that go along; empty: all.
    pub auth_request_headers: &'o [String],
    /// Cookies of the answer that the response gets.
    pub add_auth_cookies_to_response: &'o [String],
    /// The header of the answer that names the user; empty: none.
    pub header_field: &'o str,
    /// Whether the body goes along.
    pub forward_body: bool,
    /// Most bytes of it; below 0: any.
    pub max_body_size: Option<i64>,
    /// Most bytes of the answer's body; below 0: any.
    pub max_response_body_size: Option<i64>,
    /// Whether `Location` of the answer stays as it is.
    pub preserve_location_header: bool,
    /// Whether the request's method is used instead of GET.
    pub preserve_request_method: bool,
}

impl ForwardAuth {
    /// `service` is what is found at `address`, as a service with one endpoint.
    pub fn new(
        address: AuthAddress,
        service: Arc<Service>,
        options: &ForwardAuthOptions<'_>,
    ) -> Result<Self, String> {
        let names = |option: &str, names: &[String]| {
            let fields = names.iter().map(|name| {
                FieldName::parse(name.trim())
                    .ok_or_else(|| format!("{option} has {name:?}: write the name of a header"))
            });
            fields.collect::<Result<Vec<_>, _>>()
        };
        let pattern = match options.auth_response_headers_regex {
            "" => None,
            pattern => {
                let compiled = Regexp::new(pattern);
                Some(compiled.map_err(|error| format!("authResponseHeadersRegex: {error}"))?)
            }
        };
        let user_header = match options.header_field {
            "" => None,
            name => match name.parse() {
                Ok(name) => Some(name),
                Err(_) => return Err(format!("headerField is {name:?}: write the name of a header")),
            },
        };
        let request_headers = names("authRequestHeaders", options.auth_request_headers)?;
        let at_most = |size: Option<i64>| size.and_then(|size| u64::try_from(size).ok());
        Ok(Self {
            service,
            address,
            trust: options.trust_forward_header,
            response_headers: names("authResponseHeaders", options.auth_response_headers)?,
            response_pattern: pattern,
            request_headers: request_headers.into_iter().map(|field| field.name).collect(),
            cookies: options
                .add_auth_cookies_to_response
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
            user_header,
            body: options
                .forward_body
                .then(|| at_most(options.max_body_size).unwrap_or(u64::MAX)),
            most_of_answer: at_most(options.max_response_body_size),
            keep_location: options.preserve_location_header,
            keep_method: options.preserve_request_method,
        })
    }

    /// The service that is asked.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Most bytes of the request's body that go along; `None`: it does not.
    pub fn body(&self) -> Option<u64> {
        self.body
    }

    /// Most bytes of the answer's body; `None`: any.
    pub fn most_of_answer(&self) -> Option<u64> {
        self.most_of_answer
    }

    /// The head of the request that asks. The data plane says which host it is for and how long its body is.
    pub fn question(&self, request: &RequestHeader, seen: &Seen<'_>) -> Result<RequestHeader, Unfit> {
        // A copy, so that names stay as the client has written them.
        let mut question = request.clone();
        question.set_raw_path(self.address.target().as_bytes())?;
        if !self.keep_method {
            question.set_method(Method::GET);
        }
        let stays = |name: &HeaderName| {
            let goes_along = match self.trust {
                Some(false) if is_forwarding(name) => false,
                Some(true) if FORWARDING.contains(&name.as_str()) => true,
                _ => self.request_headers.is_empty() || self.request_headers.contains(name),
            };
            goes_along && *name != http::header::HOST && !NOT_PASSED.contains(name)
        };
        let left_out: Vec<HeaderName> = request
            .headers
            .keys()
            .filter(|name| !stays(name))
            .cloned()
            .collect();
        for name in &left_out {
            question.remove_header(name);
        }
        self.tell_of_client(&mut question, request, seen)?;
        if let Some(authorization) = self.address.authorization()
            && !question.headers.contains_key(AUTHORIZATION)
        {
            question.insert_header(AUTHORIZATION, authorization.clone())?;
        }
        Ok(question)
    }

    fn tell_of_client(
        &self,
        question: &mut RequestHeader,
        request: &RequestHeader,
        seen: &Seen<'_>,
    ) -> Result<(), Unfit> {
        let trusted = self.trust == Some(true);
        let unfit = |_| Unfit::new("a request that can't be told of in headers");
        let client = seen.client.ip().to_string();
        let before: Vec<&[u8]> = match trusted {
            true => request
                .headers
                .get_all("x-forwarded-for")
                .iter()
                .map(HeaderValue::as_bytes)
                .collect(),
            false => Vec::new(),
        };
        let addresses = [before.as_slice(), &[client.as_bytes()]]
            .concat()
            .join(&b", "[..]);
        let authority = request
            .uri
            .authority()
            .map(|authority| authority.as_str().as_bytes());
        let host = request
            .headers
            .get(http::header::HOST)
            .map(HeaderValue::as_bytes)
            .or(authority);
        let set = |question: &mut RequestHeader, name: &'static str, value: HeaderValue| {
            let told = question.headers.get_all(name).iter().filter(|_| trusted);
            let told: Vec<HeaderValue> = told.cloned().collect();
            let values = if told.is_empty() { &[value][..] } else { &told };
            set_trusted(question, &Bytes::from_static(name.as_bytes()), values.iter())
        };
        let name = Bytes::from_static(b"X-Forwarded-For");
        let addresses = HeaderValue::from_bytes(&addresses).map_err(unfit)?;
        set_trusted(question, &name, [addresses].iter())?;
        let method = HeaderValue::from_str(request.method.as_str()).map_err(unfit)?;
        set(question, "X-Forwarded-Method", method)?;
        let scheme = if seen.tls { "https" } else { "http" };
        set(question, "X-Forwarded-Proto", HeaderValue::from_static(scheme))?;
        if self.trust.is_some() {
            let port = port(question, host.unwrap_or_default(), seen.tls);
            set(
                question,
                "X-Forwarded-Port",
                HeaderValue::from_bytes(port).map_err(unfit)?,
            )?;
        }
        if let Some(host) = host {
            let host = HeaderValue::from_bytes(host).map_err(unfit)?;
            set(question, "X-Forwarded-Host", host)?;
        }
        let target = HeaderValue::from_bytes(request.raw_path()).map_err(unfit)?;
        set(question, "X-Forwarded-Uri", target)?;
        Ok(())
    }

    /// What follows from an answer, whose body is whole.
    pub fn answered(
        &self,
        answer: &ResponseHeader,
        body: Bytes,
        request: &mut RequestHeader,
    ) -> Result<Flow<'static>, Unfit> {
        if !answer.status.is_success() {
            return Ok(self.refused(answer, body));
        }
        for field in &self.response_headers {
            set_trusted(
                request,
                &field.written,
                answer.headers.get_all(&field.name).iter(),
            )?;
        }
        if let Some(pattern) = &self.response_pattern {
            let matching = |headers: &HeaderMap| -> Vec<FieldName> {
                let fields = headers.keys().filter_map(|name| FieldName::parse(name.as_str()));
                fields
                    .filter(|field| pattern.is_match(&String::from_utf8_lossy(&field.written)))
                    .collect()
            };
            for field in matching(&request.headers) {
                request.remove_header(&field.name);
            }
            for field in matching(&answer.headers) {
                set_trusted(
                    request,
                    &field.written,
                    answer.headers.get_all(&field.name).iter(),
                )?;
            }
        }
        let user = self
            .user_header
            .as_ref()
            .and_then(|name| answer.headers.get(name));
        let user = user.map(|user| String::from_utf8_lossy(user.as_bytes()).into());
        let later = (!self.cookies.is_empty()).then(|| {
            let cookies = answer.headers.get_all(SET_COOKIE).iter();
            let named = cookies.filter(|cookie| is_called(cookie, &self.cookies)).cloned();
            // Nobody prints them.
            let secret = named.map(|mut cookie| {
                cookie.set_sensitive(true);
                cookie
            });
            Later::AuthCookies(AuthCookies {
                names: self.cookies.clone(),
                cookies: secret.collect(),
            })
        });
        Ok(match (user, later) {
            (None, None) => Flow::Next,
            (None, Some(later)) => Flow::Later(later),
            (Some(user), later) => Flow::User(user, later),
        })
    }

    /// The answer goes to the client.
    fn refused(&self, answer: &ResponseHeader, body: Bytes) -> Flow<'static> {
        let status = answer.status.as_u16();
        let bodiless = matches!(status, 204 | 304);
        let mut headers = HeaderMap::with_capacity(answer.headers.len());
        for (name, value) in &answer.headers {
            if NOT_PASSED.contains(name) || (bodiless && name == CONTENT_TYPE) {
                continue;
            }
            headers.append(name.clone(), value.clone());
        }
        if !self.keep_location
            && let Some(location) = headers.get(LOCATION).filter(|location| !location.is_empty())
        {
            let absolute = location
                .to_str()
                .ok()
                .and_then(|location| self.address.absolute(location));
            match absolute.and_then(|location| HeaderValue::from_str(&location).ok()) {
                Some(absolute) => headers.insert(LOCATION, absolute),
                None => return self.failed(),
            };
        }
        Flow::Answer(Box::new(Answer {
            status,
            headers,
            body: if bodiless { Bytes::new() } else { body },
        }))
    }

    /// What follows when there is no answer.
    pub fn failed(&self) -> Flow<'static> {
        Flow::Answer(Box::new(Answer::empty(500)))
    }

    /// What follows when a body is longer than it may be.
    pub fn too_long(&self) -> Flow<'static> {
        Flow::Answer(Box::new(Answer::empty(401)))
    }

    pub(crate) fn enter(&self) -> Flow<'_> {
        Flow::Ask(Ask::Authorize(self))
    }
}

/// Cookies of the service that was asked, for the client.
#[derive(Debug)]
pub struct AuthCookies {
    names: Arc<[Box<str>]>,
    cookies: Vec<HeaderValue>,
}

impl AuthCookies {
    /// They take the place of those that the service sets.
    pub(crate) fn leave(&self, response: &mut ResponseHeader) -> Result<(), Unfit> {
        let others: Vec<HeaderValue> = response
            .headers
            .get_all(SET_COOKIE)
            .iter()
            .filter(|cookie| !is_called(cookie, &self.names))
            .cloned()
            .collect();
        response.remove_header(&SET_COOKIE);
        for cookie in others.iter().chain(&self.cookies) {
            response.append_header("Set-Cookie", cookie.clone())?;
        }
        Ok(())
    }
}

/// Whether this is a forwarding header, also with underscores in its name.
fn is_forwarding(name: &HeaderName) -> bool {
    let written = name.as_str().bytes();
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte };
    FORWARDING
        .iter()
        .any(|known| known.bytes().eq(written.clone().map(plain)))
}

/// The port that the client has come to, as the question tells of it.
fn port<'h>(question: &RequestHeader, host: &'h [u8], tls: bool) -> &'h [u8] {
    let named = host.iter().rposition(|byte| *byte == b':');
    let digits = named.and_then(|colon| host.get(colon + 1..)).unwrap_or_default();
    // In `[::1]` the last colon belongs to the address.
    if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) {
        return digits;
    }
    let scheme = question
        .headers
        .get("x-forwarded-proto")
        .map(HeaderValue::as_bytes);
    match tls || matches!(scheme, Some(b"https" | b"wss")) {
        true => b"443",
        false => b"80",
    }
}

/// Whether a cookie that is set has one of these names.
fn is_called(cookie: &HeaderValue, names: &[Box<str>]) -> bool {
    let name = cookie.as_bytes().split(|byte| matches!(byte, b'=' | b';')).next();
    let name = name.unwrap_or_default().trim_ascii();
    names.iter().any(|known| known.as_bytes() == name)
}
