//! `bench tcp` and `bench udp`: every relay, every scenario, in alternating rounds, like `bench http`.
//!
//! [`scenario`] says what is asked, [`relay`] how each relay is set up for it, [`backend`] what answers behind them,
//! [`load`] and [`datagrams`] what asks, [`copy`] what the reference does, [`cell`] and [`report`] what is made of it.
//! The load generator and the back end are processes of their own on the other CPU.

pub(crate) mod backend;
mod cell;
pub(crate) mod copy;
mod datagrams;
pub(crate) mod load;
mod probe;
mod relay;
mod report;
mod scenario;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use self::cell::{Cell, Sample};
use self::load::Seen;
use self::relay::{Relay, Site};
use self::report::Report;
use self::scenario::{Scenario, Work};
use super::child::Running;
use super::pin::{self, Pin};
use super::report::Machine;
use super::{cpu, interrupt, node, port};
use crate::workspace;

/// How long a relay may take to serve.
const START: Duration = Duration::from_secs(30);

/// `bench tcp`.
#[derive(Debug, Args)]
pub(crate) struct TcpArgs {
    /// Relays to compare with; one that is missing is skipped with the reason.
    #[arg(long, value_delimiter = ',', default_values = ["haproxy", "nginx", "traefik", "tokio-copy"])]
    peers: Vec<Relay>,
    /// What to measure.
    #[arg(long, value_delimiter = ',', default_values = ["bulk-1", "bulk-64", "ping-1", "ping-32", "connect"])]
    scenarios: Vec<scenario::Tcp>,
    #[command(flatten)]
    run: RunArgs,
}

/// `bench udp`.
#[derive(Debug, Args)]
pub(crate) struct UdpArgs {
    /// Relays to compare with: nginx, traefik. One that is missing is skipped with the reason.
    #[arg(long, value_delimiter = ',', default_values = ["nginx", "traefik"])]
    peers: Vec<Relay>,
    /// What to measure.
    #[arg(long, value_delimiter = ',', default_values = ["udp-64", "udp-1000"])]
    scenarios: Vec<scenario::Udp>,
    #[command(flatten)]
    run: RunArgs,
}

/// How it is measured.
#[derive(Debug, Args)]
struct RunArgs {
    /// Seconds of one sample.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Samples of every relay in every scenario.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only ours.
    #[arg(long)]
    alone: bool,
    /// Only the peers: for a look at the bench itself.
    #[arg(long, conflicts_with_all = ["alone", "binary"])]
    without_ours: bool,
    /// This binary instead of a fresh release build.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// CPU of the relay.
    #[arg(long, default_value_t = 0)]
    relay_cpu: usize,
    /// CPU of the load generator and the back end.
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// Where the results go as JSON. Default: bench-tcp.json or bench-udp.json in the target directory.
    #[arg(long)]
    json: Option<PathBuf>,
}

struct Bench<'a> {
    args: &'a RunArgs,
    pin: Pin,
    program: PathBuf,
    directory: &'a Path,
    contestants: Vec<(Relay, PathBuf)>,
}

/// Runs `bench tcp`.
pub(super) fn tcp(args: &TcpArgs) -> Result<()> {
    let scenarios: Vec<Scenario> = args.scenarios.iter().map(|&tcp| tcp.into()).collect();
    run("tcp", &scenarios, &args.peers, &args.run)
}

/// Runs `bench udp`.
pub(super) fn udp(args: &UdpArgs) -> Result<()> {
    let unfit = [Relay::Haproxy, Relay::TokioCopy];
    ensure!(
        !args.peers.iter().any(|peer| unfit.contains(peer)),
        "haproxy and tokio-copy relay no UDP; choose nginx or traefik with --peers"
    );
    let scenarios: Vec<Scenario> = args.scenarios.iter().map(|&udp| udp.into()).collect();
    run("udp", &scenarios, &args.peers, &args.run)
}

