//! Requests and responses on the wire, whatever middlewares do.

use super::{Accepted, both, in_two, is_words, received, received_header, refused};
use crate::differential::backend::Received;
use crate::differential::case::Body;
use crate::differential::compare::{Outcome, Part};

/// The differences that are meant there.
pub(super) const ACCEPTED: &[Accepted] = &[
    Accepted {
        name: "accept-encoding",
        line: "`Accept-Encoding: gzip` is added when the client sent none",
        meant: |pair, part| {
            let added = |(theirs, ours): (&Received, &Received)| {
                let [theirs, ours] = [theirs, ours].map(|one| one.lines("accept-encoding"));
                let none = ours.first().is_none_or(String::is_empty);
                let with = [ours, &["gzip".to_owned()]].concat();
                theirs == ours || none && (theirs == with || theirs == ["gzip"])
            };
            *part == received_header("accept-encoding")
                && pair.theirs.received.iter().zip(&pair.ours.received).all(added)
        },
    },
    Accepted {
        name: "needless escapes",
        line: "escapes in a path that has characters which must be escaped are decoded",
        meant: |pair, part| {
            let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@/".contains(&byte);
            let path = pair.request.target.split('?').next().unwrap_or_default();
            let plain = |outcome: &Outcome| outcome.received.first().map(|one| decoded(&one.line));
            let same = *part == Part::Line && plain(pair.theirs) == plain(pair.ours);
            // A rule may see the difference.
            !path.bytes().all(fit) && (same || path.contains('%') && *part != Part::Line)
        },
    },
    Accepted {
        name: "reason of a refusal",
        line: "a request that is refused is told `400 Bad Request`",
        meant: |pair, part| both(pair, 400) && is_words(part),
    },
    Accepted {
        name: "host",
        line: "a `Host` with a port that is none",
        meant: |pair, _| {
            let port = || {
                let authority = pair
                    .request
                    .target
                    .split_once("://")?
                    .1
                    .split(['/', '?'])
                    .next()?;
                let port = authority.rsplit_once(':')?.1;
                Some(!port.is_empty() && port.parse::<u16>().is_err())
            };
            let target = &pair.request.target;
            let no_url = || {
                let schemes = ["http://", "https://"];
                let path = target.starts_with('/') || target == "*";
                let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(&byte);
                let authority = schemes.iter().find_map(|scheme| target.strip_prefix(scheme));
                let authority = authority.and_then(|rest| rest.split(['/', '?']).next());
                !path && authority.is_none_or(|name| name.is_empty() || !name.bytes().all(fit))
            };
            refused(pair, "malformed Host header")
                || refused(pair, "malformed request target") && (no_url() || port().unwrap_or_default())
        },
    },
    Accepted {
        name: "fragment",
        line: "`#` in the query of a target",
        meant: |pair, _| refused(pair, "a fragment in the request target"),
    },
    Accepted {
        name: "asterisk",
        line: "`*` as the target of other methods than `OPTIONS`",
        meant: |pair, _| pair.request.target == "*" && refused(pair, "malformed request target"),
    },
    Accepted {
        name: "semicolon",
        line: "`;` in a query becomes `&` for the back end",
        meant: |pair, part| {
            let line = |outcome: &Outcome| outcome.received.first().map(|one| one.line.clone());
            *part == Part::Line
                && line(pair.ours).is_some_and(|ours| ours.contains(';'))
                && line(pair.ours).is_some_and(|ours| {
                    let (path, query) = ours.split_once('?').unwrap_or((&ours, ""));
                    line(pair.theirs) == Some(format!("{path}?{}", query.replace(';', "&")))
                })
        },
    },
    Accepted {
        name: "retry-after",
        line: "503 `no available server`",
        meant: |pair, part| both(pair, 503) && *part == Part::Header("retry-after".into()),
    },
    Accepted {
        name: "content-length: 0",
        line: "`Content-Length: 0` of other methods than POST, PUT and PATCH",
        meant: |pair, part| {
            *part == received_header("content-length")
                // In HTTP/2 the harness sends it for what may have a body, too.
                && (pair.request.body == Body::Sized(String::new())
                    || pair.request.body == Body::None && in_two(pair))
                && received(pair.theirs, "content-length").is_empty()
        },
    },
    Accepted {
        name: "user-agent",
        line: "of several `User-Agent` lines",
        meant: |pair, part| {
            let mut both = pair.theirs.received.iter().zip(&pair.ours.received);
            *part == received_header("user-agent")
                && both.all(|(theirs, ours)| {
                    let [theirs, ours] = [theirs, ours].map(|one| one.lines("user-agent"));
                    let first = ours.first().filter(|line| !line.is_empty());
                    theirs.first() == first && theirs.len() <= 1
                })
        },
    },
    Accepted {
        name: "x-forwarded-*",
        line: "a client's `X-Forwarded-User` and other unknown",
        // Rules may ask for it.
        meant: |pair, part| {
            let certificate = "x-forwarded-tls-client-cert";
            if let Part::ReceivedHeader(name) = part
                && name.starts_with(certificate)
            {
                // The server of a forwardAuth gets what came.
                let service = pair.ours.received.last();
                return service.is_some_and(|service| !service.headers.contains_key(name));
            }
            pair.request.header("x-forwarded-user").is_some()
                && received(pair.ours, "x-forwarded-user").is_empty()
        },
    },
    Accepted {
        name: "chunks of HTTP/1.0",
        line: "a chunked request of HTTP/1.0",
        meant: |pair, _| {
            pair.request.version == "HTTP/1.0" && refused(pair, "malformed Transfer-Encoding header")
        },
    },
    Accepted {
        name: "connection options",
        line: "a `Connection` that is no list of names",
        meant: |pair, _| refused(pair, "malformed Connection header"),
    },
    Accepted {
        name: "name in a redirect",
        line: "names in `Location` are in lower case",
        meant: |pair, part| {
            let location = |outcome: &Outcome| outcome.header("location").map(str::to_ascii_lowercase);
            *part == Part::Header("location".into()) && location(pair.theirs) == location(pair.ours)
        },
    },
    Accepted {
        name: "redirect of odd hosts",
        line: "no redirect to HTTPS of `[::1]:80`",
        meant: |pair, _| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte);
            let odd = |host: &str| host.ends_with(':') || !host.bytes().all(plain);
            pair.theirs.status() == Some(502)
                && pair.request.header("host").is_some_and(odd)
                && pair.ours.header("location").is_some()
        },
    },
    Accepted {
        name: "frame of nothing",
        line: "an empty body that comes in chunks gets `Content-Length: 0` or stays in chunks",
        meant: |pair, part| {
            let framing = ["content-length", "transfer-encoding"];
            let empty =
                |outcome: &Outcome| outcome.answer.as_ref().is_ok_and(|answer| answer.body.is_empty());
            matches!(part, Part::Header(name) if framing.contains(&&**name))
                && pair.ours.header("transfer-encoding") == Some("chunked")
                && pair.theirs.header("content-length") == Some("0")
                && empty(pair.ours)
                && empty(pair.theirs)
        },
    },
    Accepted {
        name: "chunked head",
        line: "`Transfer-Encoding` of an answer to `HEAD` is dropped",
        meant: |pair, part| {
            pair.request.method == "HEAD"
                && *part == Part::Header("transfer-encoding".into())
                && pair.theirs.header("transfer-encoding").is_none()
        },
    },
    Accepted {
        name: "type of a 304",
        line: "`Content-Type` of a 304 is dropped",
        meant: |pair, part| {
            both(pair, 304)
                && *part == Part::Header("content-type".into())
                && pair.theirs.header("content-type").is_none()
        },
    },
    Accepted {
        name: "tried elsewhere",
        line: "an answer of 502, 503 or 504 goes to the client",
        meant: |pair, part| {
            let statuses = [pair.theirs.status(), pair.ours.status()];
            let more = pair.ours.received.len() > pair.theirs.received.len();
            let repeatable = !["POST", "PATCH"].contains(&&*pair.request.method);
            *part == Part::Backends
                && more
                && repeatable
                && statuses[0] == statuses[1]
                && statuses[0].is_some_and(|status| (502..=504).contains(&status))
        },
    },
    Accepted {
        name: "crumbs",
        line: "cookies go to an HTTP/2 back end in a line each",
        meant: |pair, part| {
            let [theirs, ours] = [pair.theirs, pair.ours].map(|outcome| received(outcome, "cookie"));
            *part == received_header("cookie")
                && pair.ours.received.iter().all(|one| one.version == 2)
                && [theirs.join("; ")] == ours[..]
        },
    },
    Accepted {
        name: "length of nothing in HTTP/2",
        line: "an answer of HTTP/2 without a body says `Content-Length: 0`",
        meant: |pair, part| {
            *part == Part::Header("content-length".into())
                && in_two(pair)
                && pair.theirs.header("content-length") == Some("0")
                && pair.ours.header("content-length").is_none()
        },
    },
    Accepted {
        name: "two hosts",
        line: "`GET http://a/ HTTP/1.1` with another name in `Host` goes to `a`",
        meant: |pair, _| {
            pair.request.target.starts_with("http")
                && refused(pair, "the Host header differs from the request target")
        },
    },
];

/// Without the escapes of ASCII.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok());
        match code.filter(u8::is_ascii) {
            Some(byte) => all.extend([char::from(byte).to_string().as_str(), &part[2..]]),
            None => all.extend(["%", part]),
        }
    }
    all
}
