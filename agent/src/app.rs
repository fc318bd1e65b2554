//! The composition root: parse, build, run, drain.
//!
//! What is bound first fails first: the data plane's listeners and the control listener are up before any source is
//! read. The control plane has a runtime of its own, so that health and metrics answer while the proxy is saturated.
//! Every task started here ends before [`run`] returns.

mod ending;
mod failure;
mod reload;
mod signals;
mod succession;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use constellation_config::{Config, DockerProvider, Loaded, Protocol};
use constellation_dataplane::access_log::{AccessLog, AccessLogWriter};
use constellation_dataplane::mesh::{Mesh, Role};
use constellation_dataplane::metrics::{self, Metrics};
use constellation_dataplane::tls::{TlsContext, TlsSpec};
use constellation_dataplane::{DataPlane, Generation, Published};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::signals::{Reloads, Signal, Signals};
use self::succession::{Inheritance, engage, outcome_of, serve_on};
use crate::chase::{self, Chase};
use crate::cli::{Exit, Failure, RunArgs, VERSION, print};
use crate::cluster::{self, Cluster, Parts, Pulse, Traits};
use crate::compile::Statics;
use crate::control::{ControlServer, ControlState, EntryPointFacts, UpgradeRequest, Upgrades};
use crate::drains::Drains;
use crate::edge::Edge;
use crate::guard::{self, Guard};
use crate::handover::{Predecessor, Program};
use crate::kernel::Kernel;
use crate::provider::{self, Provider, ProviderServer};
use crate::publish::{Publisher, Recompile};
use crate::report::{NodeFacts, Report};
use crate::runtime_file::{RunningNode, RuntimeFile, TokenFile};
use crate::sources::{self, SourceHandle, SourceState};
use crate::steering::{self, Authority, Steering};
use crate::{compile, demo, logging, settings, systemd, vip};

/// Below this limit on open files a busy afternoon is enough to run out.
const FEW_FILES: u64 = 16_384;

/// Runs the node until it is told to stop and has drained.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    // First of all: pingora installs another provider where there is none.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        return Err(Failure::new(
            Exit::Failure,
            "another TLS provider was installed before ours",
        ));
    }
    let program = Program::of_this_process()
        .map_err(|error| Failure::new(Exit::System, format!("cannot tell what program this is: {error}")))?;
    let loaded = load(args)?;
    logging::install(&loaded.config.log)?;
    raise_open_files();
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::System, format!("cannot start the control threads: {error}")))?;
    let inheritance = Inheritance::find()?;
    let outcome = runtime.block_on(async {
        let reloads = Reloads::install().map_err(no_signals)?;
        let node = Node::start(loaded, args.demo, inheritance).await?;
        let signals = Signals::install(reloads).map_err(no_signals)?;
        node.serve(args, &program, signals).await
    });
    // Everything awaited has ended; what a library left behind must not hold up the exit.
    runtime.shutdown_background();
    outcome
}

#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
fn no_signals(error: std::io::Error) -> Failure {
    Failure::new(Exit::System, format!("cannot receive signals: {error}"))
}

/// Asks for as many open files as this process may have: each proxied request takes two.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    match raised {
        Ok(limit) if limit < FEW_FILES => tracing::warn!(
            limit,
            "this process may open few files, and each proxied request takes two; raise the limit (LimitNOFILE, ulimit \
             -Hn, --ulimit nofile)"
        ),
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "the limit on open files can't be raised"),
    }
}

/// How long what waits in an inherited queue waits for the first routes, where nobody else serves it.
const FIRST_ROUTES: Duration = Duration::from_secs(3);

