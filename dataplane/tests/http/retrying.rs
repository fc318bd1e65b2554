//! Retries by status, replayed bodies, hedges, budgets, and what is left alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use constellation_dataplane::departure::{Limits, depart};
use constellation_dataplane::table::policy::{Balance, HashKey};
use constellation_dataplane::table::{AttemptOutcome, Policy, Scheme, Service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::support::{Act, Backend, Client, Node, Plan, endpoint, ok, service, soon, spec};

fn unavailable() -> Vec<u8> {
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nX-From: bad\r\n\r\nbusy".to_vec()
}

/// A service over these back ends with a policy of its own.
fn with_policy(addresses: &[SocketAddr], policy: Policy) -> Service {
    let endpoints = addresses
        .iter()
        .map(|a| endpoint(Scheme::Http, &a.ip().to_string(), a.port(), ""))
        .collect();
    let mut spec = spec("app", endpoints);
    spec.policy = Arc::new(policy);
    Service::new(spec, None)
}

fn node(addresses: &[SocketAddr], policy: Policy) -> Node {
    Plan {
        routes: vec![("PathPrefix(`/`)", with_policy(addresses, policy))],
        ..Plan::default()
    }
    .start()
}

async fn get(client: &mut Client) -> (u16, String) {
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let response = client.response().await;
    (response.status, response.text().to_owned())
}

#[tokio::test]
async fn a_503_is_tried_elsewhere_when_the_request_may_be_repeated() {
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 200),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 503),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: 1\r\nContent-Length: 3\r\n\r\nabc",
            200,
        ),
    ] {
        let bad = Backend::start(|_, _| Act::Send(unavailable())).await;
        let good = Backend::fixed("good").await;
        let node = node(&[bad.address, good.address], Policy::default());
        let mut client = node.connect().await;
        client.send(request).await;
        assert_eq!(client.response().await.status, status, "{request}");
        assert_eq!(bad.seen().len(), 1, "{request}");
        assert_eq!(good.seen().len(), usize::from(status == 200), "{request}");
    }
}

#[tokio::test]
async fn the_last_response_goes_to_the_client_as_it_is() {
    let bad = Backend::start(|_, _| Act::Send(unavailable())).await;
    let gone = Backend::start(|_, _| Act::Close).await;
    for others in [vec![], vec![bad.address], vec![gone.address]] {
        let mut addresses = vec![bad.address];
        addresses.extend(others);
        let node = node(&addresses, Policy::default());
        let mut client = node.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!((response.status, response.text()), (503, "busy"), "{addresses:?}");
        assert_eq!(response.header("x-from"), Some("bad"));
    }
}

#[tokio::test]
async fn a_status_is_retried_only_when_the_policy_says_so() {
    let forbidden = || b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec();
    let bad = Backend::start(move |_, _| Act::Send(forbidden())).await;
    let good = Backend::fixed("good").await;
    let node_as_is = node(&[bad.address, good.address], Policy::default());
    assert_eq!(get(&mut node_as_is.connect().await).await.0, 403);
    let mut policy = Policy::default();
    policy.retry.statuses.push(403);
    let node_asked = node(&[bad.address, good.address], policy);
    assert_eq!(get(&mut node_asked.connect().await).await.0, 200);
}

#[tokio::test]
async fn the_number_of_attempts_is_bounded() {
    let bad: Vec<_> = futures(5).await;
    let addresses: Vec<_> = bad.iter().map(|b| b.address).collect();
    let mut policy = Policy::default();
    policy.retry.attempts = Some(2);
    let node = node(&addresses, policy);
    assert_eq!(get(&mut node.connect().await).await.0, 503);
    assert_eq!(bad.iter().map(|b| b.seen().len()).sum::<usize>(), 2);
}

async fn futures(count: usize) -> Vec<Backend> {
    let mut made = Vec::new();
    for _ in 0..count {
        made.push(Backend::start(|_, _| Act::Send(unavailable())).await);
    }
    made
}

