//! Whether what clients saw can be explained by one order of their operations: Wing and Gong's search, with Lowe's memory
//! of what was tried, for one object.

use std::collections::HashSet;
use std::hash::Hash;

use constellation_cluster::lease::{LeaseCommand, LeaseOutcome};
use constellation_cluster::state::ClientId;

/// What an object does when it is used by one client after the other.
pub(crate) trait Object {
    type State: Clone + Eq + Hash + Default;

    /// The state after this operation with what it came to, if it can have come to that; with nothing, if it took effect and
    /// nobody heard.
    fn next(&self, state: &Self::State) -> Option<Self::State>;
}

/// An operation as its client saw it. Times only need an order.
#[derive(Clone, Debug)]
pub(crate) struct Operation<O> {
    pub(crate) called: u64,
    /// Nothing if no answer came: it may have taken effect at any time since, or not at all.
    pub(crate) returned: Option<u64>,
    pub(crate) what: O,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Linearizable,
    Not,
    /// Given up after as many steps as were allowed.
    Undecided,
}

/// Searches an order in at most `steps` steps.
pub(crate) fn check<O: Object>(history: &[Operation<O>], steps: usize) -> Verdict {
    let mut operations: Vec<_> = history.iter().collect();
    operations.sort_by_key(|operation| operation.called);
    let answered = operations
        .iter()
        .filter(|operation| operation.returned.is_some())
        .count();
    let mut seen = HashSet::new();
    let mut open = vec![(
        vec![0_u64; operations.len().div_ceil(64)],
        0,
        0,
        O::State::default(),
    )];
    let mut left = steps;
    while let Some((done, first, found, state)) = open.pop() {
        if found == answered {
            return Verdict::Linearizable;
        }
        if left == 0 {
            return Verdict::Undecided;
        }
        left -= 1;
        let is_done = |at: usize| done[at / 64] >> (at % 64) & 1 == 1;
        // Only what was called before the first answer among the rest can be next.
        let mut until = u64::MAX;
        let mut candidates = Vec::new();
        for (at, operation) in operations.iter().enumerate().skip(first) {
            if operation.called > until {
                break;
            }
            if !is_done(at) {
                until = until.min(operation.returned.unwrap_or(u64::MAX));
                candidates.push(at);
            }
        }
        // The last pushed is tried first: who was answered earliest. One that nobody heard of comes last.
        candidates.sort_by_key(|at| operations[*at].returned.unwrap_or(u64::MAX));
        for at in candidates.into_iter().rev() {
            let operation = operations[at];
            if operation.called > until {
                continue;
            }
            if let Some(state) = operation.what.next(&state) {
                let mut done = done.clone();
                done[at / 64] |= 1 << (at % 64);
                if seen.insert((done.clone(), state.clone())) {
                    let first = (first..operations.len()).find(|at| done[at / 64] >> (at % 64) & 1 == 0);
                    let found = found + usize::from(operation.returned.is_some());
                    open.push((done, first.unwrap_or(operations.len()), found, state));
                }
            }
        }
    }
    Verdict::Not
}

/// A register that is written and read whole.
#[derive(Clone, Debug)]
pub(crate) enum Register {
    Write(u64),
    Read(u64),
}

impl Object for Register {
    type State = u64;

    fn next(&self, state: &u64) -> Option<u64> {
        match self {
            Self::Write(value) => Some(*value),
            Self::Read(value) => (value == state).then_some(*state),
        }
    }
}

/// A request about one lease, and what it came to.
#[derive(Clone, Debug)]
pub(crate) struct LeaseOperation {
    pub(crate) client: ClientId,
    pub(crate) command: LeaseCommand,
    pub(crate) outcome: Option<LeaseOutcome>,
}

/// The greatest token that is known of, and who holds the lease under which; the token is open until somebody hears it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct LeaseState {
    last: u64,
    held: Option<(ClientId, Option<u64>)>,
}

impl LeaseState {
    fn granted(&self, to: ClientId, token: Option<u64>) -> Option<Self> {
        token.is_none_or(|token| token > self.last).then(|| Self {
            last: token.unwrap_or(self.last),
            held: Some((to, token)),
        })
    }

    fn free(&self) -> Self {
        Self {
            held: None,
            ..self.clone()
        }
    }

