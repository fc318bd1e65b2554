//! HTTP checks: a request, the redirects it leads to, and the status that tells.

use std::sync::LazyLock;

use bytes::Bytes;
use constellation_table::Scheme;
use constellation_table::policy::HealthCheck;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use url::Url;

use super::answer::Rest;
use super::connection::{Connection, Deadline, Net, Place};
use super::failure::{Failure, shown};
use super::target::{Ask, Target};
use crate::metrics::CheckOutcome;

/// Requests of one check, redirects included.
const MAX_REQUESTS: usize = 10;
/// Whom a back end sees asking, unless the check's own headers say otherwise.
const USER_AGENT: HeaderValue = HeaderValue::from_static("constellation-health-check");
/// What is not told to another host than the endpoint's.
static CONFIDENTIAL: LazyLock<[HeaderName; 4]> = LazyLock::new(|| {
    [
        header::AUTHORIZATION,
        header::PROXY_AUTHORIZATION,
        header::COOKIE,
        header::WWW_AUTHENTICATE,
    ]
});

/// Asks, and follows redirects.
pub(super) async fn ask(
    target: &Target,
    kept: &mut Option<Connection>,
    net: &Net,
    deadline: Deadline,
) -> (Result<(), Failure>, Option<Rest>) {
    let check = &target.check;
    let mut ask = first(target);
    // Where redirects lead away from the endpoint.
    let mut away = None;
    for _ in 0..MAX_REQUESTS {
        let at_origin = ask.place == target.origin;
        let slot = if at_origin { &mut *kept } else { &mut away };
        let answer = match target.send(&ask, slot, net, deadline).await {
            Ok(answer) => answer,
            Err(failure) => return (Err(failure), None),
        };
        let status = answer.status();
        let next = match check.follow_redirects {
            true => redirected(&ask, target, status, answer.headers()),
            false => None,
        };
        let rest = Rest(answer.into_body());
        match next {
            None => return (judge(check, &ask, status), at_origin.then_some(rest)),
            Some(Err(failure)) => return (Err(failure), at_origin.then_some(rest)),
            Some(Ok(next)) => {
                let settled = tokio::time::timeout_at(deadline.at, rest.settle()).await;
                if !settled.unwrap_or(false) {
                    *slot = None;
                }
                ask = next;
            }
        }
    }
    let reason = format!(
        "{} {} led to {MAX_REQUESTS} redirects",
        check.method,
        shown(&check.path)
    );
    (Err(Failure::new(CheckOutcome::Status, reason)), None)
}

fn first(target: &Target) -> Ask {
    let check = &target.check;
    let mut headers = HeaderMap::new();
    for (name, value) in &check.headers {
        headers.append(name, value.clone());
    }
    headers.entry(header::USER_AGENT).or_insert(USER_AGENT);
    Ask {
        place: target.origin.clone(),
        authority: target.authority(),
        path: check.path.to_string(),
        method: check.method.clone(),
        headers,
        body: Bytes::new(),
    }
}

fn judge(check: &HealthCheck, ask: &Ask, status: StatusCode) -> Result<(), Failure> {
    let good = match check.status {
        Some(wanted) => status == wanted,
        None => status.is_success() || status.is_redirection(),
    };
    if good {
        Ok(())
    } else {
        Err(Failure::status(&ask.method, &ask.path, status, check.status))
    }
}

/// The request that an answer leads to; `None`: it is the last one.
fn redirected(
    ask: &Ask,
    target: &Target,
    status: StatusCode,
    headers: &HeaderMap,
) -> Option<Result<Ask, Failure>> {
    let same_method = match status.as_u16() {
        301..=303 => ask.method == Method::GET || ask.method == Method::HEAD,
        307 | 308 => true,
        _ => return None,
    };
    let location = headers.get(header::LOCATION)?;
    let Some((location, url)) = location
        .to_str()
        .ok()
        .and_then(|text| Some((text, resolve(ask, text)?)))
    else {
        let reason = format!(
            "{} {} gave a redirect to {}, which is no URL",
            ask.method,
            shown(&ask.path),
            shown(&String::from_utf8_lossy(location.as_bytes()))
        );
        return Some(Err(Failure::new(CheckOutcome::Protocol, reason)));
    };
    let Some(place) = place(&url, &ask.place) else {
        let reason = format!(
            "{} {} gave a redirect to {}, which is neither http nor https",
            ask.method,
            shown(&ask.path),
            shown(location)
        );
        return Some(Err(Failure::new(CheckOutcome::Protocol, reason)));
    };
    let mut headers = ask.headers.clone();
    if place.host != target.origin.host {
        for name in &*CONFIDENTIAL {
            headers.remove(name);
        }
    }
    // A `Host` of our own choice goes on only where the answer named no host.
    let names_host = Url::parse(location).is_ok() || location.starts_with("//");
    Some(Ok(Ask {
        authority: match names_host {
            true => place.authority(),
            false => ask.authority.clone(),
        },
        place,
        path: path_of(&url),
        method: match same_method {
            true => ask.method.clone(),
            false => Method::GET,
        },
        headers,
        body: Bytes::new(),
    }))
}

/// The URL that `location` names, seen from where it was given.
fn resolve(ask: &Ask, location: &str) -> Option<Url> {
    let Ask { place, path, .. } = ask;
    let base = Url::parse(&format!("{}://{}{path}", place.scheme_name(), place.authority())).ok()?;
    base.join(location).ok()
}

fn place(url: &Url, from: &Place) -> Option<Place> {
    let scheme = match url.scheme() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let host = match url.host()? {
        url::Host::Domain(name) => name.into(),
        url::Host::Ipv4(ip) => ip.to_string().into(),
        url::Host::Ipv6(ip) => ip.to_string().into(),
    };
    let mut place = Place {
        scheme,
        host,
        port: url.port_or_known_default()?,
    };
    if from.scheme == Scheme::H2c
        && scheme == Scheme::Http
        && (&place.host, place.port) == (&from.host, from.port)
    {
        place.scheme = Scheme::H2c;
    }
    Some(place)
}

fn path_of(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}
