//! One table out of what several nodes define.

use std::time::Duration;

use constellation_table::{Decision, EntryPointId, Reach, RequestMeta, Turn, decide};
use tokio::time::Instant;

use super::*;
use crate::peers::Roster;

/// What the request for a host comes to: the first endpoint, or why there is none.
fn asked(table: &Snapshot, host: &str) -> String {
    let headers = http::HeaderMap::new();
    let meta = RequestMeta {
        entry_point: EntryPointId(0),
        tls: false,
        method: "GET",
        host,
        path: "/",
        query: "",
        headers: &headers,
        client: "192.0.2.7".parse().unwrap(),
        repeatable: true,
        now: std::time::Instant::now(),
        turn: Turn::Look,
    };
    match decide(table, &meta) {
        Decision::Forward { candidates, .. } => candidates.order[0].endpoint.url(),
        Decision::Unavailable { .. } => "503".to_owned(),
        _ => "404".to_owned(),
    }
}

#[test]
fn a_service_has_its_own_servers_first_and_one_endpoint_for_each_node() {
    let here = [containers(
        "web",
        &[("http://10.0.0.1", true), ("http://10.0.0.2", false)],
    )];
    let there = [containers(
        "web",
        &[("http://10.1.0.1", true), ("http://10.1.0.2", true)],
    )];
    let far = [containers("web", &[("http://10.2.0.1", true)])];
    let idle = [containers("web", &[("http://10.3.0.1", false)])];
    let mut c = peer("c", &far);
    c.region = "far".into();
    let peers = [peer("b", &there), c, peer("d", &idle)];
    let table = table(&own("a"), &here, &peers);
    assert_eq!(
        endpoints(&table, "web@docker"),
        [
            ("http://10.0.0.1".to_owned(), true, 1),
            ("http://10.0.0.2".to_owned(), false, 1),
            ("node b".to_owned(), true, 2),
            ("node c".to_owned(), true, 1),
            ("node d".to_owned(), false, 1),
        ]
    );
    let reach: Vec<Reach> = table.service("web@docker").unwrap().endpoints[1..]
        .iter()
        .map(|endpoint| endpoint.locality.reach)
        .collect();
    assert_eq!(
        reach,
        [Reach::Node, Reach::Region, Reach::Elsewhere, Reach::Region]
    );
    assert_eq!(asked(&table, "web.d.test"), "http://10.0.0.1:80");
}

#[test]
fn any_node_serves_what_only_another_one_defines() {
    let there = [containers("web", &[("http://10.1.0.1", true)])];
    let streams = reading(
        "file",
        json!({
            "tcp": {"routers": {"db": {"rule": "HostSNI(`*`)", "service": "db"}},
                "services": {"db": {"loadBalancer": {"servers": [{"address": "10.1.0.9:5432"}]}}}},
        }),
    );
    let peers = [peer("b", &there), peer("c", &[streams])];
    let table = table(&own("a"), &[], &peers);
    assert_eq!(asked(&table, "web.d.test"), "mesh://b/web@docker");
    assert_eq!(endpoints(&table, "tcp/db@file"), [("node c".to_owned(), true, 1)]);
}

#[test]
fn what_is_fit_now_counts_more_than_the_export() {
    let there = [containers(
        "web",
        &[("http://10.1.0.1", true), ("http://10.1.0.2", true)],
    )];
    let with = |node: &str, ready, failing| {
        let mut peer = peer(node, &there);
        peer.fit = [("web@docker".to_owned(), Fit { ready, failing })].into();
        peer
    };
    let none = table(&own("a"), &[], &[with("b", 0, 0)]);
    assert_eq!(asked(&none, "web.d.test"), "503");
    let one = table(&own("a"), &[], &[with("b", 1, 1)]);
    assert_eq!(endpoints(&one, "web@docker"), [("node b".to_owned(), true, 1)]);
    // Where they fail, nobody is sent who could go elsewhere, however far that is.
    let mut far = with("z", 1, 0);
    far.region = "far".into();
    let failing = table(&own("a"), &[], &[with("b", 0, 2), far.clone()]);
    assert_eq!(asked(&failing, "web.d.test"), "mesh://z/web@docker");
    let reach: Vec<Reach> = failing
        .service("web@docker")
        .unwrap()
        .endpoints
        .iter()
        .map(|one| one.locality.reach)
        .collect();
    assert_eq!(reach, [Reach::LastResort, Reach::Elsewhere]);
    far.standing = Standing::Gone;
    let nobody_else = table(&own("a"), &[], &[with("b", 0, 2), far]);
    assert_eq!(asked(&nobody_else, "web.d.test"), "mesh://b/web@docker");
}

#[test]
fn a_node_that_takes_nothing_new_gets_nothing_new() {
    let there = [containers("web", &[("http://10.1.0.1", true)])];
    for standing in [Standing::Cordoned, Standing::Draining, Standing::Gone] {
        let b = Peer {
            standing,
            ..peer("b", &there)
        };
        let table = table(&own("a"), &[], &[b]);
        assert_eq!(asked(&table, "web.d.test"), "503", "{standing:?}");
        let left = endpoints(&table, "web@docker").len();
        assert_eq!(left, usize::from(standing != Standing::Gone), "{standing:?}");
    }
}

