//! What live traffic says of an endpoint: ejection and probation.

use std::time::Instant;

use super::failure::{Cause, Failure, Rate, Run};
use crate::policy;

/// The fact, with its evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outlier {
    pub(super) ejected: Option<Ejected>,
    pub(super) run: Run,
}

/// The endpoint takes no requests until a time; then it is on probation, until a request succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ejected {
    pub(super) cause: Cause,
    pub(super) since: Instant,
    pub(super) until: Instant,
    /// Ejections in a row, this one included.
    pub(super) times: u32,
}

impl Outlier {
    /// Takes in a failure, with the rate of failures up to it. Whether that ejected the endpoint.
    pub(super) fn failed(
        &mut self,
        policy: &policy::Outlier,
        failure: Failure,
        rate: Option<Rate>,
        now: Instant,
    ) -> bool {
        self.run.add(policy.failure_window, now);
        let cause = match &self.ejected {
            // Requests that were under way fail after the ejection, or all are used in panic: no news.
            Some(ejected) if now < ejected.until => return false,
            Some(_) => Some(Cause::Failure(failure)),
            None => self.cause(policy, failure, rate),
        };
        cause.is_some_and(|cause| self.eject(policy, cause, now))
    }

    fn cause(&self, policy: &policy::Outlier, failure: Failure, rate: Option<Rate>) -> Option<Cause> {
        if failure.is_connect() && policy.connect_failures {
            return Some(Cause::Failure(failure));
        }
        if policy
            .consecutive_failures
            .is_some_and(|most| self.run.count >= most)
        {
            return Some(Cause::Row(self.run.count, failure));
        }
        let limit = policy.error_rate.as_ref()?;
        let rate = rate.filter(|rate| rate.exceeds(limit))?;
        Some(Cause::Rate(rate, limit.window))
    }

    /// Requests to it stay unanswered while its siblings answer. Whether that ejected the endpoint.
    ///
    /// On probation this counts only when the probe itself has waited long enough (`probe_waits`): it may be said by a
    /// request that is older than the ejection, and one slow request must not keep the endpoint out.
    pub(super) fn unanswered(&mut self, policy: &policy::Outlier, probe_waits: bool, now: Instant) -> bool {
        let news = self
            .ejected
            .is_none_or(|ejected| now >= ejected.until && probe_waits);
        policy.unanswered && news && self.eject(policy, Cause::Unanswered, now)
    }

    fn eject(&mut self, policy: &policy::Outlier, cause: Cause, now: Instant) -> bool {
        let times = self.ejected.map_or(0, |ejected| ejected.times);
        let doubled = policy.ejection.saturating_mul(1 << times.min(20));
        let length = doubled.min(policy.max_ejection.max(policy.ejection));
        self.ejected = Some(Ejected {
            cause,
            since: now,
            until: now + length,
            times: times.saturating_add(1),
        });
        true
    }

    /// Takes in a success of a request that began then. Whether that reinstated the endpoint.
    pub(super) fn succeeded(&mut self, began: Instant) -> bool {
        self.run = Run::default();
        let reinstates = |ejected: &Ejected| ejected.cause == Cause::Unanswered || began >= ejected.since;
        self.ejected.take_if(|ejected| reinstates(ejected)).is_some()
    }

    /// Takes in that the endpoint answered, however badly. Whether that reinstated the endpoint.
    pub(super) fn answered(&mut self) -> bool {
        self.ejected
            .take_if(|ejected| ejected.cause == Cause::Unanswered)
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::ErrorRate;

    /// Events by second, and the second until which it is ejected after each.
    type Case = (&'static [(u64, Event)], &'static [Option<u64>]);

    fn seconds(of: u64) -> Duration {
        Duration::from_secs(of)
    }

    /// What happens at a second since the start.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Fails(Failure),
        /// A request succeeds that began that many seconds ago.
        Succeeds(u64),
        Unanswered,
        /// The same, and the probe has waited long.
        ProbeUnanswered,
        Answers,
    }
    use Event::{Answers, Fails, ProbeUnanswered as ProbeHangs, Succeeds, Unanswered as Hangs};
    use Failure::{Broken, ConnectFailed, Status};

