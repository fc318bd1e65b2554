use super::*;

fn compress(options: &CompressOptions<'_>) -> Compress {
    Compress::new(options).unwrap()
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn asked(method: &str, headers: &[(&'static str, &str)]) -> RequestHeader {
    let mut request = RequestHeader::build(method, b"/", None).unwrap();
    for (name, value) in headers {
        request.append_header(*name, *value).unwrap();
    }
    request
}

/// The headers of a response after the middleware, and whether its body is compressed.
fn served(
    middleware: &Compress,
    request: &RequestHeader,
    status: u16,
    headers: &[(&'static str, &str)],
) -> (Vec<String>, bool) {
    let mut response = ResponseHeader::build(status, None).unwrap();
    for (name, value) in headers {
        response.append_header(*name, *value).unwrap();
    }
    let mut transformed = false;
    if let Flow::Later(Later::Compress(later)) = middleware.enter(request) {
        CompressResponse::announce(&mut response).unwrap();
        transformed = matches!(later.leave(&mut response, false).unwrap(), After::Transform(_));
    }
    let lines = response.headers.iter();
    let lines = lines.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    (lines.collect(), transformed)
}

#[test]
fn the_head_of_a_compressed_response() {
    let middleware = compress(&CompressOptions::default());
    let request = asked("GET", &[("Accept-Encoding", "gzip")]);
    let headers = [
        ("Content-Length", "2400"),
        ("Accept-Ranges", "bytes"),
        ("Vary", "Foo"),
        ("ETag", "\"x\""),
    ];
    let (mut lines, compressed) = served(&middleware, &request, 200, &headers);
    lines.sort();
    let expected = [
        "content-encoding: gzip",
        "etag: \"x\"",
        "vary: Accept-Encoding",
        "vary: Foo",
    ];
    assert_eq!((lines.as_slice(), compressed), (&texts(&expected)[..], true));
    let (lines, compressed) = served(&middleware, &asked("GET", &[("Accept-Encoding", "*")]), 200, &[]);
    assert_eq!((lines, compressed), (texts(&["vary: Accept-Encoding"]), false));
    for request in [
        asked("HEAD", &[("Accept-Encoding", "gzip")]),
        asked("GET", &[]),
        asked(
            "GET",
            &[("Accept-Encoding", "gzip"), ("Content-Type", "application/grpc")],
        ),
    ] {
        assert_eq!(served(&middleware, &request, 200, &[]), (Vec::new(), false));
    }
}

#[test]
fn what_is_worth_compressing() {
    let (excluded, included) = (texts(&["text/html", "application/x; a=b"]), texts(&["text/html"]));
    let all = compress(&CompressOptions::default());
    let but = compress(&CompressOptions {
        excluded: &excluded,
        ..CompressOptions::default()
    });
    let only = compress(&CompressOptions {
        included: &included,
        ..CompressOptions::default()
    });
    // status, headers, compressed by each of the three
    type Case = (u16, &'static [(&'static str, &'static str)], [bool; 3]);
    let cases: &[Case] = &[
        (200, &[], [true, true, false]),
        (200, &[("Content-Length", "1024")], [true, true, false]),
        (200, &[("Content-Length", "1023")], [false, false, false]),
        (200, &[("Content-Type", "text/html")], [true, false, true]),
        (
            200,
            &[("Content-Type", "TEXT/HTML; charset=x")],
            [true, false, true],
        ),
        (
            200,
            &[("Content-Type", "application/x; c=d")],
            [true, false, false],
        ),
        (200, &[("Content-Type", "image/png")], [true, true, false]),
        (
            200,
            &[("Content-Type", "application/grpc")],
            [false, false, false],
        ),
        (200, &[("Content-Type", "bad;;")], [false, false, false]),
        (200, &[("Content-Encoding", "br")], [false, false, false]),
        (200, &[("Content-Encoding", "identity")], [false, false, false]),
        (200, &[("Content-Encoding", "")], [true, true, false]),
        (200, &[("Content-Range", "bytes 0-1/2")], [false, false, false]),
        (
            200,
            &[("Cache-Control", "max-age=1, No-Transform")],
            [false, false, false],
        ),
        (206, &[], [false, false, false]),
        (204, &[], [false, false, false]),
        (304, &[], [false, false, false]),
        (404, &[], [true, true, false]),
        (500, &[], [true, true, false]),
    ];
    let request = asked("GET", &[("Accept-Encoding", "zstd")]);
    for (status, headers, expected) in cases {
        let got = [&all, &but, &only].map(|middleware| {
            let (lines, compressed) = served(middleware, &request, *status, headers);
            assert!(lines.contains(&"vary: Accept-Encoding".to_owned()));
            assert_eq!(lines.contains(&"content-encoding: zstd".to_owned()), compressed);
            compressed
        });
        assert_eq!(got, *expected, "{status} {headers:?}");
    }
}

#[test]
fn a_word_that_is_no_media_type_is_on_a_list_in_vain() {
    let (words, request) = (
        texts(&["x", "text/html"]),
        asked("GET", &[("Accept-Encoding", "br")]),
    );
    let only = compress(&CompressOptions {
        included: &words,
        ..CompressOptions::default()
    });
    let but = compress(&CompressOptions {
        excluded: &words,
        ..CompressOptions::default()
    });
    for (kind, expected) in [
        ("text/html", [true, false]),
        ("text/css", [false, true]),
        ("x", [false, false]),
    ] {
        let got =
            [&only, &but].map(|middleware| served(middleware, &request, 200, &[("Content-Type", kind)]).1);
        assert_eq!(got, expected, "{kind}");
    }
}

#[test]
fn limits_below_one_mean_the_default() {
    for (min_body, length, expected) in [
        (0, "1023", false),
        (-1, "1024", true),
        (10, "9", false),
        (10, "10", true),
    ] {
        let middleware = compress(&CompressOptions {
            min_body,
            ..CompressOptions::default()
        });
        let request = asked("GET", &[("Accept-Encoding", "br")]);
        let (_, compressed) = served(&middleware, &request, 200, &[("Content-Length", length)]);
        assert_eq!(compressed, expected, "{min_body} {length}");
    }
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let (types, foo, gzip) = (texts(&["text/css"]), texts(&["foo"]), texts(&["gzip"]));
    let half = texts(&["text/"]);
    let default = CompressOptions::default;
    for (options, word) in [
        (
            CompressOptions {
                encodings: &foo,
                ..default()
            },
            "gzip, br or zstd",
        ),
        (
            CompressOptions {
                default_encoding: "foo",
                ..default()
            },
            "gzip, br or zstd",
        ),
        (
            CompressOptions {
                encodings: &gzip,
                default_encoding: "br",
                ..default()
            },
            "not one of",
        ),
        (
            CompressOptions {
                included: &types,
                excluded: &types,
                ..default()
            },
            "exclude each other",
        ),
        (
            CompressOptions {
                included: &half,
                ..default()
            },
            "media type",
        ),
    ] {
        let error = Compress::new(&options).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
}
