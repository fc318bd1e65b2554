//! What a service learns from attempts, and what decisions, generations and `explain` make of it.
#![expect(
    clippy::unwrap_used,
    reason = "requests that are well formed, decisions that forward"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use constellation_table::policy::HealthCheck;
use constellation_table::{
    AttemptOutcome as Outcome, Condition, Decision, Endpoint, EndpointSpec, Exclusion, OutlierState, Policy,
    RequestMeta, Scheme, Service, ServiceSpec, Snapshot, Transitions, Turn, decide, explain,
};

use crate::asked::Asked;
use crate::built::{Row, endpoint, service, snapshot};

const GOOD: Outcome = Outcome::Answered {
    status: 200,
    latency: Duration::from_millis(1),
};

fn one_service(service: &Arc<Service>) -> Snapshot {
    snapshot(vec![Row::plain("r", "PathPrefix(`/`)").forward(service)])
}

fn words(transitions: &Transitions) -> Vec<String> {
    let words = |t: &constellation_table::Transition| format!("{} {} {}", t.endpoint, t.fact, t.to);
    transitions.iter().map(words).collect()
}

fn request(asked: &Asked, now: Instant, repeatable: bool) -> RequestMeta<'_> {
    RequestMeta {
        turn: Turn::Take,
        now,
        repeatable,
        ..asked.meta()
    }
}

/// The candidates as `name`, or `name!` for a probe.
fn order(decision: &Decision<'_>) -> Vec<String> {
    let candidates = decision.candidates().unwrap();
    let name = |c: &constellation_table::Candidate<'_>| {
        format!("{}{}", c.endpoint.name, if c.probe.is_some() { "!" } else { "" })
    };
    candidates.order.iter().map(name).collect()
}

#[test]
fn probes_come_one_at_a_time_and_first() {
    let service = service("s", vec![endpoint("a", 1, None), endpoint("b", 1, None)]);
    let (table, asked) = (one_service(&service), Asked::parse("GET h /").unwrap());
    let start = Instant::now();
    let at = |milliseconds| start + Duration::from_millis(milliseconds);

    let changed = service.record(&service.endpoints[0], Outcome::ConnectFailed, start);
    assert_eq!(words(&changed), ["a outlier ejected"]);
    assert_eq!(order(&decide(&table, &request(&asked, at(1999), true))), ["b"]);
    assert!(!service.may_try(&service.endpoints[0], at(1999)));

    // Neither a question nor a request that can't be repeated is the probe.
    assert_eq!(
        explain(&table, &request(&asked, at(2000), true)).candidates.len(),
        1
    );
    assert_eq!(order(&decide(&table, &request(&asked, at(2000), false))), ["b"]);
    let probe = decide(&table, &request(&asked, at(2000), true));
    assert_eq!(order(&probe), ["a!", "b"]);
    let other = decide(&table, &request(&asked, at(2000), true));
    assert_eq!(order(&other), ["b"]);
    assert_eq!(other.candidates().unwrap().excluded[0].1, Exclusion::Probation);
    drop(probe);
    // Nobody came back with an outcome: the next one probes. After ten seconds of waiting anything may.
    drop(decide(&table, &request(&asked, at(2000), true)));
    assert_eq!(order(&decide(&table, &request(&asked, at(11_999), false))), ["b"]);
    assert_eq!(
        order(&decide(&table, &request(&asked, at(12_000), false))),
        ["a!", "b"]
    );

    let changed = service.record(&service.endpoints[0], GOOD, at(12_001));
    assert_eq!(words(&changed), ["a outlier probation", "a outlier healthy"]);
    assert_eq!(
        decide(&table, &request(&asked, at(12_001), false))
            .candidates()
            .unwrap()
            .order
            .len(),
        2
    );
    assert!(service.may_try(&service.endpoints[0], at(12_001)));
}

