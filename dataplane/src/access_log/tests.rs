//! Lines exactly as they are written, and what happens when they can't be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use http::header::{self, HeaderMap, HeaderValue};
use prometheus_client::metrics::counter::Counter;

use super::*;

fn record() -> Record {
    Record {
        start: UNIX_EPOCH + Duration::new(1_795_255_323, 4),
        duration: Duration::from_micros(12_345),
        origin_duration: Duration::from_micros(12_000),
        client: "192.0.2.7:50000".parse().unwrap(),
        username: None,
        entry_point: "websecure".into(),
        method: http::Method::GET,
        target: "/a%20b?token=secret".into(),
        host: "app.example.test:8443".into(),
        version: http::Version::HTTP_2,
        status: 200,
        origin_status: Some(200),
        request_bytes: 0,
        response_bytes: 17,
        origin_bytes: 17,
        router: Some("app@docker".into()),
        service: Some("app@docker".into()),
        endpoint: Some("app-1".into()),
        endpoint_url: Some("http://10.0.0.2:80".into()),
        retries: 1,
        attempts: Default::default(),
        tls: Some(TlsDetails {
            version: "1.3",
            cipher: "TLS_AES_256_GCM_SHA384",
            client_subject: None,
        }),
        request_headers: Headers::default(),
        response_headers: Headers::default(),
    }
}

/// Lines as they are written to a file with `settings`, after `use_log` ran.
fn written(settings: Settings, use_log: impl FnOnce(&AccessLog)) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let settings = Settings {
        file: Some(path.clone()),
        ..settings
    };
    let (log, writer) = AccessLog::start(settings, Counter::default()).unwrap();
    use_log(&log);
    assert!(writer.stop(Duration::from_secs(60)));
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn log_one(log: &AccessLog, record: Record) {
    assert!(log.wants(record.status, record.duration, record.retries));
    log.record(record);
}

fn modes(default: FieldMode, named: &[(&str, FieldMode)]) -> Modes {
    Modes {
        default,
        named: named
            .iter()
            .map(|(name, mode)| ((*name).to_owned(), *mode))
            .collect::<BTreeMap<_, _>>(),
    }
}

#[test]
fn json_has_traefiks_fields() {
    let settings = Settings {
        format: Format::Json,
        ..Settings::default()
    };
    let lines = written(settings, |log| log_one(log, record()));
    let expected = concat!(
        r#"{"ClientAddr":"192.0.2.7:50000","ClientHost":"192.0.2.7","ClientPort":"50000","ClientUsername":"-","#,
        r#""DownstreamContentSize":17,"DownstreamStatus":200,"Duration":12345000,"EndpointName":"app-1","#,
        r#""OriginContentSize":17,"OriginDuration":12000000,"OriginStatus":200,"Overhead":345000,"#,
        r#""RequestAddr":"app.example.test:8443","RequestContentSize":0,"RequestCount":1,"#,
        r#""RequestHost":"app.example.test","RequestMethod":"GET","RequestPath":"/a%20b?token=secret","#,
        r#""RequestPort":"8443","RequestProtocol":"HTTP/2.0","RequestScheme":"https","RetryAttempts":1,"#,
        r#""RouterName":"app@docker","ServiceAddr":"10.0.0.2:80","ServiceName":"app@docker","#,
        r#""ServiceURL":"http://10.0.0.2:80","StartUTC":"2026-11-21T10:02:03.000000004Z","#,
        r#""TLSCipher":"TLS_AES_256_GCM_SHA384","TLSVersion":"1.3","entryPointName":"websecure","level":"info","#,
        r#""msg":"","time":"2026-11-21T10:02:03Z"}"#,
    );
    assert_eq!(lines, [expected]);
}

