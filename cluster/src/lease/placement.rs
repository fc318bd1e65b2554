//! Who should have a lease: the ready node of the lowest priority figure, with damping.
//!
//! Every process asks for itself, from what gossip tells it. Views may differ; that costs a refused request at worst, as
//! who holds the lease is decided in the log.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::state::ClientId;

/// A process that could hold the lease, as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub client: ClientId,
    /// Lower is preferred.
    pub priority: u32,
    /// Whether it can.
    pub standing: Standing,
}

/// Whether a process can hold a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It can.
    Ready,
    /// It is to let go of what it has: cordoned, draining, shutting down.
    Leaving,
    /// Not heard of.
    Gone,
}

/// How slow placement is to change its mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damping {
    /// A better process gets a lease that is held only after it was ready for so long, and the holder had it for so long. A
    /// node that comes and goes moves nothing.
    pub settle: Duration,
    /// A free lease is asked for at once by the best, and by each next one so much later.
    pub stagger: Duration,
}

/// What a process should do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Stay,
    /// Ask for it.
    Acquire,
    /// Let go of it, in favour of that process.
    HandOver(ClientId),
    /// Let go of it; there is nobody to give it to.
    Release,
}

/// Watches the candidates of one lease over time.
#[derive(Clone, Debug)]
pub struct Placement {
    damping: Damping,
    candidates: Vec<Candidate>,
    ready_since: BTreeMap<ClientId, Instant>,
    holder: Option<ClientId>,
    /// Who had it before it became free: dead, or letting go. Nobody waits for that one, as gossip may not know yet.
    former: Option<ClientId>,
    /// Since when it is held by that one, or free.
    holder_since: Option<Instant>,
}

impl Placement {
    /// Nobody was seen yet.
    #[must_use]
    pub fn new(damping: Damping) -> Self {
        Self {
            damping,
            candidates: Vec::new(),
            ready_since: BTreeMap::new(),
            holder: None,
            former: None,
            holder_since: None,
        }
    }

    /// What is seen at `now`: all candidates, and who holds the lease.
    pub fn observe(&mut self, now: Instant, candidates: &[Candidate], holder: Option<ClientId>) {
        self.candidates = candidates
            .iter()
            .copied()
            .filter(|one| one.standing != Standing::Gone)
            .collect();
        let ready = |client: &ClientId| {
            candidates
                .iter()
                .any(|one| one.client == *client && one.standing == Standing::Ready)
        };
        self.ready_since.retain(|client, _| ready(client));
        for one in candidates.iter().filter(|one| one.standing == Standing::Ready) {
            self.ready_since.entry(one.client).or_insert(now);
        }
        if self.holder != holder || self.holder_since.is_none() {
            self.former = self.holder.filter(|_| holder.is_none());
            self.holder = holder;
            self.holder_since = Some(now);
        }
    }

    /// What the process `me` should do at `now`.
    #[must_use]
    pub fn step(&self, now: Instant, me: ClientId) -> Step {
        let Some(since) = self.holder_since else {
            return Step::Stay;
        };
        let mine = self.candidates.iter().find(|one| one.client == me);
        match self.holder {
            None => {
                let Some(mine) = mine.filter(|one| one.standing == Standing::Ready) else {
                    return Step::Stay;
                };
                let before = self
                    .ready()
                    .filter(|one| rank(one) < rank(mine) && Some(one.client) != self.former)
                    .count();
                let wait = self
                    .damping
                    .stagger
                    .saturating_mul(u32::try_from(before).unwrap_or(u32::MAX));
                if now.saturating_duration_since(since) >= wait {
                    Step::Acquire
                } else {
                    Step::Stay
                }
            }
            Some(holder) if holder == me => match mine {
                Some(mine) if mine.standing == Standing::Ready => {
                    let settled =
                        |since: Instant| now.saturating_duration_since(since) >= self.damping.settle;
                    let better = self.ready().filter(|one| {
                        one.priority < mine.priority
                            && self
                                .ready_since
                                .get(&one.client)
                                .is_some_and(|since| settled(*since))
                    });
                    match better.min_by_key(|one| rank(one)) {
                        Some(one) if settled(since) => Step::HandOver(one.client),
                        _ => Step::Stay,
                    }
                }
                // Leaving, or not even seen by itself: it is on its way out.
                _ => {
                    let best = self
                        .ready()
                        .filter(|one| one.client != me)
                        .min_by_key(|one| rank(one));
                    best.map_or(Step::Release, |one| Step::HandOver(one.client))
                }
            },
            Some(_) => Step::Stay,
        }
    }

    fn ready(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates
            .iter()
            .filter(|one| one.standing == Standing::Ready)
    }
}

