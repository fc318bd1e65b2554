//! A service against a model: random sequences of what happens to back ends, and of requests, with simulated time.
//!
//! The model believes only what is reported: the transitions that `record`, `set_checked` and `transitions` return, and
//! the definitions it made itself. From these it knows who may get requests, and holds every decision against that.
//! `PROPTEST_CASES` sets the number of sequences, `PROPTEST_RNG_SEED` repeats one run.
#![expect(
    clippy::unwrap_used,
    reason = "small numbers and a request that is well formed"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use constellation_table::policy::{ErrorRate, HealthCheck};
use constellation_table::{
    AttemptOutcome as Outcome, Condition, Decision, Endpoint, EndpointSpec, Exclusion, Policy, Probe,
    RequestMeta, Scheme, Service, ServiceSpec, Snapshot, Transitions, Turn, decide,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use crate::asked::Asked;
use crate::built::{Row, snapshot};

/// What a back end does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    Serves,
    Refuses,
    Breaks,
    Hangs,
    Says503,
}

#[derive(Clone, Debug)]
enum Event {
    /// A back end changes.
    Backend(usize, Backend),
    /// What is known of a container changes: a new generation. Whether unchanged endpoints are the same objects.
    Condition(usize, Condition, bool),
    /// An active check asks.
    Check(usize),
    /// Time goes by, milliseconds.
    Time(u64),
    /// A request is decided and its first attempt begins.
    Request { repeatable: bool },
    /// The attempt of one of the running requests ends.
    Ends(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let backend = prop_oneof![
        2 => Just(Backend::Serves),
        1 => Just(Backend::Refuses),
        1 => Just(Backend::Breaks),
        1 => Just(Backend::Hangs),
        1 => Just(Backend::Says503),
    ];
    let condition = prop_oneof![
        3 => Just(Condition::Ready),
        1 => Just(Condition::Unavailable("exited".into())),
        1 => Just(Condition::Draining("stopping".into())),
    ];
    let event = prop_oneof![
        2 => (0usize..4, backend).prop_map(|(index, backend)| Event::Backend(index, backend)),
        1 => (0usize..4, condition, any::<bool>()).prop_map(|(i, c, same)| Event::Condition(i, c, same)),
        2 => (0usize..4).prop_map(Event::Check),
        3 => prop_oneof![0u64..50, 0u64..3_000, 0u64..40_000].prop_map(Event::Time),
        9 => any::<bool>().prop_map(|repeatable| Event::Request { repeatable }),
        9 => any::<usize>().prop_map(Event::Ends),
    ];
    prop::collection::vec(event, 0..120)
}

fn policies() -> impl Strategy<Value = Policy> {
    let panic = prop_oneof![Just(0u8), Just(1), Just(50), Just(100)];
    let outlier = prop_oneof![Just(None), (1u32..4).prop_map(Some)];
    let breaker = prop_oneof![Just(None), (1u32..6).prop_map(Some)];
    let switches = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (panic, outlier, breaker, switches).prop_map(|(panic, outlier, breaker, (check, slow, connect, rate))| {
        let mut policy = Policy::default();
        let few = ErrorRate {
            min_requests: 4,
            ..ErrorRate::default()
        };
        policy.panic.threshold = panic;
        policy.outlier.consecutive_failures = outlier;
        policy.outlier.connect_failures = connect;
        policy.outlier.error_rate = rate.then_some(few);
        policy.breaker.consecutive_failures = breaker;
        policy.breaker.error_rate = (!rate).then_some(few);
        policy.health_check = check.then(HealthCheck::default);
        if !slow {
            policy.slow_start.window = Duration::ZERO;
        }
        policy
    })
}

/// What was reported of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reported {
    check: bool,
    outlier: Fact,
    breaker: Fact,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fact {
    #[default]
    Fine,
    Out,
    Probation,
}

/// Who may get requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum May {
    All,
    Probe,
    None,
}

impl Reported {
    fn may(self) -> May {
        match (self.check, self.outlier, self.breaker) {
            (true, ..) | (_, Fact::Out, _) | (_, _, Fact::Out) => May::None,
            (_, Fact::Fine, Fact::Fine) => May::All,
            _ => May::Probe,
        }
    }
}

