//! Who gets a connection. The tables are what Traefik 3.7.15 did with the same routers, but for ties, which it leaves
//! to chance.

use std::sync::Arc;
use std::time::Instant;

use constellation_table::{
    AttemptOutcome, Child, EntryPointId, Scheme, Service, Target, TcpDecision, TcpTls, Turn, UdpDecision,
    Weighted, WeightedSpec, decide_tcp, decide_udp,
};

use crate::built::{Row, service};
use crate::stream_built::{Opened, Stream, allow_list, datagrams, server, streams, taker};

fn database() -> Arc<Service> {
    service("tcp/db@file", vec![server("db", Scheme::Tcp, None)])
}

/// A rule and its priority; 0: the default.
type Ruled = (&'static str, i64);

/// TCP routers without TLS `p0`, `p1`..., with TLS `t0`, `t1`..., HTTPS routers, and who takes what.
struct Case {
    plain: &'static [Ruled],
    tls: &'static [Ruled],
    https: &'static [&'static str],
    want: &'static [(&'static str, &'static str)],
}

const NONE: Case = Case {
    plain: &[],
    tls: &[],
    https: &[],
    want: &[],
};

fn check(case: &Case) {
    let web = service("web", vec![]);
    let db = database();
    let mut tcp = Vec::new();
    for (kind, ruled) in [("p", case.plain), ("t", case.tls)] {
        for (number, (rule, priority)) in ruled.iter().enumerate() {
            let name = format!("{kind}{number}");
            let router = match kind {
                "p" => Stream::plain(&name, rule),
                _ => Stream::tls(&name, rule),
            };
            tcp.push(
                Stream {
                    priority: *priority,
                    ..router
                }
                .to(db.clone()),
            );
        }
    }
    let http = case
        .https
        .iter()
        .map(|rule| {
            Row {
                tls: true,
                ..Row::plain("web", rule)
            }
            .forward(&web)
        })
        .collect();
    let snapshot = streams(http, tcp, vec![]);
    for (line, want) in case.want {
        assert_eq!(
            taker(&snapshot, line),
            *want,
            "{line} among {:?} {:?} {:?}",
            case.plain,
            case.tls,
            case.https
        );
    }
}

#[test]
fn an_https_router_that_names_the_server_comes_first() {
    const X: Ruled = ("HostSNI(`x.test`)", 0);
    for case in [
        Case {
            tls: &[X],
            https: &["Host(`x.test`)"],
            want: &[("tls x.test", "http"), ("tls y.test", "http"), ("tls -", "http")],
            ..NONE
        },
        Case {
            tls: &[("HostSNI(`x.test`)", 1000)],
            https: &["Host(`X.Test.`)"],
            want: &[("tls x.test", "http")],
            ..NONE
        },
        Case {
            tls: &[("HostSNI(`*`) && ClientIP(`127.0.0.1`)", 1000)],
            https: &["Host(`x.test`)"],
            want: &[("tls x.test", "http"), ("tls y.test", "t0"), ("tls -", "t0")],
            ..NONE
        },
        Case {
            tls: &[("HostSNI(`*`)", 0)],
            https: &["Host(`x.test`) || PathPrefix(`/p`)"],
            want: &[("tls x.test", "http"), ("tls y.test", "t0"), ("tls -", "t0")],
            ..NONE
        },
        Case {
            tls: &[("HostSNI(`a.w.test`)", 0), ("HostSNI(`*`)", 0)],
            https: &["Host(`*.w.test`)"],
            want: &[
                ("tls a.w.test", "http"),
                ("tls b.w.test", "http"),
                ("tls w.test", "t1"),
                ("tls a.b.w.test", "t1"),
                ("tls -", "t1"),
            ],
            ..NONE
        },
        Case {
            tls: &[X, ("HostSNI(`*`)", 0)],
            https: &["Host(`y.test`) && !Host(`x.test`)"],
            want: &[("tls x.test", "t0"), ("tls y.test", "http"), ("tls -", "t1")],
            ..NONE
        },
        Case {
            tls: &[("HostSNI(`*`)", 0)],
            https: &["(Host(`x.test`) || Host(`y.test`)) && !(Host(`q.test`) && !Host(`r.test`))"],
            want: &[
                ("tls x.test", "http"),
                ("tls y.test", "http"),
                ("tls q.test", "t0"),
                ("tls r.test", "http"),
                ("tls -", "t0"),
            ],
            ..NONE
        },
        Case {
            tls: &[X],
            https: &["Host(`x.test:443`)"],
            want: &[("tls x.test", "t0")],
            ..NONE
        },
    ] {
        check(&case);
    }
}

