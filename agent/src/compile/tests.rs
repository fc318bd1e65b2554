//! Whole compiles: documents in, tables and problems out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use constellation_config::dynamic::Dynamic;
use constellation_config::{EntryPoint, EntryPointTls, Redirection as RedirectionConfig, RedirectionTarget};
use constellation_table::{Action, Condition, Decision, EntryPointId, RequestMeta, Turn, decide};
use serde_json::{Value, json};

use super::*;
use crate::sources::ServerOrigin;

const WEB: EntryPointId = EntryPointId(0);
const WEBSECURE: EntryPointId = EntryPointId(1);

fn config() -> constellation_config::Config {
    let mut web = EntryPoint::new("web", vec!["127.0.0.1:8000".parse().unwrap()]);
    let mut websecure = EntryPoint::new("websecure", vec!["127.0.0.1:8443".parse().unwrap()]);
    websecure.tls = Some(EntryPointTls::default());
    web.redirection = None;
    constellation_config::Config {
        entry_points: vec![web, websecure],
        ..constellation_config::Config::default()
    }
}

fn compiler() -> Compiler {
    Compiler::new(Statics::new(&config(), &[]).unwrap())
}

fn reading(provider: &'static str, document: Value) -> Arc<Contribution> {
    let dynamic: Dynamic = serde_json::from_value(document).unwrap();
    Arc::new(Contribution {
        provider,
        dynamic,
        ..Contribution::default()
    })
}

/// A document with a service for each router, one server each.
fn document(routers: &[(&str, Value)]) -> Value {
    let routers: BTreeMap<&str, Value> = routers.iter().cloned().collect();
    json!({"http": {
        "routers": routers,
        "services": {"s": {"loadBalancer": {"servers": [{"url": "http://10.0.0.1:80"}]}}},
    }})
}

fn router(rule: &str) -> Value {
    json!({"rule": rule, "service": "s"})
}

/// The name of the router that a request for `host` gets.
fn routed(compiled: &Compiled, entry_point: EntryPointId, tls: bool, host: &str) -> Option<String> {
    let headers = http::HeaderMap::new();
    let request = RequestMeta {
        entry_point,
        tls,
        method: "GET",
        host,
        path: "/",
        query: "",
        headers: &headers,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        turn: Turn::Look,
    };
    match decide(&compiled.snapshot, &request) {
        Decision::Forward { router, .. }
        | Decision::Unavailable { router, .. }
        | Decision::Redirect { router, .. } => Some(router.spec.name.to_string()),
        Decision::NoRoute => None,
    }
}

fn router_named<'a>(compiled: &'a Compiled, name: &str) -> &'a Arc<Router> {
    let mut routers = compiled.snapshot.routers().iter();
    routers
        .find(|router| &*router.spec.name == name)
        .unwrap_or_else(|| panic!("no router {name}"))
}

fn reason<'a>(compiled: &'a Compiled, name: &str) -> &'a str {
    let disabled = compiled.disabled.iter().find(|disabled| disabled.name == name);
    &disabled
        .unwrap_or_else(|| panic!("{name} is not disabled"))
        .reason
}

