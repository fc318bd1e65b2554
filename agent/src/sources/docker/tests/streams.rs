//! TCP and UDP labels, from inspections to contributions; what is expected is what Traefik 3.7.15 answered to the same
//! containers, but for the port of a TCP service beside a lower one for UDP.

use serde_json::{Value, json};

use constellation_config::dynamic::{CheckMode, ServiceOptions};
use constellation_table::Condition;

use super::{contribution, exited, inspection, problems, provider, routers, servers};
use crate::sources::Contribution;

/// `ROUTER RULE -> SERVICE` of TCP and UDP routers.
fn stream_routers(contribution: &Contribution) -> Vec<String> {
    let tcp = contribution.dynamic.tcp.routers.iter();
    let tcp = tcp.map(|(name, router)| format!("tcp/{name} {} -> {}", router.rule, router.service));
    let udp = contribution.dynamic.udp.routers.iter();
    let udp = udp.map(|(name, router)| format!("udp/{name} -> {}", router.service));
    tcp.chain(udp).collect()
}

/// `SERVICE ADDRESS` of every server of TCP and UDP services, with the reason if it is unavailable.
fn stream_servers(contribution: &Contribution) -> Vec<String> {
    let mut found = Vec::new();
    for (name, service) in &contribution.dynamic.tcp.services {
        let servers = service
            .load_balancer
            .iter()
            .flat_map(|balancer| &balancer.servers);
        found.extend(servers.map(|server| (format!("tcp/{name}"), server.address.clone())));
    }
    for (name, service) in &contribution.dynamic.udp.services {
        let servers = service
            .load_balancer
            .iter()
            .flat_map(|balancer| &balancer.servers);
        found.extend(servers.map(|server| (format!("udp/{name}"), server.address.clone())));
    }
    let shown = found.into_iter().map(|(service, address)| {
        match &contribution.origins[&service][&address].condition {
            Condition::Ready => format!("{service} {address}"),
            Condition::Unavailable(reason) | Condition::Draining(reason) => {
                format!("{service} {address} ({reason})")
            }
        }
    });
    shown.collect()
}

fn exposing(ports: &[&str], labels: &[(&str, &str)]) -> Value {
    let mut inspection = inspection("db", "10.0.0.1", labels);
    let ports: serde_json::Map<String, Value> = ports
        .iter()
        .map(|port| ((*port).to_owned(), json!(null)))
        .collect();
    inspection["NetworkSettings"]["Ports"] = Value::Object(ports);
    inspection
}

/// Exposed ports, labels, and the routers, servers and problems that come of them.
type Case<'a> = (
    &'a [&'a str],
    &'a [(&'a str, &'a str)],
    &'a [&'a str],
    &'a [&'a str],
    &'a [&'a str],
);

#[test]
fn routers_and_services_find_each_other() {
    let cases: &[Case<'_>] = &[
        (
            &["5432/tcp"],
            &[("traefik.tcp.routers.r.rule", "HostSNI(`*`)")],
            &["tcp/r HostSNI(`*`) -> db"],
            &["tcp/db 10.0.0.1:5432"],
            &[],
        ),
        // Traefik takes 53, the lowest number.
        (
            &["5432/tcp", "53/udp"],
            &[("traefik.tcp.routers.r.rule", "HostSNI(`*`)")],
            &["tcp/r HostSNI(`*`) -> db"],
            &["tcp/db 10.0.0.1:5432"],
            &[],
        ),
        (
            &["80/tcp", "53/udp", "54/udp"],
            &[("traefik.udp.routers.r.entrypoints", "dns")],
            &["udp/r -> db"],
            &["udp/db 10.0.0.1:53"],
            &[],
        ),
        (
            &["80/tcp"],
            &[("traefik.udp.services.s.loadbalancer.server.port", "5353")],
            &[],
            &["udp/s 10.0.0.1:5353"],
            &[],
        ),
        // The container's own address replaces the label's.
        (
            &["80/tcp"],
            &[("traefik.tcp.services.s.loadbalancer.server.address", "1.2.3.4:5")],
            &[],
            &["tcp/s 10.0.0.1:80"],
            &[],
        ),
        (
            &["80/tcp"],
            &[("traefik.tcp.routers.r.entrypoints", "tcp1")],
            &[],
            &["tcp/db 10.0.0.1:80"],
            &[
                "container db: router `tcp/r` is dropped: it has no rule, and TCP routers have no default one; write one, HostSNI(`*`) for every connection",
            ],
        ),
        (
            &["80/tcp"],
            &[
                ("traefik.tcp.services.a.loadbalancer.server.port", "1"),
                ("traefik.tcp.services.b.loadbalancer.server.port", "2"),
                ("traefik.tcp.routers.r.rule", "HostSNI(`*`)"),
                ("traefik.tcp.routers.q.rule", "HostSNI(`*`)"),
                ("traefik.tcp.routers.q.service", "b"),
            ],
            &["tcp/q HostSNI(`*`) -> b"],
            &["tcp/a 10.0.0.1:1", "tcp/b 10.0.0.1:2"],
            &[
                "container db: router `tcp/r` is dropped: it cannot be linked automatically with several services (a, b); set its `service`",
            ],
        ),
        (
            &["80/tcp"],
            &[("traefik.tcp.services.s.weighted.services[0].name", "x")],
            &[],
            &[],
            &[
                "container db: service `tcp/s`: load-balancer is not defined: labels can only define `loadbalancer` services; the container is not used",
            ],
        ),
        (
            &[],
            &[("traefik.tcp.routers.r.rule", "HostSNI(`*`)")],
            &[],
            &[],
            &[
                "container db: service `tcp/db`: port is missing: the container exposes none; set the label `traefik.tcp.services.db.loadbalancer.server.port`; the container is not used",
            ],
        ),
    ];
    for (ports, labels, expected_routers, expected_servers, said) in cases {
        let contribution = contribution(&provider(), vec![exposing(ports, labels)]);
        assert_eq!(stream_routers(&contribution), *expected_routers, "{labels:?}");
        assert_eq!(stream_servers(&contribution), *expected_servers, "{labels:?}");
        assert_eq!(problems(&contribution), *said, "{labels:?}");
        assert_eq!(
            routers(&contribution),
            Vec::<String>::new(),
            "no HTTP: {labels:?}"
        );
        assert_eq!(
            servers(&contribution),
            Vec::<String>::new(),
            "no HTTP: {labels:?}"
        );
    }
}

