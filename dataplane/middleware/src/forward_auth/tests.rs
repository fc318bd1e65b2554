use constellation_table::{ServiceSpec, Transport};

use super::*;
use crate::seen::seen_from;

fn service() -> Arc<Service> {
    Arc::new(Service::new(
        ServiceSpec {
            name: "auth".into(),
            endpoints: Vec::new(),
            pass_host_header: false,
            transport: Arc::new(Transport::default()),
            retry_after: 1,
            policy: Arc::default(),
        },
        None,
    ))
}

fn auth(address: &str, options: ForwardAuthOptions<'_>) -> ForwardAuth {
    ForwardAuth::new(AuthAddress::parse(address).unwrap(), service(), &options).unwrap()
}

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn request(method: &str, target: &str, headers: &[(&'static str, &'static str)]) -> RequestHeader {
    let mut request = RequestHeader::build(method, target.as_bytes(), None).unwrap();
    for (name, value) in headers {
        request.append_header(*name, *value).unwrap();
    }
    request
}

fn response(status: u16, headers: &[(&'static str, &'static str)]) -> ResponseHeader {
    let mut response = ResponseHeader::build(status, None).unwrap();
    for (name, value) in headers {
        response.append_header(*name, *value).unwrap();
    }
    response
}

/// Headers in the order of their names.
fn written(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    lines.sort();
    lines
}

#[test]
fn what_the_service_is_asked() {
    let headers = [
        ("Host", "f.test"),
        ("X-A", "1"),
        ("X-A", "2"),
        ("Cookie", "a=b"),
        ("X-Forwarded-For", "9.9.9.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Method", "EVIL"),
        ("X-Forwarded-Uri", "/evil"),
        ("X_Forwarded_Uri", "/evil2"),
        ("X-Forwarded-Host", "h.test"),
        ("X-Forwarded-Port", "99"),
        ("Content-Length", "10"),
        ("Content-Type", "text/x"),
        ("TE", "trailers"),
        ("Upgrade", "websocket"),
    ];
    let request = request("POST", "/p/a%2Fb?q=1&r", &headers);
    let seen = seen_from("10.0.0.9:1");
    let asked = |options| {
        let question = auth("http://auth:1/auth?x=1", options)
            .question(&request, &seen)
            .unwrap();
        let line = format!(
            "{} {}",
            question.method,
            String::from_utf8_lossy(question.raw_path())
        );
        (line, written(&question.headers))
    };
    let plain = ForwardAuthOptions::default();
    let (line, all) = asked(plain);
    assert_eq!(line, "GET /auth?x=1");
    let own = [
        "content-type: text/x",
        "cookie: a=b",
        "x-a: 1",
        "x-a: 2",
        "x-forwarded-for: 10.0.0.9",
        "x-forwarded-host: f.test",
        "x-forwarded-method: POST",
        "x-forwarded-port: 99",
        "x-forwarded-proto: http",
        "x-forwarded-uri: /p/a%2Fb?q=1&r",
    ];
    assert_eq!(all, own);
    let (line, trusted) = asked(ForwardAuthOptions {
        trust_forward_header: Some(true),
        preserve_request_method: true,
        ..plain
    });
    assert_eq!(line, "POST /auth?x=1");
    let told = [
        "content-type: text/x",
        "cookie: a=b",
        "x-a: 1",
        "x-a: 2",
        "x-forwarded-for: 9.9.9.9, 10.0.0.9",
        "x-forwarded-host: h.test",
        "x-forwarded-method: EVIL",
        "x-forwarded-port: 99",
        "x-forwarded-proto: https",
        "x-forwarded-uri: /evil",
    ];
    assert_eq!(trusted, told);
    let (_, untrusted) = asked(ForwardAuthOptions {
        trust_forward_header: Some(false),
        ..plain
    });
    let none_of_the_client: Vec<_> = own
        .iter()
        .map(|line| line.replace("-port: 99", "-port: 80"))
        .collect();
    assert_eq!(untrusted, none_of_the_client);
    let names = list(&["x-a", "Accept"]);
    let (_, few) = asked(ForwardAuthOptions {
        auth_request_headers: &names,
        ..plain
    });
    let of_these = own.iter().filter(|line| {
        line.starts_with("x-a") || (line.starts_with("x-forwarded-") && !line.contains("-port"))
    });
    assert_eq!(few, of_these.copied().collect::<Vec<_>>());
}

