//! Whole compiles of `tcp` and `udp`: documents in, tables and problems out.

use std::time::Duration;

use constellation_config::dynamic::Dynamic;
use constellation_config::{Config, EntryPoint};
use constellation_table::policy::{Balance, CheckMode, HashKey};
use constellation_table::{
    Condition, EntryPointId, ProxyProtocolVersion, Scheme, Service, TcpMiddleware, TcpRouter, TcpTls, Turn,
    UdpDecision, decide_udp,
};
use serde_json::{Value, json};

use super::*;
use crate::compile::{self, Compiler};

const WEB: EntryPointId = EntryPointId(0);
const DB: EntryPointId = EntryPointId(1);
const DNS: EntryPointId = EntryPointId(2);

/// Two entry points for TCP, of which one is a default, and one for UDP.
fn compiler() -> Compiler {
    let entry_point = |name: &str, port: u16| EntryPoint::new(name, vec![([127, 0, 0, 1], port).into()]);
    let mut db = entry_point("db", 5432);
    db.as_default = false;
    let mut dns = entry_point("dns", 53);
    dns.protocol = constellation_config::Protocol::Udp;
    dns.as_default = false;
    let config = Config {
        entry_points: vec![entry_point("web", 80), db, dns],
        ..Config::default()
    };
    let mut statics = Statics::new(&config, &[]).unwrap();
    statics.entry_points[2].udp = true;
    Compiler::new(statics)
}

fn reading(provider: &'static str, document: Value) -> Arc<Contribution> {
    let dynamic: Dynamic = serde_json::from_value(document).unwrap();
    Arc::new(Contribution {
        provider,
        dynamic,
        ..Contribution::default()
    })
}

/// A document with these TCP routers, a service `s` with one server, and what else is said of `tcp`.
fn tcp(routers: Value, more: Value) -> Value {
    let mut tcp = json!({"routers": routers, "services": {"s": {"loadBalancer": {"servers": [{"address": "10.0.0.1:1"}]}}}});
    for (section, objects) in more.as_object().unwrap() {
        for (name, object) in objects.as_object().unwrap() {
            tcp[section][name] = object.clone();
        }
    }
    json!({"tcp": tcp})
}

fn compiled(document: Value) -> compile::Compiled {
    compiler().compile(&[reading("file", document)], 1)
}

fn problems(compiled: &compile::Compiled) -> Vec<String> {
    let problems = compiled.problems.iter();
    problems
        .map(|problem| format!("{}: {}", problem.subject, problem.message))
        .collect()
}

fn router<'a>(compiled: &'a compile::Compiled, name: &str) -> &'a Arc<TcpRouter> {
    let mut routers = compiled.snapshot.all_tcp_routers().iter();
    let found = routers.find(|router| &*router.spec.name == name);
    found.unwrap_or_else(|| panic!("no router {name}: {:?}", problems(compiled)))
}

fn service<'a>(compiled: &'a compile::Compiled, name: &str) -> &'a Arc<Service> {
    compiled
        .snapshot
        .service(name)
        .unwrap_or_else(|| panic!("no service {name}: {:?}", problems(compiled)))
}

#[test]
fn routers_are_on_entry_points_of_their_protocol() {
    let compiled = compiled(json!({
        "tcp": {
            "routers": {
                "default": {"rule": "HostSNI(`*`)", "service": "s"},
                "named": {"rule": "ClientIP(`10.0.0.0/8`)", "service": "s", "entryPoints": ["db", "web", "db"]},
            },
            "services": {"s": {"loadBalancer": {"servers": [{"address": "10.0.0.1:1"}]}}},
        },
        "udp": {
            "routers": {"default": {"service": "s"}},
            "services": {"s": {"loadBalancer": {"servers": [{"address": "10.0.0.1:1"}]}}},
        },
    }));
    assert_eq!(problems(&compiled), Vec::<String>::new());
    assert_eq!(router(&compiled, "tcp/default@file").spec.entry_points, [WEB]);
    assert_eq!(router(&compiled, "tcp/named@file").spec.entry_points, [DB, WEB]);
    let udp = &compiled.snapshot.all_udp_routers()[0].spec;
    assert_eq!(
        (&*udp.name, udp.entry_points.as_slice()),
        ("udp/default@file", &[DNS][..])
    );
    assert_eq!(&*udp.target.name().to_owned(), "udp/s@file");
    assert_eq!(service(&compiled, "tcp/s@file").endpoints[0].scheme, Scheme::Tcp);
    assert_eq!(service(&compiled, "udp/s@file").endpoints[0].scheme, Scheme::Udp);
}

