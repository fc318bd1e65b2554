//! `constellation explain URL`: which route and which endpoint a request, a connection or a client's datagrams would get,
//! and why the others lost.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::client::NodeChoice;
use super::{Exit, Failure, Settings, print, print_json};
use crate::compile::{Compiler, Statics};
use crate::control::{Answer, EntryPointFacts, Question};
use crate::sources;

/// `explain`.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The URL a client would ask for, for instance https://app.example.test/path?q=1. A connection:
    /// tcp://192.0.2.1:5432, or with TLS tls://db.example.test:5432, which is short for
    /// tcp://192.0.2.1:5432?sni=db.example.test; `alpn=h2,http/1.1` adds protocols. Datagrams: udp://192.0.2.1:53.
    #[arg(value_name = "URL")]
    url: String,
    /// Method of a request. Default: GET.
    #[arg(long)]
    method: Option<String>,
    /// A header of a request, for instance "X-Tenant: blue". May be repeated.
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Entry point it comes in on. Default: the one whose port the URL has, for a request else the first that fits its
    /// scheme.
    #[arg(long, value_name = "NAME")]
    entrypoint: Option<String>,
    /// Address of the client.
    #[arg(long, value_name = "ADDRESS")]
    client_ip: Option<IpAddr>,
    #[command(flatten)]
    node: NodeChoice,
    /// Ask no node: answer from the file provider of this configuration. What Docker adds is not known then.
    #[arg(long, short, value_name = "FILE", conflicts_with = "control")]
    config: Option<PathBuf>,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let explanation = match &args.config {
        Some(file) => ask_files(args, file)?,
        None => ask_node(args)?,
    };
    if args.json {
        print_json(&explanation)
    } else {
        print(&format!("{}\n", explanation.to_string().trim_end()))
    }
}

fn ask_node(args: &ExplainArgs) -> Result<Answer, Failure> {
    let client_ip = args.client_ip.map(|ip| ip.to_string());
    let mut query = vec![("url", args.url.as_str())];
    query.extend(args.method.iter().map(|method| ("method", method.as_str())));
    query.extend(args.header.iter().map(|header| ("header", header.as_str())));
    query.extend(args.entrypoint.iter().map(|name| ("entrypoint", name.as_str())));
    query.extend(client_ip.iter().map(|ip| ("client_ip", ip.as_str())));
    args.node
        .find(&Settings::default())?
        .get("/api/v1/explain", &query)
}

fn ask_files(args: &ExplainArgs, file: &Path) -> Result<Answer, Failure> {
    let settings = Settings {
        config: Some(file.to_owned()),
        ..Settings::default()
    };
    let config = settings.load()?.config;
    let statics = Statics::new(&config, &[]).map_err(|error| Failure::new(Exit::Config, error))?;
    let reading = config
        .providers
        .file
        .as_ref()
        .map(|files| Arc::new(sources::file::read_once(&files.source)));
    if reading.is_none() {
        super::complain(
            "the configuration has no file provider (providers.file), so no router is known here",
        );
    }
    let compiled = Compiler::new(statics).compile(reading.as_slice(), 0);
    for problem in &compiled.problems {
        super::complain(&format!("{}: {}", problem.subject, problem.message));
    }
    let entry_points = config.entry_points.iter().map(|entry_point| EntryPointFacts {
        name: entry_point.name.as_str().into(),
        protocol: entry_point.protocol,
        addresses: entry_point.addresses.clone(),
    });
    let entry_points: Vec<EntryPointFacts> = entry_points.collect();
    let question = Question {
        url: args.url.clone(),
        method: args.method.clone(),
        headers: args.header.clone(),
        entry_point: args.entrypoint.clone(),
        client_ip: args.client_ip.map(|ip| ip.to_string()),
    };
    question
        .ask(&compiled.snapshot, &entry_points)
        .map_err(|error| Failure::new(Exit::Usage, error.to_string()))
}