/// Equal priorities are told apart by node, so that all see the same order. It never moves a lease.
fn rank(one: &Candidate) -> (u32, ClientId) {
    (one.priority, one.client)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Candidate, Damping, Placement, Standing, Step};
    use crate::state::{ClientId, NodeId};

    const SETTLE: Duration = Duration::from_secs(30);
    const STAGGER: Duration = Duration::from_millis(200);

    fn client(node: u64) -> ClientId {
        ClientId {
            node: NodeId(node),
            incarnation: 1,
        }
    }

    fn one(node: u64, priority: u32, standing: Standing) -> Candidate {
        Candidate {
            client: client(node),
            priority,
            standing,
        }
    }

    fn placement() -> Placement {
        Placement::new(Damping {
            settle: SETTLE,
            stagger: STAGGER,
        })
    }

    #[test]
    fn a_free_lease_is_asked_for_in_order_of_priority() {
        let start = Instant::now();
        let mut placement = placement();
        assert_eq!(
            placement.step(start, client(1)),
            Step::Stay,
            "nothing was seen yet"
        );
        let seen = [
            one(1, 100, Standing::Ready),
            one(2, 50, Standing::Ready),
            one(3, 10, Standing::Leaving),
            one(4, 1, Standing::Gone),
        ];
        placement.observe(start, &seen, None);
        assert_eq!(placement.step(start, client(2)), Step::Acquire);
        assert_eq!(placement.step(start, client(1)), Step::Stay);
        assert_eq!(placement.step(start + STAGGER, client(1)), Step::Acquire);
        for never in [3, 4, 5] {
            assert_eq!(
                placement.step(start + SETTLE, client(never)),
                Step::Stay,
                "{never}"
            );
        }
    }

    #[test]
    fn nobody_waits_for_the_one_whose_lease_ran_out() {
        let start = Instant::now();
        let mut placement = placement();
        let seen = [
            one(1, 10, Standing::Ready),
            one(2, 20, Standing::Ready),
            one(3, 30, Standing::Ready),
        ];
        placement.observe(start, &seen, Some(client(1)));
        assert_eq!(placement.step(start + SETTLE, client(2)), Step::Stay);
        // Gossip still takes the first for alive.
        let over = start + SETTLE;
        placement.observe(over, &seen, None);
        assert_eq!(placement.step(over, client(2)), Step::Acquire);
        assert_eq!(placement.step(over, client(3)), Step::Stay);
        assert_eq!(placement.step(over + STAGGER, client(3)), Step::Acquire);
    }

    #[test]
    fn a_better_node_gets_a_held_lease_once_both_have_settled() {
        let start = Instant::now();
        let mut placement = placement();
        let seen = [one(1, 100, Standing::Ready), one(2, 50, Standing::Ready)];
        placement.observe(start, &seen[..1], Some(client(1)));
        let came = start + Duration::from_secs(20);
        placement.observe(came, &seen, Some(client(1)));
        assert_eq!(
            placement.step(start + SETTLE, client(1)),
            Step::Stay,
            "the other has not settled"
        );
        assert_eq!(
            placement.step(came + SETTLE, client(1)),
            Step::HandOver(client(2))
        );
        assert_eq!(
            placement.step(came + SETTLE, client(2)),
            Step::Stay,
            "the holder hands over, nobody takes"
        );
        // Seen missing once, it starts anew.
        placement.observe(
            came + SETTLE / 2,
            &[seen[0], one(2, 50, Standing::Gone)],
            Some(client(1)),
        );
        placement.observe(came + SETTLE / 2, &seen, Some(client(1)));
        assert_eq!(placement.step(came + SETTLE, client(1)), Step::Stay);
    }

    #[test]
    fn an_equal_one_moves_nothing() {
        let start = Instant::now();
        let mut placement = placement();
        placement.observe(
            start,
            &[one(1, 100, Standing::Ready), one(2, 100, Standing::Ready)],
            Some(client(2)),
        );
        assert_eq!(placement.step(start + SETTLE * 2, client(2)), Step::Stay);
    }

    #[test]
    fn one_that_leaves_hands_over_at_once_and_releases_if_there_is_nobody() {
        let start = Instant::now();
        let mut placement = placement();
        let mut seen = vec![
            one(1, 1, Standing::Leaving),
            one(2, 50, Standing::Ready),
            one(3, 20, Standing::Ready),
        ];
        placement.observe(start, &seen, Some(client(1)));
        assert_eq!(placement.step(start, client(1)), Step::HandOver(client(3)));
        seen.truncate(1);
        placement.observe(start, &seen, Some(client(1)));
        assert_eq!(placement.step(start, client(1)), Step::Release);
    }

    #[test]
    fn what_an_earlier_process_of_the_node_holds_is_left_to_run_out() {
        let start = Instant::now();
        let mut placement = placement();
        let before = ClientId {
            node: NodeId(1),
            incarnation: 0,
        };
        placement.observe(start, &[one(1, 1, Standing::Ready)], Some(before));
        assert_eq!(placement.step(start + SETTLE * 2, client(1)), Step::Stay);
    }
}
