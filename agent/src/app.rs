//! The composition root: parse, build, run, drain.
//!
//! What is bound first fails first: the data plane's listeners and the control listener are up before any source is
//! read. The control plane has a runtime of its own, so that health and metrics answer while the proxy is saturated.
//! Every task started here ends before [`run`] returns.

mod failure;
mod signals;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use constellation_config::{Config, Loaded};
use constellation_dataplane::access_log::AccessLog;
use constellation_dataplane::metrics::{self, Metrics};
use constellation_dataplane::tls::{TlsContext, TlsSpec};
use constellation_dataplane::{DataPlane, Generation, Published};
use constellation_table::Snapshot;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::signals::{Signal, Signals};
use crate::cli::{Exit, Failure, RunArgs, Settings, VERSION};
use crate::compile::Statics;
use crate::publish::{Publisher, Recompile};
use crate::report::{NodeFacts, Report};
use crate::runtime_file::{RunningNode, RuntimeFile};
use crate::sources::{self, SourceHandle, SourceState};
use crate::{logging, settings, systemd};

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
    let loaded = args.settings.load()?;
    logging::install(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::System, format!("cannot start the control threads: {error}")))?;
    let outcome = runtime.block_on(async { Node::start(args, loaded).await?.serve(&args.settings).await });
    // Everything awaited has ended; what a library left behind must not hold up the exit.
    runtime.shutdown_background();
    outcome
}

