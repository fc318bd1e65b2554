//! The sections `tcp` and `udp`.

use constellation_table::Condition;
use serde_json::json;

use super::{at, at_peer, is_left_out, made, reading, stopped};

#[test]
fn streams_are_written_with_their_own_instances() {
    let text = "
tcp:
  routers:
    db: {rule: 'HostSNI(`db.test`)', service: db, tls: {passthrough: true}, middlewares: [list], entryPoints: [pg]}
    all: {rule: 'HostSNI(`*`)', service: both}
    plain: {rule: 'HostSNI(`db.test`)', service: db}
    lost: {rule: 'HostSNI(`*`)', service: db, middlewares: [nobody]}
  services:
    db: {loadBalancer: {servers: [{address: '10.0.0.2:5432', tls: true}, {address: '10.0.0.1:5432'}, {address: x}],
         serversTransport: t, proxyProtocol: {}, healthCheck: {interval: 1}}}
    both: {weighted: {services: [{name: db, weight: 2}]}}
  middlewares: {list: {ipWhiteList: {sourceRange: 10.0.0.0/8}}, nobody: {ipAllowList: {sourceRange: []}}}
  serversTransports: {t: {dialTimeout: 5}, id: {tls: {peerCertURI: 'spiffe://x'}}}
udp:
  routers: {dns: {service: dns, entryPoints: [dns]}, lost: {service: gone}}
  services: {dns: {loadBalancer: {servers: [{address: '10.0.0.1:53'}]}}, w: {weighted: {services: [{name: dns}]}}}
";
    let document = made([stopped(reading("file", text), "tcp/db", "10.0.0.1:5432")]);
    assert_eq!(
        at(&document, "/tcp"),
        &json!({
            "routers": {
                "db": {
                    "rule": "HostSNI(`db.test`)", "service": "db", "priority": 18, "tls": {"passthrough": true},
                    "middlewares": ["list"], "entryPoints": ["pg"],
                },
                "all": {"rule": "HostSNI(`*`)", "service": "both", "priority": -1},
            },
            "services": {
                "db": {"loadBalancer": {
                    "servers": [{"address": "10.0.0.2:5432", "tls": true}],
                    "serversTransport": "t",
                    "proxyProtocol": {"version": 2},
                    "healthCheck": {"interval": "1s"},
                }},
                "both": {"weighted": {"services": [{"name": "db", "weight": 2}]}},
            },
            "middlewares": {"list": {"ipAllowList": {"sourceRange": ["10.0.0.0/8"]}}},
            "serversTransports": {"t": {"dialTimeout": "5s"}},
        })
    );
    assert_eq!(
        at(&document, "/udp"),
        &json!({
            "routers": {"dns": {"service": "dns", "entryPoints": ["dns"]}},
            "services": {
                "dns": {"loadBalancer": {"servers": [{"address": "10.0.0.1:53"}]}},
                "w": {"weighted": {"services": [{"name": "dns"}]}},
            },
        })
    );
    for (subject, words) in [
        ("router tcp/ plain@file", "needs tls"),
        ("router tcp/ lost@file", "\"nobody\" is not in the document"),
        ("router udp/ lost@file", "\"gone\" is not in the document"),
        ("middleware tcp/ nobody@file", "it allows nobody"),
        ("serversTransport tcp/ id@file", "SPIFFE"),
    ] {
        assert!(
            is_left_out(&document, subject, words),
            "{subject}: {:?}",
            document.left_out
        );
    }
    assert_eq!((document.routers, document.services), (3, 4));
}

#[test]
fn a_route_of_which_no_instance_can_serve_stays() {
    let text = "
tcp:
  routers: {db: {rule: 'HostSNI(`*`)', service: db}}
  services: {db: {loadBalancer: {servers: [{address: '10.0.0.1:5432'}]}}}
";
    let document = made([stopped(reading("file", text), "tcp/db", "10.0.0.1:5432")]);
    assert_eq!(
        at(&document, "/tcp/services/db"),
        &json!({"loadBalancer": {"servers": []}})
    );
    assert_eq!(at(&document, "/tcp/routers/db/service"), "db");
}

const DB: &str = "
tcp:
  routers: {db: {rule: 'HostSNI(`*`)', service: db}}
  services: {db: {loadBalancer: {serversTransport: mine, servers: [{address: '10.0.0.1:5432'}]}}}
  serversTransports: {mine: {dialTimeout: 1s}}
";

#[test]
fn a_tcp_service_of_another_node_alone_is_reached_through_this_one_by_its_name() {
    let there = at_peer(
        stopped(reading("file", DB), "tcp/db", "10.0.0.1:5432"),
        "tcp/db",
        Condition::Ready,
    );
    let document = made([there]);
    assert_eq!(
        at(&document, "/tcp/services/db"),
        &json!({"loadBalancer": {
            "servers": [{"address": "127.0.0.1:8082", "tls": true}],
            "serversTransport": "constellation-db",
        }})
    );
    assert_eq!(
        at(&document, "/tcp/serversTransports/constellation-db"),
        &json!({
            "proxyProtocol": {"version": 2},
            "tls": {"serverName": "db_40file.tcp.constellation.internal", "insecureSkipVerify": true},
        })
    );
}

#[test]
fn a_tcp_service_that_has_an_instance_here_is_served_by_it() {
    for condition in [Condition::Ready, Condition::Unavailable("it is gone".into())] {
        let mut both = at_peer(reading("file", DB), "tcp/db", condition.clone());
        let here = json!({"loadBalancer": {
            "servers": [{"address": "10.0.0.1:5432"}],
            "serversTransport": "mine",
        }});
        assert_eq!(at(&made([both.clone()]), "/tcp/services/db"), &here);
        both = stopped(both, "tcp/db", "10.0.0.1:5432");
        let servers = at(&made([both]), "/tcp/services/db/loadBalancer/servers").clone();
        let through_this_node = servers[0]["address"] == "127.0.0.1:8082";
        assert_eq!(through_this_node, condition == Condition::Ready, "{servers}");
    }
}

#[test]
fn a_transport_that_has_the_name_already_stays_what_it_is() {
    let text = DB.replace(
        "serversTransports: {",
        "serversTransports: {constellation-db: {dialTimeout: 2s}, ",
    );
    let there = at_peer(
        stopped(reading("file", &text), "tcp/db", "10.0.0.1:5432"),
        "tcp/db",
        Condition::Ready,
    );
    let document = made([there]);
    assert_eq!(
        at(&document, "/tcp/serversTransports/constellation-db"),
        &json!({"dialTimeout": "2s"})
    );
    assert_eq!(at(&document, "/tcp/services/db/loadBalancer/servers"), &json!([]));
}