/// A request whose attempt runs.
struct Running {
    service: Arc<Service>,
    repeatable: bool,
    at: (Arc<Endpoint>, Option<Probe>),
    began: Instant,
    further: std::vec::IntoIter<(Arc<Endpoint>, Option<Probe>)>,
    tried: Vec<Arc<str>>,
}

struct World {
    now: Instant,
    asked: Asked,
    policy: Arc<Policy>,
    backends: Vec<Backend>,
    reported: BTreeMap<Arc<str>, Reported>,
    panic: bool,
    service: Arc<Service>,
    snapshot: Arc<Snapshot>,
    running: Vec<Running>,
    served: BTreeMap<Arc<str>, usize>,
}

fn spec(index: usize, condition: Condition) -> EndpointSpec {
    EndpointSpec {
        name: format!("e{index}").into(),
        scheme: Scheme::Http,
        host: "10.0.0.1".into(),
        port: 8000 + u16::try_from(index).unwrap(),
        base_path: "".into(),
        weight: 1 + u32::try_from(index).unwrap(),
        condition,
        url_as_written: "".into(),
        locality: Default::default(),
        peer: None,
    }
}

fn build(
    endpoints: Vec<Arc<Endpoint>>,
    policy: &Arc<Policy>,
    previous: Option<&Service>,
) -> (Arc<Service>, Arc<Snapshot>) {
    let spec = ServiceSpec {
        name: "s".into(),
        endpoints,
        pass_host_header: true,
        transport: Arc::default(),
        retry_after: 5,
        policy: policy.clone(),
    };
    let service = Arc::new(Service::new(spec, previous));
    let snapshot = snapshot(vec![Row::plain("r", "PathPrefix(`/`)").forward(&service)]);
    (service, Arc::new(snapshot))
}

impl World {
    fn new(count: usize, policy: Policy) -> Self {
        let policy = Arc::new(policy);
        let endpoints: Vec<_> = (0..count)
            .map(|index| Arc::new(Endpoint::new(spec(index, Condition::Ready))))
            .collect();
        let (service, snapshot) = build(endpoints, &policy, None);
        Self {
            now: Instant::now(),
            asked: Asked::parse("GET h /").unwrap(),
            policy,
            backends: vec![Backend::Serves; count],
            reported: BTreeMap::new(),
            panic: false,
            service,
            snapshot,
            running: Vec::new(),
            served: BTreeMap::new(),
        }
    }

    fn step(&mut self, event: &Event) -> TestCaseResult {
        let place = |index: usize| index % self.backends.len();
        match event {
            Event::Backend(index, backend) => {
                let place = place(*index);
                self.backends[place] = *backend;
            }
            Event::Condition(index, condition, same) => self.generation(place(*index), condition, *same),
            Event::Check(index) => self.check(place(*index)),
            Event::Time(milliseconds) => self.now += Duration::from_millis(*milliseconds),
            Event::Request { repeatable } => self.request(*repeatable)?,
            Event::Ends(_) if self.running.is_empty() => {}
            Event::Ends(which) => {
                let running = self.running.swap_remove(which % self.running.len());
                self.end(running)?;
            }
        }
        self.agree()
    }

    fn learn(&mut self, transitions: Transitions) {
        for transition in transitions {
            if transition.fact == "panic" {
                self.panic = transition.to == "on";
                continue;
            }
            let reported = self.reported.entry(transition.endpoint.clone()).or_default();
            let fact = match transition.to {
                "healthy" | "closed" => Fact::Fine,
                "probation" | "half-open" => Fact::Probation,
                "ejected" | "open" | "unhealthy" => Fact::Out,
                other => panic!("{other}"),
            };
            match transition.fact {
                "check" => reported.check = fact == Fact::Out,
                "outlier" => reported.outlier = fact,
                "breaker" => reported.breaker = fact,
                other => panic!("{other}"),
            }
        }
    }

