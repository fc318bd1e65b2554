//! `redirectScheme` and `redirectRegex`: the client is sent elsewhere.

use constellation_table::regexp::{Regexp, Template};
use http::header::{HeaderValue, LOCATION};
use http::{Method, StatusCode};
use pingora_http::RequestHeader;

use crate::{Answer, Flow, Seen, Unfit, target, url};

/// Sends clients to the same place under another scheme or port.
#[derive(Debug)]
pub struct RedirectScheme {
    scheme: Box<str>,
    /// `None`: the default one of the scheme, which is not written.
    port: Option<u16>,
    permanent: bool,
}

impl RedirectScheme {
    /// `port`: empty for the default one.
    pub fn new(scheme: &str, port: &str, permanent: bool) -> Result<Self, String> {
        if scheme.is_empty() {
            return Err("scheme is empty: write https, or another scheme".to_owned());
        }
        let scheme = scheme.to_ascii_lowercase();
        let is_scheme = |text: &str| {
            let mut bytes = text.bytes();
            bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        };
        if !is_scheme(&scheme) {
            return Err(format!(
                "scheme {scheme:?} is none: write https, or another scheme"
            ));
        }
        let number = match port {
            "" => None,
            port => Some(
                port.parse::<u16>()
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or_else(|| format!("port {port:?} is none: write a number of 1 to 65535"))?,
            ),
        };
        let default = matches!((&*scheme, number), ("https", Some(443)) | ("http", Some(80)));
        Ok(Self {
            scheme: scheme.into(),
            port: number.filter(|_| !default),
            permanent,
        })
    }

    pub(crate) fn enter(&self, request: &RequestHeader, seen: &Seen<'_>) -> Result<Flow<'static>, Unfit> {
        let authority = target::authority(request);
        if authority.is_empty() {
            return Err(Unfit::new("a redirect needs the host that the client asks for"));
        }
        let (name, port) = split_port(authority);
        let uri = target::of(request);
        let used = forwarded_scheme(request, seen);
        // The default port is where one is without it, too.
        let used_port = match (used, port) {
            ("http", ":80") | ("https", ":443") => "",
            (_, port) => port,
        };
        let before = format!("{used}://{name}{used_port}{uri}");
        let rest = if port == ":" { port } else { "" };
        let after = match self.port {
            Some(number) => format!("{}://{name}:{number}{rest}{uri}", self.scheme),
            None => format!("{}://{name}{rest}{uri}", self.scheme),
        };
        if before == after {
            return Ok(Flow::Next);
        }
        Ok(Flow::Answer(Box::new(moved(request, &after, self.permanent))))
    }
}

/// Sends clients to what a pattern makes of the URL they ask for.
#[derive(Debug)]
pub struct RedirectRegex {
    pattern: Regexp,
    replacement: Template,
    permanent: bool,
}

impl RedirectRegex {
    /// What the pattern matches in the whole URL is replaced.
    pub fn new(pattern: &str, replacement: &str, permanent: bool) -> Result<Self, String> {
        let pattern = Regexp::new(pattern)?;
        let replacement = pattern.template(replacement);
        Ok(Self {
            pattern,
            replacement,
            permanent,
        })
    }

