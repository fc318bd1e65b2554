//! The balancing algorithms: shares, movement, bounds, and that nobody is starved.
#![expect(
    clippy::unwrap_used,
    reason = "what a test builds from constants is sound, or the test fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use constellation_table::policy::{Balance, Groups, HashKey, Policy, StickyCookie};
use constellation_table::{
    AttemptOutcome, Decision, Endpoint, EntryPointId, Reach, RequestMeta, Running, Service, Snapshot, Turn,
    decide,
};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use crate::built::{Row, endpoint, endpoint_at, service_with, snapshot};

/// A service behind a router that takes everything.
struct Served {
    service: Arc<Service>,
    snapshot: Snapshot,
    headers: HeaderMap,
    now: Instant,
}

impl Served {
    fn new(endpoints: Vec<Arc<Endpoint>>, policy: Policy) -> Self {
        let service = service_with("s", endpoints, policy);
        Self {
            snapshot: snapshot(vec![Row::plain("r", "PathPrefix(`/`)").forward(&service)]),
            service,
            headers: HeaderMap::new(),
            now: Instant::now(),
        }
    }

    fn balanced(endpoints: Vec<Arc<Endpoint>>, balance: Balance) -> Self {
        Self::new(
            endpoints,
            Policy {
                balance,
                ..Policy::default()
            },
        )
    }

    fn decide_from(&self, client: IpAddr) -> Decision<'_> {
        decide(
            &self.snapshot,
            &RequestMeta {
                entry_point: EntryPointId(0),
                tls: false,
                method: "GET",
                host: "h",
                path: "/",
                query: "",
                headers: &self.headers,
                client,
                repeatable: true,
                now: self.now,
                turn: Turn::Take,
            },
        )
    }

    /// The endpoints to try, in order.
    fn order_for(&self, client: IpAddr) -> Vec<Arc<Endpoint>> {
        let decision = self.decide_from(client);
        let candidates = decision.candidates().map(|candidates| &candidates.order);
        candidates
            .into_iter()
            .flatten()
            .map(|candidate| candidate.endpoint.clone())
            .collect()
    }

    fn names_for(&self, client: IpAddr) -> Vec<String> {
        self.order_for(client)
            .iter()
            .map(|endpoint| endpoint.name.to_string())
            .collect()
    }

    fn next(&self) -> Arc<Endpoint> {
        self.order_for(client(0)).swap_remove(0)
    }

    /// How often each endpoint goes first.
    fn firsts(&self, requests: usize) -> BTreeMap<String, usize> {
        let mut firsts = BTreeMap::new();
        for _ in 0..requests {
            *firsts.entry(self.next().name.to_string()).or_default() += 1;
        }
        firsts
    }

    fn answer(&self, place: usize, latency: Duration) {
        let answered = AttemptOutcome::Answered { status: 200, latency };
        self.service
            .record(&self.service.endpoints[place], answered, self.now);
    }
}

fn client(number: u32) -> IpAddr {
    IpAddr::from(number.to_be_bytes())
}

fn weighted(weights: &[u32]) -> Vec<Arc<Endpoint>> {
    (0..)
        .zip(weights)
        .map(|(n, weight): (usize, _)| endpoint(&format!("e{n}"), *weight, None))
        .collect()
}

fn hash(bound: Option<u32>) -> Balance {
    Balance::Hash {
        key: HashKey::ClientAddress,
        bound,
    }
}

