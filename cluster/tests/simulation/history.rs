//! What clients of one lease saw, for the search of an order that explains it.

use constellation_cluster::lease::{LeaseCommand, LeaseOutcome};
use constellation_cluster::state::ClientId;
use constellation_history::Object;

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
    use constellation_history::{Operation, Verdict, check};

    use super::LeaseOperation;

    const STEPS: usize = 10_000;
    const A: ClientId = ClientId {
        node: NodeId(1),
        incarnation: 1,
    };
    const B: ClientId = ClientId {
        node: NodeId(2),
        incarnation: 1,
    };

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
