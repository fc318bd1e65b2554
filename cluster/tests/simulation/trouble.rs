//! What goes wrong: pauses of processes and machines, cuts, crashes, drains, elections for no reason.

use crate::bug::apply;
use crate::event::Event;
use crate::network::MS;
use crate::node::Process;
use crate::world::{ELECTION, SECOND, World};

impl World {
    /// Stops a node's process, or the machine, for up to a minute; an election follows if it led.
    pub(crate) fn pause(&mut self, node: usize) -> u64 {
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
    pub(crate) fn lost(&mut self, node: usize, silence: u64) {
        let patience = self.rng.u64(ELECTION);
        if node == self.log.leader && silence > patience {
            self.after(patience, Event::Elect { term: self.log.term });
        }
    }

    pub(crate) fn trouble(&mut self) {
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
    pub(crate) fn crash(&mut self, node: usize) {
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
}
