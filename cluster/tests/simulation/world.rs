//! The world: what happens when, and what goes wrong.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use constellation_cluster::lease::{Candidate, Held, HolderState, LeaseCommand, LeaseKey, Standing, Step};
use constellation_cluster::state::{Applied, ClientId, Command, Outcome, Request, State};
use fastrand::Rng;

use crate::history::{LeaseOperation, Operation, Verdict, check};
use crate::log::Log;
use crate::network::{MS, arrivals};
use crate::node::{Clock, Effect, MARGIN, MAX_PPM, Node, Process, TTL, Waiting};
use crate::oracle::Oracle;

const SECOND: u64 = 1_000 * MS;
/// How long nothing goes wrong at the end: who should hold the leases has to by then.
const CALM: u64 = 12 * SECOND;
/// An election is as slow as the timers of a local network make it.
const ELECTION: std::ops::RangeInclusive<u64> = 150 * MS..=600 * MS;
const STEPS: usize = 20_000;

pub(crate) type Violation = String;

/// A rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// Expiry compares the token only.
    ExpiryIgnoresRenewal,
    /// The holder counts from when the answer came.
    DeadlineFromAnswer,
    /// A leader goes on with the times of when it led before.
    TimerKeepsItsTimes,
    /// The holder takes no margin.
    NoMargin,
    /// The holder says that it lets go before it stops.
    ReleasesBeforeItStops,
}

impl Bug {
    /// Each with what has to be said of it.
    pub(crate) const ALL: [(Self, &str); 5] = [
        (Self::ExpiryIgnoresRenewal, "after its last renewal"),
        (Self::DeadlineFromAnswer, "accepts under token"),
        (Self::TimerKeepsItsTimes, "after its last renewal"),
        (Self::NoMargin, "accepts under token"),
        (Self::ReleasesBeforeItStops, "accepts under token"),
    ];
}

