//! The head of a request as the back end gets it.

use constellation_table::{Endpoint, Service};
use http::header::{self, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Version};
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType, OrErr, Result};
use pingora_http::RequestHeader;

use super::forwarded::{self, Upgrade};
use super::meshed;
use super::routing::retarget;
use super::upstream::EndpointState;

/// What belongs to one hop only (RFC 9110 section 7.6.1). `Connection` and `Upgrade` are handled apart.
const HOP_BY_HOP: [HeaderName; 7] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    HeaderName::from_static("http2-settings"),
];

/// How the request leaves.
#[derive(Clone, Copy)]
pub(super) struct Towards<'e> {
    pub(super) service: &'e Service,
    pub(super) endpoint: &'e Endpoint,
    pub(super) state: &'e EndpointState,
    pub(super) http2: bool,
}

/// Makes the head for one endpoint from the client's.
pub(super) fn head(
    session: &mut ServerSession,
    upgrade: Upgrade,
    towards: Towards<'_>,
) -> Result<Box<RequestHeader>> {
    let empty = session.is_body_empty();
    let from_http2 = session.is_http2();
    head_of(session.req_header(), empty, from_http2, upgrade, towards)
}

/// The same from any head. `empty`: no body follows. `from_http2`: it came over HTTP/2.
pub(super) fn head_of(
    client: &RequestHeader,
    empty: bool,
    from_http2: bool,
    upgrade: Upgrade,
    towards: Towards<'_>,
) -> Result<Box<RequestHeader>> {
    let mut request = Box::new(client.clone());
    let wants_trailers = wants_trailers(client);
    let own_host = own_host(client, towards);
    strip(&mut request, upgrade)?;
    if wants_trailers {
        // The one option of `TE` that concerns the next hop too; gRPC back ends insist on it.
        request.insert_header(header::TE, HeaderValue::from_static("trailers"))?;
    }
    if from_http2 {
        forwarded::join_cookies(&mut request)?;
    }
    frame(&mut request, upgrade, empty, towards.http2)?;
    if !towards.endpoint.base_path.is_empty() {
        let own = request.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let target = format!("{}{own}", towards.endpoint.base_path.trim_end_matches('/'));
        retarget(&mut request, &target)?;
    }
    if towards.http2 {
        address_http2(&mut request, own_host, towards)?;
    } else {
        request.set_version(Version::HTTP_11);
        address_http1(&mut request, own_host)?;
        if towards.endpoint.peer.is_some() {
            meshed::no_host(&mut request)?;
        }
    }
    Ok(request)
}

fn wants_trailers(client: &RequestHeader) -> bool {
    let trailers = |value: &HeaderValue| {
        value
            .as_bytes()
            .split(|b| *b == b',')
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    };
    client.headers.get_all(header::TE).iter().any(trailers)
}

/// The endpoint's own name, where the client's is not to be passed on or there is none: a client of HTTP/1.0 may name
/// no host; our own request is HTTP/1.1 and must.
fn own_host(client: &RequestHeader, towards: Towards<'_>) -> Option<HeaderValue> {
    if towards.endpoint.peer.is_some() {
        // What becomes of the host is decided where the back end is.
        return None;
    }
    let own = !towards.service.pass_host_header || super::answer::authority(client).is_empty();
    own.then(|| towards.state.authority.clone())
}

fn strip(request: &mut RequestHeader, upgrade: Upgrade) -> Result<()> {
    for name in &HOP_BY_HOP {
        request.remove_header(name);
    }
    match upgrade {
        Upgrade::None => {
            request.remove_header(&header::CONNECTION);
            request.remove_header(&header::UPGRADE);
        }
        Upgrade::WebSocket => {
            request.insert_header(header::CONNECTION, HeaderValue::from_static("Upgrade"))?;
            request.insert_header(header::UPGRADE, HeaderValue::from_static("websocket"))?;
        }
        // Its name stays as the client wrote it.
        Upgrade::Other => {}
    }
    Ok(())
}

/// States how long the body is.
fn frame(request: &mut RequestHeader, upgrade: Upgrade, empty: bool, http2: bool) -> Result<()> {
    request.remove_header(&header::TRANSFER_ENCODING);
    let has_length = request.headers.contains_key(header::CONTENT_LENGTH);
    if !empty && !has_length && !http2 {
        request.insert_header(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
    }
    // Servers may ask for a length where the method expects content, even of none (RFC 9110, section 8.6).
    let expects = matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
    if empty && expects && !has_length && upgrade == Upgrade::None {
        request.insert_header(header::CONTENT_LENGTH, HeaderValue::from_static("0"))?;
    }
    Ok(())
}

fn address_http1(request: &mut RequestHeader, own_host: Option<HeaderValue>) -> Result<()> {
    let host = match own_host {
        Some(host) => Some(host),
        None => match request.uri.authority() {
            Some(authority) => Some(
                HeaderValue::from_str(authority.as_str())
                    .or_err(ErrorType::InvalidHTTPHeader, "an authority that is no host")?,
            ),
            None => None,
        },
    };
    if let Some(host) = host {
        request.insert_header(header::HOST, host)?;
    }
    Ok(())
}

fn address_http2(
    request: &mut RequestHeader,
    own_host: Option<HeaderValue>,
    towards: Towards<'_>,
) -> Result<()> {
    if !request.raw_path_is_utf8() {
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, "HTTP/2 can't carry this path").into_down());
    }
    let named = request.remove_header(&header::HOST);
    let invalid = || Error::explain(ErrorType::InvalidHTTPHeader, "an authority that is no host").into_down();
    let authority = match (own_host, request.uri.authority(), named) {
        (Some(own), ..) => Authority::try_from(own.as_bytes()).map_err(|_| invalid())?,
        (None, Some(authority), _) => authority.clone(),
        (None, None, Some(host)) => Authority::try_from(host.as_bytes()).map_err(|_| invalid())?,
        (None, None, None) => return Err(invalid()),
    };
    let target = match request.uri.path_and_query() {
        Some(target) => target.clone(),
        None => PathAndQuery::from_static("/"),
    };
    let tls =
        towards.endpoint.scheme == constellation_table::Scheme::Https || towards.endpoint.peer.is_some();
    let uri = http::Uri::builder()
        .scheme(if tls { "https" } else { "http" })
        .authority(authority)
        .path_and_query(target)
        .build()
        .or_err(ErrorType::InvalidHTTPHeader, "a target that HTTP/2 can't carry")?;
    request.set_uri(uri);
    request.set_version(Version::HTTP_2);
    Ok(())
}
