//! Attacks beside normal clients: every normal request is served, and memory stays where it was.
//!
//! The attackers come from the same address as the normal clients, as behind a NAT.

use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use super::HOST;
use super::verdict::milliseconds;
use crate::backend::Backend;
use crate::fault::FaultBackend;
use crate::fault::journal::now;
use crate::fleet::{Fleet, Mix, Story};
use crate::flood::{Apart, Flood, Running, Target};
use crate::node::Node;

/// The host that attackers ask for; its back end is not that of the normal clients.
const VICTIM: &str = "victim.test";
/// Most that memory may grow by in a flood of frames, which should leave nothing behind.
const GROWTH: u64 = 64 << 20;
/// Most for each slow connection, which has a request running and is served like any other.
const GROWTH_EACH: u64 = 512 << 10;

/// One of the slow attacks of `slowhttptest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Slow {
    /// `-H`: headers that never end.
    Headers,
    /// `-B`: bodies that never end.
    Body,
    /// `-X`: responses that are not read.
    Read,
    /// `-R`: ranges that overlap.
    Range,
}

impl Slow {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Headers, Self::Body, Self::Read, Self::Range];

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Headers => &["-H", "-i", "10"],
            Self::Body => &["-B", "-i", "10", "-s", "8192"],
            Self::Read => &["-X", "-k", "3", "-n", "5", "-w", "512", "-y", "1024", "-z", "32"],
            Self::Range => &["-R", "-a", "10", "-b", "3000"],
        }
    }
}

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The normal clients.
    pub mix: Mix,
    /// Before the attack.
    pub before: Duration,
    /// Of the attack.
    pub during: Duration,
    /// Connections of the attack.
    pub attackers: usize,
    /// A flood comes from a process of the least priority: what it costs to make is not what is measured. Only the program
    /// `proof` has such a process.
    pub apart: bool,
}

impl Plan {
    /// For a test.
    pub const SMALL: Self = Self {
        mix: Mix {
            get: 8,
            post: 0,
            keyed: 0,
            pause: Duration::from_millis(4),
        },
        before: Duration::from_secs(1),
        during: Duration::from_secs(3),
        attackers: 8,
        apart: false,
    };
}

/// What a run showed.
#[derive(Debug)]
pub struct Report {
    /// Normal requests served.
    pub served: usize,
    /// What happened to the others.
    pub lost: Vec<String>,
    /// Of normal requests before the attack, nanoseconds.
    pub p99_before: u64,
    /// The same during the attack.
    pub p99_during: u64,
    /// The most memory beyond that before the attack, bytes.
    pub growth: u64,
    /// What it had to stay below.
    pub bound: u64,
    /// What the attack did, in words.
    pub attack: String,
    /// `constellation_refused_total` by reason.
    pub refused: Vec<(String, u64)>,
}

impl Report {
    /// Whether every normal client was served and memory stayed.
    pub fn holds(&self) -> bool {
        self.lost.is_empty() && self.served > 0 && self.growth < self.bound
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; {} normal requests served, {} lost; p99 {:.1} ms before, {:.1} ms during; memory +{:.1} MiB; {}; refused:",
            if self.holds() { "holds" } else { "BROKEN" },
            self.served,
            self.lost.len(),
            milliseconds(self.p99_before),
            milliseconds(self.p99_during),
            self.growth as f64 / f64::from(1 << 20),
            self.attack,
        )?;
        for (reason, count) in &self.refused {
            write!(f, " {reason} {count}")?;
        }
        for lost in self.lost.iter().take(5) {
            write!(f, "\n    {lost}")?;
        }
        Ok(())
    }
}

/// A node, a back end for normal clients and one for attackers.
struct Scene {
    node: Node,
    _normal: FaultBackend,
    _victim: Backend,
}

