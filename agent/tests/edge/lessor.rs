//! The log, as far as leases see it: proposals are applied in the order in which they come.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use constellation_cluster::lease::{BootTime, Held, Holder, LeaseKey, Timing};
use constellation_cluster::state::{ClientId, Command, NodeId, Outcome, Request, State};

/// What all nodes agree upon. Clones share it.
#[derive(Clone)]
pub(crate) struct Lessor(Arc<Mutex<(u64, State)>>);

/// A node's side of it.
pub(crate) struct Tenant {
    lessor: Lessor,
    me: ClientId,
    holder: Holder,
    sequence: u64,
}

impl Lessor {
    /// With a log that has come as far as this.
    pub(crate) fn at(index: u64) -> Self {
        Self(Arc::new(Mutex::new((index, State::default()))))
    }

    /// A node that may hold the lease for this long.
    pub(crate) fn tenant(&self, node: u64, ttl: Duration) -> Tenant {
        let me = ClientId {
            node: NodeId(node),
            incarnation: 1,
        };
        let timing = Timing::new(ttl, ttl / 10).unwrap();
        Tenant {
            lessor: self.clone(),
            me,
            holder: Holder::new(LeaseKey::LbLeader, me, timing),
            sequence: 0,
        }
    }
}

impl Tenant {
    /// Asks what is to be asked, and hears the answer.
    pub(crate) fn step(&mut self) {
        let mut log = self.lessor.0.lock().unwrap();
        let (index, state) = &mut *log;
        self.holder.observe(state.leases());
        if let Some(proposal) = self.holder.poll(BootTime::now()) {
            *index += 1;
            self.sequence += 1;
            let request = Request {
                client: self.me,
                sequence: self.sequence,
                command: Command::Lease(proposal.command),
            };
            match state.apply(*index, &request).outcome {
                Outcome::Lease(outcome) => self.holder.answered(proposal.attempt, &outcome),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Gets the lease, if it is free.
    pub(crate) fn acquire(&mut self) -> Held {
        self.holder.want();
        self.step();
        self.held().expect("the lease was free")
    }

    /// What to act with now.
    pub(crate) fn held(&self) -> Option<Held> {
        self.holder.held(BootTime::now())
    }

    /// Renews it, when it is time for that.
    pub(crate) fn renew(&mut self) -> Held {
        self.step();
        self.held().expect("the lease is held")
    }

    /// Lets go of it; whoever acted has stopped.
    pub(crate) fn release(&mut self) {
        self.holder.leave();
        self.step();
    }
}
