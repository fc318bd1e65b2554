//! This node's part in a cluster, where `constellation init` or `join` has made it a member of one.
//!
//! [`Cluster`] is the handle that the rest of the agent has. Until the node of the cluster runs, and where there is none, it
//! says so; a node on its own needs nothing of all this. The composition root starts it once nobody else serves for this node,
//! since the replicated log has one owner at a time, and ends it before the process does.
//!
//! What the cluster asks the kernel and the data plane to do is decided in [`constellation_node`]; here are the things that
//! are told.

mod edge;
mod fitness;
mod mesh;
mod metrics;
mod settings;
mod tailscale;
mod telling;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use constellation_cluster::lease::LeaseKey;
use constellation_cluster::raft::{Role, StartError as LogError, StoreFailure};
use constellation_config::{Cluster as Config, Config as WholeConfig, ListenAt, Serve};
use constellation_dataplane::mesh::{Mesh, Role as MeshRole};
use constellation_node::{Home, Identity, Node, StartError};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::edge::Front;
use self::mesh::Ties;
pub use self::metrics::register;
pub use self::settings::{Traits, advertised};
pub use self::telling::Pulse;
use crate::cli::{Exit, Failure};
use crate::edge::Edge;
use crate::peers::Exchange;
use crate::steering::{Authority, Steering};

/// Connections of other nodes that wait to be accepted, also while one process replaces another.
const BACKLOG: i32 = 128;
/// How long the process before this one may take to close the log.
const PREDECESSOR: Duration = Duration::from_secs(10);
/// How often to look whether it has.
const LOOK: Duration = Duration::from_millis(5);

/// The handle. Clones are the same one.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

struct Shared {
    state: RwLock<State>,
    /// Where the cluster's work is done, whoever asks for it.
    runtime: Handle,
    data: PathBuf,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Until the node starts.
    ties: Mutex<Option<Ties>>,
    /// Once the node has started.
    parts: OnceLock<Parts>,
    /// Of the links.
    listener: Mutex<Option<std::net::TcpListener>>,
}

impl Shared {
    fn listener(&self) -> MutexGuard<'_, Option<std::net::TcpListener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the cluster acts upon here.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The virtual addresses, steering and the chase.
    pub edge: Arc<Edge>,
    /// Who may answer.
    pub steering: Steering,
    /// The data plane's place among the others.
    pub mesh: Mesh,
    /// What is told of it.
    pub pulse: Pulse,
}

impl Parts {
    /// This node answers by itself from now on, and knows no others.
    fn serve_alone(&self) {
        self.edge.end();
        self.mesh.set_view(None);
        self.mesh.set_role(MeshRole::Serve);
        if let Err(error) = self.steering.set_authority(Authority::Local) {
            tracing::error!(%error, "this node refuses new connections until it is started anew");
        }
    }
}

#[derive(Clone)]
enum State {
    /// In no cluster.
    Alone,
    /// A member that has not started yet.
    Waiting(Identity),
    /// A member at work.
    Running(Node),
    /// It has stopped.
    Ended(Identity),
}