#[test]
fn only_routers_and_services_of_streams_keep_the_http_router_away() {
    for (key, value, http) in [
        (
            "traefik.tcp.middlewares.m.inflightconn.amount",
            "3",
            "db Host(`db`) -> db",
        ),
        (
            "traefik.http.middlewares.m.compress",
            "true",
            "db Host(`db`) -> db",
        ),
        ("traefik.http.routers.h.rule", "Host(`h`)", "h Host(`h`) -> db"),
    ] {
        let mut labels = vec![(key, value)];
        let alone = contribution(&provider(), vec![inspection("db", "10.0.0.1", &labels)]);
        assert_eq!(routers(&alone), [http], "{key}");
        labels.push(("traefik.tcp.routers.r.rule", "HostSNI(`*`)"));
        let both = contribution(&provider(), vec![inspection("db", "10.0.0.1", &labels)]);
        let expected: &[&str] = if key.starts_with("traefik.tcp") {
            &[]
        } else {
            &[http]
        };
        assert_eq!(routers(&both), expected, "{key}");
        assert_eq!(stream_routers(&both), ["tcp/r HostSNI(`*`) -> db"], "{key}");
    }
}

#[test]
fn options_of_tcp_objects_arrive() {
    let labels = [
        ("traefik.tcp.routers.r.rule", "HostSNI(`db.test`)"),
        ("traefik.tcp.routers.r.tls.passthrough", "true"),
        ("traefik.tcp.routers.r.middlewares", "lan, few"),
        ("traefik.tcp.routers.r.priority", "-3"),
        ("traefik.TCP.Services.s.loadBalancer.server.TLS", "true"),
        ("traefik.tcp.services.s.loadbalancer.proxyprotocol", "true"),
        ("traefik.tcp.services.s.loadbalancer.terminationdelay", "-1"),
        ("traefik.tcp.services.s.loadbalancer.serverstransport", "t@file"),
        ("traefik.tcp.services.s.loadbalancer.healthcheck.send", "PING"),
        ("traefik.tcp.services.s.loadbalancer.healthcheck.interval", "3s"),
        (
            "traefik.tcp.middlewares.lan.ipallowlist.sourcerange",
            "10.0.0.0/8, ::1",
        ),
        ("traefik.tcp.middlewares.few.inflightconn.amount", "10"),
        ("traefik.tcp.serverstransports.t.dialtimeout", "3s"),
    ];
    let read = contribution(&provider(), vec![inspection("db", "10.0.0.1", &labels)]);
    assert_eq!(problems(&read), Vec::<String>::new());
    let tcp = serde_json::to_value(&read.dynamic.tcp).unwrap();
    assert_eq!(tcp["routers"]["r"]["tls"]["passthrough"], true);
    assert_eq!(tcp["routers"]["r"]["middlewares"], json!(["lan", "few"]));
    assert_eq!(tcp["routers"]["r"]["priority"], -3);
    let balancer = &tcp["services"]["s"]["loadBalancer"];
    assert_eq!(
        balancer["servers"],
        json!([{"address": "10.0.0.1:80", "tls": true}])
    );
    assert_eq!(balancer["proxyProtocol"], json!({"version": 2}));
    assert_eq!(
        (&balancer["terminationDelay"], &balancer["serversTransport"]),
        (&json!(-1), &json!("t@file"))
    );
    assert_eq!(balancer["healthCheck"]["interval"], "3s");
    assert_eq!(
        tcp["middlewares"]["lan"]["ipAllowList"]["sourceRange"],
        json!(["10.0.0.0/8", "::1"])
    );
    assert_eq!(tcp["middlewares"]["few"]["inFlightConn"]["amount"], 10);
    assert_eq!(tcp["serversTransports"], json!({}));
}

