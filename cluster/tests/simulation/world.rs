//! The world: its nodes, its time, and what happens next.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Instant;

use constellation_cluster::lease::LeaseKey;
use constellation_cluster::state::{ClientId, State};
use fastrand::Rng;

use crate::bug::Bug;
use crate::counts::{Counts, Violation};
use crate::event::{Event, Queued};
use constellation_history::Operation;

use crate::history::LeaseOperation;
use crate::log::Log;
use crate::network::MS;
use crate::node::{Clock, MAX_PPM, Node, Process};
use crate::oracle::Oracle;

pub(crate) const SECOND: u64 = 1_000 * MS;
/// How long nothing goes wrong at the end: who should hold the leases has to by then.
pub(crate) const CALM: u64 = 12 * SECOND;
/// An election is as slow as the timers of a local network make it.
pub(crate) const ELECTION: std::ops::RangeInclusive<u64> = 150 * MS..=600 * MS;

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) bug: Bug,
    pub(crate) trace: bool,
    pub(crate) time: u64,
    pub(crate) queue: BinaryHeap<Reverse<Queued>>,
    pub(crate) queued: u64,
    pub(crate) calm: bool,
    pub(crate) keys: Vec<LeaseKey>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) log: Log,
    /// What every node has once it has applied what is committed.
    pub(crate) truth: State,
    pub(crate) oracle: Oracle,
    pub(crate) counts: Counts,
    /// By sequence of sending: the operations, with who waits for which.
    pub(crate) history: Vec<(ClientId, u64, Operation<LeaseOperation>)>,
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

    pub(crate) fn after(&mut self, delay: u64, event: Event) {
        self.queued += 1;
        self.queue
            .push(Reverse(Queued(self.time + delay, self.queued, event)));
    }

    pub(crate) fn log(&self, text: impl FnOnce() -> String) {
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

    pub(crate) fn handle(&mut self, event: Event) -> Result<(), Violation> {
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
}
