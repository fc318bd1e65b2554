//! The holder's side of one lease, in one process: until when it may act, and what to ask when.
//!
//! Asks nothing itself: [`Holder::poll`] says what to propose, and whoever proposed it brings the outcome back under
//! the same [`Attempt`]. Time counts from when `poll` said so, however often the proposal is sent.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{BootTime, Held, LeaseCommand, LeaseKey, LeaseOutcome, Leases, Timing, Token};
use crate::bug::{self, Bug};
use crate::state::ClientId;

/// Attempts whose outcome is still waited for. The oldest is given up for a new one.
const MAX_ATTEMPTS: usize = 16;

/// One lease as seen by a process that wants it, has it, or lets go of it.
#[derive(Clone, Debug)]
pub struct Holder {
    key: LeaseKey,
    me: ClientId,
    timing: Timing,
    phase: Phase,
    wish: Wish,
    /// The greatest token that was let go of or lost. Nothing is taken up under it or an earlier one any more: an answer
    /// may come late, and the state that this node has applied may be behind.
    ended: Option<Token>,
    next_ask: Option<BootTime>,
    next_attempt: u64,
    attempts: BTreeMap<Attempt, Asked>,
}

/// Names a proposal, to bring its outcome back by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(u64);

/// What to propose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// To bring the outcome back by.
    pub attempt: Attempt,
    /// For the log. If it is sent again, then under the same sequence number.
    pub command: LeaseCommand,
}

/// What a holder is doing, for status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolderState {
    /// Has not got it.
    Without,
    /// It is this process's in the log. Whether it may act is for [`Holder::held`] to say.
    Holding(Token),
    /// Has stopped acting, and waits for the log to hear of it.
    Leaving(Token),
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Without,
    Holding {
        token: Token,
        deadline: Option<BootTime>,
    },
    Leaving {
        token: Token,
        to: Option<ClientId>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Takes what it is given.
    Open,
    /// Asks for it.
    Wanted,
    /// Takes nothing.
    Refused,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    at: BootTime,
    /// The token that a renewal, release or transfer was about.
    token: Option<Token>,
}

impl Holder {
    /// A process that has not got the lease and does not want it.
    #[must_use]
    pub fn new(key: LeaseKey, me: ClientId, timing: Timing) -> Self {
        Self {
            key,
            me,
            timing,
            phase: Phase::Without,
            wish: Wish::Open,
            ended: None,
            next_ask: None,
            next_attempt: 0,
            attempts: BTreeMap::new(),
        }
    }

    /// Asks for the lease, with the next [`Holder::poll`] and then five times in each of its lives, until it is granted or
    /// another has it. Nothing while it is held.
    pub fn want(&mut self) {
        if !matches!(self.phase, Phase::Holding { .. }) {
            self.wish = Wish::Wanted;
        }
    }

    /// Releases the lease if it is held, and refuses it from here on, also if an attempt is granted late, until
    /// [`Holder::want`] or [`Holder::welcome`]. From now on nothing may be done under it: the caller takes back what it gave to actuators before
    /// it sends what `poll` says next.
    pub fn leave(&mut self) {
        self.wish = Wish::Refused;
        self.depart(None);
    }

    /// Takes up the lease again if another gives it to this process; says nothing of asking for it.
    pub fn welcome(&mut self) {
        if self.wish == Wish::Refused {
            self.wish = Wish::Open;
        }
    }

    /// Lets go of the lease in favour of another process, with the same duty of the caller as [`Holder::leave`]. Asks for
    /// it no more if it is not held.
    pub fn hand_over(&mut self, to: ClientId) {
        self.wish = Wish::Open;
        self.depart(Some(to).filter(|to| *to != self.me));
    }

    /// Lets go of nothing, and renews no more: what acts may act until the deadline, so the lease has to run out. Refuses it as
    /// [`Holder::leave`] does.
    pub fn abandon(&mut self) {
        self.wish = Wish::Refused;
        if let Phase::Holding { token, .. } = self.phase {
            self.phase = Phase::Without;
            self.ended(token);
        }
    }

    fn depart(&mut self, to: Option<ClientId>) {
        if let Phase::Holding { token, .. } = self.phase {
            self.phase = Phase::Leaving { token, to };
            self.ended(token);
        }
    }

