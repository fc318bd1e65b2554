//! `bench footprint`: what our binary needs for many routes, and how fast it follows a change.
//!
//! A node starts with N host routes, each with a service of its own, in one file, and one more route in a second file
//! that is then replaced again and again. Everything is seen from outside: a route serves when a request for its host
//! is answered 200 by the back end. What compile alone costs is measured by `cargo bench`; here reading files, waiting
//! for a burst of changes to end, and publishing are in the figures.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;

use super::backend::Backend;
use super::child::Running;
use super::pin::Pin;
use super::scenario::many_host;
use super::{cpu, interrupt, node, port};

/// How long the node may take to start, and to follow a change.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks at a route, and so the resolution of the times.
const PAUSE: Duration = Duration::from_millis(1);

/// How long memory may settle before it is read: what parsing needed is given back a little later.
const SETTLE: Duration = Duration::from_secs(2);

/// `bench footprint`.
#[derive(Debug, Args)]
pub(crate) struct FootprintArgs {
    /// Host routes, each with a service of its own.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=99_999))]
    routes: u32,
    /// Changes of a single route.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    changes: u32,
    /// This binary instead of a fresh release build.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Where the results go as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What was measured. Times in seconds, memory in bytes.
#[derive(Debug, Serialize)]
struct Footprint {
    routes: u32,
    /// From the start of the process until the last route serves.
    start: f64,
    /// CPU time of the process until then.
    start_cpu: f64,
    /// Resident memory after the start.
    resident_started: u64,
    changes: u32,
    /// From the new file until its route serves: median.
    change: f64,
    /// The slowest.
    change_worst: f64,
    /// CPU time of the process for one change, on average.
    change_cpu: f64,
    /// Resident memory after the changes.
    resident_changed: u64,
}

/// A running node.
struct Node {
    running: Running,
    port: u16,
}

/// Runs the verb.
pub(super) fn run(args: &FootprintArgs) -> Result<()> {
    let binary = node::binary(args.binary.as_deref())?;
    let directory = tempfile::tempdir().context("no temporary directory")?;
    let footprint = measure(args, &binary, directory.path())?;
    print(&footprint);
    if let Some(json) = &args.json {
        fs::write(json, serde_json::to_string_pretty(&footprint)? + "\n")
            .with_context(|| format!("cannot write {}", json.display()))?;
    }
    Ok(())
}

fn measure(args: &FootprintArgs, binary: &Path, directory: &Path) -> Result<Footprint> {
    let routes = args.routes as usize;
    let pin = Pin::find()?;
    let backend = Backend::start(pin.anywhere(&Backend::program()?), directory)?;
    fs::create_dir(directory.join("dynamic"))?;
    fs::write(directory.join("dynamic/many.yaml"), many(routes, backend.port))?;
    replace(directory, &changing(0), backend.port)?;
    let began = Instant::now();
    let mut node = start(pin.anywhere(binary), directory)?;
    for host in [
        many_host(0),
        many_host(routes / 2),
        many_host(routes - 1),
        changing(0),
    ] {
        node.await_route(&host)?;
    }
    let start = began.elapsed();
    let pid = node.running.pid();
    let start_cpu = cpu::time(pid)?;
    settle()?;
    let resident_started = cpu::memory(pid)?.resident;

    let before = cpu::time(pid)?;
    let mut times = Vec::new();
    for number in 1..=args.changes {
        let host = changing(number);
        let changed = Instant::now();
        replace(directory, &host, backend.port)?;
        node.await_route(&host)?;
        times.push(changed.elapsed().as_secs_f64());
    }
    let change_cpu = (cpu::time(pid)? - before).as_secs_f64() / f64::from(args.changes);
    times.sort_by(f64::total_cmp);
    settle()?;
    Ok(Footprint {
        routes: args.routes,
        start: start.as_secs_f64(),
        start_cpu: start_cpu.as_secs_f64(),
        resident_started,
        changes: args.changes,
        change: times.get(times.len() / 2).copied().unwrap_or_default(),
        change_worst: times.last().copied().unwrap_or_default(),
        change_cpu,
        resident_changed: cpu::memory(pid)?.resident,
    })
}

/// Lets memory settle, unless a signal comes.
fn settle() -> Result<()> {
    interrupt::poll(SETTLE, Duration::from_millis(100), || Ok(None::<()>)).map(|_| ())
}

/// The document with many routes, one entry a line, as somebody's generator would write it.
fn many(routes: usize, backend: u16) -> String {
    let mut routers = "http:\n  routers:\n".to_owned();
    let mut services = "  services:\n".to_owned();
    for number in 0..routes {
        let host = many_host(number);
        routers += &format!("    r{number}:\n      rule: \"Host(`{host}`)\"\n      service: s{number}\n");
        services += &format!(
            "    s{number}:\n      loadBalancer:\n        servers:\n          - url: \"http://127.0.0.1:{backend}\"\n"
        );
    }
    routers + &services
}

/// The host of the changing route.
fn changing(number: u32) -> String {
    format!("change-{number}.bench.test")
}

/// Puts a route for `host` in the place of the one before, in one step.
fn replace(directory: &Path, host: &str, backend: u16) -> Result<()> {
    let text = format!(
        "http:\n  routers:\n    changing: {{ rule: \"Host(`{host}`)\", service: changing }}\n  services:\n    \
         changing: {{ loadBalancer: {{ servers: [{{ url: \"http://127.0.0.1:{backend}\" }}] }} }}\n"
    );
    let unfinished = directory.join("unfinished");
    fs::write(&unfinished, text).context("cannot write the changing route")?;
    fs::rename(&unfinished, directory.join("dynamic/changing.yaml"))
        .context("cannot replace the changing route")
}

fn start(mut command: Command, directory: &Path) -> Result<Node> {
    let [port, control] = port::free()?;
    let config = directory.join("constellation.yaml");
    let text = format!(
        "entryPoints:\n  web: {{ address: \"127.0.0.1:{port}\" }}\nproviders:\n  file: {{ directory: \"{}\" }}\n\
         control: {{ address: \"127.0.0.1:{control}\" }}\nlog: {{ level: warn }}\n",
        directory.join("dynamic").display(),
    );
    fs::write(&config, text).context("cannot write the configuration")?;
    // The environment overrides the file; none of it may decide here.
    command
        .env_clear()
        .env("RUNTIME_DIRECTORY", directory)
        .args(["run", "--config"])
        .arg(&config);
    let running = Running::start("constellation", command, &directory.join("constellation.log"))?;
    Ok(Node { running, port })
}

impl Node {
    /// Waits until `host` is routed.
    fn await_route(&mut self, host: &str) -> Result<()> {
        let routed = interrupt::poll(PATIENCE, PAUSE, || {
            self.running.require_alive()?;
            // Refused while the node starts.
            let status = status(self.port, host).unwrap_or_default();
            Ok((status == 200).then_some(()))
        })?;
        ensure!(
            routed.is_some(),
            "{host} is not routed after {PATIENCE:?}: {}",
            self.running.last_words()
        );
        Ok(())
    }
}

/// The status that a request for `host` is answered with.
fn status(port: u16, host: &str) -> Result<u16> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET /bytes/1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let status = std::str::from_utf8(&head)?
        .strip_prefix("HTTP/1.1 ")
        .context("not an answer")?;
    Ok(status.parse()?)
}

fn print(footprint: &Footprint) {
    let milliseconds = |seconds: f64| seconds * 1e3;
    println!("| routes | {} |", footprint.routes);
    println!("|---|--:|");
    println!(
        "| start to last route served | {:.0} ms |",
        milliseconds(footprint.start)
    );
    println!(
        "| CPU time of that | {:.0} ms |",
        milliseconds(footprint.start_cpu)
    );
    println!(
        "| RSS after start | {:.1} MB |",
        footprint.resident_started as f64 / 1e6
    );
    println!(
        "| one changed route served, median of {} | {:.1} ms |",
        footprint.changes,
        milliseconds(footprint.change)
    );
    println!("| the slowest | {:.1} ms |", milliseconds(footprint.change_worst));
    println!(
        "| CPU time of one change | {:.1} ms |",
        milliseconds(footprint.change_cpu)
    );
    println!(
        "| RSS after the changes | {:.1} MB |",
        footprint.resident_changed as f64 / 1e6
    );
}