#[test]
fn an_https_router_for_any_name_comes_before_catch_alls_only() {
    for case in [
        Case {
            tls: &[("HostSNI(`*`)", 0)],
            https: &["PathPrefix(`/`)"],
            want: &[("tls x.test", "http"), ("tls -", "http")],
            ..NONE
        },
        Case {
            tls: &[("(HostSNI(`*`))", 1000)],
            https: &["PathPrefix(`/`)"],
            want: &[("tls x.test", "http"), ("tls -", "http")],
            ..NONE
        },
        Case {
            tls: &[("HostSNI(`x.test`)", 0)],
            https: &["PathPrefix(`/`)"],
            want: &[("tls x.test", "t0"), ("tls y.test", "http"), ("tls -", "http")],
            ..NONE
        },
        // The best TCP router is a catch-all; that another one names the server does not help it.
        Case {
            tls: &[("HostSNI(`*`)", 500), ("HostSNI(`x.test`)", 0)],
            https: &["PathPrefix(`/`)"],
            want: &[("tls x.test", "http"), ("tls y.test", "http")],
            ..NONE
        },
        Case {
            tls: &[("HostSNI(`*`) && ClientIP(`127.0.0.1`)", 0)],
            https: &["PathPrefix(`/`)"],
            want: &[("tls x.test", "t0"), ("tls -", "t0"), ("tls - @10.0.0.1", "http")],
            ..NONE
        },
        Case {
            tls: &[("HostSNIRegexp(`.*`)", 0)],
            https: &["HostRegexp(`^x`)"],
            want: &[("tls x.test", "t0"), ("tls -", "t0")],
            ..NONE
        },
        Case {
            tls: &[("HostSNI(`*`) || HostSNI(`x.test`)", 0)],
            https: &["PathPrefix(`/`)"],
            want: &[("tls x.test", "t0"), ("tls y.test", "t0"), ("tls -", "t0")],
            ..NONE
        },
        Case {
            tls: &[("!HostSNI(`x.test`)", 0)],
            https: &["PathPrefix(`/`)"],
            want: &[("tls x.test", "http"), ("tls y.test", "t0"), ("tls -", "t0")],
            ..NONE
        },
        Case {
            tls: &[("HostSNI(`x.test`)", 0), ("HostSNI(`*`)", 0)],
            https: &["!Host(`x.test`)"],
            want: &[("tls x.test", "t0"), ("tls y.test", "http"), ("tls -", "http")],
            ..NONE
        },
        Case {
            tls: &[
                ("HostSNI(`x.test`)", 0),
                ("HostSNI(`y.test`)", 0),
                ("HostSNI(`*`)", 0),
            ],
            https: &["Host(`*`) || Host(`x.test`)"],
            want: &[
                ("tls x.test", "http"),
                ("tls y.test", "t1"),
                ("tls q.test", "http"),
            ],
            ..NONE
        },
        Case {
            tls: &[("HostSNI(`*`)", 0), ("HostSNI(`z.test`)", 0)],
            https: &["Host(`x.test`)", "PathPrefix(`/`)"],
            want: &[
                ("tls x.test", "http"),
                ("tls z.test", "t1"),
                ("tls q.test", "http"),
            ],
            ..NONE
        },
        Case {
            tls: &[("HostSNI(`*`)", 0)],
            https: &["HostRegexp(`.*`) || Host(`x.test`)"],
            want: &[("tls x.test", "http"), ("tls q.test", "t0"), ("tls -", "t0")],
            ..NONE
        },
    ] {
        check(&case);
    }
}

