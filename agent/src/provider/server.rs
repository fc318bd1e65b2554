//! What is answered to whoever polls.
//!
//! | path | answer |
//! |---|---|
//! | `/`, `/api/dynamic`, `/api/v1/traefik/dynamic` | the document |
//! | `/api/http/routers`, `/services`, `/middlewares`; `/api/tcp/...`; `/api/udp/...` | one section, in the shape of Traefik's API |
//!
//! Until there is a document the answer is 503: whatever else a Traefik got it would take for what it has to serve. Errors are
//! problem+json (RFC 9457).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::Shared;
use super::rendered::Rendered;
use super::split;
use crate::control::{Problem, is_own_host};
use crate::http_server::is_bearer;

/// Seconds until it is worth asking again; a Traefik asks every five anyway.
const AGAIN: HeaderValue = HeaderValue::from_static("5");

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new()
        .route("/", get(document))
        .route("/api/dynamic", get(document))
        .route("/api/v1/traefik/dynamic", get(document));
    for (section, kind) in split::SECTIONS {
        let handler = move |State(shared): State<Arc<Shared>>| async move {
            match rendered(&shared) {
                Some(rendered) => Json(split::list(&rendered.document.value, section, kind)).into_response(),
                None => unavailable(&shared),
            }
        };
        router = router.route(&format!("/api/{section}/{kind}"), get(handler));
    }
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

async fn not_found() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "the document for Traefik is at /api/dynamic",
    )
}

async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "everything here is read with GET")
}

/// Lets callers through who may read. No page of a browser may, which gets here under a name that is its own (DNS
/// rebinding).
async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let refused = |problem: Problem| {
        shared.counts.refused.fetch_add(1, Ordering::Relaxed);
        problem.into_response()
    };
    if let Err(host) = is_own_host(&shared.host_names, request.uri(), request.headers()) {
        let detail = format!(
            "the host {host:?} is no name of this node; call it by IP address, by a name without a domain or below \
             .internal, or by its node name"
        );
        return refused(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail));
    }
    if let Some(token) = &shared.token
        && !is_bearer(request.headers(), token)
    {
        let detail = "this needs Authorization: Bearer TOKEN with the token of traefikProvider.token; in Traefik \
                      providers.http.headers.Authorization";
        return refused(Problem::new(StatusCode::UNAUTHORIZED, detail));
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// What there is to tell; `None`: nothing yet.
fn rendered(shared: &Shared) -> Option<Arc<Rendered>> {
    shared.latest.borrow().rendered.clone()
}

/// The answer while there is nothing.
fn unavailable(shared: &Shared) -> Response {
    shared.counts.unavailable.fetch_add(1, Ordering::Relaxed);
    let waiting = shared.latest.borrow().waiting;
    let mut response =
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, shared.waits_for(waiting)).into_response();
    response.headers_mut().insert(RETRY_AFTER, AGAIN);
    response
}

async fn document(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let Some(rendered) = rendered(&shared) else {
        return unavailable(&shared);
    };
    let mut response = if knows(&headers, rendered.tag()) {
        shared.counts.unchanged.fetch_add(1, Ordering::Relaxed);
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        shared.counts.told.fetch_add(1, Ordering::Relaxed);
        let packed = !rendered.packed.is_empty() && takes_gzip(&headers);
        let body = if packed { &rendered.packed } else { &rendered.bytes };
        let mut response = body.clone().into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if packed {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, rendered.tag.clone());
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// Whether the caller has this document already (RFC 9110 section 13.1.2: weakly compared).
fn knows(headers: &HeaderMap, tag: &str) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).iter();
    let mut tags = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// Whether the caller takes gzip (RFC 9110 section 12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(ACCEPT_ENCODING).iter();
    let mut codings = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','));
    codings.any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = parts.any(|part| {
            let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            weight.is_some_and(|weight| weight.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0))
        });
        is_gzip && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: http::HeaderName, value: &'static str) -> HeaderMap {
        [(name, HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn gzip_is_for_who_asks_for_it() {
        for (value, expected) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("identity", false),
            ("*", false),
        ] {
            assert_eq!(takes_gzip(&headers(ACCEPT_ENCODING, value)), expected, "{value}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn tags_are_compared_weakly() {
        for (value, expected) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("\"b\"", false),
            ("a", false),
        ] {
            assert_eq!(
                knows(&headers(IF_NONE_MATCH, value), "\"a\""),
                expected,
                "{value}"
            );
        }
    }
}