fn any_balance() -> impl Strategy<Value = Balance> {
    prop_oneof![
        Just(Balance::RoundRobin),
        Just(Balance::LeastRequests),
        Just(Balance::LeastTime),
        Just(hash(None)),
        Just(hash(Some(125))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn with_nothing_to_choose_by_everybody_gets_its_exact_share(
        weights in prop::collection::vec(1u32..6, 1..8),
        balance in prop_oneof![Just(Balance::LeastRequests), Just(Balance::LeastTime)],
        known in any::<bool>(),
    ) {
        let served = Served::balanced(weighted(&weights), balance);
        if known {
            (0..weights.len()).for_each(|place| served.answer(place, Duration::from_millis(5)));
        }
        let sum: u32 = weights.iter().sum();
        let want: BTreeMap<_, _> = (0..).zip(&weights).map(|(n, w): (usize, _)| (format!("e{n}"), *w as usize)).collect();
        prop_assert_eq!(served.firsts(sum as usize), want);
    }

    #[test]
    fn keys_are_shared_out_by_weight(weights in prop::collection::vec(1u32..6, 1..7), salt in any::<u32>()) {
        const KEYS: u32 = 3000;
        let served = Served::balanced(weighted(&weights), hash(None));
        let mut firsts: BTreeMap<String, f64> = BTreeMap::new();
        for key in 0..KEYS {
            *firsts.entry(served.names_for(client(salt.wrapping_add(key))).swap_remove(0)).or_default() += 1.0;
        }
        let sum: u32 = weights.iter().sum();
        for (n, weight) in weights.iter().enumerate() {
            let part = f64::from(*weight) / f64::from(sum);
            let (want, sigma) = (f64::from(KEYS) * part, (f64::from(KEYS) * part * (1.0 - part)).sqrt());
            let got = firsts.get(&format!("e{n}")).copied().unwrap_or(0.0);
            prop_assert!((got - want).abs() <= 6.0 * sigma + 1.0, "e{n}: {got} for {want}");
        }
    }

    #[test]
    fn who_leaves_moves_only_its_own_keys(weights in prop::collection::vec(1u32..4, 2..9), gone in any::<prop::sample::Index>()) {
        let gone = gone.index(weights.len());
        let name = format!("e{gone}");
        let whole = Served::balanced(weighted(&weights), hash(None));
        // Whether it was removed or is only out makes no difference.
        for removed in [true, false] {
            let mut left = weighted(&weights);
            if removed {
                left.remove(gone);
            } else {
                left[gone] = endpoint(&name, weights[gone], Some("down"));
            }
            let left = Served::balanced(left, hash(None));
            for key in 0..300 {
                let mut before = whole.names_for(client(key));
                before.retain(|endpoint| *endpoint != name);
                prop_assert_eq!(left.names_for(client(key)), before, "the others keep their order");
            }
        }
    }

    #[test]
    fn the_bound_is_kept_whatever_the_keys(
        weights in prop::collection::vec(1u32..5, 1..7),
        bound in 101u32..300,
        events in prop::collection::vec((0u32..4, any::<bool>(), any::<prop::sample::Index>()), 1..150),
    ) {
        let served = Served::balanced(weighted(&weights), hash(Some(bound)));
        let sum: u64 = weights.iter().copied().map(u64::from).sum();
        let mut running: Vec<Running> = Vec::new();
        for (key, ends, which) in events {
            let first = served.order_for(client(key)).swap_remove(0);
            running.push(first.live.begin());
            let load = running.len() as u64;
            let most = (load * u64::from(bound) * u64::from(first.weight)).div_ceil(sum * 100);
            prop_assert!(u64::from(first.live.in_flight()) <= most);
            if ends {
                running.swap_remove(which.index(running.len()));
            }
        }
    }

    #[test]
    fn every_usable_endpoint_is_a_candidate_and_no_other(
        balance in any_balance(),
        endpoints in prop::collection::vec((0u32..4, any::<bool>(), any::<bool>(), 0u32..3), 1..8),
    ) {
        let built = (0..).zip(&endpoints).map(|(n, (weight, up, ..)): (usize, _)| {
            endpoint(&format!("e{n}"), *weight, (!up).then_some("down"))
        });
        let served = Served::balanced(built.collect(), balance);
        let mut healthy = BTreeSet::new();
        let mut running = Vec::new();
        for (n, (weight, up, fails, in_flight)) in endpoints.iter().enumerate() {
            let endpoint = &served.service.endpoints[n];
            running.extend((0..*in_flight).map(|_| endpoint.live.begin()));
            if *weight == 0 || !up {
                continue;
            }
            if *fails {
                served.service.record(endpoint, AttemptOutcome::ConnectFailed, served.now);
            } else {
                healthy.insert(endpoint.name.to_string());
            }
        }
        if healthy.is_empty() {
            // Panic: all that are there.
            healthy.extend((0..).zip(&endpoints).filter(|(_, (weight, up, ..))| *weight > 0 && *up).map(|(n, _): (usize, _)| format!("e{n}")));
        }
        for key in 0..20 {
            let order = served.names_for(client(key));
            prop_assert_eq!(order.len(), healthy.len());
            prop_assert_eq!(order.into_iter().collect::<BTreeSet<_>>(), healthy.clone());
        }
    }

    #[test]
    fn nobody_is_starved(
        balance in any_balance(),
        weights in prop::collection::vec(1u32..4, 1..6),
        latencies in prop::collection::vec(1u64..2000, 6),
    ) {
        let served = Served::balanced(weighted(&weights), balance);
        (0..weights.len()).for_each(|place| served.answer(place, Duration::from_millis(latencies[place])));
        let mut seen = BTreeSet::new();
        for key in 0..3000 {
            seen.insert(served.names_for(client(key)).swap_remove(0));
        }
        prop_assert_eq!(seen.len(), weights.len());
    }

    #[test]
    fn a_client_stays_where_its_cookie_says(balance in any_balance(), count in 1usize..7, which in any::<prop::sample::Index>()) {
        let which = which.index(count);
        let mut served = Served::new(weighted(&vec![1; count]), sticky(balance));
        let endpoints = served.service.endpoints.clone();
        let set = served.service.set_cookie(&endpoints[which], Default::default()).unwrap();
        served.headers.insert("cookie", cookie_of(&set));
        for key in 0..10 {
            let decision = served.decide_from(client(key));
            let candidates = decision.candidates().unwrap();
            prop_assert!(Arc::ptr_eq(candidates.order[0].endpoint, &endpoints[which]));
            prop_assert_eq!(candidates.order.len(), count);
            for (place, endpoint) in endpoints.iter().enumerate() {
                let set = served.service.set_cookie(endpoint, candidates.carried);
                prop_assert_eq!(set.is_none(), place == which, "a failover names the one that answers");
            }
        }
        // Out of use: balanced anew, and the cookie with it.
        served.service.record(&endpoints[which], AttemptOutcome::ConnectFailed, served.now);
        if count > 1 {
            let decision = served.decide_from(client(1));
            let candidates = decision.candidates().unwrap();
            let first = candidates.order[0].endpoint;
            prop_assert!(!Arc::ptr_eq(first, &endpoints[which]));
            prop_assert!(served.service.set_cookie(first, candidates.carried).is_some());
        }
    }
}

fn sticky(balance: Balance) -> Policy {
    Policy {
        balance,
        sticky: Some(StickyCookie {
            name: "session".into(),
            secure: false,
            http_only: false,
            same_site: None,
            max_age: 0,
            path: "/".into(),
            domain: None,
        }),
        ..Policy::default()
    }
}

fn cookie_of(set: &HeaderValue) -> HeaderValue {
    set.to_str().unwrap().split(';').next().unwrap().parse().unwrap()
}

#[test]
fn the_busy_one_is_left_alone() {
    for count in [2, 3, 8] {
        let served = Served::balanced(weighted(&vec![1; count]), Balance::LeastRequests);
        let busy = &served.service.endpoints[0].live;
        let running: Vec<Running> = (0..10).map(|_| busy.begin()).collect();
        let firsts = served.firsts(1000);
        assert_eq!(firsts.get("e0"), None, "{firsts:?}");
        assert!(firsts.values().all(|got| *got > 1000 / count / 2), "{firsts:?}");
        drop(running);
        assert!(served.firsts(1000)["e0"] > 1000 / count / 2);
    }
}

#[test]
fn load_follows_weight() {
    for weights in [&[3, 1][..], &[5, 3, 2, 1]] {
        let served = Served::balanced(weighted(weights), Balance::LeastRequests);
        let sum: u32 = weights.iter().sum();
        let running: Vec<Running> = (0..sum * 100).map(|_| served.next().live.begin()).collect();
        for endpoint in &served.service.endpoints {
            let got = endpoint.live.in_flight();
            assert!(
                got.abs_diff(endpoint.weight * 100) <= 20,
                "{}: {got}",
                endpoint.name
            );
        }
        drop(running);
    }
}

#[test]
fn the_slow_one_gets_no_more_than_it_takes_to_see_that_it_is_slow() {
    let served = Served::balanced(weighted(&[1, 1, 1]), Balance::LeastTime);
    served.answer(0, Duration::from_millis(500));
    served.answer(1, Duration::from_millis(5));
    served.answer(2, Duration::from_millis(5));
    let firsts = served.firsts(3000);
    assert!((20..=140).contains(&firsts["e0"]), "{firsts:?}");
    let _asking = served.service.endpoints[0].live.begin();
    assert_eq!(
        served.firsts(3000).get("e0"),
        None,
        "one at a time is enough to learn"
    );
}

#[test]
fn a_new_one_is_asked_once_and_then_waited_for() {
    let served = Served::balanced(weighted(&[1, 1, 1]), Balance::LeastTime);
    served.answer(0, Duration::from_millis(5));
    served.answer(1, Duration::from_millis(5));
    let firsts = served.firsts(3000);
    assert!(
        firsts["e2"] > 1500,
        "it goes first whenever it is drawn: {firsts:?}"
    );
    let _asking = served.service.endpoints[2].live.begin();
    assert_eq!(served.firsts(3000).get("e2"), None);
}

#[test]
fn the_share_of_one_that_fails_spreads_whatever_the_algorithm() {
    for balance in [
        Balance::LeastRequests,
        Balance::LeastTime,
        hash(None),
        hash(Some(150)),
    ] {
        let served = Served::balanced(weighted(&[1; 5]), balance.clone());
        let mut seconds: BTreeMap<String, usize> = BTreeMap::new();
        for key in 0..5000 {
            let order = served.names_for(client(key));
            if order[0] == "e0" {
                *seconds.entry(order[1].clone()).or_default() += 1;
            }
        }
        let all: usize = seconds.values().sum();
        assert_eq!(seconds.len(), 4, "{balance:?}: {seconds:?}");
        assert!(
            seconds
                .values()
                .all(|got| *got * 4 * 3 > all * 2 && *got * 4 * 3 < all * 4),
            "{balance:?}: {seconds:?}"
        );
    }
}

#[test]
fn what_is_hashed() {
    let cases = [
        (HashKey::ClientAddress, "x-user", "u", false),
        (HashKey::Header("x-user".parse().unwrap()), "x-user", "u", true),
        (HashKey::Cookie("user".into()), "cookie", "a=b; user=u", true),
        (HashKey::Cookie("user".into()), "cookie", "a=b", false),
        (HashKey::Header("x-user".parse().unwrap()), "x-other", "u", false),
    ];
    for (key, header, value, one_for_all) in cases {
        let mut served = Served::balanced(
            weighted(&[1; 8]),
            Balance::Hash {
                key: key.clone(),
                bound: None,
            },
        );
        served.headers.insert(header, value.parse().unwrap());
        let firsts: BTreeSet<_> = (0..100)
            .map(|key| served.names_for(client(key)).swap_remove(0))
            .collect();
        assert_eq!(firsts.len() == 1, one_for_all, "{key:?}");
        assert_eq!(served.names_for(client(7)), served.names_for(client(7)));
    }
}

#[test]
fn endpoints_of_one_name_are_told_apart() {
    let served = Served::balanced(
        vec![
            endpoint("same", 1, None),
            endpoint("same", 1, None),
            endpoint("same", 1, None),
        ],
        hash(None),
    );
    let mut counts = [0; 3];
    for key in 0..300 {
        let first = served.order_for(client(key)).swap_remove(0);
        let place = served
            .service
            .endpoints
            .iter()
            .position(|own| Arc::ptr_eq(own, &first))
            .unwrap();
        counts[place] += 1;
    }
    assert!(counts.iter().all(|count| *count > 60), "{counts:?}");
}

#[test]
fn the_nearest_that_can_serve_do() {
    let all = |down: &[&str]| -> Vec<Arc<Endpoint>> {
        [
            ("elsewhere", Reach::Elsewhere, 1),
            ("region-20", Reach::Region, 20),
            ("node-a", Reach::Node, 100),
            ("region-10", Reach::Region, 10),
            ("node-b", Reach::Node, 100),
        ]
        .into_iter()
        .map(|(name, reach, priority)| endpoint_at(name, reach, priority, down.contains(&name)))
        .collect()
    };
    for balance in [
        Balance::RoundRobin,
        Balance::LeastRequests,
        Balance::LeastTime,
        hash(None),
    ] {
        let firsts = |down: &[&str]| -> BTreeSet<String> {
            let served = Served::balanced(all(down), balance.clone());
            (0..50)
                .map(|key| served.names_for(client(key)).swap_remove(0))
                .collect()
        };
        assert_eq!(
            firsts(&[]),
            BTreeSet::from(["node-a".into(), "node-b".into()]),
            "{balance:?}"
        );
        assert_eq!(firsts(&["node-b"]), BTreeSet::from(["node-a".into()]));
        assert_eq!(
            firsts(&["node-a", "node-b"]),
            BTreeSet::from(["region-10".into()])
        );
        let order = Served::balanced(all(&["node-a"]), balance.clone()).names_for(client(1));
        assert_eq!(order, ["node-b", "region-10", "region-20", "elsewhere"]);
    }
}

#[test]
fn a_group_that_lost_too_much_shares_with_the_next() {
    for balance in [Balance::RoundRobin, Balance::LeastRequests, hash(None)] {
        // Of five near ones some are down; three are far. What the near ones get, in percent.
        for (down, want) in [(0, 100), (1, 100), (3, 56), (4, 28), (5, 0)] {
            let near = (0..5).map(|n| endpoint_at(&format!("near{n}"), Reach::Node, 0, n < down));
            let far = (0..3).map(|n| endpoint_at(&format!("far{n}"), Reach::Region, 0, false));
            let policy = Policy {
                balance: balance.clone(),
                groups: Groups {
                    overprovisioning: Some(140),
                },
                ..Policy::default()
            };
            let served = Served::new(near.chain(far).collect(), policy);
            let orders = (0..5000).map(|key| served.names_for(client(key)));
            let got = orders.filter(|order| order[0].starts_with("near")).count() / 50;
            assert!(
                got.abs_diff(want) <= 3,
                "{balance:?}, {down} down: {got} for {want}"
            );
        }
    }
}
