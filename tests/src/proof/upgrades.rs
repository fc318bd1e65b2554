//! A node is replaced again and again while clients come and go: none is refused, none is reset, and what had begun ends.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use tokio::task::JoinSet;

use super::{HOST, builder};
use crate::client::Client;
use crate::client::http::request;
use crate::eventually;
use crate::fault::FaultBackend;
use crate::fault::journal::heads_by_id;
use crate::node::Node;

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Connections with one request each, at least.
    pub connections: usize,
    /// Processes that replace one another meanwhile.
    pub upgrades: usize,
    /// Clients that connect again and again.
    pub clients: usize,
    /// How long a request takes that begins before each upgrade and ends after it.
    pub slow: Duration,
    /// Whether the kernel steers: then it has to run in a [`sandbox`](crate::sandbox).
    pub steering: bool,
}

impl Plan {
    /// For a test.
    pub const SMALL: Self = Self {
        connections: 1000,
        upgrades: 3,
        clients: 8,
        slow: Duration::from_millis(1500),
        steering: false,
    };
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// Connections with a request that was answered.
    pub connections: usize,
    /// Replacements that took place.
    pub upgrades: usize,
    /// Everything that was not as it should be.
    pub wrong: Vec<String>,
}

impl Report {
    /// Whether nobody lost anything.
    pub fn holds(&self) -> bool {
        self.wrong.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} connections during {} upgrades: {} wrong",
            self.connections,
            self.upgrades,
            self.wrong.len()
        )?;
        for line in self.wrong.iter().take(20) {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

/// Runs it.
///
/// # Panics
/// When the set-up fails.
pub async fn run(plan: &Plan) -> Report {
    let backend = FaultBackend::start("one").await;
    let mut builder = builder(&[&backend]);
    if plan.steering {
        builder = builder.steering();
    }
    let node = builder.start().await;
    let visitors = Visitors::start(&node, plan.clients);
    let mut wrong = Vec::new();
    let mut last = node.pid().as_raw();
    for number in 1..=plan.upgrades {
        visitors.more(plan.connections / (plan.upgrades + 1)).await;
        let slow = begin_slow(&node, &backend, &format!("slow-{number}"), plan.slow).await;
        let upgraded = node.upgrade().await;
        match upgraded {
            Ok(pid) if pid != last => last = pid,
            Ok(pid) => wrong.push(format!("upgrade {number}: still pid {pid}")),
            Err(error) => wrong.push(format!("upgrade {number}: {error}")),
        }
        if let Err(error) = slow.await.unwrap() {
            wrong.push(format!(
                "a request that had begun before upgrade {number}: {error}"
            ));
        }
    }
    let seen = visitors.seen.load(Ordering::Relaxed);
    visitors
        .more(plan.connections.saturating_sub(seen).max(100))
        .await;
    let (connections, lost) = visitors.stop().await;
    wrong.extend(lost);
    let alone = eventually("the last process is left alone", async || {
        match node.processes().as_slice() {
            [pid] => Ok(*pid),
            several => Err(format!("{several:?}")),
        }
    });
    let epoch = node.status().await["steering"]["lease"]["epoch"].as_u64();
    // Each process takes the lease anew.
    let expected = plan.steering.then_some(plan.upgrades as u64 + 1);
    if epoch != expected {
        let log = node.log();
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ")).collect();
        wrong.push(format!(
            "the lease is at epoch {epoch:?}, expected {expected:?}: {}",
            warnings.join("\n    ")
        ));
    }
    if alone.await != last {
        wrong.push("another process serves than the last one".into());
    }
    Report {
        connections,
        upgrades: plan.upgrades,
        wrong,
    }
}

/// A request that the back end works at when this returns.
async fn begin_slow(
    node: &Node,
    backend: &FaultBackend,
    id: &str,
    time: Duration,
) -> tokio::task::JoinHandle<Result<(), String>> {
    let mut client = Client::h1(node.web()).await.unwrap();
    let mut get = request(Method::GET, HOST, &format!("/slow?ms={}", time.as_millis()));
    get.headers_mut().insert("x-request-id", id.parse().unwrap());
    let slow = tokio::spawn(async move {
        let answer = client.send(get).await;
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        match answer.status.as_u16() {
            200 => Ok(()),
            other => Err(format!("{other}: {}", answer.text())),
        }
    });
    eventually("the back end has the slow request", async || {
        let journal = backend.journal();
        heads_by_id(&journal)
            .contains_key(id)
            .then_some(())
            .ok_or("not yet")
    })
    .await;
    slow
}

/// Clients with a new connection for each request.
struct Visitors {
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicUsize>,
    tasks: JoinSet<Vec<String>>,
}

impl Visitors {
    fn start(node: &Node, clients: usize) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let (stop, seen, web) = (stop.clone(), seen.clone(), node.web());
            tasks.spawn(async move {
                let mut lost = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let visit = tokio::time::timeout(crate::PATIENCE, visit(web)).await;
                    if let Err(error) = visit.unwrap_or_else(|_| Err("no answer".into())) {
                        lost.push(error);
                    }
                    seen.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                lost
            });
        }
        Self { stop, seen, tasks }
    }

    async fn more(&self, count: usize) {
        let target = self.seen.load(Ordering::Relaxed) + count;
        eventually("clients go on", async || {
            let seen = self.seen.load(Ordering::Relaxed);
            (seen >= target)
                .then_some(())
                .ok_or(format!("{seen} of {target}"))
        })
        .await;
    }

    async fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let lost: Vec<String> = self.tasks.join_all().await.into_iter().flatten().collect();
        (self.seen.load(Ordering::Relaxed) - lost.len(), lost)
    }
}

async fn visit(web: std::net::SocketAddr) -> Result<(), String> {
    let mut client = Client::h1(web)
        .await
        .map_err(|error| format!("connect: {error}"))?;
    let answer = client.send(request(Method::GET, HOST, "/")).await;
    let answer = answer.map_err(|error| format!("request: {error:?}"))?;
    match answer.status.as_u16() {
        200 => Ok(()),
        other => Err(format!("{other}: {}", answer.text())),
    }
}

impl Node {
    /// Replaces the process by a new one; the process id of that one.
    pub async fn upgrade(&self) -> Result<i32, String> {
        let cli = self.cli(&["upgrade", "--json"]).await;
        if cli.code != 0 {
            return Err(format!("exit code {}: {}", cli.code, cli.stderr));
        }
        let answer = cli.json();
        let pid = answer["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        pid.ok_or(format!("no pid in {answer}"))
    }
}
