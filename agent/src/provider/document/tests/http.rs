//! Routers, services and middlewares of one node.

use serde_json::{Value, json};

use super::super::{RETRY, Terms, document};
use super::{at, is_left_out, made, reading, terms};

const WEB: &str = "
http:
  routers: {web: {rule: 'Host(`web.d.test`)', service: web}}
  services: {web: {loadBalancer: {servers: [{url: 'http://10.0.0.1:80'}]}}}
";

#[test]
fn a_route_is_written_with_what_it_needs_and_nothing_else() {
    let document = made([reading("docker", WEB)]);
    assert_eq!(
        document.value,
        json!({"http": {
            "routers": {"web-with-failover": {
                "rule": "Host(`web.d.test`)", "service": "web", "priority": 18, "middlewares": [RETRY],
            }},
            "services": {"web": {"loadBalancer": {"servers": [{"url": "http://10.0.0.1:80"}]}}},
            "middlewares": {RETRY: {"retry": {"attempts": 10, "initialInterval": "50ms"}}},
        }})
    );
    assert_eq!((document.routers, document.services), (1, 1));
    assert_eq!(document.left_out, []);
}

#[test]
fn without_routes_it_is_no_empty_object() {
    // Which to a Traefik is the same as no answer at all to some, and an order to forget everything to others.
    let document = made([]);
    assert_eq!(document.routers, 0);
    assert!(
        document.text().starts_with("{\"http\":{\"middlewares\":{"),
        "{}",
        document.text()
    );
}

#[test]
fn names_of_two_providers_are_told_apart_and_references_follow() {
    let file = reading(
        "file",
        "
http:
  routers:
    web: {rule: 'Host(`a.test`)', service: web}
    other: {rule: 'Host(`b.test`)', service: web@docker, middlewares: [strip@file]}
  services: {web: {loadBalancer: {servers: [{url: 'http://10.0.0.2:80'}]}}}
  middlewares: {strip: {stripPrefix: {prefixes: [/a]}}}
",
    );
    let document = made([file, reading("docker", WEB)]);
    assert_eq!(at(&document, "/http/routers/web-with-failover/service"), "web");
    assert_eq!(
        at(&document, "/http/routers/web-file-with-failover/service"),
        "web-file"
    );
    assert_eq!(at(&document, "/http/routers/other/service"), "web");
    assert_eq!(
        at(&document, "/http/routers/other/middlewares"),
        &json!(["strip", RETRY])
    );
    assert_eq!(
        at(&document, "/http/services/web-file/loadBalancer/servers/0/url"),
        "http://10.0.0.2:80"
    );
}

#[test]
fn what_traefik_would_refuse_costs_itself_and_what_needs_it() {
    let document = made([
        reading(
            "file",
            "
http:
  routers:
    ok: {rule: 'Host(`ok.test`)', service: ok}
    bad-rule: {rule: 'Hots(`a.test`)', service: ok}
    bad-service: {rule: 'Host(`a.test`)', service: gone}
    bad-middleware: {rule: 'Host(`a.test`)', service: ok, middlewares: [empty]}
    bad-chain: {rule: 'Host(`a.test`)', service: ok, middlewares: [chain]}
    bad-options: {rule: 'Host(`a.test`)', service: ok, tls: {options: none}}
    bad-period: {rule: 'Host(`a.test`)', service: checked}
    old: {rule: 'Host:a.test', service: ok, ruleSyntax: v2}
    high: {rule: 'Host(`a.test`)', service: ok, priority: 9223372036854775807}
    inner: {rule: 'Host(`a.test`)', service: api@internal}
  services:
    ok: {loadBalancer: {servers: [{url: 'http://10.0.0.1'}]}}
    checked: {loadBalancer: {servers: [{url: 'http://10.0.0.1'}], responseForwarding: {flushInterval: 1s}, strategy: best}}
    both: {loadBalancer: {servers: []}, weighted: {services: [{name: ok}]}}
    broken: {weighted: {services: [{name: ok}, {name: gone}]}}
    guarded: {loadBalancer: {servers: []}, middlewares: [strip]}
  middlewares:
    empty: {stripPrefix: {}}
    chain: {chain: {middlewares: [strip, empty]}}
    loop: {chain: {middlewares: [loop]}}
    strip: {stripPrefix: {prefixes: [/a]}}
",
        ),
        reading("docker", WEB),
    ]);
    let routers: Vec<&String> = at(&document, "/http/routers")
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(routers, ["ok-with-failover", "web-with-failover"]);
    let services: Vec<&String> = at(&document, "/http/services")
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(services, ["ok", "web"]);
    let middlewares: Vec<&String> = at(&document, "/http/middlewares")
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(middlewares, [RETRY, "strip"]);
    for (subject, words) in [
        ("router bad-rule@file", "Hots"),
        ("router bad-service@file", "\"gone\" is not in the document"),
        (
            "router bad-middleware@file",
            "\"empty\" is not in the document, and without it",
        ),
        ("router bad-chain@file", "\"chain\" is not in the document"),
        ("router bad-options@file", "tls.options \"none\""),
        ("router bad-period@file", "\"checked\" is not in the document"),
        ("router old@file", "v3 syntax"),
        ("router high@file", "out of range"),
        ("router inner@file", "api@internal"),
        ("service checked@file", "strategy \"best\""),
        ("service both@file", "several kinds"),
        ("service broken@file", "not in the document either"),
        ("service guarded@file", "middlewares of a service"),
        ("middleware empty@file", "its kind no option"),
        ("middleware chain@file", "not in the document either"),
        ("middleware loop@file", "not in the document either"),
    ] {
        assert!(
            is_left_out(&document, subject, words),
            "{subject}: {:?}",
            document.left_out
        );
    }
    assert_eq!(document.left_out.len(), 16);
}