#[test]
fn common_formats() {
    let start =
        r#"192.0.2.7 - - [21/Nov/2026:10:02:03 +0000] "GET /a%20b?token=secret HTTP/2.0" 200 17 "-" "-""#;
    let cases = [
        (Format::GenericClf, start.to_owned()),
        (
            Format::Common,
            format!(r#"{start} 1 "app@docker" "http://10.0.0.2:80" 12ms"#),
        ),
    ];
    for (format, expected) in cases {
        let settings = Settings {
            format,
            ..Settings::default()
        };
        assert_eq!(written(settings, |log| log_one(log, record())), [expected]);
    }
}

#[test]
fn attempts_are_listed_when_there_were_several() {
    use crate::metrics::EndpointFailure;
    let attempt = |endpoint: &str, outcome, millis| AttemptLine {
        endpoint: endpoint.into(),
        outcome,
        duration: Duration::from_millis(millis),
    };
    let tried = || Record {
        attempts: [
            attempt("app-\"1", AttemptOutcome::Failed(EndpointFailure::Connect), 1),
            attempt("app-2", AttemptOutcome::Abandoned, 8),
            attempt("app-3", AttemptOutcome::Status(200), 3),
        ]
        .into_iter()
        .collect(),
        retries: 2,
        ..record()
    };
    let list = concat!(
        r#"{"Attempts":[{"EndpointName":"app-\"1","Failure":"connect","Duration":1000000},"#,
        r#"{"EndpointName":"app-2","Failure":"abandoned","Duration":8000000},"#,
        r#"{"EndpointName":"app-3","Status":200,"Duration":3000000}],"ClientAddr":"#,
    );
    let cases = [
        (Format::Json, FieldMode::Keep, list, true),
        (
            Format::Json,
            FieldMode::Redact,
            r#"{"Attempts":"REDACTED","ClientAddr":"#,
            true,
        ),
        (Format::Json, FieldMode::Drop, r#"{"ClientAddr":"#, true),
        (
            Format::Common,
            FieldMode::Keep,
            "12ms attempts=3 failed=connect",
            false,
        ),
        (Format::Common, FieldMode::Redact, "12ms attempts=REDACTED", false),
        (Format::Common, FieldMode::Drop, "12ms", false),
        (Format::GenericClf, FieldMode::Keep, r#""-" "-""#, false),
    ];
    for (format, mode, expected, at_start) in cases {
        let settings = Settings {
            format,
            fields: modes(FieldMode::Keep, &[("Attempts", mode)]),
            ..Settings::default()
        };
        let lines = written(settings, |log| log_one(log, tried()));
        let found = if at_start {
            lines[0].starts_with(expected)
        } else {
            lines[0].ends_with(expected)
        };
        assert!(found, "{format:?} {mode:?}: {}", lines[0]);
        if format == Format::Json {
            serde_json::from_str::<serde_json::Value>(&lines[0]).unwrap();
        }
    }
}

#[test]
fn a_request_that_nothing_served_has_dashes() {
    let unrouted = Record {
        router: None,
        service: None,
        endpoint: None,
        endpoint_url: None,
        status: 404,
        ..record()
    };
    let lines = written(Settings::default(), |log| log_one(log, unrouted));
    assert!(
        lines[0].ends_with(r#" 404 17 "-" "-" 1 "-" "-" 12ms"#),
        "{}",
        lines[0]
    );
}

#[test]
fn fields_and_the_query_can_be_dropped_and_redacted() {
    use FieldMode::{Drop, Keep, Redact};
    let cases = [
        (
            modes(Keep, &[("RequestQuery", Redact)]),
            r#""RequestPath":"/a%20b?REDACTED""#,
        ),
        (
            modes(Keep, &[("RequestQuery", Drop)]),
            r#""RequestPath":"/a%20b""#,
        ),
        (
            modes(Keep, &[("ClientHost", Redact)]),
            r#""ClientHost":"REDACTED""#,
        ),
        (
            modes(Drop, &[("DownstreamStatus", Keep)]),
            r#"{"DownstreamStatus":200,"level":"info","msg":"","#,
        ),
    ];
    for (fields, expected) in cases {
        let settings = Settings {
            format: Format::Json,
            fields,
            ..Settings::default()
        };
        let lines = written(settings, |log| log_one(log, record()));
        assert!(lines[0].contains(expected), "{} lacks {expected}", lines[0]);
    }
    let settings = Settings {
        fields: modes(Keep, &[("ClientHost", Drop)]),
        ..Settings::default()
    };
    assert!(written(settings, |log| log_one(log, record()))[0].starts_with("- - - ["));
}

#[test]
fn headers_are_dropped_unless_kept_and_credentials_never_kept() {
    use FieldMode::{Drop, Keep, Redact};
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic c2VjcmV0"));
    headers.append(header::COOKIE, HeaderValue::from_static("session=secret"));
    headers.append("x-tag", HeaderValue::from_static("a"));
    headers.append("x-tag", HeaderValue::from_static("b"));
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_bytes(b"curl\t\xff").unwrap(),
    );
    let cases: [(Modes, &[&str]); 4] = [
        (modes(Drop, &[]), &[]),
        (
            modes(Keep, &[("x-tag", Drop)]),
            &[
                r#""request_Authorization":"REDACTED""#,
                r#""request_Cookie":"REDACTED""#,
                r#""request_User-Agent":"curl\u0009�""#,
            ],
        ),
        (
            modes(Drop, &[("Authorization", Keep), ("X-Tag", Keep)]),
            &[
                r#""request_Authorization":"REDACTED""#,
                r#""request_X-Tag":"a, b""#,
            ],
        ),
        (
            modes(Drop, &[("X-Tag", Redact)]),
            &[r#""request_X-Tag":"REDACTED, REDACTED""#],
        ),
    ];
    for (modes, expected) in cases {
        let settings = Settings {
            format: Format::Json,
            headers: modes,
            ..Settings::default()
        };
        let lines = written(settings, |log| {
            log_one(
                log,
                Record {
                    request_headers: log.request_headers(&headers),
                    ..record()
                },
            );
        });
        assert_eq!(
            lines[0].matches("\"request_").count(),
            expected.len(),
            "{}",
            lines[0]
        );
        for part in expected {
            assert!(lines[0].contains(part), "{} lacks {part}", lines[0]);
        }
    }
}

#[test]
fn nothing_from_the_network_ends_a_line() {
    let hostile = "/\"}\n127.0.0.1 - - \u{1b}[2J";
    for format in [Format::Json, Format::Common, Format::GenericClf] {
        let settings = Settings {
            format,
            headers: modes(FieldMode::Keep, &[]),
            ..Settings::default()
        };
        let lines = written(settings, |log| {
            let host = hostile.into();
            let username = Some(hostile.into());
            log_one(
                log,
                Record {
                    target: hostile.into(),
                    host,
                    username,
                    router: Some(hostile.into()),
                    ..record()
                },
            );
        });
        assert_eq!(lines.len(), 1);
        assert!(!lines[0].chars().any(char::is_control), "{}", lines[0]);
        if format == Format::Json {
            let object: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
            assert_eq!(object["RequestPath"], hostile);
        }
    }
}

#[test]
fn filters_choose_any_that_passes() {
    let slow = Duration::from_millis(50);
    let fast = Duration::from_millis(1);
    let statuses = |ranges: &[(u16, u16)]| ranges.iter().map(|(a, b)| *a..=*b).collect::<Vec<_>>();
    let cases = [
        (Filters::default(), (200, fast, 0), true),
        (
            Filters {
                statuses: statuses(&[(500, 599)]),
                ..Filters::default()
            },
            (200, fast, 0),
            false,
        ),
        (
            Filters {
                statuses: statuses(&[(404, 404), (500, 599)]),
                ..Filters::default()
            },
            (404, fast, 0),
            true,
        ),
        (
            Filters {
                min_duration: Some(slow),
                ..Filters::default()
            },
            (200, slow, 0),
            true,
        ),
        (
            Filters {
                min_duration: Some(slow),
                ..Filters::default()
            },
            (200, fast, 0),
            false,
        ),
        (
            Filters {
                retried: true,
                ..Filters::default()
            },
            (200, fast, 1),
            true,
        ),
        (
            Filters {
                retried: true,
                ..Filters::default()
            },
            (200, fast, 0),
            false,
        ),
        (
            Filters {
                statuses: statuses(&[(500, 599)]),
                retried: true,
                min_duration: Some(slow),
            },
            (200, slow, 0),
            true,
        ),
    ];
    for (filters, (status, duration, retries), expected) in cases {
        assert_eq!(
            filters.pass(status, duration, retries),
            expected,
            "{filters:?} {status}"
        );
    }
}

#[test]
fn sampling_takes_its_share() {
    for (sampling, expected) in [(0.0, 0..=0), (0.1, 900..=1100), (1.0, 10_000..=10_000)] {
        let sampled = threshold(sampling);
        let taken = (0..10_000).filter(|n| scramble(*n) <= sampled).count();
        assert!(expected.contains(&taken), "{sampling}: {taken}");
    }
}

#[test]
fn a_full_queue_loses_lines_and_counts_them() {
    let (queue, lines) = mpsc::sync_channel(2);
    let dropped = Counter::default();
    let log = AccessLog(Some(Arc::new(Shared {
        queue,
        signals: Arc::default(),
        filters: Filters::default(),
        headers: HeaderModes::new(&Settings::default().headers),
        sampled: u64::MAX,
        requests: AtomicU64::new(0),
        dropped: dropped.clone(),
    })));
    (0..5).for_each(|_| log.record(record()));
    assert_eq!((dropped.get(), lines.try_iter().count()), (3, 2));
}

#[test]
fn reopens_after_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let (path, rotated) = (
        folder.path().join("access.log"),
        folder.path().join("access.log.1"),
    );
    let settings = Settings {
        file: Some(path.clone()),
        ..Settings::default()
    };
    let (log, writer) = AccessLog::start(settings, Counter::default()).unwrap();
    log.record(record());
    std::fs::rename(&path, &rotated).unwrap();
    log.reopen();
    while !path.exists() {
        std::thread::yield_now();
    }
    log.record(record());
    assert!(writer.stop(Duration::from_secs(60)));
    for file in [path, rotated] {
        assert_eq!(
            std::fs::read_to_string(&file).unwrap().lines().count(),
            1,
            "{}",
            file.display()
        );
    }
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let settings = Settings {
        file: Some("/nonexistent/access.log".into()),
        ..Settings::default()
    };
    let error = AccessLog::start(settings, Counter::default())
        .unwrap_err()
        .to_string();
    let expected = "access log /nonexistent/access.log: cannot be opened for appending: No such file or directory \
                    (os error 2); create its directory, make it writable, or change accessLog.filePath";
    assert_eq!(error, expected);
}