#[test]
fn panic_begins_and_ends_with_a_report() {
    let service = service(
        "s",
        vec![
            endpoint("a", 1, None),
            endpoint("b", 1, None),
            endpoint("c", 1, Some("exited")),
        ],
    );
    let now = Instant::now();
    let [a, b] = [0, 1].map(|index| &service.endpoints[index]);
    assert_eq!(
        words(&service.record(a, Outcome::ConnectFailed, now)),
        ["a outlier ejected"]
    );
    let changed = service.record(b, Outcome::ConnectFailed, now);
    assert_eq!(words(&changed), ["b outlier ejected", " panic on"]);
    assert!(service.view(now).is_panic() && service.may_try(a, now));
    let usable: Vec<_> = service
        .view(now)
        .usable()
        .iter()
        .map(|usable| usable.index())
        .collect();
    assert_eq!(usable, [0, 1], "one that is stopped is not used even then");

    let (table, asked) = (one_service(&service), Asked::parse("GET h /").unwrap());
    let text = explain(&table, &RequestMeta { now, ..asked.meta() }).to_string();
    assert!(
        text.contains("too few endpoints are healthy, so all that are there are used (panic)"),
        "{text}"
    );

    // A success of a request that began after the ejection ends it at once.
    let later = now + Duration::from_millis(10);
    assert_eq!(
        words(&service.record(a, GOOD, later)),
        ["a outlier healthy", " panic off"]
    );
    assert!(!service.may_try(b, later));
}

