//! A Docker engine of the test's own: data, sockets and network apart from whatever else runs on the machine.
//!
//! Containers run the testkit's back end from an image made of that binary and the libraries it needs; nothing is
//! downloaded. The engine manages no firewall rules: the host reaches containers over the bridge all the same.

pub mod fake;
mod image;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{eventually, require};

/// A running engine; stopped with all its containers by [`Engine::remove`].
#[derive(Debug)]
pub struct Engine {
    programs: Programs,
    directory: TempDir,
    daemon: Child,
}

#[derive(Clone, Debug)]
struct Programs {
    dockerd: PathBuf,
    docker: PathBuf,
}

/// The network that containers are on.
pub const NETWORK: &str = "edge";
/// The port that back ends in containers listen on.
pub const PORT: u16 = 8000;

impl Engine {
    /// Starts an engine with one network and the image; or says what this machine lacks.
    pub async fn start(backend: &Path) -> Result<Self, String> {
        require::root()?;
        let programs = Programs {
            dockerd: require::program("dockerd")?,
            docker: require::program("docker")?,
        };
        let directory = tempfile::Builder::new()
            .prefix("constellation-docker-")
            .tempdir()
            .unwrap();
        // An empty configuration, so that the machine's own is not read.
        fs::write(directory.path().join("daemon.json"), "{}").unwrap();
        let daemon = programs.daemon(directory.path());
        let mut engine = Self {
            programs,
            directory,
            daemon,
        };
        engine.until_answers().await?;
        engine
            .docker(&["network", "create", "--subnet", &subnet(), NETWORK])
            .await;
        let image = image::build(engine.directory.path(), backend).await;
        engine
            .docker(&["import", &image.display().to_string(), image::NAME])
            .await;
        Ok(engine)
    }