#[test]
fn tls_and_priorities() {
    let compiled = compiled(tcp(
        json!({
            "any": {"rule": "HostSNI(`*`)", "service": "s"},
            "ip": {"rule": "ClientIP(`10.0.0.1`)", "service": "s"},
            "low": {"rule": "HostSNI(`*`)", "service": "s", "priority": -7, "entryPoints": ["db"]},
            "pass": {"rule": "HostSNI(`a.test`)", "service": "s", "tls": {"passthrough": true}},
            "end": {"rule": "HostSNI(`b.test`)", "service": "s", "tls": {}},
        }),
        json!({}),
    ));
    assert_eq!(problems(&compiled), Vec::<String>::new());
    for (name, priority, tls) in [
        ("any", -1, None),
        ("ip", 20, None),
        ("low", -7, None),
        ("pass", 17, Some(TcpTls::Passthrough)),
        ("end", 17, Some(TcpTls::Terminate)),
    ] {
        let spec = &router(&compiled, &format!("tcp/{name}@file")).spec;
        assert_eq!((spec.priority, spec.tls), (priority, tls), "{name}");
    }
}

/// A router beside `ok`, what else is there, and why the router is disabled.
#[test]
fn a_router_that_cannot_work_says_why_and_hurts_no_other() {
    let rule = "HostSNI(`*`)";
    let cases = [
        (
            json!({"service": "s"}),
            json!({}),
            "it has no rule: write one such as HostSNI(`example.test`) with tls, or HostSNI(`*`)",
        ),
        (
            json!({"rule": rule}),
            json!({}),
            "it names no service: write service: NAME, or NAME@PROVIDER for another provider's",
        ),
        (
            json!({"rule": "HostSNI(`a.test`)", "service": "s"}),
            json!({}),
            "the rule \"HostSNI(`a.test`)\" looks at what only TLS has: add tls (with passthrough: true where the server \
             speaks TLS itself), or write HostSNI(`*`)",
        ),
        (
            json!({"rule": rule, "service": "s", "ruleSyntax": "v2"}),
            json!({}),
            "ruleSyntax \"v2\" is not served: rewrite the rule in v3 syntax (one value per matcher, joined by && and ||) \
             and remove ruleSyntax",
        ),
        (
            json!({"rule": rule, "service": "s", "entryPoints": ["dns"]}),
            json!({}),
            "the entry point \"dns\" is for UDP: write one of web, db, or define it under entryPoints",
        ),
        (
            json!({"rule": rule, "service": "s", "entryPoints": ["nope"]}),
            json!({}),
            "there is no entry point \"nope\": write one of web, db, or define it under entryPoints",
        ),
        (
            json!({"rule": rule, "service": "s", "priority": i64::MAX}),
            json!({}),
            "priority 9223372036854775807 is out of range: write at most 9223372036854774807",
        ),
        (
            json!({"rule": rule, "service": "nope"}),
            json!({}),
            "there is no service \"nope@file\" in the section tcp: define it there (those of http are others), or write \
             NAME@PROVIDER for another provider's",
        ),
        (
            json!({"rule": rule, "service": "s", "middlewares": ["nope"]}),
            json!({}),
            "there is no middleware \"nope@file\" in the section tcp: define it there (those of http are others), or write \
             NAME@PROVIDER for another provider's",
        ),
        (
            json!({"rule": rule, "service": "s", "middlewares": ["m"]}),
            json!({"middlewares": {"m": {"ipAllowList": {"sourceRange": []}}}}),
            "its middleware \"m@file\" can't be used: ipAllowList.sourceRange is empty: write the addresses or networks \
             that may pass",
        ),
        (
            json!({"rule": rule, "service": "s", "middlewares": ["m"]}),
            json!({"middlewares": {"m": {"ipAllowList": {"sourceRange": ["x"]}}}}),
            "its middleware \"m@file\" can't be used: ipAllowList.sourceRange: \"x\" is neither an IP address nor a \
             network such as 10.0.0.0/8",
        ),
        (
            json!({"rule": rule, "service": "s", "middlewares": ["m"]}),
            json!({"middlewares": {"m": {"inFlightConn": {"amount": -1}}}}),
            "its middleware \"m@file\" can't be used: inFlightConn.amount -1 is below 0: write 0 or more",
        ),
        (
            json!({"rule": "HostSNI(`a`)", "service": "s", "tls": {"options": "nope"}}),
            json!({}),
            "there are no TLS options \"nope@file\": define them under tls.options of the provider \"file\", or write \
             NAME@PROVIDER for another provider's",
        ),
        (
            json!({"rule": rule, "service": "two"}),
            json!({"services": {"two": {"loadBalancer": {}, "weighted": {"services": [{"name": "s"}]}}}}),
            "its service \"two@file\" can't be used: it has several kinds (loadBalancer, weighted): keep one",
        ),
        (
            json!({"rule": rule, "service": "bad"}),
            json!({"services": {"bad": {"loadBalancer": {"servers": [{"address": "nonsense"}]}}}}),
            "its service \"bad@file\" can't be used: server address \"nonsense\": it has no port; expected HOST:PORT, such \
             as 10.0.0.5:5432 or [fd00::5]:5432",
        ),
        (
            json!({"rule": rule, "service": "v3"}),
            json!({"services": {"v3": {"loadBalancer": {"servers": [], "proxyProtocol": {"version": 3}}}}}),
            "its service \"v3@file\" can't be used: proxyProtocol.version 3 is not known: write 1 or 2",
        ),
        (
            json!({"rule": rule, "service": "loop"}),
            json!({"services": {"loop": {"weighted": {"services": [{"name": "loop"}]}}}}),
            "its service \"loop@file\" can't be used: ",
        ),
    ];
    for (bad, more, expected) in cases {
        let ok = json!({"rule": rule, "service": "s"});
        let compiled = compiled(tcp(json!({"ok": ok, "bad": bad}), more));
        router(&compiled, "tcp/ok@file");
        let disabled: Vec<(&str, &str)> = compiled
            .disabled
            .iter()
            .map(|disabled| (disabled.name.as_str(), disabled.reason.as_str()))
            .collect();
        match disabled.as_slice() {
            [("tcp/bad@file", reason)] if expected.ends_with(": ") => {
                assert!(reason.starts_with(expected), "{reason}");
            }
            _ => assert_eq!(disabled, [("tcp/bad@file", expected)]),
        }
        assert!(
            problems(&compiled).contains(&format!("router {}: {}", disabled[0].0, disabled[0].1)),
            "{:?}",
            problems(&compiled)
        );
    }
}