impl Scene {
    async fn set() -> Self {
        let (normal, victim) = (
            FaultBackend::start("normal").await,
            Backend::start("victim").await,
        );
        let service = |url: String| json!({ "loadBalancer": { "servers": [{ "url": url }] } });
        let router =
            |host: &str, service: &str| json!({ "rule": format!("Host(`{host}`)"), "service": service });
        let routes = json!({ "http": {
            "routers": {
                "normal": router(HOST, "normal"),
                "victim": router(VICTIM, "victim"),
                // slowhttptest names the address.
                "address": { "rule": "Host(`127.0.0.1`)", "service": "victim" },
            },
            "services": { "normal": service(normal.url()), "victim": service(victim.url()) },
        }});
        let node = Node::builder()
            .config(json!({ "proxy": null }))
            .dynamic("routes.json", &routes.to_string())
            .start()
            .await;
        Self {
            node,
            _normal: normal,
            _victim: victim,
        }
    }

    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.node.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kilobytes.unwrap().trim().parse::<u64>().unwrap() << 10
    }

    /// Lets the attack go on; the most memory meanwhile.
    async fn watch(&self, during: Duration) -> u64 {
        let until = tokio::time::Instant::now() + during;
        let mut most = 0;
        while tokio::time::Instant::now() < until {
            most = most.max(self.memory());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        most
    }

    /// Runs `attack` beside normal clients. `attack` returns the most memory and what it did.
    async fn run(self, plan: &Plan, bound: u64, attack: impl AsyncFnOnce(&Self) -> (u64, String)) -> Report {
        let fleet = Fleet::start(self.node.web(), HOST, plan.mix);
        // All clients connect at once, which is no figure to compare with.
        tokio::time::sleep(plan.before / 2).await;
        let settled = now();
        tokio::time::sleep(plan.before).await;
        let (struck, before) = (now(), self.memory());
        let (most, did) = attack(&self).await;
        let stories = fleet.stop().await;
        let metrics = self.node.metrics().await;
        let p99 = |of: &dyn Fn(&&Story) -> bool| {
            let mut took: Vec<u64> = stories.iter().filter(of).map(|story| story.took).collect();
            took.sort_unstable();
            took.get(took.len() * 99 / 100).copied().unwrap_or_default()
        };
        Report {
            served: stories.iter().filter(|story| story.outcome.is_ok()).count(),
            lost: stories
                .iter()
                .filter_map(|story| Some(format!("{}: {}", story.id, story.outcome.clone().err()?)))
                .collect(),
            p99_before: p99(&|story| (settled..struck).contains(&story.start)),
            p99_during: p99(&|story| story.start >= struck),
            growth: most.saturating_sub(before),
            bound,
            attack: did,
            refused: metrics.by_label("constellation_refused_total", "reason"),
        }
    }
}

/// Runs one flood of HTTP/2 frames.
pub async fn flood(flood: Flood, plan: &Plan) -> Report {
    let scene = Scene::set().await;
    let target = Target {
        address: scene.node.web(),
        host: VICTIM.to_owned(),
        large: "/bytes/400000".to_owned(),
    };
    let attack = async |scene: &Scene| {
        let (most, [connections, told, bytes]) = if plan.apart {
            let apart = Apart::start(flood, &target, plan.attackers);
            (scene.watch(plan.during).await, apart.stop().await)
        } else {
            let running = Running::start(flood, &target, plan.attackers);
            (scene.watch(plan.during).await, running.count().now())
        };
        let did = format!(
            "{connections} connections, {told} told to calm down, {} kB",
            bytes / 1000
        );
        (most, did)
    };
    scene.run(plan, GROWTH, attack).await
}

/// Runs one slow attack with `slowhttptest`, which `program` is.
pub async fn slow(slow: Slow, program: &Path, plan: &Plan) -> Report {
    let scene = Scene::set().await;
    let web = scene.node.web();
    let seconds = plan.during.as_secs().max(1).to_string();
    let path = if slow == Slow::Read {
        "/bytes/10000000"
    } else {
        "/"
    };
    let attack = async |scene: &Scene| {
        let mut child = tokio::process::Command::new(program)
            .args(slow.arguments())
            .args(["-c", &plan.attackers.to_string(), "-r", "1000"])
            .args(["-l", &seconds, "-p", "3", "-u", &format!("http://{web}{path}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let most = scene.watch(plan.during).await;
        let open = scene.node.metrics().await;
        let open = open.by_label("constellation_open_connections", "entry_point");
        child.kill().await.unwrap();
        (
            most,
            format!("{} connections, open at the end: {open:?}", plan.attackers),
        )
    };
    let bound = GROWTH.max(GROWTH_EACH * plan.attackers as u64);
    scene.run(plan, bound, attack).await
}