macro_rules! counts {
    ($($name:ident),*) => {
        /// What happened, to see that it did.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub(crate) struct Counts { $(pub(crate) $name: u64),* }

        impl Counts {
            pub(crate) fn add(&mut self, other: &Self) { $(self.$name += other.$name;)* }

            pub(crate) fn named(&self) -> Vec<(&'static str, u64)> { vec![$((stringify!($name), self.$name)),*] }
        }
    };
}

counts!(
    grants,
    renewals,
    releases,
    transfers,
    expiries,
    void_expiries,
    refusals,
    stale,
    repetitions,
    elections,
    pauses,
    crashes,
    isolations,
    kernel_writes,
    late_kernel_writes,
    histories
);

#[derive(Debug)]
enum Event {
    Wake(usize),
    /// The rest of what a process was doing when it was stopped.
    Resume(usize),
    Request {
        to: usize,
        from: usize,
        request: Request,
    },
    Answer {
        to: usize,
        client: ClientId,
        sequence: u64,
        outcome: Outcome,
    },
    Commit {
        term: u64,
        index: usize,
    },
    Apply {
        node: usize,
        index: usize,
    },
    StepDown {
        node: usize,
        term: u64,
    },
    Elect {
        term: u64,
    },
    Trouble,
    Calm,
    End,
}

struct Queued(u64, u64, Event);

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

pub(crate) struct World {
    rng: Rng,
    bug: Bug,
    trace: bool,
    time: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    calm: bool,
    keys: Vec<LeaseKey>,
    nodes: Vec<Node>,
    log: Log,
    /// What every node has once it has applied what is committed.
    truth: State,
    oracle: Oracle,
    counts: Counts,
    /// By sequence of sending: the operations, with who waits for which.
    history: Vec<(ClientId, u64, Operation<LeaseOperation>)>,
}

impl World {
    pub(crate) fn new(seed: u64, bug: Bug, trace: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut keys = vec![LeaseKey::LbLeader];
        if rng.bool() {
            keys.push(LeaseKey::service("db").expect("a name"));
        }
        let origin = Instant::now();
        let nodes: Vec<_> = (0..rng.usize(2..=5))
            .map(|id| Node {
                id,
                clock: Clock::new(rng.i64(-MAX_PPM..=MAX_PPM), rng.u64(0..1_000 * SECOND), origin),
                paused_until: 0,
                sleeps: false,
                isolated_until: 0,
                draining: false,
                priority: rng.u32(1..=3) * 50,
                process: Process::new(id, 1, &keys),
                unfinished: VecDeque::new(),
            })
            .collect();
        let leader = rng.usize(0..nodes.len());
        let mut world = Self {
            rng,
            bug,
            trace,
            time: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            calm: false,
            keys,
            nodes,
            log: Log::new(leader),
            truth: State::default(),
            oracle: Oracle::default(),
            counts: Counts::default(),
            history: Vec::new(),
        };
        world.begin_term();
        for node in 0..world.nodes.len() {
            let start = world.rng.u64(0..100 * MS);
            world.after(start, Event::Wake(node));
        }
        let active = world.rng.u64(10 * SECOND..=25 * SECOND);
        world.after(SECOND, Event::Trouble);
        world.after(active, Event::Calm);
        world
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.queued += 1;
        self.queue
            .push(Reverse(Queued(self.time + delay, self.queued, event)));
    }

    fn log(&self, text: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>12.6} {}", self.time as f64 / 1e6, text());
        }
    }

    /// Runs to the end: what happened, or the first thing that must not.
    pub(crate) fn run(mut self) -> Result<Counts, Violation> {
        while let Some(Reverse(Queued(time, _, event))) = self.queue.pop() {
            self.time = time;
            if matches!(event, Event::End) {
                break;
            }
            self.handle(event)
                .map_err(|violation| format!("at {} us: {violation}", self.time))?;
        }
        self.settled()?;
        self.linearizable()?;
        Ok(self.counts)
    }

    fn handle(&mut self, event: Event) -> Result<(), Violation> {
        let of = match &event {
            Event::Wake(node) | Event::Resume(node) => Some(*node),
            Event::Request { to, .. } | Event::Answer { to, .. } => Some(*to),
            Event::Apply { node, .. } | Event::StepDown { node, .. } => Some(*node),
            Event::Commit { .. } => Some(self.log.leader),
            Event::Elect { .. } | Event::Trouble | Event::Calm | Event::End => None,
        };
        if let Some(node) = of {
            // Who does not run hears of it afterwards; what it was doing comes first.
            let resumes = self.nodes[node].paused_until;
            if resumes > self.time {
                self.after((resumes - self.time).min(SECOND), event);
                return Ok(());
            }
            let network = !matches!(event, Event::Wake(_) | Event::Resume(_));
            if network && !self.nodes[node].connected(self.time) {
                if !matches!(event, Event::Request { .. } | Event::Answer { .. }) {
                    let until = self.nodes[node].isolated_until;
                    self.after((until - self.time).min(SECOND), event);
                }
                return Ok(());
            }
            self.finish(node)?;
            if self.nodes[node].paused_until > self.time {
                let resumes = self.nodes[node].paused_until;
                self.after((resumes - self.time).min(SECOND), event);
                return Ok(());
            }
        }
        match event {
            Event::Wake(node) => self.wake(node)?,
            Event::Resume(_) | Event::End => {}
            Event::Request { to, from, request } => self.receive(to, from, request),
            Event::Answer {
                to,
                client,
                sequence,
                outcome,
            } => self.answered(to, client, sequence, &outcome)?,
            Event::Commit { term, index } => self.commit(term, index)?,
            Event::Apply { node, index } => self.apply(node, index)?,
            Event::StepDown { node, term } => {
                let process = &mut self.nodes[node].process;
                if process.leads == Some(term) && term < self.log.term {
                    process.leads = None;
                    process.timer.follow();
                }
            }
            Event::Elect { term } if term == self.log.term => self.elect(),
            Event::Elect { .. } => {}
            Event::Trouble => self.trouble(),
            Event::Calm => {
                self.calm = true;
                for node in &mut self.nodes {
                    node.draining = false;
                    let resumes = node.paused_until.min(self.time + SECOND);
                    if node.sleeps {
                        node.clock.suspended -= node.paused_until - resumes;
                    }
                    node.paused_until = resumes;
                    node.isolated_until = node.isolated_until.min(self.time);
                }
                self.after(CALM, Event::End);
            }
        }
        Ok(())
    }

    /// Does what a process decided, one thing after the other; it may be stopped before each.
    fn act(&mut self, node: usize, effects: Vec<Effect>) -> Result<(), Violation> {
        self.nodes[node].unfinished.extend(effects);
        self.finish(node)
    }

    fn finish(&mut self, node: usize) -> Result<(), Violation> {
        while !self.nodes[node].unfinished.is_empty() {
            if !self.calm && self.rng.u32(0..2_000) == 0 {
                let pause = self.pause(node);
                self.log(|| format!("node {node} stopped for {pause} us before it acts"));
                self.after(pause, Event::Resume(node));
                return Ok(());
            }
            if let Some(effect) = self.nodes[node].unfinished.pop_front() {
                self.effect(node, effect)?;
            }
        }
        Ok(())
    }

    fn effect(&mut self, node: usize, effect: Effect) -> Result<(), Violation> {
        self.log(|| format!("node {node}: {effect:?}"));
        match effect {
            Effect::Kernel { key, held, too_long } => {
                let accepts = held.map(|held| self.accepts(node, held, too_long));
                self.counts.kernel_writes += 1;
                if accepts.is_some_and(|(_, until)| until <= self.time) {
                    self.counts.late_kernel_writes += 1;
                }
                self.oracle.kernel(self.time, &key, node, accepts)?;
            }
            Effect::Send(request) => {
                // Whom it thinks leads is right mostly; others do not answer.
                let guess = self.rng.usize(0..self.nodes.len());
                let to = if !self.calm && self.rng.u32(0..20) == 0 {
                    guess
                } else {
                    self.log.leader
                };
                if let Command::Lease(command) = &request.command {
                    let what = LeaseOperation {
                        client: request.client,
                        command: command.clone(),
                        outcome: None,
                    };
                    let operation = Operation {
                        called: self.time,
                        returned: None,
                        what,
                    };
                    self.history.push((request.client, request.sequence, operation));
                }
                for delay in self.arrivals(node) {
                    self.after(
                        delay,
                        Event::Request {
                            to,
                            from: node,
                            request: request.clone(),
                        },
                    );
                }
            }
            Effect::Append { term, request } => {
                if let Command::Lease(command) = &request.command {
                    let what = LeaseOperation {
                        client: request.client,
                        command: command.clone(),
                        outcome: None,
                    };
                    let operation = Operation {
                        called: self.time,
                        returned: None,
                        what,
                    };
                    self.history.push((request.client, request.sequence, operation));
                }
                self.append(term, request);
            }
            Effect::Answer {
                to,
                client,
                sequence,
                outcome,
            } => {
                for delay in self.arrivals(node) {
                    self.after(
                        delay,
                        Event::Answer {
                            to,
                            client,
                            sequence,
                            outcome: outcome.clone(),
                        },
                    );
                }
            }
        }
        Ok(())
    }

    /// Under which token this node's kernel accepts, and until when in true time.
    fn accepts(&self, node: usize, held: Held, too_long: Duration) -> (u64, u64) {
        let more = match self.bug {
            Bug::NoMargin => MARGIN,
            Bug::DeadlineFromAnswer => too_long,
            _ => Duration::ZERO,
        };
        (
            held.token().get(),
            self.nodes[node].clock.when(held.deadline() + more),
        )
    }

    fn arrivals(&mut self, from: usize) -> Vec<u64> {
        let connected = self.nodes[from].connected(self.time);
        let delays = arrivals(&mut self.rng, self.calm);
        if connected { delays } else { Vec::new() }
    }

    fn append(&mut self, term: u64, request: Request) {
        if self.log.append(term, request) {
            let index = self.log.last();
            let delay = if self.calm || self.rng.u32(0..10) > 0 {
                self.rng.u64(500..4 * MS)
            } else {
                self.rng.u64(4 * MS..400 * MS)
            };
            self.after(delay, Event::Commit { term, index });
        }
    }

    fn receive(&mut self, to: usize, from: usize, request: Request) {
        let process = &mut self.nodes[to].process;
        if let Some(term) = process.leads {
            process.asked_by.insert((request.client, request.sequence), from);
            self.append(term, request);
        }
    }

    fn commit(&mut self, term: u64, index: usize) -> Result<(), Violation> {
        let committed = self.log.commit(term, index);
        for index in committed.clone() {
            if let Some(request) = self.log.get(index).request.clone() {
                let applied = apply(self.bug, &mut self.truth, index, &request);
                self.log(|| {
                    format!(
                        "committed {index}: {} {:?} -> {:?}",
                        request.client, request.command, applied.outcome
                    )
                });
                self.oracle
                    .committed(self.time, &request, &applied, &mut self.counts)?;
            }
        }
        if !committed.is_empty() {
            for node in 0..self.nodes.len() {
                let slow = !self.calm && self.rng.u32(0..20) == 0;
                let delay = match (node == self.log.leader, slow) {
                    (true, false) => self.rng.u64(10..MS),
                    (false, false) => self.rng.u64(500..60 * MS),
                    (_, true) => self.rng.u64(60 * MS..900 * MS),
                };
                self.after(
                    delay,
                    Event::Apply {
                        node,
                        index: *committed.end(),
                    },
                );
            }
        }
        Ok(())
    }

    fn apply(&mut self, node: usize, index: usize) -> Result<(), Violation> {
        let time = self.time;
        let bug = self.bug;
        let mut effects = Vec::new();
        let Node { clock, process, .. } = &mut self.nodes[node];
        let now = clock.monotonic(time);
        while process.applied < index {
            process.applied += 1;
            let entry = self.log.get(process.applied);
            let mut touched = None;
            if let Some(request) = &entry.request {
                let applied = apply(bug, &mut process.state, process.applied, request);
                touched = applied.lease;
                let asked = (request.client, request.sequence);
                if let Some(to) = process.asked_by.remove(&asked) {
                    let (client, sequence) = asked;
                    effects.push(Effect::Answer {
                        to,
                        client,
                        sequence,
                        outcome: applied.outcome,
                    });
                }
            }
            process
                .timer
                .applied(now, entry.term, touched.as_ref(), process.state.leases());
            if process.leads.is_some()
                && let Some(key) = touched
            {
                process.stale_timer.insert(key, now);
            }
        }
        self.act(node, effects)
    }

    fn wake(&mut self, node: usize) -> Result<(), Violation> {
        let (time, bug) = (self.time, self.bug);
        let candidates = self.candidates(node);
        let draining = self.nodes[node].draining;
        let Node { clock, process, .. } = &mut self.nodes[node];
        let (boot, now) = (clock.boot(time), clock.monotonic(time));
        let mut effects = Vec::new();
        if let Some(term) = process.leads {
            let due = if bug == Bug::TimerKeepsItsTimes {
                stale_due(process, now)
            } else {
                process.timer.due(now)
            };
            for command in due {
                let request = Request {
                    client: process.client,
                    sequence: process.next_sequence(),
                    command: Command::Lease(command),
                };
                effects.push(Effect::Append { term, request });
            }
        }
        for site in 0..process.sites.len() {
            let one = &mut process.sites[site];
            one.holder.observe(process.state.leases());
            let holder = process.state.leases().get(&one.key).map(|lease| lease.holder);
            one.placement.observe(now, &candidates, holder);
            match one.placement.step(now, process.client) {
                Step::Stay => {}
                Step::Acquire => one.holder.want(),
                Step::HandOver(to) => one.holder.hand_over(to),
                Step::Release => one.holder.leave(),
            }
            if draining {
                one.holder.leave();
            } else {
                one.holder.welcome();
            }
            let mut told = vec![Effect::Kernel {
                key: one.key.clone(),
                held: one.holder.held(boot),
                too_long: one.too_long,
            }];
            let leaving = matches!(one.holder.state(), HolderState::Leaving(_));
            if let Some(proposal) = one.holder.poll(boot) {
                process.waiting.retain(|_, waiting| {
                    waiting.site != site || boot.as_nanos() - waiting.asked.as_nanos() < 5_000_000_000
                });
                let sequence = process.next_sequence();
                process.waiting.insert(
                    sequence,
                    Waiting {
                        site,
                        attempt: proposal.attempt,
                        asked: boot,
                    },
                );
                let command = Command::Lease(proposal.command);
                told.push(Effect::Send(Request {
                    client: process.client,
                    sequence,
                    command,
                }));
            }
            if bug == Bug::ReleasesBeforeItStops && leaving {
                told.reverse();
            }
            effects.extend(told);
        }
        self.act(node, effects)?;
        let next = self.nodes[node].next_wake(time) - time;
        self.after(next, Event::Wake(node));
        Ok(())
    }

    fn answered(
        &mut self,
        node: usize,
        client: ClientId,
        sequence: u64,
        outcome: &Outcome,
    ) -> Result<(), Violation> {
        let time = self.time;
        let Node { clock, process, .. } = &mut self.nodes[node];
        if process.client != client {
            return Ok(());
        }
        let (Outcome::Lease(outcome), Some(waiting)) = (outcome, process.waiting.remove(&sequence)) else {
            return Ok(());
        };
        let operation = self
            .history
            .iter_mut()
            .rev()
            .find(|(who, number, _)| (*who, *number) == (client, sequence));
        if let Some((_, _, operation)) = operation {
            operation.returned = Some(time);
            operation.what.outcome = Some(outcome.clone());
        }
        let boot = clock.boot(time);
        let site = &mut process.sites[waiting.site];
        let before = site.holder.held(waiting.asked);
        site.holder.answered(waiting.attempt, outcome);
        if site.holder.held(waiting.asked) != before {
            site.too_long = boot.remaining(waiting.asked).unwrap_or_default();
        }
        let held = site.holder.held(boot);
        // One that counts from the answer goes by that alone.
        let held = if self.bug == Bug::DeadlineFromAnswer {
            site.holder.held(waiting.asked)
        } else {
            held
        };
        let effect = Effect::Kernel {
            key: site.key.clone(),
            held,
            too_long: site.too_long,
        };
        self.act(node, vec![effect])
    }

    /// What gossip would tell this node: who does not answer is found gone after a while.
    fn candidates(&self, viewer: usize) -> Vec<Candidate> {
        let time = self.time;
        let reachable = |node: &Node| {
            node.id == viewer
                || (self.nodes[viewer].connected(time) && node.runs(time) && node.connected(time))
        };
        let candidate = |node: &Node| Candidate {
            client: node.process.client,
            priority: node.priority,
            standing: match (reachable(node), node.draining) {
                (false, _) => Standing::Gone,
                (true, true) => Standing::Leaving,
                (true, false) => Standing::Ready,
            },
        };
        self.nodes.iter().map(candidate).collect()
    }

    fn begin_term(&mut self) {
        let (leader, term, index) = (self.log.leader, self.log.term, self.log.last());
        let process = &mut self.nodes[leader].process;
        process.leads = Some(term);
        process.timer.lead(term);
        self.after(2 * MS, Event::Commit { term, index });
    }

    fn elect(&mut self) {
        let able: Vec<_> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].runs(self.time) && self.nodes[*node].connected(self.time))
            .collect();
        if able.len() * 2 <= self.nodes.len() {
            let delay = self.rng.u64(ELECTION);
            self.after(delay, Event::Elect { term: self.log.term });
            return;
        }
        let (old, term) = (self.log.leader, self.log.term);
        let leader = able[self.rng.usize(0..able.len())];
        self.log.elect(leader, &mut self.rng);
        self.counts.elections += 1;
        self.log(|| format!("node {leader} leads term {} after node {old}", self.log.term));
        if leader != old {
            let delay = self.rng.u64(0..300 * MS);
            self.after(delay, Event::StepDown { node: old, term });
        }
        self.begin_term();
    }

    /// Stops a node's process, or the machine, for up to a minute; an election follows if it led.
    fn pause(&mut self, node: usize) -> u64 {
        let pause = match self.rng.u32(0..10) {
            0..6 => self.rng.u64(10 * MS..1_500 * MS),
            6..9 => self.rng.u64(SECOND..=5 * SECOND),
            _ => self.rng.u64(5 * SECOND..=60 * SECOND),
        };
        self.counts.pauses += 1;
        self.nodes[node].paused_until = self.time + pause;
        self.nodes[node].sleeps = self.rng.u32(0..4) == 0;
        if self.nodes[node].sleeps {
            self.nodes[node].clock.suspended += pause;
        }
        self.lost(node, pause);
        pause
    }

    /// A leader that is not heard of for this long is replaced.
    fn lost(&mut self, node: usize, silence: u64) {
        let patience = self.rng.u64(ELECTION);
        if node == self.log.leader && silence > patience {
            self.after(patience, Event::Elect { term: self.log.term });
        }
    }

    fn trouble(&mut self) {
        if self.calm {
            return;
        }
        let node = self.rng.usize(0..self.nodes.len());
        let next = self.rng.u64(100 * MS..2 * SECOND);
        self.after(next, Event::Trouble);
        if !self.nodes[node].runs(self.time) {
            return;
        }
        match self.rng.u32(0..10) {
            0..3 => {
                let pause = self.pause(node);
                self.log(|| format!("node {node} stopped for {pause} us"));
            }
            3..5 => {
                let isolation = self.rng.u64(100 * MS..6 * SECOND);
                self.log(|| format!("node {node} isolated for {isolation} us"));
                self.counts.isolations += 1;
                self.nodes[node].isolated_until = self.time + isolation;
                self.lost(node, isolation);
            }
            5 => self.crash(node),
            6..8 => {
                let draining = &mut self.nodes[node].draining;
                *draining = !*draining;
                self.log(|| format!("node {node} draining: {}", self.nodes[node].draining));
            }
            _ => self.after(0, Event::Elect { term: self.log.term }),
        }
    }

    /// The process dies and starts again with what its disk has; its kernel goes on with what it was told.
    fn crash(&mut self, node: usize) {
        self.log(|| format!("node {node} crashes"));
        self.counts.crashes += 1;
        let down = self.rng.u64(100 * MS..3 * SECOND);
        let incarnation = self.nodes[node].process.client.incarnation + 1;
        let mut process = Process::new(node, incarnation, &self.keys);
        // As much of the log as it knew to be committed is applied again at the start.
        for index in 1..=self.nodes[node].process.applied {
            if let Some(request) = &self.log.get(index).request {
                apply(self.bug, &mut process.state, index, request);
            }
            process.applied = index;
        }
        self.nodes[node].process = process;
        self.nodes[node].unfinished.clear();
        self.nodes[node].paused_until = self.time + down;
        self.nodes[node].sleeps = false;
        if node == self.log.leader {
            let patience = self.rng.u64(ELECTION);
            self.after(patience, Event::Elect { term: self.log.term });
        }
    }

    /// After the calm each lease is with a node of the best priority, and the kernel of that one alone accepts.
    fn settled(&self) -> Result<(), Violation> {
        let best = self.nodes.iter().map(|node| node.priority).min();
        for key in &self.keys {
            let accepting = self.oracle.accepting(self.time, key);
            let [node] = accepting[..] else {
                return Err(format!(
                    "{key}: after {CALM} us without trouble the kernels of nodes {accepting:?} accept"
                ));
            };
            if Some(self.nodes[node].priority) != best {
                return Err(format!(
                    "{key}: node {node} of priority {} has it after {CALM} us without trouble, expected {best:?}",
                    self.nodes[node].priority
                ));
            }
        }
        let applied: Vec<_> = self
            .nodes
            .iter()
            .filter(|node| node.process.applied == self.log.committed())
            .collect();
        match applied.iter().find(|node| node.process.state != self.truth) {
            Some(node) => Err(format!(
                "node {} has another state at index {}",
                node.id,
                self.log.committed()
            )),
            None => Ok(()),
        }
    }

    fn linearizable(&mut self) -> Result<(), Violation> {
        for key in &self.keys {
            let of_key = self.history.iter().map(|(_, _, operation)| operation);
            // A renewal that nobody heard of changes nothing that another could see here.
            let told = of_key.filter(|operation| {
                operation.what.command.key() == key
                    && (operation.returned.is_some()
                        || !matches!(operation.what.command, LeaseCommand::Renew { .. }))
            });
            match check(&told.cloned().collect::<Vec<_>>(), STEPS) {
                Verdict::Linearizable => self.counts.histories += 1,
                Verdict::Undecided => {}
                Verdict::Not => return Err(format!("{key}: what the clients saw has no order")),
            }
        }
        Ok(())
    }
}

/// Applies a request; with the bug, an expiry takes whatever renewal there is.
fn apply(bug: Bug, state: &mut State, index: usize, request: &Request) -> Applied {
    let mut request = request.clone();
    if bug == Bug::ExpiryIgnoresRenewal
        && let Command::Lease(LeaseCommand::Expire { key, renewal, .. }) = &mut request.command
        && let Some(lease) = state.leases().get(key)
    {
        *renewal = lease.renewal;
    }
    state.apply(index as u64, &request)
}

/// What a leader would expire that goes on with the times of an earlier term.
fn stale_due(process: &mut Process, now: Instant) -> Vec<LeaseCommand> {
    let mut due = Vec::new();
    for (key, lease) in process.state.leases().iter() {
        let since = process.stale_timer.entry(key.clone()).or_insert(now);
        if now.saturating_duration_since(*since) >= TTL {
            *since = now;
            due.push(LeaseCommand::Expire {
                key: key.clone(),
                token: lease.token,
                renewal: lease.renewal,
            });
        }
    }
    due
}