    fn generation(&mut self, changed: usize, condition: &Condition, same: bool) {
        self.learn(self.service.transitions(self.now));
        let old = &self.service.endpoints;
        let endpoints: Vec<_> = (0..old.len())
            .map(|index| {
                let condition = if index == changed {
                    condition.clone()
                } else {
                    old[index].condition.clone()
                };
                let spec = spec(index, condition);
                if same && old[index].matches(&spec) {
                    old[index].clone()
                } else {
                    Arc::new(Endpoint::new(spec))
                }
            })
            .collect();
        let is_out = |condition: &Condition| matches!(condition, Condition::Unavailable(_));
        if is_out(&old[changed].condition) && !is_out(condition) {
            self.reported.remove(&old[changed].name);
        }
        let (service, snapshot) = build(endpoints, &self.policy, Some(&self.service));
        for departure in Snapshot::departures(&self.snapshot, &snapshot) {
            departure.endpoint.live.depart();
        }
        (self.service, self.snapshot) = (service, snapshot);
    }

    fn check(&mut self, index: usize) {
        let result = match self.backends[index] {
            Backend::Serves => Ok(()),
            _ => Err("bad"),
        };
        let endpoint = &self.service.endpoints[index];
        self.learn(self.service.set_checked(endpoint, result, self.now));
    }

    /// Who may get requests, and whether all may because too few are healthy: the definition.
    fn may(&self) -> (BTreeMap<Arc<str>, May>, bool) {
        let there = self
            .service
            .endpoints
            .iter()
            .filter(|e| e.condition == Condition::Ready);
        let mut may: BTreeMap<Arc<str>, May> = there
            .map(|endpoint| (endpoint.name.clone(), self.reported(&endpoint.name).may()))
            .collect();
        let healthy = may.values().filter(|may| **may == May::All).count();
        let panic = healthy * 100 < may.len() * usize::from(self.policy.panic.threshold);
        if panic {
            may.values_mut().for_each(|may| *may = May::All);
        }
        (may, panic)
    }

    fn reported(&self, name: &Arc<str>) -> Reported {
        self.reported.get(name).copied().unwrap_or_default()
    }

    /// The view is what follows from the reports.
    fn agree(&mut self) -> TestCaseResult {
        self.learn(self.service.transitions(self.now));
        let (may, panic) = self.may();
        let view = self.service.view(self.now);
        prop_assert_eq!(view.is_panic(), panic);
        prop_assert_eq!(self.panic, panic);
        for endpoint in &self.service.endpoints {
            let excluded = self.service.standing(endpoint, self.now).excluded;
            match may.get(&endpoint.name) {
                Some(May::All) => prop_assert_eq!(excluded, None),
                Some(May::Probe) => prop_assert_eq!(excluded, Some(Exclusion::Probation)),
                Some(May::None) => prop_assert!(matches!(
                    excluded,
                    Some(Exclusion::CheckFailed | Exclusion::Ejected | Exclusion::BreakerOpen)
                )),
                None => prop_assert!(matches!(
                    excluded,
                    Some(Exclusion::Unavailable | Exclusion::Draining)
                )),
            }
        }
        Ok(())
    }

    fn request(&mut self, repeatable: bool) -> TestCaseResult {
        self.learn(self.service.transitions(self.now));
        let (may, _) = self.may();
        let candidates: Vec<_> = {
            let request = RequestMeta {
                turn: Turn::Take,
                now: self.now,
                repeatable,
                ..self.asked.meta()
            };
            match decide(&self.snapshot, &request) {
                Decision::Forward { candidates, .. } => candidates
                    .order
                    .into_iter()
                    .map(|candidate| (candidate.endpoint.clone(), candidate.probe))
                    .collect(),
                _ => Vec::new(),
            }
        };
        for (endpoint, probe) in &candidates {
            let want = if probe.is_some() { May::Probe } else { May::All };
            prop_assert_eq!(may.get(&endpoint.name), Some(&want), "{}", endpoint.name);
        }
        let usable = |(_, may): &(&Arc<str>, &May)| **may == May::All;
        for (name, _) in may.iter().filter(usable) {
            let listed = candidates.iter().any(|(endpoint, _)| endpoint.name == *name);
            prop_assert!(listed, "{name} is usable and no candidate");
        }
        let mut further = candidates.into_iter();
        if let Some(at) = further.next() {
            self.running.push(Running {
                service: self.service.clone(),
                repeatable,
                tried: vec![at.0.name.clone()],
                at,
                began: self.now,
                further,
            });
        }
        self.one_probe_each()
    }

