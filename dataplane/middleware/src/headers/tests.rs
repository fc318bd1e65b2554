use super::*;
use crate::seen::tests::seen;

fn asked(method: &str, headers: &[(&'static str, &str)]) -> RequestHeader {
    let mut request = RequestHeader::build(method, b"/", None).unwrap();
    request.insert_header("Host", "a.test").unwrap();
    for (name, value) in headers {
        request.append_header(*name, *value).unwrap();
    }
    request
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// All headers of a response as lines, in order of their names.
fn lines(headers: &http::HeaderMap) -> Vec<String> {
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    lines
}

/// What becomes of a request and of a response with these headers.
fn served(
    middleware: &Headers,
    request: &mut RequestHeader,
    tls: bool,
    response: &[(&'static str, &str)],
) -> (u16, Vec<String>) {
    match middleware.enter(request, &seen(tls)).unwrap() {
        Flow::Answer(answer) => (answer.status, lines(&answer.headers)),
        Flow::Later(mut later) => {
            let mut head = ResponseHeader::build(200, None).unwrap();
            for (name, value) in response {
                head.append_header(*name, *value).unwrap();
            }
            later.leave(&mut head, &request.method, &[], false).unwrap();
            (200, lines(&head.headers))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn headers_of_requests_are_set_and_removed() {
    let options = HeadersOptions {
        request: vec![
            ("X-A", "1"),
            ("x-b", ""),
            ("Host", "other.test"),
            ("Connection", "x"),
            ("Content-Length", "9"),
            // What of it concerns services is decided where the request leaves.
            ("Te", "other"),
        ],
        ..HeadersOptions::default()
    };
    let mut warnings = Vec::new();
    let middleware = Headers::new(&options, &mut warnings).unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let mut request = asked(
        "GET",
        &[("X-B", "gone"), ("x-a", "old"), ("x-a", "old2"), ("X-C", "kept")],
    );
    served(&middleware, &mut request, false, &[]);
    assert_eq!(
        lines(&request.headers),
        ["host: other.test", "te: other", "x-a: 1", "x-c: kept"]
    );
    // Over HTTP/2 the host is in the target.
    let mut request = RequestHeader::build("GET", b"/", None).unwrap();
    request.set_uri("https://a.test/x?y".parse().unwrap());
    served(&middleware, &mut request, false, &[]);
    assert_eq!(request.uri, "https://other.test/x?y");
    let options = HeadersOptions {
        request: vec![("Host", "")],
        ..HeadersOptions::default()
    };
    let middleware = Headers::new(&options, &mut warnings).unwrap();
    let mut request = asked("GET", &[]);
    served(&middleware, &mut request, false, &[]);
    assert_eq!(lines(&request.headers), ["host: a.test"]);
}

#[test]
fn values_for_requests_are_not_shown() {
    let options = HeadersOptions {
        request: vec![("Authorization", "SECRET"), ("Host", "SECRET.test")],
        ..HeadersOptions::default()
    };
    let middleware = Headers::new(&options, &mut Vec::new()).unwrap();
    assert!(!format!("{middleware:?}").contains("SECRET"));
    let mut request = asked("GET", &[]);
    served(&middleware, &mut request, false, &[]);
    assert_eq!(request.headers["authorization"], "SECRET");
}

#[test]
fn custom_headers_win_over_those_about_security_and_cross_origin_ones_over_both() {
    let origins = texts(&["*"]);
    let options = HeadersOptions {
        response: vec![
            ("X-Frame-Options", "mine"),
            ("Server", ""),
            ("X-Low", "v"),
            ("Access-Control-Allow-Origin", "custom"),
        ],
        cors: CorsOptions {
            allow_origins: &origins,
            ..CorsOptions::default()
        },
        security: SecurityOptions {
            frame_deny: true,
            ..SecurityOptions::default()
        },
        ..HeadersOptions::default()
    };
    let middleware = Headers::new(&options, &mut Vec::new()).unwrap();
    let response = [
        ("Server", "nginx"),
        ("X-Low", "o"),
        ("X-Low", "p"),
        ("X-Frame-Options", "theirs"),
    ];
    let (_, got) = served(&middleware, &mut asked("GET", &[]), false, &response);
    assert_eq!(
        got,
        [
            "access-control-allow-origin: *",
            "x-frame-options: mine",
            "x-low: v"
        ]
    );
}

#[test]
fn what_can_not_be_written_is_refused_without_showing_values() {
    for (request, response, word) in [
        (("X Y", "1"), ("X-A", "1"), "X Y"),
        (("X-Z", "SECRET\n"), ("X-A", "a\nb"), "line break"),
        (("X-A", "1"), ("Content-Length", "1"), "break responses"),
        (("X-A", "1"), ("Transfer-Encoding", "q"), "break responses"),
    ] {
        let options = HeadersOptions {
            request: vec![request],
            response: vec![response],
            ..HeadersOptions::default()
        };
        let error = Headers::new(&options, &mut Vec::new()).unwrap_err();
        assert!(error.contains(word) && !error.contains("SECRET"), "{error}");
    }
}

#[test]
fn security_headers_as_traefik_sets_them() {
    let options = HeadersOptions {
        security: SecurityOptions {
            frame_deny: true,
            content_type_nosniff: true,
            browser_xss_filter: true,
            content_security_policy: "default-src 'self'",
            content_security_policy_report_only: "x",
            public_key: "pk",
            referrer_policy: "origin",
            permissions_policy: "cam=()",
            sts_seconds: 31_536_000,
            sts_include_subdomains: true,
            sts_preload: true,
            ssl_proxy_headers: vec![("X-Ssl", "on")],
            ..SecurityOptions::default()
        },
        ..HeadersOptions::default()
    };
    let middleware = Headers::new(&options, &mut Vec::new()).unwrap();
    let plain = [
        "content-security-policy-report-only: x",
        "content-security-policy: default-src 'self'",
        "permissions-policy: cam=()",
        "referrer-policy: origin",
        "x-content-type-options: nosniff",
        "x-frame-options: DENY",
        "x-xss-protection: 1; mode=block",
    ];
    let mut secure = Vec::from(plain);
    secure.extend([
        "public-key-pins: pk",
        "strict-transport-security: max-age=31536000; includeSubDomains; preload",
    ]);
    secure.sort_unstable();
    for (tls, header, expected) in [
        (false, "off", &plain[..]),
        (true, "off", &secure),
        (false, "on", &secure),
        (false, "ON", &plain),
    ] {
        let mut request = asked("GET", &[("X-Ssl", header)]);
        let (_, got) = served(&middleware, &mut request, tls, &[("X-Frame-Options", "theirs")]);
        assert_eq!(got, expected, "{tls} {header}");
    }
}

#[test]
fn strict_transport_security_and_development() {
    // seconds, forced, development, what is sent without TLS and with it
    let cases = [
        (10, true, false, Some("max-age=10"), Some("max-age=10")),
        (10, false, false, None, Some("max-age=10")),
        (0, true, false, None, None),
        (-1, true, false, Some("max-age=-1"), Some("max-age=-1")),
        (10, true, true, None, None),
    ];
    for (sts_seconds, force_sts_header, is_development, plain, secure) in cases {
        let hosts = texts(&["other.test"]);
        let options = HeadersOptions {
            security: SecurityOptions {
                sts_seconds,
                force_sts_header,
                is_development,
                custom_frame_options_value: "SAMEORIGIN",
                allowed_hosts: if is_development { &hosts } else { &[] },
                ..SecurityOptions::default()
            },
            ..HeadersOptions::default()
        };
        let middleware = Headers::new(&options, &mut Vec::new()).unwrap();
        for (tls, expected) in [(false, plain), (true, secure)] {
            let (status, got) = served(&middleware, &mut asked("GET", &[]), tls, &[]);
            let mut lines: Vec<_> = expected
                .map(|value| format!("strict-transport-security: {value}"))
                .into_iter()
                .collect();
            lines.push("x-frame-options: SAMEORIGIN".to_owned());
            assert_eq!(
                (status, got),
                (200, lines),
                "{sts_seconds} {force_sts_header} {tls}"
            );
        }
    }
}

#[test]
fn only_allowed_hosts_are_served() {
    let hosts = texts(&["h4.test", "B.test"]);
    let told = texts(&["X-H"]);
    let options = HeadersOptions {
        response: vec![("X-R", "1")],
        security: SecurityOptions {
            allowed_hosts: &hosts,
            hosts_proxy_headers: &told,
            frame_deny: true,
            ..SecurityOptions::default()
        },
        ..HeadersOptions::default()
    };
    let middleware = Headers::new(&options, &mut Vec::new()).unwrap();
    for (host, header, good) in [
        ("h4.test", "", true),
        ("H4.test", "", true),
        ("b.test", "", true),
        ("h4.test:81", "", false),
        ("h4.test.", "", false),
        ("x.test", "", false),
        ("x.test", "h4.test", true),
        ("h4.test", "x.test", false),
    ] {
        let mut request = asked("GET", &[("X-H", header)]);
        request.insert_header("Host", host).unwrap();
        let got = served(&middleware, &mut request, false, &[]);
        let expected = match good {
            true => (200, texts(&["x-frame-options: DENY", "x-r: 1"])),
            false => (
                500,
                texts(&[
                    "content-type: text/plain; charset=utf-8",
                    "x-content-type-options: nosniff",
                    "x-r: 1",
                ]),
            ),
        };
        assert_eq!(got, expected, "{host} {header}");
    }
}

const PREFLIGHT: [(&str, &str); 2] = [
    ("Origin", "https://a.test"),
    ("Access-Control-Request-Method", "PUT"),
];

#[test]
fn preflights_are_answered_and_nothing_else() {
    let (origins, methods) = (
        texts(&["https://a.test", "https://b.test"]),
        texts(&["GET", "PUT"]),
    );
    let (headers, expose) = (texts(&["X-A", "x-b"]), texts(&["X-E", "X-F"]));
    let options = HeadersOptions {
        response: vec![("X-R", "1")],
        cors: CorsOptions {
            allow_credentials: true,
            allow_headers: &headers,
            allow_methods: &methods,
            allow_origins: &origins,
            expose_headers: &expose,
            max_age: Some(60),
            add_vary: true,
            ..CorsOptions::default()
        },
        ..HeadersOptions::default()
    };
    let middleware = Headers::new(&options, &mut Vec::new()).unwrap();
    let common = [
        "access-control-allow-credentials: true",
        "access-control-allow-headers: X-A,x-b",
        "access-control-allow-methods: GET,PUT",
        "access-control-expose-headers: X-E,X-F",
        "access-control-max-age: 60",
    ];
    let mut allowed = Vec::from(common);
    allowed.insert(3, "access-control-allow-origin: https://a.test");
    let (status, got) = served(&middleware, &mut asked("OPTIONS", &PREFLIGHT), false, &[]);
    assert_eq!((status, got), (200, texts(&allowed)));
    let foreign = [("Origin", "https://z.test"), PREFLIGHT[1]];
    let (_, got) = served(&middleware, &mut asked("OPTIONS", &foreign), false, &[]);
    assert_eq!(got, common);
    for (method, headers) in [
        ("GET", &PREFLIGHT[..]),
        ("OPTIONS", &PREFLIGHT[..1]),
        ("OPTIONS", &PREFLIGHT[1..]),
        ("OPTIONS", &[("Origin", ""), PREFLIGHT[1]]),
        ("OPTIONS", &[PREFLIGHT[0], ("Access-Control-Request-Method", "")]),
    ] {
        let (_, got) = served(&middleware, &mut asked(method, headers), false, &[]);
        assert!(got.contains(&"x-r: 1".to_owned()), "{method} {headers:?}");
    }
}

#[test]
fn with_credentials_a_star_is_what_is_asked_for() {
    let allows = |allow_credentials: bool, list: &[&str], headers: &[(&'static str, &str)]| {
        let list = texts(list);
        let options = HeadersOptions {
            cors: CorsOptions {
                allow_credentials,
                allow_headers: &list,
                allow_methods: &list,
                expose_headers: &list,
                ..CorsOptions::default()
            },
            ..HeadersOptions::default()
        };
        let middleware = Headers::new(&options, &mut Vec::new()).unwrap();
        served(&middleware, &mut asked("OPTIONS", headers), false, &[]).1
    };
    let credentials = "access-control-allow-credentials: true";
    let method = "access-control-allow-methods: PUT";
    for list in [&["*"][..], &["X-A", "*"]] {
        assert_eq!(allows(true, list, &PREFLIGHT), [credentials, method]);
        let asking = [
            PREFLIGHT[0],
            PREFLIGHT[1],
            ("Access-Control-Request-Headers", "x-b, c"),
        ];
        assert_eq!(
            allows(true, list, &asking),
            [credentials, "access-control-allow-headers: x-b, c", method]
        );
        assert_eq!(allows(true, list, &[("Origin", "https://a.test")]), [credentials]);
    }
    let literal = [
        "access-control-allow-headers: *",
        "access-control-allow-methods: *",
        "access-control-expose-headers: *",
    ];
    assert_eq!(allows(false, &["*"], &PREFLIGHT), literal);
}

#[test]
fn what_responses_allow() {
    // origins, patterns, credentials, origin, what is allowed
    type Case<'a> = (
        &'a [&'a str],
        &'a [&'a str],
        bool,
        Option<&'a str>,
        Option<&'a str>,
    );
    let cases: [Case<'_>; 9] = [
        (
            &["https://a.test"],
            &[],
            false,
            Some("https://a.test"),
            Some("https://a.test"),
        ),
        (&["https://a.test"], &[], false, Some("https://A.test"), None),
        (&["*"], &[], false, Some("https://z.test"), Some("*")),
        (&["*"], &[], false, None, Some("*")),
        (&["*"], &[], true, Some("https://z.test"), Some("https://z.test")),
        (
            &["https://a.test", "*"],
            &[],
            false,
            Some("https://a.test"),
            Some("https://a.test"),
        ),
        (
            &[],
            &["^https://[a-z]+\\.test$"],
            false,
            Some("https://z.test"),
            Some("https://z.test"),
        ),
        (
            &[],
            &["^https://[a-z]+\\.test$"],
            false,
            Some("https://0.test"),
            None,
        ),
        (&["null"], &[], false, Some("null"), Some("null")),
    ];
    for (origins, patterns, allow_credentials, origin, allowed) in cases {
        let (origins, patterns) = (texts(origins), texts(patterns));
        let options = HeadersOptions {
            cors: CorsOptions {
                allow_credentials,
                allow_origins: &origins,
                allow_origins_regex: &patterns,
                ..CorsOptions::default()
            },
            ..HeadersOptions::default()
        };
        let middleware = Headers::new(&options, &mut Vec::new()).unwrap();
        let headers: Vec<_> = origin.map(|origin| ("Origin", origin)).into_iter().collect();
        let (_, got) = served(&middleware, &mut asked("GET", &headers), false, &[]);
        let line = allowed.map(|value| format!("access-control-allow-origin: {value}"));
        let got: Vec<_> = got
            .into_iter()
            .filter(|line| line.contains("allow-origin"))
            .collect();
        assert_eq!(
            got,
            line.into_iter().collect::<Vec<_>>(),
            "{origins:?} {origin:?}"
        );
    }
}

#[test]
fn nothing_that_a_response_differs_by_gets_lost() {
    let options = HeadersOptions {
        cors: CorsOptions {
            add_vary: true,
            ..CorsOptions::default()
        },
        ..HeadersOptions::default()
    };
    let middleware = Headers::new(&options, &mut Vec::new()).unwrap();
    for (vary, expected) in [
        (&[][..], &["vary: Origin"][..]),
        (&[("Vary", "Accept")], &["vary: Accept,Origin"]),
        (&[("Vary", "Origin")], &["vary: Origin"]),
        (&[("Vary", "origin")], &["vary: origin,Origin"]),
        (&[("Vary", "A, B"), ("Vary", "C")], &["vary: A, B,C,Origin"]),
    ] {
        let (_, got) = served(&middleware, &mut asked("GET", &[]), false, vary);
        assert_eq!(got, expected, "{vary:?}");
    }
}
