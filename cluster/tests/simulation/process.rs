//! What a process does when it is woken or answered: it asks the crate's parts, and does what they say, with a pause between
//! any two steps if the world wants one.

use std::time::Duration;

use constellation_cluster::lease::{Candidate, Held, HolderState, Standing, Step};
use constellation_cluster::state::{ClientId, Command, Outcome, Request};

use crate::bug::{Bug, stale_due};
use crate::counts::Violation;
use crate::event::Event;
use constellation_history::Operation;

use crate::history::LeaseOperation;
use crate::network::arrivals;
use crate::node::{Effect, MARGIN, Node, Waiting};
use crate::world::World;

impl World {
    /// Does what a process decided, one thing after the other; it may be stopped before each.
    pub(crate) fn act(&mut self, node: usize, effects: Vec<Effect>) -> Result<(), Violation> {
        self.nodes[node].unfinished.extend(effects);
        self.finish(node)
    }

    pub(crate) fn finish(&mut self, node: usize) -> Result<(), Violation> {
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

    pub(crate) fn effect(&mut self, node: usize, effect: Effect) -> Result<(), Violation> {
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
    pub(crate) fn accepts(&self, node: usize, held: Held, too_long: Duration) -> (u64, u64) {
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

    pub(crate) fn arrivals(&mut self, from: usize) -> Vec<u64> {
        let connected = self.nodes[from].connected(self.time);
        let delays = arrivals(&mut self.rng, self.calm);
        if connected { delays } else { Vec::new() }
    }

    pub(crate) fn wake(&mut self, node: usize) -> Result<(), Violation> {
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

    pub(crate) fn answered(
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
    pub(crate) fn candidates(&self, viewer: usize) -> Vec<Candidate> {
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
}
