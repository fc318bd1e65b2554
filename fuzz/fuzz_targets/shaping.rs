//! What clients send, through the middlewares that change where requests go: whatever comes out is a target that a back
//! end can be sent, and what a prefix was taken from can't be taken for another path. The expression that asks for
//! attempts, of the configuration, is read as well.

#![no_main]

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Instant;

use constellation_middleware::predicate::{Attempted, Predicate};
use constellation_middleware::{
    AddPrefix, Compress, CompressOptions, CorsOptions, Flow, GrpcWeb, Headers, HeadersOptions, Kind,
    Middleware, RedirectRegex, RedirectScheme, ReplacePathRegex, Seen, StripPrefix, StripPrefixRegex,
};
use libfuzzer_sys::fuzz_target;
use pingora_http::RequestHeader;

static KINDS: LazyLock<Vec<Middleware>> = LazyLock::new(|| {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let origins = texts(&["https://a.test"]);
    let headers = HeadersOptions {
        cors: CorsOptions {
            allow_origins: &origins,
            allow_credentials: true,
            ..CorsOptions::default()
        },
        ..HeadersOptions::default()
    };
    let kinds = [
        Kind::StripPrefix(StripPrefix::new(&texts(&["/a", "/b c", "/é"]), true)),
        Kind::StripPrefixRegex(StripPrefixRegex::new(&texts(&["^/[a-z]+/?", "/."])).expect("a pattern")),
        Kind::ReplacePathRegex(ReplacePathRegex::new("^/(.*?)/(.*)", "$2/$1").expect("a pattern")),
        Kind::AddPrefix(AddPrefix::new("/p q").expect("a prefix")),
        Kind::RedirectScheme(RedirectScheme::new("https", "8443", true).expect("a scheme")),
        Kind::RedirectRegex(RedirectRegex::new("^(.*)/q(.*)$", "$2$1", false).expect("a pattern")),
        Kind::Compress(Compress::new(&CompressOptions::default()).expect("options")),
        Kind::GrpcWeb(GrpcWeb::new(&origins)),
        Kind::Headers(Headers::new(&headers, &mut Vec::new()).expect("options")),
    ];
    kinds
        .into_iter()
        .map(|kind| Middleware {
            name: "m@fuzz".into(),
            kind,
        })
        .collect()
});

fuzz_target!(|data: (String, Vec<(u8, Vec<u8>)>)| {
    let (text, headers) = data;
    if let Ok(predicate) = Predicate::parse(&text) {
        predicate.holds(&Attempted {
            attempts: text.len(),
            status: 503,
            method: "GET",
        });
    }
    for (number, middleware) in KINDS.iter().enumerate() {
        let target = format!("/{}", text.trim_start_matches('/'));
        let Ok(mut request) = RequestHeader::build("OPTIONS", target.as_bytes(), None) else {
            return;
        };
        // As the proxy's own checks leave it: ASCII, and escapes that are escapes.
        if !target.is_ascii() || request.uri.path_and_query().is_none() {
            return;
        }
        for (name, value) in &headers {
            let names = [
                "Host",
                "Origin",
                "Access-Control-Request-Method",
                "Accept-Encoding",
                "Content-Type",
                "Access-Control-Request-Headers",
                "X-Forwarded-Proto",
            ];
            let name = names[usize::from(*name) % names.len()];
            if let Ok(value) = http::HeaderValue::from_bytes(value) {
                request.insert_header(name, value).expect("a header");
            }
        }
        let client = SocketAddr::from(([127, 0, 0, 1], 1));
        let seen = Seen {
            client,
            local: client,
            tls: number % 2 == 0,
            now: Instant::now(),
            bodiless: true,
            server_name: None,
            router: "r@fuzz",
            turn: 0,
            certificates: &[],
        };
        let Ok(flow) = middleware.enter(&mut request, &seen) else {
            continue;
        };
        let path = request.uri.path();
        assert!(path.starts_with('/'), "{target} became {path}");
        let strips = matches!(middleware.kind, Kind::StripPrefix(_) | Kind::StripPrefixRegex(_));
        if strips && matches!(flow, Flow::Next) && request.headers.contains_key("x-forwarded-prefix") {
            assert!(
                !path.split('/').any(|segment| matches!(segment, "." | "..")),
                "{target} became {path}"
            );
        }
    }
});