#[test]
fn with_and_without_tls() {
    for case in [
        Case {
            plain: &[("HostSNI(`*`)", 0)],
            // Nobody looks for a ClientHello: its bytes go on as they are.
            want: &[("plain", "p0"), ("tls x.test", "p0"), ("tls -", "p0")],
            ..NONE
        },
        Case {
            plain: &[("ClientIP(`10.0.0.0/8`)", 0)],
            want: &[
                ("plain", "http"),
                ("tls x.test", "http"),
                ("plain @10.0.0.1", "p0"),
                ("tls x.test @10.0.0.1", "p0"),
            ],
            ..NONE
        },
        Case {
            plain: &[("HostSNI(`*`) && ALPN(`h2`)", 0)],
            want: &[("plain", "http"), ("tls x.test h2", "http")],
            ..NONE
        },
        Case {
            plain: &[("HostSNI(`*`)", 0)],
            tls: &[("HostSNI(`x.test`)", 0)],
            want: &[
                ("plain", "p0"),
                ("tls x.test", "t0"),
                ("tls y.test", "http"),
                ("tls -", "http"),
            ],
            ..NONE
        },
        Case {
            plain: &[("HostSNI(`*`)", 0)],
            https: &["Host(`x.test`)"],
            want: &[("plain", "p0"), ("tls x.test", "http"), ("tls y.test", "http")],
            ..NONE
        },
        Case {
            tls: &[("HostSNI(`*`)", 0)],
            want: &[("plain", "http"), ("tls x.test", "t0"), ("tls -", "t0")],
            ..NONE
        },
        NONE,
    ] {
        check(&case);
    }
}

#[test]
fn priorities() {
    for case in [
        Case {
            tls: &[("HostSNI(`x.test`)", 0), ("HostSNI(`*`)", 1000)],
            want: &[("tls x.test", "t1")],
            ..NONE
        },
        Case {
            tls: &[
                ("HostSNI(`x.test`)", 0),
                ("HostSNI(`*`) && ClientIP(`127.0.0.1`)", 0),
            ],
            want: &[("tls x.test", "t1"), ("tls x.test @10.0.0.1", "t0")],
            ..NONE
        },
        Case {
            tls: &[("HostSNI(`x.test`)", -2), ("HostSNI(`*`)", 0)],
            want: &[("tls x.test", "t1")],
            ..NONE
        },
        Case {
            tls: &[("HostSNI(`*`)", 0), ("ClientIP(`127.0.0.1`)", 1)],
            want: &[("tls x.test", "t1")],
            ..NONE
        },
        Case {
            tls: &[("HostSNI(`*`)||HostSNI(`*`)", 0), ("ClientIP(`127.0.0.1`)", 1)],
            want: &[("tls x.test", "t0")],
            ..NONE
        },
        // Ties: longer rule, then a name given in full, then the router's name.
        Case {
            tls: &[("HostSNI(`*.test`)", 9), ("HostSNI(`x.test`) ", 9)],
            want: &[("tls x.test", "t1")],
            ..NONE
        },
        Case {
            tls: &[("HostSNI(`*.test`)", 9), ("HostSNI(`x.test`)", 9)],
            want: &[("tls x.test", "t1")],
            ..NONE
        },
        Case {
            tls: &[("HostSNI(`x.test`)", 9), ("hostsni(`x.test`)", 9)],
            want: &[("tls x.test", "t0")],
            ..NONE
        },
    ] {
        check(&case);
    }
}

#[test]
fn when_a_server_may_speak_first() {
    let db = database();
    let web = service("web", vec![]);
    let plain = || Stream::plain("p", "ClientIP(`10.0.0.0/8`)").to(db.clone());
    let tls = || Stream::tls("t", "HostSNI(`x`)").to(db.clone());
    let row = |tls| {
        Row {
            tls,
            ..Row::plain("w", "Host(`w`)")
        }
        .forward(&web)
    };
    let elsewhere = Stream {
        entry_points: &[1],
        ..Stream::tls("e", "HostSNI(`*`)")
    }
    .to(db.clone());
    for (http, tcp, want) in [
        (vec![], vec![], false),
        (vec![row(false)], vec![], false),
        (vec![], vec![plain()], true),
        (vec![row(false)], vec![plain(), elsewhere], true),
        (vec![row(true)], vec![plain()], false),
        (vec![], vec![plain(), tls()], false),
        (vec![], vec![tls()], false),
    ] {
        let has_tcp = !tcp.is_empty();
        let snapshot = streams(http, tcp, vec![]);
        let may = snapshot.server_may_speak_first(EntryPointId(0));
        assert_eq!(may, want);
        assert_eq!(snapshot.has_tcp(EntryPointId(0)), has_tcp);
        assert!(!snapshot.has_tcp(EntryPointId(7)));
    }
}

