//! Middlewares about bodies, and those that are made of others.

use serde_json::{Value, json};

use super::{Kind, add, anything, maybe, one_of, options, say, several};
use crate::differential::backend::{PAGE_REPLY, REPLY, Reply};
use crate::differential::generate::vocabulary::{chance, pick};

pub(super) const COMPRESS: Kind = Kind {
    name: "compress",
    options: |rng, _| {
        let types = [
            "text/html",
            "application/json",
            "image/png",
            "text/plain; charset=utf-8",
            "x",
        ];
        let (excluded, included) = match rng.u8(..10) {
            0..=1 => (several(rng, 2, &types), Value::Null),
            2..=3 => (Value::Null, several(rng, 2, &types)),
            4 if chance(rng, 30) => (several(rng, 1, &types), several(rng, 1, &types)),
            _ => (Value::Null, Value::Null),
        };
        let encodings = if chance(rng, 40) {
            several(rng, 3, &["gzip", "br", "zstd", "deflate"])
        } else {
            Value::Null
        };
        options(
            "compress",
            json!({
                "excludedContentTypes": excluded,
                "includedContentTypes": included,
                "minResponseBodyBytes": maybe(rng, 40, &[0, 10, 100, -1]),
                "encodings": encodings,
                "defaultEncoding": maybe(rng, 30, &["gzip", "br", "x"]),
            }),
        )
    },
    ask: |rng, request| {
        let accepted = [
            "gzip",
            "br",
            "zstd",
            "gzip, br, zstd",
            "br;q=0.5, gzip;q=0.8",
            "*",
            "identity",
            "gzip;q=0",
            "deflate",
            "GZIP",
            "gzip;q=0.5, *;q=0.1",
            "",
            "zstd, gzip",
            "br;q=1.0, gzip;q=1.0",
            "identity;q=0",
            "gzip;q=x",
            "x-gzip",
        ];
        if chance(rng, 85) {
            add(rng, request, "Accept-Encoding", &accepted);
        }
        let kinds = [
            "text/html; charset=utf-8",
            "application/json",
            "image/png",
            "application/grpc",
            "",
        ];
        let mut reply = Reply {
            body: "0123456789abcdef".into(),
            times: one_of(rng, &[1, 10, 63, 64, 65, 1000]),
            chunked: rng.bool(),
            ..Reply::default()
        };
        let kind = pick(rng, &kinds);
        if !kind.is_empty() {
            reply.headers.push(("Content-Type".into(), kind.into()));
        }
        if chance(rng, 15) {
            reply
                .headers
                .push(("Content-Encoding".into(), pick(rng, &["identity", "gzip"]).into()));
        }
        if chance(rng, 20) {
            reply
                .headers
                .push(("ETag".into(), pick(rng, &["\"x\"", "W/\"x\""]).into()));
        }
        request.headers.retain(|(name, _)| name != REPLY);
        say(request, REPLY, &reply);
    },
};

pub(super) const TYPE: Kind = Kind {
    name: "contentType",
    options: |_, _| json!({ "contentType": {} }),
    ask: |rng, request| {
        let bodies = [
            "<html>",
            "{\"a\":1}",
            "plain text",
            "\u{89}PNG",
            "%PDF-1.4",
            "<?xml version=\"1.0\"?>",
            "GIF89a",
            "  <!DOCTYPE html>",
            "",
        ];
        let reply = Reply {
            body: pick(rng, &bodies).to_owned(),
            chunked: rng.bool(),
            ..Reply::default()
        };
        request.headers.retain(|(name, _)| name != REPLY);
        say(request, REPLY, &reply);
    },
};

pub(super) const ERRORS: Kind = Kind {
    name: "errors",
    options: |rng, place| {
        options(
            "errors",
            json!({
                "status": several(rng, 2, &["500-599", "404", "400-499", "503", "200", "x", "599-500"]),
                "statusRewrites": maybe(rng, 30, &[json!({ "500-503": 418 }), json!({ "404": 200, "500": 502 })]),
                "service": if chance(rng, 5) { "missing" } else { &place.pages },
                "query": maybe(rng, 90, &[
                    "/err/{status}.html", "/err?u={url}", "/err/{originalStatus}-{status}", "err", "/err%20x/{status}", "/err",
                ]),
                "errorRequestHeaders": maybe(rng, 10, &[json!(["X-Probe", "X-Page-Reply", "X-A"])]),
            }),
        )
    },
    ask: |rng, request| {
        let mut page = Reply {
            status: one_of(rng, &[200, 200, 200, 404, 500, 302]),
            body: pick(rng, &["page", "<html>sorry</html>", ""]).to_owned(),
            chunked: rng.bool(),
            ..Reply::default()
        };
        if chance(rng, 50) {
            page.headers.push(("Content-Type".into(), "text/html".into()));
        }
        if chance(rng, 30) {
            page.headers.push(("X-A".into(), "page".into()));
        }
        say(request, PAGE_REPLY, &page);
        let mut reply = Reply {
            status: one_of(rng, &[200, 404, 500, 503, 502, 401]),
            body: "from the back end".into(),
            ..Reply::default()
        };
        if chance(rng, 30) {
            reply.headers.push(("X-B".into(), "service".into()));
        }
        request.headers.retain(|(name, _)| name != REPLY);
        say(request, REPLY, &reply);
    },
};

pub(super) const CHAIN: Kind = Kind {
    name: "chain",
    options: |rng, place| {
        let mut members = place.others.clone();
        match rng.u8(..10) {
            0 => members.push("missing".into()),
            1 => members.clear(),
            _ => {}
        }
        json!({ "chain": { "middlewares": members } })
    },
    ask: anything,
};

pub(super) const PLUGIN: Kind = Kind {
    name: "none",
    options: |rng, _| match rng.u8(..3) {
        0 => json!({ "plugin": { "nowhere": { "x": "1" } } }),
        1 => json!({}),
        _ => json!({ "addPrefix": { "prefix": "/p" }, "replacePath": { "path": "/q" } }),
    },
    ask: anything,
};
