//! The real `constellation` binary as a child process.
//!
//! A node gets a directory of its own with its configuration (`node.json`), the dynamic configuration (`dynamic/`),
//! the runtime file that says which ports it got, and its standard error, which a failing test prints.

mod builder;
mod cli;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use http::StatusCode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Child;

use crate::certificates::replace;
use crate::client::{Answer, get};
use crate::eventually;
use crate::metrics::Metrics;

pub(crate) use builder::merge;
pub(crate) use cli::inherited;

pub use builder::NodeBuilder;
pub use cli::{Cli, binary, constellation};

/// A running node; killed when dropped.
#[derive(Debug)]
pub struct Node {
    child: Child,
    directory: TempDir,
    control: SocketAddr,
    entry_points: BTreeMap<String, SocketAddr>,
}

impl Node {
    /// A node with one clear-text entry point `web`, the file provider, and no Docker provider.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::new()
    }

    /// A node that routes `Host(HOST)` on `web` to these back ends.
    pub async fn routing(host: &str, urls: &[String]) -> Self {
        Self::builder()
            .dynamic("routes.json", &route(host, urls).to_string())
            .start()
            .await
    }

    /// The control address.
    pub fn control(&self) -> SocketAddr {
        self.control
    }

    /// The address of an entry point.
    ///
    /// # Panics
    /// When there is none of that name.
    pub fn entry_point(&self, name: &str) -> SocketAddr {
        *self
            .entry_points
            .get(name)
            .unwrap_or_else(|| panic!("no entry point {name}"))
    }

    /// The address of the entry point `web`.
    pub fn web(&self) -> SocketAddr {
        self.entry_point("web")
    }

    /// The address of the entry point `websecure`.
    pub fn websecure(&self) -> SocketAddr {
        self.entry_point("websecure")
    }

    /// The node's directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The static configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.directory().join("node.json")
    }

    /// Replaces a file of dynamic configuration in one step.
    pub fn write_dynamic(&self, name: &str, text: &str) {
        replace(&self.directory().join("dynamic").join(name), text.as_bytes());
    }

    /// Removes a file of dynamic configuration.
    pub fn remove_dynamic(&self, name: &str) {
        std::fs::remove_file(self.directory().join("dynamic").join(name)).unwrap();
    }

    /// `GET path` of `host` on `web`.
    pub async fn get(&self, host: &str, path: &str) -> Answer {
        get(self.web(), host, path).await
    }

    /// `GET path` on the control address.
    pub async fn ask(&self, path: &str) -> Answer {
        get(self.control, &self.control.to_string(), path).await
    }

    /// `/api/v1/status`.
    pub async fn status(&self) -> Value {
        let answer = self.ask("/api/v1/status").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()
    }

    /// `/metrics`.
    pub async fn metrics(&self) -> Metrics {
        let answer = self.ask("/metrics").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        Metrics::parse(&answer.text())
    }

    /// The generation that serves now.
    pub async fn generation(&self) -> u64 {
        let status = self.status().await;
        status["generation"]
            .as_u64()
            .unwrap_or_else(|| panic!("no generation in {status:#}"))
    }

    /// Waits until a generation later than `before` serves.
    pub async fn published_after(&self, before: u64) -> u64 {
        eventually("a new generation is published", async || {
            let now = self.generation().await;
            if now > before {
                Ok(now)
            } else {
                Err(format!("still {now}"))
            }
        })
        .await
    }

    /// Waits until `GET path` of `host` answers `status`, and returns that answer.
    pub async fn answers(&self, host: &str, path: &str, status: u16) -> Answer {
        eventually(&format!("{host}{path} answers {status}"), async || {
            let answer = self.get(host, path).await;
            if answer.status == status {
                Ok(answer)
            } else {
                Err(format!(
                    "{}: {}\n{}",
                    answer.status,
                    answer.text(),
                    self.log_tail()
                ))
            }
        })
        .await
    }

    /// Runs a command of the binary that asks this node.
    pub async fn cli(&self, arguments: &[&str]) -> Cli {
        cli::run(arguments, &self.environment()).await
    }

    fn environment(&self) -> Vec<(String, String)> {
        vec![(
            "RUNTIME_DIRECTORY".into(),
            self.directory().join("run").display().to_string(),
        )]
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// The process id.
    ///
    /// # Panics
    /// When the process has ended and was waited for.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id().expect("the node runs")).unwrap())
    }

    /// The processes that say they serve this node: one, or for a moment two while one replaces the other.
    pub fn processes(&self) -> Vec<i32> {
        let files = std::fs::read_dir(self.directory().join("run"));
        let names = files
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name());
        names
            .filter_map(|name| {
                let name = name.to_str()?.strip_prefix("node-")?;
                name.strip_suffix(".json")?.parse().ok()
            })
            .collect()
    }

    /// Ends the process at once and leaves its directory.
    fn leave(mut self) -> TempDir {
        self.child.start_kill().unwrap_or_default();
        let empty = tempfile::tempdir().unwrap();
        std::mem::replace(&mut self.directory, empty)
    }

    /// Ends it and whoever has replaced it at once, and waits until they hold nothing any more.
    ///
    /// # Panics
    /// When they don't.
    pub async fn end(mut self) {
        let processes = self.processes();
        self.child.start_kill().unwrap_or_default();
        self.exit().await;
        for pid in processes {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap_or_default();
            crate::eventually("a process has ended", async || {
                let left = holding(pid);
                left.is_empty().then_some(()).ok_or(left)
            })
            .await;
        }
    }

    /// Waits for the process to end.
    pub async fn exit(&mut self) -> ExitStatus {
        tokio::time::timeout(crate::PATIENCE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("the node does not end\n{}", self.log_tail()))
            .unwrap()
    }

    /// What it wrote to standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory().join("stderr")).unwrap_or_default()
    }

    /// What it wrote to standard output.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.directory().join("stdout")).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- standard error of the node ---\n{}\n---", self.log_tail());
        }
        // By its id, and only while it is ours to wait for; it may have ended by itself.
        self.child.start_kill().unwrap_or_default();
        // Those that replaced it wrote their files into its directory.
        for pid in self.processes() {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap_or_default();
        }
    }
}

/// A document with one router and its service: `Host(HOST)` to these servers.
pub fn route(host: &str, urls: &[String]) -> Value {
    let servers: Vec<Value> = urls.iter().map(|url| serde_json::json!({ "url": url })).collect();
    serde_json::json!({
        "http": {
            "routers": { "main": { "rule": format!("Host(`{host}`)"), "service": "main" } },
            "services": { "main": { "loadBalancer": { "servers": servers } } },
        }
    })
}

/// The threads of a process that may still hold its files. One that nobody has waited for keeps the first of its threads, and
/// that one may end before the others do.
fn holding(process: i32) -> String {
    let threads = std::fs::read_dir(format!("/proc/{process}/task"));
    let stats = threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    // The state is behind the name, which may contain anything: Z for what only waits to be waited for.
    let ended =
        |stat: &String| matches!(stat.rsplit(") ").next(), Some(rest) if rest.starts_with(['Z', 'X']));
    stats.filter(|stat| !ended(stat)).collect()
}
