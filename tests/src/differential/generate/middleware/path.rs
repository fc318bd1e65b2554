//! Middlewares that change the path.

use serde_json::json;

use super::{Kind, anything, maybe, options, several};
use crate::differential::generate::vocabulary::pick;

pub(super) const ADD_PREFIX: Kind = Kind {
    name: "addPrefix",
    options: |rng, _| {
        let prefix = pick(
            rng,
            &[
                "/p", "p", "/p/", "", "/a%20b", "/a b", "/ü", "/p?x", "//p", "/../p", "/p%2Fq",
            ],
        );
        json!({ "addPrefix": { "prefix": prefix } })
    },
    ask: anything,
};

pub(super) const STRIP_PREFIX: Kind = Kind {
    name: "stripPrefix",
    options: |rng, _| {
        let prefixes = [
            "/api", "/api/", "/", "/foo", "/a.b", "/api/v1", "api", "/%61pi", "/a b", "/a%20b", "/a%2Fb",
            "/API", "",
        ];
        options(
            "stripPrefix",
            json!({ "prefixes": several(rng, 3, &prefixes), "forceSlash": maybe(rng, 5, &[true, false]) }),
        )
    },
    ask: anything,
};

pub(super) const STRIP_PREFIX_REGEX: Kind = Kind {
    name: "stripPrefixRegex",
    options: |rng, _| {
        let patterns = [
            "^/api",
            "/api",
            "/api/[0-9]+",
            "/[a-z]+",
            "/[a-z]+/",
            "/foo/(.*)/",
            "(",
            "^/",
            "/a b",
            "^/(api|foo)/",
            "^/api$",
            "api",
            "/api/{id:[0-9]+}",
            "(?i)/API",
            "^/[^/]+/[^/]+",
            "/a%2Fb",
        ];
        json!({ "stripPrefixRegex": { "regex": several(rng, 2, &patterns) } })
    },
    ask: anything,
};

pub(super) const REPLACE_PATH: Kind = Kind {
    name: "replacePath",
    options: |rng, _| {
        let path = pick(
            rng,
            &[
                "/new", "new", "/", "", "/a b", "/a%20b", "/a%2Fb", "/new?x=1", "/ü", "/../x", "/a//b",
                "/%zz", "/a#b",
            ],
        );
        json!({ "replacePath": { "path": path } })
    },
    ask: anything,
};

pub(super) const REPLACE_PATH_REGEX: Kind = Kind {
    name: "replacePathRegex",
    options: |rng, _| {
        const ALL: &[(&str, &str)] = &[
            ("^/api/(.*)", "/$1"),
            ("^/(?P<x>[a-z]+)/(.*)", "/${x}-$2"),
            ("/foo", "/bar?x=1"),
            ("(", "/x"),
            ("^/(.*)", "/$$1"),
            ("^/(.*)", "/v2/$1"),
            ("^/(.*)", "/$1x"),
            ("^/(.*)", "/${1}x"),
            ("", "/x"),
            ("^/api$", "/ü"),
            ("/a b", "/c d"),
            ("/a%20b", "/c"),
            ("/a%2Fb", "/c"),
            ("[a-z]", "$0$0"),
            ("^/api", ""),
            ("^/api", "x"),
            ("^.*$", "/all"),
            ("/", "//"),
            ("^/foo(bar)?", "/$1/$2"),
            ("^/api/([0-9]+)/(.)", "/$2/$1%20"),
        ];
        let (regex, replacement) = ALL[rng.usize(..ALL.len())];
        json!({ "replacePathRegex": { "regex": regex, "replacement": replacement } })
    },
    ask: anything,
};

pub(super) const ENCODED_CHARACTERS: Kind = Kind {
    name: "encodedCharacters",
    options: |rng, _| {
        options(
            "encodedCharacters",
            json!({
                "allowEncodedSlash": maybe(rng, 50, &[true, false]),
                "allowEncodedBackSlash": maybe(rng, 50, &[true, false]),
                "allowEncodedNullCharacter": maybe(rng, 50, &[true, false]),
                "allowEncodedSemicolon": maybe(rng, 50, &[true, false]),
                "allowEncodedPercent": maybe(rng, 50, &[true, false]),
                "allowEncodedQuestionMark": maybe(rng, 50, &[true, false]),
                "allowEncodedHash": true,
            }),
        )
    },
    ask: |rng, request| {
        let paths = [
            "/a%2Fb", "/a%2fb", "/a%5Cb", "/a%00b", "/a%3Bb", "/a%25b", "/a%3Fb", "/a%23b", "/a%252Fb",
            "/a?b=%2F",
        ];
        request.target = pick(rng, &paths).to_owned();
    },
};
