use std::path::Path;

use constellation_config::Format;
use constellation_config::dynamic::{self, Layered as _};

use super::*;

/// The policy that the options of a service, as written in a file, give over the defaults.
fn of(yaml: &str) -> (Policy, Vec<String>) {
    let text = format!("constellation: {{http: {{services: {{s: {yaml}}}}}}}");
    let dynamic = dynamic::parse(&text, Format::Yaml, Path::new("d.yaml")).unwrap();
    let options = &dynamic.constellation.http.services["s"];
    let mut warnings = Vec::new();
    let policy = policy(&options.over(&ServiceOptions::built_in()), &mut warnings);
    (policy, warnings)
}

#[test]
fn the_built_in_options_are_the_default_policy() {
    let mut warnings = Vec::new();
    assert_eq!(
        policy(&ServiceOptions::built_in(), &mut warnings),
        Policy::default()
    );
    assert_eq!(
        policy(&ServiceOptions::default(), &mut warnings),
        Policy::default()
    );
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn every_option_arrives() {
    let seconds = Duration::from_secs;
    type Expect = fn(&mut Policy);
    let table: &[(&str, Expect)] = &[
        ("{balance: {algorithm: leastRequests}}", |p| {
            p.balance = policy::Balance::LeastRequests;
        }),
        ("{balance: {algorithm: LEASTTIME}}", |p| {
            p.balance = policy::Balance::LeastTime;
        }),
        (
            "{balance: {algorithm: hash, hash: 'header:X-User', bound: 150}}",
            |p| {
                p.balance = policy::Balance::Hash {
                    key: HashKey::Header(HeaderName::from_static("x-user")),
                    bound: Some(150),
                };
            },
        ),
        ("{balance: {algorithm: hash, hash: 'cookie:sid'}}", |p| {
            p.balance = policy::Balance::Hash {
                key: HashKey::Cookie("sid".into()),
                bound: None,
            };
        }),
        ("{breaker: false}", |p| p.breaker.consecutive_failures = None),
        (
            "{breaker: {consecutiveFailures: 3, open: 5s, successes: 1}}",
            |p| {
                p.breaker.consecutive_failures = Some(3);
                p.breaker.open = Duration::from_secs(5);
                p.breaker.successes = 1;
            },
        ),
        ("{breaker: {errorRate: {enabled: true, percent: 30}}}", |p| {
            p.breaker.error_rate = Some(policy::ErrorRate {
                percent: 30,
                ..policy::ErrorRate::default()
            });
        }),
        ("{drain: {requests: 5, upgraded: 1h}}", |p| {
            p.drain.requests = Duration::from_secs(5);
            p.drain.upgraded = Duration::from_secs(3600);
        }),
        ("{hedge: {percentile: 95, minDelay: 20ms}}", |p| {
            p.hedge.percentile = Some(95);
            p.hedge.min_delay = Duration::from_millis(20);
        }),
        ("{hedge: false}", |p| p.hedge.unanswered = false),
        (
            "{limits: {maxInFlight: 10, queue: 0, queueTimeout: 1s, maxBodyBytes: 10MiB}}",
            |p| {
                p.limits.max_in_flight = Some(10);
                p.limits.queue = 0;
                p.limits.queue_timeout = Duration::from_secs(1);
                p.limits.max_body_bytes = Some(10 << 20);
            },
        ),
        ("{outlier: false}", |p| {
            p.outlier.connect_failures = false;
            p.outlier.error_rate = None;
            p.outlier.unanswered = false;
        }),
        (
            "{outlier: {consecutiveFailures: 2, failureWindow: 3s, ejection: 2m}}",
            |p| {
                p.outlier.consecutive_failures = Some(2);
                p.outlier.failure_window = Some(Duration::from_secs(3));
                p.outlier.ejection = Duration::from_secs(120);
                p.outlier.max_ejection = Duration::from_secs(120);
            },
        ),
        (
            "{outlier: {errorRate: {window: 1m, minRequests: 5}, connectFailures: false}}",
            |p| {
                p.outlier.connect_failures = false;
                p.outlier.error_rate = Some(policy::ErrorRate {
                    window: Duration::from_secs(60),
                    min_requests: 5,
                    ..policy::ErrorRate::default()
                });
            },
        ),
        ("{outlier: {errorRate: false, unanswered: false}}", |p| {
            p.outlier.error_rate = None;
            p.outlier.unanswered = false;
        }),
        ("{panicThreshold: 50, slowStart: 0}", |p| {
            p.panic.threshold = 50;
            p.slow_start.window = Duration::ZERO;
        }),
        ("{retry: false}", |p| p.retry.attempts = Some(1)),
        (
            "{retry: {attempts: 3, statuses: [500, 429, 403], replayBytes: 64KiB, idempotencyKey: false}}",
            |p| {
                p.retry.attempts = Some(3);
                p.retry.statuses = [500, 429, 403].into_iter().collect();
                p.retry.replay_bytes = 65_536;
                p.retry.idempotency_key = false;
            },
        ),
        (
            "{retry: {perTryTimeout: 2s, timeout: 10s, backoff: 1s, budgetPercent: 20, budgetMin: 10}}",
            |p| {
                p.retry.per_try = Some(Duration::from_secs(2));
                p.retry.total = Some(Duration::from_secs(10));
                p.retry.backoff = Duration::from_secs(1);
                p.retry.max_backoff = Duration::from_secs(1);
                p.retry.budget_percent = 20;
                p.retry.budget_min = 10;
            },
        ),
        ("{retry: {statuses: ''}}", |p| p.retry.statuses.clear()),
    ];
    for (text, change) in table {
        let mut expected = Policy::default();
        change(&mut expected);
        assert_ne!(expected, Policy::default(), "{text}");
        let (policy, warnings) = of(text);
        assert_eq!(policy, expected, "{text}");
        assert_eq!(warnings, Vec::<String>::new(), "{text}");
    }
    let (policy, _) = of(
        "{healthCheck: {enabled: true, mode: tcp, port: 81, interval: 2s, healthyThreshold: 2,
        unhealthyThreshold: 4, timeout: 1s}}",
    );
    let check = policy.health_check.unwrap();
    assert_eq!((check.mode, check.port), (policy::CheckMode::Tcp, Some(81)));
    assert_eq!(
        (check.interval, check.unhealthy_interval, check.timeout),
        (seconds(2), seconds(2), seconds(1))
    );
    assert_eq!((check.healthy_threshold, check.unhealthy_threshold), (2, 4));
}