/// When everything fails, what is sent on top of the clients' own requests stays small.
#[tokio::test]
async fn a_storm_stays_within_the_budget() {
    let bad = futures(3).await;
    let addresses: Vec<_> = bad.iter().map(|b| b.address).collect();
    let node = node(&addresses, Policy::default());
    let mut client = node.connect().await;
    for _ in 0..200 {
        assert_eq!(get(&mut client).await, (503, "busy".to_owned()));
    }
    let sent = bad.iter().map(|b| b.seen().len()).sum::<usize>();
    assert!((200..240).contains(&sent), "{sent}");
    assert!(node.metrics().contains("constellation_retry_budget_denied_total"));
}

/// A body up to the policy's size survives the failure of a back end that has read a part of it.
#[tokio::test]
async fn a_body_is_replayed_whole_up_to_the_limit() {
    for (size, limit, status) in [
        (500_000usize, 1 << 20, 200),
        (500_000, 100_000, 502),
        (3 << 20, 4 << 20, 200),
    ] {
        let dropping = Backend::start(|_, _| Act::Close).await;
        let good = Backend::fixed("good").await;
        let mut policy = Policy::default();
        policy.retry.replay_bytes = limit;
        let node = node(&[dropping.address, good.address], policy);
        let mut client = node.connect().await;
        let body: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
        client
            .send(format!(
                "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
            ))
            .await;
        client.send(body.clone()).await;
        assert_eq!(client.response().await.status, status, "{size} {limit}");
        assert!(good.seen().iter().all(|seen| seen.body == body), "{size} {limit}");
        assert_eq!(good.seen().len(), usize::from(status == 200), "{size} {limit}");
    }
}

/// A back end that answers nobody while its sibling does: who waits there gets its answer from the sibling, and
/// nobody is sent there any more.
#[tokio::test]
async fn a_hung_endpoint_is_told_from_a_slow_one() {
    let hung = Backend::start(|_, _| Act::Hang).await;
    let good = Backend::fixed("good").await;
    let node = Arc::new(node(&[hung.address, good.address], Policy::default()));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let node = node.clone();
        clients.spawn(async move {
            let mut client = node.connect().await;
            for _ in 0..20 {
                assert_eq!(get(&mut client).await, (200, "good".to_owned()));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    soon("all answers", clients.join_all()).await;
    assert!(hung.seen().len() <= 16, "{}", hung.seen().len());
    assert!(node.metrics().contains("outcome=\"won\""));
}

/// It makes no difference that it has answered before, also to requests that came in meanwhile.
#[tokio::test]
async fn an_endpoint_that_hangs_after_good_work_loses_nothing() {
    let hanging = Backend::start(|number, _| {
        if number <= 60 {
            std::thread::sleep(Duration::from_millis(5));
            Act::Send(ok(b"good"))
        } else {
            Act::Hang
        }
    })
    .await;
    let good = Backend::fixed("good").await;
    let node = Arc::new(node(&[hanging.address, good.address], Policy::default()));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let node = node.clone();
        clients.spawn(async move {
            let mut client = node.connect().await;
            for _ in 0..40 {
                assert_eq!(get(&mut client).await, (200, "good".to_owned()));
            }
        });
    }
    soon("all answers", clients.join_all()).await;
    assert!(hanging.seen().len() > 60);
}

/// Requests that wait alone are slow, not lost: nothing is sent twice.
#[tokio::test]
async fn a_slow_request_is_left_alone() {
    let slow = Backend::start(|_, _| {
        std::thread::sleep(Duration::from_millis(1500));
        Act::Send(ok(b"slow"))
    })
    .await;
    let other = Backend::fixed("other").await;
    let node = node(&[slow.address, other.address], Policy::default());
    let mut client = node.connect().await;
    assert_eq!(get(&mut client).await, (200, "slow".to_owned()));
    assert!(other.seen().is_empty());
}

/// A back end that takes this long to answer `path`, and answers anything else at once.
async fn slow_at(path: &'static str, milliseconds: u64) -> Backend {
    Backend::start(move |_, seen| match seen.head.starts_with(path) {
        true => Act::SendLater(Duration::from_millis(milliseconds), ok(b"done")),
        false => Act::Send(ok(b"done")),
    })
    .await
}

/// All endpoints are slow, and one is slower: its answers come after those of the others, and it is sound.
#[tokio::test]
async fn a_slow_service_has_no_hung_endpoint() {
    let (slow, slower) = (slow_at("GET /", 600).await, slow_at("GET /", 900).await);
    let node = Arc::new(node(&[slow.address, slower.address], Policy::default()));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let node = node.clone();
        clients.spawn(async move {
            let mut client = node.connect().await;
            for _ in 0..2 {
                assert_eq!(get(&mut client).await.0, 200);
            }
        });
    }
    soon("all answers", clients.join_all()).await;
    assert_eq!(slow.seen().len() + slower.seen().len(), 16);
    let metrics = node.metrics();
    assert!(!metrics.contains("to=\"ejected\""), "{metrics}");
}

/// Where clients stay at their endpoints, nobody else may ask the one that has a long request. That it has given no
/// answer meanwhile says nothing.
#[tokio::test]
async fn one_slow_request_puts_no_endpoint_aside() {
    let (one, other) = (slow_at("GET /slow", 1500).await, slow_at("GET /slow", 1500).await);
    let policy = Policy {
        balance: Balance::Hash {
            key: HashKey::Header("x-key".parse().unwrap()),
            bound: None,
        },
        ..Policy::default()
    };
    let node = node(&[one.address, other.address], policy);
    let mut client = node.connect().await;
    let request = |path: &str, key: usize| format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n");
    let mut keys = [None, None];
    for key in 0..100 {
        let before = one.seen().len();
        client.send(request("/", key)).await;
        assert_eq!(client.response().await.status, 200);
        keys[one.seen().len() - before] = Some(key);
    }
    let (of_other, of_one) = (keys[0].unwrap(), keys[1].unwrap());
    let mut slow = node.connect().await;
    slow.send(request("/slow", of_one)).await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.send(request("/", of_other)).await;
        assert_eq!(client.response().await.status, 200);
    }
    assert_eq!(slow.response().await.status, 200);
    let metrics = node.metrics();
    assert!(!metrics.contains("to=\"ejected\""), "{metrics}");
}

