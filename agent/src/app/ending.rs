//! The end of a node: requests finish, what it holds is let go of, and every task ends before the process does.

use std::sync::Arc;
use std::time::Duration;

use super::Node;
use super::signals::Signals;
use crate::cli::{Exit, Failure};
use crate::control::ControlServer;
use crate::systemd;

/// How long the last lines of the access log may take.
const ACCESS_LOG_FLUSH: Duration = Duration::from_secs(2);

impl Node {
    /// Says that the node is going, lets requests finish, then ends every task. A second signal ends it at once.
    pub(super) async fn drain(self, mut signals: Signals) -> Result<(), Failure> {
        let shutdown = self.config.shutdown;
        tracing::info!(accept_grace = ?shutdown.accept_grace, drain = ?shutdown.drain, "draining");
        systemd::stopping(shutdown.accept_grace + shutdown.drain);
        self.draining.cancel();
        let (steering, guard, chase) = (self.steering.clone(), self.guard.clone(), self.chase.clone());
        let edge = Arc::clone(&self.edge);
        let outcome = tokio::select! {
            () = self.end(shutdown.accept_grace, false) => {
                tracing::info!("stopped");
                Ok(())
            }
            () = signals.stop() => Err(Failure::new(Exit::Failure, "a second signal cut the drain short")),
        };
        // Also when the drain was cut short.
        edge.end();
        steering.detach();
        guard.detach();
        chase.detach();
        outcome
    }

    /// Drains and ends every task. With a successor, that one answers commands from now on.
    pub(super) async fn end(mut self, accept_grace: Duration, succeeded: bool) {
        // Else callers would wait in a queue that nobody empties.
        drop(self.control_socket);
        drop(self.provider_socket);
        if succeeded && let Some(provider) = self.provider_server.take() {
            provider.stop().await;
        }
        let mut control = Some(self.control);
        if succeeded {
            drop((self.runtime_file.take(), self.token_file.take()));
            stop(control.take()).await;
        }
        // Others take the leases over while this node still answers.
        self.cluster.stop(true).await;
        tokio::time::sleep(accept_grace).await;
        if systemd::keeps_sockets() {
            // What comes from now on waits for the next process, in the queues that the service manager holds.
            self.steering.detach();
        } else {
            self.steering.revoke();
        }
        let cut = self.data_plane.drain().await;
        // Before anything says that this process has ended: what nobody renews refuses whoever has the addresses next.
        self.steering.detach();
        if !succeeded {
            self.edge.end();
        }
        // To the end of the drain: what is under way is worth guarding.
        self.guard.detach();
        self.chase.detach();
        if cut > 0 {
            tracing::warn!(connections = cut, "the drain time is over: connections were cut");
        }
        self.publishing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.reading.cancel();
        for (provider, source) in self.sources {
            if let Err(error) = source.task.await {
                tracing::error!(source = provider, %error, "the source ended badly");
            }
        }
        if let Some(writer) = self.access_log_writer {
            let stopped = tokio::task::spawn_blocking(move || writer.stop(ACCESS_LOG_FLUSH)).await;
            if !matches!(stopped, Ok(true)) {
                tracing::warn!("the access log may lack its last lines");
            }
        }
        if let Some(provider) = self.provider_server {
            provider.stop().await;
        }
        // Health answers until the very end.
        stop(control).await;
        drop(self.runtime_file);
        drop(self.token_file);
    }
}

async fn stop(control: Option<ControlServer>) {
    if let Some(control) = control {
        control.stop().await;
    }
}
