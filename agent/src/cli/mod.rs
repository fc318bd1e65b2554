//! The command line: what can be asked of the binary, and the code it ends with.
//!
//! `run` is the node itself ([`crate::app`]); every other command is one file here. Standard output carries results
//! only, so that it can be piped; errors go to standard error.

mod chase;
mod check;
mod client;
mod cluster;
mod completions;
mod config;
mod drain;
mod ebpf;
mod exit;
mod explain;
mod guard;
mod import;
mod nodes;
mod routes;
mod services;
mod status;
mod table;
mod upgrade;

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use constellation_config::{Config, LoadOptions, Loaded};

pub use exit::{Exit, Failure};

/// The crate's version, or what a packager's build says instead (`CONSTELLATION_VERSION="0.1.0 (3f2c1ab)"`).
pub const VERSION: &str = match option_env!("CONSTELLATION_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// Edge node for small Docker clusters: routes HTTP, HTTPS, TCP and UDP from Traefik labels and files to back ends.
#[derive(Debug, Parser)]
#[command(name = "constellation", version = VERSION, after_help = Exit::HELP, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node until SIGTERM or SIGINT, then drain.
    Run(RunArgs),
    /// Check a file: ends with 0, or prints every error and ends with 78.
    Check(check::CheckArgs),
    /// Print the schema, an example, or the configuration in force.
    Config(config::ConfigArgs),
    /// Read the configuration of another proxy as one of this node.
    Import(import::ImportArgs),
    /// List the routes of the running node.
    Routes(routes::RoutesArgs),
    /// List services and their endpoints: who takes requests, who does not, and why.
    Services(services::ServicesArgs),
    /// Send an endpoint, or with one argument a whole node, nothing new; what runs there may finish.
    Drain(drain::DrainArgs),
    /// Send a drained endpoint or node requests again.
    Undrain(drain::DrainArgs),
    /// Show how the running node fares.
    Status(status::StatusArgs),
    /// Say which route and which endpoint a request, a connection or datagrams would get, and why the others lost.
    Explain(explain::ExplainArgs),
    /// Replace the running node by a new process without refusing a connection.
    Upgrade(upgrade::UpgradeArgs),
    /// Deny and allow clients in the kernel, and see who is; needs edge.guard.mode.
    Guard(guard::GuardArgs),
    /// An address moves here from another node, and its connections stay there; needs edge.chase.devices.
    Chase(chase::ChaseArgs),
    /// Make a cluster with this node as its first member.
    Init(cluster::InitArgs),
    /// Get into a cluster, by a member and a join token.
    Join(cluster::JoinArgs),
    /// Make join tokens.
    Token(cluster::TokenArgs),
    /// Take this node out of its cluster.
    Leave(cluster::LeaveArgs),
    /// Take a node that is lost out of the cluster, for good.
    Remove(cluster::RemoveArgs),
    /// Go on alone when the majority is lost for good. Read its help first.
    Recover(cluster::RecoverArgs),
    /// Replace the gossip key, or this node's certificate, before it is time.
    Rotate(cluster::RotateArgs),
    /// List the nodes of the cluster.
    Nodes(nodes::NodesArgs),
    /// Send a node no new connections and give it no lease.
    Cordon(nodes::CordonArgs),
    /// Send a cordoned or drained node connections again.
    Uncordon(nodes::CordonArgs),
    /// Show who holds which lease, or give one to another node.
    Lease(nodes::LeaseArgs),
    /// Show the replicated log.
    Raft(nodes::RaftArgs),
    /// Look at what is attached and pinned in the kernel, or remove it; a node need not run.
    Ebpf(ebpf::EbpfArgs),
    /// Print shell completions.
    Completions(completions::CompletionsArgs),
    /// A small back end to try routes with.
    #[command(hide = true)]
    DemoBackend(crate::demo::DemoArgs),
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Start two small back ends with routes to them, and print what to try.
    #[arg(long)]
    pub(crate) demo: bool,
    /// Short for --set edge.steering=MODE: auto, ebpf or off.
    #[arg(long, value_name = "MODE")]
    steering: Option<String>,
}

