//! Headers between two hops: whose `X-Forwarded-*` are believed, which ones we set, and what `Connection` may remove.

use http::header::{self, HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

use super::connection::Connection;
use super::refusal::Refusal;

/// More options than any client sends; each one costs a search of the header map.
const MAX_CONNECTION_OPTIONS: usize = 16;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Sets what rules and back ends may know about the first hop. `server` is our host name.
///
/// Without trust, whatever the client sent is removed first, also under names with underscores, which CGI-like back
/// ends can't tell from the real ones. With trust, what is there stays.
pub(super) fn set(
    request: &mut RequestHeader,
    connection: &Connection,
    server: &HeaderValue,
    upgrade: Upgrade,
) -> Result<(), Error> {
    if !connection.trusted {
        strip(request);
    }
    if is_conversation(request) {
        connection.unpace();
    }
    let tls = connection.tls.is_some();
    let has = |request: &RequestHeader, name: &HeaderName| {
        connection.trusted && request.headers.get(name).is_some_and(|v| !v.is_empty())
    };
    if !has(request, &X_REAL_IP) {
        request.insert_header("X-Real-Ip", connection.client_value.clone())?;
    }
    if !has(request, &X_FORWARDED_PROTO) {
        let proto = match (upgrade == Upgrade::WebSocket, tls) {
            (false, false) => "http",
            (false, true) => "https",
            (true, false) => "ws",
            (true, true) => "wss",
        };
        request.insert_header("X-Forwarded-Proto", HeaderValue::from_static(proto))?;
    }
    let host = authority(request);
    if !has(request, &X_FORWARDED_PORT) {
        let port = port(host.as_ref(), request, tls);
        request.insert_header("X-Forwarded-Port", port)?;
    }
    if let Some(host) = host.filter(|h| !h.is_empty() && !has(request, &X_FORWARDED_HOST)) {
        request.insert_header("X-Forwarded-Host", host)?;
    }
    request.insert_header("X-Forwarded-Server", server.clone())?;
    Ok(())
}

type Error = Box<pingora_error::Error>;

/// The authority the client named, as it wrote it.
fn authority(request: &RequestHeader) -> Option<HeaderValue> {
    request.headers.get(header::HOST).cloned().or_else(|| {
        let authority = request.uri.authority()?.as_str();
        HeaderValue::from_str(authority).ok()
    })
}

fn port(host: Option<&HeaderValue>, request: &RequestHeader, tls: bool) -> HeaderValue {
    let named = host.and_then(|h| {
        let text = h.as_bytes();
        let colon = text.iter().rposition(|b| *b == b':')?;
        let digits = text.get(colon + 1..)?;
        // In `[::1]` the last colon belongs to the address.
        let number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        number.then(|| HeaderValue::from_bytes(digits).ok())?
    });
    named.unwrap_or_else(|| {
        let proto = request.headers.get(X_FORWARDED_PROTO).map(HeaderValue::as_bytes);
        let secure = tls || matches!(proto, Some(b"https" | b"wss"));
        HeaderValue::from_static(if secure { "443" } else { "80" })
    })
}

/// Whether there is a `X-Forwarded-For`.
pub(super) fn tells_of_client(request: &RequestHeader) -> bool {
    request.headers.contains_key(X_FORWARDED_FOR)
}

/// Appends the client's address to `X-Forwarded-For`. Rules have been asked by then: they never see it.
pub(super) fn append_for(request: &mut RequestHeader, connection: &Connection) -> Result<(), Error> {
    let mut before = request.headers.get_all(X_FORWARDED_FOR).iter().peekable();
    if before.peek().is_none() {
        return request.insert_header("X-Forwarded-For", connection.client_value.clone());
    }
    let mut list = Vec::with_capacity(64);
    for value in before {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(connection.client_value.as_bytes());
    request.insert_header("X-Forwarded-For", list)
}

/// Removes every forwarding header.
fn strip(request: &mut RequestHeader) {
    let spoofed: smallvec::SmallVec<[HeaderName; 4]> = request
        .headers
        .keys()
        .filter(|name| is_forwarding(name.as_str()))
        .cloned()
        .collect();
    for name in spoofed {
        request.remove_header(&name);
    }
}

/// Names that say something about earlier hops, whichever separator they use.
fn is_forwarding(name: &str) -> bool {
    let matches = |known: &str| {
        name.len() >= known.len()
            && name
                .bytes()
                .zip(known.bytes())
                .all(|(n, k)| n == k || (n == b'_' && k == b'-'))
    };
    name.starts_with('x') && (matches("x-forwarded-") || (name.len() == 9 && matches("x-real-ip")))
}

/// Whether the client asks to turn the connection into a WebSocket.
fn is_websocket(request: &RequestHeader) -> bool {
    request
        .headers
        .get(header::UPGRADE)
        .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The protocol a request wants to change to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upgrade {
    /// None, or none that we offer.
    None,
    /// WebSocket.
    WebSocket,
    /// Another one, which the back end may accept or not.
    Other,
}

/// Whether the body may be one side of a conversation, which pauses for as long as nobody has anything to say.
fn is_conversation(request: &RequestHeader) -> bool {
    request
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Which upgrade a request asks for. It must be named by `Connection`, be one protocol, come by HTTP/1.1, and not be `h2c`
/// (RFC 9113 section 3.1 took that away); any other is not meant for us to pass on, see [`keep_upgrade`].
pub(super) fn asked_upgrade(request: &RequestHeader) -> Upgrade {
    let Some(value) = request.headers.get(header::UPGRADE) else {
        return Upgrade::None;
    };
    let name = value.as_bytes();
    let token = !name.is_empty() && name.iter().all(|b| super::head::is_token(*b) || *b == b'/');
    let alone = request.headers.get_all(header::UPGRADE).iter().count() == 1;
    let offered = token
        && alone
        && !name.eq_ignore_ascii_case(b"h2c")
        && request.version == http::Version::HTTP_11
        && has_connection_option(request, b"upgrade");
    if !offered {
        return Upgrade::None;
    }
    if is_websocket(request) {
        Upgrade::WebSocket
    } else {
        Upgrade::Other
    }
}

/// Takes away the header of an upgrade that is none. Rules have been asked by then: they see it.
pub(super) fn keep_upgrade(request: &mut RequestHeader, upgrade: Upgrade) {
    if upgrade == Upgrade::None {
        request.remove_header(&header::UPGRADE);
    }
}

fn has_connection_option(request: &RequestHeader, option: &[u8]) -> bool {
    request
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|v| v.as_bytes().split(|b| *b == b','))
        .any(|o| o.trim_ascii().eq_ignore_ascii_case(option))
}

/// Applies `Connection`: what it names is removed, but for what we vouch for and what frames the message; then it is
/// reduced to what pingora needs. Without that, a client could have its own address removed on the way.
pub(super) fn apply_connection(request: &mut RequestHeader) -> Result<(), Refusal> {
    let mut values = request.headers.get_all(header::CONNECTION).iter();
    let Some(first) = values.next() else {
        return Ok(());
    };
    let plain: [&[u8]; 3] = [b"keep-alive", b"close", b"upgrade"];
    if values.next().is_none() && plain.iter().any(|p| first.as_bytes().eq_ignore_ascii_case(p)) {
        return Ok(());
    }
    let mut named: smallvec::SmallVec<[HeaderName; 4]> = smallvec::SmallVec::new();
    let mut kept: smallvec::SmallVec<[&'static str; 2]> = smallvec::SmallVec::new();
    let all = request.headers.get_all(header::CONNECTION).iter();
    let options = all
        .flat_map(|v| v.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii);
    for (count, option) in options.filter(|o| !o.is_empty()).enumerate() {
        if count >= MAX_CONNECTION_OPTIONS {
            return Err(Refusal::ConnectionOptions);
        }
        if !option.iter().all(|b| super::head::is_token(*b)) {
            return Err(Refusal::ConnectionOptions);
        }
        let name = HeaderName::from_bytes(option).map_err(|_| Refusal::ConnectionOptions)?;
        match name.as_str() {
            "close" => kept.push("close"),
            "keep-alive" => kept.push("keep-alive"),
            "upgrade" => kept.push("Upgrade"),
            other if is_protected(other) => {}
            _ => named.push(name),
        }
    }
    for name in named {
        request.remove_header(&name);
    }
    kept.dedup();
    let value = match kept.as_slice() {
        [] => {
            request.remove_header(&header::CONNECTION);
            return Ok(());
        }
        ["Upgrade"] => HeaderValue::from_static("Upgrade"),
        ["keep-alive"] => HeaderValue::from_static("keep-alive"),
        ["close"] => HeaderValue::from_static("close"),
        kept if kept.contains(&"Upgrade") => HeaderValue::from_static("Upgrade"),
        kept if kept.contains(&"close") => HeaderValue::from_static("close"),
        _ => HeaderValue::from_static("keep-alive"),
    };
    request
        .insert_header("Connection", value)
        .map_err(|_| Refusal::ConnectionOptions)
}

/// Joins the crumbs that HTTP/2 makes of `Cookie`: a back end of HTTP/1.1 knows one line (RFC 9113, section 8.2.3).
pub(super) fn join_cookies(request: &mut RequestHeader) -> pingora_error::Result<()> {
    let mut crumbs = request.headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return Ok(());
    };
    let mut line = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        line.extend_from_slice(b"; ");
        line.extend_from_slice(crumb.as_bytes());
    }
    request.insert_header("Cookie", line)
}

/// Removes from a response what belonged to the hop behind us.
pub(super) fn clean_response(response: &mut ResponseHeader) {
    let all = response.headers.get_all(header::CONNECTION).iter();
    let named: smallvec::SmallVec<[HeaderName; 2]> = all
        .flat_map(|v| v.as_bytes().split(|b| *b == b','))
        .filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok())
        .filter(|name| {
            !matches!(
                name.as_str(),
                "close" | "keep-alive" | "upgrade" | "content-length" | "transfer-encoding"
            )
        })
        .collect();
    for name in named {
        response.remove_header(&name);
    }
    response.remove_header(&header::CONNECTION);
    for name in ["keep-alive", "proxy-connection", "proxy-authenticate", "upgrade"] {
        response.remove_header(name);
    }
}

/// What `Connection` may not remove: what the other hops rely on, what frames the message, what authenticates it.
fn is_protected(name: &str) -> bool {
    is_forwarding(name)
        || matches!(
            name,
            "host"
                | "content-length"
                | "transfer-encoding"
                | "te"
                | "authorization"
                | "cookie"
                | "forwarded"
                | "via"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    #[test]
    fn spoofed_headers_go_under_every_spelling() {
        let mut request = request(&[
            ("X-Forwarded-For", "1.2.3.4"),
            ("x_forwarded_proto", "https"),
            ("X-Real-IP", "1.2.3.4"),
            ("X-Real-Ipv6", "kept"),
            ("X-Forwarded-Tls-Client-Cert", "forged"),
            ("X-Forward", "kept"),
        ]);
        strip(&mut request);
        let mut left: Vec<_> = request.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-forward", "x-real-ipv6"]);
    }

    #[test]
    fn an_upgrade_that_is_none_is_seen_by_rules_and_goes_before_back_ends_see_it() {
        // Connection, Upgrade, what it is
        let cases = [
            (Some("Upgrade"), "websocket", Upgrade::WebSocket),
            (Some("keep-alive, upgrade"), "other/1", Upgrade::Other),
            (None, "websocket", Upgrade::None),
            (Some("Upgrade"), "a, b", Upgrade::None),
            (Some("Upgrade"), "h2c", Upgrade::None),
        ];
        for (connection, name, expected) in cases {
            let mut request = request(&[("Upgrade", name)]);
            if let Some(connection) = connection {
                request.append_header("Connection", connection).unwrap();
            }
            let upgrade = asked_upgrade(&request);
            assert_eq!(upgrade, expected, "{connection:?} {name}");
            assert!(request.headers.contains_key("upgrade"));
            keep_upgrade(&mut request, upgrade);
            let kept = request.headers.contains_key("upgrade");
            assert_eq!(kept, expected != Upgrade::None, "{connection:?} {name}");
        }
    }

    #[test]
    fn connection_removes_only_what_it_may() {
        // Connection, what is left of it, whether X-Custom survives
        let cases = [
            ("keep-alive", Some("keep-alive"), true),
            ("close, X-Custom", Some("close"), false),
            ("X-Forwarded-For, X-Real-Ip, Host", None, true),
            ("keep-alive, Upgrade", Some("Upgrade"), true),
            ("x-custom", None, false),
            ("Authorization", None, true),
        ];
        for (value, left, custom) in cases {
            let mut request = request(&[
                ("Host", "a"),
                ("X-Forwarded-For", "1.2.3.4"),
                ("X-Real-Ip", "1.2.3.4"),
                ("Authorization", "x"),
                ("X-Custom", "x"),
                ("Connection", value),
            ]);
            apply_connection(&mut request).unwrap();
            let connection = request.headers.get("connection").map(|v| v.to_str().unwrap());
            assert_eq!(connection, left, "{value}");
            assert_eq!(request.headers.contains_key("x-custom"), custom, "{value}");
            for name in ["host", "x-forwarded-for", "x-real-ip", "authorization"] {
                assert!(request.headers.contains_key(name), "{value} removed {name}");
            }
        }
    }

    #[test]
    fn a_flood_of_connection_options_is_refused() {
        let many = vec!["a"; MAX_CONNECTION_OPTIONS + 1].join(",");
        assert_eq!(
            apply_connection(&mut request(&[("Connection", &many)])),
            Err(Refusal::ConnectionOptions)
        );
        assert_eq!(
            apply_connection(&mut request(&[("Connection", "a b")])),
            Err(Refusal::ConnectionOptions)
        );
    }
}