#[test]
fn forwarding_headers_of_trust_go_along_all_or_none() {
    let headers = [
        ("Host", "f.test:8443"),
        ("X-A", "1"),
        ("X-Real-Ip", "9.9.9.9"),
        ("X-Forwarded-Prefix", "/p"),
        ("X-Forwarded-Server", "edge"),
        ("X-Forwarded-Tls-Client-Cert-Info", "info"),
        ("X_Forwarded_Prefix", "/q"),
        ("X-Forwarded-Method", "PUT"),
        ("X-Forwarded-Method", "DELETE"),
        ("X-Forwarded-Uri", ""),
        ("X-Forwarded-User", "u"),
    ];
    let request = request("POST", "/p", &headers);
    let asked = |trust_forward_header, names: &[&str]| {
        let names = list(names);
        let options = ForwardAuthOptions {
            trust_forward_header,
            auth_request_headers: &names,
            ..ForwardAuthOptions::default()
        };
        let question = auth("http://auth/", options).question(&request, &seen_from("10.0.0.9:1"));
        written(&question.unwrap().headers)
    };
    let set = |port: &'static str| {
        [
            "x-forwarded-for: 10.0.0.9",
            "x-forwarded-host: f.test:8443",
            "x-forwarded-method: POST",
            port,
            "x-forwarded-proto: http",
            "x-forwarded-uri: /p",
        ]
    };
    let sorted = |mut lines: Vec<&'static str>| {
        lines.sort_unstable();
        lines
    };
    let untrusted = sorted(
        [
            &set("x-forwarded-port: 8443")[..],
            &["x-a: 1", "x-forwarded-user: u"],
        ]
        .concat(),
    );
    assert_eq!(asked(Some(false), &[]), untrusted);
    let few = set("x-forwarded-port: 8443");
    assert_eq!(asked(Some(false), &["X-Real-Ip", "X_Forwarded_Prefix"]), few);
    let trusted = [
        "x-forwarded-for: 10.0.0.9",
        "x-forwarded-host: f.test:8443",
        "x-forwarded-method: DELETE",
        "x-forwarded-method: PUT",
        "x-forwarded-port: 8443",
        "x-forwarded-prefix: /p",
        "x-forwarded-proto: http",
        "x-forwarded-server: edge",
        "x-forwarded-tls-client-cert-info: info",
        "x-forwarded-uri: ",
        "x-real-ip: 9.9.9.9",
    ];
    assert_eq!(asked(Some(true), &["X-B"]), trusted);
    // Where nothing is said, all go along that have no meaning here.
    let unsaid = asked(None, &[]);
    for line in [
        "x-forwarded-prefix: /p",
        "x_forwarded_prefix: /q",
        "x-real-ip: 9.9.9.9",
        "x-forwarded-method: POST",
        "x-forwarded-uri: /p",
    ] {
        assert!(unsaid.iter().any(|there| there == line), "{line}: {unsaid:?}");
    }
    assert!(unsaid.iter().all(|line| !line.contains("-port")), "{unsaid:?}");
}

#[test]
fn the_port_of_a_question_is_that_of_the_host_or_of_the_scheme() {
    // host, TLS, what a trusted proxy says of the scheme, port
    let cases = [
        ("a", false, None, "80"),
        ("a", true, None, "443"),
        ("[::1]", false, None, "80"),
        ("[::1]:81", true, None, "81"),
        ("a", false, Some("https"), "443"),
        ("a", false, Some("wss"), "443"),
    ];
    for (host, tls, scheme, expected) in cases {
        let mut request = request("GET", "/", &[("Host", host)]);
        if let Some(scheme) = scheme {
            request.insert_header("X-Forwarded-Proto", scheme).unwrap();
        }
        let options = ForwardAuthOptions {
            trust_forward_header: Some(true),
            ..ForwardAuthOptions::default()
        };
        let seen = Seen {
            tls,
            ..seen_from("10.0.0.9:1")
        };
        let question = auth("http://auth/", options).question(&request, &seen).unwrap();
        assert_eq!(
            question.headers["x-forwarded-port"], expected,
            "{host} {tls} {scheme:?}"
        );
    }
}

