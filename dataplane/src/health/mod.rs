//! Active health checks: asks the endpoints of services that have `policy.health_check`, whether or not requests come.
//!
//! The checker has a thread and a runtime of its own, so that checks go on while the workers are saturated. It follows
//! the published generation ([`lookout`]): one loop per service and endpoint, which outlives every generation that
//! leaves it as it is. A loop asks ([`target`]: [`web`], [`grpc`] or [`tcp`]), tells the table crate what
//! it found ([`Service::set_checked`]), and waits ([`schedule`]). What counts as healthy after how many checks is
//! decided there, not here.

mod answer;
mod connection;
mod failure;
mod grpc;
pub(crate) mod log;
mod lookout;
mod names;
mod schedule;
mod target;
mod tcp;
#[cfg(test)]
mod tests;
mod web;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pingora_core::connectors::TransportConnector;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::Published;
use crate::liveness::message;
use crate::metrics::{CheckOutcome, Metrics};
use crate::server::StartError;
use connection::Net;
use failure::Failure;
use log::Log;
use lookout::{Lookout, Sink, Subject};
use names::Names;

/// After a panic the checker starts anew this much later.
const REPAIR: Duration = Duration::from_secs(1);

/// The running checker. Dropping it ends its thread soon after, without waiting for it.
#[derive(Debug)]
pub(crate) struct HealthChecker {
    /// Dropped to end the thread.
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

impl HealthChecker {
    /// Starts the thread; checks begin at once.
    pub(crate) fn start(
        published: Published,
        metrics: Arc<Metrics>,
        log: Arc<Log>,
    ) -> Result<Self, StartError> {
        Self::start_with(published, report(metrics, log))
    }

    fn start_with(published: Published, sink: Sink) -> Result<Self, StartError> {
        let prepared = Prepared::new()?;
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("health".to_owned())
            .spawn(move || {
                run(prepared, &published, &sink, stopped);
                // Nobody waits when the data plane was dropped without a drain.
                end.send(()).unwrap_or_default();
            })
            .map_err(StartError::Health)?;
        Ok(Self { stop, ended, thread })
    }

    /// Ends all checks and the thread.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        // An error says that the thread has ended as well, in a panic that its hook has logged.
        self.ended.await.unwrap_or_default();
        if self.thread.join().is_err() {
            tracing::error!("the health checker ended in a panic");
        }
    }
}

/// What can fail at the start.
struct Prepared {
    runtime: Runtime,
    connector: TransportConnector,
}

impl Prepared {
    fn new() -> Result<Self, StartError> {
        // pingora panics on an unusable SSL_CERT_FILE; nothing of ours is in a broken state then.
        let connector = catch_unwind(AssertUnwindSafe(|| TransportConnector::new(None)))
            .map_err(|_| StartError::CertificateAuthorities)?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Health)?;
        Ok(Self { runtime, connector })
    }

    /// Checks until it is told to stop.
    fn serve(self, published: Published, sink: Sink, stopped: &mut oneshot::Receiver<()>) {
        let net = Net {
            connector: self.connector,
            names: Names::new(),
        };
        let lookout = Lookout::new(net, sink);
        self.runtime.block_on(async {
            tokio::select! {
                () = lookout.follow(published) => {}
                // An error: the sender was dropped, which is how it is told.
                _ = stopped => {}
            }
        });
        // A lookup of a name can't be cancelled; nobody waits for it.
        self.runtime.shutdown_background();
    }
}

/// The whole life of the thread. A panic outside of a single check is a defect that must not end all checks for good.
fn run(first: Prepared, published: &Published, sink: &Sink, mut stopped: oneshot::Receiver<()>) {
    let mut prepared = Ok(first);
    loop {
        match prepared {
            Ok(prepared) => {
                let (published, sink) = (published.clone(), sink.clone());
                let serving = AssertUnwindSafe(|| prepared.serve(published, sink, &mut stopped));
                match catch_unwind(serving) {
                    Ok(()) => return,
                    Err(panic) => tracing::error!(
                        "the health checker panicked: {}; it starts again in {REPAIR:?}",
                        message(&*panic)
                    ),
                }
            }
            Err(error) => {
                tracing::error!(%error, "the health checker can't start; it tries again in {REPAIR:?}")
            }
        }
        std::thread::sleep(REPAIR);
        if stopped.try_recv() != Err(TryRecvError::Empty) {
            return;
        }
        prepared = Prepared::new();
    }
}

/// Tells the table crate, the metrics and the log what a check found.
fn report(metrics: Arc<Metrics>, log: Arc<Log>) -> Sink {
    Arc::new(move |subject: &Subject, result: &Result<(), Failure>| {
        let Subject { service, endpoint } = subject;
        let outcome = result
            .as_ref()
            .map_or_else(|failure| failure.outcome, |()| CheckOutcome::Healthy);
        metrics.checked(&service.name, &endpoint.name, outcome);
        let found = match result {
            Ok(()) => Ok(()),
            Err(failure) => {
                tracing::debug!(service = %service.name, endpoint = %endpoint.name, %failure, "a health check failed");
                Err(&*failure.reason)
            }
        };
        let transitions = service.set_checked(endpoint, found, Instant::now());
        log.tell(&metrics, service, &transitions);
        !endpoint.live.fails_checks()
    })
}
