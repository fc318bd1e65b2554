//! The text as it is scraped, after what happens has been counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use constellation_table::{
    Condition, Endpoint, EndpointSpec, RouterSpec, Rule, Scheme, Service, ServiceSpec, Slot, Transport,
};

use super::*;
use crate::tls::{TlsContext, TlsSpec};
use crate::{Generation, Published};

const WEB: EntryPointId = EntryPointId(0);

fn declared() -> (Registry, Metrics) {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry, &["web".into(), "websecure".into()]);
    (registry, metrics)
}

fn service(name: &str, endpoints: &[(&str, Condition)]) -> Arc<Service> {
    let endpoint = |(name, condition): &(&str, Condition)| {
        Arc::new(Endpoint::new(EndpointSpec {
            name: (*name).into(),
            scheme: Scheme::Http,
            host: "127.0.0.1".into(),
            port: 80,
            base_path: "".into(),
            weight: 1,
            condition: condition.clone(),
            url_as_written: "".into(),
            locality: Default::default(),
            peer: None,
        }))
    };
    let spec = ServiceSpec {
        name: name.into(),
        endpoints: endpoints.iter().map(endpoint).collect(),
        pass_host_header: true,
        transport: Arc::new(Transport::default()),
        retry_after: 1,
        policy: Arc::default(),
    };
    Arc::new(Service::new(spec, None))
}

fn router(name: &str, service: &Arc<Service>) -> Arc<Router> {
    let rule = "Host(`a.test`)";
    let spec = RouterSpec {
        name: name.into(),
        entry_points: vec![WEB],
        tls: false,
        rule: Arc::new(Rule::parse_http(rule).unwrap()),
        priority: 14,
        action: Action::Forward(Arc::clone(service).into()),
        middlewares: None,
    };
    Arc::new(Router {
        spec,
        slot: Slot::default(),
    })
}

fn finished(status: u16) -> Finished {
    Finished {
        method: Method::Get,
        status,
        protocol: Protocol::Http2,
        duration: Duration::from_millis(3),
        request_bytes: 10,
        response_bytes: 200,
    }
}

