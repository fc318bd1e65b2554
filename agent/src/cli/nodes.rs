//! `constellation nodes`, `cordon`, `uncordon`, `lease`, `raft`: the cluster as a node sees it, and what is wanted of it.

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Ask;
use super::cluster::order;
use super::drain::segment;
use super::{Failure, print, print_json, table};

/// `nodes`.
#[derive(Debug, Args)]
pub(super) struct NodesArgs {
    #[command(flatten)]
    ask: Ask,
}

/// `cordon` and `uncordon`.
#[derive(Debug, Args)]
pub(super) struct CordonArgs {
    /// Its name, as `constellation nodes` has it.
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    ask: Ask,
}

/// `lease`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct LeaseArgs {
    #[command(subcommand)]
    command: Option<LeaseCommand>,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, Subcommand)]
enum LeaseCommand {
    /// Give a lease to another node; nobody is refused on the way.
    Transfer {
        /// lb_leader, dns_writer or service:NAME.
        #[arg(value_name = "LEASE")]
        lease: String,
        /// To whom.
        #[arg(value_name = "NODE")]
        node: String,
        #[command(flatten)]
        ask: Ask,
    },
}

/// `raft`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(super) struct RaftArgs {
    #[command(subcommand)]
    command: RaftCommand,
}

#[derive(Debug, Subcommand)]
enum RaftCommand {
    /// Show the replicated log of the node that is asked.
    Status(Ask),
}

/// As the API shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Node {
    name: String,
    this: bool,
    online: bool,
    cordoned: bool,
    draining: bool,
    voter: bool,
    leader: bool,
    witness: bool,
    priority: Option<u32>,
    region: Option<String>,
    version: Option<String>,
    address: Option<String>,
    leases: Vec<String>,
    /// What a node of an earlier release does not tell is left out.
    #[serde(default)]
    load: Option<Load>,
}

/// How much a node has to do.
#[derive(Debug, Deserialize)]
struct Load {
    cpu_permille: u16,
    memory_permille: u16,
    connections: u32,
    requests: u32,
}

impl Load {
    fn text(&self) -> String {
        format!(
            "cpu {} %, memory {} %, {} open, {} running",
            self.cpu_permille / 10,
            self.memory_permille / 10,
            self.connections,
            self.requests
        )
    }
}

impl Node {
    fn state(&self) -> &'static str {
        match (self.online, self.draining, self.cordoned) {
            (false, ..) => "offline",
            (_, true, _) => "draining",
            (_, _, true) => "cordoned",
            _ => "online",
        }
    }

    fn part(&self) -> &'static str {
        match (self.leader, self.voter, self.witness) {
            (true, _, true) => "leader, witness",
            (true, ..) => "leader",
            (_, true, true) => "witness",
            (_, true, false) => "voter",
            _ => "learner",
        }
    }

    /// One line of `constellation status`.
    pub(super) fn line(&self) -> String {
        let leases = if self.leases.is_empty() {
            String::new()
        } else {
            format!(", has {}", self.leases.join(" "))
        };
        format!("{} {}, {}{leases}", self.name, self.state(), self.part())
    }
}

pub(super) fn nodes(args: &NodesArgs) -> Result<(), Failure> {
    const PATH: &str = "/api/v1/nodes";
    let node = args.ask.node.find(&args.ask.settings)?;
    if args.ask.json {
        return print_json(&node.get::<Value>(PATH, &[])?);
    }
    let nodes: Vec<Node> = node.get(PATH, &[])?;
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let rows: Vec<_> = nodes
        .iter()
        .map(|node| {
            [
                format!("{}{}", node.name, if node.this { " *" } else { "" }),
                node.state().to_owned(),
                node.part().to_owned(),
                or_dash(&node.address),
                node.priority
                    .map_or_else(|| "-".to_owned(), |priority| priority.to_string()),
                or_dash(&node.region),
                or_dash(&node.version),
                node.load.as_ref().map_or_else(|| "-".to_owned(), Load::text),
                if node.leases.is_empty() {
                    "-".to_owned()
                } else {
                    node.leases.join(" ")
                },
            ]
        })
        .collect();
    print(&table::render(
        [
            "NODE", "STATE", "LOG", "ADDRESS", "PRIORITY", "REGION", "VERSION", "LOAD", "LEASES",
        ],
        &rows,
    ))
}

/// What becomes of a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Cordon,
    Uncordon,
}

pub(super) fn cordon(args: &CordonArgs, change: Change) -> Result<(), Failure> {
    let verb = match change {
        Change::Cordon => "cordon",
        Change::Uncordon => "uncordon",
    };
    wish(&args.ask, &args.node, verb)
}