impl Cluster {
    /// Looks whether this node is a member; starts nothing. To be called within the runtime that will do the work.
    ///
    /// # Errors
    /// When what is on disk can't be read.
    pub fn prepare(data: &Path) -> Result<Self, Failure> {
        let identity = Home::below(data)
            .identity()
            .map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
        Ok(Self(Arc::new(Shared {
            state: RwLock::new(identity.map_or(State::Alone, State::Waiting)),
            runtime: Handle::current(),
            data: data.to_owned(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            ties: Mutex::default(),
            parts: OnceLock::new(),
            listener: Mutex::default(),
        })))
    }

    /// Who this node is in its cluster; `None`: it is in none.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        match self.state() {
            State::Alone => None,
            State::Waiting(identity) | State::Ended(identity) => Some(identity),
            State::Running(node) => Some(node.identity().clone()),
        }
    }

    /// The node at work; `None`: there is none, or not now.
    #[must_use]
    pub fn node(&self) -> Option<Node> {
        match self.state() {
            State::Running(node) => Some(node),
            _ => None,
        }
    }

    /// Binds the port of the links, where this is a member, or takes it from the process before this one: what comes waits there
    /// until the node runs. With a `predecessor` that did not leave it, it is bound when that one has let go.
    ///
    /// # Errors
    /// When it is taken, or the address is not this host's.
    pub fn bind(
        &self,
        config: &Config,
        inherited: Option<std::net::TcpListener>,
        predecessor: bool,
    ) -> Result<(), Failure> {
        let State::Waiting(identity) = self.state() else {
            return Ok(());
        };
        let address = config.raft.or(config.advertise.unwrap_or(identity.advertise));
        let fits =
            |listener: &std::net::TcpListener| listener.local_addr().is_ok_and(|local| local == address);
        if let Some(listener) = inherited.filter(fits) {
            *self.0.listener() = Some(listener);
            return Ok(());
        }
        match self.listen(address) {
            Ok(_) => Ok(()),
            Err(error) if predecessor && error.kind() == std::io::ErrorKind::AddrInUse => Ok(()),
            Err(error) => Err(cannot_listen(config.raft, address, &error)),
        }
    }

    /// The listener of the links once more, to be left to the next process.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn listener(&self) -> std::io::Result<Option<OwnedFd>> {
        let listener = self.0.listener();
        let copy = listener
            .as_ref()
            .map(std::net::TcpListener::try_clone)
            .transpose()?;
        Ok(copy.map(OwnedFd::from))
    }

    /// The listener, bound now if it was not before. It stays open when the node of the cluster ends, until this process does.
    fn listen(&self, address: SocketAddr) -> std::io::Result<TcpListener> {
        let mut kept = self.0.listener();
        let listener = match &*kept {
            Some(listener) => listener.try_clone()?,
            None => {
                let socket = socket2::Socket::new(
                    socket2::Domain::for_address(address),
                    socket2::Type::STREAM,
                    Some(socket2::Protocol::TCP),
                )?;
                socket.set_reuse_address(true)?;
                socket.bind(&address.into())?;
                socket.listen(BACKLOG)?;
                let listener = std::net::TcpListener::from(socket);
                *kept = Some(listener.try_clone()?);
                listener
            }
        };
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    }

    /// Who decides whether this node may answer at the entry points.
    #[must_use]
    pub fn authority(&self, serve: Serve) -> Authority {
        match (self.identity(), serve) {
            (Some(identity), Serve::Holder) => Authority::cluster(identity.cluster.as_bytes()),
            (None, _) | (_, Serve::EveryNode) => Authority::Local,
        }
    }

    /// The publisher's end of what nodes tell each other; `None`: this node is in no cluster.
    #[must_use]
    pub fn exchange(&self, config: &WholeConfig, mesh: &Mesh) -> Option<Exchange> {
        let (exchange, ties) = mesh::tie(config, &self.identity()?, mesh);
        *self.0.ties.lock().unwrap_or_else(PoisonError::into_inner) = Some(ties);
        Some(exchange)
    }

    /// Starts the node where this is a member, and has it act here. To be called once nobody else serves.
    ///
    /// # Errors
    /// When the port is taken or the log is not fit.
    pub async fn enter(&self, config: &WholeConfig, traits: Traits, parts: Parts) -> Result<(), Failure> {
        let Some(node) = self
            .start(&config.cluster, traits, Some(parts.mesh.inlet()))
            .await?
        else {
            return Ok(());
        };
        let parts = self.0.parts.get_or_init(|| parts).clone();
        let ties = self.0.ties.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (tasks, stop) = (&self.0.tasks, &self.0.stop);
        if let Some(ties) = ties {
            let (tell, known) = watch::channel(None);
            tasks.spawn(mesh::run(
                node.clone(),
                parts.mesh.clone(),
                ties,
                tell,
                stop.clone(),
            ));
            tasks.spawn(telling::services(
                node.clone(),
                parts.pulse.clone(),
                known,
                stop.clone(),
            ));
        }
        let metrics = Arc::clone(&parts.pulse.metrics);
        tasks.spawn(telling::load(node.clone(), metrics, stop.clone()));
        if let Some(socket) = &config.cluster.tailscale_socket {
            tasks.spawn(tailscale::run(node.clone(), socket.clone(), stop.clone()));
        }
        if node.identity().role() == Role::Node {
            let front = Front::new(parts.edge, parts.steering, parts.mesh, &config.edge);
            let lease = node.take_part(LeaseKey::LbLeader, front.actuator());
            let own = node.identity().node.to_string();
            tasks.spawn(front.follow(lease, own, stop.clone()));
        }
        node.set_ready(true).await;
        Ok(())
    }

    /// Writes down what the process that is about to replace this one has to know of the others. Blocks.
    pub fn remember(&self) {
        if let State::Running(node) = self.state() {
            node.remember();
        }
    }

    /// Leaves what this process has to the one that replaces it, and ends the node: that one's begins then.
    pub async fn bequeath(&self) {
        if let State::Running(node) = self.state()
            && let Err(error) = node.bequeath().await
        {
            tracing::warn!(
                error,
                "the leases of this node are not left to the new process: it has to ask for them"
            );
        }
        self.stop(false).await;
    }

    async fn start(
        &self,
        config: &Config,
        traits: Traits,
        mesh: Option<mpsc::Sender<std::net::TcpStream>>,
    ) -> Result<Option<Node>, Failure> {
        let State::Waiting(identity) = self.state() else {
            return Ok(None);
        };
        if identity.node.as_str() != traits.node {
            return Err(Failure::new(
                Exit::Config,
                format!(
                    "this node is {} in its cluster, and node.name is {}: names don't change while a node is a member. Set \
                     node.name (or NODE_NAME) to {}, or take it out (`constellation leave`) and join anew",
                    identity.node, traits.node, identity.node
                ),
            ));
        }
        let advertise = config.advertise.unwrap_or(identity.advertise);
        let settings = settings::of(config, advertise, traits);
        let started = tokio::time::Instant::now();
        let node = loop {
            // The process before this one closes its log, and its port if it did not leave it, when this one says that it serves.
            let patient = started.elapsed() < PREDECESSOR;
            let listener = match self.listen(config.raft.or(advertise)) {
                Ok(listener) => listener,
                Err(error) if patient && error.kind() == std::io::ErrorKind::AddrInUse => {
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                Err(error) => return Err(cannot_listen(config.raft, config.raft.or(advertise), &error)),
            };
            let failed = Arc::new(|failure: &StoreFailure| stop_process(failure));
            match Node::start(&self.0.data, listener, settings.clone(), mesh.clone(), failed).await {
                Ok(node) => break node,
                Err(StartError::Log(LogError::Store(StoreFailure::InUse { .. }))) if patient => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(error) => return Err(Failure::new(Exit::System, error.to_string())),
            }
        };
        tracing::info!(cluster = %identity.cluster, node = %identity.node, "a member of the cluster");
        self.set(State::Running(node.clone()));
        Ok(Some(node))
    }

    /// Ends the node: leases are let go of first. `leaving`: the others are told; else another process of this node goes on.
    pub async fn stop(&self, leaving: bool) {
        if let State::Running(node) = self.state() {
            // Before those who follow it: they are to see its leases go.
            node.stop(leaving).await;
            self.0.stop.cancel();
            self.0.tasks.close();
            self.0.tasks.wait().await;
            self.set(State::Ended(node.identity().clone()));
        }
    }

    /// Takes this node out: what acts under leases stops, the others agree that it is no member, and what it has of the
    /// cluster on disk is put aside. Returns what to tell the operator.
    ///
    /// # Errors
    /// In words, when the others do not agree: then it is a member still. Or when its files can't be moved.
    pub async fn leave(&self, node: Node) -> Result<String, String> {
        let identity = node.identity().clone();
        let alone = node.report().nodes.len() == 1;
        if !alone {
            node.let_go().await;
            node.leave().await.map_err(|error| {
                format!(
                    "{error}. This node is a member still and holds no lease any more until it is restarted"
                )
            })?;
        }
        self.stop(true).await;
        self.set(State::Alone);
        if let Some(parts) = self.0.parts.get() {
            parts.serve_alone();
        }
        let moved = node.home().abandon().map_err(|error| {
            format!("the others know that this node has left; what it has of the cluster could not be put aside: {error}")
        })?;
        let moved: Vec<String> = moved.iter().map(|path| path.display().to_string()).collect();
        Ok(format!(
            "node {} has left cluster {}; what it had of it is in {}. It serves on alone; routes that only other nodes have go with \
             the next restart or `constellation upgrade`",
            identity.node,
            identity.cluster,
            moved.join(" and ")
        ))
    }

    /// Has something done where the cluster's work is done, whoever asks: connections that are opened on the way belong to
    /// the runtime that lasts.
    ///
    /// # Errors
    /// When the work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, String> {
        self.0
            .runtime
            .spawn(work)
            .await
            .map_err(|error| format!("the work ended badly: {error}"))
    }

    fn state(&self) -> State {
        self.0
            .state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, state: State) {
        *self.0.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cluster").field(&self.identity()).finish()
    }
}

