//! Who may call: checks in front of every handler.
//!
//! A page in a browser can make the browser call this server under the page's own name once that name resolves to
//! 127.0.0.1 (DNS rebinding), and would then read the answer as its own. So only names that are ours are answered.
//! An IP address as the host is no such name. No CORS header is ever sent.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use constellation_table::host;
use http::header::HOST;
use http::{HeaderMap, StatusCode, Uri};

use super::ControlState;
use super::problem::Problem;
use crate::http_server::{Caller, is_bearer};

/// Longest time for one answer.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Checks name and token, then lets the handler answer within the time limit.
pub(super) async fn guard(State(state): State<ControlState>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>().map(|caller| caller.0.ip());
    let allowed = check_host(&state.host_names, request.uri(), request.headers())
        .and_then(|()| check_token(&state, caller, request.headers()));
    if let Err(problem) = allowed {
        return problem.into_response();
    }
    match tokio::time::timeout(TIME_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("no answer was ready within {} s", TIME_LIMIT.as_secs());
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
        }
    }
}

/// Lets a call pass that changes something: whoever makes it sends a token, wherever it comes from.
pub(super) async fn may_change(State(state): State<ControlState>, request: Request, next: Next) -> Response {
    // What only asks for a wrong method changes nothing, and is told so.
    if request.method() != http::Method::POST || is_token(&state, request.headers()) {
        return next.run(request).await;
    }
    let detail = "calls that change something need Authorization: Bearer TOKEN, with the token of control.token, or \
                  without one that of the file node-PID.token in the runtime directory (the command line finds it)";
    Problem::new(StatusCode::UNAUTHORIZED, detail).into_response()
}

fn is_token(state: &ControlState, headers: &HeaderMap) -> bool {
    let known = state.token.iter().chain(&state.change_token);
    known.fold(false, |found, token| found | is_bearer(headers, token))
}

/// Whether a host is a name by which containers on this machine, or people in its network, call it, and no page of a browser
/// can: an address, a name without a domain, or one of the domain that is for private use. The error is the host.
pub(crate) fn is_own_host(names: &[String], uri: &Uri, headers: &HeaderMap) -> Result<(), String> {
    let authority = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => match headers.get(HOST) {
            Some(value) => value.to_str().map_err(|_| "(not text)".to_owned())?,
            None => return Ok(()),
        },
    };
    if check_host(names, uri, headers).is_ok() {
        return Ok(());
    }
    let host = host::canonical(authority).map_err(|_| authority.to_owned())?;
    let host = host.trim_end_matches('.');
    let private = !host.is_empty() && (!host.contains('.') || host.ends_with(".internal"));
    if private { Ok(()) } else { Err(host.to_owned()) }
}

fn check_host(names: &[String], uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let authority = match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers
            .get(HOST)
            .map(|value| value.to_str())
            .transpose()
            .map_err(|_| misdirected("(not text)"))?,
    };
    // HTTP/1.0 without a host: no browser does that.
    let Some(authority) = authority else { return Ok(()) };
    let host = host::canonical(authority).map_err(|_| misdirected(authority))?;
    let host = host.trim_end_matches('.');
    let ours = host.parse::<IpAddr>().is_ok()
        || host == "localhost"
        || host.ends_with(".localhost")
        || names.iter().any(|name| name.eq_ignore_ascii_case(host));
    if ours { Ok(()) } else { Err(misdirected(host)) }
}

fn misdirected(host: &str) -> Problem {
    let detail = format!(
        "the host {host:?} is not a name of this node; call it by IP address, as localhost, or by its node name"
    );
    Problem::new(StatusCode::MISDIRECTED_REQUEST, detail)
}

fn check_token(state: &ControlState, caller: Option<IpAddr>, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(token) = &state.token else { return Ok(()) };
    if caller.is_some_and(|ip| ip.to_canonical().is_loopback()) {
        return Ok(());
    }
    if is_bearer(headers, token) {
        return Ok(());
    }
    let detail =
        "callers from other machines need Authorization: Bearer TOKEN with the token of control.token";
    Err(Problem::new(StatusCode::UNAUTHORIZED, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_polls_may_call_by_private_names() {
        for (host, expected) in [
            ("127.0.0.1:8081", true),
            ("host.docker.internal:8081", true),
            ("edge-1:8081", true),
            ("localhost", true),
            ("evil.example", false),
            ("host.docker.internal.evil.example", false),
            ("", false),
        ] {
            let headers = [(HOST, host.parse().unwrap())].into_iter().collect();
            let own = is_own_host(
                &["edge-1.example.test".to_owned()],
                &Uri::from_static("/"),
                &headers,
            );
            assert_eq!(own.is_ok(), expected, "{host}");
        }
    }

    #[test]
    fn only_our_own_names_and_addresses_are_answered() {
        let names = ["edge-1".to_owned(), "edge-1.example.test".to_owned()];
        let cases = [
            (Some("127.0.0.1:8080"), true),
            (Some("[::1]:8080"), true),
            (Some("192.0.2.1"), true),
            (Some("localhost:8080"), true),
            (Some("node.localhost"), true),
            (Some("EDGE-1.example.test.:80"), true),
            (None, true),
            (Some("evil.example"), false),
            (Some("localhost.evil.example"), false),
            (Some("127.0.0.1.evil.example"), false),
            (Some(""), false),
            (Some("a b"), false),
        ];
        for (host, expected) in cases {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(HOST, host.parse().unwrap());
            }
            assert_eq!(
                check_host(&names, &Uri::from_static("/"), &headers).is_ok(),
                expected,
                "{host:?}"
            );
        }
    }
}
