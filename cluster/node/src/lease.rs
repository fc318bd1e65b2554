//! One lease of a running node: asks for it, keeps it, hands it over, and tells an [`Actuator`] what it may do.
//!
//! What to do is decided by [`Holder`] and [`Placement`]; this loop carries time, gossip and the log to them and their
//! proposals to the cluster. Its order is the rule that makes a lease safe: whatever acts is stopped before the log hears
//! that the lease is let go of, and nothing is told to act without a [`Held`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use constellation_cluster::lease::{
    Attempt, BootTime, Candidate, Damping, Held, Holder, HolderState, LeaseKey, LeaseOutcome, Placement,
    Standing, Step, Timing, Token,
};
use constellation_cluster::raft::{Consensus as _, Role};
use constellation_cluster::state::{ClientId, Command, Outcome, Wish};
use constellation_gossip::View;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::core::{ApplyError, Core};
use crate::expiry::wait;

/// What acts under a lease. Calls come one after the other.
pub trait Actuator: Send + 'static {
    /// The lease is held, or held for longer: act until its deadline and not a moment longer. Called at the grant and after every
    /// renewal. `previous`: who gave it to this node, with the first call of a grant, if it came from hand to hand.
    ///
    /// # Errors
    /// In words, when this node can't act under it, and does not: the lease is let go of, and not asked for again for a while.
    fn held(
        &mut self,
        held: Held,
        previous: Option<Previous>,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>>;

    /// Stop, because the lease is about to be let go of in an orderly way: when this returns, nothing acts any more and
    /// the next may begin. `to`: who that will be, if that is known.
    ///
    /// # Errors
    /// In words, when something may act still: the lease is not let go of, but left to run out.
    fn release(
        &mut self,
        to: Option<Previous>,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>>;

    /// Stop: the deadline has passed, or somebody else has it.
    fn lost(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The node on the other side of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Its name.
    pub node: String,
    /// Its address among the nodes.
    pub address: Option<std::net::IpAddr>,
}

/// How a lease is asked for and kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseSettings {
    /// How long it lasts.
    pub timing: Timing,
    /// How slow it is to move.
    pub damping: Damping,
}

/// How a lease stands at this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseReport {
    /// Which.
    pub key: String,
    /// Who has it, by name, as this node has applied it.
    pub holder: Option<String>,
    /// The token of that grant.
    pub token: Option<u64>,
    /// Whether this node has it and may act.
    pub mine: bool,
    /// How long yet, in milliseconds, where it is this node's.
    pub remaining_ms: Option<u64>,
    /// How often another one has had it than before, seen from here.
    pub changes: u64,
    /// How often this node's request about it was refused.
    pub refusals: u64,
    /// How often this node had it and could not keep it.
    pub losses: u64,
}

/// How many may wait to hear that this node has a lease.
const MAX_CONFIRMATIONS: usize = 64;

/// An order to a lease loop.
pub(crate) enum Order {
    /// Hand over to that process.
    HandOver(ClientId, oneshot::Sender<Result<(), String>>),
    /// Hand over to the next process of this node, which takes over what acts as it is: nothing is stopped.
    Bequeath(ClientId, oneshot::Sender<Result<(), String>>),
}

/// Somebody who wants to know whether a lease that is let go of is the other's.
struct Waiting {
    to: ClientId,
    /// Whether the log said so.
    transferred: bool,
    answer: oneshot::Sender<Result<(), String>>,
}

impl Waiting {
    fn new(to: ClientId, answer: oneshot::Sender<Result<(), String>>) -> Self {
        Self {
            to,
            transferred: false,
            answer,
        }
    }

    /// It is this node's no more; `holder` has it, as far as this node has applied.
    fn end(self, holder: Option<ClientId>) {
        let given = self.transferred || holder == Some(self.to);
        let outcome = given.then_some(()).ok_or_else(|| {
            "it had run out before it could be given to that node: see who has it with `constellation lease`".to_owned()
        });
        // Whoever asked may have gone.
        drop(self.answer.send(outcome));
    }
}

/// What a loop needs.
pub(crate) struct Task {
    pub(crate) core: Arc<Core>,
    pub(crate) key: LeaseKey,
    pub(crate) settings: LeaseSettings,
    /// Lower is preferred.
    pub(crate) priority: u32,
    /// Whether this node can hold it.
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) views: watch::Receiver<Arc<View>>,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) report: watch::Sender<LeaseReport>,
    /// Lets go of it and ends.
    pub(crate) stop: CancellationToken,
}

