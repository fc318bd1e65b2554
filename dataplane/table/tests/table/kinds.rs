//! Kinds of services built of others: who gets the request, who follows, who gets a copy.
#![expect(
    clippy::unwrap_used,
    reason = "what a test builds from constants is sound, or the test fails"
)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use constellation_table::policy::StickyCookie;
use constellation_table::{
    AttemptOutcome, Child, Condition, Decision, EntryPointId, Failover, FailoverErrors, FailoverSpec,
    HighestRandomWeight, HighestRandomWeightSpec, MAX_DEPTH, Mirror, Mirroring, MirroringSpec, RequestMeta,
    Service, Snapshot, Target, TargetError, Turn, Weighted, WeightedSpec, decide, explain,
};
use http::HeaderMap;
use proptest::prelude::*;

use crate::built::{Row, endpoint, service, snapshot};

fn up(name: &str) -> Arc<Service> {
    service(
        name,
        vec![
            endpoint(&format!("{name}-1"), 1, None),
            endpoint(&format!("{name}-2"), 1, None),
        ],
    )
}

fn down(name: &str) -> Arc<Service> {
    service(name, vec![endpoint(&format!("{name}-1"), 1, Some("exited"))])
}

fn children(list: Vec<(Target, u32)>) -> Vec<Child> {
    list.into_iter()
        .map(|(target, weight)| Child {
            name: target.name().clone(),
            target,
            weight,
        })
        .collect()
}

fn weighted(name: &str, list: Vec<(Target, u32)>) -> Target {
    let spec = WeightedSpec {
        name: name.into(),
        children: children(list),
        sticky: None,
    };
    Target::Weighted(Arc::new(Weighted::new(spec, None).unwrap()))
}

fn hrw(list: Vec<(Target, u32)>) -> Target {
    let spec = HighestRandomWeightSpec {
        name: "hrw".into(),
        children: children(list),
    };
    Target::HighestRandomWeight(Arc::new(HighestRandomWeight::new(spec).unwrap()))
}

fn failover(main: Target, fallback: Target, statuses: &[(u16, u16)]) -> Target {
    let spec = FailoverSpec {
        name: "failover".into(),
        main,
        fallback,
        errors: (!statuses.is_empty()).then(|| FailoverErrors {
            statuses: statuses.to_vec(),
            max_request_body_bytes: Some(1000),
        }),
    };
    Target::Failover(Arc::new(Failover::new(spec).unwrap()))
}

fn mirroring(main: Target, mirrors: Vec<(Target, u8)>) -> Target {
    let mirrors = mirrors.into_iter().map(|(target, percent)| Mirror {
        name: target.name().clone(),
        target,
        percent,
    });
    let spec = MirroringSpec {
        name: "mirroring".into(),
        main,
        mirrors: mirrors.collect(),
        mirror_body: true,
        max_body_bytes: None,
    };
    Target::Mirroring(Arc::new(Mirroring::new(spec, None).unwrap()))
}

fn leading_to(target: &Target) -> Snapshot {
    snapshot(vec![Row::plain("r", "PathPrefix(`/`)").lead_to(target.clone())])
}

fn request<'r>(headers: &'r HeaderMap, number: u32, now: Instant) -> RequestMeta<'r> {
    RequestMeta {
        entry_point: EntryPointId(0),
        tls: false,
        method: "GET",
        host: "h",
        path: "/",
        query: "",
        headers,
        client: IpAddr::from(number.to_be_bytes()),
        repeatable: true,
        now,
        turn: Turn::Take,
    }
}

/// The services that would get the request, in order.
fn way(snapshot: &Snapshot, number: u32, now: Instant) -> Vec<String> {
    let headers = HeaderMap::new();
    match decide(snapshot, &request(&headers, number, now)) {
        Decision::Forward { service, via, .. } => {
            let further = via.iter().flat_map(|via| &via.further).map(|leg| leg.service);
            [service]
                .into_iter()
                .chain(further)
                .map(|service| service.name.to_string())
                .collect()
        }
        _ => Vec::new(),
    }
}

