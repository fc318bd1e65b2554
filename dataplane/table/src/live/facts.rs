//! The three facts about an endpoint taken together: what an event does to them, and what they come to.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::breaker::Breaker;
use super::check::Check;
use super::failure::{Cause, Failure, Rate};
use super::outlier::Outlier;
use crate::policy::{HealthCheck, SlowStart};
use crate::{Exclusion, Policy};

/// What is known of an endpoint, apart from counters. Changes with events; time is passed in.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) check: Check,
    pub(super) outlier: Outlier,
    pub(super) breaker: Breaker,
    easing: Easing,
    pub(super) failures: u64,
    pub(super) last_failure: Option<(Cause, Instant)>,
    /// That the ejection, or the time of the open breaker, is over was announced.
    announced: (bool, bool),
}

/// How far an endpoint that came back has been eased in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Easing {
    #[default]
    Done,
    /// It came back, and nobody has looked since.
    Due,
    Since(Instant),
}

/// What the live facts of an endpoint come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It takes requests, with this many tenths of its weight.
    Usable { tenths: u32 },
    /// It takes one probe at a time, since then.
    Probation { since: Instant },
    /// It takes none.
    Excluded(Exclusion),
}

/// A fact that changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) fact: Fact,
    pub(crate) to: &'static str,
    pub(crate) reason: Box<str>,
}

/// What a change concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    Check,
    Outlier,
    Breaker,
    /// Of the service.
    Panic,
}

impl Fact {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Outlier => "outlier",
            Self::Breaker => "breaker",
            Self::Panic => "panic",
        }
    }
}

/// The facts that one event changed.
pub(crate) type Changes = SmallVec<[Change; 2]>;

fn change(fact: Fact, to: &'static str, reason: impl Into<Box<str>>) -> Change {
    Change {
        fact,
        to,
        reason: reason.into(),
    }
}

impl Facts {
    /// A request that began then got a good answer.
    pub(super) fn good(&mut self, policy: &Policy, began: Instant, now: Instant) -> Changes {
        let was_clear = self.is_clear(policy);
        let mut changes = Changes::new();
        if self.outlier.succeeded(began) {
            changes.push(change(Fact::Outlier, "healthy", "a request succeeded"));
        }
        if self.breaker.succeeded(&policy.breaker, began) {
            let reason = format!("requests that succeeded: {}", policy.breaker.successes.max(1));
            changes.push(change(Fact::Breaker, "closed", reason));
        }
        self.ease(policy, was_clear, now);
        changes
    }

    /// An attempt failed; the rates are those of the windows of outlier detection and breaker.
    pub(super) fn bad(
        &mut self,
        policy: &Policy,
        failure: Failure,
        rates: (Option<Rate>, Option<Rate>),
        now: Instant,
    ) -> Changes {
        let was_clear = self.is_clear(policy);
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some((Cause::Failure(failure), now));
        let mut changes = Changes::new();
        if failure.is_answer() && self.outlier.answered() {
            changes.push(change(Fact::Outlier, "healthy", "it answers again"));
        }
        if self.outlier.failed(&policy.outlier, failure, rates.0, now) {
            changes.extend(self.ejection());
        }
        if self.breaker.failed(&policy.breaker, failure, rates.1, now) {
            self.announced.1 = false;
            let reason = |cause: Cause| format!("{cause}; for {} s", policy.breaker.open.as_secs_f64());
            changes.extend(
                self.breaker
                    .open
                    .map(|open| change(Fact::Breaker, "open", reason(open.cause))),
            );
        }
        self.ease(policy, was_clear, now);
        changes
    }

    /// Requests stay unanswered while the siblings answer; whether a probe has waited long.
    pub(super) fn unanswered(&mut self, policy: &Policy, probe_waits: bool, now: Instant) -> Changes {
        if !self.outlier.unanswered(&policy.outlier, probe_waits, now) {
            return Changes::new();
        }
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some((Cause::Unanswered, now));
        self.ejection().into_iter().collect()
    }

