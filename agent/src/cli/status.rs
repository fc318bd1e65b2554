//! `constellation status`: how the running node fares.

use clap::Args;

use super::client::NodeChoice;
use super::{Failure, Settings, print_json};

/// `status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    node: NodeChoice,
    #[command(flatten)]
    settings: Settings,
    /// Print the node's answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let answer = args.node.find(&args.settings)?.get("/api/v1/status", &[])?;
    print_json(&answer)
}