fn firsts(target: &Target, requests: u32) -> BTreeMap<String, u32> {
    let snapshot = leading_to(target);
    let mut firsts = BTreeMap::new();
    for number in 0..requests {
        *firsts
            .entry(way(&snapshot, number, Instant::now()).swap_remove(0))
            .or_default() += 1;
    }
    firsts
}

fn counts(list: &[(&str, u32)]) -> BTreeMap<String, u32> {
    list.iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

#[test]
fn shares_multiply_down_the_tree() {
    let inner = weighted("inner", vec![(up("b").into(), 2), (up("c").into(), 1)]);
    let outer = weighted(
        "outer",
        vec![(up("a").into(), 1), (inner, 3), (up("z").into(), 0)],
    );
    assert_eq!(firsts(&outer, 120), counts(&[("a", 30), ("b", 60), ("c", 30)]));
}

#[test]
fn a_child_that_cannot_serve_leaves_its_share_to_the_others() {
    let target = weighted(
        "w",
        vec![(up("a").into(), 1), (down("b").into(), 4), (up("c").into(), 3)],
    );
    let firsts = firsts(&target, 8000);
    assert_eq!(firsts.len(), 2);
    assert!(
        firsts["a"].abs_diff(2000) < 250 && firsts["c"].abs_diff(6000) < 250,
        "{firsts:?}"
    );
}

#[test]
fn nothing_below_can_serve() {
    let headers = HeaderMap::new();
    for target in [
        weighted("w", vec![(down("a").into(), 1), (down("b").into(), 1)]),
        weighted("w", vec![(up("a").into(), 0)]),
        failover(down("a").into(), down("b").into(), &[]),
        hrw(vec![(down("a").into(), 1)]),
        mirroring(down("a").into(), vec![(up("m").into(), 100)]),
    ] {
        let snapshot = leading_to(&target);
        let decision = decide(&snapshot, &request(&headers, 1, Instant::now()));
        let Decision::Unavailable { service, .. } = decision else {
            panic!("{decision:?}");
        };
        assert_eq!(&*service.name, "a");
    }
}

#[test]
fn a_request_may_go_on_at_the_fallback() {
    let target = failover(
        up("main").into(),
        up("fallback").into(),
        &[(500, 599), (404, 404)],
    );
    let snapshot = leading_to(&target);
    assert_eq!(way(&snapshot, 1, Instant::now()), ["main", "fallback"]);
    let headers = HeaderMap::new();
    let decision = decide(&snapshot, &request(&headers, 1, Instant::now()));
    let via = decision.via().unwrap();
    assert_eq!(via.further[0].candidates.order.len(), 2);
    for (status, moves) in [(200, false), (404, true), (500, true), (599, true), (499, false)] {
        assert_eq!(via.way.moves_on(status), moves, "{status}");
        assert!(
            !via.further[0].way.moves_on(status),
            "the fallback's own answer is final"
        );
    }
    assert_eq!(via.way.replay_bytes(), Some(1000));
}

#[test]
fn the_fallback_serves_while_the_main_one_cannot() {
    let main = service("main", vec![endpoint("main-1", 1, None)]);
    let target = failover(main.clone().into(), up("fallback").into(), &[]);
    let snapshot = leading_to(&target);
    let mut now = Instant::now();
    assert_eq!(way(&snapshot, 1, now), ["main", "fallback"]);
    let refused = main.record(&main.endpoints[0], AttemptOutcome::ConnectFailed, now);
    assert!(!refused.is_empty());
    // A service of its own would be used all the same when all of it is out (panic); here somebody stands in.
    assert_eq!(way(&snapshot, 1, now), ["fallback", "main"]);
    now += Duration::from_secs(60);
    // On probation: one request asks it, and when that succeeds it is back.
    assert_eq!(way(&snapshot, 1, now), ["main", "fallback"]);
    let answered = AttemptOutcome::Answered {
        status: 200,
        latency: Duration::from_millis(1),
    };
    main.record(&main.endpoints[0], answered, now);
    now += Duration::from_secs(60);
    assert_eq!(way(&snapshot, 1, now), ["main", "fallback"]);
}

#[test]
fn copies_are_drawn_evenly_and_exactly() {
    let target = mirroring(
        up("main").into(),
        vec![
            (up("some").into(), 30),
            (up("all").into(), 100),
            (up("none").into(), 0),
            (down("down").into(), 50),
        ],
    );
    let snapshot = leading_to(&target);
    let headers = HeaderMap::new();
    let mut drawn: BTreeMap<String, u32> = BTreeMap::new();
    let mut last = 0;
    for number in 0..200 {
        let now = Instant::now();
        let look = RequestMeta {
            turn: Turn::Look,
            ..request(&headers, number, now)
        };
        assert!(decide(&snapshot, &look).via().is_some(), "looking counts nothing");
        let decision = decide(&snapshot, &request(&headers, number, now));
        for mirrored in &decision.via().unwrap().mirrors {
            assert_eq!(
                mirrored.leg.is_some(),
                mirrored.drawn && &*mirrored.mirror.name != "down"
            );
            if mirrored.drawn {
                *drawn.entry(mirrored.mirror.name.to_string()).or_default() += 1;
                if &*mirrored.mirror.name == "some" {
                    assert!(number - last <= 4);
                    last = number;
                }
            }
        }
    }
    assert_eq!(drawn, counts(&[("some", 60), ("all", 200), ("down", 100)]));
}

#[test]
fn only_the_way_that_is_taken_is_mirrored_and_copies_are_not_copied() {
    let inner = mirroring(up("copy").into(), vec![(up("copy-of-copy").into(), 100)]);
    let main = mirroring(down("main").into(), vec![(up("unused").into(), 100)]);
    let fallback = mirroring(up("fallback").into(), vec![(inner, 100)]);
    let snapshot = leading_to(&failover(main, fallback, &[]));
    let headers = HeaderMap::new();
    let decision = decide(&snapshot, &request(&headers, 1, Instant::now()));
    let mirrors = &decision.via().unwrap().mirrors;
    assert_eq!(mirrors.len(), 1);
    assert_eq!(&*mirrors[0].leg.as_ref().unwrap().service.name, "copy");
}

#[test]
fn a_client_keeps_its_child_and_moves_only_when_that_is_gone() {
    let of = |states: [bool; 4]| {
        let list = ["a", "b", "c", "d"].into_iter().zip(states).map(|(name, is_up)| {
            let service = if is_up { up(name) } else { down(name) };
            (service.into(), 1)
        });
        leading_to(&hrw(list.collect()))
    };
    let (whole, left) = (of([true; 4]), of([true, true, false, true]));
    let now = Instant::now();
    let mut moved = 0;
    for number in 0..1000 {
        let mut before = way(&whole, number, now);
        assert_eq!(before, way(&whole, number, now));
        assert_eq!(before.len(), 4, "the others follow");
        moved += u32::from(before[0] == "c");
        before.retain(|name| name != "c");
        assert_eq!(way(&left, number, now), before);
    }
    assert!((180..320).contains(&moved), "{moved}");
}

#[test]
fn a_sticky_child() {
    let spec = WeightedSpec {
        name: "w@file".into(),
        children: children(vec![(up("one").into(), 1), (up("two@file").into(), 1)]),
        sticky: Some(StickyCookie {
            name: "_c239a".into(),
            secure: false,
            http_only: false,
            same_site: None,
            max_age: 0,
            path: "/".into(),
            domain: None,
        }),
    };
    let target = Target::Weighted(Arc::new(Weighted::new(spec, None).unwrap()));
    let snapshot = leading_to(&target);
    let now = Instant::now();
    let headers = HeaderMap::new();
    let decision = decide(&snapshot, &request(&headers, 1, now));
    let via = decision.via().unwrap();
    // Who answers is who is named.
    assert_eq!(via.way.cookies.as_slice(), ["_c239a=7692c3ad3540bb80; Path=/"]);
    assert_eq!(
        via.further[0].way.cookies.as_slice(),
        ["_c239a=63478891e41ca011; Path=/"]
    );
    let mut headers = HeaderMap::new();
    headers.insert("cookie", "_c239a=63478891e41ca011".parse().unwrap());
    for number in 0..10 {
        let decision = decide(&snapshot, &request(&headers, number, now));
        assert_eq!(&*decision.service().unwrap().name, "two@file");
        assert!(decision.via().unwrap().way.cookies.is_empty());
    }
}

#[test]
fn trees_are_bounded() {
    let mut target: Target = up("leaf").into();
    for depth in 2..=MAX_DEPTH {
        target = weighted(&format!("level-{depth}"), vec![(target, 1)]);
    }
    assert_eq!(firsts(&target, 1), counts(&[("leaf", 1)]));
    let of = |list: Vec<(Target, u32)>| {
        let spec = WeightedSpec {
            name: "w".into(),
            children: children(list),
            sticky: None,
        };
        Weighted::new(spec, None).unwrap_err()
    };
    assert_eq!(
        of(vec![(target, 1)]),
        TargetError::TooDeep { depth: MAX_DEPTH + 1 }
    );
    assert_eq!(of(vec![]), TargetError::Empty);
    let ten = |target: Target| weighted("ten", vec![(target, 1); 10]);
    let thousand = ten(ten(ten(up("leaf").into())));
    assert_eq!(of(vec![(thousand, 1); 2]), TargetError::TooLarge { leaves: 2000 });
}

#[test]
fn explain_shows_the_way() {
    let target = failover(
        weighted("w", vec![(up("a").into(), 1)]),
        mirroring(up("b").into(), vec![(up("m").into(), 0)]),
        &[],
    );
    let headers = HeaderMap::new();
    let text = explain(&leading_to(&target), &request(&headers, 1, Instant::now())).to_string();
    let want = "\
-> service a, by failover failover (main), weighted w (a)
   1. a-1 at http://a-1:80
   2. a-2 at http://a-2:80
   then service b, by failover failover (fallback), mirroring mirroring (main)
      1. b-1 at http://b-1:80
      2. b-2 at http://b-2:80
";
    assert!(text.contains(want), "{text}");
}

/// A random tree over services that are up or down.
fn any_tree() -> impl Strategy<Value = Target> {
    let leaf = (0u32..1000, any::<bool>()).prop_map(|(n, is_up)| {
        let name = format!("s{n}");
        Target::from(if is_up { up(&name) } else { down(&name) })
    });
    leaf.prop_recursive(3, 24, 4, |inner| {
        let list = prop::collection::vec((inner.clone(), 0u32..4), 1..4);
        prop_oneof![
            list.clone().prop_map(|list| weighted("w", list)),
            list.prop_map(hrw),
            (inner.clone(), inner.clone()).prop_map(|(main, fallback)| failover(main, fallback, &[])),
            (inner.clone(), inner, 0u8..=100)
                .prop_map(|(main, mirror, percent)| mirroring(main, vec![(mirror, percent)])),
        ]
    })
}

/// Whether the request can get an answer somewhere below.
fn can_serve(target: &Target) -> bool {
    match target {
        Target::Service(service) => service.endpoints.iter().any(|e| e.condition == Condition::Ready),
        Target::Weighted(node) => node
            .spec
            .children
            .iter()
            .any(|c| c.weight > 0 && can_serve(&c.target)),
        Target::HighestRandomWeight(node) => node
            .spec
            .children
            .iter()
            .any(|c| c.weight > 0 && can_serve(&c.target)),
        Target::Failover(node) => can_serve(&node.spec.main) || can_serve(&node.spec.fallback),
        Target::Mirroring(node) => can_serve(&node.spec.main),
    }
}

proptest! {
    #[test]
    fn who_can_be_served_is(target in any_tree(), number in any::<u32>()) {
        let snapshot = leading_to(&target);
        let way = way(&snapshot, number, Instant::now());
        prop_assert_eq!(!way.is_empty(), can_serve(&target));
        prop_assert!(way.len() <= 4);
    }
}
