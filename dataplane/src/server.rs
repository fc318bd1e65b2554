//! Starts the workers and stops them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use socket2::Socket;
use tokio::sync::{mpsc, watch};

use crate::Published;
use crate::access_log::AccessLog;
use crate::health::HealthChecker;
use crate::health::log::Log;
use crate::http::Edge;
use crate::l4::udp::Entrance;
use crate::listener::{self, Inherited};
use crate::liveness::Workers;
use crate::metrics::Metrics;
use crate::settings::{Protocol, Settings};
use crate::worker::{Signals, Worker};

/// A running data plane. Dropping it without [`DataPlane::drain`] cuts every connection.
#[derive(Debug)]
pub struct DataPlane {
    bound: Vec<(Arc<str>, SocketAddr)>,
    /// What to leave to a successor: every listening socket, with the name of its entry point.
    sockets: Vec<(Arc<str>, Socket)>,
    /// `true` lets the workers accept.
    open: watch::Sender<bool>,
    /// `true` asks the workers to drain; a dropped sender asks them to end at once.
    stop: watch::Sender<bool>,
    /// Every worker reports how many connections it had to cut.
    cut: mpsc::UnboundedReceiver<usize>,
    threads: Vec<JoinHandle<()>>,
    workers: Workers,
    health: HealthChecker,
    changes: watch::Receiver<u64>,
}

/// Why the data plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error(
        "entry point {entry_point}: cannot listen on {address}: {source}; {hint}. Free the address or change {key}"
    )]
    Bind {
        /// Name of the entry point.
        entry_point: Arc<str>,
        /// The address.
        address: SocketAddr,
        /// The configuration key to change.
        key: Arc<str>,
        /// Who holds the port, or what else stands in the way.
        hint: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A thread or its runtime could not be made.
    #[error(
        "cannot start worker {worker}: {source}; check the limits on threads and open files of this process"
    )]
    Worker {
        /// Number of the worker, from 0.
        worker: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// A listening socket could not be kept for a successor.
    #[error("cannot duplicate a listening socket: {0}; check the limit on open files of this process")]
    Sockets(io::Error),
    /// The kernel refused what every UDP entry point needs.
    #[error("cannot start the UDP entry points: {0}; check the limit on open files of this process")]
    Udp(io::Error),
    /// The thread of the health checks or its runtime could not be made.
    #[error(
        "cannot start the health checks: {0}; check the limits on threads and open files of this process"
    )]
    Health(io::Error),
    /// The client side towards back ends could not be made.
    #[error(
        "cannot load the certificate authorities of this system, which verify https back ends; check the files that \
         SSL_CERT_FILE and SSL_CERT_DIR name"
    )]
    CertificateAuthorities,
}

