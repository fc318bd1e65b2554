//! Services that are built of others: references, circles, what stays the same object.

use constellation_table::Target;

use super::*;

fn server(url: &str) -> Value {
    json!({"loadBalancer": {"servers": [{"url": url}]}})
}

/// A document with the services `a` and `b`, `others`, and a router `r` to `s`.
fn with(others: &Value) -> Value {
    let mut services = json!({"a": server("http://10.0.0.1:80"), "b": server("http://10.0.0.2:80")});
    let all = services.as_object_mut().unwrap();
    for (name, service) in others.as_object().unwrap() {
        all.insert(name.clone(), service.clone());
    }
    json!({"http": {"routers": {"r": {"rule": "Host(`a.test`)", "service": "s"}}, "services": services}})
}

fn target(compiled: &Compiled) -> &Target {
    router_named(compiled, "r@file").target().unwrap()
}

#[test]
fn kinds_are_built_of_services_of_any_provider() {
    let file = with(&json!({
        "s": {"failover": {"service": "w", "fallback": "m", "errors": {"status": ["503", "520-529"]}, "healthCheck": {}}},
        "w": {"weighted": {"services": [{"name": "a", "weight": 3}, {"name": "web@docker"}],
            "sticky": {"cookie": {"name": "sid"}}}},
        "m": {"mirroring": {"service": "h", "mirrors": [{"name": "b", "percent": 10}], "maxBodySize": 1024,
            "mirrorBody": false}},
        "h": {"highestRandomWeight": {"services": [{"name": "a"}, {"name": "b", "weight": 0}]}},
    }));
    let docker = json!({"http": {"services": {"web": server("http://10.0.0.3:80")}}});
    let compiled = compiler().compile(&[reading("docker", docker), reading("file", file)], 1);
    assert_eq!(compiled.problems, []);
    let Target::Failover(failover) = target(&compiled) else {
        panic!("no failover");
    };
    let errors = failover.spec.errors.as_ref().unwrap();
    assert_eq!(errors.statuses, [(503, 503), (520, 529)]);
    assert_eq!(errors.max_request_body_bytes, None);
    let Target::Weighted(weighted) = &failover.spec.main else {
        panic!("no weighted");
    };
    let children: Vec<(&str, u32)> = weighted
        .spec
        .children
        .iter()
        .map(|child| (&**child.target.name(), child.weight))
        .collect();
    assert_eq!(children, [("a@file", 3), ("web@docker", 1)]);
    assert_eq!(&*weighted.spec.sticky.as_ref().unwrap().name, "sid");
    let Target::Mirroring(mirroring) = &failover.spec.fallback else {
        panic!("no mirroring");
    };
    assert_eq!(mirroring.spec.mirrors[0].percent, 10);
    assert_eq!(
        (mirroring.spec.mirror_body, mirroring.spec.max_body_bytes),
        (false, Some(1024))
    );
    assert_eq!(mirroring.spec.main.kind(), "highestRandomWeight");
}

#[test]
fn what_cannot_be_built_names_the_service_and_the_reason() {
    let deep: serde_json::Map<String, Value> = (0..10)
        .map(|level| {
            let below = if level == 9 {
                "a".to_owned()
            } else {
                format!("d{}", level + 1)
            };
            (
                format!("d{level}"),
                json!({"failover": {"service": below, "fallback": "b"}}),
            )
        })
        .collect();
    let mut too_deep = Value::Object(deep);
    too_deep["s"] = json!({"failover": {"service": "d0", "fallback": "b"}});
    let table = [
        (
            json!({"s": {"weighted": {"services": [{"name": "nope"}]}}}),
            "its service \"s@file\" can't be used: services: there is no service \"nope@file\": define it in the provider",
        ),
        (
            json!({"s": {"weighted": {"services": [{"name": "a@docker"}]}}}),
            "but there is \"a@file\": write service: a@file",
        ),
        (
            json!({"s": {"weighted": {"services": [{"weight": 1}]}}}),
            "it names no service under services",
        ),
        (
            json!({"s": {"weighted": {"services": []}}}),
            "it names no services",
        ),
        (
            json!({"s": {"weighted": {"services": [{"name": "a", "weight": -1}]}}}),
            "the weight -1 of a is out of range: write 0 to 1000000",
        ),
        (
            json!({"s": {"failover": {"service": "t", "fallback": "a"}}, "t": {"weighted": {"services": [{"name": "s"}]}}}),
            "circle (s@file -> t@file -> s@file)",
        ),
        (
            json!({"s": {"weighted": {"services": [{"name": "s"}]}}}),
            "circle (s@file -> s@file)",
        ),
        (too_deep, "levels deep"),
        (
            json!({"s": {"failover": {"service": "a"}}}),
            "it names no service under fallback",
        ),
        (
            json!({"s": {"failover": {"fallback": "a"}}}),
            "it names no service under service",
        ),
        (
            json!({"s": {"failover": {"service": "a", "fallback": "b", "errors": {"status": ["5xx"]}}}}),
            "errors.status: \"5xx\" is not a status",
        ),
        (
            json!({"s": {"mirroring": {"service": "a", "mirrors": [{"name": "b", "percent": 150}]}}}),
            "percent must be between 0 and 100, and that of b is 150",
        ),
        (
            json!({"s": {"mirroring": {"service": "a", "mirrors": [{"name": "nope", "percent": 1}]}}}),
            "mirrors: there is no service \"nope@file\"",
        ),
        (
            json!({"s": {"failover": {"service": "bad", "fallback": "a"}}, "bad": server("127.0.0.1:80")}),
            "service: its service \"bad@file\" can't be used: server url",
        ),
        (
            json!({"s": {"failover": {"service": "api@internal", "fallback": "a"}}}),
            "\"api@internal\" is Traefik's own",
        ),
    ];
    for (services, expected) in table {
        let compiled = compiler().compile(&[reading("file", with(&services))], 1);
        let reason = reason(&compiled, "r@file");
        assert!(reason.contains(expected), "{services}: {reason}");
        let named = compiled
            .problems
            .iter()
            .any(|problem| problem.subject == "service s@file");
        assert!(named, "{services}: {:?}", compiled.problems);
        assert!(!compiled.snapshot.services().is_empty());
    }
}