#[test]
fn who_may_pass_gets_what_the_service_says() {
    let names = list(&["X-User", "X-Multi", "x-gone"]);
    let options = ForwardAuthOptions {
        auth_response_headers: &names,
        header_field: "X-User",
        ..ForwardAuthOptions::default()
    };
    let said = response(
        299,
        &[
            ("X-User", "u"),
            ("X-Multi", "1"),
            ("X-Multi", "2"),
            ("X-Other", "o"),
        ],
    );
    let mut passing = request(
        "GET",
        "/",
        &[
            ("X-User", "evil"),
            ("X_User", "evil"),
            ("X-Gone", "evil"),
            ("X-Multi", "evil"),
            ("X-Kept", "k"),
        ],
    );
    let flow = auth("http://auth/", options)
        .answered(&said, Bytes::new(), &mut passing)
        .unwrap();
    assert!(
        matches!(&flow, Flow::User(user, None) if &**user == "u"),
        "{flow:?}"
    );
    assert_eq!(
        written(&passing.headers),
        ["x-kept: k", "x-multi: 1", "x-multi: 2", "x-user: u"]
    );
    let options = ForwardAuthOptions {
        auth_response_headers_regex: "^X-R",
        ..ForwardAuthOptions::default()
    };
    let said = response(200, &[("X-Ra", "u"), ("x-rb", "1"), ("X-Other", "o")]);
    let mut passing = request(
        "GET",
        "/",
        &[("X-Ra", "evil"), ("X-Rc", "evil"), ("X-Other", "k")],
    );
    let flow = auth("http://auth/", options)
        .answered(&said, Bytes::new(), &mut passing)
        .unwrap();
    assert!(matches!(flow, Flow::Next), "{flow:?}");
    assert_eq!(written(&passing.headers), ["x-other: k", "x-ra: u", "x-rb: 1"]);
}

#[test]
fn cookies_of_the_service_take_the_place_of_others() {
    let names = list(&["sess"]);
    let options = ForwardAuthOptions {
        add_auth_cookies_to_response: &names,
        ..ForwardAuthOptions::default()
    };
    let said = response(
        200,
        &[("Set-Cookie", "sess=1; Path=/"), ("Set-Cookie", "other=2")],
    );
    let flow = auth("http://auth/", options)
        .answered(&said, Bytes::new(), &mut request("GET", "/", &[]))
        .unwrap();
    let Flow::Later(Later::AuthCookies(cookies)) = flow else {
        panic!("{flow:?}");
    };
    assert!(!format!("{cookies:?}").contains("sess=1"));
    let mut response = response(200, &[("Set-Cookie", "sess=old"), ("Set-Cookie", "own=3")]);
    cookies.leave(&mut response).unwrap();
    assert_eq!(
        written(&response.headers),
        ["set-cookie: own=3", "set-cookie: sess=1; Path=/"]
    );
}