    fn one_probe_each(&self) -> TestCaseResult {
        for endpoint in &self.service.endpoints {
            let probes = self
                .running
                .iter()
                .flat_map(|running| std::iter::once(&running.at).chain(running.further.as_slice()))
                .filter(|(at, probe)| probe.is_some() && Arc::ptr_eq(&at.live, &endpoint.live))
                .count();
            prop_assert!(probes <= 1, "{probes} probes of {}", endpoint.name);
        }
        Ok(())
    }

    /// An attempt ends as its back end has it now; the next one follows as the proxy would do it.
    fn end(&mut self, mut running: Running) -> TestCaseResult {
        let (endpoint, probe) = running.at;
        let index = usize::from(endpoint.port - 8000);
        let latency = self.now - running.began;
        let answered = |status| Outcome::Answered { status, latency };
        let outcome = match self.backends[index] {
            Backend::Serves => answered(200),
            Backend::Says503 => answered(503),
            Backend::Refuses => Outcome::ConnectFailed,
            Backend::Breaks => Outcome::Broken,
            Backend::Hangs => Outcome::Unanswered,
        };
        let transitions = running.service.record(&endpoint, outcome, self.now);
        self.learn(transitions);
        drop(probe);
        if outcome == answered(200) {
            *self.served.entry(endpoint.name.clone()).or_default() += 1;
            return Ok(());
        }
        if !running.repeatable && outcome != Outcome::ConnectFailed {
            return Ok(());
        }
        self.learn(running.service.transitions(self.now));
        let current = Arc::ptr_eq(&running.service, &self.service);
        let (may, _) = self.may();
        let mut passed_over = Vec::new();
        while let Some((next, probe)) = running.further.next() {
            let allowed = probe.is_some() || running.service.may_try(&next, self.now);
            if current && probe.is_none() {
                let want = may.get(&next.name) == Some(&May::All);
                prop_assert_eq!(allowed, want, "{} may be tried", next.name);
            }
            if allowed {
                running.tried.push(next.name.clone());
                running.at = (next, probe);
                running.began = self.now;
                self.running.push(running);
                return self.one_probe_each();
            }
            passed_over.push(next.name.clone());
        }
        // It failed: whoever could have served it by now was tried.
        for (name, _) in may.iter().filter(|(_, may)| current && **may == May::All) {
            prop_assert!(
                running.tried.contains(name) || !passed_over.contains(name),
                "{name} was not tried"
            );
        }
        Ok(())
    }

    /// All back ends serve again; within two minutes and a bit all are used, with their whole weight.
    fn recover(&mut self, repeatable: bool) -> TestCaseResult {
        self.backends.fill(Backend::Serves);
        for index in 0..self.backends.len() {
            self.generation(index, &Condition::Ready, true);
        }
        while let Some(running) = self.running.pop() {
            self.end(running)?;
        }
        // The longest ejection, the patience for a probe, the time of a breaker, the patience again, and slow start.
        for second in 0..140 {
            if second == 130 {
                self.served.clear();
            }
            for index in 0..self.backends.len() {
                self.check(index);
            }
            for _ in 0..3 {
                self.step(&Event::Request { repeatable })?;
                self.step(&Event::Ends(0))?;
            }
            self.now += Duration::from_secs(1);
        }
        prop_assert_eq!(self.served.len(), self.backends.len(), "{:?}", self.served);
        for endpoint in &self.service.endpoints {
            let standing = self.service.standing(endpoint, self.now);
            prop_assert_eq!(
                (standing.excluded, standing.share_percent),
                (None, 100),
                "{}",
                standing
            );
        }
        Ok(())
    }
}

/// Fewer than usual by default: the sequences are long.
fn cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: std::env::var_os("PROPTEST_CASES").map_or(160, |_| default.cases),
        ..default
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_service_does_what_it_reports(
        count in 1usize..5,
        policy in policies(),
        events in events(),
        repeatable in any::<bool>(),
    ) {
        let mut world = World::new(count, policy);
        for event in &events {
            world.step(event)?;
        }
        world.recover(repeatable)?;
    }
}