/// A request that was decided when the only endpoint had not left yet is served by it as long as it is there.
#[tokio::test]
async fn who_has_no_other_endpoint_gets_the_last_word_of_one_that_left() {
    let limits = Limits {
        requests: Duration::from_secs(60),
        upgraded: Duration::from_secs(60),
    };
    let backend = Backend::fixed("ok").await;
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    for (address, expected) in [(backend.address, 200), (nobody, 503)] {
        let service = service("app", &[(Scheme::Http, address)]);
        let live = service.endpoints[0].live.clone();
        let node = Plan {
            routes: vec![("PathPrefix(`/`)", service)],
            ..Plan::default()
        }
        .start();
        depart(&live, limits);
        let mut client = node.connect().await;
        assert_eq!(client.get("/").await.status, expected, "{address}");
    }
}

/// Nobody asks an endpoint that leaves, so its silence says nothing: what it has begun it may finish.
#[tokio::test]
async fn a_slow_request_at_an_endpoint_that_leaves_is_left_alone() {
    let slow = slow_at("GET /", 1500).await;
    let other = Backend::fixed("other").await;
    let service = with_policy(&[slow.address, other.address], Policy::default());
    let leaving = service.endpoints[0].live.clone();
    let node = Plan {
        routes: vec![("PathPrefix(`/`)", service)],
        ..Plan::default()
    }
    .start();
    let mut client = node.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    soon("the request", async {
        while slow.seen().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let limit = Duration::from_secs(30);
    depart(
        &leaving,
        Limits {
            requests: limit,
            upgraded: limit,
        },
    );
    assert_eq!(client.response().await.text(), "done");
    assert!(other.seen().is_empty());
}

/// No connection is lost to a response that was left for another one.
#[tokio::test]
async fn the_connection_of_a_failed_attempt_is_used_again() {
    let bad = Backend::start(|_, _| Act::Send(unavailable())).await;
    let good = Backend::fixed("good").await;
    let mut policy = Policy::default();
    policy.breaker.consecutive_failures = None;
    policy.outlier.error_rate = None;
    let node = node(&[bad.address, good.address], policy);
    let mut client = node.connect().await;
    for _ in 0..20 {
        assert_eq!(get(&mut client).await, (200, "good".to_owned()));
    }
    assert_eq!(bad.connections(), 1);
    assert!(bad.seen().len() >= 5);
}

/// A request that could have been the probe of several endpoints is the probe of the one that answers, however long
/// that takes; the others are free.
#[tokio::test]
async fn a_long_response_keeps_no_probe_of_others() {
    let endless = || b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".to_vec();
    let mut policy = Policy::default();
    policy.panic.threshold = 0;
    policy.outlier.ejection = Duration::from_millis(1);
    let (first, second) = (
        Backend::start(move |_, _| Act::Send(endless())).await,
        Backend::start(move |_, _| Act::Send(endless())).await,
    );
    let service = with_policy(&[first.address, second.address], policy);
    for endpoint in &service.endpoints {
        service.record(endpoint, AttemptOutcome::ConnectFailed, std::time::Instant::now());
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let node = Plan {
        routes: vec![("PathPrefix(`/`)", service)],
        ..Plan::default()
    }
    .start();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = node.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response_head().await.status, 200);
        clients.push(client);
    }
    assert_eq!((first.seen().len(), second.seen().len()), (1, 1));
}

/// An HTTP/2 back end that ends every connection in this way once it has the head of a request. Counts requests.
async fn h2_backend(last_words: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests: Arc<AtomicUsize> = Arc::default();
    let count = requests.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                // Our settings, all by default.
                socket.write_all(b"\0\0\0\x04\0\0\0\0\0").await?;
                let mut preface = [0; 24];
                socket.read_exact(&mut preface).await?;
                loop {
                    let mut frame = [0; 9];
                    socket.read_exact(&mut frame).await?;
                    let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
                    let mut payload = vec![0; usize::try_from(length).unwrap()];
                    socket.read_exact(&mut payload).await?;
                    if frame[3] == 1 {
                        count.fetch_add(1, Ordering::SeqCst);
                        socket.write_all(last_words).await?;
                        // Read on, so that what was said is not lost to a reset.
                        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await?;
                        return std::io::Result::Ok(());
                    }
                }
            });
        }
    });
    (address, requests)
}