    fn ejection(&mut self) -> Option<Change> {
        self.announced.0 = false;
        let ejected = self.outlier.ejected?;
        let length = (ejected.until - ejected.since).as_secs_f64();
        Some(change(
            Fact::Outlier,
            "ejected",
            format!("{}; for {length} s", ejected.cause),
        ))
    }

    /// An active check came to a result.
    pub(super) fn checked(
        &mut self,
        policy: &Policy,
        check: &HealthCheck,
        result: Result<(), &str>,
        now: Instant,
    ) -> Changes {
        let was_clear = self.is_clear(policy);
        let mut changes = Changes::new();
        if self.check.observe(check, result, now) {
            changes.push(match result {
                Ok(()) => change(Fact::Check, "healthy", "health checks succeed"),
                Err(reason) => change(Fact::Check, "unhealthy", reason),
            });
        }
        self.ease(policy, was_clear, now);
        changes
    }

    /// Announces what time has brought about: probation, and the half-open breaker.
    pub(super) fn advance(&mut self, now: Instant) -> Changes {
        let mut changes = Changes::new();
        if self.easing == Easing::Due {
            self.easing = Easing::Since(now);
        }
        let over = |until: Instant| now >= until;
        if self.outlier.ejected.is_some_and(|ejected| over(ejected.until)) && !self.announced.0 {
            self.announced.0 = true;
            changes.push(change(
                Fact::Outlier,
                "probation",
                "its ejection is over, one request at a time may try it",
            ));
        }
        if self.breaker.open.is_some_and(|open| over(open.until)) && !self.announced.1 {
            self.announced.1 = true;
            changes.push(change(
                Fact::Breaker,
                "half-open",
                "its time is over, one request at a time may try it",
            ));
        }
        changes
    }

    /// The endpoint was started anew: what was inferred of the old one is void, and the new one is eased in.
    pub(super) fn restart(&mut self) {
        *self = Self {
            easing: Easing::Due,
            ..Self::default()
        };
    }

    /// What the facts come to, and when time alone changes that.
    pub(super) fn verdict(&self, policy: &Policy, now: Instant) -> (Verdict, Option<Instant>) {
        let ejected = self.outlier.ejected.map(|ejected| ejected.until);
        let open = self
            .breaker
            .open
            .filter(|_| is_on(&policy.breaker))
            .map(|open| open.until);
        let next = ejected.into_iter().chain(open).filter(|until| now < *until).min();
        let running = |until: Option<Instant>| until.is_some_and(|until| now < until);
        if policy.health_check.is_some() && !self.check.is_usable() {
            (Verdict::Excluded(Exclusion::CheckFailed), next)
        } else if running(ejected) {
            (Verdict::Excluded(Exclusion::Ejected), next)
        } else if running(open) {
            (Verdict::Excluded(Exclusion::BreakerOpen), next)
        } else if let Some(since) = ejected.max(open) {
            (Verdict::Probation { since }, next)
        } else {
            let (tenths, next) = self.share(policy.slow_start, now);
            (Verdict::Usable { tenths }, next)
        }
    }

    /// The share of its weight in tenths, and when it grows.
    pub(super) fn share(&self, policy: SlowStart, now: Instant) -> (u32, Option<Instant>) {
        let since = match self.easing {
            Easing::Done => return (10, None),
            _ if policy.window.is_zero() => return (10, None),
            Easing::Due => now,
            Easing::Since(since) => since,
        };
        let gone = now.saturating_duration_since(since).as_nanos() * 9 / policy.window.as_nanos();
        match u32::try_from(gone) {
            Ok(steps @ 0..9) => {
                let at = policy.window.saturating_mul(steps + 1) / 9 + Duration::from_nanos(1);
                (steps + 1, Some(since + at))
            }
            _ => (10, None),
        }
    }

    /// Whether a success has nothing to change.
    pub(super) fn is_calm(&self) -> bool {
        self.outlier.ejected.is_none()
            && self.breaker.open.is_none()
            && self.outlier.run.count == 0
            && self.breaker.run.count == 0
    }