#[test]
fn what_a_rule_can_not_mean_is_said_and_the_router_served() {
    for (rule, tls, expected) in [
        (
            "HostSNI(`*`) && ALPN(`h2`)",
            Value::Null,
            "router tcp/r@file: rule: ALPN(`h2`): only a ClientHello has this, and a router without `tls` never sees one: it \
             never matches; add `tls`, with `passthrough: true` where the back end has the certificate",
        ),
        (
            "HostSNI(`a.test:443`)",
            json!({}),
            "router tcp/r@file: rule: HostSNI(`a.test:443`): no server name has a port; leave it out",
        ),
    ] {
        let mut definition = json!({"rule": rule, "service": "s"});
        if !tls.is_null() {
            definition["tls"] = tls;
        }
        let compiled = compiled(tcp(json!({"r": definition}), json!({})));
        router(&compiled, "tcp/r@file");
        assert_eq!(problems(&compiled), [expected]);
    }
}

#[test]
fn a_router_that_others_leave_nothing_to_is_told_of() {
    let http = json!({
        "routers": {"app": {"rule": "Host(`app.test`)", "service": "app", "tls": {}}},
        "services": {"app": {"loadBalancer": {"servers": [{"url": "http://10.0.0.1"}]}}},
    });
    let mut document = tcp(
        json!({
            "all": {"rule": "HostSNI(`*`)", "service": "s", "priority": 100},
            "some": {"rule": "ClientIP(`10.0.0.1`)", "service": "s"},
            "app": {"rule": "HostSNI(`app.test`)", "service": "s", "tls": {"passthrough": true}},
        }),
        json!({}),
    );
    document["http"] = http;
    let compiled = compiled(document.clone());
    assert_eq!(
        problems(&compiled),
        [
            "router tcp/app@file: on the entry point \"web\" the HTTPS router app@file has the name \"app.test\", which puts it \
             before every TCP router, as in Traefik: this one gets no connection for it; use another name or entry point for \
             one of them",
            "router tcp/some@file: on the entry point \"web\" the router tcp/all@file comes first and takes every connection \
             that this rule does: it never gets one; give it a higher priority, or another rule or entry point",
        ]
    );

    // A router that is not served claims nothing.
    document["http"]["routers"]["app"]["middlewares"] = json!(["auth"]);
    document["tcp"]["routers"]["all"]["priority"] = json!(0);
    let compiled = self::compiled(document);
    assert!(
        problems(&compiled)
            .iter()
            .all(|problem| !problem.contains("router tcp/")),
        "{:?}",
        problems(&compiled)
    );
}