/// Over HTTP/2 a POST is sent again only after the back end has said that it did nothing.
#[tokio::test]
async fn a_post_is_not_sent_again_after_a_broken_http2_connection() {
    // DATA on stream 0: the connection is broken off with an error that is ours.
    let broken: &[u8] = b"\0\0\0\0\0\0\0\0\0";
    // GOAWAY for what is above stream 1, and RST_STREAM of stream 1: internal error.
    let reset: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x04\x03\0\0\0\0\x01\0\0\0\x02";
    // GOAWAY with an error.
    let error: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x02";
    // GOAWAY for all streams, without an error; RST_STREAM: refused.
    let goaway: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let refused: &[u8] = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07";
    for (name, last_words, again) in [
        ("broken", broken, false),
        ("reset", reset, false),
        ("error", error, false),
        ("goaway", goaway, true),
        ("refused", refused, true),
    ] {
        let (bad, requests) = h2_backend(last_words).await;
        let (good, others) = h2_backend(b"\0\0\x01\x01\x05\0\0\0\x01\x88").await;
        let node = Plan::to(&[(Scheme::H2c, bad), (Scheme::H2c, good)]).start();
        let mut client = node.connect().await;
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            .await;
        let status = client.response_head().await.status;
        assert_eq!(status, if again { 200 } else { 502 }, "{name}");
        assert_eq!(requests.load(Ordering::SeqCst), 1, "{name}");
        assert_eq!(others.load(Ordering::SeqCst), usize::from(again), "{name}");
    }
}

