//! `bench http`: every proxy, every scenario, in alternating rounds.
//!
//! For a scenario all proxies are started, checked and warmed up. Then each is measured once per round, the first one
//! being another in every round, so that a slow minute of the machine does not fall on the same proxy each time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use super::backend::Backend;
use super::child::Running;
use super::identity::Identity;
use super::load::Load;
use super::peer::{Proxy, Site};
use super::pin::Pin;
use super::probe::Probe;
use super::report::{Conditions, Report};
use super::sample::{Cell, Sample};
use super::scenario::{HOST, Scenario, Transport};
use super::{cpu, interrupt, node, pin, port};
use crate::workspace;

/// How long a proxy may take to serve; nginx needs seconds for 10,000 hosts.
const START: Duration = Duration::from_secs(60);

/// `bench http`.
#[derive(Debug, Args)]
pub(crate) struct HttpArgs {
    /// Seconds of one sample.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Samples of every proxy in every scenario.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of warm-up before the first sample.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=600))]
    warm_up: u32,
    /// Proxies to compare with; one that is missing is skipped with the reason.
    #[arg(long, value_delimiter = ',', default_values = ["nginx", "haproxy", "envoy", "traefik"])]
    peers: Vec<Proxy>,
    /// Only ours.
    #[arg(long, conflicts_with = "peers")]
    alone: bool,
    /// Only the peers: for a look at the bench itself.
    #[arg(long, conflicts_with_all = ["alone", "binary"])]
    without_ours: bool,
    /// What to measure.
    #[arg(long, value_delimiter = ',', default_values = ["h1-128", "h1-64k", "tls-128", "h2-128", "r10000", "chain5"])]
    scenarios: Vec<Scenario>,
    /// This binary instead of a fresh release build.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// CPU of the proxy.
    #[arg(long, default_value_t = 0)]
    proxy_cpu: usize,
    /// CPU of the load generator and the back end.
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// Where the results go as JSON. Default: bench-http.json in the target directory.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A proxy that is there.
struct Contestant {
    proxy: Proxy,
    program: PathBuf,
}

/// What every scenario needs.
struct Bench<'a> {
    args: &'a HttpArgs,
    pin: Pin,
    probe: Probe,
    identity: Identity,
    directory: &'a Path,
    contestants: Vec<Contestant>,
}

/// A proxy that was started for a scenario.
struct Started {
    running: Running,
    /// Where the load goes.
    port: u16,
}

/// Runs the verb.
pub(super) fn run(args: &HttpArgs) -> Result<()> {
    ensure!(
        args.proxy_cpu != args.load_cpu,
        "--proxy-cpu and --load-cpu must differ"
    );
    pin::require(&[args.proxy_cpu, args.load_cpu])?;
    let target = workspace::target()?;
    let directory = tempfile::tempdir().context("no temporary directory")?;
    let bench = Bench {
        args,
        pin: Pin::find()?,
        probe: Probe::find()?,
        identity: Identity::make(directory.path(), HOST)?,
        directory: directory.path(),
        contestants: contestants(args, &target)?,
    };
    let mut report = Report {
        conditions: bench.conditions()?,
        cells: Vec::new(),
    };
    for &scenario in &args.scenarios {
        report.cells.extend(bench.measure(scenario)?);
    }
    println!("{}", report.markdown());
    let json = args
        .json
        .clone()
        .unwrap_or_else(|| target.join("bench-http.json"));
    fs::write(&json, serde_json::to_string_pretty(&report)? + "\n")
        .with_context(|| format!("cannot write {}", json.display()))?;
    eprintln!("results: {}", json.display());
    let invalid = report.cells.iter().filter(|cell| cell.median.is_none()).count();
    ensure!(
        invalid == 0,
        "{invalid} of {} cells are invalid",
        report.cells.len()
    );
    Ok(())
}

/// Everybody who takes part, ours first.
fn contestants(args: &HttpArgs, target: &Path) -> Result<Vec<Contestant>> {
    let mut contestants = Vec::new();
    if !args.without_ours {
        let program = node::binary(args.binary.as_deref())?;
        let proxy = Proxy::Constellation;
        contestants.push(Contestant { proxy, program });
    }
    let cache = target.join("peers");
    for &proxy in args.peers.iter().filter(|_| !args.alone) {
        match proxy.locate(&cache) {
            Ok(program) => contestants.push(Contestant { proxy, program }),
            Err(reason) => eprintln!("skipped {}: {reason}", proxy.name()),
        }
    }
    ensure!(!contestants.is_empty(), "there is nothing to measure");
    Ok(contestants)
}