#[test]
fn datagrams_never_come_back_here() {
    let udp = |servers: &[&str]| {
        let servers: Vec<Value> = servers
            .iter()
            .map(|address| json!({"address": address}))
            .collect();
        compiled(json!({
            "udp": {
                "routers": {"r": {"service": "s"}},
                "services": {"s": {"loadBalancer": {"servers": servers}}},
            },
            // Connections may: whatever they are, they come from somebody who is limited.
            "tcp": {"services": {"s": {"loadBalancer": {"servers": [{"address": "127.0.0.1:53"}]}}}},
        }))
    };
    let refused = "server address \"127.0.0.1:53\": there this node's own entry point \"dns\" listens, and datagrams would go \
                   round in circles; write the address of the server behind it";
    let both = udp(&["127.0.0.1:53", "10.0.0.1:53"]);
    assert_eq!(problems(&both), [format!("service udp/s@file: {refused}")]);
    assert_eq!(&*service(&both, "udp/s@file").endpoints[0].host, "10.0.0.1");
    assert_eq!(service(&both, "udp/s@file").endpoints.len(), 1);
    let alone = udp(&["127.0.0.1:53"]);
    assert_eq!(alone.disabled[0].name, "udp/r@file");
    assert!(alone.disabled[0].reason.contains(refused), "{:?}", alone.disabled);
    assert_eq!(udp(&["127.0.0.1:54"]).problems, []);
}

#[test]
fn a_router_works_on_the_entry_points_that_fit() {
    let compiled = compiled(tcp(
        json!({"r": {"rule": "HostSNI(`*`)", "service": "s", "entryPoints": ["dns", "web", "x"]}}),
        json!({}),
    ));
    assert_eq!(router(&compiled, "tcp/r@file").spec.entry_points, [WEB]);
    assert_eq!(
        problems(&compiled),
        [
            "router tcp/r@file: the entry point \"dns\" is for UDP, there is no entry point \"x\": write one of web, db, or \
             define it under entryPoints"
        ]
    );
}