#[test]
fn definitions_that_differ_are_chosen_alike_and_shown() {
    let rule = |rule: &str| {
        [reading(
            "docker",
            json!({"http": {"routers": {"web": {"rule": rule, "service": "web"}},
                "services": {"web": {"loadBalancer": {"servers": []}}}}}),
        )]
    };
    let (one, two, three) = (rule("Host(`1`)"), rule("Host(`2`)"), rule("Host(`3`)"));
    let mut c = peer("c", &three);
    c.priority = 1;
    let chosen = |own: &Own, readings: &[Arc<Contribution>], peers: &[Peer]| {
        let mut merged = merge(own, readings, peers);
        let merged = merged.pop().unwrap();
        (
            merged.dynamic.http.routers["web"].rule.clone(),
            merged.problems.clone(),
        )
    };
    // Its own first.
    let (winner, problems) = chosen(&own("a"), &one, &[peer("b", &two), c.clone()]);
    assert_eq!((&*winner, problems.len()), ("Host(`1`)", 2));
    assert_eq!(problems[0].subject, "router web@docker");
    assert!(
        problems[0]
            .message
            .contains("the nodes a and c define it differently")
    );
    // Else that of the preferred node, in whichever order they are told.
    for peers in [[peer("b", &two), c.clone()], [c.clone(), peer("b", &two)]] {
        let (winner, problems) = chosen(&own("z"), &[], &peers);
        assert_eq!((&*winner, problems.len()), ("Host(`3`)", 1));
        assert!(problems[0].message.contains("here that of c counts"));
    }
}

#[test]
fn a_host_of_one_node_leads_to_that_node_from_any() {
    let a = [containers("web", &[("http://10.0.0.1", true)])];
    let b = [containers("web", &[("http://10.1.0.1", true)])];
    let seen = [
        (
            "a",
            &a,
            peer("b", &b),
            "http://10.0.0.1:80",
            "mesh://b/web@docker",
        ),
        (
            "b",
            &b,
            peer("a", &a),
            "mesh://a/web@docker",
            "http://10.1.0.1:80",
        ),
    ];
    for (node, readings, other, at_a, at_b) in seen {
        let table = table(&own(node), readings.as_slice(), &[other]);
        assert_eq!(asked(&table, "web.a.d.test"), at_a, "from {node}");
        assert_eq!(asked(&table, "web.b.d.test"), at_b, "from {node}");
        assert_eq!(asked(&table, "web.c.d.test"), "404", "from {node}");
    }
    // The other one has instances, and is not asked.
    let stopped = [containers("web", &[("http://10.0.0.1", false)])];
    let table = table(&own("b"), &b, &[peer("a", &stopped)]);
    assert_eq!(asked(&table, "web.a.d.test"), "503");
    assert_eq!(asked(&table, "web.d.test"), "http://10.1.0.1:80");
}

#[test]
fn without_others_and_without_a_domain_readings_stay_what_they_are() {
    let readings = [containers("web", &[("http://10.0.0.1", true)])];
    let alone = Own {
        domain: "".into(),
        ..own("a")
    };
    let merged = merge(&alone, &readings, &[]);
    assert!(Arc::ptr_eq(&merged[0], &readings[0]));
    // What comes back of itself is not another node.
    let merged = merge(&alone, &readings, &[peer("a", &readings)]);
    assert_eq!(merged[0], readings[0]);
}

#[test]
fn routes_of_a_node_that_is_gone_stay_for_a_while() {
    const GRACE: Duration = Duration::from_secs(600);
    let there = [containers("web", &[("http://10.1.0.1", true)])];
    let (b, start) = (peer("b", &there), Instant::now());
    let mut roster = Roster::default();
    let mut at = |listed: &[Peer], seconds: u64| {
        let now = start + Duration::from_secs(seconds);
        roster.observe(listed, now);
        asked(&table(&own("a"), &[], &roster.peers(GRACE, now)), "web.d.test")
    };
    assert_eq!(at(std::slice::from_ref(&b), 0), "mesh://b/web@docker");
    assert_eq!(at(&[], 1), "503");
    assert_eq!(at(&[], 600), "503");
    assert_eq!(at(&[], 601), "404");
    assert_eq!(at(std::slice::from_ref(&b), 700), "mesh://b/web@docker");
    let gone = Peer {
        standing: Standing::Gone,
        ..b.clone()
    };
    assert_eq!(at(std::slice::from_ref(&gone), 701), "503");
    assert_eq!(at(std::slice::from_ref(&gone), 1300), "503");
    assert_eq!(at(&[gone], 1301), "404");
    assert_eq!(at(&[b], 1302), "mesh://b/web@docker");
}
