//! What `explain_tcp` and `explain_udp` say, word for word, and that it stays short.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use constellation_table::{
    EntryPointId, InFlightConn, Scheme, Slot, Snapshot, StreamExplanation, TcpMiddleware, TcpTls, Verdict,
    explain_tcp, explain_udp,
};

use crate::built::{Row, service};
use crate::stream_built::{Opened, Stream, allow_list, datagrams, server, streams};

fn explained(snapshot: &Snapshot, line: &str) -> StreamExplanation {
    let mut explanation = Opened::parse(line).with(|connection| explain_tcp(snapshot, connection));
    explanation.name_entry_points(&["db", "websecure"]);
    explanation
}

fn middlewares() -> Vec<TcpMiddleware> {
    vec![
        TcpMiddleware::InFlightConn(Arc::new(InFlightConn {
            name: "tcp/few@file".into(),
            amount: 3,
            slot: Slot::default(),
        })),
        allow_list("tcp/lan@file", "127.0.0.0/8"),
        allow_list("tcp/all@file", "0.0.0.0/0"),
    ]
}

#[test]
fn word_for_word() {
    let db = service(
        "tcp/db@docker",
        vec![
            server("db-1", Scheme::Tcp, None),
            server("db-2", Scheme::Tcp, Some("container exited (137) 12 s ago")),
        ],
    );
    let gone = service("tcp/gone@docker", vec![server("g", Scheme::Tcp, Some("gone"))]);
    let web = service("web", vec![]);
    let tcp = vec![
        Stream {
            middlewares: middlewares(),
            ..Stream::tls("tcp/db@docker", "HostSNI(`db.test`)")
        }
        .to(db.clone()),
        Stream {
            priority: 99,
            ..Stream::tls("tcp/h2@docker", "HostSNI(`db.test`) && ALPN(`h2`)")
        }
        .to(db.clone()),
        Stream {
            tls: Some(TcpTls::Terminate),
            ..Stream::tls("tcp/gone@docker", "HostSNI(`gone.test`)")
        }
        .to(gone),
        Stream::tls("tcp/all@docker", "HostSNI(`*`)").to(db.clone()),
        Stream {
            entry_points: &[1],
            ..Stream::plain("tcp/raw@docker", "HostSNI(`*`)")
        }
        .to(db.clone()),
    ];
    let secure = |name, rule| {
        Row {
            tls: true,
            ..Row::plain(name, rule)
        }
        .forward(&web)
    };
    let http = vec![
        secure("app@docker", "Host(`app.test`)"),
        secure("any@docker", "PathPrefix(`/`)"),
    ];
    let snapshot = streams(http, tcp, vec![]);
    for (line, want) in [
        (
            "tls db.test http/1.1 db",
            "\
TLS for db.test (http/1.1, db) from 127.0.0.1 on entry point db
-> service tcp/db@docker, its TLS as it is
   1. db-1 at tcp://db-1:9000
   balanced by round robin

router tcp/db@docker (priority 18): HostSNI(`db.test`)
  inFlightConn tcp/few@file lets 3 of its connections in at once
  ipAllowList tcp/lan@file lets this client in
  ipAllowList tcp/all@file lets this client in

left out
  db-2 at tcp://db-2:9000: container exited (137) 12 s ago

not taken
  tcp/h2@docker (priority 99): HostSNI(`db.test`) && ALPN(`h2`)
    ALPN(`h2`) said no: protocols [\"http/1.1\", \"db\"]
  tcp/all@docker (priority -1): HostSNI(`*`)
    matches too, but the winner has a higher priority

1 more on this entry point are for other names

would match elsewhere
  tcp/raw@docker (priority -1): HostSNI(`*`)
    answers on entry point websecure, and answers without TLS only (the router has no `tls`)
",
        ),
        (
            "tls db.test @10.0.0.1",
            "\
TLS for db.test from 10.0.0.1 on entry point db
-> closed: middleware tcp/lan@file does not let 10.0.0.1 in

router tcp/db@docker (priority 18): HostSNI(`db.test`)
  inFlightConn tcp/few@file lets 3 of its connections in at once
  ipAllowList tcp/lan@file does not let this client in

not taken
  tcp/h2@docker (priority 99): HostSNI(`db.test`) && ALPN(`h2`)
    ALPN(`h2`) said no: no protocols
  tcp/all@docker (priority -1): HostSNI(`*`)
    matches too, but the winner has a higher priority

1 more on this entry point are for other names

would match elsewhere
  tcp/raw@docker (priority -1): HostSNI(`*`)
    answers on entry point websecure, and answers without TLS only (the router has no `tls`)
",
        ),
        (
            "tls gone.test",
            "\
TLS for gone.test from 127.0.0.1 on entry point db
-> closed: no endpoint of service tcp/gone@docker can serve

router tcp/gone@docker (priority 20): HostSNI(`gone.test`)

left out
  g at tcp://g:9000: gone

not taken
  tcp/all@docker (priority -1): HostSNI(`*`)
    matches too, but the winner has a higher priority

2 more on this entry point are for other names

would match elsewhere
  tcp/raw@docker (priority -1): HostSNI(`*`)
    answers on entry point websecure, and answers without TLS only (the router has no `tls`)
",
        ),
        (
            "tls app.test",
            "\
TLS for app.test from 127.0.0.1 on entry point db
-> HTTPS: a router names the server name, which puts it before every TCP router
   app@docker (priority 16): Host(`app.test`)

not taken
  tcp/all@docker (priority -1): HostSNI(`*`)
    matches too, but the winner is HTTPS

3 more on this entry point are for other names

would match elsewhere
  tcp/raw@docker (priority -1): HostSNI(`*`)
    answers on entry point websecure, and answers without TLS only (the router has no `tls`)
",
        ),
        (
            "tls -",
            "\
TLS without a server name from 127.0.0.1 on entry point db
-> HTTPS: a router is for any name, which puts it before TCP routers that say only HostSNI(`*`)
   any@docker (priority 15): PathPrefix(`/`)

not taken
  tcp/all@docker (priority -1): HostSNI(`*`)
    matches too, but the winner is HTTPS

3 more on this entry point are for other names

would match elsewhere
  tcp/raw@docker (priority -1): HostSNI(`*`)
    answers on entry point websecure, and answers without TLS only (the router has no `tls`)
",
        ),
        (
            "plain",
            "\
TCP without TLS from 127.0.0.1 on entry point db
-> HTTP: no TCP router matches

would match elsewhere
  tcp/all@docker (priority -1): HostSNI(`*`)
    answers TLS only (the router has `tls`)
  tcp/raw@docker (priority -1): HostSNI(`*`)
    answers on entry point websecure
",
        ),
        (
            "tls app.test #1",
            "\
TLS for app.test from 127.0.0.1 on entry point websecure
-> service tcp/db@docker
   1. db-1 at tcp://db-1:9000
   balanced by round robin
   decided before the client says anything: no router of this entry point wants TLS

router tcp/raw@docker (priority -1): HostSNI(`*`)

left out
  db-2 at tcp://db-2:9000: container exited (137) 12 s ago

would match elsewhere
  tcp/all@docker (priority -1): HostSNI(`*`)
    answers on entry point db
",
        ),
    ] {
        assert_eq!(explained(&snapshot, line).to_string(), want, "{line}");
    }
}

#[test]
fn datagrams_word_for_word() {
    let dns = service("udp/dns@file", vec![server("d", Scheme::Udp, None)]);
    let udp = vec![
        datagrams("udp/b@file", &[0], &dns),
        datagrams("udp/a@file", &[0], &dns),
    ];
    let snapshot = streams(vec![], vec![], udp);
    let client = IpAddr::from([192, 0, 2, 1]);
    for (id, want) in [
        (
            0,
            "\
UDP from 192.0.2.1 on entry point dns
-> service udp/dns@file
   1. d at udp://d:9000
   balanced by round robin

router udp/a@file

not taken
  udp/b@file
    matches too, but the winner has the same priority and a name that sorts first
",
        ),
        (
            1,
            "\
UDP from 192.0.2.1 on entry point other
-> dropped: this entry point has no UDP router

would match elsewhere
  udp/a@file
    answers on entry point dns
  udp/b@file
    answers on entry point dns
",
        ),
    ] {
        let mut explanation = explain_udp(&snapshot, EntryPointId(id), client, Instant::now());
        explanation.name_entry_points(&["dns", "other"]);
        assert_eq!(explanation.to_string(), want);
        let json = serde_json::to_string(&explanation).unwrap();
        assert_eq!(
            serde_json::from_str::<StreamExplanation>(&json).unwrap(),
            explanation
        );
    }
}

#[test]
fn the_cursor_stays_where_it_is() {
    let db = service(
        "tcp/db@file",
        vec![server("a", Scheme::Tcp, None), server("b", Scheme::Tcp, None)],
    );
    let snapshot = streams(vec![], vec![Stream::plain("p", "HostSNI(`*`)").to(db)], vec![]);
    let first = explained(&snapshot, "plain");
    assert_eq!(explained(&snapshot, "plain"), first);
}

#[test]
fn the_report_survives_json() {
    let db = service("tcp/db@file", vec![server("a", Scheme::Tcp, None)]);
    let web = service("web", vec![]);
    let router = Stream {
        middlewares: middlewares(),
        ..Stream::tls("t", "HostSNI(`a`)")
    };
    let http = Row {
        tls: true,
        ..Row::plain("h", "Host(`b`)")
    };
    let tcp = vec![router.to(db.clone()), Stream::tls("u", "HostSNI(`*`)").to(db)];
    let snapshot = streams(vec![http.forward(&web)], tcp, vec![]);
    for (line, part) in [
        ("tls a", r#""outcome":{"kind":"forward"}"#),
        ("tls a", r#""verdict":{"upTo":3}"#),
        ("tls a", r#""tls":"passthrough""#),
        (
            "tls a @10.0.0.1",
            r#""outcome":{"kind":"refused","by":"tcp/lan@file"}"#,
        ),
        ("tls b", r#""outcome":{"kind":"http","claim":{"name":"h""#),
        ("tls b", r#""verdict":{"kind":"outranked","by":"https"}"#),
        ("plain", r#""outcome":{"kind":"http","claim":null}"#),
    ] {
        let explanation = explained(&snapshot, line);
        let json = serde_json::to_string(&explanation).unwrap();
        assert_eq!(
            serde_json::from_str::<StreamExplanation>(&json).unwrap(),
            explanation
        );
        assert!(json.contains(part), "{part} in {json}");
    }
}

#[test]
fn ten_thousand_routers_give_a_short_report() {
    let db = service("tcp/db@file", vec![]);
    let mut tcp: Vec<_> = (0..10_000)
        .map(|n| Stream::tls(&format!("t{n}"), &format!("HostSNI(`h{n}.test`)")).to(db.clone()))
        .collect();
    tcp.extend((0..200).map(|n| {
        Stream {
            priority: 1000,
            ..Stream::tls(&format!("c{n:03}"), &format!("ClientIP(`10.0.0.{n}`)"))
        }
        .to(db.clone())
    }));
    let snapshot = streams(vec![], tcp, vec![]);
    let protocol = "x".repeat(255);
    let explanation = explained(
        &snapshot,
        &format!("tls h77.test {}", vec![&*protocol; 100].join(" ")),
    );
    assert_eq!(explanation.router.as_ref().unwrap().name, "t77");
    assert_eq!(explanation.considered.len(), 50);
    assert_eq!(explanation.considered[49].verdict, Verdict::Won);
    assert_eq!(explanation.considered_more, 151);
    assert_eq!(explanation.other_names, 9_999);
    assert!(explanation.to_string().len() < 30_000);
}