    /// The endpoint for `providers.docker.endpoint`.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.directory.path().join("docker.sock").display())
    }

    /// Starts a container with these labels, which names itself in `x-backend`.
    pub async fn run(&self, name: &str, labels: &[&str]) {
        self.run_with(name, labels, &[]).await;
    }

    /// The same with further arguments to `docker run`.
    pub async fn run_with(&self, name: &str, labels: &[&str], arguments: &[&str]) {
        let mut all = vec!["run", "--detach", "--name", name, "--network", NETWORK];
        for label in labels {
            all.extend(["--label", label]);
        }
        all.extend(arguments);
        let port = PORT.to_string();
        all.extend([image::NAME, image::PROGRAM, name, &port]);
        self.docker(&all).await;
    }

    /// Runs a `docker` command and returns what it printed.
    ///
    /// # Panics
    /// When the command fails.
    pub async fn docker(&self, arguments: &[&str]) -> String {
        self.try_docker(arguments)
            .await
            .unwrap_or_else(|error| panic!("docker {arguments:?}: {error}"))
    }

    async fn try_docker(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(&self.programs.docker)
            .args(["--host", &self.endpoint()])
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// The container's address on the network.
    pub async fn address(&self, name: &str) -> IpAddr {
        let format = format!("{{{{ .NetworkSettings.Networks.{NETWORK}.IPAddress }}}}");
        self.docker(&["inspect", "--format", &format, name])
            .await
            .parse()
            .unwrap()
    }

    /// Stops the daemon as a package upgrade does; containers go on (`--live-restore`).
    pub async fn stop_daemon(&mut self) {
        self.end_daemon(Signal::SIGTERM).await;
    }

    /// Kills the daemon; containers go on.
    pub async fn kill_daemon(&mut self) {
        self.end_daemon(Signal::SIGKILL).await;
    }

    async fn end_daemon(&mut self, signal: Signal) {
        let id = i32::try_from(self.daemon.id().expect("the daemon runs")).unwrap();
        let containerd = self.directory.path().join("exec/containerd/containerd.pid");
        let containerd = fs::read_to_string(containerd).unwrap_or_default();
        kill(Pid::from_raw(id), signal).unwrap();
        self.daemon.wait().await.unwrap();
        // The daemon's containerd ends with it. A daemon that starts before that takes it for its own and waits for it
        // in vain.
        eventually("containerd ends", async || match containerd.trim() {
            id if !id.is_empty() && Path::new("/proc").join(id).exists() => Err(id.to_owned()),
            _ => Ok(()),
        })
        .await;
    }

    /// Starts the daemon again and waits until it answers.
    pub async fn start_daemon(&mut self) {
        self.daemon = self.programs.daemon(self.directory.path());
        self.until_answers().await.unwrap();
    }

    async fn until_answers(&mut self) -> Result<(), String> {
        let mut died = None;
        eventually("the Docker engine answers", async || {
            if let Some(status) = self.daemon.try_wait().unwrap() {
                died = Some(status);
                return Ok(());
            }
            self.try_docker(&["version"]).await.map(drop)
        })
        .await;
        match died {
            None => Ok(()),
            Some(status) => {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                Err(format!(
                    "dockerd does not run on this machine ({status}): {}",
                    tail.join(" | ")
                ))
            }
        }
    }

    /// Removes containers and network and stops the daemon. Without it (a test that panicked) [`Drop`] does what can
    /// be done without waiting.
    pub async fn remove(mut self) {
        let containers = self.docker(&["ps", "--all", "--quiet"]).await;
        for container in containers.split_whitespace() {
            self.docker(&["rm", "--force", container]).await;
        }
        self.docker(&["network", "rm", NETWORK]).await;
        self.stop_daemon().await;
        unmount(self.directory.path());
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.daemon.id().is_none() {
            return;
        }
        if std::thread::panicking() {
            let endpoint = self.endpoint();
            let docker = |arguments: &[&str]| {
                std::process::Command::new(&self.programs.docker)
                    .args(["--host", &endpoint])
                    .args(arguments)
                    .output()
                    .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
                    .unwrap_or_default()
            };
            for container in docker(&["ps", "--all", "--quiet"]).split_whitespace() {
                docker(&["rm", "--force", container]);
            }
            docker(&["network", "rm", NETWORK]);
        }
        if let Some(id) = self.daemon.id().and_then(|id| i32::try_from(id).ok()) {
            // SIGTERM, so that it takes its containerd along.
            kill(Pid::from_raw(id), Signal::SIGTERM).unwrap_or_default();
            let started = std::time::Instant::now();
            while matches!(self.daemon.try_wait(), Ok(None)) && started.elapsed() < crate::PATIENCE {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
        unmount(self.directory.path());
    }
}

/// The daemon mounts its data directory onto itself, once more after each `kill -9`, and leaves that behind; a mounted
/// directory can't be removed.
fn unmount(directory: &Path) {
    for _ in 0..5 {
        let unmounted = std::process::Command::new("umount")
            .arg(directory.join("data"))
            .output();
        if !unmounted.is_ok_and(|output| output.status.success()) {
            return;
        }
    }
}

impl Programs {
    fn daemon(&self, directory: &Path) -> Child {
        let path = |name: &str| directory.join(name).display().to_string();
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(directory.join("log"))
            .unwrap();
        Command::new(&self.dockerd)
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args([
                "--pidfile",
                &path("pid"),
                "--host",
                &format!("unix://{}", path("docker.sock")),
            ])
            .args(["--config-file", &path("daemon.json")])
            .args([
                "--bridge=none",
                "--iptables=false",
                "--ip6tables=false",
                "--ip-masq=false",
            ])
            .args([
                "--ip-forward=false",
                "--userland-proxy=false",
                "--storage-driver=vfs",
                "--live-restore",
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }
}

/// A network that another test of this machine is unlikely to have: the engines share the host's bridges.
fn subnet() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let [.., low] = std::process::id().to_be_bytes();
    format!(
        "10.{}.{low}.0/24",
        213 + NEXT.fetch_add(1, Ordering::Relaxed) % 40
    )
}