#[test]
fn explain_shows_the_evidence() {
    let service = service("s", vec![endpoint("a", 1, None), endpoint("b", 1, None)]);
    let now = Instant::now();
    let [a, b] = [0, 1].map(|index| &service.endpoints[index]);
    for _ in 0..5 {
        service.record(a, Outcome::Broken, now);
    }
    let running = b.live.begin();
    service.record(b, GOOD, now);
    let (table, asked) = (one_service(&service), Asked::parse("GET h /").unwrap());
    let meta = RequestMeta {
        now: now + Duration::from_secs(3),
        ..asked.meta()
    };
    let told = explain(&table, &meta);
    assert_eq!(told.excluded[0].fact, Exclusion::BreakerOpen);
    let text = told.to_string();
    for line in [
        "   1. b at http://b:80\n      1 in flight; 1 answers; latency 1 ms\n",
        "  a at http://a:80: its circuit breaker is open\n    \
         breaker opened 3.0 s ago for another 27.0 s: 5 failures in a row, the last: the connection broke before a \
         response was complete; 5 failures, the last 3.0 s ago: the connection broke before a response was complete\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    drop(running);
    assert_eq!(b.live.in_flight(), 0);
}

#[test]
fn one_slow_request_does_not_keep_an_endpoint_out() {
    let service = service("s", vec![endpoint("a", 1, None), endpoint("b", 1, None)]);
    let (table, asked) = (one_service(&service), Asked::parse("GET h /").unwrap());
    let (start, a) = (Instant::now(), &service.endpoints[0]);
    assert_eq!(
        words(&service.record(a, Outcome::Unanswered, start)),
        ["a outlier ejected"]
    );
    // The old request says so again while a new one probes.
    let over = start + Duration::from_secs(2);
    let probe = decide(&table, &request(&asked, over, true));
    assert_eq!(order(&probe)[0], "a!");
    assert_eq!(
        words(&service.record(a, Outcome::Unanswered, over)),
        ["a outlier probation"]
    );
    let soon = over + Duration::from_millis(1);
    assert_eq!(words(&service.record(a, GOOD, soon)), ["a outlier healthy"]);
    // But a probe that waits as well proves it.
    service.record(a, Outcome::Unanswered, soon);
    let over = soon + Duration::from_secs(2);
    let _probe = (probe, decide(&table, &request(&asked, over, true)));
    let long = over + Duration::from_millis(300);
    assert_eq!(
        words(&service.record(a, Outcome::Unanswered, long))[1..],
        ["a outlier ejected"]
    );
}

/// The generation of service `s` after `previous` with these endpoints: name, weight, condition.
fn generation(endpoints: &[(&str, u32, Condition)], previous: Option<&Service>) -> Arc<Service> {
    let endpoint = |(name, weight, condition): &(&str, u32, Condition)| {
        Arc::new(Endpoint::new(EndpointSpec {
            name: (*name).into(),
            scheme: Scheme::Http,
            host: (*name).into(),
            port: 80,
            base_path: "".into(),
            weight: *weight,
            condition: condition.clone(),
            url_as_written: "".into(),
            locality: Default::default(),
            peer: None,
        }))
    };
    let spec = ServiceSpec {
        name: "s".into(),
        endpoints: endpoints.iter().map(endpoint).collect(),
        pass_host_header: true,
        transport: Arc::default(),
        retry_after: 5,
        policy: Arc::default(),
    };
    Arc::new(Service::new(spec, previous))
}

fn ejected(service: &Service, place: usize, now: Instant) -> bool {
    let standing = service.standing(&service.endpoints[place], now);
    matches!(standing.outlier, OutlierState::Ejected { .. })
}

#[test]
fn what_is_known_follows_the_endpoint_and_not_its_place() {
    let ready = || Condition::Ready;
    let now = Instant::now();
    let old = generation(&[("a", 1, ready()), ("b", 1, ready()), ("b", 1, ready())], None);
    old.record(&old.endpoints[1], Outcome::ConnectFailed, now);
    let new = generation(
        &[
            ("c", 1, ready()),
            ("b", 7, ready()),
            ("a", 1, ready()),
            ("b", 1, ready()),
        ],
        Some(&old),
    );
    let known: Vec<_> = (0..4).map(|place| ejected(&new, place, now)).collect();
    assert_eq!(known, [false, true, false, false]);
    assert!(
        Arc::ptr_eq(&new.endpoints[3].live, &old.endpoints[2].live),
        "equal ones stay apart"
    );
    assert!(!new.view(now).is_panic());

    // What requests of the old generation still find out holds in the new one, and is told once.
    assert_eq!(
        words(&old.record(&old.endpoints[0], Outcome::ConnectFailed, now)),
        ["a outlier ejected"]
    );
    assert!(!new.may_try(&new.endpoints[2], now));
    assert_eq!(words(&new.transitions(now)), Vec::<String>::new());
}

#[test]
fn a_restart_begins_anew_and_slowly() {
    let now = Instant::now();
    let stopped = || Condition::Unavailable("exited".into());
    let first = generation(&[("a", 1, Condition::Ready), ("b", 1, Condition::Ready)], None);
    first.record(&first.endpoints[0], Outcome::ConnectFailed, now);
    let down = generation(&[("a", 1, stopped()), ("b", 1, Condition::Ready)], Some(&first));
    assert!(ejected(&down, 0, now));
    let up = generation(
        &[("a", 1, Condition::Ready), ("b", 1, Condition::Ready)],
        Some(&down),
    );
    assert!(!ejected(&up, 0, now));
    let weights = |now| {
        up.view(now)
            .usable()
            .iter()
            .map(|usable| usable.weight)
            .collect::<Vec<_>>()
    };
    assert_eq!(weights(now), [1, 10]);
    assert_eq!(weights(now + Duration::from_secs(5)), [5, 10]);
    assert_eq!(weights(now + Duration::from_secs(11)), [10, 10]);
    assert_eq!(up.view(now + Duration::from_secs(11)).next_change(), None);
}

/// A drain that was lifted, in whichever order the condition changed, is no restart: what was found out before holds.
#[test]
fn only_one_that_was_unavailable_begins_anew() {
    let now = Instant::now();
    let other = || ("b", 1, Condition::Ready);
    for (conditions, kept) in [
        (vec![Condition::Draining("cordoned".into())], true),
        (vec![Condition::Unavailable("exited".into())], false),
        (
            vec![
                Condition::Unavailable("exited".into()),
                Condition::Draining("cordoned".into()),
            ],
            false,
        ),
    ] {
        let mut service = generation(&[("a", 1, Condition::Ready), other()], None);
        service.record(&service.endpoints[0], Outcome::ConnectFailed, now);
        for condition in conditions.iter().cloned().chain([Condition::Ready]) {
            service = generation(&[("a", 1, condition), other()], Some(&service));
        }
        assert_eq!(ejected(&service, 0, now), kept, "{conditions:?}");
    }
}

#[test]
fn checks_that_were_turned_off_leave_nothing_behind() {
    let now = Instant::now();
    let with_checks = |checks: bool, previous: Option<&Service>| {
        let plain = generation(
            &[("a", 1, Condition::Ready), ("b", 1, Condition::Ready)],
            previous,
        );
        let policy = Policy {
            health_check: checks.then(HealthCheck::default),
            ..Policy::default()
        };
        let spec = ServiceSpec {
            name: plain.name.clone(),
            endpoints: plain.endpoints.clone(),
            pass_host_header: true,
            transport: plain.transport.clone(),
            retry_after: 1,
            policy: policy.into(),
        };
        Service::new(spec, previous)
    };
    let checked = with_checks(true, None);
    for _ in 0..3 {
        checked.set_checked(&checked.endpoints[0], Err("503"), now);
    }
    assert_eq!(checked.view(now).usable().len(), 1);
    let unchecked = with_checks(false, Some(&checked));
    assert_eq!(unchecked.view(now).usable().len(), 2);
    let again = with_checks(true, Some(&unchecked));
    assert_eq!(again.view(now).usable().len(), 2, "old results do not count");
}

#[test]
fn departures() {
    let ready = || Condition::Ready;
    let leaves = |endpoints: &[(&str, u32, Condition)]| {
        let service = generation(
            &[
                ("a", 1, ready()),
                ("b", 1, ready()),
                ("c", 1, Condition::Draining("stop".into())),
            ],
            None,
        );
        let old = one_service(&service);
        let new = one_service(&generation(endpoints, Some(&service)));
        let names = |old: &Snapshot, new: &Snapshot| -> Vec<_> {
            let departures = Snapshot::departures(old, new);
            departures
                .iter()
                .map(|departure| departure.endpoint.name.to_string())
                .collect()
        };
        assert_eq!(names(&old, &old), Vec::<String>::new());
        assert_eq!(names(&old, &snapshot(vec![])), ["a", "b"]);
        assert_eq!(names(&snapshot(vec![]), &old), Vec::<String>::new());
        names(&old, &new)
    };
    assert_eq!(
        leaves(&[("b", 9, ready()), ("a", 1, ready())]),
        Vec::<String>::new()
    );
    assert_eq!(leaves(&[("b", 1, ready())]), ["a"]);
    assert_eq!(
        leaves(&[("a", 1, Condition::Draining("stop".into())), ("b", 1, ready())]),
        ["a"]
    );
    assert_eq!(
        leaves(&[
            ("b", 1, Condition::Unavailable("exited".into())),
            ("a", 1, ready())
        ]),
        ["b"]
    );
}

#[test]
fn one_that_left_is_tried_no_more_and_may_come_back() {
    let now = Instant::now();
    let both = [("a", 1, Condition::Ready), ("b", 1, Condition::Ready)];
    let old = generation(&both, None);
    let a = &old.endpoints[0];
    assert!(old.may_try(a, now));
    a.live.depart();
    assert!(!old.may_try(a, now));
    let without = generation(
        &[("a", 1, Condition::Draining("stop".into())), both[1].clone()],
        Some(&old),
    );
    assert!(a.live.departed());
    let back = generation(&both, Some(&without));
    assert!(back.may_try(&back.endpoints[0], now));
}