/// Whatever is the end of a request has its reason in the metrics, and an attempt that failed has its own.
#[tokio::test]
async fn what_was_not_tried_again_is_counted_by_its_reason() {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let put = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let with = |change: fn(&mut Policy)| {
        let mut policy = Policy::default();
        change(&mut policy);
        policy
    };
    let broken_off = || b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec();
    type Answer = fn() -> Act;
    let bad: Answer = || Act::Send(unavailable());
    let silent: Answer = || Act::Hang;
    for (request, answer, others, policy, refused, failed) in [
        (post, bad, true, Policy::default(), "unrepeatable", Some("status")),
        (
            post,
            || Act::Close,
            true,
            Policy::default(),
            "unrepeatable",
            Some("closed"),
        ),
        (
            put,
            bad,
            true,
            with(|p| p.retry.replay_bytes = 2),
            "body",
            Some("status"),
        ),
        (
            get,
            bad,
            true,
            with(|p| p.retry.attempts = Some(1)),
            "attempts",
            Some("status"),
        ),
        (get, bad, false, Policy::default(), "candidates", Some("status")),
        (
            get,
            silent,
            false,
            with(|p| p.retry.total = Some(Duration::from_millis(50))),
            "deadline",
            None,
        ),
        (
            get,
            silent,
            false,
            with(|p| p.retry.per_try = Some(Duration::from_millis(50))),
            "candidates",
            Some("timeout"),
        ),
    ] {
        let backend = Backend::start(move |_, _| answer()).await;
        let good = Backend::fixed("good").await;
        let mut addresses = vec![backend.address];
        addresses.extend(others.then_some(good.address));
        let node = node(&addresses, policy);
        let mut client = node.connect().await;
        client.send(request).await;
        assert!(client.response().await.status >= 502, "{refused}");
        let metrics = node.metrics();
        let count =
            format!("constellation_retries_refused_total{{service=\"app\",reason=\"{refused}\"}} 1\n");
        assert!(metrics.contains(&count), "{request:?} {refused}\n{metrics}");
        let failures = |reason: &str| metrics.contains(&format!(",reason=\"{reason}\"}} 1\n"));
        assert!(failed.is_none_or(failures), "{request:?} {failed:?}\n{metrics}");
    }
    let backend = Backend::start(move |_, _| Act::SendAndClose(broken_off())).await;
    let good = Backend::fixed("good").await;
    let node = node(&[backend.address, good.address], Policy::default());
    let mut client = node.connect().await;
    client.send(get).await;
    assert_eq!(client.response_head().await.status, 200);
    assert_eq!(client.rest().await, b"abc");
    let metrics = node.metrics();
    for line in [
        "constellation_retries_refused_total{service=\"app\",reason=\"answered\"} 1\n",
        ",reason=\"closed\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

/// A second attempt beside the first one that fails is lost, however the request ends.
#[tokio::test]
async fn a_hedge_that_fails_is_counted() {
    // Enough to know what is usual.
    const USUAL: usize = 30;
    let slow = Backend::start(|number, _| match number > USUAL {
        true => Act::SendLater(Duration::from_millis(500), ok(b"good")),
        false => Act::Send(ok(b"good")),
    })
    .await;
    let other = Backend::start(|number, _| match number > USUAL {
        true => Act::Close,
        false => Act::Send(ok(b"good")),
    })
    .await;
    let mut policy = Policy::default();
    policy.hedge.percentile = Some(90);
    policy.hedge.min_delay = Duration::from_millis(100);
    let node = node(&[slow.address, other.address], policy);
    let mut client = node.connect().await;
    for _ in 0..2 * USUAL + 1 {
        assert_eq!(get(&mut client).await, (200, "good".to_owned()));
    }
    assert_eq!(other.seen().len(), USUAL + 1);
    let lost = "constellation_hedges_total{service=\"app\",outcome=\"lost\"} 1\n";
    assert!(node.metrics().contains(lost), "{}", node.metrics());
}
