//! What has to be true at the end of a run.

use constellation_cluster::lease::LeaseCommand;

use crate::counts::Violation;
use crate::world::{CALM, World};
use constellation_history::{Verdict, check};

/// How long an order is searched for.
const STEPS: usize = 20_000;

impl World {
    /// After the calm each lease is with a node of the best priority, and the kernel of that one alone accepts.
    pub(crate) fn settled(&self) -> Result<(), Violation> {
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

    pub(crate) fn linearizable(&mut self) -> Result<(), Violation> {
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
