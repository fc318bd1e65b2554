//! Middlewares that decide who may pass, through the whole data plane.

mod asking;
mod certificates;

use std::time::Duration;

use constellation_dataplane::table::Scheme;
use constellation_middleware::expression::Expression;
use constellation_middleware::{
    BasicAuth, CircuitBreaker, ClientAddress, DigestAuth, Encodable, EncodedCharacters, Identity,
    InFlightReq, IpAllowList, Kind, RateLimit, Rules, Source,
};

use super::support::{Act, Backend, Node, Plan, ok, soon};

/// A node with one back end behind these middlewares.
fn node(backend: &Backend, chain: Vec<Kind>) -> Node {
    Plan {
        chain,
        ..Plan::to(&[(Scheme::Http, backend.address)])
    }
    .start()
}

fn by_address() -> Source {
    Source::Address(ClientAddress::default())
}

/// `u` with the password `test`: a bcrypt hash of the lowest cost.
const USER: &str = "u:$2b$04$abcdefghijklmnopqrstuuoD8yw7MmybLKVooaTGGZAt3HXugv2.a";

#[tokio::test]
async fn only_who_knows_the_password_reaches_the_back_end() {
    let backend = Backend::fixed("ok").await;
    let identity = Identity::new(true, "X-WebAuth-User").unwrap();
    let (basic, warnings) = BasicAuth::new([USER].into_iter(), "", identity).unwrap();
    assert_eq!(warnings, [""; 0]);
    let node = node(&backend, vec![Kind::BasicAuth(basic)]);
    let mut client = node.connect().await;
    let refused = client.get("/").await;
    assert_eq!((refused.status, refused.text()), (401, "401 Unauthorized\n"));
    assert_eq!(
        refused.header("www-authenticate"),
        Some("Basic realm=\"traefik\"")
    );
    assert_eq!(refused.header("content-type"), Some("text/plain"));
    // `u:nope`, then `u:test` twice: once checked, once remembered. The connection goes on.
    for (credentials, status) in [("dTpub3Bl", 401), ("dTp0ZXN0", 200), ("dTp0ZXN0", 200)] {
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: Basic {credentials}\r\nX_WebAuth_User: root\r\n\r\n"
            ))
            .await;
        assert_eq!(client.response().await.status, status, "{credentials}");
    }
    let seen = backend.seen();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        assert!(seen.head.contains("\r\nX-WebAuth-User: u\r\n"), "{}", seen.head);
        assert!(seen.header("authorization").is_empty() && seen.header("x_webauth_user").is_empty());
    }
}

#[tokio::test]
async fn a_challenge_is_new_each_time() {
    let backend = Backend::fixed("ok").await;
    let user = "u:traefik:00000000000000000000000000000000";
    let (digest, _) = DigestAuth::new([user].into_iter(), "", Identity::default()).unwrap();
    let node = node(&backend, vec![Kind::DigestAuth(Box::new(digest))]);
    let mut client = node.connect().await;
    let mut challenges = Vec::new();
    for _ in 0..2 {
        let refused = client.get("/").await;
        assert_eq!((refused.status, refused.text()), (401, "401 Unauthorized\n"));
        challenges.push(refused.header("www-authenticate").unwrap().to_owned());
    }
    assert!(
        challenges[0].starts_with("Digest realm=\"traefik\", nonce=\"") && challenges[0] != challenges[1]
    );
    assert!(backend.seen().is_empty());
}

#[tokio::test]
async fn only_the_listed_addresses_pass() {
    let backend = Backend::fixed("ok").await;
    let list = IpAllowList::new(&["127.0.0.5".to_owned()], ClientAddress::default(), None).unwrap();
    let node = node(&backend, vec![Kind::IpAllowList(list)]);
    let refused = node.connect().await.get("/").await;
    assert_eq!((refused.status, refused.text()), (403, "Forbidden"));
    assert_eq!(refused.header("content-type"), None);
    assert_eq!(node.connect_from("127.0.0.5").await.get("/").await.status, 200);
    assert_eq!(backend.seen().len(), 1);
}