#[test]
fn a_refusal_goes_to_the_client() {
    let said = response(
        401,
        &[
            ("WWW-Authenticate", "Basic realm=\"z\""),
            ("Set-Cookie", "a=b"),
            ("Set-Cookie", "c=d"),
            ("Connection", "x-hop"),
            ("X-Hop", "1"),
            ("Keep-Alive", "x"),
            ("Content-Length", "13"),
            ("Content-Type", "text/html"),
        ],
    );
    let plain = ForwardAuthOptions::default();
    let answer = |address: &str, options, said: &ResponseHeader| {
        let mut request = request("GET", "/", &[]);
        match auth(address, options)
            .answered(said, Bytes::from_static(b"auth says"), &mut request)
            .unwrap()
        {
            Flow::Answer(answer) => *answer,
            other => panic!("{other:?}"),
        }
    };
    let refused = answer("http://auth/", plain, &said);
    assert_eq!((refused.status, &refused.body[..]), (401, &b"auth says"[..]));
    let headers = [
        "content-type: text/html",
        "set-cookie: a=b",
        "set-cookie: c=d",
        "www-authenticate: Basic realm=\"z\"",
        "x-hop: 1",
    ];
    assert_eq!(written(&refused.headers), headers);
    let unchanged = answer(
        "http://auth/",
        plain,
        &response(304, &[("Content-Type", "text/html")]),
    );
    assert_eq!(unchanged, Answer::empty(304));
    for (location, absolute) in [
        ("/login", "http://auth:81/login"),
        ("login", "http://auth:81/login"),
        ("//other/x", "http://other/x"),
        ("http://abs.test/y", "http://abs.test/y"),
        ("?q", "http://auth:81/auth?q"),
        ("#f", "http://auth:81/auth?x=1#f"),
        ("../up", "http://auth:81/up"),
        ("", ""),
    ] {
        let mut redirect = response(302, &[]);
        redirect.append_header("Location", location).unwrap();
        let found = answer("http://user:pw@auth:81/auth?x=1", plain, &redirect);
        assert_eq!(found.headers[LOCATION], absolute, "{location}");
        let options = ForwardAuthOptions {
            preserve_location_header: true,
            ..plain
        };
        assert_eq!(
            answer("http://auth/", options, &redirect).headers[LOCATION],
            location
        );
    }
    let broken = response(302, &[("Location", "http://[::bad")]);
    assert_eq!(answer("http://auth/", plain, &broken), Answer::empty(500));
}

#[test]
fn addresses() {
    let parsed = |text: &str| AuthAddress::parse(text);
    for (text, tls, host, port, target) in [
        (
            "http://auth:8080/verify?x=1#f",
            false,
            "auth",
            8080,
            "/verify?x=1",
        ),
        ("http://auth", false, "auth", 80, "/"),
        ("https://[::1]/a", true, "::1", 443, "/a"),
    ] {
        let address = parsed(text).unwrap();
        assert_eq!(
            (address.tls(), address.host(), address.port(), address.target()),
            (tls, host, port, target)
        );
        assert!(address.authorization().is_none());
    }
    let secret = parsed("http://user:p%20w@auth/").unwrap();
    assert_eq!(secret.authorization().unwrap().as_bytes(), b"Basic dXNlcjpwIHc=");
    assert_eq!(format!("{secret:?}"), "http://auth:80");
    let asking = auth("http://user:pw@auth/", ForwardAuthOptions::default());
    for (own, expected) in [(None, "Basic dXNlcjpwdw=="), (Some("Basic zz"), "Basic zz")] {
        let mut request = request("GET", "/", &[]);
        if let Some(own) = own {
            request.append_header("Authorization", own).unwrap();
        }
        let question = asking.question(&request, &seen_from("1.1.1.1:1")).unwrap();
        assert_eq!(question.headers[AUTHORIZATION], expected);
    }
    for bad in [
        "",
        "nonsense",
        "ftp://secret@x/",
        "http://",
        "http://u:secret%zz@auth/",
        "unix:/secret",
    ] {
        let error = parsed(bad).unwrap_err();
        assert!(
            error.starts_with("address") && !error.contains("secret"),
            "{bad}: {error}"
        );
    }
}

#[test]
fn options_that_cannot_be_used() {
    let build = |options: ForwardAuthOptions<'_>| {
        ForwardAuth::new(AuthAddress::parse("http://auth").unwrap(), service(), &options).unwrap_err()
    };
    let bad = list(&["X A"]);
    let plain = ForwardAuthOptions::default();
    for (options, named) in [
        (
            ForwardAuthOptions {
                auth_response_headers: &bad,
                ..plain
            },
            "authResponseHeaders",
        ),
        (
            ForwardAuthOptions {
                auth_request_headers: &bad,
                ..plain
            },
            "authRequestHeaders",
        ),
        (
            ForwardAuthOptions {
                auth_response_headers_regex: "(",
                ..plain
            },
            "authResponseHeadersRegex",
        ),
        (
            ForwardAuthOptions {
                header_field: "X A",
                ..plain
            },
            "headerField",
        ),
    ] {
        assert!(build(options).contains(named), "{named}");
    }
}