/// For how long a node that could not act asks for nothing.
const UNFIT: Duration = Duration::from_secs(10);

/// What was last told to the actuator.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Held(Held),
}

type Answers = JoinSet<(Attempt, Result<Outcome, ApplyError>)>;

impl Task {
    /// Runs until it is stopped, and then until the lease is let go of, at most for one of its lives.
    pub(crate) async fn run(mut self, mut actuator: Box<dyn Actuator>) {
        let me = self.core.client;
        let timing = self.settings.timing;
        let mut holder = Holder::new(self.key.clone(), me, timing);
        let mut placement = Placement::new(self.settings.damping);
        let mut told = Told::Nothing;
        let mut answers = Answers::new();
        let mut log = self.core.raft.watch();
        let mut waiting: Option<Waiting> = None;
        // Who wants to know that this node has it: once it may act, which it learns after the grant.
        let mut confirmations: Vec<oneshot::Sender<Result<(), String>>> = Vec::new();
        let mut previous: Option<ClientId> = None;
        let mut stopping: Option<tokio::time::Instant> = None;
        // Until when this node asks for nothing, since it could not act.
        let mut unfit: Option<Instant> = None;
        // Who gets whatever this process has, once it was named.
        let mut heir: Option<ClientId> = None;
        loop {
            log.borrow_and_update();
            self.views.borrow_and_update();
            let now = Instant::now();
            if unfit.take_if(|until| *until <= now).is_some() {
                holder.welcome();
            }
            let (current, candidates) = self.look(&mut holder, unfit.is_none());
            self.told_of(current, &mut previous);
            placement.observe(now, &candidates, current.map(|(client, _)| client));
            if stopping.is_some() {
                if holder.state() == HolderState::Without {
                    return;
                }
            } else {
                match placement.step(now, me) {
                    Step::Stay => {}
                    Step::Acquire => holder.want(),
                    Step::HandOver(to) => {
                        self.let_go(&mut holder, &mut *actuator, &mut told, Some(to))
                            .await
                    }
                    Step::Release => self.let_go(&mut holder, &mut *actuator, &mut told, None).await,
                }
            }
            self.act(&mut holder, &mut *actuator, &mut told, previous, &mut unfit)
                .await;
            if let Some(waits) = waiting.take_if(|_| holder.state() == HolderState::Without) {
                waits.end(current.map(|(client, _)| client));
            }
            let mine = current.is_some_and(|(client, _)| client == me);
            if holder.held(BootTime::now()).is_some() {
                confirmations
                    .drain(..)
                    .for_each(|answer| drop(answer.send(Ok(()))));
            } else if !mine {
                let refused = || Err("that node does not hold it".to_owned());
                confirmations
                    .drain(..)
                    .for_each(|answer| drop(answer.send(refused())));
            }
            if let Some(proposal) = holder.poll(BootTime::now()) {
                let core = Arc::clone(&self.core);
                let within = timing.ttl();
                answers.spawn(async move {
                    let outcome = core.apply(Command::Lease(proposal.command), within).await;
                    (proposal.attempt, outcome)
                });
            }
            self.tell(&holder, current);
            let next = self.next(&holder, told, current.is_none());
            tokio::select! {
                () = self.stop.cancelled(), if stopping.is_none() => {
                    stopping = Some(tokio::time::Instant::now() + timing.ttl());
                    let best = candidates
                        .iter()
                        .filter(|one| one.standing == Standing::Ready && one.client != me)
                        .min_by_key(|one| (one.priority, one.client))
                        .map(|one| one.client);
                    if heir.is_some() {
                        // What acts is the heir's.
                        told = Told::Nothing;
                    }
                    self.let_go(&mut holder, &mut *actuator, &mut told, heir.or(best)).await;
                }
                () = wait(stopping) => {
                    tracing::warn!(lease = %self.key, "could not be let go of in time: it ends by itself");
                    return;
                }
                Some(order) = self.orders.recv(), if stopping.is_none() => match order {
                    // Only whoever acts under it knows that it is so: what others have applied may be old.
                    Order::HandOver(to, answer) if to == me && confirmations.len() < MAX_CONFIRMATIONS => {
                        confirmations.push(answer);
                    }
                    Order::HandOver(_, answer) if matches!(holder.state(), HolderState::Leaving(_)) => {
                        drop(answer.send(Err("it is being given to another node at this moment: try again".to_owned())));
                    }
                    Order::HandOver(to, answer) => match refusal(&candidates, current, me, to) {
                        Some(refusal) => drop(answer.send(Err(refusal))),
                        None => {
                            self.let_go(&mut holder, &mut *actuator, &mut told, Some(to)).await;
                            waiting = Some(Waiting::new(to, answer));
                        }
                    },
                    Order::Bequeath(to, answer) => {
                        heir = Some(to);
                        // It may have come a moment ago.
                        self.core.read(|state| holder.observe(state.leases()));
                        // What acts goes on under the deadline that it has; the heir renews under a token of its own.
                        told = Told::Nothing;
                        self.let_go(&mut holder, &mut *actuator, &mut told, Some(to)).await;
                        waiting = Some(Waiting::new(to, answer));
                    }
                },
                Some(answer) = answers.join_next() => self.answered(&mut holder, answer, &mut waiting),
                changed = log.changed() => if changed.is_err() { break },
                Ok(()) = self.views.changed() => {}
                Ok(()) = self.ready.changed() => {}
                () = wait(next) => {}
            }
        }
        // The log has ended: nothing can be renewed.
        if told != Told::Nothing {
            actuator.lost().await;
        }
    }

