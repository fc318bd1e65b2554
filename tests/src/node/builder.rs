//! Prepares a node's files, starts it, and waits until it is ready.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::Stdio;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{Node, cli};
use crate::client::{Client, http::request};
use crate::eventually;

/// What a node is started with.
#[derive(Debug)]
pub struct NodeBuilder {
    directory: TempDir,
    config: Value,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    wait_ready: bool,
    sockets: Vec<(String, OwnedFd)>,
    capabilities: Option<String>,
}

impl NodeBuilder {
    pub(super) fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("constellation-test-")
            .tempdir()
            .unwrap();
        fs::create_dir(directory.path().join("dynamic")).unwrap();
        fs::create_dir(directory.path().join("run")).unwrap();
        let config = json!({
            "node": { "name": "test-node", "dataDir": directory.path().join("data") },
            "entryPoints": { "web": { "address": "127.0.0.1:0" } },
            "providers": { "file": { "directory": directory.path().join("dynamic"), "watch": true } },
            "control": { "address": "127.0.0.1:0" },
            "proxy": { "workers": 2 },
            // One node of a network namespace can steer; tests share one, but for those in a sandbox.
            "edge": { "steering": "off" },
        });
        Self {
            directory,
            config,
            arguments: Vec::new(),
            environment: Vec::new(),
            wait_ready: true,
            sockets: Vec::new(),
            capabilities: None,
        }
    }

    /// Has the kernel give the node its connections, or the node does not start. For tests in a
    /// [`sandbox`](crate::sandbox).
    #[must_use]
    pub fn steering(self) -> Self {
        self.config(json!({ "edge": { "steering": "ebpf" } }))
    }

    /// Has the kernel look at what comes in at these devices, or the node does not start. For tests in a
    /// [`sandbox`](crate::sandbox).
    #[must_use]
    pub fn guarding(self, devices: &[&str]) -> Self {
        self.config(json!({ "edge": { "guard": { "mode": "ebpf", "devices": devices } } }))
    }

    /// Starts the node as root with these capabilities, as `setpriv` takes them: `-all,+bpf`.
    #[must_use]
    pub fn capabilities(mut self, set: &str) -> Self {
        self.capabilities = Some(set.to_owned());
        self
    }

    /// Passes listening sockets to the process, each with its name, as a service manager does.
    #[must_use]
    pub fn passing(mut self, sockets: Vec<(String, OwnedFd)>) -> Self {
        self.sockets = sockets;
        self
    }

    /// Takes the directory of a node that has gone, with its configuration.
    #[must_use]
    pub fn in_place_of(mut self, node: Node) -> Self {
        self.directory = node.leave();
        let config = fs::read(self.directory().join("node.json")).unwrap();
        self.config = serde_json::from_slice(&config).unwrap();
        self
    }

    /// Where the node's files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Merges `value` into the static configuration; objects are merged, everything else is replaced, `null` removes.
    #[must_use]
    pub fn config(mut self, value: Value) -> Self {
        merge(&mut self.config, value);
        self
    }

    /// Adds the entry point `websecure` with TLS for all routers.
    #[must_use]
    pub fn websecure(self) -> Self {
        self.config(json!({
            "entryPoints": { "websecure": { "address": "127.0.0.1:0", "http": { "tls": {} } } }
        }))
    }

    /// Writes a file of dynamic configuration.
    #[must_use]
    pub fn dynamic(self, name: &str, text: &str) -> Self {
        fs::write(self.directory().join("dynamic").join(name), text).unwrap();
        self
    }

    /// Adds arguments to `run`.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns from [`NodeBuilder::start`] once the node listens, whatever `/health` says.
    #[must_use]
    pub fn not_waiting_for_health(mut self) -> Self {
        self.wait_ready = false;
        self
    }

    /// Starts the node and waits until it is ready.
    ///
    /// # Panics
    /// When it ends before that; its standard error is part of the message.
    pub async fn start(self) -> Node {
        let config_file = self.directory().join("node.json");
        fs::write(&config_file, serde_json::to_vec_pretty(&self.config).unwrap()).unwrap();
        let mut arguments = vec![
            "run".to_owned(),
            "--config".to_owned(),
            config_file.display().to_string(),
        ];
        arguments.extend(self.arguments.iter().cloned());
        self.run(&arguments).await
    }

    /// Starts `run` with these arguments and without a configuration file of ours.
    pub async fn start_with(mut self, arguments: &[&str]) -> Node {
        let mut all = vec!["run".to_owned()];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        // Without a file of ours; see there.
        self.environment
            .insert(0, ("CONSTELLATION__EDGE__STEERING".into(), "off".into()));
        self.run(&all).await
    }

    async fn run(self, arguments: &[String]) -> Node {
        let command = match &self.capabilities {
            None => program(&self.sockets),
            Some(set) => reduced(set),
        };
        start(
            command,
            self.directory,
            arguments,
            &self.environment,
            self.wait_ready,
        )
        .await
    }
}