#[test]
fn checks_that_cannot_be_made_are_not_made_and_said() {
    for (options, expected) in [
        (
            "{enabled: true, path: 'http://x/h'}",
            Err("healthCheck.path \"http://x/h\" names a host"),
        ),
        ("{enabled: true, path: '//x/h'}", Err("names a host")),
        ("{enabled: true, path: '/a b'}", Err("is not a path")),
        ("{enabled: true, path: 'h?a=b'}", Ok("/h?a=b")),
        ("{enabled: true}", Ok("/")),
        ("{enabled: true, mode: grpc, path: my.Service}", Ok("my.Service")),
    ] {
        let (policy, warnings) = of(&format!("{{healthCheck: {options}}}"));
        match expected {
            Ok(path) => {
                assert_eq!(&*policy.health_check.unwrap().path, path, "{options}");
                assert_eq!(warnings, Vec::<String>::new(), "{options}");
            }
            Err(words) => {
                assert_eq!(policy.health_check, None, "{options}");
                assert!(warnings[0].contains(words), "{options}: {warnings:?}");
            }
        }
    }
    let (policy, warnings) =
        of("{healthCheck: {enabled: true, hostname: 'a b', headers: {'A b': x, X-Ok: y}}}");
    let check = policy.health_check.unwrap();
    assert_eq!(
        (check.hostname, check.headers.len(), warnings.len()),
        (None, 1, 2)
    );
}
