//! `constellation init`, `join`, `token`, `leave`, `remove`, `rotate`: a node gets into a cluster and out of it.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use constellation_config::Config;
use constellation_identity::{JoinToken, NodeName};
use constellation_node::{Founder, Home, Identity, Joiner};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::client::Ask;
use super::drain::segment;
use super::{Exit, Failure, Settings, print, print_json};
use crate::cluster::advertised;

/// `init`.
#[derive(Debug, Args)]
#[command(
    after_help = "Makes the cluster's id, its certificate authority and its replicated log in node.dataDir. A node that \
                        runs here takes part after `constellation upgrade` or a restart. Others join with a token of \
                        `constellation token create`."
)]
pub(super) struct InitArgs {
    #[command(flatten)]
    settings: Settings,
    /// Address by which other nodes reach this one. Default: cluster.advertise, else the one that leads to the Internet.
    #[arg(long, value_name = "IP")]
    advertise: Option<IpAddr>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// `join`.
#[derive(Debug, Args)]
#[command(
    after_help = "The token is of `constellation token create` on any member, and good for one node. It is better given as a \
                        file or on standard input: what stands on a command line can be read by others on this machine."
)]
pub(super) struct JoinArgs {
    /// Members to ask, HOST or HOST:PORT of their links (8300).
    #[arg(value_name = "ADDRESS", required = true)]
    addresses: Vec<String>,
    /// The join token; `-`: from standard input.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "CONSTELLATION_JOIN_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// A file that holds it.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// Address by which other nodes reach this one. Default: cluster.advertise, else the one from which it reaches the member.
    #[arg(long, value_name = "IP")]
    advertise: Option<IpAddr>,
    /// Only votes, and carries no traffic: the third voter of two hosts.
    #[arg(long)]
    witness: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// `token`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a join token, good for one node, and print it. It is shown once.
    Create {
        /// How long it is good, 1m to 168h. Default: 1h.
        #[arg(long = "for", value_name = "DURATION")]
        lifetime: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
}

/// `leave`.
#[derive(Debug, Args)]
#[command(
    after_help = "The node that runs here lets go of its leases, is no member any more, and serves on alone. \
                        With --force, for a node that does not run or can't reach the others: only what is on this disk is put \
                        aside; have another node run `constellation remove` then."
)]
pub(super) struct LeaveArgs {
    #[command(flatten)]
    ask: Ask,
    /// Put aside what this node has of the cluster without telling anybody.
    #[arg(long)]
    force: bool,
}

/// `remove`.
#[derive(Debug, Args)]
#[command(
    after_help = "For a node that is lost or must not come back: its certificate is refused everywhere from then on, and gossip \
                        gets another key. A node that is there is better taken out with `constellation leave` on it."
)]
pub(super) struct RemoveArgs {
    /// Its name.
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    ask: Ask,
}

/// `recover`.
#[derive(Debug, Args)]
#[command(
    after_help = "For when the majority of the voters is lost for good, and nothing else helps: waiting for them, starting them, \
                        restoring their disks. This node must not run; it goes on as the only member, with all that it knew, and the \
                        others have to join anew. What the lost ones agreed upon and this one never heard of is lost. If any of them \
                        runs again with what it has on disk, there are two clusters: wipe their data folders first."
)]
pub(super) struct RecoverArgs {
    /// That the others are lost for good.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    settings: Settings,
}

/// `rotate`.
#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    what: Rotated,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Rotated {
    /// The key that gossip is sealed with, on all nodes.
    GossipKey,
    /// The certificate of the node that is asked.
    Certificate,
}

/// Runs something that needs a runtime for a moment.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    // Twice is once: whoever was first did the same.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::System, format!("cannot start a thread: {error}")))?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}

fn name_of(config: &Config) -> Result<NodeName, Failure> {
    let name = &config.node.name;
    name.parse().map_err(|error: constellation_identity::NameError| {
        Failure::new(Exit::Config, format!("node.name: {error}"))
    })
}

fn failed(error: impl ToString) -> Failure {
    Failure::new(Exit::Failure, error.to_string())
}

