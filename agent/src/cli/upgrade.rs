//! `constellation upgrade`: the running node is replaced by a new process, from the program that lies in its place now.

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::client::Ask;
use super::{Failure, print, print_json};

/// `upgrade`.
#[derive(Debug, Args)]
#[command(
    after_help = "Put the new program in the place of the old one first (write it beside, then `mv`: a running \
                        program can't be written over). Then the new process takes over the listening sockets, and the \
                        old one finishes what it has begun. If the new one does not come up, the old one serves on."
)]
pub(super) struct UpgradeArgs {
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, Deserialize)]
struct Upgraded {
    pid: u32,
    version: String,
}

pub(super) fn run(args: &UpgradeArgs) -> Result<(), Failure> {
    const PATH: &str = "/api/v1/upgrade";
    let node = args.ask.node.find(&args.ask.settings)?;
    if args.ask.json {
        return print_json(&node.post::<Value>(PATH)?);
    }
    let Upgraded { pid, version } = node.post(PATH)?;
    print(&format!(
        "version {version} serves (pid {pid}); the process before it finishes what it has begun\n"
    ))
}