fn names(list: &[Arc<str>]) -> Vec<&str> {
    list.iter().map(AsRef::as_ref).collect()
}

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
    let Action::Forward(service) = &router_named(&compiled, "b@file").spec.action else {
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
            "\"weighted@file\" can't be used: the kind weighted is not served",
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
            "middlewares auth, gzip@docker",
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
fn unserved_sections_are_named() {
    let compiled = compiler().compile(&[reading("file", json!({"tcp": {}, "udp": {}}))], 1);
    let messages: Vec<&str> = compiled.problems.iter().map(|p| p.message.as_str()).collect();
    assert!(
        matches!(messages.as_slice(), [tcp, udp] if tcp.contains("tcp") && udp.contains("udp")),
        "{messages:?}"
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
fn without_changes_everything_is_the_same_object() {
    let document = document(&[("a", router("Host(`a.test`)")), ("bad", router("Host("))]);
    let mut compiler = compiler();
    let first = compiler.compile(&[reading("file", document.clone())], 1);
    assert_eq!(names(&first.changes.added), ["a@file"]);
    // An equal document that was read again: other allocations, same content.
    let second = compiler.compile(&[reading("file", document)], 2);
    assert!(second.changes.is_empty(), "{:?}", second.changes);
    assert_eq!(second.problems, first.problems);
    assert_eq!(second.disabled, first.disabled);
    assert_eq!(first.snapshot.routers().len(), second.snapshot.routers().len());
    for (a, b) in first.snapshot.routers().iter().zip(second.snapshot.routers()) {
        assert!(Arc::ptr_eq(a, b));
    }
    for (a, b) in first.snapshot.services().iter().zip(second.snapshot.services()) {
        assert!(Arc::ptr_eq(a, b));
    }
}

#[test]
fn a_change_touches_only_what_depends_on_it() {
    let document = |port: u16| {
        json!({"http": {
            "routers": {
                "a": {"rule": "Host(`a.test`)", "service": "a"},
                "b": {"rule": "Host(`b.test`)", "service": "b"},
            },
            "services": {
                "a": {"loadBalancer": {"servers": [{"url": format!("http://10.0.0.1:{port}")}, {"url": "http://10.0.0.2"}]}},
                "b": {"loadBalancer": {"servers": [{"url": "http://10.0.0.3"}]}},
            },
        }})
    };
    let mut compiler = compiler();
    let first = compiler.compile(&[reading("file", document(80))], 1);
    let second = compiler.compile(&[reading("file", document(81))], 2);
    assert_eq!(names(&second.changes.changed), ["a@file"]);
    assert_eq!((second.changes.added.len(), second.changes.removed.len()), (0, 0));
    let pair = |name| (router_named(&first, name), router_named(&second, name));
    let (old, new) = pair("b@file");
    assert!(Arc::ptr_eq(old, new));
    let (old, new) = pair("a@file");
    assert!(!Arc::ptr_eq(old, new));
    assert!(
        Arc::ptr_eq(&old.spec.rule, &new.spec.rule),
        "the rule is not parsed again"
    );
    let (Action::Forward(old), Action::Forward(new)) = (&old.spec.action, &new.spec.action) else {
        panic!("they do not forward");
    };
    assert!(!Arc::ptr_eq(&old.endpoints[0], &new.endpoints[0]));
    assert!(Arc::ptr_eq(&old.endpoints[1], &new.endpoints[1]));
}

#[test]
fn a_service_that_comes_and_goes_takes_its_routers_of_other_providers_along() {
    let docker = reading(
        "docker",
        json!({"http": {"routers": {"a": {"rule": "Host(`a.test`)", "service": "s@file"}}}}),
    );
    let file = reading("file", document(&[]));
    let without = reading("file", json!({}));
    let mut compiler = compiler();
    let compiled = compiler.compile(&[docker.clone(), without.clone()], 1);
    assert!(reason(&compiled, "a@docker").contains("there is no service \"s@file\""));
    let compiled = compiler.compile(&[docker.clone(), file], 2);
    assert_eq!(names(&compiled.changes.added), ["a@docker"]);
    assert_eq!(compiled.problems, []);
    let compiled = compiler.compile(&[docker.clone(), without], 3);
    assert_eq!(names(&compiled.changes.removed), ["a@docker"]);
    let compiled = compiler.compile(&[docker], 4);
    assert!(compiled.changes.is_empty());
}

#[test]
fn a_provider_that_is_gone_takes_its_objects_along() {
    let mut compiler = compiler();
    compiler.compile(
        &[reading("file", document(&[("a", router("Host(`a.test`)"))]))],
        1,
    );
    let compiled = compiler.compile(&[], 2);
    assert_eq!(names(&compiled.changes.removed), ["a@file"]);
    assert!(compiled.changes.services);
    assert!(compiled.snapshot.routers().is_empty() && compiled.snapshot.services().is_empty());
}

#[test]
fn a_stopped_container_keeps_its_route() {
    let running = reading("docker", document(&[("a", router("Host(`a.test`)"))]));
    let mut stopped = Contribution::clone(&running);
    let origin = ServerOrigin {
        name: "web-1".into(),
        condition: Condition::Unavailable("container exited (137)".into()),
    };
    stopped.origins = BTreeMap::from([(
        "s".to_owned(),
        BTreeMap::from([("http://10.0.0.1:80".to_owned(), origin)]),
    )]);
    let mut compiler = compiler();
    compiler.compile(&[running], 1);
    let compiled = compiler.compile(&[Arc::new(stopped)], 2);
    assert_eq!(names(&compiled.changes.changed), ["a@docker"]);
    assert_eq!(
        routed(&compiled, WEB, false, "a.test").as_deref(),
        Some("a@docker")
    );
}

#[test]
fn tls_options_apply_to_the_hosts_of_their_routers() {
    let tls = |options: &str| json!({"options": options});
    let on = |host: &str, tls: Value| json!({"rule": format!("Host(`{host}`)"), "service": "s", "tls": tls, "entryPoints": ["websecure"]});
    let mut document = document(&[
        ("strict", on("strict.test", tls("strict"))),
        ("default", on("default.test", tls("default"))),
        ("conflict-a", on("conflict.test", tls("strict"))),
        ("conflict-b", on("conflict.test", json!({}))),
        (
            "hostless",
            json!({"rule": "PathPrefix(`/x`)", "service": "s", "tls": tls("strict")}),
        ),
    ]);
    document["tls"] = json!({
        "options": {"strict": {"sniStrict": true}, "default": {"minVersion": "VersionTLS13"}},
        "certificates": [{"certFile": "/c.pem", "keyFile": "/k.pem"}],
        "stores": {"default": {"defaultCertificate": {"certFile": "/d.pem", "keyFile": "/e.pem"}}, "other": {}},
    });
    let compiled = compiler().compile(&[reading("file", document)], 1);
    let hosts: Vec<(&str, &str)> = compiled
        .tls
        .hosts
        .iter()
        .map(|h| (&*h.host, &*h.options))
        .collect();
    assert_eq!(hosts, [("strict.test", "strict@file")]);
    let options: Vec<&str> = compiled.tls.options.keys().map(AsRef::as_ref).collect();
    assert_eq!(options, ["default", "strict@file"]);
    assert_eq!(compiled.tls.certificates.len(), 1);
    assert!(compiled.tls.default_certificate.is_some());
    for (subject, words) in [
        (
            "host conflict.test",
            "conflict-a@file: strict@file, conflict-b@file: default",
        ),
        ("router hostless@file", "the rule has no Host(...)"),
        ("tls.stores other@file", "only the store \"default\""),
    ] {
        let found = compiled
            .problems
            .iter()
            .any(|p| p.subject == subject && p.message.contains(words));
        assert!(found, "{subject}: {:?}", compiled.problems);
    }
    assert_eq!(compiled.problems.len(), 3, "{:?}", compiled.problems);
}

#[test]
fn default_tls_options_of_two_providers_are_nobodys() {
    let document = json!({"tls": {"options": {"default": {"sniStrict": true}}}});
    let compiled = compiler().compile(
        &[reading("docker", document.clone()), reading("file", document)],
        1,
    );
    assert!(compiled.tls.options.is_empty());
    assert!(
        compiled.problems[0].message.contains("docker, file"),
        "{:?}",
        compiled.problems
    );
}

#[test]
fn a_new_revision_is_a_change_of_tls() {
    let first = reading("file", document(&[("a", router("Host(`a.test`)"))]));
    let mut second = Contribution::clone(&first);
    second.revision += 1;
    let mut compiler = compiler();
    compiler.compile(&[first], 1);
    let second = Arc::new(second);
    assert!(compiler.compile(std::slice::from_ref(&second), 2).changes.tls);
    assert!(
        compiler
            .compile(std::slice::from_ref(&second), 3)
            .changes
            .is_empty()
    );
    compiler.reread_files();
    assert!(compiler.compile(&[second], 4).changes.tls);
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
            turn: Turn::Take,
        };
        assert!(
            matches!(decide(&snapshot, &request), Decision::Unavailable { .. }),
            "{entry_point:?} {tls}"
        );
    }
}

#[test]
fn many_routes_share_what_they_can() {
    let routers: BTreeMap<String, Value> = (0..2000)
        .map(|n| (format!("r{n:05}"), router(&format!("Host(`h{}.test`)", n / 2))))
        .collect();
    let document = |extra: bool| {
        let mut routers = routers.clone();
        if extra {
            routers.insert("r00000-extra".to_owned(), router("Host(`extra.test`)"));
        }
        json!({"http": {"routers": routers, "services": {"s": {"loadBalancer": {"servers": []}}}}})
    };
    let mut compiler = compiler();
    let first = compiler.compile(&[reading("file", document(false))], 1);
    assert_eq!(first.snapshot.generation(), 1);
    // Two routers a host, and each stands in the plain and in the TLS table.
    assert_eq!(first.snapshot.routers().len(), 4000);
    let rules: HashSet<*const constellation_table::Rule> = first
        .snapshot
        .routers()
        .iter()
        .map(|r| Arc::as_ptr(&r.spec.rule))
        .collect();
    assert_eq!(rules.len(), 1000);
    let second = compiler.compile(&[reading("file", document(true))], 2);
    assert_eq!(names(&second.changes.added), ["r00000-extra@file"]);
    let kept: HashSet<*const Router> = first.snapshot.routers().iter().map(Arc::as_ptr).collect();
    let carried = second
        .snapshot
        .routers()
        .iter()
        .filter(|r| kept.contains(&Arc::as_ptr(r)))
        .count();
    assert_eq!(carried, 4000);
}