impl Bench<'_> {
    fn conditions(&self) -> Result<Conditions> {
        let version = |contestant: &Contestant| {
            let version = contestant.proxy.version(&contestant.program)?;
            Ok((contestant.proxy, version))
        };
        let versions = self.contestants.iter().map(version).collect::<Result<_>>()?;
        Conditions::now(versions, self.args.seconds, self.args.rounds, self.args.warm_up)
    }

    /// One cell for every contestant.
    fn measure(&self, scenario: Scenario) -> Result<Vec<Cell>> {
        let directory = self.directory.join(scenario.name());
        fs::create_dir(&directory)?;
        let load = Load {
            pin: &self.pin,
            cpu: self.args.load_cpu,
            directory: &directory,
        };
        let command = self.pin.command(self.args.load_cpu, &Backend::program()?);
        let mut behind = Backend::start(command, &directory)?;
        let backend = behind.port;
        let mut entries = Vec::new();
        let fitting = self.contestants.iter();
        for contestant in fitting.filter(|contestant| contestant.proxy.fits(scenario)) {
            eprintln!("{}: starting {}", scenario.name(), contestant.proxy.name());
            let started = self.start(contestant, scenario, &load, backend);
            interrupt::check()?;
            let mut cell = Cell::new(scenario, contestant.proxy);
            let started = started.map_err(|error| cell.fault(format!("{error:#}"))).ok();
            entries.push((cell, started));
        }
        if entries.is_empty() {
            eprintln!("{}: nobody here can be set up for it", scenario.name());
            return Ok(Vec::new());
        }
        for round in 0..self.args.rounds as usize {
            let first = round % entries.len();
            entries.rotate_left(first);
            for (cell, started) in &mut entries {
                let Some(started) = started else { continue };
                let sample = self.sample(scenario, &load, started, backend);
                interrupt::check()?;
                match sample {
                    Ok(sample) => {
                        let (scenario, proxy) = (scenario.name(), cell.proxy.name());
                        eprintln!("{scenario} round {}: {proxy} {sample}", round + 1);
                        cell.add(sample);
                    }
                    Err(error) => cell.fault(format!("{error:#}")),
                }
            }
            entries.rotate_right(first);
            behind.require_alive()?;
        }
        let mut cells: Vec<Cell> = entries.into_iter().map(|(cell, _)| cell).collect();
        cells.iter_mut().for_each(Cell::finish);
        Ok(cells)
    }

    /// Starts a proxy, checks that it does its work, and warms it up.
    fn start(
        &self,
        contestant: &Contestant,
        scenario: Scenario,
        load: &Load<'_>,
        backend: u16,
    ) -> Result<Started> {
        let proxy = contestant.proxy;
        let directory = load.directory.join(proxy.name());
        fs::create_dir(&directory)?;
        let [plain, tls, control] = port::free()?;
        let needs_tls = scenario.transport() != Transport::Plain;
        let site = Site {
            directory: &directory,
            plain,
            tls: needs_tls.then_some(tls),
            control,
            backend,
            hosts: scenario.hosts(),
            chain: scenario.has_chain(),
            identity: &self.identity,
        };
        let port = site.tls.unwrap_or(plain);
        let command = proxy.command(&contestant.program, &site, &self.pin, self.args.proxy_cpu)?;
        let mut running = Running::start(proxy.name(), command, &directory.join("output.log"))?;
        self.await_ready(&mut running, || self.probe.check(scenario, port, &self.identity))?;
        let seen = load.run(scenario, port, self.args.warm_up)?;
        ensure!(
            seen.faults.is_empty(),
            "during warm-up: {}",
            seen.faults.join(", ")
        );
        Ok(Started { running, port })
    }

    /// Checks until the check succeeds; past [`START`] fails with what it said last.
    fn await_ready(&self, running: &mut Running, check: impl Fn() -> Result<()>) -> Result<()> {
        let mut last = None;
        let ready = interrupt::poll(START, Duration::from_millis(50), || {
            running.require_alive()?;
            last = check().err();
            Ok(last.is_none().then_some(()))
        })?;
        match (ready, last) {
            (None, Some(error)) => Err(error.context(format!("not ready within {START:?}"))),
            (None, None) => bail!("not ready within {START:?}"),
            (Some(()), _) => Ok(()),
        }
    }

    fn sample(
        &self,
        scenario: Scenario,
        load: &Load<'_>,
        proxy: &mut Started,
        backend: u16,
    ) -> Result<Sample> {
        let pid = proxy.running.pid();
        let connections = self.probe.backend_connections(backend)?;
        let before = cpu::time(pid)?;
        let seen = load.run(scenario, proxy.port, self.args.seconds)?;
        let used = cpu::time(pid)?.saturating_sub(before);
        let memory = cpu::memory(pid)?;
        proxy.running.require_alive()?;
        let connections = self.probe.backend_connections(backend)? - connections;
        Ok(Sample::new(seen, used, memory, connections))
    }
}
