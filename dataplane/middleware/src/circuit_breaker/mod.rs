//! `circuitBreaker`: answers in the place of a service that fails.
//!
//! Closed, it watches. When its expression holds, it opens, and answers every request by itself. After a while it lets a
//! share of the requests pass that grows; when the expression holds again it opens again, else it closes.

pub mod expression;
mod statistics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora_http::ResponseHeader;

use self::expression::Expression;
use self::statistics::Statistics;
use crate::source::{Group, Grouping, Groups};
use crate::{Answer, Flow, Later, Seen, answer};

/// Answers in the place of a service that fails.
#[derive(Debug)]
pub struct CircuitBreaker {
    rules: Arc<Rules>,
    refusal: Answer,
    grouping: Grouping,
    /// One for each router.
    breakers: Arc<Groups<Breaker>>,
}

/// When a breaker changes its state.
#[derive(Clone, Debug)]
pub struct Rules {
    /// When it opens.
    pub expression: Expression,
    /// The least time between two looks at that.
    pub check_period: Duration,
    /// How long it stays open.
    pub fallback_duration: Duration,
    /// How long it takes to close.
    pub recovery_duration: Duration,
}

#[derive(Debug)]
struct Breaker {
    state: State,
    seen: Statistics,
    /// Not before this is the expression looked at again.
    next_check: Option<Instant>,
}

#[derive(Debug)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    Recovering {
        since: Instant,
        passed: u32,
        refused: u32,
    },
}

impl CircuitBreaker {
    /// `status` is what clients get while it is open; 503 when it is absent or 0.
    pub fn new(rules: Rules, status: Option<i64>) -> Result<Self, String> {
        let status = status.filter(|status| *status != 0).unwrap_or(503);
        let Some(status) = u16::try_from(status)
            .ok()
            .filter(|status| (200..=599).contains(status))
        else {
            return Err(format!(
                "responseCode is {status}: write a status from 200 to 599"
            ));
        };
        Ok(Self {
            rules: Arc::new(rules),
            refusal: match status {
                204 | 304 => Answer::empty(status),
                _ => Answer::plain(status, answer::reason(status).unwrap_or_default()),
            },
            grouping: Grouping::default(),
            breakers: Arc::default(),
        })
    }

    pub(crate) fn enter(&self, seen: &Seen<'_>) -> Flow<'static> {
        let group = self.grouping.group((seen.router, seen.turn));
        let passes = self.breakers.with(
            group,
            || Breaker::new(&self.rules),
            |breaker| breaker.passes(&self.rules, seen.now),
        );
        if !passes {
            return Flow::Answer(Box::new(self.refusal.clone()));
        }
        Flow::Later(Later::Watch(Watch {
            rules: self.rules.clone(),
            breakers: self.breakers.clone(),
            group,
            since: seen.now,
        }))
    }
}

/// Tells a breaker of the response.
#[derive(Debug)]
pub struct Watch {
    rules: Arc<Rules>,
    breakers: Arc<Groups<Breaker>>,
    group: Group,
    since: Instant,
}

impl Watch {
    /// Latency is the time up to here: what the client takes for the body says nothing of the service.
    pub(crate) fn leave(&self, response: &ResponseHeader) {
        let now = Instant::now();
        let latency = now.saturating_duration_since(self.since);
        self.breakers.with(
            self.group,
            || Breaker::new(&self.rules),
            |breaker| breaker.record(&self.rules, response.status.as_u16(), latency, now),
        );
    }
}

impl Breaker {
    fn new(rules: &Rules) -> Self {
        Self {
            state: State::Closed,
            seen: Statistics::new(rules.expression.looks_at_latency()),
            next_check: None,
        }
    }

    /// Whether a request passes.
    fn passes(&mut self, rules: &Rules, now: Instant) -> bool {
        if let State::Open { until } = self.state {
            if now < until {
                return false;
            }
            self.state = State::Recovering {
                since: now,
                passed: 0,
                refused: 0,
            };
        }
        let State::Recovering {
            since,
            passed,
            refused,
        } = &mut self.state
        else {
            return true;
        };
        let gone = now.saturating_duration_since(*since);
        if gone > rules.recovery_duration {
            self.state = State::Closed;
            return true;
        }
        // Half of what comes at the end of the time: from there on as many pass as are refused, and it closes.
        let target = 0.5 * gone.as_secs_f64() / rules.recovery_duration.as_secs_f64();
        let share = f64::from(*passed + 1) / (f64::from(*passed + 1) + f64::from(*refused));
        let passes = share < target;
        let count = if passes { passed } else { refused };
        *count = count.saturating_add(1).min(u32::MAX - 1);
        passes
    }