/// Samples by their text up to the value.
fn samples(registry: &Registry) -> BTreeMap<String, f64> {
    let text = encode(registry).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn a_request_counts_in_every_family() {
    let (registry, metrics) = declared();
    let service = service("app@docker", &[("app-1", Condition::Ready)]);
    let router = router("app@docker", &service);
    let handle = metrics.router(&router);
    let route = handle.on(WEB).unwrap();
    let running = route.begin();
    let in_flight = r#"constellation_requests_in_flight{entry_point="web",service="app@docker"}"#;
    assert_eq!(samples(&registry)[in_flight], 1.0);
    drop(running);
    route.finish(&finished(200));
    route.finish(&finished(200));
    route.finish(&finished(799));
    let samples = samples(&registry);
    let request = |code: &str| {
        format!(
            r#"constellation_requests_total{{entry_point="web",router="app@docker",service="app@docker",method="GET",code="{code}",protocol="http/2"}}"#
        )
    };
    let traffic = |name: &str| format!(r#"{name}{{entry_point="web",service="app@docker"}}"#);
    let bucket = |le: &str| {
        format!(
            r#"constellation_request_duration_seconds_bucket{{le="{le}",entry_point="web",service="app@docker"}}"#
        )
    };
    for (name, expected) in [
        (request("200"), 2.0),
        (request("7xx"), 1.0),
        (in_flight.to_owned(), 0.0),
        (traffic("constellation_request_body_bytes_total"), 30.0),
        (traffic("constellation_response_body_bytes_total"), 600.0),
        (traffic("constellation_request_duration_seconds_count"), 3.0),
        (traffic("constellation_request_duration_seconds_sum"), 0.009),
        (bucket("0.0025"), 0.0),
        (bucket("0.005"), 3.0),
        (bucket("+Inf"), 3.0),
    ] {
        assert_eq!(samples.get(&name), Some(&expected), "{name}\n{samples:#?}");
    }
    assert!(handle.on(EntryPointId(1)).is_none());
    assert_eq!((metrics.requests(), metrics.in_flight()), (3, 0));
}

#[test]
fn connections_refusals_handshakes_and_endpoints_count() {
    let (registry, metrics) = declared();
    let entry_point = metrics.entry_point(WEB).unwrap();
    let open = entry_point.connection();
    drop(entry_point.connection());
    entry_point.refused(Refusal::HeaderTimeout);
    entry_point.handshake(TlsVersion::V13, HandshakeOutcome::Resumed);
    entry_point.unrouted().finish(&finished(404));
    let endpoint = metrics.endpoint(&"app@docker".into(), &"app-1".into());
    let attempt = endpoint.attempt();
    endpoint.retried();
    endpoint.failed(EndpointFailure::Connect);
    metrics.reload_failed();
    metrics.problems(4);
    metrics.compiled(Duration::from_millis(250));
    metrics.reloaded(UNIX_EPOCH + Duration::from_millis(1500));
    metrics.access_log_dropped().inc_by(2);
    let samples = samples(&registry);
    let expected = [
        (r#"constellation_connections_total{entry_point="web"}"#, 2.0),
        (r#"constellation_open_connections{entry_point="web"}"#, 1.0),
        (r#"constellation_open_connections{entry_point="websecure"}"#, 0.0),
        (
            r#"constellation_refused_total{entry_point="web",reason="header_timeout"}"#,
            1.0,
        ),
        (
            r#"constellation_tls_handshakes_total{entry_point="web",version="1.3",outcome="resumed"}"#,
            1.0,
        ),
        (
            r#"constellation_requests_total{entry_point="web",router="",service="",method="GET",code="404",protocol="http/2"}"#,
            1.0,
        ),
        (
            r#"constellation_endpoint_requests_total{service="app@docker",endpoint="app-1"}"#,
            1.0,
        ),
        (
            r#"constellation_endpoint_requests_in_flight{service="app@docker",endpoint="app-1"}"#,
            1.0,
        ),
        (
            r#"constellation_endpoint_retries_total{service="app@docker",endpoint="app-1"}"#,
            1.0,
        ),
        (
            r#"constellation_endpoint_failures_total{service="app@docker",endpoint="app-1",reason="connect"}"#,
            1.0,
        ),
        ("constellation_reload_failures_total", 1.0),
        ("constellation_configuration_problems", 4.0),
        ("constellation_last_reload_success_timestamp_seconds", 1.5),
        ("constellation_compile_duration_seconds", 0.25),
        ("constellation_access_log_dropped_lines_total", 2.0),
    ];
    for (name, value) in expected {
        assert_eq!(samples.get(name), Some(&value), "{name}\n{samples:#?}");
    }
    drop((open, attempt));
    assert!(metrics.entry_point(EntryPointId(2)).is_none());
}

#[test]
fn series_of_what_a_generation_no_longer_has_are_dropped() {
    let (registry, metrics) = declared();
    let (old, kept) = (
        service("old@file", &[("old-1", Condition::Ready)]),
        service("kept@file", &[]),
    );
    let (old_router, kept_router) = (router("old@file", &old), router("kept@file", &kept));
    let handles = [metrics.router(&old_router), metrics.router(&kept_router)];
    let count = || {
        handles
            .iter()
            .for_each(|handle| handle.on(WEB).unwrap().finish(&finished(200)))
    };
    count();
    let endpoint = metrics.endpoint(&old.name, &"old-1".into());
    endpoint.failed(EndpointFailure::Tls);
    metrics
        .entry_point(WEB)
        .unwrap()
        .unrouted()
        .finish(&finished(404));
    let mentions = |what: &str| {
        samples(&registry)
            .keys()
            .filter(|name| name.contains(what))
            .count()
    };
    assert!(mentions("old@file") > 0);
    metrics.retire(&Snapshot::build(
        2,
        2,
        vec![kept_router.clone()],
        vec![Arc::clone(&kept)],
    ));
    assert_eq!(mentions("old@file"), 0);
    assert!(mentions("kept@file") > 0);
    assert!(
        mentions(r#"router="",service="""#) > 0,
        "requests without a route stay"
    );
    // A request that still ran counts into nothing, and what is kept goes on.
    count();
    assert_eq!(mentions("old@file"), 0);
    let kept = samples(&registry)
        .into_iter()
        .find(|(name, _)| name.contains("requests_total") && name.contains("kept"));
    assert_eq!(kept.unwrap().1, 2.0);
}

#[test]
fn what_happens_beyond_first_attempts_counts_and_retires() {
    let (registry, metrics) = declared();
    let app = service("app@docker", &[("app-1", Condition::Ready)]);
    let counted = metrics.service(&app.name);
    for _ in 0..2 {
        counted.retry(EndpointFailure::Connect);
    }
    counted.retry(EndpointFailure::Unanswered);
    counted.retried(RetryOutcome::Saved);
    counted.gave_up(GaveUp::Unrepeatable);
    counted.gave_up(GaveUp::Budget);
    counted.hedge(HedgeOutcome::Won);
    counted.hedge(HedgeOutcome::Denied);
    counted.queue_refused(QueueRefusal::Full);
    let waiting = counted.queued();
    let open = |endpoint: &str| Transition {
        endpoint: endpoint.into(),
        fact: "breaker",
        to: "open",
        reason: "5 failures in a row".into(),
    };
    metrics.transition(&app.name, &open("app-1"));
    metrics.transition(&app.name, &open("gone-1"));
    metrics.transition(&app.name, &open(""));
    let values = samples(&registry);
    for (name, labels, expected) in [
        ("retries_total", r#",reason="connect""#, 2.0),
        ("retries_total", r#",reason="unanswered""#, 1.0),
        ("retried_requests_total", r#",outcome="saved""#, 1.0),
        ("retries_refused_total", r#",reason="unrepeatable""#, 1.0),
        ("retries_refused_total", r#",reason="budget""#, 1.0),
        ("retry_budget_denied_total", "", 1.0),
        ("hedges_total", r#",outcome="won""#, 1.0),
        ("hedges_total", r#",outcome="denied""#, 1.0),
        ("service_queue_length", "", 1.0),
        ("service_queue_refused_total", r#",reason="full""#, 1.0),
        (
            "endpoint_transitions_total",
            r#",endpoint="app-1",fact="breaker",to="open""#,
            1.0,
        ),
    ] {
        let name = format!(r#"constellation_{name}{{service="app@docker"{labels}}}"#);
        assert_eq!(values.get(&name), Some(&expected), "{name}\n{values:#?}");
    }
    drop(waiting);
    let mentions = |what: &str| {
        samples(&registry)
            .keys()
            .filter(|name| name.contains(what))
            .count()
    };
    metrics.retire(&Snapshot::build(2, 1, Vec::new(), vec![Arc::clone(&app)]));
    assert_eq!((mentions("gone-1"), mentions(r#"endpoint="",fact"#)), (0, 1));
    assert!(mentions("retries_total") > 0);
    metrics.retire(&Snapshot::build(3, 1, Vec::new(), Vec::new()));
    assert_eq!(mentions("app@docker"), 0);
}

#[test]
fn the_text_is_well_formed_whatever_names_containers_give() {
    let (mut registry, metrics) = declared();
    register_process(&mut registry);
    register_build(&mut registry, "1.2.3");
    let hostile = "a\"b\\c\nd} 1\n# EOF";
    let service = service(hostile, &[(hostile, Condition::Ready)]);
    metrics
        .router(&router(hostile, &service))
        .on(WEB)
        .unwrap()
        .finish(&finished(200));
    let (tls, _) = TlsContext::new(&[]).unwrap().build(&TlsSpec::default());
    let table = Snapshot::build(7, 1, vec![router(hostile, &service)], vec![service]);
    register_generation(
        &mut registry,
        Published::new(Generation {
            table,
            tls,
            published: UNIX_EPOCH,
        }),
    );

    let text = encode(&registry).unwrap();
    assert!(text.ends_with("\n# EOF\n"));
    let mut families = BTreeSet::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            let (kind, name) = (words.next().unwrap(), words.next().unwrap());
            assert!(["HELP", "TYPE", "UNIT"].contains(&kind), "{line}");
            assert_eq!(families.insert(name.to_owned()), kind == "HELP", "{line}");
            assert!(words.next().is_some(), "{line}");
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            let known = families.iter().any(|family| name.starts_with(family.as_str()));
            assert!(known, "{line}");
            assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
        }
    }
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_threads",
    ] {
        assert!(samples(&registry)[name] > 0.0, "{name}");
    }
    assert!(text.contains("constellation_build_info{version=\"1.2.3\"} 1\n"));
}

#[test]
fn figures_of_the_generation_are_read_when_asked() {
    let mut registry = Registry::default();
    let context = TlsContext::new(&["node.test".to_owned()]).unwrap();
    let generation = |number, conditions: &[(&str, Condition)]| Generation {
        table: Snapshot::build(number, 1, Vec::new(), vec![service("app@file", conditions)]),
        tls: context.build(&TlsSpec::default()).0,
        published: UNIX_EPOCH,
    };
    let published = Published::new(generation(1, &[("a", Condition::Ready)]));
    register_generation(&mut registry, published.clone());
    let stopped = Condition::Unavailable("container exited (137)".into());
    let drained = Condition::Draining("container d is stopping".into());
    published.publish(generation(
        2,
        &[
            ("a", stopped.clone()),
            ("b", Condition::Ready),
            ("c", stopped),
            ("d", drained),
        ],
    ));
    let b = published.load_full().table.services()[0].endpoints[1].clone();
    let answered = constellation_table::AttemptOutcome::Answered {
        status: 200,
        latency: Duration::from_millis(250),
    };
    published.load_full().table.services()[0].record(&b, answered, std::time::Instant::now());
    let samples = samples(&registry);
    for (name, expected) in [
        ("constellation_configuration_generation", 2.0),
        (
            r#"constellation_endpoint_up{service="app@file",endpoint="a"}"#,
            0.0,
        ),
        (
            r#"constellation_endpoint_up{service="app@file",endpoint="b"}"#,
            1.0,
        ),
        (
            r#"constellation_endpoint_draining{service="app@file",endpoint="d"}"#,
            1.0,
        ),
        (
            r#"constellation_endpoint_draining{service="app@file",endpoint="a"}"#,
            0.0,
        ),
        (
            r#"constellation_endpoint_ejected{service="app@file",endpoint="b"}"#,
            0.0,
        ),
        (
            r#"constellation_endpoint_breaker{service="app@file",endpoint="b"}"#,
            0.0,
        ),
        (
            r#"constellation_endpoint_latency_seconds{service="app@file",endpoint="b"}"#,
            0.25,
        ),
        (
            r#"constellation_endpoints_excluded{service="app@file",reason="unavailable"}"#,
            2.0,
        ),
        (
            r#"constellation_endpoints_excluded{service="app@file",reason="draining"}"#,
            1.0,
        ),
        (r#"constellation_service_panic{service="app@file"}"#, 0.0),
        (r#"constellation_retry_budget_tokens{service="app@file"}"#, 3.0),
    ] {
        assert_eq!(samples.get(name), Some(&expected), "{name}\n{samples:#?}");
    }
    assert!(samples["constellation_configuration_age_seconds"] > 1e9);
    let view = published.load_full().tls.clone();
    let info = view.certificates().next().unwrap();
    let name = format!(
        r#"constellation_tls_certificate_not_after_seconds{{subject="node.test",fingerprint="{}"}}"#,
        info.fingerprint
    );
    assert_eq!(
        samples[&name],
        generation::unix_seconds(info.not_after).trunc(),
        "{samples:#?}"
    );
}

#[test]
fn many_threads_lose_nothing() {
    let (registry, metrics) = declared();
    let service = service("app@file", &[]);
    let router = router("app@file", &service);
    let handle = metrics.router(&router);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let route = handle.on(WEB).unwrap();
                for status in [200, 204, 404, 500].into_iter().cycle().take(1000) {
                    route.finish(&finished(status));
                }
            });
        }
    });
    let counted: f64 = samples(&registry)
        .iter()
        .filter(|(name, _)| name.starts_with("constellation_requests_total"))
        .map(|(_, v)| v)
        .sum();
    assert_eq!(counted, 4000.0);
    assert_eq!(
        samples(&registry)
            .keys()
            .filter(|name| name.starts_with("constellation_requests_total"))
            .count(),
        4
    );
}
