//! Middlewares that look at requests, answer them, or send them again.

use super::{Accepted, received, received_header};
use crate::differential::backend::{AUTH_REPLY, REPLY, Received, Reply};
use crate::differential::compare::{Outcome, Part};
use crate::differential::side::Special;

/// The differences that are meant there.
pub(super) const ACCEPTED: &[Accepted] = &[
    Accepted {
        name: "x-forwarded-for for pages",
        line: "the request for an error page has no `X-Forwarded-For`",
        meant: |pair, part| {
            let lines = |one: &Received| one.lines("x-forwarded-for").join(", ");
            let mut pairs = pair.theirs.received.iter().zip(&pair.ours.received);
            pair.case.subject.contains("errors")
                && *part == received_header("x-forwarded-for")
                && pairs.all(|(theirs, ours)| lines(ours).starts_with(&lines(theirs)))
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
        name: "no cookies",
        line: "`forwardAuth` drops lines of `Set-Cookie` behind it that are no cookies",
        meant: |pair, part| {
            let [theirs, ours] = [pair.theirs, pair.ours].map(|outcome| outcome.lines("set-cookie"));
            let mut dropped = ours.iter().filter(|line| !theirs.contains(line));
            pair.case.subject.contains("forwardAuth")
                && *part == Part::Header("set-cookie".into())
                && theirs.iter().all(|line| ours.contains(line))
                && dropped.all(|line| !line.contains('='))
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
        name: "url of a page",
        line: "`{url}` of `errors.query` has the host and the path as the middlewares inside",
        meant: |pair, part| {
            let changing = ["Prefix", "replacePath", "headers"];
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
];