#[test]
fn of_several_udp_routers_the_first_by_name_gets_the_datagrams() {
    let services = json!({"s": {"loadBalancer": {"servers": [{"address": "10.0.0.1:53"}]}}});
    let compiled = compiled(json!({"udp": {
        "routers": {
            "b": {"service": "s"}, "a": {"service": "s", "entryPoints": ["dns"]}, "c": {"service": "s", "entryPoints": ["web"]},
        },
        "services": services,
    }}));
    let client = std::net::Ipv4Addr::LOCALHOST.into();
    match decide_udp(
        &compiled.snapshot,
        DNS,
        client,
        std::time::Instant::now(),
        Turn::Look,
    ) {
        UdpDecision::Forward { router, .. } => assert_eq!(&*router.spec.name, "udp/a@file"),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        problems(&compiled),
        [
            "router udp/b@file: the entry point \"dns\" has the router udp/a@file already, which gets all its datagrams: \
             give each its own entry point, or one router a weighted service",
            "router udp/c@file: the entry point \"web\" is for TCP: write one of dns, or define it under entryPoints",
        ]
    );
}

#[test]
fn services_have_what_their_definition_and_its_transport_say() {
    let compiled = compiled(tcp(
        json!({}),
        json!({
            "services": {
                "plain": {"loadBalancer": {"servers": [{"address": "[fd00::1]:5432"}, {"address": "x"}]}},
                "named": {"loadBalancer": {
                    "servers": [{"address": "db:5432", "tls": true}], "serversTransport": "t",
                    "proxyProtocol": {}, "terminationDelay": 100,
                }},
                "clear": {"loadBalancer": {"servers": [{"address": "db:5432"}], "serversTransport": "t@file"}},
                "for-ever": {"loadBalancer": {"servers": [], "terminationDelay": -1}},
            },
            "serversTransports": {"t": {
                "dialTimeout": "3s", "dialKeepAlive": "4s", "terminationDelay": "-1ms", "proxyProtocol": {"version": 1},
                "tls": {"serverName": "db.test", "insecureSkipVerify": true},
            }},
        }),
    ));
    let plain = service(&compiled, "tcp/plain@file");
    assert_eq!(
        (
            &*plain.endpoints[0].host,
            plain.endpoints[0].port,
            plain.endpoints.len()
        ),
        ("fd00::1", 5432, 1)
    );
    assert_eq!(plain.endpoints[0].url(), "tcp://[fd00::1]:5432");
    let named = service(&compiled, "tcp/named@file");
    assert_eq!(named.endpoints[0].scheme, Scheme::Tls);
    let transport = &named.transport;
    assert_eq!(transport.server_name.as_deref(), Some("db.test"));
    assert_eq!(transport.timeouts.dial, Some(Duration::from_secs(3)));
    assert_eq!(transport.stream.dial_keep_alive, Some(Duration::from_secs(4)));
    // The service's own options count more than its transport's.
    assert_eq!(transport.stream.proxy_protocol, Some(ProxyProtocolVersion::V2));
    assert_eq!(
        transport.stream.termination_delay,
        Some(Duration::from_millis(100))
    );
    let clear = service(&compiled, "tcp/clear@file");
    assert_eq!(clear.endpoints[0].scheme, Scheme::Tcp);
    assert_eq!(
        clear.transport.stream.proxy_protocol,
        Some(ProxyProtocolVersion::V1)
    );
    assert_eq!(clear.transport.stream.termination_delay, None);
    assert_eq!(
        service(&compiled, "tcp/for-ever@file")
            .transport
            .stream
            .termination_delay,
        None
    );
    assert_eq!(
        problems(&compiled),
        [
            "service tcp/clear@file: the tls of its serversTransport \"t@file\" has no effect, as in Traefik: TLS is spoken \
             with servers that have tls: true; add it to them",
            "service tcp/plain@file: server address \"x\": it has no port; expected HOST:PORT, such as 10.0.0.5:5432 or \
             [fd00::5]:5432",
        ]
    );
}

