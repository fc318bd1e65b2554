//! What each object of a document becomes, and what is said of those that can't be used.

use super::*;

#[test]
fn routers_are_served_where_their_entry_points_and_tls_say() {
    let compiled = compiler().compile(
        &[reading(
            "file",
            document(&[
                ("everywhere", router("Host(`every.test`)")),
                (
                    "plain",
                    json!({"rule": "Host(`plain.test`)", "service": "s", "entryPoints": ["web"]}),
                ),
                (
                    "secure",
                    json!({"rule": "Host(`secure.test`)", "service": "s", "entryPoints": ["websecure"]}),
                ),
                (
                    "own-tls",
                    json!({"rule": "Host(`own.test`)", "service": "s", "tls": {}}),
                ),
            ]),
        )],
        1,
    );
    assert_eq!(compiled.problems, []);
    for (host, web, web_tls, websecure_tls) in [
        (
            "every.test",
            Some("everywhere@file"),
            None,
            Some("websecure-everywhere@file"),
        ),
        ("plain.test", Some("plain@file"), None, None),
        ("secure.test", None, None, Some("secure@file")),
        ("own.test", None, Some("own-tls@file"), Some("own-tls@file")),
    ] {
        assert_eq!(routed(&compiled, WEB, false, host).as_deref(), web, "{host} web");
        assert_eq!(
            routed(&compiled, WEB, true, host).as_deref(),
            web_tls,
            "{host} web, TLS"
        );
        assert_eq!(
            routed(&compiled, WEBSECURE, true, host).as_deref(),
            websecure_tls,
            "{host} websecure"
        );
        assert_eq!(
            routed(&compiled, WEBSECURE, false, host),
            None,
            "{host} websecure, plain"
        );
    }
}

#[test]
fn objects_of_other_providers_are_reached_by_their_qualified_names() {
    let docker = json!({"http": {
        "routers": {"a": {"rule": "Host(`a.test`)", "service": "shared@file"}},
        "services": {"own": {"loadBalancer": {"serversTransport": "mtls@file", "servers": [{"url": "https://b"}]}}},
    }});
    let file = json!({"http": {
        "routers": {"b": {"rule": "Host(`b.test`)", "service": "own@docker"}},
        "services": {"shared": {"loadBalancer": {"servers": [{"url": "http://a"}]}}},
        "serversTransports": {"mtls": {"serverName": "b.internal"}},
    }});
    let compiled = compiler().compile(&[reading("docker", docker), reading("file", file)], 1);
    assert_eq!(compiled.problems, []);
    let services: Vec<&str> = compiled.snapshot.services().iter().map(|s| &*s.name).collect();
    assert_eq!(services, ["own@docker", "shared@file"]);
    let Some(service) = router_named(&compiled, "b@file").service() else {
        panic!("b@file does not forward");
    };
    assert_eq!(&*service.transport.name, "mtls@file");
    assert_eq!(service.transport.server_name.as_deref(), Some("b.internal"));
}

#[test]
fn an_object_that_cannot_be_used_says_why_and_hurts_no_other() {
    let services = json!({
        "s": {"loadBalancer": {"servers": [{"url": "http://a"}]}},
        "weighted": {"weighted": {"services": []}},
        "bad-url": {"loadBalancer": {"servers": [{"url": "127.0.0.1:80"}]}},
        "lost": {"loadBalancer": {"serversTransport": "nope", "servers": [{"url": "http://a"}]}},
    });
    let to = |service: &str| json!({"rule": "Host(`a.test`)", "service": service});
    let with = |key: &str, value: Value| {
        let mut router = to("s");
        router[key] = value;
        router
    };
    let table = [
        (
            "bad-rule",
            with("rule", json!("Host(`a.test`")),
            "rule \"Host(`a.test`\"",
        ),
        ("no-rule", with("rule", json!(" ")), "it has no rule"),
        (
            "v2",
            with("ruleSyntax", json!("v2")),
            "ruleSyntax \"v2\" is not served",
        ),
        ("no-service", to(""), "it names no service"),
        ("unknown-service", to("nope"), "there is no service \"nope@file\""),
        (
            "other-provider",
            to("s@docker"),
            "but there is \"s@file\": write service: s@file",
        ),
        ("internal", to("api@internal"), "is Traefik's own"),
        (
            "weighted",
            to("weighted"),
            "\"weighted@file\" can't be used: it names no services",
        ),
        (
            "bad-url",
            to("bad-url"),
            "server url \"127.0.0.1:80\": it has no scheme",
        ),
        (
            "transport",
            to("lost"),
            "there is no serversTransport \"nope@file\"",
        ),
        (
            "entry-point",
            with("entryPoints", json!(["nope"])),
            "there is no entry point \"nope\": write one of web, websecure",
        ),
        (
            "middleware",
            with("middlewares", json!(["auth", "gzip@docker"])),
            "there is no middleware \"auth@file\"",
        ),
        (
            "priority",
            with("priority", json!(i64::MAX - 999)),
            "is out of range",
        ),
        (
            "options",
            with("tls", json!({"options": "strict"})),
            "there are no TLS options \"strict@file\"",
        ),
        ("a@b", to("s"), "contains \"@\""),
    ];
    let mut routers: BTreeMap<&str, Value> = table
        .iter()
        .map(|(name, router, _)| (*name, router.clone()))
        .collect();
    routers.insert("good", router("Host(`good.test`)"));
    let compiled = compiler().compile(
        &[reading(
            "file",
            json!({"http": {"routers": routers, "services": services}}),
        )],
        1,
    );
    for (name, _, expected) in &table {
        let name = format!("{name}@file");
        let reason = reason(&compiled, &name);
        assert!(reason.contains(expected), "{name}: {reason}");
        let subject = format!("router {name}");
        assert!(
            compiled
                .problems
                .iter()
                .any(|p| p.subject == subject && p.message == reason),
            "{name} is not among the problems"
        );
    }
    assert_eq!(compiled.disabled.len(), table.len());
    assert_eq!(routed(&compiled, WEB, false, "a.test"), None);
    assert_eq!(
        routed(&compiled, WEB, false, "good.test").as_deref(),
        Some("good@file")
    );
}

