//! Whatever is read: the document is one that a Traefik takes.

use std::path::Path;
use std::sync::Arc;

use constellation_config::{Format, dynamic};
use constellation_table::Condition;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::super::{Terms, document};
use super::{at_peer, stopped};
use crate::sources::Contribution;
use crate::sources::docker::labels;

/// Objects that may be empty.
const MAY_BE_EMPTY: [&str; 7] = [
    "tls",
    "compress",
    "contentType",
    "encodedCharacters",
    "ipStrategy",
    "healthCheck",
    "proxyProtocol",
];

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(vec!["a", "b", "c", "web", "Web", "a-here", "a-with-failover", "constellation-retry"])
            .prop_map(str::to_owned),
        1 => select(vec!["", "a@docker", "a[0]", "<<", "größe", "a b", "\u{7f}", "\"", "true", "~", "1"])
            .prop_map(str::to_owned),
        1 => any::<String>().prop_map(|text| text.chars().take(300).collect()),
    ]
}

fn reference() -> impl Strategy<Value = String> {
    (name(), select(vec!["", "@docker", "@file", "@internal", "@"])).prop_map(|(name, owner)| name + owner)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => select(vec!["Host(`a.test`)", "PathPrefix(`/`)", "HostSNI(`*`)", "HostSNI(`a.test`)", "Host(`*.test`)"])
            .prop_map(str::to_owned),
        1 => select(vec!["", "{{ x }}", "Host(`a\u{85}`)", "Header(`X`,`\u{feff}\u{2028}`)", "Hots(`a`)"])
            .prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

fn period() -> impl Strategy<Value = Value> {
    select(vec![
        json!("1s"),
        json!("10"),
        json!("10 parsecs"),
        json!(""),
        Value::Null,
        json!("-1s"),
    ])
}

fn optional(value: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
    prop_oneof![Just(Value::Null), value]
}

fn sticky() -> impl Strategy<Value = Value> {
    select(vec![
        Value::Null,
        json!({}),
        json!({"cookie": {}}),
        json!({"cookie": {"name": "c\u{7f}", "maxAge": 3}}),
    ])
}

fn balancer() -> impl Strategy<Value = Value> {
    let url = select(vec![
        "http://10.0.0.1",
        "h2c://10.0.0.2:81",
        "10.0.0.3",
        "",
        "gopher://x",
    ]);
    let check = (period(), text()).prop_map(|(interval, path)| json!({"interval": interval, "path": path}));
    (
        vec(url, 0..3),
        sticky(),
        optional(check),
        optional(reference().prop_map(Value::from)),
        period(),
    )
        .prop_map(|(urls, sticky, check, transport, period)| {
            let servers: Vec<Value> = urls.iter().map(|url| json!({"url": url})).collect();
            json!({"loadBalancer": {
                "servers": servers, "sticky": sticky, "healthCheck": check, "serversTransport": transport,
                "responseForwarding": {"flushInterval": period}, "strategy": null,
            }})
        })
}

fn service() -> impl Strategy<Value = Value> {
    let part = reference().prop_map(|name| json!({"name": name}));
    prop_oneof![
        4 => balancer(),
        1 => vec(part, 0..3).prop_map(|parts| json!({"weighted": {"services": parts, "healthCheck": {}}})),
        1 => (reference(), reference()).prop_map(|(a, b)| json!({"failover": {"service": a, "fallback": b}})),
        1 => (reference(), reference())
            .prop_map(|(a, b)| json!({"mirroring": {"service": a, "mirrors": [{"name": b, "percent": 5}]}})),
        1 => Just(json!({})),
    ]
}

fn router() -> impl Strategy<Value = Value> {
    let tls = select(vec![
        Value::Null,
        json!({}),
        json!({"options": "a"}),
        json!({"certResolver": "le"}),
    ]);
    let priority = select(vec![0, 0, 1, -1, i64::MAX, 14]);
    (text(), reference(), vec(reference(), 0..2), tls, priority).prop_map(
        |(rule, service, middlewares, tls, priority)| {
            json!({"rule": rule, "service": service, "middlewares": middlewares, "tls": tls, "priority": priority})
        },
    )
}

fn middleware() -> impl Strategy<Value = Value> {
    prop_oneof![
        select(vec![
            json!({}),
            json!({"compress": {}}),
            json!({"stripPrefix": {}}),
            json!({"stripPrefix": {"prefixes": ["/a"]}, "compress": {}}),
            json!({"headers": {"customRequestHeaders": {"\u{7f}": "x"}}}),
            json!({"headers": {}}),
            json!({"basicAuth": {"users": []}}),
            json!({"rateLimit": {"average": -1}}),
            json!({"ipAllowList": {"sourceRange": ["10.0.0.0/8"], "ipStrategy": {}}}),
            json!({"plugin": {"x": {}}}),
        ]),
        vec(reference(), 0..3).prop_map(|members| json!({"chain": {"middlewares": members}})),
        reference().prop_map(|service| json!({"errors": {"service": service, "status": ["500"]}})),
    ]
}

fn tcp_service() -> impl Strategy<Value = Value> {
    let address = select(vec!["10.0.0.1:5432", "x", ""]);
    vec(address, 0..3).prop_map(|addresses| {
        let servers: Vec<Value> = addresses
            .iter()
            .map(|address| json!({"address": address}))
            .collect();
        json!({"loadBalancer": {"servers": servers}})
    })
}

fn reading(provider: &'static str) -> impl Strategy<Value = Contribution> {
    let http = (
        btree_map(name(), router(), 0..5),
        btree_map(name(), service(), 0..5),
        btree_map(name(), middleware(), 0..4),
        btree_map(name(), Just(json!({})), 0..2),
    );
    let tcp = (
        btree_map(name(), router(), 0..3),
        btree_map(name(), tcp_service(), 0..3),
    );
    let options = btree_map(name(), Just(json!({})), 0..2);
    (http, tcp, options, any::<bool>(), any::<bool>()).prop_map(move |(http, tcp, options, elsewhere, down)| {
        let (routers, services, middlewares, transports) = http;
        let (tcp_routers, tcp_services) = tcp;
        let value = json!({
            "http": {
                "routers": routers, "services": services, "middlewares": middlewares, "serversTransports": transports,
            },
            "tcp": {"routers": tcp_routers, "services": tcp_services},
            "udp": {"services": tcp_services},
            "tls": {"options": options},
        });
        let read = serde_json::from_value(without_nulls(value)).unwrap();
        let mut reading = Contribution {
            provider,
            dynamic: read,
            ..Contribution::default()
        };
        for key in ["a", "b", "web"] {
            if elsewhere {
                reading = at_peer(reading, key, Condition::Ready);
            }
            if down {
                reading = stopped(reading, key, "http://10.0.0.1");
            }
        }
        reading
    })
}

/// Fields without a value have their default.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            fields.map(|(key, value)| (key, without_nulls(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// What a Traefik asks of every document, whatever is in it.
fn check(text: &str) {
    let taken_otherwise = |c: char| {
        matches!(
            c,
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
    };
    assert!(!text.contains(taken_otherwise), "{text:?}");
    let value: Value = serde_json::from_str(text).unwrap();
    assert_eq!(value, serde_json::from_str::<Value>(&value.to_string()).unwrap());
    check_value("", &value, text);
    // Every field is one that our reader of Traefik's documents knows, and of its type.
    if let Err(error) = dynamic::parse(text, Format::Json, Path::new("document.json")) {
        panic!("{error}\n{text}");
    }
    let objects = |section: &str, kind: &str| {
        let found = value.get(section).and_then(|section| section.get(kind));
        found.and_then(Value::as_object).cloned().unwrap_or_default()
    };
    for section in ["http", "tcp", "udp"] {
        let services = objects(section, "services");
        let middlewares = objects(section, "middlewares");
        for (name, router) in objects(section, "routers") {
            let service = router["service"].as_str().unwrap();
            assert!(services.contains_key(service), "{section} {name}: {text}");
            for named in router["middlewares"].as_array().into_iter().flatten() {
                assert!(
                    middlewares.contains_key(named.as_str().unwrap()),
                    "{name}: {text}"
                );
            }
            assert!(
                section == "udp" || router["priority"].as_i64().is_some_and(|p| p != 0),
                "{name}: {text}"
            );
        }
        for kind in ["routers", "services", "middlewares", "serversTransports"] {
            for name in objects(section, kind).keys() {
                assert!(!name.contains('@') && name.len() <= 300, "{name:?}: {text}");
            }
        }
    }
    for (name, middleware) in objects("http", "middlewares") {
        assert_eq!(
            labels::middleware(&middleware).map(Value::Object),
            Ok(middleware.clone()),
            "{name}: {text}"
        );
    }
}

fn check_value(key: &str, value: &Value, text: &str) {
    match value {
        Value::Object(fields) => {
            let may_be_empty = MAY_BE_EMPTY.contains(&key);
            assert!(may_be_empty || !fields.is_empty(), "{key} is empty in {text}");
            for (key, value) in fields {
                assert!(key.len() <= 1000, "{key}");
                check_value(key, value, text);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| check_value("", item, text)),
        Value::Null => panic!("{key} is null in {text}"),
        Value::Number(number) => assert!(number.is_i64() || number.is_u64(), "{key} in {text}"),
        Value::String(_) | Value::Bool(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn it_is_one_that_traefik_takes(
        docker in reading("docker"),
        file in reading("file"),
        failover in any::<bool>(),
        certificates in any::<bool>(),
    ) {
        let terms = Terms {
            failover: failover.then(|| "127.0.0.1:8082".to_owned()),
            certificates,
            ..Terms::default()
        };
        let (docker, file) = (Arc::new(docker), Arc::new(file));
        let one = document(&[docker.clone(), file.clone()], &terms);
        check(&one.text());
        let other = document(&[file, docker.clone()], &terms);
        prop_assert_eq!(one.text(), other.text());
        // Another provider's objects hurt nobody: what one has alone is there with the other one as well.
        let alone = document(&[docker], &terms);
        prop_assert!(alone.routers <= one.routers, "{} {}", alone.text(), one.text());
    }
}
