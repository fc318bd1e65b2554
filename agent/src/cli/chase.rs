//! `constellation chase`: an address moves here, and its connections stay with the node that had it.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::Value;

use super::client::Ask;
use super::{Failure, print, print_json};
use crate::chase::Wish;

/// `chase`.
#[derive(Debug, Args)]
#[command(
    after_help = "For scripts that move an address by hand, as keepalived runs them, on one Ethernet network. On the new \
                  holder: `constellation chase on --previous ADDRESS` first, then take the address, then tell the \
                  neighbours. The previous holder keeps the address to itself, so that it still takes packets for it: \
                  `ip address add ADDRESS/32 dev lo` before it is taken off the network device, with arp_ignore=1 and \
                  arp_announce=2 there."
)]
pub(super) struct ChaseArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Packets of connections that this node does not know go to the previous holder, for a while.
    On(On),
    /// They no longer do.
    Off(Off),
    /// Which addresses have moved here, from whom, and for how long yet.
    Status(Ask),
}

#[derive(Debug, Args)]
struct On {
    /// An address of the previous holder's own, at most one of each family. Default: edge.chase.previous.
    #[arg(long, value_name = "ADDRESS")]
    previous: Vec<String>,
    /// What has moved, an address or a network. Default: edge.chase.addresses, else those of the entry points.
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<String>,
    /// For how long, such as 90s or 10m, at most 24h. Default: edge.chase.for.
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, Args)]
struct Off {
    /// Only of this address or network, as it was named. Default: of all.
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<String>,
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn run(args: &ChaseArgs) -> Result<(), Failure> {
    match &args.command {
        Command::On(on) => {
            let wish = Wish {
                addresses: on.address.clone(),
                previous: on.previous.clone(),
                duration: on.duration.clone(),
            };
            change(&on.ask, "on", &wish)
        }
        Command::Off(off) => {
            let wish = Wish {
                addresses: off.address.clone(),
                ..Wish::default()
            };
            change(&off.ask, "off", &wish)
        }
        Command::Status(ask) => {
            const PATH: &str = "/api/v1/chase";
            let node = ask.node.find(&ask.settings)?;
            if ask.json {
                return print_json(&node.get::<Value>(PATH, &[])?);
            }
            show(&node.get(PATH, &[])?)
        }
    }
}

fn change(ask: &Ask, verb: &str, wish: &Wish) -> Result<(), Failure> {
    let node = ask.node.find(&ask.settings)?;
    let path = format!("/api/v1/chase/{verb}");
    if ask.json {
        return print_json(&node.post_json::<Value>(&path, wish)?);
    }
    show(&node.post_json(&path, wish)?)
}

/// As [`crate::chase::Report`] is sent.
#[derive(Debug, Deserialize)]
pub(super) struct Chase {
    state: String,
    reason: Option<String>,
    stand_in: Option<String>,
    devices: Vec<String>,
    moved: Vec<Moved>,
    problems: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Moved {
    address: String,
    previous: String,
    remaining_seconds: f64,
}

fn show(chase: &Chase) -> Result<(), Failure> {
    let mut text = String::new();
    // Writing to a String can't fail.
    line(&mut text, chase).unwrap_or_default();
    for moved in &chase.moved {
        writeln!(
            text,
            "moved        {} from {}, for another {:.0} s",
            moved.address, moved.previous, moved.remaining_seconds
        )
        .unwrap_or_default();
    }
    print(&text)
}

/// One line of `constellation status`.
pub(super) fn line(text: &mut String, chase: &Chase) -> std::fmt::Result {
    write!(text, "chase        {}", chase.state)?;
    if chase.state == "active" {
        let devices = match chase.devices.as_slice() {
            [] => "no device".to_owned(),
            devices => devices.join(" "),
        };
        match chase.moved.len() {
            0 => write!(text, " at {devices}: nothing has moved here")?,
            count => write!(
                text,
                " at {devices}: connections of {count} addresses stay with the node before"
            )?,
        }
    }
    for words in [&chase.reason, &chase.stand_in].into_iter().flatten() {
        write!(text, "; {words}")?;
    }
    for problem in &chase.problems {
        write!(text, "; {problem}")?;
    }
    writeln!(text)
}