impl RunArgs {
    /// Loads the configuration, as [`Settings::load`].
    pub(crate) fn load(&self) -> Result<Loaded, Failure> {
        let mut settings = self.settings.clone();
        let steering = self.steering.iter();
        settings
            .set
            .extend(steering.map(|mode| ("edge.steering".to_owned(), mode.clone())));
        settings.load()
    }
}

/// Where the static configuration comes from, least binding first: defaults, file, environment, `--set`.
#[derive(Clone, Debug, Default, Args)]
pub struct Settings {
    /// Configuration file, YAML, TOML or JSON. Default: $CONFIG_FILE, then
    /// /opt/constellation/config/constellation.{yaml,yml,toml,json}, then none.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Set one key, for instance entryPoints.web.address=127.0.0.1:8000. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// The least severe level that is logged: trace, debug, info, warn or error.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

impl Settings {
    /// Loads the configuration; the failure carries every error and the code 78.
    pub(crate) fn load(&self) -> Result<Loaded, Failure> {
        let mut flags = self.set.clone();
        flags.extend(
            self.log_level
                .iter()
                .map(|level| ("log.level".to_owned(), level.clone())),
        );
        let options = LoadOptions {
            file: self.config.clone(),
            env: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            flags,
            host_name: None,
        };
        Config::load(options).map_err(|errors| Failure::new(Exit::Config, errors.to_string()))
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, for instance log.level=debug".to_owned()),
    }
}

/// Parses the command line, runs the command, and prints what went wrong.
pub fn main() -> Exit {
    crate::memory::refuse_huge_pages();
    let outcome = match Cli::parse().command {
        Command::Run(args) => crate::app::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Routes(args) => routes::run(&args),
        Command::Services(args) => services::run(&args),
        Command::Drain(args) => drain::run(&args, drain::Direction::Out),
        Command::Undrain(args) => drain::run(&args, drain::Direction::Back),
        Command::Status(args) => status::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Upgrade(args) => upgrade::run(&args),
        Command::Guard(args) => guard::run(&args),
        Command::Chase(args) => chase::run(&args),
        Command::Init(args) => cluster::init(&args),
        Command::Join(args) => cluster::join(&args),
        Command::Token(args) => cluster::token(&args),
        Command::Leave(args) => cluster::leave(&args),
        Command::Remove(args) => cluster::remove(&args),
        Command::Recover(args) => cluster::recover(&args),
        Command::Rotate(args) => cluster::rotate(&args),
        Command::Nodes(args) => nodes::nodes(&args),
        Command::Cordon(args) => nodes::cordon(&args, nodes::Change::Cordon),
        Command::Uncordon(args) => nodes::cordon(&args, nodes::Change::Uncordon),
        Command::Lease(args) => nodes::lease(&args),
        Command::Raft(args) => nodes::raft(&args),
        Command::Ebpf(args) => ebpf::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::DemoBackend(args) => crate::demo::run(&args),
    };
    match outcome {
        Ok(()) => Exit::Ok,
        Err(failure) => {
            if !failure.message.is_empty() {
                complain(&failure.message);
            }
            failure.exit
        }
    }
}

/// Writes a word to the reader beside the result.
fn complain_softly(message: &str) {
    writeln!(io::stderr(), "{message}").unwrap_or_default();
}

/// Writes to standard error; nothing is left to do when that is gone.
fn complain(message: &str) {
    writeln!(io::stderr(), "constellation: {message}").unwrap_or_default();
}

/// Writes a result to standard output. A reader that has had enough (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            Exit::Io,
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

/// Writes a value as indented JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot write JSON: {error}")))?;
    print(&format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn set_takes_a_key_and_a_value() {
        assert_eq!(key_value("a.b=c=d"), Ok(("a.b".to_owned(), "c=d".to_owned())));
        assert_eq!(key_value("a="), Ok(("a".to_owned(), String::new())));
        assert!(key_value("a").is_err());
        assert!(key_value("=a").is_err());
    }
}
