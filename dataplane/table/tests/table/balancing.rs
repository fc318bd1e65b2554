//! How decisions spread over the endpoints of a service.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::asked::Asked;
use crate::built::{Row, endpoint, service, snapshot};
use constellation_table::{Decision, Exclusion, RequestMeta, Service, ServiceSpec, Snapshot, Turn, decide};
use proptest::prelude::*;

fn one_service(service: &Arc<Service>) -> Snapshot {
    snapshot(vec![Row::plain("r", "PathPrefix(`/`)").forward(service)])
}

/// The names of the candidates, in order.
fn order(snapshot: &Snapshot, request: &RequestMeta<'_>) -> Vec<String> {
    match decide(snapshot, request) {
        Decision::Forward { candidates, .. } => candidates
            .order
            .iter()
            .map(|candidate| candidate.endpoint.name.to_string())
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn two_to_one_gives_twenty_and_ten_of_thirty() {
    let service = service("s", vec![endpoint("a", 2, None), endpoint("b", 1, None)]);
    let snapshot = one_service(&service);
    let asked = Asked::parse("GET h /").unwrap();
    let request = RequestMeta {
        turn: Turn::Take,
        ..asked.meta()
    };
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..30 {
        *first.entry(order(&snapshot, &request)[0].clone()).or_default() += 1;
    }
    assert_eq!(first, BTreeMap::from([("a".into(), 20), ("b".into(), 10)]));
}

#[test]
fn looking_does_not_take_a_turn() {
    let service = service("s", vec![endpoint("a", 1, None), endpoint("b", 1, None)]);
    let snapshot = one_service(&service);
    let asked = Asked::parse("GET h /").unwrap();
    let take = RequestMeta {
        turn: Turn::Take,
        ..asked.meta()
    };
    assert_eq!(order(&snapshot, &asked.meta())[0], "a");
    assert_eq!(order(&snapshot, &asked.meta())[0], "a");
    assert_eq!(order(&snapshot, &take)[0], "a");
    assert_eq!(order(&snapshot, &asked.meta())[0], "b");
    assert_eq!(
        order(
            &snapshot,
            &RequestMeta {
                turn: Turn::At(7),
                ..asked.meta()
            }
        )[0],
        "b"
    );
}

#[test]
fn the_cursor_survives_a_new_generation() {
    let spec = || ServiceSpec {
        name: "s".into(),
        endpoints: vec![endpoint("a", 1, None), endpoint("b", 1, None)],
        pass_host_header: true,
        transport: Arc::default(),
        retry_after: 5,
        policy: Arc::default(),
    };
    let old = Arc::new(Service::new(spec(), None));
    let asked = Asked::parse("GET h /").unwrap();
    let take = RequestMeta {
        turn: Turn::Take,
        ..asked.meta()
    };
    assert_eq!(order(&one_service(&old), &take)[0], "a");
    let new = Arc::new(Service::new(spec(), Some(&old)));
    assert_eq!(order(&one_service(&new), &take)[0], "b");
    assert_eq!(
        order(&one_service(&old), &take)[0],
        "a",
        "both generations share one cursor"
    );
}

#[test]
fn endpoints_that_cannot_serve_are_left_out_with_the_reason() {
    let service = service(
        "s",
        vec![
            endpoint("a", 1, Some("exited (137)")),
            endpoint("b", 0, None),
            endpoint("c", 1, None),
        ],
    );
    let snapshot = one_service(&service);
    let asked = Asked::parse("GET h /").unwrap();
    let decision = decide(&snapshot, &asked.meta());
    let candidates = decision.candidates().unwrap();
    assert_eq!(candidates.order.len(), 1);
    assert_eq!(&*candidates.order[0].endpoint.name, "c");
    let excluded: Vec<_> = candidates
        .excluded
        .iter()
        .map(|(endpoint, why)| (&*endpoint.name, *why, why.reason(endpoint)))
        .collect();
    assert_eq!(
        excluded,
        [
            ("a", Exclusion::Unavailable, "exited (137)"),
            ("b", Exclusion::NoWeight, "its weight is 0")
        ]
    );
}

#[test]
fn nothing_to_serve_is_unavailable_not_a_missing_route() {
    for endpoints in [
        vec![],
        vec![endpoint("a", 1, Some("gone"))],
        vec![endpoint("a", 0, None)],
    ] {
        let service = service("s", endpoints);
        let snapshot = one_service(&service);
        let asked = Asked::parse("GET h /").unwrap();
        assert!(matches!(
            decide(&snapshot, &asked.meta()),
            Decision::Unavailable { .. }
        ));
    }
}

#[test]
fn the_load_of_a_failing_endpoint_spreads_over_all_others() {
    for count in [3usize, 5, 8] {
        let endpoints = (0..count)
            .map(|number| endpoint(&format!("e{number}"), 1, None))
            .collect();
        let service = service("s", endpoints);
        let snapshot = one_service(&service);
        let asked = Asked::parse("GET h /").unwrap();
        let mut seconds: BTreeMap<String, usize> = BTreeMap::new();
        let turns = 1000 * count as u64;
        for turn in 0..turns {
            let order = order(
                &snapshot,
                &RequestMeta {
                    turn: Turn::At(turn),
                    ..asked.meta()
                },
            );
            if order[0] == "e0" {
                *seconds.entry(order[1].clone()).or_default() += 1;
            }
        }
        let fair = 1000 / (count - 1);
        assert_eq!(seconds.len(), count - 1, "{seconds:?}");
        assert!(
            seconds
                .values()
                .all(|got| *got * 5 > fair * 4 && *got * 5 < fair * 6),
            "{seconds:?}"
        );
    }
}

proptest! {
    #[test]
    fn every_round_is_exact_and_every_order_complete(
        endpoints in prop::collection::vec((0u32..6, any::<bool>()), 0..8),
        start in any::<u64>(),
    ) {
        let names: Vec<_> = (0..endpoints.len()).map(|number| format!("e{number}")).collect();
        let usable: BTreeMap<_, _> = endpoints
            .iter()
            .zip(&names)
            .filter(|((weight, up), _)| *weight > 0 && *up)
            .map(|((weight, _), name)| (name.clone(), u64::from(*weight)))
            .collect();
        let built = endpoints
            .iter()
            .zip(&names)
            .map(|((weight, up), name)| endpoint(name, *weight, (!up).then_some("down")))
            .collect();
        let service = service("s", built);
        let snapshot = one_service(&service);
        let asked = Asked::parse("GET h /").unwrap();
        let sum: u64 = usable.values().sum();
        let mut first: BTreeMap<String, u64> = BTreeMap::new();
        // A sum of weights of turns is a whole number of rounds, wherever it starts (away from the counter's end).
        for turn in (start >> 1..).take(usize::try_from(sum).unwrap()) {
            let order = order(&snapshot, &RequestMeta { turn: Turn::At(turn), ..asked.meta() });
            let distinct: std::collections::BTreeSet<_> = order.iter().cloned().collect();
            prop_assert_eq!(distinct.len(), order.len());
            prop_assert_eq!(distinct, usable.keys().cloned().collect());
            *first.entry(order[0].clone()).or_default() += 1;
        }
        prop_assert_eq!(first, usable);
    }
}
