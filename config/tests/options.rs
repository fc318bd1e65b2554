//! Options of services that Traefik has not: what is read, in which layers, and the exact text of every refusal.

use std::path::Path;
use std::time::Duration;

use constellation_config::dynamic::{
    Algorithm, Bytes, HealthCheckOptions, Layered as _, RetryOptions, ServiceOptions, Time,
    options_from_labels, parse,
};
use constellation_config::{ConfigErrors, Format};
use serde_json::json;

fn yaml(options: &str) -> Result<ServiceOptions, ConfigErrors> {
    let text = format!("constellation: {{http: {{services: {{s: {options}}}}}}}");
    let read = parse(&text, Format::Yaml, Path::new("d.yaml"))?;
    Ok(ServiceOptions::clone(&read.constellation.http.services["s"]))
}

#[test]
fn numbers_words_sizes_and_switches_are_read_as_people_write_them() {
    let read = yaml(
        "{BALANCE: {algorithm: LEASTREQUESTS}, breaker: false, retry: {attempts: '3', statuses: '500, 503', replayBytes: 64kib}, slowStart: 5}",
    )
    .unwrap();
    assert_eq!(read.balance.unwrap().algorithm, Some(Algorithm::LeastRequests));
    assert_eq!(read.breaker.unwrap().enabled, Some(false));
    let retry = read.retry.unwrap();
    assert_eq!(retry.attempts, Some(3));
    assert_eq!(retry.statuses, Some(vec![500, 503]));
    assert_eq!(retry.replay_bytes, Some(Bytes(65_536)));
    assert_eq!(read.slow_start, Some(Time(Duration::from_secs(5))));
    assert_eq!(read.outlier, None);
}

#[test]
fn refusals_name_the_key_the_value_and_what_would_be_right() {
    let table = [
        (
            "{retry: {statuses: [503, 404]}}",
            "constellation.http.services.s.retry.statuses[1]: is not a status that can be tried again\n    value: 404\n    expected: 403, 429, or a status from 500 to 599; any other 4xx tells the client about its own request, which another server would answer alike",
        ),
        (
            "{retry: {atempts: 3}}",
            "constellation.http.services.s.retry.atempts: unknown key\n    expected: one of attempts, backoff, budgetMin, budgetPercent, enabled, idempotencyKey, maxBackoff, perTryTimeout, replayBytes, statuses, timeout\n    hint: did you mean `attempts`?",
        ),
        (
            "{retry: {attempts: 17}}",
            "constellation.http.services.s.retry.attempts: is out of range\n    value: 17\n    expected: a whole number from 0 to 16",
        ),
        (
            "{retry: {replayBytes: 2GiB}}",
            "constellation.http.services.s.retry.replayBytes: is out of range\n    value: \"2GiB\"\n    expected: a number of bytes up to 1GiB, such as 64KiB or 65536",
        ),
        (
            "{retry: {replayBytes: much}}",
            "constellation.http.services.s.retry.replayBytes: is not a number of bytes\n    value: \"much\"\n    expected: a number of bytes up to 1GiB, such as 64KiB or 65536",
        ),
        (
            "{breaker: {open: 2h}}",
            "constellation.http.services.s.breaker.open: is out of range\n    value: \"2h\"\n    expected: a duration from 100ms to 1h",
        ),
        (
            "{breaker: {open: soon}}",
            "constellation.http.services.s.breaker.open: is not a duration\n    value: \"soon\"\n    expected: a duration from 100ms to 1h",
        ),
        (
            "{balance: {algorithm: random}}",
            "constellation.http.services.s.balance.algorithm: is not one of the allowed words\n    value: \"random\"\n    expected: one of roundRobin, leastRequests, leastTime, hash",
        ),
        (
            "{balance: {hash: path}}",
            "constellation.http.services.s.balance.hash: is not a key to hash by\n    value: \"path\"\n    expected: client, header:NAME or cookie:NAME",
        ),
        (
            "{balance: {bound: 90}}",
            "constellation.http.services.s.balance.bound: is not a bound of load\n    value: 90\n    expected: a whole number from 101 to 1000, or 0 for none",
        ),
        (
            "{hedge: {percentile: 20}}",
            "constellation.http.services.s.hedge.percentile: is not a percentile that can trigger a second attempt\n    value: 20\n    expected: a whole number from 50 to 99, or 0 for none",
        ),
        (
            "{healthCheck: {method: G T}}",
            "constellation.http.services.s.healthCheck.method: is not a request method\n    value: \"G T\"\n    expected: a method such as GET or HEAD",
        ),
        (
            "{panicThreshold: 101}",
            "constellation.http.services.s.panicThreshold: is out of range\n    value: 101\n    expected: a whole number from 0 to 100",
        ),
        (
            "{retrys: {attempts: 3}}",
            "constellation.http.services.s.retrys: unknown key\n    expected: one of balance, breaker, drain, healthCheck, hedge, limits, outlier, panicThreshold, retry, slowStart\n    hint: did you mean `retry`?",
        ),
    ];
    for (options, expected) in table {
        let errors = yaml(options).expect_err(options);
        let shown = errors.to_string();
        let (place, said) = shown.split_once(": ").unwrap();
        assert!(place.starts_with("d.yaml:1:"), "{place}");
        assert_eq!(said, expected, "of {options}");
    }
}

#[test]
fn a_wrong_label_costs_nothing_but_itself() {
    let read = options_from_labels(
        json!({"http": {"services": {"App": {"retry": {"attempts": "2", "timeout": "soon"},
        "breaker": "false", "nope": "1"}}}, "htpp": "x"}),
    );
    let options = &read.options.http.services["App"];
    let retry = options.retry.as_ref().unwrap();
    assert_eq!((retry.attempts, retry.timeout), (Some(2), None));
    assert_eq!(options.breaker.as_ref().unwrap().enabled, Some(false));
    let errors: Vec<String> = read.errors.iter().map(ToString::to_string).collect();
    let starts = [
        "label constellation.htpp: unknown key\n    expected: one of http, tcp, udp\n    hint: did you mean `http`?",
        "label constellation.http.services.App.nope: unknown key\n    expected: one of balance,",
        "label constellation.http.services.App.retry.timeout: is not a duration\n    value: \"soon\"\n    expected: a duration from 0s to 24h",
    ];
    for start in starts {
        assert!(
            errors.iter().any(|error| error.starts_with(start)),
            "{start}: {errors:#?}"
        );
    }
    assert_eq!(errors.len(), starts.len());
}

#[test]
fn layers_fill_each_others_gaps() {
    let above = ServiceOptions {
        retry: Some(RetryOptions {
            attempts: Some(2),
            ..RetryOptions::default()
        }),
        ..ServiceOptions::default()
    };
    let below = ServiceOptions {
        retry: Some(RetryOptions {
            attempts: Some(5),
            budget_min: Some(7),
            ..RetryOptions::default()
        }),
        health_check: Some(HealthCheckOptions::default()),
        ..ServiceOptions::default()
    };
    let both = above.over(&below);
    let retry = both.retry.unwrap();
    assert_eq!((retry.attempts, retry.budget_min), (Some(2), Some(7)));
    assert_eq!(both.health_check, below.health_check);
    let complete = serde_json::to_value(ServiceOptions::built_in()).unwrap();
    assert_eq!(
        serde_json::to_value(ServiceOptions::default().over(&ServiceOptions::built_in())).unwrap(),
        complete
    );
    assert!(!complete.to_string().contains("null"), "{complete}");
}