    /// Nothing that was asked before counts any more.
    fn ended(&mut self, token: Token) {
        self.ended = self.ended.max(Some(token));
        self.next_ask = None;
        self.attempts.clear();
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> HolderState {
        match self.phase {
            Phase::Without => HolderState::Without,
            Phase::Holding { token, .. } => HolderState::Holding(token),
            Phase::Leaving { token, .. } => HolderState::Leaving(token),
        }
    }

    /// What to act with at `now`; nothing past the deadline, before the first answer, or once it lets go.
    pub fn held(&self, now: BootTime) -> Option<Held> {
        match self.phase {
            Phase::Holding {
                token,
                deadline: Some(deadline),
            } => deadline.remaining(now).map(|_| Held::new(token, deadline)),
            _ => None,
        }
    }

    /// What to propose at `now`, if anything. `now` is read before the call, and the proposal is sent after it.
    pub fn poll(&mut self, now: BootTime) -> Option<Proposal> {
        if self.next_ask.is_some_and(|next| next > now) {
            return None;
        }
        let key = self.key.clone();
        let (token, command) = match self.phase {
            Phase::Without if self.wish != Wish::Wanted => return None,
            Phase::Without => {
                let ttl_ms = u32::try_from(self.timing.ttl().as_millis()).unwrap_or(u32::MAX);
                (None, LeaseCommand::Acquire { key, ttl_ms })
            }
            Phase::Holding { token, .. } => (Some(token), LeaseCommand::Renew { key, token }),
            Phase::Leaving { token, to: None } => (Some(token), LeaseCommand::Release { key, token }),
            Phase::Leaving { token, to: Some(to) } => {
                (Some(token), LeaseCommand::Transfer { key, token, to })
            }
        };
        self.next_ask = Some(now + self.timing.renew_every());
        let attempt = Attempt(self.next_attempt);
        self.next_attempt += 1;
        if self.attempts.len() >= MAX_ATTEMPTS {
            self.attempts.pop_first();
        }
        self.attempts.insert(attempt, Asked { at: now, token });
        Some(Proposal { attempt, command })
    }

    /// How long from `now` until [`Holder::poll`] has something to say; nothing while it waits for nothing.
    #[must_use]
    pub fn next_poll(&self, now: BootTime) -> Option<Duration> {
        let idle = matches!(self.phase, Phase::Without) && self.wish != Wish::Wanted;
        (!idle).then(|| {
            self.next_ask
                .and_then(|next| next.remaining(now))
                .unwrap_or_default()
        })
    }

    /// What an attempt came to. Late ones, repeated ones and such as are about an earlier grant change nothing.
    pub fn answered(&mut self, attempt: Attempt, outcome: &LeaseOutcome) {
        let Some(asked) = self.attempts.remove(&attempt) else {
            return;
        };
        match (outcome, self.phase) {
            (LeaseOutcome::Granted { token }, Phase::Without) => self.granted(*token, Some(asked.at)),
            (
                LeaseOutcome::Renewed { token },
                Phase::Holding {
                    token: mine,
                    deadline,
                },
            ) if *token == mine => {
                let renewed = self.deadline(asked.at);
                let deadline = Some(deadline.map_or(renewed, |deadline| deadline.max(renewed)));
                self.phase = Phase::Holding {
                    token: mine,
                    deadline,
                };
            }
            // The answer to an acquisition of this very process was lost.
            (LeaseOutcome::Taken { holder, token }, Phase::Without) if *holder == self.me => {
                self.granted(*token, None);
            }
            (LeaseOutcome::Taken { .. }, Phase::Without) if self.wish == Wish::Wanted => {
                self.wish = Wish::Open;
            }
            (
                LeaseOutcome::NotHeld | LeaseOutcome::Released | LeaseOutcome::Transferred { .. },
                Phase::Holding { token, .. } | Phase::Leaving { token, .. },
            ) if asked.token == Some(token) => {
                self.phase = Phase::Without;
                self.ended(token);
            }
            _ => {}
        }
    }

    /// What this node has applied says who holds the lease. A grant that another process made in favour of this one is
    /// taken up here; it gives no deadline, so nothing is done under it before the first renewal is answered.
    pub fn observe(&mut self, leases: &Leases) {
        let lease = leases.get(&self.key).filter(|lease| lease.holder == self.me);
        if let (Some(lease), Phase::Without) = (lease, self.phase) {
            self.granted(lease.token, None);
        }
    }

    /// Until when this process acts by what it asked for at `asked` and got.
    fn deadline(&self, asked: BootTime) -> BootTime {
        if bug::is(Bug::LongDeadline) {
            return asked + self.timing.held_for() * 5;
        }
        asked + self.timing.held_for()
    }

    /// `asked` is when the attempt was made that was granted; nothing if that is not known.
    fn granted(&mut self, token: Token, asked: Option<BootTime>) {
        if self.ended >= Some(token) {
            return;
        }
        let unwanted = match self.wish {
            Wish::Wanted => false,
            Wish::Refused => true,
            // Asked for by this process, and not wanted any more; or given to it by another.
            Wish::Open => asked.is_some(),
        };
        if unwanted {
            self.phase = Phase::Leaving { token, to: None };
            self.ended(token);
            return;
        }
        self.wish = Wish::Open;
        self.next_ask = asked.map(|at| at + self.timing.renew_every());
        self.phase = Phase::Holding {
            token,
            deadline: asked.map(|at| self.deadline(at)),
        };
    }
}

#[cfg(test)]
mod tests;