#[test]
fn addresses_that_servers_may_have() {
    for (address, expected) in [
        ("10.0.0.1:1", Ok(("10.0.0.1", 1))),
        ("my_db.internal:65535", Ok(("my_db.internal", 65535))),
        ("[::1]:53", Ok(("::1", 53))),
        ("::1:53", Err("an IPv6 address needs brackets")),
        ("[x]:53", Err("the brackets hold no IPv6 address")),
        ("tcp://a:1", Err("it is a URL")),
        (":1", Err("it has no host")),
        ("a b:1", Err("the host holds a character that no host name has")),
        ("a", Err("it has no port")),
        ("a:", Err("the port is not a number from 1 to 65535")),
        ("a:0", Err("the port is not a number from 1 to 65535")),
        ("a:65536", Err("the port is not a number from 1 to 65535")),
        ("a:+1", Err("the port is not a number from 1 to 65535")),
    ] {
        match (services::host_and_port(address), expected) {
            (Ok(read), Ok(expected)) => assert_eq!(read, expected),
            (Err(error), Err(part)) => assert!(error.contains(&format!(": {part}; expected")), "{error}"),
            (read, expected) => panic!("{address}: {read:?} is not {expected:?}"),
        }
    }
}

#[test]
fn checks_and_options_are_those_of_http_without_what_is_about_requests() {
    let mut document = tcp(
        json!({}),
        json!({"services": {
            "checked": {"loadBalancer": {"servers": [{"address": "a:1"}], "healthCheck": {
                "port": 2, "send": "PING\r\n", "expect": "+PONG", "interval": "10s", "unhealthyInterval": "1ms", "timeout": "3s",
            }}},
            "redis": {"loadBalancer": {"servers": [{"address": "a:1"}]}},
            "both": {"weighted": {"services": [{"name": "s"}]}},
        }}),
    );
    document["constellation"] = json!({"tcp": {"services": {
        "redis": {
            "healthCheck": {"mode": "redis"},
            "balance": {"algorithm": "hash", "hash": "header:X"},
            "retry": {"attempts": 2, "statuses": [503]},
            "limits": {"maxInFlight": 7, "queue": 3},
            "hedge": {"enabled": false},
        },
        "checked": {"balance": {"algorithm": "leastTime"}},
        "both": {"retry": {"attempts": 2}},
        "nobody": {"retry": {"attempts": 2}},
    }}});
    let compiled = compiled(document);
    let checked = &service(&compiled, "tcp/checked@file").policy;
    let check = checked.health_check.as_ref().unwrap();
    assert_eq!((check.mode, check.port), (CheckMode::Tcp, Some(2)));
    assert_eq!(
        (&*check.exchange.send, &*check.exchange.expect),
        (&b"PING\r\n"[..], &b"+PONG"[..])
    );
    assert_eq!(check.interval, Duration::from_secs(10));
    assert_eq!(check.unhealthy_interval, Duration::from_millis(100));
    assert_eq!(checked.balance, Balance::LeastRequests);
    let redis = &service(&compiled, "tcp/redis@file").policy;
    let check = redis.health_check.as_ref().unwrap();
    assert_eq!(check.exchange, constellation_table::policy::TcpExchange::redis());
    assert_eq!(
        redis.balance,
        Balance::Hash {
            key: HashKey::ClientAddress,
            bound: None
        }
    );
    assert_eq!(
        (redis.retry.attempts, redis.limits.max_in_flight),
        (Some(2), Some(7))
    );
    assert!(service(&compiled, "tcp/s@file").policy.health_check.is_none());
    let no_effect = |key: &str| {
        format!(
            "service tcp/redis@file: the option {key} is about requests and has no effect on a service of streams: remove it"
        )
    };
    assert_eq!(
        problems(&compiled),
        [
            "options of service tcp/both@file: the tcp service both@file has no servers of its own, so these options have no \
             effect: give them to the services it is built of"
                .to_owned(),
            "options of service tcp/nobody@file: there is no tcp service nobody@file, so these options have no effect: write \
             the name as the service has it, or NAME@PROVIDER for another provider's"
                .to_owned(),
            "service tcp/checked@file: balance.algorithm leastTime goes by the times of responses, and streams have none: \
             leastRequests is used, by connections; write that"
                .to_owned(),
            "service tcp/checked@file: loadBalancer.healthCheck.unhealthyInterval \"1ms\" is out of range: 100ms is used"
                .to_owned(),
            "service tcp/redis@file: balance.hash \"header:X\" looks into requests: the client's address is hashed; write \
             client"
                .to_owned(),
            no_effect("hedge"),
            no_effect("limits.queue"),
            no_effect("retry.statuses"),
        ]
    );
}

