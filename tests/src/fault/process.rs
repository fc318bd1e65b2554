//! A fault back end from the outside.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use http::{Method, StatusCode};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::Behaviour;
use super::journal::{self, Entry};
use crate::client::http::{full, request};
use crate::client::{Answer, Client};

/// A running fault back end; killed when dropped.
#[derive(Debug)]
pub struct FaultBackend {
    name: String,
    directory: Arc<TempDir>,
    address: SocketAddr,
    control: SocketAddr,
    child: Child,
}

impl FaultBackend {
    /// Starts one on a free port.
    pub async fn start(name: &str) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("constellation-fault-")
            .tempdir()
            .unwrap();
        Self::spawn(name, 0, Arc::new(directory)).await
    }

    async fn spawn(name: &str, port: u16, directory: Arc<TempDir>) -> Self {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(directory.path().join("stderr"))
            .unwrap();
        let mut child = Command::new(program())
            .args([name, &port.to_string()])
            .arg(directory.path().join("journal"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let read = tokio::time::timeout(crate::PATIENCE, output.read_line(&mut line)).await;
        read.expect("the fault back end says where it listens").unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(directory.path().join("stderr")).unwrap_or_default();
            panic!("the fault back end does not start: {error}: {line}{log}")
        });
        let address = |key: &str| said[key].as_str().unwrap().parse().unwrap();
        Self {
            name: name.to_owned(),
            address: address("address"),
            control: address("control"),
            directory,
            child,
        }
    }

    /// Its name, as in `x-backend`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL for a service.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it does; when this returns, it does so.
    pub async fn set(&self, behaviour: Behaviour) {
        let mut put = request(Method::PUT, "control", "/behaviour");
        *put.body_mut() = full(serde_json::to_vec(&behaviour).unwrap());
        let answer = self.control(put).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }

    /// How many connections it has accepted since it was started.
    pub async fn accepted(&self) -> u64 {
        self.state("accepted").await
    }

    /// How many connections are open.
    pub async fn open(&self) -> u64 {
        self.state("open").await
    }

    async fn state(&self, key: &str) -> u64 {
        let answer = self.control(request(Method::GET, "control", "/state")).await;
        answer.json()[key].as_u64().unwrap()
    }

    async fn control(&self, request: http::Request<crate::client::http::Body>) -> Answer {
        let mut client = Client::h1(self.control).await.unwrap();
        client.send(request).await.unwrap()
    }

    /// Everything it ever saw, also before it was started again.
    pub fn journal(&self) -> Vec<Entry> {
        journal::read(&self.directory.path().join("journal"))
    }

    /// `kill -9`: its connections are reset by the kernel, its port refuses.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM: it stops listening, finishes what is under way, and ends.
    pub async fn leave(&mut self) {
        self.signal(Signal::SIGTERM);
        let ended = tokio::time::timeout(crate::PATIENCE, self.child.wait()).await;
        ended.expect("the fault back end leaves").unwrap();
    }

    /// SIGSTOP: the kernel goes on accepting, nobody reads.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Starts it again on its port, after [`FaultBackend::kill`] or [`FaultBackend::leave`].
    pub async fn start_again(&mut self) {
        *self = Self::spawn(&self.name, self.address.port(), Arc::clone(&self.directory)).await;
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("the fault back end runs");
        kill(Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
    }
}

/// The program: beside this one, or one directory up (tests are in `deps`).
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let places = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|place| place.join("testkit-fault"));
    let found = places.into_iter().find(|place: &PathBuf| Path::is_file(place));
    found.unwrap_or_else(|| panic!("testkit-fault is not built beside {}", own.display()))
}
