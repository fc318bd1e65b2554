//! Middlewares that send clients elsewhere.

use serde_json::json;

use super::{Kind, add, maybe, options};
use crate::differential::generate::vocabulary::{chance, pick};

/// Hosts with ports, which redirects take apart.
const HOSTS: &[&str] = &[
    "a.test",
    "a.test:80",
    "a.test:8080",
    "a.test:443",
    "A.test",
    "a.test.",
    "a.test:8443",
];

pub(super) const SCHEME: Kind = Kind {
    name: "redirectScheme",
    options: |rng, _| {
        options(
            "redirectScheme",
            json!({
                "scheme": pick(rng, &["https", "https", "https", "http", "HTTPS", "", "ftp"]),
                "port": maybe(rng, 40, &["443", "8443", "80", "", "x"]),
                "permanent": maybe(rng, 50, &[true, false]),
            }),
        )
    },
    ask: |rng, request| {
        if chance(rng, 50) {
            request.headers[0].1 = pick(rng, HOSTS).to_owned();
        }
        if chance(rng, 10) {
            add(rng, request, "X-Forwarded-Proto", &["https", "http", "ws"]);
        }
        if chance(rng, 20) {
            request.method = pick(rng, &["GET", "POST", "HEAD", "PATCH", "OPTIONS"]).to_owned();
            request.body = Default::default();
        }
    },
};

pub(super) const REGEX: Kind = Kind {
    name: "redirectRegex",
    options: |rng, _| {
        const ALL: &[(&str, &str)] = &[
            ("^http://([^/]+)/(.*)", "https://${1}/$2"),
            ("^http://a.test/api(.*)", "http://b.test/x$1"),
            (".*", "http://b.test/"),
            ("^https?://[^/]+(.*)$", "https://b.test$1"),
            ("^http://a.test/(.*)", "/$1"),
            ("^http://a.test/api$", "http://a.test/api/"),
            ("q=1", "q=2"),
            ("^http://(.*):(\\d+)/", "https://$1/"),
            ("/api", "/new%20path"),
            ("/api", "/new path"),
            ("(", "/"),
            ("^http://a.test(.*)$", "http://a.test$1"),
            ("/foo(?P<rest>.*)", "/bar${rest}"),
            ("^(.*)/a%2Fb$", "$1/c"),
            ("^(.*)/a b$", "$1/c"),
            ("^http://a.test/(.*)", "https://b.test/ü/$1"),
            ("^http://a.test/(.*)", "https://b.test/$1{{.}}"),
            ("^http://a.test/(.*)", ""),
            ("^http://a.test/(.*)", "://x"),
        ];
        let (regex, replacement) = ALL[rng.usize(..ALL.len())];
        // Braces in a file are a template.
        let replacement = replacement.replace("{{.}}", "");
        options(
            "redirectRegex",
            json!({ "regex": regex, "replacement": replacement, "permanent": maybe(rng, 50, &[true, false]) }),
        )
    },
    ask: SCHEME.ask,
};