pub(super) fn init(args: &InitArgs) -> Result<(), Failure> {
    let config = args.settings.load()?.config;
    let advertise = match args.advertise {
        Some(ip) => ip,
        None => advertised(&config.cluster).map_err(|error| Failure::new(Exit::Config, error))?,
    };
    let at = |port| std::net::SocketAddr::new(advertise, port).to_string();
    let founder = Founder {
        node: name_of(&config)?,
        advertise,
        address: at(config.cluster.raft.port),
        gossip: at(config.cluster.gossip.port),
    };
    let home = Home::below(&config.node.data_dir);
    let identity = block_on(constellation_node::found(&home, &founder))?.map_err(failed)?;
    if args.json {
        return print_json(&identity);
    }
    print(&format!(
        "cluster {}\nnode    {} at {} (links {}/tcp, gossip {}/udp)\n\n{}To take another node in:\n  here:   constellation token create\n  \
         there:  constellation join {} --token TOKEN\n",
        identity.cluster,
        identity.node,
        advertise,
        config.cluster.raft.port,
        config.cluster.gossip.port,
        what_next(),
        founder.address,
    ))
}

/// A node that runs already does not know yet.
fn what_next() -> &'static str {
    if crate::runtime_file::running().is_empty() {
        "It takes part once it runs: constellation run, or systemctl start constellation-agent\n\n"
    } else {
        "The node that runs here takes part after `constellation upgrade`, which costs no connection.\n\n"
    }
}

pub(super) fn join(args: &JoinArgs) -> Result<(), Failure> {
    let config = args.settings.load()?.config;
    let text = token_text(args)?;
    let token: JoinToken = text
        .trim()
        .parse()
        .map_err(|error: constellation_identity::TokenError| Failure::new(Exit::Usage, error.to_string()))?;
    let addresses: Vec<String> = args
        .addresses
        .iter()
        .map(|address| with_port(address, 8300))
        .collect();
    let joiner = Joiner {
        node: name_of(&config)?,
        advertise: args.advertise.or(config.cluster.advertise),
        raft_port: config.cluster.raft.port,
        gossip_port: config.cluster.gossip.port,
        witness: args.witness,
    };
    let home = Home::below(&config.node.data_dir);
    let joined = block_on(constellation_node::join(&home, &addresses, token, &joiner))?;
    let identity: Identity = joined.map_err(failed)?;
    if args.json {
        return print_json(&identity);
    }
    print(&format!(
        "node {} is a member of cluster {} now, reached by others at {}\n{}",
        identity.node,
        identity.cluster,
        identity.advertise,
        what_next()
    ))
}

fn token_text(args: &JoinArgs) -> Result<Zeroizing<String>, Failure> {
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|error| Failure::new(Exit::Io, format!("{} can't be read: {error}", path.display())))
    };
    match (&args.token, &args.token_file) {
        (Some(dash), _) if dash == "-" => {
            let mut text = Zeroizing::new(String::new());
            std::io::stdin()
                .take(4096)
                .read_to_string(&mut text)
                .map_err(|error| Failure::new(Exit::Io, format!("standard input can't be read: {error}")))?;
            Ok(text)
        }
        (Some(token), _) => Ok(Zeroizing::new(token.clone())),
        (None, Some(path)) => read(path),
        (None, None) => Err(Failure::new(
            Exit::Usage,
            "a join token is needed: --token-file FILE, --token - (standard input) or --token TOKEN; \
             `constellation token create` on a member makes one",
        )),
    }
}

/// HOST:PORT of what may have no port.
fn with_port(text: &str, port: u16) -> String {
    if text.parse::<std::net::SocketAddr>().is_ok() {
        return text.to_owned();
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return std::net::SocketAddr::new(ip, port).to_string();
    }
    match text.rsplit_once(':') {
        Some((_, digits)) if digits.parse::<u16>().is_ok() => text.to_owned(),
        _ => format!("{text}:{port}"),
    }
}

