//! The differences that are meant: each with the line of `docs/traefik-compatibility.md` that says so.
//!
//! A predicate is as narrow as it can be: what it does not recognise is a difference that fails the run.

use std::collections::BTreeSet;

use super::backend::{AUTH_REPLY, Received};
use super::case::{Body, Request};
use super::client::Answered;
use super::compare::{Outcome, Part};

/// What a predicate looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    /// What the case is about.
    pub(super) subject: &'a str,
    pub(super) request: &'a Request,
    pub(super) theirs: &'a Outcome,
    pub(super) ours: &'a Outcome,
}

/// A difference that is meant.
pub(super) struct Accepted {
    /// A short name for the report.
    pub(super) name: &'static str,
    /// A piece of the line in the documentation.
    pub(super) line: &'static str,
    meant: fn(&Pair<'_>, &Part) -> bool,
}

/// All of them.
pub(super) const ACCEPTED: &[Accepted] = &[
    Accepted {
        name: "accept-encoding",
        line: "`Accept-Encoding: gzip` is added when the client sent none",
        meant: |pair, part| {
            *part == received_header("accept-encoding")
                && pair.request.header("accept-encoding").is_none_or(str::is_empty)
                && received(pair.ours, "accept-encoding")
                    .iter()
                    .all(|line| line.is_empty())
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
        meant: |pair, _| refused(pair, "malformed Host header"),
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
                && pair.request.body == Body::Sized(String::new())
                && received(pair.theirs, "content-length").is_empty()
        },
    },
    Accepted {
        name: "user-agent",
        line: "of several `User-Agent` lines",
        meant: |pair, part| {
            let lines = |one: &Received| one.headers.get("user-agent").cloned().unwrap_or_default();
            let mut both = pair.theirs.received.iter().zip(&pair.ours.received);
            *part == received_header("user-agent")
                && both.all(|(theirs, ours)| {
                    let (theirs, ours) = (lines(theirs), lines(ours));
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
        name: "x-forwarded-for for pages",
        line: "the request for an error page has no `X-Forwarded-For`",
        meant: |pair, part| {
            let [theirs, ours] =
                [pair.theirs, pair.ours].map(|outcome| received(outcome, "x-forwarded-for").len());
            pair.subject.contains("errors") && *part == received_header("x-forwarded-for") && ours > theirs
        },
    },
    Accepted {
        name: "type of chunks",
        line: "`contentType` looks at no chunked answer",
        meant: |pair, part| {
            pair.subject.contains("contentType")
                && *part == Part::Header("content-type".into())
                && pair.theirs.header("transfer-encoding").is_some()
                && pair.theirs.header("content-type").is_none()
        },
    },
    Accepted {
        name: "deleted type",
        line: "a `Content-Type` that `headers` deletes",
        meant: |pair, part| {
            pair.subject.contains("headers")
                && *part == Part::Header("content-type".into())
                && pair.ours.header("content-type").is_none()
        },
    },
    Accepted {
        name: "path without a slash",
        line: "a path that `replacePath` or `replacePathRegex` makes without",
        meant: |pair, part| {
            let rooted = |outcome: &Outcome| {
                let lines = outcome.received.iter().map(|one| {
                    let (method, target) = one.line.split_once(' ').unwrap_or_default();
                    let slash = if target.starts_with('/') { "" } else { "/" };
                    format!("{method} {slash}{target}")
                });
                lines.collect::<Vec<_>>()
            };
            let bare = |one: &Received| {
                one.line
                    .split_once(' ')
                    .is_some_and(|(_, target)| !target.starts_with('/'))
            };
            pair.subject.contains("replacePath")
                && *part == Part::Line
                && pair.theirs.received.iter().any(bare)
                && rooted(pair.theirs) == rooted(pair.ours)
        },
    },
    Accepted {
        name: "length of what was held",
        line: "whether what a middleware has held",
        meant: |pair, part| {
            let held = ["compress", "buffering", "errors", "forwardAuth"];
            let framing = ["content-length", "transfer-encoding"];
            held.iter().any(|kind| pair.subject.contains(kind))
                && matches!(part, Part::Header(name) | Part::ReceivedHeader(name) if framing.contains(&&**name))
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
        name: "disabled with a bad middleware",
        line: "a middleware whose options can't work fails each request",
        meant: |pair, _| {
            let kinds = ["errors", "replacePath", "redirectScheme", "compress"];
            pair.ours.status() == Some(404)
                && pair.ours.received.is_empty()
                && kinds.iter().any(|kind| pair.subject.contains(kind))
        },
    },
    Accepted {
        name: "scheme in upper case",
        line: "`redirectScheme.scheme` in upper case redirects",
        meant: |pair, _| {
            pair.subject.contains("redirectScheme")
                && pair.request.tls.is_some()
                && pair
                    .theirs
                    .header("location")
                    .is_some_and(|place| place.starts_with("https://"))
                && !pair.ours.received.is_empty()
        },
    },
    Accepted {
        name: "connection of forwardAuth",
        line: "headers that `Connection` names in the answer of a `forwardAuth`",
        meant: |pair, part| {
            let names = pair
                .request
                .header(AUTH_REPLY)
                .is_some_and(|reply| reply.contains("Connection"));
            names && *part == Part::Header("x-user".into()) && pair.ours.header("x-user").is_none()
        },
    },
    Accepted {
        name: "retry of nothing",
        line: "a `retry` that can repeat nothing",
        meant: |pair, _| {
            pair.subject.contains("retry")
                && pair.theirs.status() == Some(404)
                && pair.theirs.received.is_empty()
        },
    },
    Accepted {
        name: "forwardAuth's own name",
        line: "`forwardAuth` calls itself `Go-http-client/1.1`",
        meant: |pair, part| {
            let mut theirs = received(pair.theirs, "user-agent");
            let all = theirs.len();
            theirs.retain(|line| !line.starts_with("Go-http-client"));
            let ours = received(pair.ours, "user-agent");
            *part == received_header("user-agent")
                && pair.subject.contains("forwardAuth")
                && theirs.len() < all
                // Of several lines the first one reaches the back end.
                && (theirs == ours || theirs == ours.iter().copied().take(1).collect::<Vec<_>>())
        },
    },
    Accepted {
        name: "forwardAuth's accept-encoding",
        line: "`forwardAuth` sends `User-Agent: Go-http-client/1.1` and `Accept-Encoding: gzip`",
        meant: |pair, part| {
            *part == received_header("accept-encoding")
                && pair.subject.contains("forwardAuth")
                && received(pair.theirs, "accept-encoding").contains(&"gzip")
        },
    },
    Accepted {
        name: "compress without a type",
        line: "`compress` with a list of types guesses the type",
        meant: |pair, part| {
            let changed = ["content-encoding", "content-length", "transfer-encoding", "vary"];
            pair.subject.contains("compress")
                && matches!(part, Part::Header(name) if changed.contains(&&**name))
                && pair.ours.header("content-type").is_none()
        },
    },
    Accepted {
        name: "order of what grpcWeb exposes",
        line: "`grpcWeb` lists the exposed headers in random order",
        meant: |pair, part| {
            let names = |outcome: &Outcome| {
                let line = outcome
                    .header("access-control-expose-headers")
                    .unwrap_or_default();
                let names = line
                    .split(", ")
                    .filter(|name| !["Content-Type", "Content-Length"].contains(name));
                names.map(str::to_owned).collect::<BTreeSet<_>>()
            };
            pair.subject.contains("grpcWeb")
                && *part == Part::Header("access-control-expose-headers".into())
                && names(pair.theirs) == names(pair.ours)
        },
    },
    Accepted {
        name: "frame behind a page",
        line: "`grpcWeb` puts a frame of trailers behind a body that is no gRPC and has no length",
        meant: |pair, part| {
            let body = |outcome: &Outcome| outcome.answer.as_ref().ok().map(|answer| answer.body.clone());
            let frame = r"\x80\x00\x00\x00\x00";
            let changed = match part {
                // Each of several puts one there. Bytes that are no text are shown escaped.
                Part::Body => body(pair.ours)
                    .zip(body(pair.theirs))
                    .is_some_and(|(ours, theirs)| {
                        let ours = ours.as_bytes().escape_ascii().to_string();
                        let rest = theirs.strip_prefix(&ours).unwrap_or("x");
                        rest.replace(frame, "").is_empty()
                    }),
                Part::Header(name) => ["content-length", "transfer-encoding"].contains(&&**name),
                _ => false,
            };
            let chunked = pair.theirs.header("transfer-encoding") == Some("chunked");
            pair.subject.contains("grpcWeb") && chunked && changed
        },
    },
    Accepted {
        name: "broken by grpcWeb",
        line: "`grpcWeb` with `compress` breaks the connection",
        meant: |pair, _| {
            pair.subject.contains("grpcWeb")
                && pair.subject.contains("compress")
                && pair.theirs.status().is_none()
                && pair.ours.status().is_some()
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
        name: "two hosts",
        line: "`GET http://a/ HTTP/1.1` with another name in `Host` goes to `a`",
        meant: |pair, _| {
            pair.request.target.starts_with("http")
                && refused(pair, "the Host header differs from the request target")
        },
    },
];

fn received_header(name: &str) -> Part {
    Part::ReceivedHeader(name.to_owned())
}

fn both(pair: &Pair<'_>, status: u16) -> bool {
    [pair.theirs, pair.ours]
        .iter()
        .all(|outcome| outcome.status() == Some(status))
}

/// Whether we refused it for this reason.
fn refused(pair: &Pair<'_>, reason: &str) -> bool {
    let is_this = |answer: &Answered| {
        answer.status == 400 && (answer.body.trim_end() == reason || pair.request.method == "HEAD")
    };
    pair.ours.received.is_empty() && pair.ours.answer.as_ref().is_ok_and(is_this)
}

/// Whether it is about the text of an answer.
fn is_words(part: &Part) -> bool {
    match part {
        Part::Body => true,
        Part::Header(name) => ["content-length", "content-type", "x-content-type-options"].contains(&&**name),
        _ => false,
    }
}

fn received<'o>(outcome: &'o Outcome, name: &str) -> Vec<&'o str> {
    let all = outcome.received.iter().filter_map(|one| one.headers.get(name));
    all.flatten().map(String::as_str).collect()
}

/// The one that covers a part of a difference.
pub(super) fn accepts(pair: &Pair<'_>, part: &Part) -> Option<&'static Accepted> {
    ACCEPTED.iter().find(|accepted| (accepted.meant)(pair, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_documented_and_has_a_name_of_its_own() {
        let text = include_str!("../../../docs/traefik-compatibility.md");
        let mut names = BTreeSet::new();
        for accepted in ACCEPTED {
            let lines = text.lines().filter(|line| line.contains(accepted.line)).count();
            assert_eq!(
                lines, 1,
                "{}: {:?} stands in {lines} lines",
                accepted.name, accepted.line
            );
            assert!(names.insert(accepted.name), "{} is there twice", accepted.name);
        }
    }
}
