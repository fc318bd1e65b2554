//! What the lease `lb_leader` means here: who answers at the entry points, and whom the others pass clients on to.
//!
//! | `edge.serve` | holder | others |
//! |---|---|---|
//! | `holder`, `edge.standby: relay` | serves, has the virtual addresses | take connections and carry them to the holder |
//! | `holder`, `edge.standby: closed` | the same | refuse |
//! | `every-node` | has the virtual addresses | serve as well |
//!
//! [`Holding`] is told by the lease's loop, [`Standby`] follows who has it; one lock is around both, so that a node never
//! stands by after it was told that it holds.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use constellation_cluster::lease::{BootTime, Held, Token};
use constellation_config::{Edge as Config, Serve, Standby as Behaviour};
use constellation_dataplane::mesh::{Mesh, Role};
use constellation_node::{Actuator, LeaseReport, Previous};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::edge::{Edge, PreviousHolder};
use crate::steering::{GrantError, Steering};

/// How long a node that stands by gets connections without saying so again.
const STANDS_BY: Duration = Duration::from_secs(3);
/// How often it says so.
const SAYS_SO: Duration = Duration::from_secs(1);

/// What acts under the lease of the edge, shared by its loop and by who stands by.
#[derive(Clone)]
pub(super) struct Front(Arc<Shared>);

struct Shared {
    edge: Arc<Edge>,
    steering: Steering,
    mesh: Mesh,
    serve: Serve,
    standby: Behaviour,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Under which grant this node acts.
    acting: Option<Token>,
    /// Until when clients are left without an answer, since an address moves.
    silent_until: Option<BootTime>,
    /// What went wrong last, so that it is said once.
    failed: Option<String>,
}

impl Front {
    pub(super) fn new(edge: Arc<Edge>, steering: Steering, mesh: Mesh, config: &Config) -> Self {
        Self(Arc::new(Shared {
            edge,
            steering,
            mesh,
            serve: config.serve,
            standby: config.standby,
            state: Mutex::default(),
        }))
    }

    /// For the lease's loop.
    pub(super) fn actuator(&self) -> Box<dyn Actuator> {
        Box::new(Holding(self.clone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self, held: Held, previous: Option<Previous>) -> Result<(), String> {
        let shared = &self.0;
        let mut state = self.state();
        let first = state.acting != Some(held.token());
        let acted = match (shared.serve, first) {
            (Serve::EveryNode, _) => shared
                .edge
                .virtual_ips()
                .acquire(held)
                .map_err(|error| error.to_string()),
            (Serve::Holder, true) => {
                let address = previous.and_then(|previous| previous.address);
                let previous = address.map(|address| PreviousHolder {
                    addresses: vec![address],
                });
                let gained = shared.edge.gained(held, previous.as_ref());
                gained.map_err(|error| error.to_string())
            }
            (Serve::Holder, false) => shared.edge.renewed(held).map_err(|error| error.to_string()),
        };
        acted.inspect_err(|_| self.give_up(&mut state))?;
        state.acting = Some(held.token());
        state.silent_until = None;
        // Not before the kernel knows: whoever comes in between is carried to the node before.
        shared.mesh.set_role(Role::Serve);
        Ok(())
    }

    fn release(&self) -> Result<(), String> {
        let shared = &self.0;
        let mut state = self.state();
        if shared.serve == Serve::EveryNode {
            state.acting = None;
            shared.edge.virtual_ips().release();
            return Ok(());
        }
        let released = shared.edge.release().map_err(|error| error.to_string());
        if released.is_ok() {
            state.acting = None;
            state.silent_until = shared.edge.is_silent_until();
        }
        released
    }

    fn lost(&self) {
        self.give_up(&mut self.state());
    }

    fn give_up(&self, state: &mut State) {
        if state.acting.take().is_none() {
            return;
        }
        match self.0.serve {
            Serve::EveryNode => self.0.edge.virtual_ips().release(),
            Serve::Holder => {
                self.0.edge.lost();
                state.silent_until = self.0.edge.is_silent_until();
            }
        }
    }

    /// This node does not hold the edge, and `holder` does.
    fn stand_by(&self, holder: &str) {
        let shared = &self.0;
        let mut state = self.state();
        let now = BootTime::now();
        let silent = state
            .silent_until
            .is_some_and(|until| until.remaining(now).is_some());
        if state.acting.is_some() || silent {
            return;
        }
        // Before the kernel gives it connections.
        shared.mesh.set_role(Role::Relay { node: holder.into() });
        match shared.steering.stand_by(now + STANDS_BY) {
            Ok(()) | Err(GrantError::Holding { .. }) => state.failed = None,
            Err(error) => {
                let error = error.to_string();
                if state.failed.as_ref() != Some(&error) {
                    tracing::warn!(
                        error,
                        "clients that come here are not carried to the holder of the edge"
                    );
                    state.failed = Some(error);
                }
            }
        }
    }

    /// Follows who holds the lease, and passes clients on to that node, until it is stopped. Ends what was kept for open
    /// connections in time.
    pub(super) async fn follow(
        self,
        mut lease: watch::Receiver<LeaseReport>,
        own: String,
        stop: CancellationToken,
    ) {
        let relays = self.0.serve == Serve::Holder && self.0.standby == Behaviour::Relay;
        loop {
            let holder = lease.borrow_and_update().holder.clone();
            if let Some(holder) = holder.filter(|holder| relays && *holder != own) {
                self.stand_by(&holder);
            }
            let wait = self
                .0
                .edge
                .tend()
                .map_or(SAYS_SO, |due| due.clamp(Duration::from_millis(10), SAYS_SO));
            let before = lease.borrow().holder.clone();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                changed = lease.wait_for(|now| now.holder != before) => if changed.is_err() { return },
            }
        }
    }
}

/// Is told by the lease's loop.
struct Holding(Front);

type Told<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Actuator for Holding {
    fn held(&mut self, held: Held, previous: Option<Previous>) -> Told<'_, Result<(), String>> {
        Box::pin(ready(self.0.held(held, previous)))
    }

    fn release(&mut self, _to: Option<Previous>) -> Told<'_, Result<(), String>> {
        Box::pin(ready(self.0.release()))
    }

    fn lost(&mut self) -> Told<'_, ()> {
        self.0.lost();
        Box::pin(ready(()))
    }
}