#[test]
fn datagrams_are_checked_at_a_tcp_port_or_not_at_all() {
    let of = |check: Value| {
        let compiled = compiled(json!({
            "udp": {"services": {"s": {"loadBalancer": {"servers": [{"address": "a:53"}]}}}},
            "constellation": {"udp": {"services": {"s": {"healthCheck": check}}}},
        }));
        let check = service(&compiled, "udp/s@file").policy.health_check.clone();
        (
            check.map(|check| (check.mode, check.port)),
            problems(&compiled).len(),
        )
    };
    assert_eq!(of(json!({"mode": "tcp"})), (None, 1));
    assert_eq!(
        of(json!({"mode": "tcp", "port": 53})),
        (Some((CheckMode::Tcp, Some(53))), 0)
    );
}

#[test]
fn options_reach_services_of_other_providers_too() {
    let docker = reading("docker", tcp(json!({}), json!({})));
    let file = reading(
        "file",
        json!({"constellation": {"tcp": {"services": {"s@docker": {"retry": {"attempts": 3}}}}}}),
    );
    let compiled = compiler().compile(&[docker, file], 1);
    assert_eq!(service(&compiled, "tcp/s@docker").policy.retry.attempts, Some(3));
    assert_eq!(problems(&compiled), Vec::<String>::new());
}

#[test]
fn tls_options_come_out_by_server_name() {
    let tls = |options: &str| json!({"options": options});
    let mut document = tcp(
        json!({
            "a": {"rule": "HostSNI(`a.test`)", "service": "s", "tls": tls("strict")},
            "any": {"rule": "HostSNI(`*`)", "service": "s", "tls": tls("strict")},
            "pass": {"rule": "HostSNI(`p.test`)", "service": "s", "tls": {"passthrough": true, "options": "strict"}},
            "both": {"rule": "HostSNI(`b.test`)", "service": "s", "tls": tls("strict")},
        }),
        json!({}),
    );
    document["tls"] = json!({"options": {"strict": {"sniStrict": true}}});
    document["http"] = json!({
        "routers": {"both": {"rule": "Host(`b.test`)", "service": "h", "tls": {}}},
        "services": {"h": {"loadBalancer": {"servers": [{"url": "http://a"}]}}},
    });
    let compiled = compiled(document);
    let routers = compiled.tls.routers.iter();
    let asked: Vec<_> = routers
        .map(|router| (&*router.name, &*router.hosts[0], router.options.as_deref()))
        .collect();
    let expected = [
        ("both@file", "b.test", None),
        ("tcp/a@file", "a.test", Some("strict@file")),
        ("tcp/both@file", "b.test", Some("strict@file")),
    ];
    assert_eq!(asked, expected);
    let said = problems(&compiled);
    for (subject, words) in [
        ("router tcp/any@file", "the rule has no HostSNI(`name`)"),
        (
            "router tcp/pass@file",
            "tls.options has no effect beside passthrough",
        ),
        (
            "router tcp/both@file",
            "the HTTPS router both@file has the name \"b.test\"",
        ),
    ] {
        let mut all = said.iter();
        assert!(
            all.any(|said| said.starts_with(subject) && said.contains(words)),
            "{subject}: {said:#?}"
        );
    }
    assert_eq!(said.len(), 3, "{said:#?}");
}