#[test]
fn a_name_that_no_document_takes_is_left_out() {
    for name in ["a[0]", "<<", &"k".repeat(300)] {
        let text = json!({"http": {
            "routers": {name: {"rule": "Host(`a.test`)", "service": "web"}},
            "services": {name: {"loadBalancer": {"servers": []}}},
        }});
        let document = made([reading("file", &text.to_string()), reading("docker", WEB)]);
        assert_eq!(document.left_out.len(), 2, "{:?}", document.left_out);
        at(&document, "/http/routers/web-with-failover");
        assert_eq!(document.routers, 1);
    }
}

#[test]
fn options_of_a_service_are_written_as_traefik_takes_them() {
    let document = made([reading(
        "file",
        "
http:
  services:
    a:
      loadBalancer:
        servers: [{url: 'http://10.0.0.2:80', weight: 3}, {url: 'https://10.0.0.1', preservePath: true}, {url: nonsense}]
        strategy: p2c
        passHostHeader: false
        sticky: {cookie: {httpOnly: true}}
        healthCheck: {path: /h, interval: 10, headers: {X-A: b}}
        passiveHealthCheck: {failureWindow: 1m30s, maxFailedAttempts: 2}
        responseForwarding: {flushInterval: 1s}
        serversTransport: t
    empty-check: {loadBalancer: {servers: [{url: 'http://10.0.0.1'}], healthCheck: {}}}
  serversTransports:
    t: {serverName: x, insecureSkipVerify: true, forwardingTimeouts: {dialTimeout: 1}}
    plain: {}
    private: {certificates: [{certFile: c, keyFile: '-----BEGIN PRIVATE KEY-----'}]}
",
    )]);
    let cookie = at(&document, "/http/services/a/loadBalancer/sticky/cookie/name").clone();
    assert!(
        cookie.as_str().is_some_and(|name| name.starts_with('_')),
        "{cookie}"
    );
    assert_eq!(
        at(&document, "/http/services/a/loadBalancer"),
        &json!({
            "servers": [
                {"url": "http://10.0.0.2:80", "weight": 3},
                {"url": "https://10.0.0.1", "preservePath": true},
            ],
            "strategy": "p2c",
            "passHostHeader": false,
            "sticky": {"cookie": {"name": cookie, "httpOnly": true}},
            "healthCheck": {"path": "/h", "interval": "10s", "headers": {"X-A": "b"}},
            "passiveHealthCheck": {"failureWindow": "1m30s", "maxFailedAttempts": 2},
            "responseForwarding": {"flushInterval": "1s"},
            "serversTransport": "t",
        })
    );
    assert_eq!(
        at(&document, "/http/services/empty-check"),
        &json!({"loadBalancer": {"servers": [{"url": "http://10.0.0.1"}]}})
    );
    assert_eq!(
        at(&document, "/http/serversTransports"),
        &json!({
            "plain": {"insecureSkipVerify": false},
            "t": {"serverName": "x", "insecureSkipVerify": true, "forwardingTimeouts": {"dialTimeout": "1s"}},
        })
    );
    assert!(is_left_out(
        &document,
        "serversTransport private@file",
        "private key"
    ));
    assert!(!document.text().contains("BEGIN"));
}