/// The log can't be kept: a node that goes on would keep leases without remembering what it agreed to.
fn stop_process(failure: &StoreFailure) {
    tracing::error!(%failure, "the replicated log can't be kept: this process ends now");
    eprint_last(&format!("constellation: {failure}\n"));
    std::process::exit(i32::from(Exit::Io.code()));
}

/// The log may be written somewhere that is lost; this is the last word.
fn eprint_last(text: &str) {
    use std::io::Write as _;
    // Nothing is left to do when that is gone.
    std::io::stderr().write_all(text.as_bytes()).unwrap_or_default();
}

fn cannot_listen(configured: ListenAt, address: SocketAddr, error: &std::io::Error) -> Failure {
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "the port is held by {}. Free it or change cluster.raft.address",
            constellation_dataplane::port_owner::tcp(address)
        ),
        std::io::ErrorKind::AddrNotAvailable if configured.ip.is_none() => format!(
            "this host has no address {} any more: set cluster.advertise to the one by which the other nodes reach it",
            address.ip()
        ),
        std::io::ErrorKind::AddrNotAvailable => {
            "this host has no such address. Change cluster.raft.address".to_owned()
        }
        _ => "check cluster.raft.address".to_owned(),
    };
    Failure::new(
        Exit::Unavailable,
        format!("the links between nodes: cannot listen on {address}: {error}; {hint}"),
    )
}
