//! `constellation explain URL`: which route and which endpoint a request would get, and why the others lost.

use std::net::IpAddr;

use clap::Args;

use super::client::NodeChoice;
use super::{Failure, Settings, print_json};

/// `explain`.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The URL a client would ask for, for instance https://app.example.test/path?q=1.
    #[arg(value_name = "URL")]
    url: String,
    /// Method of the request.
    #[arg(long, default_value = "GET")]
    method: String,
    /// A header of the request, for instance "X-Tenant: blue". May be repeated.
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Entry point the request comes in on. Default: the one whose port the URL has, else the first that fits its
    /// scheme.
    #[arg(long, value_name = "NAME")]
    entrypoint: Option<String>,
    /// Address of the client.
    #[arg(long, value_name = "ADDRESS")]
    client_ip: Option<IpAddr>,
    #[command(flatten)]
    node: NodeChoice,
    #[command(flatten)]
    settings: Settings,
    /// Print the node's answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let client_ip = args.client_ip.map(|ip| ip.to_string());
    let mut query = vec![("url", args.url.as_str()), ("method", args.method.as_str())];
    query.extend(args.header.iter().map(|header| ("header", header.as_str())));
    query.extend(args.entrypoint.iter().map(|name| ("entrypoint", name.as_str())));
    query.extend(client_ip.iter().map(|ip| ("clientIp", ip.as_str())));
    let answer = args.node.find(&args.settings)?.get("/api/v1/explain", &query)?;
    print_json(&answer)
}
