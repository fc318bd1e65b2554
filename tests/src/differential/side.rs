//! The two proxies, started with the same static configuration but for what each calls its own.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::ValueEnum;
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::case::{PLACES, Setting, entry_point};
use super::site::Site;
use crate::eventually;
use crate::node::{Node, inherited};

/// The first port of entry points; those of a place follow each other.
const FIRST_PORT: u16 = 20_000;
/// The entry point by which the harness sees that a configuration has arrived.
pub(super) const MARKER: &str = "marker";
const MARKER_PORT: u16 = FIRST_PORT - 1;
/// The priority of the redirection of an entry point that has one.
pub(super) const REDIRECTION: i64 = 10;
/// Where a node has its document; the port after it is for what only other nodes have.
const DOCUMENT_PORT: u16 = FIRST_PORT - 3;

/// A proxy.
#[derive(Debug)]
pub(super) struct Side {
    /// `traefik` or `constellation`.
    pub(super) name: &'static str,
    address: Ipv4Addr,
    process: Process,
}

#[derive(Debug)]
enum Process {
    Traefik {
        child: Child,
        log: PathBuf,
    },
    Constellation(Box<Node>),
    /// A Traefik, and the node that it polls.
    Provided {
        child: Child,
        log: PathBuf,
        node: Box<Node>,
    },
}

/// What Traefik is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Second {
    /// Our binary.
    #[default]
    Constellation,
    /// Another Traefik, so that whatever differs is of this harness's making.
    Traefik,
    /// Another Traefik, which gets everything from our binary.
    Provider,
}

impl fmt::Display for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Constellation => "constellation",
            Self::Traefik => "traefik",
            Self::Provider => "provider",
        })
    }
}

/// Where both find their dynamic configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Providers<'a> {
    pub(super) files: &'a Path,
    pub(super) docker: &'a Path,
    pub(super) setting: &'a Setting,
}

impl Providers<'_> {
    fn section(&self) -> Value {
        let mut docker = json!(self.setting.docker);
        docker["endpoint"] = json!(format!("unix://{}", self.docker.display()));
        json!({ "file": { "directory": self.files, "watch": true }, "docker": docker })
    }
}

impl Side {
    /// Starts Traefik at one of the two addresses.
    pub(super) async fn traefik(
        program: &Path,
        site: &Site,
        which: u8,
        providers: Providers<'_>,
        directory: &Path,
    ) -> Self {
        let address = site.proxy(which);
        let (child, log) = start(program, site, address, providers.section(), directory);
        let process = Process::Traefik { child, log };
        Self::listening("traefik", address, process).await
    }

    /// Starts ours.
    pub(super) async fn constellation(site: &Site, providers: Providers<'_>) -> Self {
        let address = site.proxy(1);
        let node = node(site, address, providers, json!({})).await;
        Self::listening("constellation", address, Process::Constellation(node)).await
    }

    /// Starts ours, and a Traefik that polls it and answers in its place.
    pub(super) async fn provided(
        program: &Path,
        site: &Site,
        providers: Providers<'_>,
        directory: &Path,
    ) -> Self {
        let own = site.proxy(2);
        let listen = |port: u16| json!({ "address": format!("{own}:{port}") });
        let mut provider = listen(DOCUMENT_PORT);
        provider["failover"] = listen(DOCUMENT_PORT + 1);
        let more = json!({ "edge": { "mode": "behind-traefik" }, "traefikProvider": provider });
        let node = node(site, own, providers, more).await;
        let address = site.proxy(1);
        let endpoint = format!("http://{own}:{DOCUMENT_PORT}/api/dynamic");
        let polls = json!({ "http": { "endpoint": endpoint, "pollInterval": "100ms" } });
        let (child, log) = start(program, site, address, polls, directory);
        let process = Process::Provided { child, log, node };
        Self::listening("traefik behind which is constellation", address, process).await
    }

    async fn listening(name: &'static str, address: Ipv4Addr, process: Process) -> Self {
        let side = Self {
            name,
            address,
            process,
        };
        eventually(&format!("{name} listens"), async || {
            TcpStream::connect(side.marker()).await.map(drop)
        })
        .await;
        side
    }

    /// Where the entry point [`MARKER`] is.
    pub(super) fn marker(&self) -> SocketAddr {
        (self.address, MARKER_PORT).into()
    }

    /// Where an entry point of a place is; 2 and 3: one of the default ones.
    pub(super) fn entry_point(&self, place: u64, which: u8) -> SocketAddr {
        let (place, which) = if which < 2 { (place, which) } else { (0, which - 2) };
        (self.address, port(place, which)).into()
    }

    /// Ends it and waits until nothing of it listens any more.
    pub(super) async fn end(self) {
        match self.process {
            Process::Traefik { mut child, .. } => child.kill().await.unwrap_or_default(),
            Process::Constellation(node) => node.end().await,
            Process::Provided { mut child, node, .. } => {
                child.kill().await.unwrap_or_default();
                node.end().await;
            }
        }
    }