    /// With the token learned, if it is held by this client, or by anybody, under that token.
    fn known(&self, client: Option<ClientId>, token: u64) -> Option<Self> {
        let (holder, known) = self.held?;
        let fits = client.is_none_or(|client| client == holder)
            && known.map_or(token > self.last, |known| known == token);
        fits.then_some(Self {
            last: token.max(self.last),
            held: Some((holder, Some(token))),
        })
    }
}

impl Object for LeaseOperation {
    type State = LeaseState;

    fn next(&self, state: &LeaseState) -> Option<LeaseState> {
        let mine = |token: u64| state.known(Some(self.client), token);
        let unchanged = |holds: bool| holds.then(|| state.clone());
        match (&self.command, &self.outcome) {
            (LeaseCommand::Acquire { .. }, Some(LeaseOutcome::Granted { token })) if state.held.is_none() => {
                state.granted(self.client, Some(token.get()))
            }
            (LeaseCommand::Acquire { .. }, Some(LeaseOutcome::Taken { holder, token })) => {
                state.known(Some(*holder), token.get())
            }
            (LeaseCommand::Acquire { .. }, None) if state.held.is_none() => state.granted(self.client, None),
            (LeaseCommand::Renew { token, .. }, Some(LeaseOutcome::Renewed { .. })) => mine(token.get()),
            (LeaseCommand::Release { token, .. }, Some(LeaseOutcome::Released) | None) => {
                mine(token.get()).map(|state| state.free())
            }
            (LeaseCommand::Transfer { token, to, .. }, Some(LeaseOutcome::Transferred { token: new })) => {
                mine(token.get())?.granted(*to, Some(new.get()))
            }
            (LeaseCommand::Transfer { token, to, .. }, None) => mine(token.get())?.granted(*to, None),
            // An expiry is void also because of a renewal, which is not kept here.
            (LeaseCommand::Expire { .. }, Some(LeaseOutcome::NotHeld)) => unchanged(true),
            (LeaseCommand::Expire { token, .. }, Some(LeaseOutcome::Expired) | None) => {
                state.known(None, token.get()).map(|state| state.free())
            }
            (
                LeaseCommand::Renew { token, .. }
                | LeaseCommand::Release { token, .. }
                | LeaseCommand::Transfer { token, .. },
                Some(LeaseOutcome::NotHeld),
            ) => unchanged(state.held != Some((self.client, Some(token.get())))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use constellation_cluster::lease::{LeaseCommand, LeaseKey, LeaseOutcome, Token};
    use constellation_cluster::state::{ClientId, NodeId};

    use super::{LeaseOperation, Operation, Register, Verdict, check};

    const STEPS: usize = 10_000;
    const A: ClientId = ClientId {
        node: NodeId(1),
        incarnation: 1,
    };
    const B: ClientId = ClientId {
        node: NodeId(2),
        incarnation: 1,
    };

    fn register(history: &[(u64, Option<u64>, Register)]) -> Verdict {
        let operation = |(called, returned, what): &(u64, Option<u64>, Register)| Operation {
            called: *called,
            returned: *returned,
            what: what.clone(),
        };
        check(&history.iter().map(operation).collect::<Vec<_>>(), STEPS)
    }

    #[test]
    fn histories_of_a_register() {
        use Register::{Read, Write};
        let good = [
            vec![(0, Some(1), Write(1)), (2, Some(3), Read(1))],
            // Concurrent with the write, a read may see either.
            vec![
                (0, Some(10), Write(1)),
                (1, Some(2), Read(0)),
                (3, Some(4), Read(1)),
            ],
            // A write that nobody heard of takes effect late, or never.
            vec![(0, None, Write(1)), (1, Some(2), Read(0)), (3, Some(4), Read(1))],
            vec![(0, None, Write(1)), (1, Some(2), Read(0)), (3, Some(4), Read(0))],
        ];
        for history in &good {
            assert_eq!(register(history), Verdict::Linearizable, "{history:?}");
        }
        let bad = [
            // A stale read.
            vec![(0, Some(1), Write(1)), (2, Some(3), Read(0))],
            // Back again.
            vec![
                (0, Some(10), Write(1)),
                (1, Some(2), Read(1)),
                (3, Some(4), Read(0)),
            ],
            // A value that nobody wrote.
            vec![(0, Some(1), Write(1)), (2, Some(3), Read(2))],
            // A lost write.
            vec![
                (0, Some(1), Write(1)),
                (2, Some(3), Write(2)),
                (4, Some(5), Read(1)),
            ],
        ];
        for history in &bad {
            assert_eq!(register(history), Verdict::Not, "{history:?}");
        }
    }

    #[test]
    fn a_search_that_is_too_long_is_given_up_and_not_taken_for_good() {
        let mut history: Vec<_> = (0..20).map(|at| (at, None, Register::Write(at + 1))).collect();
        history.push((100, Some(101), Register::Read(99)));
        assert_eq!(register(&history), Verdict::Undecided);
    }

    /// A token can only be had from a state that grants it.
    fn token(index: u64) -> Token {
        use constellation_cluster::state::{Command, Outcome, Request, State};
        let command = Command::Lease(acquire());
        match State::default()
            .apply(
                index,
                &Request {
                    client: A,
                    sequence: 1,
                    command,
                },
            )
            .outcome
        {
            Outcome::Lease(LeaseOutcome::Granted { token }) => token,
            other => panic!("{other:?}"),
        }
    }

    fn acquire() -> LeaseCommand {
        LeaseCommand::Acquire {
            key: LeaseKey::LbLeader,
            ttl_ms: 1000,
        }
    }

    type Told = (u64, Option<u64>, ClientId, LeaseCommand, Option<LeaseOutcome>);

    fn lease(history: &[Told]) -> Verdict {
        let operation = |(called, returned, client, command, outcome): &Told| Operation {
            called: *called,
            returned: *returned,
            what: LeaseOperation {
                client: *client,
                command: command.clone(),
                outcome: outcome.clone(),
            },
        };
        check(&history.iter().map(operation).collect::<Vec<_>>(), STEPS)
    }

    #[test]
    fn histories_of_a_lease() {
        let granted = |index| Some(LeaseOutcome::Granted { token: token(index) });
        let renew = |index| LeaseCommand::Renew {
            key: LeaseKey::LbLeader,
            token: token(index),
        };
        let renewed = |index| Some(LeaseOutcome::Renewed { token: token(index) });
        let release = |index| LeaseCommand::Release {
            key: LeaseKey::LbLeader,
            token: token(index),
        };
        let expire = |index| LeaseCommand::Expire {
            key: LeaseKey::LbLeader,
            token: token(index),
            renewal: index,
        };
        let first = (0, Some(1), A, acquire(), granted(5));
        let good = [
            vec![
                first.clone(),
                (2, Some(3), A, release(5), Some(LeaseOutcome::Released)),
                (4, Some(5), B, acquire(), granted(7)),
            ],
            // Nobody heard of the expiry, and it explains the second grant.
            vec![
                first.clone(),
                (2, None, B, expire(5), None),
                (4, Some(5), B, acquire(), granted(7)),
            ],
            // The grant was not heard of, and is learned from the refusal.
            vec![
                (0, None, A, acquire(), None),
                (
                    2,
                    Some(3),
                    B,
                    acquire(),
                    Some(LeaseOutcome::Taken {
                        holder: A,
                        token: token(5),
                    }),
                ),
                (4, Some(5), A, renew(5), renewed(5)),
            ],
        ];
        for history in &good {
            assert_eq!(lease(history), Verdict::Linearizable, "{history:?}");
        }
        let bad = [
            // Two holders.
            vec![first.clone(), (2, Some(3), B, acquire(), granted(7))],
            // A token that goes down.
            vec![
                first.clone(),
                (2, Some(3), A, release(5), Some(LeaseOutcome::Released)),
                (4, Some(5), B, acquire(), granted(4)),
            ],
            // Renewed after it was released.
            vec![
                first.clone(),
                (2, Some(3), A, release(5), Some(LeaseOutcome::Released)),
                (4, Some(5), A, renew(5), renewed(5)),
            ],
            // Lost without anything that took it.
            vec![first, (2, Some(3), A, renew(5), Some(LeaseOutcome::NotHeld))],
        ];
        for history in &bad {
            assert_eq!(lease(history), Verdict::Not, "{history:?}");
        }
    }
}