#[test]
fn what_did_not_change_is_the_same_object() {
    let document = |second: &str| {
        tcp(
            json!({
                "r": {"rule": "HostSNI(`*`)", "service": "s", "middlewares": ["m"]},
                "w": {"rule": "ClientIP(`10.0.0.1`)", "service": "w"},
            }),
            json!({
                "services": {
                    "t": {"loadBalancer": {"servers": [{"address": "a:1"}, {"address": second}], "serversTransport": "t"}},
                    "w": {"weighted": {"services": [{"name": "s", "weight": 1}, {"name": "t", "weight": 3}]}},
                },
                "middlewares": {"m": {"inFlightConn": {"amount": 3}}},
                "serversTransports": {"t": {"dialTimeout": "3s"}},
            }),
        )
    };
    let mut compiler = compiler();
    let first = compiler.compile(&[reading("file", document("b:1"))], 1);
    let same = compiler.compile(&[reading("file", document("b:1"))], 2);
    let routers = |compiled: &compile::Compiled| compiled.snapshot.all_tcp_routers().to_vec();
    assert!(
        routers(&first)
            .iter()
            .zip(&routers(&same))
            .all(|(a, b)| Arc::ptr_eq(a, b))
    );
    assert!(same.changes.is_empty(), "{:?}", same.changes);

    let changed = compiler.compile(&[reading("file", document("c:1"))], 3);
    let (r, w) = ("tcp/r@file", "tcp/w@file");
    assert!(Arc::ptr_eq(router(&first, r), router(&changed, r)));
    assert!(!Arc::ptr_eq(router(&first, w), router(&changed, w)));
    assert_eq!(
        changed
            .changes
            .changed
            .iter()
            .map(|name| &**name)
            .collect::<Vec<_>>(),
        [w]
    );
    let t = "tcp/t@file";
    assert!(Arc::ptr_eq(
        &service(&first, t).endpoints[0],
        &service(&changed, t).endpoints[0]
    ));
    assert!(Arc::ptr_eq(
        &service(&first, t).transport,
        &service(&changed, t).transport
    ));
    assert!(Arc::ptr_eq(
        &service(&first, "tcp/s@file").clone(),
        service(&changed, "tcp/s@file")
    ));
    let guard = |compiled: &compile::Compiled| match router(compiled, r).spec.middlewares.as_slice() {
        [TcpMiddleware::InFlightConn(guard)] => guard.clone(),
        other => panic!("{other:?}"),
    };
    assert!(Arc::ptr_eq(&guard(&first), &guard(&changed)));

    let gone = compiler.compile(&[reading("file", json!({}))], 4);
    assert_eq!(gone.changes.removed.len(), 2);
    assert!(routers(&gone).is_empty() && gone.snapshot.services().is_empty());
}

#[test]
fn origins_say_how_servers_are() {
    let origin = crate::sources::ServerOrigin {
        name: "db-1".into(),
        condition: Condition::Draining("container db-1 is stopping".into()),
    };
    let mut contribution = Contribution::clone(&reading("docker", tcp(json!({}), json!({}))));
    let origins = [("10.0.0.1:1".to_owned(), origin.clone())].into();
    contribution.origins = [("tcp/s".to_owned(), origins)].into();
    let compiled = compiler().compile(&[Arc::new(contribution)], 1);
    let endpoint = &service(&compiled, "tcp/s@docker").endpoints[0];
    assert_eq!(
        (&endpoint.name, &endpoint.condition),
        (&origin.name, &origin.condition)
    );
}

#[test]
fn http_routers_take_no_datagrams_and_no_names_of_streams() {
    let http = |name: &str, more: Value| {
        let mut router = json!({"rule": "Host(`a`)", "service": "s"});
        for (key, value) in more.as_object().unwrap() {
            router[key] = value.clone();
        }
        compiled(json!({"http": {
            "routers": {name: router},
            "services": {"s": {"loadBalancer": {"servers": [{"url": "http://a"}]}}},
        }}))
    };
    let on_dns = http("r", json!({"entryPoints": ["dns"]}));
    assert!(
        on_dns.disabled[0].reason.contains("\"dns\""),
        "{:?}",
        on_dns.disabled
    );
    let named = http("tcp/r", json!({}));
    assert_eq!(
        named.disabled[0].reason,
        "the name \"tcp/r\" begins with \"tcp/\", as those of tcp objects do in lists: choose another one"
    );
    assert_eq!(
        http("r", json!({})).snapshot.routers()[0].spec.entry_points,
        [WEB]
    );
}