#[test]
fn what_works_with_a_limitation_warns_and_is_served() {
    let compiled = compiler().compile(
        &[reading(
            "file",
            document(&[
                ("half", json!({"rule": "Host(`half.test`)", "service": "s", "entryPoints": ["web", "nope"]})),
                ("acme", json!({"rule": "Host(`acme.test`)", "service": "s", "tls": {"certResolver": "le"}})),
                ("port", router("Host(`port.test:80`)")),
                ("quiet", json!({"rule": "Host(`quiet.test`)", "service": "s", "observability": {"metrics": false}})),
            ]),
        )],
        1,
    );
    assert_eq!(compiled.disabled, []);
    for (subject, words) in [
        ("router acme@file", "tls.certResolver \"le\""),
        ("router half@file", "there is no entry point \"nope\""),
        ("router quiet@file", "observability"),
        ("router port@file", "rule: Host(`port.test:80`)"),
    ] {
        let found = compiled
            .problems
            .iter()
            .any(|p| p.subject == subject && p.message.contains(words));
        assert!(found, "{subject}: {:?}", compiled.problems);
    }
    assert_eq!(
        routed(&compiled, WEB, false, "half.test").as_deref(),
        Some("half@file")
    );
    assert_eq!(
        routed(&compiled, WEBSECURE, true, "acme.test").as_deref(),
        Some("acme@file")
    );
}

#[test]
fn priorities_are_explicit_or_the_byte_length_of_the_rule() {
    let prioritised = |priority: i64| json!({"rule": "Host(`a.test`)", "service": "s", "priority": priority});
    let compiled = compiler().compile(
        &[reading(
            "file",
            document(&[
                ("absent", router("Host(`a.test`)")),
                ("zero", prioritised(0)),
                ("negative", prioritised(-5)),
                ("highest", prioritised(i64::MAX - 1000)),
                ("bytes", router("Path(`/ä`)")),
            ]),
        )],
        1,
    );
    assert_eq!(compiled.problems, []);
    for (name, expected) in [
        ("absent@file", 14),
        ("zero@file", 14),
        ("negative@file", -5),
        ("highest@file", i64::MAX - 1000),
        ("bytes@file", 11),
    ] {
        assert_eq!(router_named(&compiled, name).spec.priority, expected, "{name}");
    }
}

#[test]
fn an_entry_point_redirects_before_every_router() {
    let mut config = config();
    config.entry_points[0].redirection = Some(RedirectionConfig {
        to: RedirectionTarget::EntryPoint("websecure".to_owned()),
        scheme: "https".to_owned(),
        permanent: true,
        priority: RedirectionConfig::DEFAULT_PRIORITY,
    });
    let statics = Statics::new(&config, &[]).unwrap();
    let greedy = json!({"rule": "PathPrefix(`/`)", "service": "s", "priority": i64::MAX - 1000});
    let compiled = Compiler::new(statics).compile(&[reading("file", document(&[("greedy", greedy)]))], 1);
    assert_eq!(
        routed(&compiled, WEB, false, "a.test").as_deref(),
        Some("web-to-websecure@internal")
    );
    assert_eq!(
        routed(&compiled, WEBSECURE, true, "a.test").as_deref(),
        Some("websecure-greedy@file")
    );
    let Action::Redirect(redirect) = &router_named(&compiled, "web-to-websecure@internal").spec.action else {
        panic!("it does not redirect");
    };
    assert_eq!((redirect.port, redirect.permanent), (Some(8443), true));
}

#[test]
fn a_node_that_starts_is_unavailable_and_not_without_routes() {
    let snapshot = starting(2).unwrap();
    assert_eq!(snapshot.generation(), 0);
    let headers = http::HeaderMap::new();
    for (entry_point, tls) in [(WEB, false), (WEB, true), (WEBSECURE, false), (WEBSECURE, true)] {
        let request = RequestMeta {
            entry_point,
            tls,
            method: "GET",
            host: "a.test",
            path: "/x",
            query: "",
            headers: &headers,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            repeatable: true,
            now: std::time::Instant::now(),
            turn: Turn::Take,
        };
        assert!(
            matches!(decide(&snapshot, &request), Decision::Unavailable { .. }),
            "{entry_point:?} {tls}"
        );
    }
}
