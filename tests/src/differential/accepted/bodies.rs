//! Middlewares that look at responses and their bodies.

use std::collections::BTreeSet;

use super::{Accepted, both, received, twice};
use crate::differential::backend::REPLY;
use crate::differential::case::{Body, Request};
use crate::differential::compare::{Outcome, Part};

/// The differences that are meant there.
pub(super) const ACCEPTED: &[Accepted] = &[
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
        name: "gzip that is none",
        line: "an answer that says `Content-Encoding: gzip` and is none",
        meant: |pair, part| {
            // The harness asks again when a connection that was used before breaks.
            let broken = match &pair.theirs.answer {
                Err(_) => [Part::Answer, Part::Backends].contains(part),
                Ok(answer) => {
                    let held = ["buffering", "compress"];
                    answer.status == 500 && held.iter().any(|kind| pair.case.subject.contains(kind))
                }
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
        line: "`buffering` refuses a request in chunks that is too long before",
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
        name: "measured once",
        line: "several `buffering` in one chain measure a response each",
        meant: |pair, part| {
            let page = ["content-type", "content-length", "transfer-encoding", "x-a"];
            twice(pair.case, "buffering")
                && pair.case.subject.contains("errors")
                && both(pair, 500)
                && match part {
                    Part::Header(name) => page.contains(&&**name),
                    part => [Part::Body, Part::Backends].contains(part),
                }
        },
    },
    Accepted {
        name: "origin twice",
        line: "a second `grpcWeb` inside of others adds another `Vary: Origin`",
        meant: |pair, part| *part == Part::Header("vary".into()) && twice(pair.case, "grpcWeb"),
    },
    Accepted {
        name: "too long and asked",
        line: "`buffering.retryExpression` is not asked about a response that is too long",
        meant: |pair, part| {
            pair.case.subject.contains("buffering")
                && pair
                    .case
                    .to_string()
                    .to_ascii_lowercase()
                    .contains("retryexpression")
                && both(pair, 500)
                && *part == Part::Backends
                && pair.theirs.received.len() == 1
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
            let around = ["errors", "retry", "buffering", "grpcWeb", "contentType"];
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
        line: "`grpcWeb` with `compress` or `buffering` around breaks the connection",
        meant: |pair, _| {
            let around = ["compress", "buffering"];
            pair.case.subject.contains("grpcWeb")
                && around.iter().any(|kind| pair.case.subject.contains(kind))
                && pair.theirs.status().is_none()
                && pair.ours.status().is_some()
        },
    },
    Accepted {
        name: "first line of vary",
        line: "`headers.addVaryHeader` keeps only the first line of `Vary`",
        meant: |pair, part| {
            let lines = |outcome: &Outcome| outcome.lines("vary").join(",");
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
];
