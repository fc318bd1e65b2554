//! The leader's timer: says which leases have gone without renewal for all of their time.
//!
//! Fed with what this node applies. It only says what to propose; whether the lease ends is decided where the proposal
//! is applied, by comparing token and renewal.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{LeaseCommand, LeaseKey, Leases, Token};
use crate::bug::{self, Bug};

/// Measures, while this node leads, how long each lease has gone without renewal.
#[derive(Clone, Debug, Default)]
pub struct ExpiryTimer {
    leading: Option<Leading>,
    /// Of the last entry that was applied.
    applied: u64,
}

#[derive(Clone, Debug)]
struct Leading {
    term: u64,
    /// Nothing until the first entry of the term was applied: before that, this node may not have applied what the leader
    /// before it has committed.
    running: Option<BTreeMap<LeaseKey, Running>>,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    token: Token,
    renewal: u64,
    ttl: Duration,
    /// Renewed, or last proposed to be expired.
    since: Instant,
}

impl ExpiryTimer {
    /// A timer of a node that does not lead.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// This node leads in `term`, and has applied what `leases` says. What was measured in another term is forgotten: every
    /// lease gets all of its time again, from now if an entry of this term was applied already, else from when the first
    /// is.
    pub fn lead(&mut self, now: Instant, term: u64, leases: &Leases) {
        if self.leading.as_ref().is_none_or(|leading| leading.term != term) {
            let running = (self.applied == term).then(|| all(now, leases));
            self.leading = Some(Leading { term, running });
        }
    }

    /// This node does not lead any more.
    pub fn follow(&mut self) {
        self.leading = None;
    }

    /// An entry of `term` was applied, and `leases` is what there is since. `touched` is the lease that it was about, if
    /// it changed one. `now` is read after applying.
    pub fn applied(&mut self, now: Instant, term: u64, touched: Option<&LeaseKey>, leases: &Leases) {
        self.applied = term;
        let Some(leading) = &mut self.leading else {
            return;
        };
        match &mut leading.running {
            None if term == leading.term => leading.running = Some(all(now, leases)),
            None => {}
            Some(running) => {
                if let Some(key) = touched {
                    match Running::of(now, key, leases) {
                        Some(lease) => running.insert(key.clone(), lease),
                        None => running.remove(key),
                    };
                }
            }
        }
    }

    /// The leases whose time is over, as what to propose. Each is said again after another of its lives, should the
    /// proposal have been lost.
    pub fn due(&mut self, now: Instant) -> Vec<LeaseCommand> {
        let Some(running) = self.leading.as_mut().and_then(|leading| leading.running.as_mut()) else {
            return Vec::new();
        };
        let over = running.iter_mut().filter(|(_, lease)| lease.over() <= now);
        over.map(|(key, lease)| {
            lease.since = now;
            LeaseCommand::Expire {
                key: key.clone(),
                token: lease.token,
                renewal: lease.renewal,
            }
        })
        .collect()
    }

    /// When to ask again; nothing while there is nothing to wait for.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let running = self.leading.as_ref()?.running.as_ref()?;
        running.values().map(|lease| lease.over()).min()
    }
}

/// All leases, with all of their time.
fn all(now: Instant, leases: &Leases) -> BTreeMap<LeaseKey, Running> {
    leases
        .iter()
        .filter_map(|(key, _)| Some((key.clone(), Running::of(now, key, leases)?)))
        .collect()
}

impl Running {
    fn of(now: Instant, key: &LeaseKey, leases: &Leases) -> Option<Self> {
        leases.get(key).map(|lease| Self {
            token: lease.token,
            renewal: lease.renewal,
            ttl: lease.ttl(),
            since: now,
        })
    }

    fn over(&self) -> Instant {
        if bug::is(Bug::ExpiresEarly) {
            return self.since + self.ttl / 2;
        }
        self.since + self.ttl
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::ExpiryTimer;
    use crate::lease::{LeaseCommand, LeaseKey, Leases};
    use crate::state::{ClientId, NodeId};

    const A: ClientId = ClientId {
        node: NodeId(1),
        incarnation: 1,
    };
    const KEY: LeaseKey = LeaseKey::LbLeader;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Leases with one that was granted at 10, for a second.
    fn leases() -> Leases {
        let mut leases = Leases::default();
        leases.apply(
            10,
            A,
            &LeaseCommand::Acquire {
                key: KEY,
                ttl_ms: 1000,
            },
        );
        leases
    }

    fn renewals(due: &[LeaseCommand]) -> Vec<u64> {
        let renewal = |command: &LeaseCommand| match command {
            LeaseCommand::Expire { renewal, .. } => *renewal,
            other => panic!("{other:?}"),
        };
        due.iter().map(renewal).collect()
    }

    #[test]
    fn it_begins_with_the_first_entry_of_its_term_and_all_of_the_time() {
        let start = Instant::now();
        let mut timer = ExpiryTimer::new();
        timer.applied(start, 3, Some(&KEY), &leases());
        timer.lead(start, 4, &leases());
        timer.applied(start, 3, Some(&KEY), &leases());
        assert_eq!(
            (timer.next(), timer.due(start + ms(9000))),
            (None, vec![]),
            "entries of terms before"
        );
        timer.applied(start + ms(5000), 4, None, &leases());
        assert_eq!(timer.next(), Some(start + ms(6000)));
        assert!(timer.due(start + ms(5999)).is_empty());
        assert_eq!(renewals(&timer.due(start + ms(6000))), [10]);
        // Said again after another of its lives, not at once.
        assert!(timer.due(start + ms(6999)).is_empty());
        assert_eq!(renewals(&timer.due(start + ms(7000))), [10]);
    }

    #[test]
    fn a_renewal_starts_anew_and_what_is_free_is_forgotten() {
        let start = Instant::now();
        let (mut timer, mut leases) = (ExpiryTimer::new(), leases());
        timer.lead(start, 4, &leases);
        timer.applied(start, 4, None, &leases);
        let token = leases.get(&KEY).unwrap().token;
        leases.apply(12, A, &LeaseCommand::Renew { key: KEY, token });
        timer.applied(start + ms(900), 4, Some(&KEY), &leases);
        assert!(timer.due(start + ms(1899)).is_empty());
        assert_eq!(renewals(&timer.due(start + ms(1900))), [12]);
        leases.apply(13, A, &LeaseCommand::Release { key: KEY, token });
        timer.applied(start + ms(2000), 4, Some(&KEY), &leases);
        assert_eq!(timer.next(), None);
    }

    #[test]
    fn a_leader_that_hears_late_that_it_leads_begins_at_once() {
        let start = Instant::now();
        let mut timer = ExpiryTimer::new();
        timer.applied(start, 4, None, &leases());
        timer.lead(start + ms(500), 4, &leases());
        assert_eq!(timer.next(), Some(start + ms(1500)));
    }

    #[test]
    fn nothing_of_an_earlier_term_is_kept() {
        let start = Instant::now();
        let mut timer = ExpiryTimer::new();
        timer.lead(start, 4, &leases());
        timer.applied(start, 4, None, &leases());
        timer.lead(start, 4, &leases());
        assert!(timer.next().is_some(), "told twice of the same term");
        timer.follow();
        assert!(timer.due(start + ms(9000)).is_empty());
        timer.lead(start, 6, &leases());
        assert_eq!(timer.next(), None);
        timer.applied(start + ms(800), 6, None, &leases());
        assert_eq!(timer.next(), Some(start + ms(1800)));
    }
}