/// Says of a node what is wanted of it.
pub(super) fn wish(ask: &Ask, node: &str, verb: &str) -> Result<(), Failure> {
    order(
        ask,
        &format!("/api/v1/nodes/{}/{verb}", segment(node)),
        &json!({}),
    )
}

#[derive(Debug, Deserialize)]
struct Lease {
    key: String,
    holder: Option<String>,
    token: Option<u64>,
    mine: bool,
    remaining_ms: Option<u64>,
    changes: u64,
    losses: u64,
}

pub(super) fn lease(args: &LeaseArgs) -> Result<(), Failure> {
    if let Some(LeaseCommand::Transfer { lease, node, ask }) = &args.command {
        let path = format!("/api/v1/leases/{}/transfer", segment(lease));
        return order(ask, &path, &json!({ "to": node }));
    }
    const PATH: &str = "/api/v1/leases";
    let node = args.ask.node.find(&args.ask.settings)?;
    if args.ask.json {
        return print_json(&node.get::<Value>(PATH, &[])?);
    }
    let leases: Vec<Lease> = node.get(PATH, &[])?;
    let rows: Vec<_> = leases
        .into_iter()
        .map(|lease| {
            let holder = lease.holder.unwrap_or_else(|| "nobody".to_owned());
            let left = match (lease.mine, lease.remaining_ms) {
                (true, Some(left)) => format!("{left} ms"),
                _ => "-".to_owned(),
            };
            [
                lease.key,
                holder,
                lease
                    .token
                    .map_or_else(|| "-".to_owned(), |token| token.to_string()),
                left,
                lease.changes.to_string(),
                lease.losses.to_string(),
            ]
        })
        .collect();
    print(&table::render(
        ["LEASE", "HOLDER", "TOKEN", "LEFT", "CHANGES", "LOST HERE"],
        &rows,
    ))
}

#[derive(Debug, Deserialize)]
struct Raft {
    is_leader: bool,
    leader: Option<String>,
    term: u64,
    quorum: bool,
    applied: Option<u64>,
    /// What a node of an earlier release does not tell is left out.
    lag: Option<u64>,
    elections_started: Option<u64>,
    elections_won: Option<u64>,
    leader_changes: Option<u64>,
    write_mean_us: Option<u64>,
    write_longest_us: Option<u64>,
    voters: usize,
    learners: usize,
    stopped: Option<String>,
}

pub(super) fn raft(args: &RaftArgs) -> Result<(), Failure> {
    const PATH: &str = "/api/v1/raft/status";
    let RaftCommand::Status(ask) = &args.command;
    let node = ask.node.find(&ask.settings)?;
    if ask.json {
        return print_json(&node.get::<Value>(PATH, &[])?);
    }
    let raft: Raft = node.get(PATH, &[])?;
    let leader = match (&raft.leader, raft.is_leader) {
        (_, true) => "this node".to_owned(),
        (Some(leader), _) => leader.clone(),
        (None, _) => "nobody that this node knows".to_owned(),
    };
    let quorum = if raft.quorum {
        "yes"
    } else {
        "no: nothing is changed until a majority of the voters is back"
    };
    let applied = raft
        .applied
        .map_or_else(|| "nothing".to_owned(), |applied| applied.to_string());
    let mut text = format!(
        "leader       {leader}\nterm         {}\nquorum       {quorum}\nvoters       {}\nlearners     {}\napplied      {applied}\n",
        raft.term, raft.voters, raft.learners
    );
    if let Some(lag) = raft.lag {
        text += &format!("to apply     {lag}\n");
    }
    if let (Some(started), Some(won), Some(changes)) =
        (raft.elections_started, raft.elections_won, raft.leader_changes)
    {
        text += &format!("elections    stood {started}, won {won}; leaders seen {changes}\n");
    }
    if let (Some(mean), Some(longest)) = (raft.write_mean_us, raft.write_longest_us) {
        text += &format!(
            "log writes   {} on average, {} at most\n",
            millis(mean),
            millis(longest)
        );
    }
    if let Some(stopped) = &raft.stopped {
        text += &format!("stopped      {stopped}\n");
    }
    print(&text)
}

/// Microseconds, as milliseconds to read.
fn millis(micros: u64) -> String {
    format!("{}.{:02} ms", micros / 1000, micros % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use super::millis;

    #[test]
    fn microseconds_are_read_as_milliseconds() {
        for (micros, text) in [
            (0, "0.00 ms"),
            (59, "0.05 ms"),
            (1_234, "1.23 ms"),
            (2_000_090, "2000.09 ms"),
        ] {
            assert_eq!(millis(micros), text);
        }
    }
}