impl DataPlane {
    /// Binds every address that no inherited socket serves, then starts one thread per worker. Nothing listens when an
    /// error is returned, except where a predecessor does.
    ///
    /// With inherited sockets nothing is accepted before [`DataPlane::accept`]: what comes waits in their queues, or is
    /// still served by whoever else has them.
    pub fn start(
        settings: Settings,
        inherited: Inherited,
        published: Published,
        metrics: Arc<Metrics>,
        access_log: AccessLog,
    ) -> Result<Self, StartError> {
        // pingora would install another provider; whoever came first stays, and both are sound.
        if rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .is_err()
        {
            tracing::debug!("a TLS provider was installed before");
        }
        let (open, opening) = watch::channel(inherited.is_empty());
        let listeners = listener::bind_all(&settings, inherited)?;
        let workers = Workers::new(settings.workers.get());
        let mut bound = Vec::new();
        let mut kept = Vec::new();
        let mut of_workers: Vec<Vec<(usize, Socket)>> = (0..workers.total()).map(|_| Vec::new()).collect();
        for listener in listeners {
            let Some(entry_point) = settings.entry_points.get(listener.entry_point) else {
                continue;
            };
            bound.push((entry_point.name.clone(), listener.address));
            for (number, socket) in listener.sockets.into_iter().enumerate() {
                // A UDP client has to stay with the socket of its session, whichever CPU its datagrams come to.
                if let Some(cpu) = settings.cpu_of(number % workers.total())
                    && entry_point.protocol == Protocol::Tcp
                    && let Err(error) = socket.set_cpu_affinity(cpu)
                {
                    tracing::warn!(%error, cpu, "a listener can't prefer the connections of a CPU");
                }
                let copy = socket.try_clone().map_err(StartError::Sockets)?;
                kept.push((entry_point.name.clone(), copy));
                if let Some(sockets) = of_workers.get_mut(number % workers.total()) {
                    sockets.push((listener.entry_point, socket));
                }
            }
        }
        let log = Arc::<Log>::default();
        let changes = log.changes();
        let checked = (published.clone(), metrics.clone(), log.clone());
        let edge = Arc::new(Edge::new(settings, published, metrics, access_log, log));
        let entrances = Entrance::all(&edge).map_err(StartError::Udp)?;
        let (stop, stopping) = watch::channel(false);
        let (report, cut) = mpsc::unbounded_channel();
        let mut prepared = Vec::with_capacity(workers.total());
        for (number, sockets) in of_workers.into_iter().enumerate() {
            prepared.push(Worker::prepare(
                number,
                edge.clone(),
                &entrances,
                sockets,
                Signals {
                    opening: opening.clone(),
                    stopping: stopping.clone(),
                },
                report.clone(),
                workers.clone(),
            )?);
        }
        let (published, metrics, log) = checked;
        // Before the workers, of which none runs when this fails.
        let health = HealthChecker::start(published, metrics, log)?;
        let mut threads = Vec::with_capacity(workers.total());
        for worker in prepared {
            let number = worker.number();
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || worker.run())
                .map_err(|source| StartError::Worker {
                    worker: number,
                    source,
                })?;
            threads.push(thread);
        }
        Ok(Self {
            bound,
            sockets: kept,
            open,
            stop,
            cut,
            threads,
            workers,
            health,
            changes,
        })
    }

    /// Entry point name and address of every listener, with the real port where 0 was asked for.
    pub fn bound(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.bound
    }

    /// Accepts from now on. Changes nothing where that is so already.
    pub fn accept(&self) {
        self.open.send_replace(true);
    }

    /// Every listening socket with the name of its entry point, for a process that replaces this one
    /// ([`Inherited`]). A socket that lives on there keeps its queue, so that nobody is refused in between.
    pub fn sockets(&self) -> io::Result<Vec<(Arc<str>, OwnedFd)>> {
        let copies = self.sockets.iter().map(|(name, socket)| {
            let copy = socket.try_clone()?;
            Ok((name.clone(), copy.into()))
        });
        copies.collect()
    }

    /// Whether the workers are all there.
    pub fn workers(&self) -> Workers {
        self.workers.clone()
    }

    /// Changes whenever something else is known of an endpoint: a check, an ejection, a breaker. What time alone does is not
    /// told ([`constellation_table::View::next_change`]).
    pub fn health_changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Stops accepting, lets requests finish, ends at the drain deadline at the latest. Returns how many connections
    /// had to be cut.
    pub async fn drain(mut self) -> usize {
        // Else clients would wait in queues that nobody empties.
        self.sockets.clear();
        // Without receivers there is no worker left to tell.
        self.stop.send_replace(true);
        let mut cut = 0;
        while let Some(count) = self.cut.recv().await {
            cut += count;
        }
        for thread in std::mem::take(&mut self.threads) {
            // The thread has reported and is at its end; a panic in it was logged by its hook.
            if thread.join().is_err() {
                tracing::error!("a worker thread ended in a panic");
            }
        }
        // Last: requests that finish, and retry, go by what the checks say.
        self.health.stop().await;
        cut
    }
}