#[test]
fn an_allow_list_refuses_after_the_router_won() {
    let db = database();
    let strict = Stream {
        middlewares: vec![
            allow_list("wide", "10.0.0.0/8"),
            allow_list("narrow", "10.1.0.0/16"),
        ],
        ..Stream::tls("strict", "HostSNI(`x.test`)")
    };
    let open = Stream::tls("open", "HostSNI(`*`)").to(db.clone());
    let snapshot = streams(vec![], vec![strict.to(db.clone()), open], vec![]);
    for (line, want) in [
        ("tls x.test @10.1.2.3", "strict"),
        ("tls x.test @::ffff:10.1.2.3", "strict"),
        ("tls x.test @10.2.2.3", "strict refused by narrow"),
        ("tls x.test @192.0.2.1", "strict refused by wide"),
        ("tls y.test @192.0.2.1", "open"),
    ] {
        assert_eq!(taker(&snapshot, line), want, "{line}");
    }
}

#[test]
fn endpoints_that_are_out_get_no_connection() {
    let all = service(
        "tcp/db@file",
        vec![
            server("a", Scheme::Tcp, None),
            server("b", Scheme::Tcp, Some("exited")),
            server("c", Scheme::Tcp, None),
        ],
    );
    let snapshot = streams(
        vec![],
        vec![Stream::plain("p", "HostSNI(`*`)").to(all.clone())],
        vec![],
    );
    let candidates = || {
        Opened::parse("plain").with(|connection| match decide_tcp(&snapshot, connection) {
            TcpDecision::Forward { choice, .. } => {
                let mut names: Vec<_> = choice
                    .candidates
                    .order
                    .iter()
                    .map(|candidate| candidate.endpoint.name.to_string())
                    .collect();
                names.sort();
                names.join(" ")
            }
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(candidates(), "a c");
    let latency = std::time::Duration::from_millis(1);
    all.record(
        &all.endpoints[0],
        AttemptOutcome::Connected { latency },
        Instant::now(),
    );
    assert_eq!(candidates(), "a c");
    assert_eq!(
        all.standing(&all.endpoints[0], Instant::now()).latency_us,
        Some(1000)
    );
    all.record(&all.endpoints[0], AttemptOutcome::ConnectFailed, Instant::now());
    assert_eq!(candidates(), "c", "a failed connect puts it aside at once");
}

#[test]
fn kinds_of_services_lead_to_streams_too() {
    let down = service("tcp/down@file", vec![server("d", Scheme::Tcp, Some("exited"))]);
    let up = database();
    let child = |service: &Arc<Service>| Child {
        name: service.name.clone(),
        target: service.clone().into(),
        weight: 1,
    };
    let spec = WeightedSpec {
        name: "tcp/both@file".into(),
        children: vec![child(&down), child(&up)],
        sticky: None,
    };
    let both = Target::Weighted(Arc::new(Weighted::new(spec, None).unwrap()));
    let router = Stream {
        tls: Some(TcpTls::Terminate),
        ..Stream::tls("t", "HostSNI(`*`)")
    };
    let snapshot = streams(vec![], vec![router.to(both)], vec![]);
    for _ in 0..3 {
        Opened::parse("tls -").with(|connection| match decide_tcp(&snapshot, connection) {
            TcpDecision::Forward { choice, .. } => {
                assert_eq!(&*choice.service.name, "tcp/db@file");
                assert_eq!(choice.candidates.order.len(), 1);
                assert!(choice.via.is_some());
            }
            other => panic!("{other:?}"),
        });
    }
}

#[test]
fn the_udp_router_of_an_entry_point_is_the_first_by_name() {
    let dns = service("udp/dns@file", vec![server("d", Scheme::Udp, None)]);
    let udp = vec![
        datagrams("udp/b@file", &[0, 1], &dns),
        datagrams("udp/a@file", &[1], &dns),
        datagrams("udp/c@file", &[3, 3], &dns),
    ];
    let snapshot = streams(vec![], vec![], udp);
    let names: Vec<_> = snapshot
        .all_udp_routers()
        .iter()
        .map(|router| &*router.spec.name)
        .collect();
    assert_eq!(names, ["udp/a@file", "udp/b@file", "udp/c@file"]);
    for (id, want) in [
        (0, Some("udp/b@file")),
        (1, Some("udp/a@file")),
        (2, None),
        (3, Some("udp/c@file")),
        (9, None),
    ] {
        let client = std::net::IpAddr::from([127, 0, 0, 1]);
        let found = match decide_udp(&snapshot, EntryPointId(id), client, Instant::now(), Turn::Look) {
            UdpDecision::NoRoute => None,
            UdpDecision::Forward { router, choice } => {
                assert_eq!(choice.candidates.order.len(), 1);
                Some(&*router.spec.name)
            }
        };
        assert_eq!(found, want, "entry point {id}");
    }
}