    /// Has it read everything anew, should it offer that.
    pub(super) fn reload(&self) {
        match &self.process {
            Process::Constellation(node) | Process::Provided { node, .. } => node.signal(Signal::SIGHUP),
            Process::Traefik { .. } => {}
        }
    }

    /// What it wrote last about errors.
    pub(super) fn complaint(&self) -> String {
        let log = self.log();
        let mut errors = log
            .lines()
            .filter(|line| line.contains("ERR") || line.contains("ERROR"));
        errors.next_back().unwrap_or("no error in its log").to_owned()
    }

    /// Everything it wrote.
    pub(super) fn log(&self) -> String {
        match &self.process {
            Process::Constellation(node) => node.log(),
            Process::Traefik { log, .. } => fs::read_to_string(log).unwrap_or_default(),
            Process::Provided { log, node, .. } => fs::read_to_string(log).unwrap_or_default() + &node.log(),
        }
    }
}

/// Starts a Traefik whose entry points are at `address`.
fn start(
    program: &Path,
    site: &Site,
    address: Ipv4Addr,
    mut providers: Value,
    directory: &Path,
) -> (Child, PathBuf) {
    let own = |end: &str| directory.join(format!("traefik-{address}.{end}"));
    providers["providersThrottleDuration"] = json!("20ms");
    let log = own("log");
    let config = json!({
        "global": { "checkNewVersion": false, "sendAnonymousUsage": false },
        "log": { "level": "DEBUG", "filePath": log },
        "entryPoints": entry_points(site, address),
        "providers": providers,
    });
    let file = own("yaml");
    fs::write(&file, config.to_string()).unwrap();
    let child = Command::new(program)
        .arg(format!("--configFile={}", file.display()))
        .env_clear()
        .envs(inherited())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(own("stderr")).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    (child, log)
}

/// Starts a node of ours whose entry points are at `address`.
async fn node(site: &Site, address: Ipv4Addr, providers: Providers<'_>, more: Value) -> Box<Node> {
    let mut providers = providers.section();
    // A batch takes the place of the last one; what was removed must not answer in its name.
    providers["docker"]["removedGracePeriod"] = json!("0s");
    let mut entry_points = entry_points(site, address);
    entry_points.insert("web".into(), Value::Null);
    // Traefik has no budget of retries.
    let defaults = json!({ "retry": { "budgetMin": 1000 } });
    let builder = Node::builder()
        .config(json!({ "entryPoints": entry_points, "providers": providers, "serviceDefaults": defaults }));
    Box::new(builder.config(more).start().await)
}

fn port(place: u64, which: u8) -> u16 {
    let place = u16::try_from(place).expect("there are few places");
    FIRST_PORT + place * 2 + u16::from(which)
}

/// What is special about the entry points of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    /// Nothing.
    None,
    /// They are the default ones.
    Default,
    /// The first has TLS for all its routers.
    Secure,
    /// The first believes everybody's `X-Forwarded-*`.
    Insecure,
    /// The first believes those of client 1.
    Trusting,
    /// The first redirects to the second by HTTPS.
    Redirecting,
}

impl Special {
    /// Of this place.
    pub(super) fn of(place: u64) -> Self {
        match place {
            0 => Self::Default,
            place if place % 16 == 1 => Self::Secure,
            place if place % 16 == 2 => Self::Insecure,
            place if place % 16 == 3 => Self::Trusting,
            4 | 36 => Self::Redirecting,
            _ => Self::None,
        }
    }
}

fn entry_points(site: &Site, address: Ipv4Addr) -> Map<String, Value> {
    let mut all = Map::new();
    let listen = |port: u16| json!(format!("{address}:{port}"));
    all.insert(MARKER.into(), json!({ "address": listen(MARKER_PORT) }));
    for place in 0..PLACES {
        for which in 0..2 {
            let mut entry = json!({ "address": listen(port(place, which)) });
            match (Special::of(place), which) {
                (Special::Default, _) => entry["asDefault"] = json!(true),
                (Special::Secure, 0) => entry["http"] = json!({ "tls": {} }),
                (Special::Insecure, 0) => entry["forwardedHeaders"] = json!({ "insecure": true }),
                (Special::Trusting, 0) => {
                    entry["forwardedHeaders"] = json!({ "trustedIPs": [site.client(1)] });
                }
                (Special::Redirecting, 0) => {
                    let to = json!({ "to": entry_point(place, 1), "priority": REDIRECTION });
                    entry["http"] = json!({ "redirections": { "entryPoint": to } });
                }
                _ => {}
            }
            all.insert(entry_point(place, which), entry);
        }
    }
    all
}