    /// Takes in a response.
    fn record(&mut self, rules: &Rules, status: u16, latency: Duration, now: Instant) {
        self.seen.record(status, latency, now);
        if self.next_check.is_some_and(|at| now < at) {
            return;
        }
        self.next_check = Some(now + rules.check_period);
        if !matches!(self.state, State::Open { .. }) && rules.expression.holds(&self.seen) {
            self.state = State::Open {
                until: now + rules.fallback_duration,
            };
            self.seen = Statistics::new(rules.expression.looks_at_latency());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seen::seen_from;

    fn rules(expression: &str) -> Rules {
        Rules {
            expression: Expression::parse(expression).unwrap(),
            check_period: Duration::from_millis(100),
            fallback_duration: Duration::from_secs(1),
            recovery_duration: Duration::from_secs(2),
        }
    }

    const FAILING: &str = "ResponseCodeRatio(500, 600, 0, 600) > 0.3";

    /// Sends a request at each of these times, and gives when they passed. Those that pass get this status.
    fn run(
        breaker: &mut Breaker,
        rules: &Rules,
        begun: Instant,
        millis: impl Iterator<Item = u64>,
        status: u16,
    ) -> Vec<u64> {
        let mut passed = Vec::new();
        for at in millis {
            let now = begun + Duration::from_millis(at);
            if breaker.passes(rules, now) {
                passed.push(at);
                breaker.record(rules, status, Duration::from_millis(1), now);
            }
        }
        passed
    }

    #[test]
    fn it_opens_recovers_and_closes() {
        let (rules, begun) = (rules(FAILING), Instant::now());
        let mut breaker = Breaker::new(&rules);
        assert_eq!(
            run(&mut breaker, &rules, begun, (0..900).step_by(100), 500),
            [0],
            "it opens at once"
        );
        // It is open until 1000, and recovers from the first request after that, at 1000, up to 3000.
        let passed = run(&mut breaker, &rules, begun, (900..4000).step_by(50), 200);
        let share = |from: u64, to: u64| passed.iter().filter(|at| (from..to).contains(*at)).count();
        assert_eq!(share(900, 1000), 0);
        assert!(
            share(1000, 1500) < share(1500, 2000) && share(1500, 2000) < share(2000, 2500),
            "{passed:?}"
        );
        assert_eq!(share(3050, 4000), 19, "closed: everything passes");
    }

    #[test]
    fn what_fails_again_opens_it_again() {
        let (rules, begun) = (rules(FAILING), Instant::now());
        let mut breaker = Breaker::new(&rules);
        run(&mut breaker, &rules, begun, 0..1, 500);
        let passed = run(&mut breaker, &rules, begun, (1000..6000).step_by(100), 500);
        assert!(
            passed.windows(2).all(|two| two[1] >= two[0] + 1000) && passed.len() >= 2,
            "{passed:?}"
        );
    }

    #[test]
    fn the_expression_is_looked_at_once_in_a_period() {
        let (rules, begun) = (rules(FAILING), Instant::now());
        let mut breaker = Breaker::new(&rules);
        assert_eq!(run(&mut breaker, &rules, begun, 0..1, 200), [0]);
        let passed = run(&mut breaker, &rules, begun, (10..200).step_by(10), 500);
        assert_eq!(passed.last(), Some(&100), "{passed:?}");
    }

    #[test]
    fn one_router_does_not_open_it_for_another() {
        let kind = CircuitBreaker::new(rules("NetworkErrorRatio() > 0.3"), Some(418)).unwrap();
        let here = seen_from("1.1.1.1:1");
        let enter = |seen: &Seen<'_>| match kind.enter(seen) {
            Flow::Later(Later::Watch(watch)) => Some(watch),
            Flow::Answer(answer) => {
                assert_eq!((answer.status, &answer.body[..]), (418, &b"I'm a teapot"[..]));
                None
            }
            other => panic!("{other:?}"),
        };
        let watch = enter(&here).unwrap();
        watch.leave(&ResponseHeader::build(502, None).unwrap());
        assert!(enter(&here).is_none());
        assert!(
            enter(&Seen {
                router: "other",
                ..here
            })
            .is_some()
        );
        assert!(
            CircuitBreaker::new(rules(FAILING), Some(99))
                .unwrap_err()
                .contains("responseCode is 99")
        );
    }
}
