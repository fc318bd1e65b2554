//! How requests get into the log, and from there to the nodes; and who leads.

use constellation_cluster::state::Request;

use crate::bug::apply;
use crate::counts::Violation;
use crate::event::Event;
use crate::network::MS;
use crate::node::{Effect, Node};
use crate::world::{ELECTION, World};

impl World {
    pub(crate) fn append(&mut self, term: u64, request: Request) {
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

    pub(crate) fn receive(&mut self, to: usize, from: usize, request: Request) {
        let process = &mut self.nodes[to].process;
        if let Some(term) = process.leads {
            process.asked_by.insert((request.client, request.sequence), from);
            self.append(term, request);
        }
    }

    pub(crate) fn commit(&mut self, term: u64, index: usize) -> Result<(), Violation> {
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

    pub(crate) fn apply(&mut self, node: usize, index: usize) -> Result<(), Violation> {
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

    pub(crate) fn begin_term(&mut self) {
        let (leader, term, index) = (self.log.leader, self.log.term, self.log.last());
        let Node { clock, process, .. } = &mut self.nodes[leader];
        process.leads = Some(term);
        process
            .timer
            .lead(clock.monotonic(self.time), term, process.state.leases());
        self.after(2 * MS, Event::Commit { term, index });
    }

    pub(crate) fn elect(&mut self) {
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
}