    /// What the log and gossip say.
    fn look(&mut self, holder: &mut Holder, fit: bool) -> (Option<(ClientId, Token)>, Vec<Candidate>) {
        let view = Arc::clone(&self.views.borrow());
        let (ready, own) = (*self.ready.borrow() && fit, self.core.client);
        self.core.read(|state| {
            holder.observe(state.leases());
            let current = state
                .leases()
                .get(&self.key)
                .map(|lease| (lease.holder, lease.token));
            let candidate = |(name, entry): (
                &constellation_identity::NodeName,
                &constellation_cluster::state::Entry,
            )| {
                if entry.member.role == Role::Witness {
                    return None;
                }
                let standing = |can: bool| match (entry.wish, can) {
                    (Wish::Serve, true) => Standing::Ready,
                    _ => Standing::Leaving,
                };
                if entry.id == own.node {
                    return Some(Candidate {
                        client: own,
                        priority: self.priority,
                        standing: standing(ready),
                    });
                }
                let peer = view.peers.get(name)?;
                let metadata = peer.metadata.as_ref()?;
                // Gossip may still speak of a life that is over.
                let over = state
                    .incarnation(entry.id)
                    .is_some_and(|latest| latest > peer.generation);
                (!over).then_some(Candidate {
                    client: ClientId {
                        node: entry.id,
                        incarnation: peer.generation,
                    },
                    priority: metadata.priority,
                    standing: standing(metadata.standing == constellation_gossip::Standing::Serving),
                })
            };
            (current, state.roster().nodes().filter_map(candidate).collect())
        })
    }

    /// Lets go in favour of somebody: what acts has stopped before the log is asked.
    async fn let_go(
        &self,
        holder: &mut Holder,
        actuator: &mut dyn Actuator,
        told: &mut Told,
        to: Option<ClientId>,
    ) {
        if !matches!(holder.state(), HolderState::Holding(_)) {
            return;
        }
        if std::mem::replace(told, Told::Nothing) != Told::Nothing
            && let Err(error) = actuator.release(to.map(|to| self.named(to))).await
        {
            tracing::error!(lease = %self.key, error, "what acts under it can't be stopped: it is left to run out");
            holder.abandon();
            return;
        }
        match to {
            Some(to) => holder.hand_over(to),
            None => {
                holder.leave();
                holder.welcome();
            }
        }
    }

    /// Tells the actuator what changed.
    async fn act(
        &self,
        holder: &mut Holder,
        actuator: &mut dyn Actuator,
        told: &mut Told,
        previous: Option<ClientId>,
        unfit: &mut Option<Instant>,
    ) {
        match (holder.held(BootTime::now()), *told) {
            (Some(held), Told::Held(before)) if held == before => {}
            (Some(held), before) => {
                let first = !matches!(before, Told::Held(before) if before.token() == held.token());
                if first {
                    tracing::info!(lease = %self.key, token = held.token().get(), "held by this node");
                }
                let previous = previous.filter(|_| first).map(|previous| self.named(previous));
                match actuator.held(held, previous).await {
                    Ok(()) => *told = Told::Held(held),
                    Err(error) => {
                        tracing::error!(
                            lease = %self.key,
                            error,
                            again = ?UNFIT,
                            "this node can't act under it: it is let go of, and not asked for again for a while"
                        );
                        *told = Told::Nothing;
                        *unfit = Some(Instant::now() + UNFIT);
                        holder.leave();
                    }
                }
            }
            (None, Told::Held(before)) => {
                tracing::warn!(
                    lease = %self.key,
                    token = before.token().get(),
                    "lost: it was not renewed in time (no majority, or this process was stopped)"
                );
                self.report.send_modify(|report| report.losses += 1);
                actuator.lost().await;
                *told = Told::Nothing;
            }
            (None, Told::Nothing) => {}
        }
    }

