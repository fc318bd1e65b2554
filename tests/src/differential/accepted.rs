//! The differences that are meant: each with the line of `docs/traefik-compatibility.md` that says so.
//!
//! A predicate is as narrow as it can be: what it does not recognise is a difference that fails the run.

use std::collections::BTreeSet;

use super::backend::{AUTH_REPLY, REPLY, Received, Reply};
use super::case::{Body, Case, Container, Request};
use super::client::{Answered, Session};
use super::compare::{Outcome, Part};
use super::side::Special;

/// What a predicate looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub(super) case: &'a Case,
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
                && pair
                    .theirs
                    .received
                    .iter()
                    .zip(&pair.ours.received)
                    .all(|(theirs, ours)| {
                        let lines =
                            |one: &Received| one.headers.get("accept-encoding").cloned().unwrap_or_default();
                        let (mut theirs, ours) = (lines(theirs), lines(ours));
                        theirs == ours
                            || theirs.pop().is_some_and(|last| last == "gzip")
                                && (theirs == ours || ours.iter().all(String::is_empty))
                    })
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
                let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:".contains(&byte);
                let authority = schemes.iter().find_map(|scheme| target.strip_prefix(scheme));
                let authority = authority.and_then(|rest| rest.split(['/', '?']).next());
                !path && authority.is_none_or(|authority| !authority.bytes().all(name))
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
            pair.case.subject.contains("errors")
                && *part == received_header("x-forwarded-for")
                && ours > theirs
        },
    },
    Accepted {
        name: "type of chunks",
        line: "`contentType` looks at a chunked answer or not",
        meant: |pair, part| {
            pair.case.subject.contains("contentType")
                && *part == Part::Header("content-type".into())
                && pair.theirs.header("transfer-encoding").is_some()
                && pair.theirs.header("content-type").is_none() != pair.ours.header("content-type").is_none()
        },
    },
    Accepted {
        name: "deleted type",
        line: "a `Content-Type` that `headers` deletes",
        meant: |pair, part| {
            pair.case.subject.contains("headers")
                && *part == Part::Header("content-type".into())
                && pair.ours.header("content-type").is_none()
        },
    },
    Accepted {
        name: "path without a slash",
        line: "a path that `replacePath` or `replacePathRegex` makes without",
        meant: |pair, part| {
            // The host that it makes has no port any more that could be taken off, or is none at all.
            let joined = || {
                let place = pair.theirs.header("location").unwrap_or_default();
                let host = place.split_once("://").map_or("", |(_, rest)| rest);
                let asked = pair
                    .request
                    .header("host")
                    .unwrap_or_default()
                    .to_ascii_lowercase();
                let name = asked.split_once(':').map_or(&*asked, |(name, _)| name);
                let behind = host.strip_prefix(name).unwrap_or(host);
                pair.theirs.status() == Some(502) || !behind.starts_with(['/', ':'])
            };
            if pair.case.subject.contains("replacePath")
                && pair.case.subject.contains("redirect")
                && pair.ours.header("location").is_some()
            {
                return joined();
            }
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
            pair.case.subject.contains("replacePath")
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
            held.iter().any(|kind| pair.case.subject.contains(kind))
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
            let kinds = ["errors", "replacePath", "redirectScheme"];
            // There, whatever no router takes goes to HTTPS.
            let redirecting =
                Special::of(pair.case.place()) == Special::Redirecting && pair.request.entry == 0;
            let gone = match pair.ours.status() {
                Some(301 | 308) => redirecting,
                status => status == Some(404),
            };
            gone && pair.ours.received.is_empty() && kinds.iter().any(|kind| pair.case.subject.contains(kind))
        },
    },
    Accepted {
        name: "scheme in upper case",
        line: "`redirectScheme.scheme` in upper case redirects",
        meant: |pair, _| {
            let label = |(name, value): &(String, String)| {
                let name = name.to_ascii_lowercase();
                name.ends_with(".redirectscheme.scheme") && value == "HTTPS"
            };
            let labels = pair
                .case
                .containers
                .iter()
                .flat_map(|container| &container.labels);
            let asked =
                labels.into_iter().any(label) || pair.case.to_string().contains(r#""scheme": "HTTPS""#);
            let request = pair.request;
            let secure = request.tls.is_some() || request.header("x-forwarded-proto") == Some("https");
            let [theirs, ours] = [pair.theirs, pair.ours].map(|outcome| outcome.header("location"));
            let port = |place: &str| place.replacen(":443/", "/", 1);
            let redirected = theirs.is_some_and(|place| place.starts_with("https://"));
            // The default port stays in what Traefik writes, as that is not the one of `HTTPS`.
            asked && redirected && (secure || theirs.map(port) == ours.map(str::to_owned))
        },
    },
    Accepted {
        name: "gzip that is none",
        line: "an answer that says `Content-Encoding: gzip` and is none",
        meant: |pair, part| {
            // The harness asks again when a connection that was used before breaks.
            let broken = match &pair.theirs.answer {
                Err(_) => [Part::Answer, Part::Backends].contains(part),
                Ok(answer) => answer.status == 500 && pair.case.subject.contains("buffering"),
            };
            broken
                && pair.request.header("accept-encoding").is_none_or(str::is_empty)
                && received(pair.theirs, "accept-encoding").contains(&"gzip")
                && pair
                    .request
                    .header(REPLY)
                    .is_some_and(|reply| reply.contains(r#"["Content-Encoding","gzip"]"#))
        },
    },
    Accepted {
        name: "retry of chunks",
        line: "`retry.status` makes a 200 without headers",
        meant: |pair, part| {
            let asked: Option<Reply> = pair
                .request
                .header(REPLY)
                .and_then(|reply| serde_json::from_str(reply).ok());
            pair.case.subject.contains("retry")
                && *part != Part::Backends
                && pair.theirs.status() == Some(200)
                && asked.is_some_and(|reply| reply.chunked && pair.ours.status() == Some(reply.status))
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
            pair.case.subject.contains("retry")
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
                && pair.case.subject.contains("forwardAuth")
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
                && pair.case.subject.contains("forwardAuth")
                && received(pair.theirs, "accept-encoding").contains(&"gzip")
        },
    },
    Accepted {
        name: "compress without a type",
        line: "`compress` with a list of types guesses the type",
        meant: |pair, part| {
            let changed = ["content-encoding", "content-length", "transfer-encoding", "vary"];
            pair.case.subject.contains("compress")
                && matches!(part, Part::Header(name) if changed.contains(&&**name))
                && pair.ours.header("content-type").is_none()
        },
    },
    Accepted {
        name: "too long and refused",
        line: "`buffering` refuses a request that is too long before",
        meant: |pair, _| {
            let chunked = |request: &Request| matches!(request.body, Body::Chunked(_));
            let counted = pair.case.subject.contains("rateLimit") && pair.case.requests.iter().any(chunked);
            let refused = pair.theirs.status() == Some(413) && chunked(pair.request);
            pair.case.subject.contains("buffering")
                && pair.ours.received.is_empty()
                && match pair.ours.status() {
                    Some(429) => refused || counted,
                    status => refused && status.is_some_and(|status| status != 413),
                }
        },
    },
    Accepted {
        name: "too long and again",
        line: "`retry` outside of `buffering` tries again",
        meant: |pair, part| {
            pair.case.subject.contains("retry")
                && pair.case.subject.contains("buffering")
                && both(pair, 500)
                && *part == Part::Backends
                && pair.ours.received.len() == 1
        },
    },
    Accepted {
        name: "type in vain",
        line: "`contentType` has no effect inside of",
        meant: |pair, part| {
            let around = ["errors", "retry", "buffering", "grpcWeb"];
            *part == Part::Header("content-type".into())
                && pair.case.subject.contains("contentType")
                && around.iter().any(|kind| pair.case.subject.contains(kind))
                && pair.theirs.header("content-type").is_none()
                && pair.ours.header("content-type").is_some()
        },
    },
    Accepted {
        name: "type for gzip",
        line: "`compress` guesses the type of a response that names none",
        meant: |pair, part| {
            let around = ["errors", "retry", "buffering", "contentType"];
            *part == Part::Header("content-type".into())
                && pair.case.subject.contains("compress")
                && around.iter().any(|kind| pair.case.subject.contains(kind))
                && pair
                    .request
                    .header("accept-encoding")
                    .is_some_and(|list| list.contains("gzip"))
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
            pair.case.subject.contains("grpcWeb")
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
            let open = pair.theirs.header("transfer-encoding") == Some("chunked")
                // It gives it a length again.
                || pair.case.subject.contains("buffering");
            pair.case.subject.contains("grpcWeb") && open && changed
        },
    },
    Accepted {
        name: "broken by grpcWeb",
        line: "`grpcWeb` with `compress` breaks the connection",
        meant: |pair, _| {
            pair.case.subject.contains("grpcWeb")
                && pair.case.subject.contains("compress")
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
        name: "not ready",
        line: "a stopped, starting or unhealthy container loses its routes",
        meant: |pair, _| {
            let mut down = pair
                .case
                .containers
                .iter()
                .filter(|container| !container.is_ready());
            let names_a_service = |container: &Container| {
                let mut labels = container.labels.iter();
                labels
                    .any(|(name, _)| name.starts_with("traefik.http.routers.") && name.ends_with(".service"))
            };
            let stays = pair.ours.status() == Some(503)
                && pair.ours.header("retry-after").is_some()
                && pair.ours.received.is_empty();
            // Its router may name the service of another container.
            let leads_on = pair.theirs.status() == Some(404) && pair.ours.status() != Some(404);
            down.any(|container| stays || leads_on && names_a_service(container))
        },
    },
    Accepted {
        name: "default router's mark",
        line: "a request that a router with the default rule has taken goes on with `X-Traefik-Router`",
        meant: |pair, part| {
            *part == received_header("x-traefik-router")
                && received(pair.theirs, "x-traefik-router").len() == 1
                && received(pair.ours, "x-traefik-router").is_empty()
        },
    },
    Accepted {
        name: "unknown scheme",
        line: "a server whose scheme is none that the proxy speaks",
        meant: |pair, _| {
            let mut labels = pair
                .case
                .containers
                .iter()
                .flat_map(|container| &container.labels);
            labels.any(|(name, scheme)| name.ends_with(".server.scheme") && scheme == "gopher")
                && pair.theirs.status() == Some(500)
        },
    },
    Accepted {
        name: "words of a 421",
        line: "a request that needs another connection is told `Misdirected Request`",
        meant: |pair, part| both(pair, 421) && is_words(part),
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
        name: "key of the made certificate",
        line: "the certificate for names without one has an RSA key",
        meant: |pair, part| {
            let hello = pair.request.tls.as_ref();
            let answer = [pair.theirs, pair.ours].map(|outcome| outcome.answer.as_ref().ok());
            let session = answer
                .into_iter()
                .flatten()
                .find_map(|answer| answer.session.as_ref());
            let suites = |options: &serde_json::Value| !options["cipherSuites"][0].is_null();
            [Part::Answer, Part::Backends].contains(part)
                && (hello.is_some_and(|hello| hello.suite.is_some())
                    || pair.case.options.values().any(suites))
                && session.is_some_and(|session| session.certificate.is_none())
        },
    },
    Accepted {
        name: "http/1.1 at h2 alone",
        line: "`alpnProtocols: [h2]` lets clients in that offer `http/1.1` only",
        meant: |pair, part| {
            let hello = pair.request.tls.as_ref();
            let offered = |name| hello.is_some_and(|hello| hello.protocols.contains(&name));
            [Part::Answer, Part::Backends].contains(part)
                && pair.ours.answer.is_err()
                && session(pair.theirs).is_some_and(|session| session.protocol.is_none())
                && offered("http/1.1")
                && !offered("h2")
        },
    },
    Accepted {
        name: "unknown tls.options",
        line: "a name whose router has unknown `tls.options` gets no TLS handshake",
        meant: |pair, _| {
            let missing = asking(pair.case).iter().any(|(_, options)| options == "missing");
            let none = pair.theirs.answer.is_err() && pair.ours.answer.is_ok();
            // The options of the others hold.
            let strict = pair.ours.answer.is_err() || pair.ours.status() == Some(421);
            missing && (none || strict && pair.theirs.answer.is_ok())
        },
    },
    Accepted {
        name: "unusable tls.options",
        line: "a router whose `tls.options` can't be used is disabled",
        meant: |pair, _| {
            let unusable = |options: &serde_json::Value| {
                let clients = &options["clientAuth"];
                let verifies = clients["clientAuthType"]
                    .as_str()
                    .is_some_and(|kind| kind.contains("Verify"));
                clients["caFiles"][0] == "@nowhere"
                    || clients["clientAuthType"] == "Whoever"
                    || verifies && clients["caFiles"].is_null()
            };
            // Here Traefik makes options that nobody can meet.
            let empty = |options: &serde_json::Value| {
                options["minVersion"] == "VersionTLS13"
                    && options["maxVersion"]
                        .as_str()
                        .is_some_and(|most| most != "VersionTLS13")
            };
            let host = pair.request.header("host").unwrap_or_default();
            let hello = pair.request.tls.as_ref();
            let names = [
                host.split(':').next().unwrap_or_default(),
                hello.map_or("", |hello| &hello.name),
            ]
            .map(|name| name.trim_end_matches('.').to_ascii_lowercase());
            let covers = |rule: &str| {
                let rule = rule.to_ascii_lowercase();
                names.iter().any(|name| {
                    let above = name.split_once('.').map_or("", |(_, above)| above);
                    let forms = [format!("`{name}`"), format!("`{name}.`"), format!("`*.{above}`")];
                    forms.iter().any(|form| rule.contains(form))
                })
            };
            let turned_away = pair.ours.status() == Some(421);
            asking(pair.case).iter().any(|(rule, options)| {
                let options = options
                    .strip_suffix("@file")
                    .and_then(|name| pair.case.options.get(name));
                options.is_some_and(|options| {
                    let broken = unusable(options) && (turned_away || pair.ours.answer.is_err());
                    (turned_away || covers(rule)) && (broken || empty(options))
                })
            })
        },
    },
    Accepted {
        name: "first line of vary",
        line: "`headers.addVaryHeader` keeps only the first line of `Vary`",
        meant: |pair, part| {
            let lines = |outcome: &Outcome| {
                let answer = outcome.answer.as_ref().ok();
                let lines = answer.and_then(|answer| answer.headers.get("vary"));
                lines.cloned().unwrap_or_default().join(",")
            };
            *part == Part::Header("vary".into())
                && pair
                    .case
                    .to_string()
                    .to_ascii_lowercase()
                    .contains("addvaryheader")
                && lines(pair.ours).len() > lines(pair.theirs).len()
        },
    },
    Accepted {
        name: "first line for gzip",
        line: "`compress` reads the first line of `Accept-Encoding` for gzip",
        meant: |pair, part| {
            let changed = [
                "content-encoding",
                "content-length",
                "transfer-encoding",
                "vary",
                "content-type",
            ];
            let lines = pair.request.headers.iter();
            let mut lines = lines.filter(|(name, _)| name.eq_ignore_ascii_case("accept-encoding"));
            pair.case.subject.contains("compress")
                && lines.next().is_some_and(|(_, line)| !line.contains("gzip"))
                && lines.any(|(_, line)| line.contains("gzip"))
                && pair.ours.header("content-encoding") == Some("gzip")
                && pair.theirs.header("content-encoding").is_none()
                && matches!(part, Part::Header(name) if changed.contains(&&**name))
        },
    },
    Accepted {
        name: "asked once",
        line: "`retry` runs the middlewares inside of it again with each attempt",
        meant: |pair, part| {
            let auth = |outcome: &Outcome| {
                let asked = outcome.received.iter().filter(|one| one.line.contains("/auth"));
                asked.count()
            };
            pair.case.subject.contains("retry")
                && pair.case.subject.contains("forwardAuth")
                && *part == Part::Backends
                && auth(pair.ours) == 1
                && auth(pair.theirs) > 1
        },
    },
    Accepted {
        name: "length before compressing",
        line: "`buffering.maxResponseBodyBytes` counts what a `compress` inside of it",
        meant: |pair, _| {
            pair.case.subject.contains("buffering")
                && pair.case.subject.contains("compress")
                && pair.ours.status() == Some(500)
                && pair.theirs.header("content-encoding").is_some()
                && !pair.ours.received.is_empty()
        },
    },
    Accepted {
        name: "short and compressed",
        line: "`compress` inside of `buffering` compresses a response in chunks although it is shorter",
        meant: |pair, part| {
            let changed = [
                "content-encoding",
                "content-length",
                "transfer-encoding",
                "content-type",
                "accept-ranges",
            ];
            pair.case.subject.contains("buffering")
                && pair.case.subject.contains("compress")
                && pair.theirs.header("content-encoding").is_some()
                && pair.ours.header("content-encoding").is_none()
                && pair
                    .ours
                    .answer
                    .as_ref()
                    .is_ok_and(|answer| answer.body.len() < 1024)
                && matches!(part, Part::Header(name) if changed.contains(&&**name))
        },
    },
    Accepted {
        name: "url of a page",
        line: "`{url}` of `errors.query` has the path as the middlewares inside have changed it",
        meant: |pair, part| {
            let changing = ["Prefix", "replacePath"];
            let page = |outcome: &Outcome| outcome.received.last().map(|one| one.line.clone());
            let is_page =
                |line: &Option<String>| line.as_ref().is_some_and(|line| line.contains("/err?u=http"));
            let pages = [page(pair.theirs), page(pair.ours)];
            *part == Part::Line
                && pair.case.subject.contains("errors")
                && changing.iter().any(|kind| pair.case.subject.contains(kind))
                && pages.iter().all(is_page)
                && pages[0] != pages[1]
        },
    },
    Accepted {
        name: "port for both",
        line: "`useBindPortIP` takes by chance what is published for TCP or for UDP",
        meant: |pair, part| {
            let both = |container: &Container| {
                let mut ports = container.bound.iter().map(|(port, ..)| port);
                ports.any(|port| {
                    let other = match port.split_once('/') {
                        Some((number, "tcp")) => format!("{number}/udp"),
                        _ => return false,
                    };
                    container.bound.iter().any(|(port, ..)| *port == other)
                })
            };
            *part == Part::Backends && pair.case.containers.iter().any(both)
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

/// The rules of the routers that ask for TLS options, with these.
fn asking(case: &Case) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let file = case.http.get("routers").and_then(|routers| routers.as_object());
    let file = file
        .into_iter()
        .flatten()
        .filter_map(|(_, router)| text(&router["rule"]).zip(text(&router["tls"]["options"])));
    let labels = case.containers.iter().flat_map(|container| {
        let value = |wanted: &str| {
            let mut labels = container.labels.iter();
            labels.find_map(|(name, value)| (name.eq_ignore_ascii_case(wanted)).then(|| value.clone()))
        };
        container.labels.iter().filter_map(move |(name, options)| {
            let name = name.to_ascii_lowercase();
            let router = name.strip_suffix(".tls.options")?;
            Some((value(&format!("{router}.rule"))?, options.clone()))
        })
    });
    file.chain(labels).collect()
}

/// What TLS came to at one of them.
fn session(outcome: &Outcome) -> Option<&Session> {
    outcome.answer.as_ref().ok()?.session.as_ref()
}

/// Whether the client spoke HTTP/2.
fn in_two(pair: &Pair<'_>) -> bool {
    let agreed = session(pair.theirs).and_then(|session| session.protocol.as_deref());
    pair.request.prior || agreed == Some("h2")
}

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
