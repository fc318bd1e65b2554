//! The laboratory from a shell: `cargo xtask lab`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a verb has to say goes to the terminal"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use constellation_tests::lab::{self, Delay, Lab, LabNode, Plan, bench, check};
use constellation_tests::node;
use nix::sys::signal::Signal;
use serde_json::json;

#[derive(Debug, Parser)]
#[command(
    name = "lab",
    about = "A cluster of real nodes in network namespaces, and faults for it"
)]
struct Cli {
    /// The lab's folder.
    #[arg(long, global = true, value_name = "DIR")]
    base: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a cluster. What a lab in the same folder has left is removed first.
    Up {
        /// How many nodes.
        #[arg(value_parser = clap::value_parser!(u8).range(1..=9))]
        nodes: u8,
        /// Static configuration to merge into that of each node, as JSON.
        #[arg(long, value_name = "JSON", default_value = "{}")]
        config: String,
    },
    /// Show hosts, processes, cuts and what each node says of the cluster.
    Status,
    /// End everything, and remove its files.
    Down,
    /// Run a command on a node's host, with that node's configuration for the binary: `exec 2 -- constellation nodes`.
    Exec {
        /// A node's number, or `client`.
        host: String,
        /// The command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// End a node's process at once.
    Kill(Which),
    /// Freeze a node's process.
    Stop(Which),
    /// Let it go on.
    Cont(Which),
    /// End a node in good order if it runs, and start it.
    Restart(Which),
    /// Cut all between groups of nodes: `partition 1 2 / 3`.
    Partition {
        /// Numbers; a slash between groups.
        #[arg(required = true)]
        groups: Vec<String>,
    },
    /// Let nothing of one node reach another one; the way back stays open.
    Oneway {
        /// Whose frames are dropped.
        from: usize,
        /// On the way to whom.
        to: usize,
    },
    /// Mend all cuts.
    Heal,
    /// Make a node's packets late, and lose some, in both directions: `delay 2 40 1%`. Zeros end it.
    Delay {
        /// Its number.
        node: usize,
        /// By how many milliseconds.
        milliseconds: u32,
        /// How many of a hundred are lost.
        #[arg(default_value = "0%")]
        loss: String,
    },
    /// Random faults to clusters of real nodes, judged by what their kernels let in.
    Faults(FaultsArgs),
    /// Figures: forming, failover, hand-over under load, what an idle cluster costs.
    Bench {
        /// How often what can be repeated is.
        #[arg(long, default_value_t = 20)]
        times: usize,
        /// Only idle, failover, handover, spread or form.
        #[arg(long)]
        only: Option<String>,
    },
    /// What carries late frames.
    #[command(hide = true)]
    DelayFrames {
        near: String,
        far: String,
        milliseconds: u64,
    },
}

#[derive(Debug, Args)]
struct FaultsArgs {
    /// How many runs, each with a cluster of its own.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// Of the first run; each next one has the next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=9))]
    nodes: u8,
    /// For how long faults come.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// The longest time for which a process is frozen, in seconds.
    #[arg(long, default_value_t = 4.0)]
    max_stop: f64,
    /// What nodes do with clients that do not hold the edge: closed or relay.
    #[arg(long, default_value = "closed")]
    standby: String,
    /// A rule that the nodes leave out, if they were built to: expiry-ignores-renewal, expires-early,
    /// long-deadline. The first broken run ends it, and then all is well.
    #[arg(long)]
    bug: Option<String>,
}

#[derive(Debug, Args)]
struct Which {
    /// Its number.
    node: usize,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let base = cli
        .base
        .unwrap_or_else(|| std::env::temp_dir().join("constellation-lab"));
    let open = || Lab::open(&base);
    match cli.verb {
        Verb::Up { nodes, config } => {
            let plan = Plan {
                nodes: nodes.into(),
                binary: node::binary(),
                config: serde_json::from_str(&config).context("--config is no JSON")?,
                base: Some(base),
            };
            let lab = Lab::up(&plan)?;
            for node in lab.nodes() {
                reach(node)?;
            }
            println!(
                "\nhost {} is where clients are: lab exec client -- curl -H 'Host: {}' http://{}/",
                lab::CLIENT,
                lab::HOST,
                lab::address(1)
            );
        }
        Verb::Status => status(&open()?)?,
        Verb::Down => open()?.down()?,
        Verb::Exec { host, command } => return exec(&open()?, &host, &command),
        Verb::Kill(which) => pick(&open()?, which.node)?.kill()?,
        Verb::Stop(which) => pick(&open()?, which.node)?.signal(Signal::SIGSTOP)?,
        Verb::Cont(which) => pick(&open()?, which.node)?.signal(Signal::SIGCONT)?,
        Verb::Restart(which) => pick(&open()?, which.node)?.restart()?,
        Verb::Partition { groups } => {
            let groups: Vec<Vec<usize>> = groups
                .split(|word| word == "/" || word == "|")
                .map(|group| group.iter().map(|word| number(word)).collect())
                .collect::<Result<_>>()?;
            ensure!(
                groups.len() > 1,
                "one group alone is no partition: `partition 1 2 / 3`"
            );
            let groups: Vec<&[usize]> = groups.iter().map(Vec::as_slice).collect();
            open()?.partition(&groups)?;
        }
        Verb::Oneway { from, to } => open()?.one_way(from, to)?,
        Verb::Heal => open()?.heal()?,
        Verb::Delay {
            node,
            milliseconds,
            loss,
        } => {
            let loss = loss
                .trim_end_matches('%')
                .parse()
                .with_context(|| format!("{loss:?} is no loss: expected 0% to 100%"))?;
            open()?.delay(node, Delay { milliseconds, loss })?;
        }
        Verb::Faults(args) => return faults(&args),
        Verb::Bench { times, only } => {
            let settings = bench::Settings {
                binary: node::binary(),
                times,
                only,
            };
            bench::run(&settings, |figure| println!("{figure}"))?;
        }
        Verb::DelayFrames {
            near,
            far,
            milliseconds,
        } => lab::forward(&near, &far, Duration::from_millis(milliseconds))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn faults(args: &FaultsArgs) -> Result<ExitCode> {
    let bug = args.bug.iter().cloned();
    let settings = check::Settings {
        binary: node::binary(),
        nodes: args.nodes.into(),
        during: Duration::from_secs(args.seconds),
        max_stop: Duration::try_from_secs_f64(args.max_stop).context("--max-stop")?,
        config: json!({ "edge": { "standby": args.standby } }),
        environment: bug
            .map(|bug| ("CONSTELLATION_DELIBERATE_BUG".to_owned(), bug))
            .collect(),
    };
    let mut broken = 0;
    for seed in args.seed..args.seed + args.runs {
        let report = check::run(&settings, seed)?;
        print!("{report}");
        if !report.holds() {
            broken += 1;
            if args.bug.is_some() {
                break;
            }
        }
    }
    match (&args.bug, broken) {
        (None, 0) => println!("{} runs, all promises kept", args.runs),
        (None, broken) => bail!("{broken} of {} runs broke a promise", args.runs),
        (Some(bug), 0) => bail!("{bug} was not noticed in {} runs", args.runs),
        (Some(bug), _) => println!("{bug} was noticed"),
    }
    Ok(ExitCode::SUCCESS)
}

fn number(word: &str) -> Result<usize> {
    word.trim_start_matches('n')
        .parse()
        .with_context(|| format!("{word:?} is no node's number"))
}

fn pick(lab: &Lab, number: usize) -> Result<LabNode<'_>> {
    if !(1..=lab.size()).contains(&number) {
        bail!("there is no node {number}: the lab has {}", lab.size());
    }
    Ok(lab.node(number))
}

fn reach(node: LabNode<'_>) -> Result<()> {
    println!(
        "{}  http://{}/ and http://[{}]/ (Host: {}), log {}, nsenter --target {} --net --mount, lab exec {} -- constellation nodes",
        node.name(),
        lab::address(node.number()),
        lab::address6(node.number()),
        lab::HOST,
        node.folder().join("stderr").display(),
        node.place()?.holder(),
        node.number(),
    );
    Ok(())
}

fn status(lab: &Lab) -> Result<()> {
    for node in lab.nodes() {
        let processes: Vec<String> = node.processes().iter().map(ToString::to_string).collect();
        let says = match node.cluster() {
            Ok(report) => {
                let online = lab::members(&report)
                    .filter(|node| node["online"] == true)
                    .count();
                format!(
                    "leader {}, term {}, quorum {}, hears of {online} of {}",
                    report["raft"]["leader"],
                    report["raft"]["term"],
                    report["quorum"],
                    lab::members(&report).count()
                )
            }
            Err(error) => format!("says nothing: {error:#}"),
        };
        println!("{}  process {}  {says}", node.name(), processes.join(" and "));
    }
    for cut in lab.cuts()? {
        println!("cut  {cut}");
    }
    Ok(())
}

fn exec(lab: &Lab, host: &str, command: &[String]) -> Result<ExitCode> {
    let (place, node) = if host == lab::CLIENT {
        (lab.client()?, None)
    } else {
        let node = pick(lab, number(host)?)?;
        (node.place()?, Some(node))
    };
    let (program, arguments) = command.split_first().context("no command")?;
    let program = if program == "constellation" {
        lab.binary()
    } else {
        PathBuf::from(program)
    };
    let mut command = place.command("command", program, false);
    if let Some(node) = node {
        command
            .env("CONFIG_FILE", node.config_file())
            .env("RUNTIME_DIRECTORY", node.folder().join("run"));
    }
    let status = command.args(arguments).status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