#[test]
fn replicas_add_up_and_different_definitions_cancel_each_other() {
    let port = ("traefik.tcp.services.rep.loadbalancer.server.port", "9");
    let delay = ("traefik.tcp.services.rep.loadbalancer.terminationdelay", "3");
    let rule = |rule| ("traefik.tcp.routers.rep.rule", rule);
    let two = |a: &[(&str, &str)], b: &[(&str, &str)]| {
        contribution(
            &provider(),
            vec![inspection("a", "10.0.0.1", a), inspection("b", "10.0.0.2", b)],
        )
    };
    let same = two(&[port, rule("HostSNI(`*`)")], &[port, rule("HostSNI(`*`)")]);
    assert_eq!(
        stream_servers(&same),
        ["tcp/rep 10.0.0.1:9", "tcp/rep 10.0.0.2:9"]
    );
    assert_eq!(stream_routers(&same), ["tcp/rep HostSNI(`*`) -> rep"]);

    let different = two(
        &[port, rule("HostSNI(`*`)")],
        &[port, delay, rule("HostSNI(`x`)")],
    );
    assert_eq!(
        (stream_servers(&different).len(), stream_routers(&different).len()),
        (0, 0)
    );
    let said = "defined multiple times with different configurations, so it is dropped: by containers a, b; make their \
                labels the same, or give each its own name";
    assert_eq!(
        problems(&different),
        [
            format!("router tcp/rep@docker: {said}"),
            format!("service tcp/rep@docker: {said}")
        ]
    );
    assert!(different.origins.is_empty());
}

#[test]
fn what_has_the_same_name_in_another_section_is_another_object() {
    let labels = [
        ("traefik.tcp.routers.x.rule", "HostSNI(`*`)"),
        ("traefik.tcp.services.x.loadbalancer.server.port", "1"),
        ("traefik.udp.routers.x.entrypoints", "dns"),
        ("traefik.udp.services.x.loadbalancer.server.port", "2"),
        ("traefik.http.routers.x.rule", "Host(`x`)"),
        ("traefik.http.services.x.loadbalancer.server.port", "3"),
    ];
    let read = contribution(&provider(), vec![inspection("x", "10.0.0.1", &labels)]);
    assert_eq!(stream_servers(&read), ["tcp/x 10.0.0.1:1", "udp/x 10.0.0.1:2"]);
    assert_eq!(servers(&read), ["x http://10.0.0.1:3"]);
    assert_eq!(problems(&read), Vec::<String>::new());
}

#[test]
fn a_stopped_container_keeps_its_route_and_takes_none() {
    let labels = [
        ("traefik.tcp.routers.r.rule", "HostSNI(`*`)"),
        ("traefik.tcp.services.s.loadbalancer.server.port", "9"),
        ("traefik.udp.routers.u.entrypoints", "dns"),
        ("traefik.udp.services.u.loadbalancer.server.port", "53"),
    ];
    let stopped = || exited(inspection("old", "10.0.0.2", &labels), 137);
    let alone = contribution(&provider(), vec![stopped()]);
    assert_eq!(stream_routers(&alone), ["tcp/r HostSNI(`*`) -> s", "udp/u -> u"]);
    let reason = "(container old exited (137) at 2026-01-01T10:00:00.5Z)";
    assert_eq!(
        stream_servers(&alone),
        [
            format!("tcp/s old.invalid:9 {reason}"),
            format!("udp/u old.invalid:53 {reason}")
        ]
    );
    // One that serves under another name takes the same connections: the stopped one adds no router beside it.
    let other = [
        ("traefik.tcp.routers.new.rule", "HostSNI(`*`)"),
        ("traefik.tcp.services.new.loadbalancer.server.port", "9"),
        ("traefik.udp.routers.new.entrypoints", "dns"),
    ];
    let both = contribution(
        &provider(),
        vec![stopped(), inspection("new", "10.0.0.1", &other)],
    );
    assert_eq!(
        stream_routers(&both),
        ["tcp/new HostSNI(`*`) -> new", "udp/new -> new"]
    );
}

