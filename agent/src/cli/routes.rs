//! `constellation routes`: the routes of the running node.

use clap::Args;

use super::client::NodeChoice;
use super::{Failure, Settings, print_json};

/// `routes`.
#[derive(Debug, Args)]
pub(super) struct RoutesArgs {
    #[command(flatten)]
    node: NodeChoice,
    #[command(flatten)]
    settings: Settings,
    /// Print the node's answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &RoutesArgs) -> Result<(), Failure> {
    let answer = args.node.find(&args.settings)?.get("/api/v1/routes", &[])?;
    print_json(&answer)
}