/// A node whose listeners are bound and whose tasks run.
struct Node {
    config: Config,
    facts: Arc<NodeFacts>,
    control: ControlServer,
    /// What to leave to a successor, beside the sockets of the data plane.
    control_socket: OwnedFd,
    /// What a Traefik polls, and its socket.
    provider_server: Option<ProviderServer>,
    provider_socket: Option<OwnedFd>,
    /// Who serves until this process does.
    predecessor: Option<Predecessor>,
    /// Names of sockets that the service manager may still have from before.
    outdated: Vec<String>,
    upgrades: mpsc::Receiver<UpgradeRequest>,
    data_plane: DataPlane,
    kernel: Kernel,
    steering: Steering,
    guard: Guard,
    chase: Chase,
    cluster: Cluster,
    edge: Arc<Edge>,
    mesh: Mesh,
    pulse: Pulse,
    access_log: AccessLog,
    access_log_writer: Option<AccessLogWriter>,
    sources: Vec<(&'static str, SourceHandle)>,
    recompile: Recompile,
    report: watch::Receiver<Arc<Report>>,
    tasks: TaskTracker,
    draining: CancellationToken,
    /// Ends the publisher, before the sources it listens to.
    publishing: CancellationToken,
    /// Ends the sources.
    reading: CancellationToken,
    runtime_file: Option<RuntimeFile>,
    token_file: Option<TokenFile>,
}

impl Node {
    async fn start(loaded: Loaded, demo: bool, inheritance: Inheritance) -> Result<Self, Failure> {
        let Loaded { config, file, .. } = loaded;
        let Inheritance {
            mut sockets,
            predecessor,
        } = inheritance;
        let outdated = sockets.names().into_iter().map(str::to_owned).collect();
        let kernel = Kernel::new(sockets.take_kernel_lock());
        let cluster = Cluster::prepare(&config.node.data_dir)?;
        cluster.bind(&config.cluster, sockets.take_links(), predecessor.is_some())?;
        let steering = steering::prepare(&config, &kernel, cluster.authority(config.edge.serve))?;
        let guard = guard::prepare(&config, &kernel)?;
        let chase = Chase::new(&config, &kernel);
        let edge = Arc::new(Edge::prepare(&config, steering.clone(), chase.clone())?);
        let mesh = Mesh::default();
        if steering.authority() != Authority::Local {
            // Until the lease says who serves.
            mesh.set_role(Role::Undecided);
        }
        let polled = config.traefik_provider.as_ref().map(|provider| provider.address);
        let provider_listener = polled.and_then(|address| sockets.take_provider(address));
        let (control_listener, inherited) = sockets.sort(config.control.address);
        let mut registry = Registry::default();
        let metrics = Arc::new(Metrics::register(
            &mut registry,
            &settings::entry_point_names(&config),
        ));
        metrics::register_build(&mut registry, VERSION);
        metrics::register_process(&mut registry);
        let (access_log, access_log_writer) = start_access_log(&config, &metrics)?;
        let tls = TlsContext::new(&[config.node.name.clone(), "localhost".to_owned()])
            .map_err(|error| Failure::new(Exit::System, format!("cannot prepare TLS: {error}")))?;
        let (tls_view, _) = tls.build(&TlsSpec::default());
        let published = Published::new(Generation {
            table: compile::starting(config.entry_points.len())
                .map_err(|error| Failure::new(Exit::Failure, format!("the first generation: {error}")))?,
            tls: tls_view,
            published: SystemTime::now(),
        });
        metrics::register_generation(&mut registry, published.clone());
        steering::register(&mut registry, steering.clone());
        guard::register(&mut registry, guard.clone());
        chase::register(&mut registry, chase.clone());
        cluster::register(&mut registry, cluster.clone());
        vip::register(&mut registry, Arc::clone(&edge));

        let control_listener = failure::bind_control(config.control.address, control_listener).await?;
        let control_socket = copy(&control_listener)?;
        let provider_listener = match polled {
            Some(address) => Some(failure::bind_provider(address, provider_listener).await?),
            None => None,
        };
        let provider_socket = provider_listener.as_ref().map(copy).transpose()?;
        let data_plane = DataPlane::start(
            settings::of(&config, &guard, steering.tenure(), mesh.clone()),
            inherited,
            published.clone(),
            Arc::clone(&metrics),
            access_log.clone(),
        )
        .map_err(|error| failure::data_plane(&error))?;
        if predecessor.is_none() {
            // What waits in queues that were kept goes on waiting, and nobody is refused.
            engage(&kernel, &steering, &guard, &chase, &config, &data_plane)?;
            serve_on(&steering, &mesh);
            // Those of a predecessor that runs are its own, and become this process's with the lease.
            edge.engage();
        }
        let statics =
            Statics::new(&config, data_plane.bound()).map_err(|error| Failure::new(Exit::Config, error))?;

        let (publishing, reading) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        let sources = start_sources(&config, demo, &reading).await?;
        let states: Vec<(&'static str, watch::Receiver<SourceState>)> = sources
            .iter()
            .map(|(provider, handle)| (*provider, handle.state.clone()))
            .collect();
        let drains = Drains::default();
        let (publisher, report) = Publisher::new(
            states,
            statics,
            tls,
            published.clone(),
            Arc::clone(&metrics),
            &drains,
        );
        let publisher = match cluster.exchange(&config, &mesh) {
            Some(exchange) => publisher.with_exchange(exchange),
            None => publisher,
        };
        let recompile = publisher.recompile();
        let (provider, provider_server) = match (&config.traefik_provider, provider_listener) {
            (Some(wanted), Some(listener)) => {
                let parts = provider::Parts {
                    config: &config,
                    listener,
                    bound: data_plane.bound(),
                    merged: publisher.merged(),
                    report: report.clone(),
                    host_names: host_names(&config.node),
                    tasks: &tasks,
                    stop: publishing.clone(),
                };
                let (provider, server) = Provider::start(wanted, parts)?;
                (provider, Some(server))
            }
            _ => (Provider::default(), None),
        };
        provider::register(&mut registry, provider.clone());
        tasks.spawn(publisher.run(publishing.clone()));
        tasks.spawn(systemd::watchdog(publishing.clone()));

        let facts = Arc::new(NodeFacts {
            name: config.node.name.clone(),
            domain: given(&config.node.domain),
            region: given(&config.node.region),
            priority: config.node.priority,
            version: VERSION,
            started: SystemTime::now(),
            config_file: file.as_ref().map(|file| file.display().to_string()),
            entry_points: data_plane.bound().to_vec(),
        });
        let pulse = Pulse {
            published: published.clone(),
            metrics: Arc::clone(&metrics),
            health: data_plane.health_changes(),
        };
        let draining = CancellationToken::new();
        let token_file = make_token(&config);
        let (wishes, upgrades) = Upgrades::new();
        let state = ControlState {
            facts: Arc::clone(&facts),
            entry_points: entry_point_facts(&config, data_plane.bound()),
            published,
            registry: Arc::new(registry),
            metrics,
            report: report.clone(),
            draining: draining.clone(),
            host_names: host_names(&config.node),
            workers: data_plane.workers(),
            token: config.control.token.clone(),
            change_token: token_file.as_ref().map(|file| file.token().clone()),
            drains,
            upgrades: wishes,
            steering: steering.clone(),
            guard: guard.clone(),
            chase: chase.clone(),
            cluster: cluster.clone(),
            edge: Arc::clone(&edge),
            mode: config.edge.mode,
            provider,
        };
        let control = ControlServer::start(control_listener, state).map_err(|error| {
            Failure::new(Exit::System, format!("cannot start the control server: {error}"))
        })?;
        let runtime_file = write_runtime_file(&facts, control.address(), file, token_file.as_ref());
        Ok(Self {
            config,
            facts,
            control,
            control_socket,
            provider_server,
            provider_socket,
            predecessor,
            outdated,
            upgrades,
            data_plane,
            kernel,
            steering,
            guard,
            chase,
            cluster,
            edge,
            mesh,
            pulse,
            access_log,
            access_log_writer,
            sources,
            recompile,
            report,
            tasks,
            draining,
            publishing,
            reading,
            runtime_file,
            token_file,
        })
    }

    /// Serves until a signal asks to stop or a successor serves, then drains.
    async fn serve(mut self, args: &RunArgs, program: &Program, mut signals: Signals) -> Result<(), Failure> {
        let mut report = self.report.clone();
        let mut said_ready = false;
        let mut patience = Box::pin(tokio::time::sleep(FIRST_ROUTES));
        let (mut replacing, mut wish) = (None, None);
        loop {
            tokio::select! {
                ready = report.wait_for(|report| report.ready), if !said_ready => {
                    if ready.map(drop).is_err() {
                        return Err(Failure::new(Exit::Failure, "the publisher has ended: this is a defect of the node"));
                    }
                    said_ready = true;
                    self.take_over()?;
                    self.enter_cluster().await?;
                    self.say_ready();
                    if args.demo {
                        print(&self.guide())?;
                    }
                }
                () = &mut patience, if !patience.is_elapsed() => {
                    // A predecessor serves for as long as that takes; nobody else does.
                    if self.predecessor.is_none() {
                        self.data_plane.accept();
                    }
                }
                Some(request) = self.upgrades.recv(), if said_ready && replacing.is_none() => {
                    tracing::info!("an upgrade is asked for: starting a new process");
                    self.guard.hold(true);
                    replacing = Some(self.replace(program));
                    wish = Some(request);
                }
                outcome = outcome_of(&mut replacing), if replacing.is_some() => {
                    replacing = None;
                    let successor = outcome.as_ref().ok().cloned();
                    if let Err(error) = &outcome {
                        tracing::error!(%error, "the upgrade failed");
                        self.guard.hold(false);
                    }
                    if let Some(wish) = wish.take()
                        && wish.send(outcome).is_err()
                    {
                        tracing::debug!("whoever asked for the upgrade has gone");
                    }
                    if let Some(successor) = successor {
                        return self.retire(signals, &successor).await;
                    }
                }
                signal = signals.next() => match signal {
                    Signal::Reload => self.reload(args),
                    Signal::Stop => break,
                },
            }
        }
        self.drain(signals).await
    }

    /// Takes part in the cluster, where this node is a member of one.
    async fn enter_cluster(&self) -> Result<(), Failure> {
        let traits = Traits::of(&self.config, VERSION, Vec::new());
        let parts = Parts {
            edge: Arc::clone(&self.edge),
            steering: self.steering.clone(),
            mesh: self.mesh.clone(),
            pulse: self.pulse.clone(),
        };
        self.cluster.enter(&self.config, traits, parts).await
    }

    fn say_ready(&self) {
        let listeners: Vec<String> = self
            .facts
            .entry_points
            .iter()
            .map(|(name, address)| format!("{name}={address}"))
            .collect();
        let listeners = listeners.join(" ");
        tracing::info!(node = %self.facts.name, version = VERSION, control = %self.control.address(), %listeners, "ready");
        systemd::ready(&format!(
            "serving on {listeners}, control {}",
            self.control.address()
        ));
    }

    fn guide(&self) -> String {
        let bound = |tls: bool| {
            let of_kind = self
                .config
                .entry_points
                .iter()
                .filter(|e| e.tls.is_some() == tls && e.redirection.is_none())
                .filter(|e| e.protocol == Protocol::Tcp);
            let names: Vec<&str> = of_kind.map(|e| e.name.as_str()).collect();
            let mut listeners = self.facts.entry_points.iter();
            listeners
                .find(|(name, _)| names.contains(&&**name))
                .map(|(_, address)| *address)
        };
        let program = std::env::args()
            .next()
            .unwrap_or_else(|| "constellation".to_owned());
        let addresses = demo::guide::Addresses {
            plain: bound(false),
            tls: bound(true),
            control: self.control.address(),
        };
        demo::guide::text(&addresses, &program)
    }
}

/// The listener a second time.
fn copy(listener: &tokio::net::TcpListener) -> Result<OwnedFd, Failure> {
    use std::os::fd::AsFd as _;
    let copied = listener.as_fd().try_clone_to_owned();
    copied.map_err(|error| {
        Failure::new(
            Exit::System,
            format!("cannot duplicate the control listener: {error}"),
        )
    })
}

fn start_access_log(
    config: &Config,
    metrics: &Metrics,
) -> Result<(AccessLog, Option<AccessLogWriter>), Failure> {
    let Some(access_log) = &config.access_log else {
        return Ok((AccessLog::off(), None));
    };
    let settings = settings::of_access_log(access_log);
    let (log, writer) = AccessLog::start(settings, metrics.access_log_dropped())
        .map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    Ok((log, Some(writer)))
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The names by which callers of the control server may call the node.
fn host_names(node: &constellation_config::Node) -> Vec<String> {
    let mut names = vec![node.name.clone(), "localhost".to_owned()];
    if !node.domain.is_empty() {
        names.push(format!("{}.{}", node.name, node.domain));
        names.push(node.domain.clone());
    }
    names
}

fn entry_point_facts(config: &Config, bound: &[(Arc<str>, SocketAddr)]) -> Arc<[EntryPointFacts]> {
    let of = |name: &str| {
        let bound = bound.iter().filter(|(entry_point, _)| &**entry_point == name);
        bound.map(|(_, address)| *address).collect()
    };
    let entry_points = config.entry_points.iter().map(|entry_point| EntryPointFacts {
        protocol: entry_point.protocol,
        name: entry_point.name.as_str().into(),
        addresses: of(&entry_point.name),
    });
    entry_points.collect()
}

/// The configuration in force. A demo on a machine without Docker has nothing to complain about.
fn load(args: &RunArgs) -> Result<Loaded, Failure> {
    let mut loaded = args.load()?;
    let missing = |docker: &mut DockerProvider| {
        let socket = docker.endpoint.strip_prefix("unix://");
        socket.is_some_and(|socket| !Path::new(socket).exists())
    };
    if args.demo
        && let Some(docker) = loaded.config.providers.docker.take_if(missing)
    {
        let note = format!("no Docker engine at {}: labels are not read", docker.endpoint);
        loaded.warnings.push(note);
    }
    Ok(loaded)
}

/// A provider option that can't be used is an error of the configuration, and found before anything runs.
async fn start_sources(
    config: &Config,
    demo: bool,
    stop: &CancellationToken,
) -> Result<Vec<(&'static str, SourceHandle)>, Failure> {
    let mut sources = Vec::new();
    if let Some(docker) = &config.providers.docker {
        let handle = sources::docker::spawn(docker.clone(), stop.clone())
            .map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
        sources.push(("docker", handle));
    }
    if let Some(file) = &config.providers.file {
        let handle = sources::file::spawn(file.clone(), stop.clone());
        sources.push(("file", handle));
    }
    if let Some(certificates) = &config.providers.certificates {
        let handle = sources::certificates::spawn(certificates.clone(), stop.clone());
        sources.push(("certificates", handle));
    }
    if demo {
        let handle = demo::children::spawn(stop.clone()).await.map_err(|error| {
            Failure::new(Exit::System, format!("cannot start the demo back ends: {error}"))
        })?;
        sources.push((demo::children::PROVIDER, handle));
    }
    Ok(sources)
}

/// A token for changes where the configuration names none. Without one the node runs all the same, and changes nothing.
fn make_token(config: &Config) -> Option<TokenFile> {
    if config.control.token.is_some() {
        return None;
    }
    TokenFile::create()
        .map_err(|error| {
            tracing::warn!(
                %error,
                "cannot write a token: calls of the API that change something are refused until control.token is set"
            );
        })
        .ok()
}

/// Without the file the node runs all the same; only `status` and the like need `--control`.
fn write_runtime_file(
    facts: &NodeFacts,
    control: SocketAddr,
    config_file: Option<PathBuf>,
    token: Option<&TokenFile>,
) -> Option<RuntimeFile> {
    let node = RunningNode {
        pid: nix::unistd::getpid().as_raw(),
        node: facts.name.clone(),
        control,
        config_file: config_file.map(|file| file.canonicalize().unwrap_or(file)),
        entry_points: facts
            .entry_points
            .iter()
            .map(|(name, address)| (name.to_string(), *address))
            .collect(),
        token_file: token.map(|token| token.path().to_owned()),
    };
    match RuntimeFile::write(&node) {
        Ok(file) => Some(file),
        Err(error) => {
            tracing::warn!(
                %error,
                "cannot write the runtime file: `constellation status` needs --control http://{control} here"
            );
            None
        }
    }
}
