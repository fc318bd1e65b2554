//! What a process takes over from the one before it, and leaves to the one after it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use constellation_cluster::lease::BootTime;
use constellation_config::Config;
use constellation_dataplane::DataPlane;
use constellation_dataplane::mesh::{Mesh, Role};
use tokio::sync::oneshot;

use super::Node;
use super::signals::Signals;
use crate::chase::Chase;
use crate::cli::{Exit, Failure, VERSION};
use crate::guard::Guard;
use crate::handover::{self, Predecessor, Program, ReplaceError, Sockets, Successor};
use crate::kernel::Kernel;
use crate::steering::Steering;
use crate::{runtime_file, systemd};

/// How long new connections are taken between the processes of a node, until the lease says who serves them. What was taken
/// waits for that, and for less long.
const BRIDGE: Duration = Duration::from_secs(3);

/// What an earlier process has left to this one.
#[derive(Default)]
pub(super) struct Inheritance {
    pub(super) sockets: Sockets,
    pub(super) predecessor: Option<Predecessor>,
}

impl Inheritance {
    pub(super) fn find() -> Result<Self, Failure> {
        let met = Predecessor::meet().map_err(|error| {
            let text = format!("cannot take over from the process that started this one: {error}");
            Failure::new(Exit::System, text)
        })?;
        if let Some((predecessor, sockets)) = met {
            return Ok(Self {
                sockets,
                predecessor: Some(predecessor),
            });
        }
        let stored = handover::from_service_manager().unwrap_or_else(|error| {
            tracing::warn!(%error, "the sockets that the service manager passed can't be used; binding new ones");
            Sockets::default()
        });
        Ok(Self {
            sockets: stored,
            predecessor: None,
        })
    }
}

impl Node {
    /// Accepts, tells whoever served until now, and has the service manager keep the sockets.
    pub(super) fn take_over(&mut self) -> Result<(), Failure> {
        if self.predecessor.is_some() {
            self.steering.bridge(BootTime::now() + BRIDGE);
        }
        self.data_plane.accept();
        if let Some(predecessor) = self.predecessor.take() {
            predecessor.serves(VERSION).map_err(|error| {
                let text = format!("the process before this one did not let go: {error}");
                Failure::new(Exit::System, text)
            })?;
            // Not before that one has let go: a successor that fails must leave nothing behind.
            engage(
                &self.kernel,
                &self.steering,
                &self.guard,
                &self.chase,
                &self.config,
                &self.data_plane,
            )?;
            serve_on(&self.steering, &self.mesh);
        }
        match self.sockets() {
            Ok(sockets) => systemd::keep(&sockets, &std::mem::take(&mut self.outdated)),
            Err(error) => tracing::warn!(%error, "the listening sockets can't be stored with systemd"),
        }
        Ok(())
    }

    /// Every listening socket of the node.
    fn sockets(&self) -> std::io::Result<Sockets> {
        let control = self.control_socket.try_clone()?;
        let provider = self.provider_socket.as_ref();
        let provider = provider.map(OwnedFd::try_clone).transpose()?;
        Ok(Sockets::of_node(
            control,
            self.kernel.descriptor()?,
            self.cluster.listener()?,
            provider,
            self.data_plane.sockets()?,
        ))
    }

    /// Starts a successor on a thread of its own, where waiting is allowed.
    pub(super) fn replace(&self, program: &Program) -> Outcome {
        let (sender, outcome) = oneshot::channel();
        let (program, sockets) = (program.clone(), self.sockets());
        let cluster = self.cluster.clone();
        tokio::task::spawn_blocking(move || {
            cluster.remember();
            let outcome = sockets
                .map_err(ReplaceError::from)
                .and_then(|sockets| handover::replace(&program, &sockets, &runtime_file::directory()?));
            if sender.send(outcome).is_err() {
                tracing::debug!("the node ended before its successor served");
            }
        });
        outcome
    }

    /// A successor serves: finishes what this process has begun, and ends.
    pub(super) async fn retire(self, mut signals: Signals, successor: &Successor) -> Result<(), Failure> {
        tracing::info!(pid = successor.pid, version = %successor.version, "a new process serves: draining");
        // The new process waits for it, and for as long as that takes the kernel goes by what this one granted last.
        self.cluster.bequeath().await;
        self.steering.leave();
        self.guard.leave();
        self.chase.leave();
        self.kernel.leave();
        tokio::select! {
            () = self.end(Duration::ZERO, true) => {
                tracing::info!("stopped");
                Ok(())
            }
            () = signals.stop() => Err(Failure::new(Exit::Failure, "a signal cut the drain short")),
        }
    }
}

/// Puts into force what this process uses of the kernel, and clears away what an earlier one left of the rest.
pub(super) fn engage(
    kernel: &Kernel,
    steering: &Steering,
    guard: &Guard,
    chase: &Chase,
    config: &Config,
    data_plane: &DataPlane,
) -> Result<(), Failure> {
    let sockets = data_plane.sockets().map_err(|error| {
        let text = format!("cannot duplicate the listening sockets: {error}; check the limit on open files");
        Failure::new(Exit::System, text)
    })?;
    // First who may come in, then who comes.
    guard.engage(config, data_plane.bound())?;
    // A start that fails leaves nothing in force.
    steering
        .engage(config, &sockets)
        .inspect_err(|_| guard.detach())?;
    chase.engage(config, data_plane.bound());
    kernel.settle(steering.is_active() || guard.is_active() || chase.is_active());
    Ok(())
}

/// What was granted to the process before this one goes on: whoever comes is this node's to serve, before the lease says so
/// once more.
pub(super) fn serve_on(steering: &Steering, mesh: &Mesh) {
    if steering.holds() {
        mesh.set_role(Role::Serve);
    }
}

/// What comes of starting a successor.
pub(super) type Outcome = oneshot::Receiver<Result<Successor, ReplaceError>>;

/// Waits for the outcome, if one is awaited. Cancellation safe.
pub(super) async fn outcome_of(replacing: &mut Option<Outcome>) -> Result<Successor, ReplaceError> {
    match replacing {
        // Without an answer the thread has panicked, and said so.
        Some(outcome) => outcome.await.unwrap_or(Err(ReplaceError::Late)),
        None => std::future::pending().await,
    }
}