#[derive(Deserialize)]
struct Token {
    token: String,
    expires_in_seconds: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Done {
    pub(super) done: String,
}

/// Asks a node to do something, and prints what came of it.
pub(super) fn order(ask: &Ask, path: &str, body: &Value) -> Result<(), Failure> {
    let node = ask.node.find(&ask.settings)?;
    if ask.json {
        return print_json(&node.post_json::<Value>(path, body)?);
    }
    let done: Done = node.post_json(path, body)?;
    print(&format!("{}\n", done.done))
}

pub(super) fn token(args: &TokenArgs) -> Result<(), Failure> {
    let TokenCommand::Create { lifetime, ask } = &args.command;
    let node = ask.node.find(&ask.settings)?;
    let body = match lifetime {
        Some(lifetime) => json!({ "for": lifetime }),
        None => json!({}),
    };
    if ask.json {
        return print_json(&node.post_json::<Value>("/api/v1/tokens", &body)?);
    }
    let token: Token = node.post_json("/api/v1/tokens", &body)?;
    let life = humantime::format_duration(std::time::Duration::from_secs(token.expires_in_seconds));
    // Alone on standard output, so that it can be piped.
    super::complain_softly(&format!("good for one node, for {life}; it is shown once:"));
    print(&format!("{}\n", token.token))
}

pub(super) fn leave(args: &LeaveArgs) -> Result<(), Failure> {
    if !args.force {
        return order(&args.ask, "/api/v1/cluster/leave", &json!({}));
    }
    let config = args.ask.settings.load()?.config;
    let home = Home::below(&config.node.data_dir);
    let identity = home.identity().map_err(failed)?;
    let Some(identity) = identity else {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "this node is in no cluster (nothing in {})",
                home.folder().display()
            ),
        ));
    };
    if !crate::runtime_file::running().is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            "a node runs here: stop it first, or leave without --force",
        ));
    }
    let moved = home.abandon().map_err(failed)?;
    let moved: Vec<String> = moved.iter().map(|path| path.display().to_string()).collect();
    print(&format!(
        "node {} has left cluster {}; what it had of it is in {}\nthe others do not know: run `constellation remove {}` on one of \
         them\n",
        identity.node,
        identity.cluster,
        moved.join(" and "),
        identity.node
    ))
}

pub(super) fn recover(args: &RecoverArgs) -> Result<(), Failure> {
    if !args.force {
        return Err(Failure::new(
            Exit::Usage,
            "this makes a cluster of one out of this node and shuts all others out for good; read `constellation recover --help`, \
             and say --force if that is what is needed",
        ));
    }
    let config = args.settings.load()?.config;
    let home = Home::below(&config.node.data_dir);
    let (raft, gossip) = (config.cluster.raft.port, config.cluster.gossip.port);
    let recovered = constellation_node::recover(&home, raft, gossip).map_err(failed)?;
    let others = match recovered.others.as_slice() {
        [] => "nobody else".to_owned(),
        others => others.join(", "),
    };
    print(&format!(
        "node {} goes on alone as cluster {}\nentries that nobody may have agreed upon, and that count now: {}\nthe log as it was is in \
         {}\nwhen it runs it takes out: {others}\nwipe their data folders before they are started again, and have them join anew\n",
        recovered.identity.node,
        recovered.identity.cluster,
        recovered.uncertain,
        recovered.kept.display(),
    ))
}

pub(super) fn remove(args: &RemoveArgs) -> Result<(), Failure> {
    let path = format!("/api/v1/nodes/{}/remove", segment(&args.node));
    order(&args.ask, &path, &json!({}))
}

pub(super) fn rotate(args: &RotateArgs) -> Result<(), Failure> {
    let path = match args.what {
        Rotated::GossipKey => "/api/v1/cluster/rotate-gossip-key",
        Rotated::Certificate => "/api/v1/cluster/renew-certificate",
    };
    order(&args.ask, path, &json!({}))
}

#[cfg(test)]
mod tests {
    use super::with_port;

    #[test]
    fn an_address_without_a_port_gets_that_of_the_links() {
        for (text, expected) in [
            ("10.0.0.1", "10.0.0.1:8300"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("fd00::1", "[fd00::1]:8300"),
            ("[fd00::1]", "[fd00::1]:8300"),
            ("[fd00::1]:1", "[fd00::1]:1"),
            ("edge-1", "edge-1:8300"),
            ("edge-1.example.org:99", "edge-1.example.org:99"),
        ] {
            assert_eq!(with_port(text, 8300), expected);
        }
    }
}
