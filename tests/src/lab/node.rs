//! One node of the lab: its files, its process, its commands.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::api::CONTROL;
use super::{HOST, Lab, Place, TOKEN, address, name, process, until};
use crate::node::{Cli, merge, route};

/// Where each node's demo back end listens, in its namespace.
const BACKEND: &str = "127.0.0.1:9000";

/// A node.
#[derive(Clone, Copy, Debug)]
pub struct LabNode<'a> {
    pub(super) lab: &'a Lab,
    pub(super) number: usize,
}

/// How a node joins.
#[derive(Clone, Debug)]
pub struct Joining {
    /// With what.
    pub token: String,
    /// By which member.
    pub by: String,
    /// More arguments.
    pub arguments: Vec<String>,
    /// More variables.
    pub environment: Vec<(String, String)>,
}

impl Joining {
    /// By the first node.
    #[must_use]
    pub fn by(token: String) -> Self {
        Self {
            token,
            by: address(1).to_string(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }
}

/// How a node is started.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// More variables.
    pub environment: Vec<(String, String)>,
}

impl LabNode<'_> {
    /// Its number.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        name(self.number)
    }

    /// Where its files are.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.lab.base().join(self.name())
    }

    /// Its static configuration.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.folder().join("node.json")
    }

    /// Where it keeps what it is.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// The host that it is on.
    ///
    /// # Errors
    /// When the lab was not made to its end.
    pub fn place(&self) -> Result<Place> {
        self.lab.place(&self.name())
    }

    /// Writes its files and starts its demo back end.
    pub(super) fn prepare(&self, config: &Value) -> Result<()> {
        let folder = self.folder();
        for part in ["data", "dynamic", "run"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let mut all = json!({
            "node": { "name": self.name(), "dataDir": self.data(), "priority": 100 + self.number },
            "entryPoints": { "web": { "address": ":80" } },
            "providers": { "file": { "directory": folder.join("dynamic"), "watch": true } },
            "control": { "address": CONTROL.to_string(), "token": TOKEN },
            "proxy": { "workers": 1 },
            "cluster": { "advertise": address(self.number).to_string() },
        });
        merge(&mut all, config.clone());
        fs::write(self.config_file(), serde_json::to_vec_pretty(&all)?)?;
        self.write_dynamic("app.json", &route(HOST, &[format!("http://{BACKEND}")]))?;
        self.start_backend()
    }

    /// Replaces a file of dynamic configuration in one step.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_dynamic(&self, file: &str, document: &Value) -> Result<()> {
        let folder = self.folder().join("dynamic");
        let fresh = self.folder().join("dynamic.new");
        fs::write(&fresh, document.to_string())?;
        fs::rename(fresh, folder.join(file)).with_context(|| format!("cannot write {file}"))
    }

    /// Changes its static configuration.
    ///
    /// # Errors
    /// When the file can't be read or written.
    pub fn reconfigure(&self, change: Value) -> Result<()> {
        let mut config: Value = serde_json::from_slice(&fs::read(self.config_file())?)?;
        merge(&mut config, change);
        Ok(fs::write(
            self.config_file(),
            serde_json::to_vec_pretty(&config)?,
        )?)
    }

    fn start_backend(&self) -> Result<()> {
        let pipe = self.folder().join("backend.stdin");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU)?;
        // It ends with its standard input; this one stays open, since the process itself holds its other end.
        let input = fs::OpenOptions::new().read(true).write(true).open(pipe)?;
        let mut command = self.command(process::BACKEND, &self.lab.binary())?;
        let child = command
            .args(["demo-backend", "--listen", BACKEND, "--name", &self.name()])
            .stdin(input)
            .stdout(fs::File::create(self.folder().join("backend.stdout"))?)
            .stderr(fs::File::create(self.folder().join("backend.stderr"))?)
            .spawn()?;
        self.lab.adopt(format!("back end of {}", self.name()), child);
        Ok(())
    }

    fn command(&self, role: &str, program: &Path) -> Result<Command> {
        let mut command = self.place()?.command(role, program, self.lab.kept);
        command.env("RUNTIME_DIRECTORY", self.folder().join("run"));
        Ok(command)
    }

    /// A command of the binary on its host.
    ///
    /// # Errors
    /// When it can't be run; not when it fails.
    pub fn cli(&self, arguments: &[&str]) -> Result<Cli> {
        self.cli_with(arguments, &[])
    }

    /// With these variables.
    ///
    /// # Errors
    /// As [`LabNode::cli`].
    pub fn cli_with(&self, arguments: &[&str], environment: &[(String, String)]) -> Result<Cli> {
        let mut command = self.command("command", &self.lab.binary())?;
        let output = command
            .args(arguments)
            .env("CONFIG_FILE", self.config_file())
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()?;
        Ok(told(&output))
    }

    /// As [`LabNode::cli`], for what must succeed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        let cli = self.cli(arguments)?;
        ensure!(
            cli.code == 0,
            "{}: constellation {} ends with {}: {}",
            self.name(),
            arguments.join(" "),
            cli.code,
            cli.stderr.trim()
        );
        Ok(cli.stdout)
    }

    /// Founds a cluster.
    ///
    /// # Errors
    /// When the node refuses.
    pub fn init(&self) -> Result<()> {
        self.ok(&["init"]).map(drop)
    }

    /// A join token of its.
    ///
    /// # Errors
    /// When the node refuses, as without a majority.
    pub fn token(&self) -> Result<String> {
        // Just after a start it may have no leader to ask yet.
        until("a token is issued", || self.ok(&["token", "create"])).map(|token| token.trim().to_owned())
    }

    /// Joins, and says what came of it.
    ///
    /// # Errors
    /// When the command can't be run.
    pub fn try_join(&self, joining: &Joining) -> Result<Cli> {
        let file = self.folder().join("token");
        fs::write(&file, &joining.token)?;
        let file = file.display().to_string();
        let mut arguments = vec!["join", &joining.by, "--token-file", &file];
        arguments.extend(joining.arguments.iter().map(String::as_str));
        self.cli_with(&arguments, &joining.environment)
    }

    /// Joins.
    ///
    /// # Errors
    /// When it is refused.
    pub fn join(&self, joining: &Joining) -> Result<()> {
        let cli = self.try_join(joining)?;
        ensure!(
            cli.code == 0,
            "{} does not join: {}",
            self.name(),
            cli.stderr.trim()
        );
        Ok(())
    }

    /// Starts it and waits until its control API answers.
    ///
    /// # Errors
    /// When it ends before that; the end of its log is part of the message.
    pub fn start(&self) -> Result<()> {
        self.start_as(&Start::default())
    }

    /// Starts it in a certain way.
    ///
    /// # Errors
    /// As [`LabNode::start`].
    pub fn start_as(&self, start: &Start) -> Result<()> {
        ensure!(self.processes().is_empty(), "{} runs already", self.name());
        let append = |file: &str| {
            fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(self.folder().join(file))
        };
        let child = self
            .command(process::NODE, &self.lab.binary())?
            .args(["run", "--config"])
            .arg(self.config_file())
            .envs(start.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(append("stdout")?)
            .stderr(append("stderr")?)
            .spawn()?;
        let pid = Pid::from_raw(child.id().cast_signed());
        self.lab.adopt(self.name(), child);
        until(&format!("{} answers", self.name()), || {
            if !process::lives(pid) {
                return Ok(Err(self.log_tail(20)));
            }
            self.get("/api/v1/health").map(|_| Ok(()))
        })?
        .map_err(|log| anyhow::anyhow!("{} ended before it was ready:\n{log}", self.name()))
    }

    /// The processes that serve this node: one, or for a moment two while one replaces the other.
    #[must_use]
    pub fn processes(&self) -> Vec<Pid> {
        process::find(
            self.lab.base(),
            &[(process::HOST, &self.name()), (process::ROLE, process::NODE)],
        )
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let running = self.processes();
        ensure!(!running.is_empty(), "{} does not run", self.name());
        process::signal(&running, signal)
    }

    /// Sends a signal to its demo back end: SIGSTOP has it answer nobody, SIGKILL refuse everybody.
    ///
    /// # Errors
    /// When that does not run.
    pub fn signal_backend(&self, signal: Signal) -> Result<()> {
        let running = process::find(
            self.lab.base(),
            &[(process::HOST, &self.name()), (process::ROLE, process::BACKEND)],
        );
        ensure!(
            !running.is_empty(),
            "the back end of {} does not run",
            self.name()
        );
        process::signal(&running, signal)
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn kill(&self) -> Result<()> {
        self.end(Signal::SIGKILL)
    }

    /// Ends it in good order, and waits for that.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn terminate(&self) -> Result<()> {
        self.end(Signal::SIGTERM)
    }

    fn end(&self, how: Signal) -> Result<()> {
        let running = self.processes();
        ensure!(!running.is_empty(), "{} does not run", self.name());
        process::signal(&running, how)?;
        process::gone(&running)
    }

    /// Ends it in good order if it runs, and starts it.
    ///
    /// # Errors
    /// As [`LabNode::start`].
    pub fn restart(&self) -> Result<()> {
        if !self.processes().is_empty() {
            self.terminate()?;
        }
        self.start()
    }

    /// How the process that this lab has started last has ended; waits for that.
    ///
    /// # Errors
    /// When it was not started by this process, or does not end.
    pub fn exit(&self) -> Result<ExitStatus> {
        until(&format!("{} ends", self.name()), || {
            let mut children = self
                .lab
                .children
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            match children.get_mut(&self.name()).map(std::process::Child::try_wait) {
                Some(status) => status?.context("it runs"),
                None => bail!("{} was not started here", self.name()),
            }
        })
    }

    /// Its log, over all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("stderr")).unwrap_or_default()
    }

    /// The end of it.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

fn told(output: &Output) -> Cli {
    Cli {
        code: output
            .status
            .code()
            .unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default()),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
