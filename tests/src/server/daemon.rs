//! A server process: started on a port that is free, awaited, ended by its id.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::PATIENCE;

/// Between a port that was free and the server that takes it, another program may take it.
const ATTEMPTS: usize = 5;
/// How long a server may take to end before it is killed.
const END: Duration = Duration::from_secs(5);

/// How a server is started.
pub(super) struct Recipe<C> {
    /// Its name, for errors.
    pub(super) name: &'static str,
    /// Its directory, gone with it.
    pub(super) directory: TempDir,
    /// What ends it in good order.
    pub(super) end: Signal,
    /// The command that serves on this port in the foreground.
    pub(super) command: C,
}

/// A running server.
#[derive(Debug)]
pub struct Daemon {
    name: &'static str,
    child: Child,
    directory: TempDir,
    address: SocketAddr,
    end: Signal,
}

impl<C: FnMut(&Path, u16) -> Command> Recipe<C> {
    /// Starts it, and waits until `ready` says so.
    ///
    /// # Panics
    /// When it does not come up; what it printed is part of the message.
    pub(super) async fn start<R>(mut self, mut ready: R) -> Daemon
    where
        R: AsyncFnMut(SocketAddr) -> Result<(), String>,
    {
        let log = self.directory.path().join("server.log");
        for _ in 0..ATTEMPTS {
            let address = free();
            let file = File::create(&log).unwrap();
            let mut child = (self.command)(self.directory.path(), address.port())
                .stdin(Stdio::null())
                .stdout(file.try_clone().unwrap())
                .stderr(file)
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            let started = Instant::now();
            loop {
                let said = ready(address).await;
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                match said {
                    Ok(()) => {
                        return Daemon {
                            name: self.name,
                            child,
                            directory: self.directory,
                            address,
                            end: self.end,
                        };
                    }
                    Err(error) => assert!(
                        started.elapsed() < PATIENCE,
                        "{} does not answer: {error}\n{}",
                        self.name,
                        read(&log)
                    ),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        panic!("{} does not start:\n{}", self.name, read(&log));
    }
}

impl Daemon {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it printed.
    pub fn log(&self) -> String {
        read(&self.directory.path().join("server.log"))
    }

    /// Sends a signal: `SIGSTOP` hangs it, `SIGCONT` lets it go on.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().await.unwrap();
    }

    /// Waits until it has ended by itself.
    pub(super) async fn ended(&mut self) {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("the server ends").unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id().expect("the server runs")).unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}\n---", self.name, self.log());
        }
        if self.child.id().is_none() {
            return;
        }
        // One that was stopped hears nothing else.
        kill(self.pid(), Signal::SIGCONT).unwrap_or_default();
        kill(self.pid(), self.end).unwrap_or_default();
        let started = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && started.elapsed() < END {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child.start_kill().unwrap_or_default();
    }
}

/// An address that is free for TCP and for UDP.
pub(super) fn free() -> SocketAddr {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// A fresh directory, readable for whatever user a server runs as.
pub(super) fn directory(server: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(&format!("constellation-{server}-"))
        .tempdir()
        .unwrap()
}

fn read(path: &PathBuf) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