    /// The second until which it is ejected after each event; `None`: not ejected.
    fn play(policy: &policy::Outlier, events: &[(u64, Event)]) -> Vec<Option<u64>> {
        let start = Instant::now();
        let mut outlier = Outlier::default();
        let mut step = |(at, event): &(u64, Event)| {
            let now = start + seconds(*at);
            let before = outlier.ejected;
            let changed = match event {
                Fails(failure) => outlier.failed(policy, *failure, None, now),
                Succeeds(ago) => outlier.succeeded(now - seconds(*ago)),
                Hangs => outlier.unanswered(policy, false, now),
                ProbeHangs => outlier.unanswered(policy, true, now),
                Answers => outlier.answered(),
            };
            assert_eq!(changed, before != outlier.ejected, "{at}: {event:?}");
            outlier.ejected.map(|ejected| (ejected.until - start).as_secs())
        };
        events.iter().map(&mut step).collect()
    }

    #[test]
    fn transitions_by_default() {
        const REFUSED: Event = Fails(ConnectFailed);
        let cases: &[Case] = &[
            // One refused connection is enough; a good answer reinstates and starts anew.
            (
                &[(0, REFUSED), (3, Succeeds(0)), (4, REFUSED)],
                &[Some(2), None, Some(6)],
            ),
            // What was under way when it was ejected neither prolongs nor ends that.
            (
                &[(0, REFUSED), (1, REFUSED), (1, Succeeds(5))],
                &[Some(2), Some(2), Some(2)],
            ),
            // Any later success does, also before its time is over (panic).
            (&[(0, REFUSED), (1, Succeeds(1))], &[Some(2), None]),
            // A failed probe doubles the time, whatever the failure, up to the longest.
            (
                &[
                    (0, REFUSED),
                    (2, Fails(Broken)),
                    (6, REFUSED),
                    (14, REFUSED),
                    (30, REFUSED),
                    (62, REFUSED),
                    (122, REFUSED),
                ],
                &[
                    Some(2),
                    Some(6),
                    Some(14),
                    Some(30),
                    Some(62),
                    Some(122),
                    Some(182),
                ],
            ),
            // Single failures of other kinds do not eject.
            (
                &[(0, Fails(Broken)), (0, Fails(Status(503))), (0, Fails(Broken))],
                &[None, None, None],
            ),
            // Silence ejects, and any answer ends that.
            (&[(0, Hangs), (1, Hangs), (1, Answers)], &[Some(2), Some(2), None]),
            (&[(0, Hangs), (1, Succeeds(60))], &[Some(2), None]),
            (
                &[
                    (0, Hangs),
                    (1, ProbeHangs),
                    (2, Hangs),
                    (2, ProbeHangs),
                    (6, Answers),
                ],
                &[Some(2), Some(2), Some(2), Some(6), None],
            ),
            (
                &[(0, REFUSED), (0, Answers), (0, Hangs)],
                &[Some(2), Some(2), Some(2)],
            ),
        ];
        for (events, want) in cases {
            assert_eq!(play(&policy::Outlier::default(), events), *want, "{events:?}");
        }
    }

    #[test]
    fn transitions_by_count_alone() {
        let policy = policy::Outlier {
            connect_failures: false,
            consecutive_failures: Some(3),
            failure_window: Some(seconds(10)),
            unanswered: false,
            ..policy::Outlier::default()
        };
        const FAILS: Event = Fails(ConnectFailed);
        let cases: &[Case] = &[
            (&[(0, FAILS), (1, FAILS), (2, FAILS)], &[None, None, Some(4)]),
            (&[(0, FAILS), (1, FAILS), (12, FAILS)], &[None, None, None]),
            (
                &[(0, FAILS), (1, FAILS), (1, Succeeds(0)), (2, FAILS)],
                &[None, None, None, None],
            ),
            (&[(0, Hangs)], &[None]),
        ];
        for (events, want) in cases {
            assert_eq!(play(&policy, events), *want, "{events:?}");
        }
    }

    #[test]
    fn a_rate_ejects() {
        let policy = policy::Outlier {
            error_rate: Some(ErrorRate::default()),
            ..policy::Outlier::default()
        };
        let now = Instant::now();
        let mut outlier = Outlier::default();
        let rate = |failed| Some(Rate { failed, total: 40 });
        assert!(!outlier.failed(&policy, Status(503), rate(19), now));
        assert!(outlier.failed(&policy, Status(503), rate(20), now));
        let cause = outlier.ejected.unwrap().cause.to_string();
        assert_eq!(cause, "20 of 40 requests failed within 10 s");
    }
}