/// A node whose listeners are bound and whose tasks run.
struct Node {
    config: Config,
    facts: NodeFacts,
    control: SocketAddr,
    data_plane: DataPlane,
    sources: Vec<(&'static str, SourceHandle)>,
    recompile: Recompile,
    report: watch::Receiver<Arc<Report>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    runtime_file: Option<RuntimeFile>,
}

impl Node {
    async fn start(args: &RunArgs, loaded: Loaded) -> Result<Self, Failure> {
        let Loaded { config, file, .. } = loaded;
        let mut registry = Registry::default();
        let names: Vec<Arc<str>> = config
            .entry_points
            .iter()
            .map(|e| e.name.as_str().into())
            .collect();
        let metrics = Arc::new(Metrics::register(&mut registry, &names));
        let tls = TlsContext::new(&[config.node.name.clone(), "localhost".to_owned()])
            .map_err(|error| Failure::new(Exit::System, format!("cannot prepare TLS: {error}")))?;
        let (tls_view, _) = tls.build(&TlsSpec::default());
        let published = Published::new(Generation {
            table: Snapshot::default(),
            tls: tls_view,
            published: SystemTime::now(),
        });
        metrics::register_generation(&mut registry, published.clone());

        let control_listener = failure::bind_control(config.control.address).await?;
        let control = control_listener
            .local_addr()
            .map_err(|error| Failure::new(Exit::System, format!("control.address: {error}")))?;
        let data_plane = DataPlane::start(
            settings::of(&config),
            published.clone(),
            Arc::clone(&metrics),
            AccessLog::off(),
        )
        .map_err(|error| failure::data_plane(&error))?;
        let facts = NodeFacts {
            name: config.node.name.clone(),
            version: VERSION,
            started: SystemTime::now(),
            config_file: file.as_ref().map(|file| file.display().to_string()),
            entry_points: data_plane.bound().to_vec(),
        };
        let statics =
            Statics::new(&config, data_plane.bound()).map_err(|error| Failure::new(Exit::Config, error))?;

        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let sources = start_sources(&config, &stop)?;
        let states: Vec<(&'static str, watch::Receiver<SourceState>)> = sources
            .iter()
            .map(|(provider, handle)| (*provider, handle.state.clone()))
            .collect();
        let (publisher, report) = Publisher::new(states, statics, tls, published, metrics);
        let recompile = publisher.recompile();
        tasks.spawn(publisher.run(stop.clone()));
        tasks.spawn(systemd::watchdog(stop.clone()));
        drop((control_listener, args));
        let runtime_file = write_runtime_file(&facts, control, file);
        Ok(Self {
            config,
            facts,
            control,
            data_plane,
            sources,
            recompile,
            report,
            tasks,
            stop,
            runtime_file,
        })
    }

    /// Serves until a signal asks to stop, then drains.
    async fn serve(self, settings: &Settings) -> Result<(), Failure> {
        let mut signals = Signals::install()
            .map_err(|error| Failure::new(Exit::System, format!("cannot receive signals: {error}")))?;
        let mut report = self.report.clone();
        let mut said_ready = false;
        loop {
            tokio::select! {
                ready = report.wait_for(|report| report.ready), if !said_ready => {
                    if ready.map(drop).is_err() {
                        return Err(Failure::new(Exit::Failure, "the publisher has ended: this is a defect of the node"));
                    }
                    said_ready = true;
                    self.say_ready();
                }
                signal = signals.next() => match signal {
                    Signal::Reload => self.reload(settings),
                    Signal::Stop => break,
                },
            }
        }
        self.drain(signals).await
    }

    fn say_ready(&self) {
        let listeners: Vec<String> = self
            .facts
            .entry_points
            .iter()
            .map(|(name, address)| format!("{name}={address}"))
            .collect();
        let listeners = listeners.join(" ");
        tracing::info!(node = %self.facts.name, version = VERSION, control = %self.control, %listeners, "ready");
        systemd::ready(&format!("serving on {listeners}, control {}", self.control));
    }

    /// SIGHUP: sources and files are read again; what only a restart can change is named.
    fn reload(&self, settings: &Settings) {
        systemd::reloading();
        for (_, source) in &self.sources {
            source.reload.request();
        }
        self.recompile.request();
        match settings.load() {
            Ok(loaded) => {
                let changed = changed_sections(&self.config, &loaded.config);
                if changed.is_empty() {
                    tracing::info!("reloading routes, certificates and the access log");
                } else {
                    tracing::warn!(
                        keys = %changed.join(", "),
                        "reloading routes, certificates and the access log; these keys of the static configuration \
                         changed and need a restart"
                    );
                }
            }
            Err(failure) => tracing::error!(
                "the static configuration is wrong now, a restart would fail; the running one stays: {failure}"
            ),
        }
        systemd::ready("serving");
    }

    async fn drain(self, mut signals: Signals) -> Result<(), Failure> {
        let shutdown = self.config.shutdown;
        tracing::info!(accept_grace = ?shutdown.accept_grace, drain = ?shutdown.drain, "draining");
        systemd::stopping(shutdown.accept_grace + shutdown.drain);
        let Self {
            data_plane,
            sources,
            tasks,
            stop,
            runtime_file,
            ..
        } = self;
        let drained = async {
            tokio::time::sleep(shutdown.accept_grace).await;
            let cut = data_plane.drain().await;
            if cut > 0 {
                tracing::warn!(connections = cut, "the drain time is over: connections were cut");
            }
            stop.cancel();
            for (provider, source) in sources {
                if let Err(error) = source.task.await {
                    tracing::error!(source = provider, %error, "the source ended badly");
                }
            }
            tasks.close();
            tasks.wait().await;
        };
        let outcome = tokio::select! {
            () = drained => Ok(()),
            () = signals.stop() => Err(Failure::new(Exit::Failure, "a second signal cut the drain short")),
        };
        drop(runtime_file);
        if outcome.is_ok() {
            tracing::info!("stopped");
        }
        outcome
    }
}

/// A provider option that can't be used is an error of the configuration, and found before anything runs.
fn start_sources(
    config: &Config,
    stop: &CancellationToken,
) -> Result<Vec<(&'static str, SourceHandle)>, Failure> {
    let mut sources = Vec::new();
    if let Some(docker) = &config.providers.docker {
        let handle = sources::docker::spawn(docker.clone(), stop.clone())
            .map_err(|error| Failure::new(Exit::Config, format!("providers.docker: {error}")))?;
        sources.push(("docker", handle));
    }
    if let Some(file) = &config.providers.file {
        let handle = sources::file::spawn(file.clone(), stop.clone());
        sources.push(("file", handle));
    }
    Ok(sources)
}

/// Without the file the node runs all the same; only `status` and the like need `--control`.
fn write_runtime_file(
    facts: &NodeFacts,
    control: SocketAddr,
    config_file: Option<PathBuf>,
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

/// The sections of the static configuration that differ.
fn changed_sections(running: &Config, now: &Config) -> Vec<&'static str> {
    [
        ("node", running.node != now.node),
        ("entryPoints", running.entry_points != now.entry_points),
        ("providers", running.providers != now.providers),
        ("control", running.control != now.control),
        ("log", running.log != now.log),
        ("accessLog", running.access_log != now.access_log),
        (
            "serversTransport",
            running.servers_transport != now.servers_transport,
        ),
        ("proxy", running.proxy != now.proxy),
        ("shutdown", running.shutdown != now.shutdown),
    ]
    .into_iter()
    .filter_map(|(section, differs)| differs.then_some(section))
    .collect()
}
