//! What clients send to prove who they are: whatever it is, nobody passes who does not know a password or comes from
//! elsewhere, and nothing that a client says of its certificate reaches a service.
#![no_main]

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use constellation_middleware::{
    Ask, BasicAuth, CertificateInfo, ClientAddress, DigestAuth, Flow, Identity, IpAllowList, Kind,
    Middleware, NameParts, PassClientCertificate, RateLimit, Seen, Source,
};
use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use pingora_http::RequestHeader;

static KINDS: LazyLock<Vec<Middleware>> = LazyLock::new(|| {
    // Hashes of nothing that can be typed.
    let sha = ["u:{SHA}AAAAAAAAAAAAAAAAAAAAAAAAAAA="].into_iter();
    let md5 = ["u:traefik:00000000000000000000000000000000"].into_iter();
    let identity = || Identity::new(true, "X-User").expect("a name");
    let list = |depth, excluded: &[&str]| {
        let excluded: Vec<String> = excluded.iter().map(|&range| range.to_owned()).collect();
        let client = ClientAddress::new(depth, &excluded, Some(64)).expect("options");
        Kind::IpAllowList(IpAllowList::new(&["192.0.2.77".to_owned()], client, None).expect("options"))
    };
    let parts = NameParts {
        domain_component: true,
        country: true,
        common_name: true,
        ..NameParts::default()
    };
    let kinds = [
        Kind::BasicAuth(BasicAuth::new(sha, "", identity()).expect("users").0),
        Kind::DigestAuth(Box::new(DigestAuth::new(md5, "", identity()).expect("users").0)),
        list(0, &[]),
        list(2, &[]),
        list(0, &["10.0.0.0/8"]),
        Kind::RateLimit(RateLimit::new(
            1,
            Duration::from_secs(1),
            1,
            Source::Address(ClientAddress::new(1, &[], Some(64)).expect("options")),
        )),
        Kind::PassTlsClientCert(PassClientCertificate {
            pem: true,
            info: Some(CertificateInfo {
                subject: Some(parts),
                issuer: Some(parts),
                serial_number: true,
                not_before: true,
                not_after: true,
                sans: true,
            }),
        }),
    ];
    kinds
        .into_iter()
        .map(|kind| Middleware {
            name: "m@fuzz".into(),
            kind,
        })
        .collect()
});

fuzz_target!(|input: (Vec<u8>, Vec<u8>, Vec<u8>)| {
    let (authorization, forwarded, certificate) = input;
    let mut request = RequestHeader::build("GET", b"/", None).expect("a head");
    for (name, value) in [("Authorization", &authorization), ("X-Forwarded-For", &forwarded)] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            request.append_header(name, value).expect("a header");
        }
    }
    request
        .append_header("X-Forwarded-Tls-Client-Cert-Info", "evil")
        .expect("a header");
    let certificates = [certificate.into_boxed_slice()];
    let seen = Seen {
        client: SocketAddr::from(([127, 0, 0, 1], 1)),
        local: SocketAddr::from(([127, 0, 0, 1], 80)),
        tls: true,
        now: Instant::now(),
        bodiless: true,
        server_name: None,
        router: "r@fuzz",
        turn: 0,
        certificates: &certificates,
    };
    for middleware in KINDS.iter() {
        let mut request = request.clone();
        let flow = middleware.enter(&mut request, &seen);
        match (&middleware.kind, flow) {
            (Kind::BasicAuth(_), Ok(Flow::Ask(Ask::Verify(verify)))) => assert!(!verify.work()()),
            (Kind::BasicAuth(_) | Kind::DigestAuth(_), flow) => assert!(matches!(flow, Ok(Flow::Answer(_)))),
            (Kind::IpAllowList(_), Ok(Flow::Next)) => {
                assert!(forwarded.windows(10).any(|text| text == b"192.0.2.77") || forwarded.contains(&b':'));
            }
            (Kind::PassTlsClientCert(_), Ok(_)) => {
                assert!(request.headers.values().all(|value| value.as_bytes() != b"evil"));
            }
            _ => {}
        }
    }
});