fn run(name: &str, scenarios: &[Scenario], peers: &[Relay], args: &RunArgs) -> Result<()> {
    ensure!(
        args.relay_cpu != args.load_cpu,
        "--relay-cpu and --load-cpu must differ"
    );
    pin::require(&[args.relay_cpu, args.load_cpu])?;
    let target = workspace::target()?;
    let directory = tempfile::tempdir().context("no temporary directory")?;
    let bench = Bench {
        args,
        pin: Pin::find()?,
        program: node::helper()?,
        directory: directory.path(),
        contestants: contestants(args, peers, &target)?,
    };
    let versions = bench.contestants.iter();
    let versions = versions.map(|(relay, program)| Ok((*relay, relay.version(program)?)));
    let mut report = Report {
        machine: Machine::now()?,
        versions: versions.collect::<Result<_>>()?,
        seconds: args.seconds,
        rounds: args.rounds,
        cells: Vec::new(),
    };
    for &scenario in scenarios {
        report.cells.extend(bench.measure(scenario)?);
    }
    println!("{}", report.markdown());
    let json = args
        .json
        .clone()
        .unwrap_or_else(|| target.join(format!("bench-{name}.json")));
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
fn contestants(args: &RunArgs, peers: &[Relay], target: &Path) -> Result<Vec<(Relay, PathBuf)>> {
    let mut contestants = Vec::new();
    if !args.without_ours {
        contestants.push((Relay::Constellation, node::binary(args.binary.as_deref())?));
    }
    for &relay in peers.iter().filter(|_| !args.alone) {
        match relay.locate(&target.join("peers")) {
            Ok(program) => contestants.push((relay, program)),
            Err(reason) => eprintln!("skipped {}: {reason}", relay.name()),
        }
    }
    ensure!(!contestants.is_empty(), "there is nothing to measure");
    Ok(contestants)
}

impl Bench<'_> {
    /// One cell for every contestant.
    fn measure(&self, scenario: Scenario) -> Result<Vec<Cell>> {
        let directory = self.directory.join(scenario.name);
        fs::create_dir(&directory)?;
        let [backend] = port::free()?;
        let mut command = self.pin.command(self.args.load_cpu, &self.program);
        command.args(["bench-stream-backend", "--port", &backend.to_string()]);
        let mut behind = Running::start("the back end", command, &directory.join("backend.log"))?;
        await_ready(&mut behind, || probe::check(scenario.work, backend))?;
        let mut entries = Vec::new();
        for (relay, program) in &self.contestants {
            eprintln!("{}: starting {}", scenario.name, relay.name());
            let started = self.start(*relay, program, scenario, &directory, backend);
            interrupt::check()?;
            let mut cell = Cell::new(scenario, *relay);
            let started = started.map_err(|error| cell.fault(format!("{error:#}"))).ok();
            entries.push((cell, started));
        }
        for round in 0..self.args.rounds as usize {
            let first = round % entries.len();
            entries.rotate_left(first);
            for (cell, started) in &mut entries {
                let Some((running, port)) = started else { continue };
                let sample = self.sample(scenario, &directory, running, *port);
                interrupt::check()?;
                match sample {
                    Ok(sample) => {
                        eprintln!(
                            "{} round {}: {} {sample}",
                            scenario.name,
                            round + 1,
                            cell.relay.name()
                        );
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

    /// Starts a relay, checks that it does its work, and warms it up.
    fn start(
        &self,
        relay: Relay,
        program: &Path,
        scenario: Scenario,
        directory: &Path,
        backend: u16,
    ) -> Result<(Running, u16)> {
        let own = directory.join(relay.name());
        fs::create_dir(&own)?;
        let [port, control] = port::free()?;
        let site = Site {
            directory: &own,
            port,
            control,
            backend,
            udp: scenario.work == Work::Udp,
        };
        let command = relay.command(program, &site, &self.pin, self.args.relay_cpu)?;
        let mut running = Running::start(relay.name(), command, &own.join("output.log"))?;
        await_ready(&mut running, || probe::check(scenario.work, port))?;
        let seen = self.load(scenario, directory, port, 1)?;
        ensure!(
            seen.faults.is_empty(),
            "during warm-up: {}",
            seen.faults.join(", ")
        );
        Ok((running, port))
    }

    fn sample(&self, scenario: Scenario, directory: &Path, relay: &mut Running, port: u16) -> Result<Sample> {
        let pid = relay.pid();
        let before = cpu::time(pid)?;
        let seen = self.load(scenario, directory, port, self.args.seconds)?;
        let used = cpu::time(pid)?.saturating_sub(before);
        let memory = cpu::memory(pid)?;
        relay.require_alive()?;
        Ok(Sample::new(seen, used, memory))
    }

    /// Runs the load generator.
    fn load(&self, scenario: Scenario, directory: &Path, port: u16, seconds: u32) -> Result<Seen> {
        let mut command = self.pin.command(self.args.load_cpu, &self.program);
        let work = clap::ValueEnum::to_possible_value(&scenario.work).context("a work without a name")?;
        command.args(["bench-stream-load", "--work", work.get_name()]);
        command.args([
            "--port",
            &port.to_string(),
            "--clients",
            &scenario.clients.to_string(),
        ]);
        command.args(["--seconds", &seconds.to_string()]);
        let mut load = Running::start("the load generator", command, &directory.join("load.log"))?;
        let status = load.wait(Duration::from_secs(u64::from(seconds) * 2 + 20))?;
        let output = load.output()?;
        ensure!(status.success(), "the load generator failed ({status}): {output}");
        serde_json::from_str(&output).with_context(|| format!("the load generator printed {output}"))
    }
}

/// Checks until the check succeeds; past [`START`] fails with what it said last.
fn await_ready(running: &mut Running, check: impl Fn() -> Result<()>) -> Result<()> {
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