async fn start(
    mut command: Command,
    directory: TempDir,
    arguments: &[String],
    environment: &[(String, String)],
    ready: bool,
) -> Node {
    let run = directory.path().join("run");
    let mut child = command
        .args(arguments)
        .env_clear()
        .envs(cli::inherited())
        .env("RUNTIME_DIRECTORY", &run)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(fs::File::create(directory.path().join("stdout")).unwrap())
        .stderr(fs::File::create(directory.path().join("stderr")).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let file = run.join(format!("node-{}.json", child.id().unwrap()));
    let running = eventually("the node listens", async || {
        assert_runs(&mut child, directory.path());
        let text = fs::read(&file).map_err(|error| error.to_string())?;
        serde_json::from_slice::<Value>(&text).map_err(|error| error.to_string())
    })
    .await;
    let address = |value: &Value| {
        let text = value.as_str().unwrap();
        text.strip_suffix("/udp").unwrap_or(text).parse().unwrap()
    };
    let entry_points = running["entryPoints"].as_array().unwrap().iter();
    let node = Node {
        child,
        directory,
        control: address(&running["control"]),
        entry_points: entry_points
            .map(|pair| (pair[0].as_str().unwrap().to_owned(), address(&pair[1])))
            .collect(),
    };
    if ready {
        eventually("the node is ready", async || healthy(&node).await).await;
    }
    node
}

/// The binary; with sockets, by way of a shell that puts them where a service manager would, from number 3 on.
fn program(sockets: &[(String, OwnedFd)]) -> Command {
    if sockets.is_empty() {
        return Command::new(cli::binary());
    }
    let mut script = String::new();
    for (number, (_, socket)) in sockets.iter().enumerate() {
        let raw = socket.as_raw_fd();
        // This process starts nothing else meanwhile that could inherit it.
        fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        script += &format!("exec {}<&{raw} {raw}<&-; ", number + 3);
    }
    let names: Vec<&str> = sockets.iter().map(|(name, _)| name.as_str()).collect();
    script += &format!(
        "export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={}; exec \"$0\" \"$@\"",
        sockets.len(),
        names.join(":")
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script]).arg(cli::binary());
    command
}

/// The binary with fewer capabilities.
fn reduced(capabilities: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set", capabilities, "--inh-caps", "-all"])
        .arg(cli::binary());
    command
}

async fn healthy(node: &Node) -> Result<(), String> {
    let mut client = Client::h1(node.control())
        .await
        .map_err(|error| error.to_string())?;
    let health = client
        .send(request(http::Method::GET, "localhost", "/health"))
        .await;
    let health = health.map_err(|error| error.to_string())?;
    if health.status.is_success() {
        Ok(())
    } else {
        Err(format!("{}: {}\n{}", health.status, health.text(), node.log()))
    }
}

fn assert_runs(child: &mut Child, directory: &Path) {
    if let Some(status) = child.try_wait().unwrap() {
        let log = fs::read_to_string(directory.join("stderr")).unwrap_or_default();
        panic!("the node ended before it was ready ({status}):\n{log}");
    }
}

/// Merges objects; everything else is replaced, and `null` removes.
pub(crate) fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                if value.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, from) => *into = from,
    }
}