#[tokio::test]
async fn who_comes_too_often_is_told_when_to_come_again() {
    let backend = Backend::fixed("ok").await;
    let hourly = RateLimit::new(1, Duration::from_secs(3600), 2, by_address());
    let node = node(&backend, vec![Kind::RateLimit(hourly)]);
    let mut client = node.connect().await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(client.get("/").await.status, 200);
    let refused = client.get("/").await;
    assert_eq!((refused.status, refused.text()), (429, "Too Many Requests"));
    assert_eq!(refused.header("retry-after"), Some("3600"));
    assert!(refused.header("x-retry-in").unwrap().starts_with("59m59."));
    assert_eq!(node.connect_from("127.0.0.5").await.get("/").await.status, 200);
}

#[tokio::test]
async fn who_comes_a_little_too_early_waits() {
    let backend = Backend::fixed("ok").await;
    let limit = RateLimit::new(1, Duration::from_secs(1), 1, by_address());
    let node = node(&backend, vec![Kind::RateLimit(limit)]);
    let mut client = node.connect().await;
    assert_eq!(client.get("/").await.status, 200);
    // After half a second a request is let in to wait for the rest of it.
    soon("a second request", async {
        while client.get("/").await.status != 200 {}
    })
    .await;
    assert_eq!(backend.seen().len(), 2);
}

#[tokio::test]
async fn a_place_is_taken_until_the_request_is_over() {
    let backend = Backend::start(|number, _| match number {
        1 => Act::Hang,
        _ => Act::Send(ok(b"ok")),
    })
    .await;
    let limit = InFlightReq::new(1, by_address());
    let node = node(&backend, vec![Kind::InFlightReq(limit)]);
    let mut first = node.connect().await;
    first.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    soon("the first request", async {
        while backend.seen().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut second = node.connect().await;
    let refused = second.get("/").await;
    assert_eq!(
        (refused.status, refused.text()),
        (429, "max connections reached: 1")
    );
    drop(first);
    soon("the place", async {
        while second.get("/").await.status != 200 {}
    })
    .await;
}

/// Whoever has the whole answer may come again at once.
#[tokio::test]
async fn a_place_is_free_when_the_answer_is_there() {
    let backend = Backend::start(|number, _| match number % 3 {
        0 => Act::Send(ok(b"ok")),
        1 => Act::Send(ok(&[b'x'; 100_000])),
        _ => Act::Close,
    })
    .await;
    let node = node(
        &backend,
        vec![Kind::InFlightReq(InFlightReq::new(1, by_address()))],
    );
    let mut clients = [node.connect().await, node.connect().await];
    for number in 0..400 {
        let status = clients[number % 2].get("/").await.status;
        assert_ne!(status, 429, "request {number}");
    }
}

#[tokio::test]
async fn an_open_breaker_spares_the_back_end() {
    let backend = Backend::start(|_, _| {
        Act::Send(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno".to_vec())
    })
    .await;
    let rules = Rules {
        expression: Expression::parse("ResponseCodeRatio(500, 600, 0, 600) > 0.5").unwrap(),
        check_period: Duration::from_millis(1),
        fallback_duration: Duration::from_secs(3600),
        recovery_duration: Duration::from_secs(1),
    };
    let breaker = CircuitBreaker::new(rules, None).unwrap();
    let node = node(&backend, vec![Kind::CircuitBreaker(breaker)]);
    let mut client = node.connect().await;
    assert_eq!(client.get("/").await.status, 500);
    for _ in 0..3 {
        let answer = client.get("/").await;
        assert_eq!((answer.status, answer.text()), (503, "Service Unavailable"));
    }
    assert_eq!(backend.seen().len(), 1);
}

#[tokio::test]
async fn encoded_characters_reach_no_back_end() {
    let backend = Backend::fixed("ok").await;
    let kind = Kind::EncodedCharacters(EncodedCharacters::new(Encodable::default()));
    let node = node(&backend, vec![kind]);
    let mut client = node.connect().await;
    let refused = client.get("/a%2Fb").await;
    assert_eq!((refused.status, refused.text()), (400, ""));
    assert_eq!(client.get("/a%20b?c=%2F").await.status, 200);
    assert_eq!(backend.seen().len(), 1);
}