#[test]
fn kinds_stay_the_same_objects_until_they_or_their_parts_change() {
    let document = |port: u16, weight: u32| {
        let mut document = with(&json!({
            "s": {"failover": {"service": "w", "fallback": "b"}},
            "w": {"weighted": {"services": [{"name": "a", "weight": weight}, {"name": "b"}]}},
            "v": {"weighted": {"services": [{"name": "b"}]}},
        }));
        document["http"]["services"]["a"] = server(&format!("http://10.0.0.1:{port}"));
        document["http"]["routers"]["v"] = json!({"rule": "Host(`v.test`)", "service": "v"});
        document
    };
    let mut compiler = compiler();
    let mut compile = |document| {
        static GENERATION: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let generation = GENERATION.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        compiler.compile(&[reading("file", document)], generation)
    };
    let first = compile(document(80, 1));
    let same = compile(document(80, 1));
    assert!(same.changes.is_empty(), "{:?}", same.changes);
    assert_eq!(target(&first), target(&same));
    // Another server below: the way up from it is new, what stands beside it is not.
    let moved = compile(document(81, 1));
    assert_eq!(names(&moved.changes.changed), ["r@file"]);
    assert_ne!(target(&same), target(&moved));
    assert_eq!(
        router_named(&same, "v@file").target(),
        router_named(&moved, "v@file").target()
    );
    let weighed = compile(document(81, 2));
    assert_eq!(names(&weighed.changes.changed), ["r@file"]);
    // A kind that becomes a service with servers, and back.
    let mut plain = document(81, 2);
    plain["http"]["services"]["s"] = server("http://10.0.0.9");
    let plain = compile(plain);
    assert_eq!(target(&plain).kind(), "loadBalancer");
    let back = compile(document(81, 2));
    assert_eq!(target(&back).kind(), "failover");
}

#[test]
fn a_kind_follows_services_of_other_providers_as_they_come_and_go() {
    let file = with(&json!({"s": {"failover": {"service": "web@docker", "fallback": "a"}}}));
    let file = reading("file", file);
    let docker = reading(
        "docker",
        json!({"http": {"services": {"web": server("http://10.0.0.3")}}}),
    );
    let without = reading("docker", json!({}));
    let mut compiler = compiler();
    let compiled = compiler.compile(&[without.clone(), file.clone()], 1);
    assert!(reason(&compiled, "r@file").contains("there is no service \"web@docker\""));
    let compiled = compiler.compile(&[docker, file.clone()], 2);
    assert_eq!(names(&compiled.changes.added), ["r@file"]);
    let compiled = compiler.compile(&[without, file], 3);
    assert_eq!(names(&compiled.changes.removed), ["r@file"]);
}

#[test]
fn a_file_leads_requests_through_kinds_to_what_can_serve() {
    let text = |weight: u32| {
        format!(
            "http:
  routers: {{r: {{rule: Host(`a.test`), service: s}}}}
  services:
    s: {{failover: {{service: w, fallback: b}}}}
    w: {{weighted: {{services: [{{name: a}}]}}}}
    a: {{loadBalancer: {{servers: [{{url: 'http://10.0.0.1', weight: {weight}}}]}}}}
    b: {{loadBalancer: {{servers: [{{url: 'http://10.0.0.2'}}]}}}}
"
        )
    };
    let mut compiler = compiler();
    for (generation, weight, expected, steps) in [(1, 1, "a@file", 2), (2, 0, "b@file", 1)] {
        let path = std::path::Path::new("d.yaml");
        let dynamic =
            constellation_config::dynamic::parse(&text(weight), constellation_config::Format::Yaml, path);
        let contribution = Contribution {
            provider: "file",
            dynamic: dynamic.unwrap(),
            ..Contribution::default()
        };
        let compiled = compiler.compile(&[Arc::new(contribution)], generation);
        assert_eq!(compiled.problems, []);
        let headers = http::HeaderMap::new();
        let request = RequestMeta {
            entry_point: WEB,
            tls: false,
            method: "GET",
            host: "a.test",
            path: "/",
            query: "",
            headers: &headers,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            repeatable: true,
            now: std::time::Instant::now(),
            turn: Turn::Take,
        };
        let decision = decide(&compiled.snapshot, &request);
        let way = decision.via().map(|via| via.way.steps.len());
        let Decision::Forward { service, .. } = &decision else {
            panic!("{decision:?}");
        };
        assert_eq!((&*service.name, way), (expected, Some(steps)));
    }
}