    fn answered(
        &self,
        holder: &mut Holder,
        answer: Result<(Attempt, Result<Outcome, ApplyError>), tokio::task::JoinError>,
        waiting: &mut Option<Waiting>,
    ) {
        match answer {
            Ok((attempt, Ok(Outcome::Lease(outcome)))) => {
                if let (LeaseOutcome::Transferred { .. }, Some(waiting)) = (&outcome, waiting) {
                    waiting.transferred = true;
                }
                if matches!(
                    outcome,
                    LeaseOutcome::Taken { .. } | LeaseOutcome::NotHeld | LeaseOutcome::Full
                ) {
                    self.report.send_modify(|report| report.refusals += 1);
                }
                holder.answered(attempt, &outcome);
            }
            Ok((_, Ok(other))) => {
                tracing::error!(lease = %self.key, ?other, "an answer about something else")
            }
            Ok((_, Err(error))) => tracing::debug!(lease = %self.key, %error, "not answered"),
            Err(error) => tracing::error!(lease = %self.key, %error, "a proposal ended badly"),
        }
    }

    /// When there is something to do without anything having happened.
    fn next(&self, holder: &Holder, told: Told, free: bool) -> Option<tokio::time::Instant> {
        let now = BootTime::now();
        let poll = holder.next_poll(now);
        let deadline = match told {
            Told::Held(held) => Some(held.remaining(now).unwrap_or_default()),
            Told::Nothing => None,
        };
        // A place in the queue for what is free, or a better node that has settled, comes with time alone.
        let look = Some(if free {
            Duration::from_millis(50)
        } else {
            Duration::from_secs(1)
        });
        let soonest = [poll, deadline, look].into_iter().flatten().min()?;
        Some(tokio::time::Instant::now() + soonest)
    }

    fn told_of(&self, current: Option<(ClientId, Token)>, previous: &mut Option<ClientId>) {
        let holder = current.map(|(client, _)| self.named(client).node);
        let token = current.map(|(_, token)| token.get());
        let before = self.report.borrow().token;
        if before == token {
            return;
        }
        let mine = current.is_some_and(|(client, _)| client == self.core.client);
        // From hand to hand, or not: one that ran out was of somebody who is gone. And what an earlier process of this node had
        // is here already.
        if !mine {
            *previous = current
                .map(|(client, _)| client)
                .filter(|client| client.node != self.core.client.node);
        }
        self.report.send_modify(|report| {
            if token.is_some() {
                report.changes += 1;
            }
            report.holder = holder;
            report.token = token;
        });
    }

    fn tell(&self, holder: &Holder, current: Option<(ClientId, Token)>) {
        let now = BootTime::now();
        let remaining = holder.held(now).and_then(|held| held.remaining(now));
        self.report.send_if_modified(|report| {
            let mine = remaining.is_some() && current.is_some();
            let remaining = remaining.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            let changed = report.mine != mine;
            report.mine = mine;
            report.remaining_ms = remaining;
            changed
        });
    }

    fn named(&self, client: ClientId) -> Previous {
        let known = self.core.whereabouts(client.node);
        let name = known.map(|(name, _)| name);
        let view = self.views.borrow();
        let address = name
            .as_ref()
            .and_then(|name| view.peers.get(name))
            .map(|peer| peer.address.ip());
        Previous {
            node: name.map_or_else(|| format!("node {}", client.node), |name| name.to_string()),
            address,
        }
    }
}

/// Why a lease can't be handed over to that process.
fn refusal(
    candidates: &[Candidate],
    current: Option<(ClientId, Token)>,
    me: ClientId,
    to: ClientId,
) -> Option<String> {
    match current {
        Some((holder, _)) if holder == me => {}
        Some((holder, _)) => return Some(format!("node {} holds it now", holder.node)),
        None => return Some("nobody holds it now".to_owned()),
    }
    if to == me {
        return Some("too many ask for the same: try again".to_owned());
    }
    match candidates.iter().find(|one| one.client == to) {
        Some(one) if one.standing == Standing::Ready => None,
        Some(_) => Some("that node is cordoned, draining or not ready: uncordon it first".to_owned()),
        None => Some("that node is not heard of now".to_owned()),
    }
}