#[test]
fn services_built_of_others_keep_their_parts() {
    let document = made([reading(
        "file",
        "
http:
  services:
    top: {failover: {service: split, fallback: b, errors: {status: ['500-504']}}}
    split: {weighted: {services: [{name: a, weight: 3}, {name: b@file}], healthCheck: {}, sticky: {cookie: {name: c}}}}
    checked: {weighted: {services: [{name: a}], healthCheck: {}}}
    copies: {mirroring: {service: a, mirrorBody: false, mirrors: [{name: b, percent: 10}]}}
    same: {highestRandomWeight: {services: [{name: a}, {name: b}]}}
    a: {loadBalancer: {servers: [{url: 'http://10.0.0.1'}], healthCheck: {path: /}}}
    b: {loadBalancer: {servers: [{url: 'http://10.0.0.2'}]}}
",
    )]);
    assert_eq!(document.left_out, []);
    for (service, expected) in [
        (
            "top",
            json!({"failover": {"service": "split", "fallback": "b", "errors": {"status": ["500-504"]}}}),
        ),
        // One of its parts is not checked: with `healthCheck` Traefik would refuse it.
        (
            "split",
            json!({"weighted": {
                "services": [{"name": "a", "weight": 3}, {"name": "b"}], "sticky": {"cookie": {"name": "c"}},
            }}),
        ),
        (
            "checked",
            json!({"weighted": {"services": [{"name": "a"}], "healthCheck": {}}}),
        ),
        (
            "copies",
            json!({"mirroring": {"service": "a", "mirrorBody": false, "mirrors": [{"name": "b", "percent": 10}]}}),
        ),
        (
            "same",
            json!({"highestRandomWeight": {"services": [{"name": "a"}, {"name": "b"}]}}),
        ),
    ] {
        assert_eq!(
            at(&document, &format!("/http/services/{service}")),
            &expected,
            "{service}"
        );
    }
}

#[test]
fn routers_get_what_the_configuration_says_where_they_say_nothing() {
    let text = "
http:
  routers:
    plain: {rule: 'Host(`a.test`)', service: s}
    secure: {rule: 'Host(`b.test`)', service: s, tls: true, entryPoints: [mine]}
    named: {rule: 'Host(`c.test`)', service: s, tls: {certResolver: own, domains: [{main: c.test}]}}
  services: {s: {loadBalancer: {servers: []}}}
";
    let terms = Terms {
        entry_points: vec!["websecure".to_owned()],
        cert_resolver: Some("letsencrypt".to_owned()),
        ..terms()
    };
    let document = document(&[reading("file", text).into()], &terms);
    assert_eq!(
        at(&document, "/http/routers/plain/entryPoints"),
        &json!(["websecure"])
    );
    assert_eq!(document.value.pointer("/http/routers/plain/tls"), None);
    assert_eq!(
        at(&document, "/http/routers/secure/entryPoints"),
        &json!(["mine"])
    );
    assert_eq!(
        at(&document, "/http/routers/secure/tls"),
        &json!({"certResolver": "letsencrypt"})
    );
    assert_eq!(
        at(&document, "/http/routers/named/tls"),
        &json!({"certResolver": "own", "domains": [{"main": "c.test"}]})
    );
}

#[test]
fn a_tls_router_without_options_stays_one() {
    let text = "
http:
  routers: {r: {rule: 'Host(`a.test`)', service: s, tls: true}}
  services: {s: {loadBalancer: {servers: []}}}
";
    assert_eq!(
        at(&made([reading("file", text)]), "/http/routers/r/tls"),
        &json!({})
    );
}

#[test]
fn certificates_are_told_only_where_that_is_asked_for() {
    let text = "
tls:
  certificates: [{certFile: /c.pem, keyFile: /k.pem}]
  options: {strict: {sniStrict: true, minVersion: VersionTLS10}}
  stores: {default: {defaultCertificate: {certFile: /d.pem, keyFile: '-----BEGIN PRIVATE KEY-----'}}}
";
    let told = |certificates| {
        let terms = Terms {
            certificates,
            ..terms()
        };
        document(&[reading("file", text).into()], &terms).value["tls"].clone()
    };
    let options = json!({"strict": {"minVersion": "VersionTLS12", "sniStrict": true}});
    assert_eq!(told(false), json!({"options": options}));
    assert_eq!(
        told(true),
        json!({
            "options": options,
            "certificates": [{"certFile": "/c.pem", "keyFile": "/k.pem"}],
            "stores": {"default": {"defaultCertificate": {"certFile": "/d.pem", "keyFile": "-----BEGIN PRIVATE KEY-----"}}},
        })
    );
}

#[test]
fn the_same_readings_give_the_same_bytes_in_any_order() {
    let file = || reading("file", &WEB.replace("web.d.test", "file.d.test"));
    let one = made([file(), reading("docker", WEB)]).text();
    let other = made([reading("docker", WEB), file()]).text();
    assert_eq!(one, other);
    let value: Value = serde_json::from_str(&one).unwrap();
    assert_eq!(value.to_string(), one, "keys are sorted");
}