    pub(crate) fn enter(&self, request: &RequestHeader, seen: &Seen<'_>) -> Result<Flow<'static>, Unfit> {
        let scheme = if seen.tls { "https" } else { "http" };
        let before = format!("{scheme}://{}{}", target::authority(request), target::of(request));
        let replaced = self
            .pattern
            .replace_all(&before, &self.replacement)
            .map_err(|error| Unfit::new(error.to_string()))?;
        match replaced {
            Some(after) if after != before => {
                Ok(Flow::Answer(Box::new(moved(request, &after, self.permanent))))
            }
            _ => Ok(Flow::Next),
        }
    }
}

/// The scheme the client has used: what a trusted proxy in front says, else that of the connection.
fn forwarded_scheme(request: &RequestHeader, seen: &Seen<'_>) -> &'static str {
    let proto = request.headers.get("x-forwarded-proto");
    match proto.map(HeaderValue::as_bytes) {
        Some(b"https" | b"wss") => "https",
        Some(b"http" | b"ws") => "http",
        _ if seen.tls => "https",
        _ => "http",
    }
}

/// Cuts off a port with its colon. A colon without digits stays with the second part, too.
fn split_port(authority: &str) -> (&str, &str) {
    let Some(at) = authority.rfind(':') else {
        return (authority, "");
    };
    let (name, port) = authority.split_at(at);
    let is_port = port.bytes().skip(1).all(|byte| byte.is_ascii_digit());
    // In `[::1]` the last colon belongs to the address.
    if is_port { (name, port) } else { (authority, "") }
}

fn moved(request: &RequestHeader, location: &str, permanent: bool) -> Answer {
    let status = match (request.method == Method::GET, permanent) {
        (true, false) => StatusCode::FOUND,
        (true, true) => StatusCode::MOVED_PERMANENTLY,
        (false, false) => StatusCode::TEMPORARY_REDIRECT,
        (false, true) => StatusCode::PERMANENT_REDIRECT,
    };
    let location = url::canonical(location).and_then(|url| HeaderValue::from_str(&url).ok());
    let Some(location) = location else {
        return Answer::plain(502, "Bad Gateway");
    };
    let words = status.canonical_reason().unwrap_or_default();
    Answer::plain(status.as_u16(), words).with(LOCATION, location)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seen::tests::seen;

    fn ask(method: &str, host: &str, target: &str, headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build(method, target.as_bytes(), None).unwrap();
        request.insert_header("Host", host).unwrap();
        for (name, value) in headers {
            request.insert_header(*name, *value).unwrap();
        }
        request
    }

    #[test]
    fn a_default_port_is_no_other_place() {
        for (scheme, host, goes) in [
            ("http", "a.test:80", false),
            ("http", "a.test", false),
            ("http", "a.test:8080", true),
            ("https", "a.test:80", true),
        ] {
            let redirect = RedirectScheme::new(scheme, "", false).unwrap();
            let flow = redirect.enter(&ask("GET", host, "/", &[]), &seen(false));
            assert_eq!(told(flow.unwrap()).is_some(), goes, "{scheme} {host}");
        }
    }

    fn told(flow: Flow<'_>) -> Option<(u16, String, String)> {
        match flow {
            Flow::Answer(answer) => Some((
                answer.status,
                answer
                    .headers
                    .get(LOCATION)
                    .map(|value| value.to_str().unwrap().to_owned())
                    .unwrap_or_default(),
                String::from_utf8_lossy(&answer.body).into_owned(),
            )),
            _ => None,
        }
    }

    #[test]
    fn to_another_scheme() {
        // scheme, port, permanent, method, host, tls, status and location
        type Case = (
            &'static str,
            &'static str,
            bool,
            &'static str,
            &'static str,
            bool,
            Option<(u16, &'static str)>,
        );
        let cases: &[Case] = &[
            (
                "https",
                "",
                false,
                "GET",
                "a.test",
                false,
                Some((302, "https://a.test/x?y=1")),
            ),
            (
                "https",
                "",
                false,
                "HEAD",
                "a.test",
                false,
                Some((307, "https://a.test/x?y=1")),
            ),
            (
                "https",
                "",
                true,
                "GET",
                "a.test",
                false,
                Some((301, "https://a.test/x?y=1")),
            ),
            (
                "https",
                "",
                true,
                "POST",
                "a.test",
                false,
                Some((308, "https://a.test/x?y=1")),
            ),
            ("https", "", false, "GET", "a.test", true, None),
            (
                "https",
                "443",
                false,
                "GET",
                "a.test:8080",
                false,
                Some((302, "https://a.test/x?y=1")),
            ),
            (
                "https",
                "8443",
                false,
                "GET",
                "a.test",
                true,
                Some((302, "https://a.test:8443/x?y=1")),
            ),
            ("https", "8443", false, "GET", "a.test:8443", true, None),
            ("http", "80", false, "GET", "a.test", false, None),
            (
                "http",
                "80",
                false,
                "GET",
                "a.test:8080",
                false,
                Some((302, "http://a.test/x?y=1")),
            ),
            (
                "HTTPS",
                "",
                false,
                "GET",
                "RS.test:80",
                false,
                Some((302, "https://RS.test/x?y=1")),
            ),
            (
                "https",
                "",
                false,
                "GET",
                "[::1]:80",
                false,
                Some((302, "https://[::1]/x?y=1")),
            ),
            (
                "https",
                "",
                false,
                "GET",
                "[::1]",
                false,
                Some((302, "https://[::1]/x?y=1")),
            ),
            (
                "https",
                "",
                false,
                "GET",
                "rs.test:",
                false,
                Some((302, "https://rs.test:/x?y=1")),
            ),
            (
                "wss",
                "",
                false,
                "GET",
                "a.test",
                true,
                Some((302, "wss://a.test/x?y=1")),
            ),
        ];
        for (scheme, port, permanent, method, host, tls, expected) in cases {
            let middleware = RedirectScheme::new(scheme, port, *permanent).unwrap();
            let request = ask(method, host, "/x?y=1", &[]);
            let got = told(middleware.enter(&request, &seen(*tls)).unwrap());
            let got = got.map(|(status, location, _)| (status, location));
            let expected = expected.map(|(status, location)| (status, location.to_owned()));
            assert_eq!(got, expected, "{scheme} {port} {method} {host} {tls}");
        }
        for (scheme, port) in [("", ""), ("https", "abc"), ("https", "0"), ("ht tp", "")] {
            assert!(RedirectScheme::new(scheme, port, false).is_err());
        }
    }

    #[test]
    fn what_a_proxy_in_front_says_of_the_scheme_counts() {
        let middleware = RedirectScheme::new("https", "", false).unwrap();
        // X-Forwarded-Proto, tls, whether it is a redirect
        for (proto, tls, redirect) in [
            ("https", false, false),
            ("wss", false, false),
            ("http", true, true),
            ("ws", false, true),
            ("other", true, false),
        ] {
            let request = ask("GET", "a.test", "/", &[("X-Forwarded-Proto", proto)]);
            let got = told(middleware.enter(&request, &seen(tls)).unwrap());
            assert_eq!(got.is_some(), redirect, "{proto} {tls}");
        }
    }

    #[test]
    fn to_what_a_pattern_makes() {
        // pattern, replacement, tls, target, status and location
        let cases = [
            (
                "^http://(.*?)/old/(.*)",
                "https://new.test/$2?h=${1}",
                false,
                "/old/x?y=1",
                Some((302, "https://new.test/x?y=1?h=a.test")),
            ),
            ("^http://(.*)", "https://${1}", true, "/q", None),
            (".*", "/same", true, "/q", Some((302, "/same"))),
            ("^(.*)$", "$1", false, "/q", None),
            ("x", "y", false, "/q", None),
            (
                "^http://[^/]+/(.*)$",
                "https://a b.test/$1",
                false,
                "/q",
                Some((502, "")),
            ),
        ];
        for (pattern, replacement, tls, target, expected) in cases {
            let middleware = RedirectRegex::new(pattern, replacement, false).unwrap();
            let request = ask("GET", "a.test", target, &[]);
            let got = told(middleware.enter(&request, &seen(tls)).unwrap());
            let body = got.as_ref().map(|(.., body)| body.clone());
            let got = got.map(|(status, location, _)| (status, location));
            let expected = expected.map(|(status, location)| (status, location.to_owned()));
            assert_eq!(got, expected, "{pattern} {target}");
            let words = expected.map(|(status, _)| if status == 302 { "Found" } else { "Bad Gateway" });
            assert_eq!(body.as_deref(), words);
        }
    }
}