#[test]
fn ports_of_the_host_have_protocols_too() {
    let mut options = provider();
    options.use_bind_port_ip = true;
    let labels = [
        ("traefik.tcp.services.s.loadbalancer.server.port", "53"),
        ("traefik.udp.services.s.loadbalancer.server.port", "53"),
    ];
    let mut dns = inspection("dns", "10.0.0.1", &labels);
    dns["NetworkSettings"]["Ports"] = json!({
        "53/tcp": [{"HostIp": "192.0.2.1", "HostPort": "5301"}],
        "53/udp": [{"HostIp": "192.0.2.1", "HostPort": "5302"}],
    });
    assert_eq!(
        stream_servers(&contribution(&options, vec![dns])),
        ["tcp/s 192.0.2.1:5301", "udp/s 192.0.2.1:5302"]
    );
}

#[test]
fn own_options_and_those_of_the_earlier_system() {
    let check = |labels: &[(&str, &str)]| {
        let read = contribution(&provider(), vec![inspection("db", "10.0.0.1", labels)]);
        let services = read.dynamic.constellation.tcp.services.iter();
        let checks = services.map(|(name, options): (&String, &std::sync::Arc<ServiceOptions>)| {
            let check = options.health_check.clone().unwrap_or_default();
            (name.clone(), check.enabled, check.mode)
        });
        (checks.collect::<Vec<_>>(), problems(&read))
    };
    let rule = ("traefik.tcp.routers.r.rule", "HostSNI(`*`)");
    let enable = ("osvc.l4.enable", "true");
    let on = |mode| vec![("db".to_owned(), Some(true), Some(mode))];
    for (labels, expected) in [
        (vec![rule, enable], on(CheckMode::Tcp)),
        (vec![rule, enable, ("osvc.l4.port", "80")], on(CheckMode::Tcp)),
        (
            vec![rule, enable, ("osvc.l4.check", "Redis")],
            on(CheckMode::Redis),
        ),
        (
            vec![rule, ("osvc.l4.enable", "false"), ("osvc.l4.check", "redis")],
            vec![],
        ),
        (vec![rule, ("osvc.l4.check", "redis")], vec![]),
        (
            vec![
                rule,
                enable,
                ("constellation.tcp.services.db.healthcheck", "false"),
            ],
            vec![("db".to_owned(), Some(false), Some(CheckMode::Tcp))],
        ),
        (
            vec![
                rule,
                enable,
                ("constellation.tcp.services.db.healthcheck.mode", "redis"),
            ],
            on(CheckMode::Redis),
        ),
    ] {
        assert_eq!(check(&labels), (expected, vec![]), "{labels:?}");
    }
    let two = [
        ("traefik.tcp.services.a.loadbalancer.server.port", "1"),
        ("traefik.tcp.services.b.loadbalancer.server.port", "2"),
        enable,
    ];
    for (labels, expected) in [
        (
            vec![enable],
            "label `osvc.l4.enable` has no effect: the container has no TCP service to check; add `traefik.tcp` labels",
        ),
        (
            vec![rule, enable, ("osvc.l4.port", "81")],
            "label `osvc.l4.enable` has no effect: none of the TCP services db is at port `81`; correct `osvc.l4.port`",
        ),
        (
            two.to_vec(),
            "label `osvc.l4.enable` has no effect: it may mean each of the TCP services a, b; set `osvc.l4.port` to the \
             port of one, or `constellation.tcp.services.NAME.healthCheck`",
        ),
        (
            vec![rule, enable, ("osvc.l4.check", "http")],
            "label `osvc.l4.check`: `http` is not a check that there is, so there is none; write `tcp` or `redis`",
        ),
        (
            vec![rule, ("osvc.l4.enable", "yes")],
            "label `osvc.l4.enable`: `yes` is not a boolean, so there is no check; write `true` or `false`",
        ),
    ] {
        assert_eq!(
            check(&labels),
            (vec![], vec![format!("container db: {expected}")]),
            "{labels:?}"
        );
    }
    assert_eq!(
        check(&[&two[..], &[("osvc.l4.port", "2")]].concat()).0,
        [("b".to_owned(), Some(true), Some(CheckMode::Tcp))]
    );
}

#[test]
fn options_of_one_service_that_differ_are_named_with_their_section() {
    let one = |name, address, number| {
        let labels = [
            ("traefik.tcp.services.s.loadbalancer.server.port", "80"),
            ("constellation.tcp.services.s.retry.attempts", number),
        ];
        inspection(name, address, &labels)
    };
    let both = contribution(
        &provider(),
        vec![one("b", "10.0.0.2", "3"), one("a", "10.0.0.1", "2")],
    );
    assert_eq!(
        problems(&both),
        [
            "options of service tcp/s@docker: the labels constellation.tcp.services.s of the containers a and b differ: \
             those of a count; make them the same"
        ]
    );
}