    /// Whether nothing that the policy looks at speaks against it.
    pub(super) fn is_clear(&self, policy: &Policy) -> bool {
        (policy.health_check.is_none() || self.check.is_usable())
            && self.outlier.ejected.is_none()
            && (!is_on(&policy.breaker) || self.breaker.open.is_none())
    }

    /// Forgets what the policy does not look at: when it looks again, that would be old.
    pub(super) fn keep_only(&mut self, policy: &Policy) {
        if policy.health_check.is_none() {
            self.check = Check::default();
        }
        if !is_on(&policy.breaker) {
            self.breaker = Breaker::default();
        }
    }

    /// Eases the endpoint in when it has just become clear.
    fn ease(&mut self, policy: &Policy, was_clear: bool, now: Instant) {
        if !was_clear && self.is_clear(policy) {
            self.easing = Easing::Since(now);
        }
    }
}

/// Whether anything can open the breaker.
pub(super) fn is_on(policy: &crate::policy::Breaker) -> bool {
    policy.consecutive_failures.is_some() || policy.error_rate.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Failure = Failure::ConnectFailed;

    fn seconds(of: u64) -> Duration {
        Duration::from_secs(of)
    }

    fn words(changes: Changes) -> Vec<(&'static str, &'static str)> {
        changes
            .iter()
            .map(|change| (change.fact.word(), change.to))
            .collect()
    }

    #[test]
    fn from_ejection_to_full_weight() {
        let policy = Policy::default();
        let start = Instant::now();
        let mut facts = Facts::default();
        assert_eq!(
            facts.verdict(&policy, start),
            (Verdict::Usable { tenths: 10 }, None)
        );

        assert_eq!(
            words(facts.bad(&policy, REFUSED, (None, None), start)),
            [("outlier", "ejected")]
        );
        let until = start + seconds(2);
        assert_eq!(
            facts.verdict(&policy, start),
            (Verdict::Excluded(Exclusion::Ejected), Some(until))
        );
        assert_eq!(facts.advance(until - seconds(1)), Changes::new());
        assert_eq!(
            facts.verdict(&policy, until),
            (Verdict::Probation { since: until }, None)
        );
        assert_eq!(words(facts.advance(until)), [("outlier", "probation")]);
        assert_eq!(facts.advance(until), Changes::new(), "said once");

        assert_eq!(words(facts.good(&policy, until, until)), [("outlier", "healthy")]);
        let mut now = until;
        let mut shares = Vec::new();
        while let (Verdict::Usable { tenths }, Some(next)) = facts.verdict(&policy, now) {
            shares.push(tenths);
            assert!(next > now && next <= until + seconds(11));
            now = next;
        }
        assert_eq!(shares, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(
            facts.verdict(&policy, now),
            (Verdict::Usable { tenths: 10 }, None)
        );
    }

    #[test]
    fn the_facts_are_apart_and_the_check_is_named_first() {
        let policy = Policy {
            health_check: Some(HealthCheck::default()),
            ..Policy::default()
        };
        let check = HealthCheck::default();
        let start = Instant::now();
        let mut facts = Facts::default();
        for _ in 0..5 {
            facts.bad(&policy, REFUSED, (None, None), start);
        }
        facts.checked(&policy, &check, Err("503"), start);
        assert_eq!(
            words(facts.checked(&policy, &check, Err("503"), start)),
            [("check", "unhealthy")]
        );
        let verdict = |facts: &Facts, after: u64| facts.verdict(&policy, start + seconds(after));
        assert_eq!(
            verdict(&facts, 0),
            (
                Verdict::Excluded(Exclusion::CheckFailed),
                Some(start + seconds(2))
            )
        );
        assert_eq!(
            words(facts.checked(&policy, &check, Ok(()), start)),
            [("check", "healthy")]
        );
        assert_eq!(
            verdict(&facts, 0),
            (Verdict::Excluded(Exclusion::Ejected), Some(start + seconds(2)))
        );
        assert_eq!(
            verdict(&facts, 2),
            (
                Verdict::Excluded(Exclusion::BreakerOpen),
                Some(start + seconds(30))
            )
        );
        let since = start + seconds(30);
        assert_eq!(verdict(&facts, 30), (Verdict::Probation { since }, None));
        assert_eq!(words(facts.good(&policy, since, since)), [("outlier", "healthy")]);
        assert_eq!(
            verdict(&facts, 30),
            (Verdict::Probation { since }, None),
            "two successes close a breaker"
        );
        assert_eq!(words(facts.good(&policy, since, since)), [("breaker", "closed")]);
        assert!(matches!(
            verdict(&facts, 30),
            (Verdict::Usable { tenths: 1 }, Some(_))
        ));
    }

    #[test]
    fn what_the_policy_turns_off_excludes_nobody() {
        let on = Policy {
            health_check: Some(HealthCheck::default()),
            ..Policy::default()
        };
        let mut off = Policy::default();
        off.breaker.consecutive_failures = None;
        off.slow_start.window = Duration::ZERO;
        let start = Instant::now();
        let mut facts = Facts::default();
        for _ in 0..5 {
            facts.bad(&on, Failure::Broken, (None, None), start);
            facts.checked(&on, &HealthCheck::default(), Err("refused"), start);
        }
        assert_eq!(
            facts.verdict(&on, start).0,
            Verdict::Excluded(Exclusion::CheckFailed)
        );
        assert_eq!(facts.verdict(&off, start), (Verdict::Usable { tenths: 10 }, None));
        facts.restart();
        assert_eq!(facts.verdict(&off, start), (Verdict::Usable { tenths: 10 }, None));
    }

    #[test]
    fn an_endpoint_is_clear_of_what_the_policy_does_not_look_at() {
        let mut on = Policy {
            health_check: Some(HealthCheck::default()),
            ..Policy::default()
        };
        on.outlier.consecutive_failures = None;
        on.outlier.error_rate = None;
        let mut off = on.clone();
        off.health_check = None;
        off.breaker.consecutive_failures = None;
        let start = Instant::now();
        let mut facts = Facts::default();
        for _ in 0..5 {
            facts.bad(&on, Failure::Broken, (None, None), start);
            facts.checked(&on, &HealthCheck::default(), Err("503"), start);
        }
        assert!(!facts.is_clear(&on) && facts.is_clear(&off));
        // It is eased in after an ejection although the checks spoke against it when they were dropped.
        facts.bad(&off, REFUSED, (None, None), start);
        facts.good(&off, start, start);
        assert!(matches!(
            facts.verdict(&off, start),
            (Verdict::Usable { tenths: 1 }, Some(_))
        ));
        facts.keep_only(&off);
        assert!(
            facts.is_clear(&on),
            "what was dropped is not held against it later"
        );
    }

    #[test]
    fn a_restart_forgets_and_eases_in() {
        let policy = Policy::default();
        let start = Instant::now();
        let mut facts = Facts::default();
        facts.bad(&policy, REFUSED, (None, None), start);
        facts.restart();
        assert!(facts.is_calm());
        assert!(matches!(
            facts.verdict(&policy, start),
            (Verdict::Usable { tenths: 1 }, Some(_))
        ));
        assert_eq!(facts.advance(start + seconds(100)), Changes::new());
        let later = facts.verdict(&policy, start + seconds(105)).0;
        assert_eq!(
            later,
            Verdict::Usable { tenths: 5 },
            "it begins when somebody looks"
        );
    }

    #[test]
    fn any_answer_ends_silence_but_a_bad_one_is_a_failure() {
        let policy = Policy::default();
        let start = Instant::now();
        let mut facts = Facts::default();
        assert_eq!(
            words(facts.unanswered(&policy, false, start)),
            [("outlier", "ejected")]
        );
        assert_eq!(facts.unanswered(&policy, false, start), Changes::new());
        let changes = facts.bad(&policy, Failure::Status(503), (None, None), start);
        assert_eq!(words(changes), [("outlier", "healthy")]);
        assert_eq!((facts.breaker.run.count, facts.failures), (1, 2));
    }
}
