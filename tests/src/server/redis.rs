//! Redis, in the clear or with TLS, and `redis-cli`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use tokio::process::Command;

use super::daemon::{Daemon, Recipe, directory};
use crate::certificates::{Authority, Identity};
use crate::client::command::{Said, command};
use crate::require;

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    server: PathBuf,
    cli: PathBuf,
}

impl Programs {
    /// Finds server and client.
    pub fn find() -> Result<Self, String> {
        Ok(Self {
            server: require::program("redis-server")?,
            cli: require::program("redis-cli")?,
        })
    }

    /// Asks the server behind `address`; `arguments` are those of `redis-cli`.
    pub async fn ask(&self, address: SocketAddr, arguments: &[&str]) -> Said {
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let mut all = vec!["-h", &host, "-p", &port];
        all.extend(arguments);
        command(&self.cli, &all, &[]).await
    }
}

/// A server that keeps nothing.
#[derive(Debug)]
pub struct Redis {
    daemon: Daemon,
    programs: Programs,
}

impl Redis {
    /// Starts a server which holds its `name` under the key `name`; with an identity it speaks TLS alone.
    pub async fn start(programs: &Programs, name: &str, tls: Option<(&Authority, &Identity)>) -> Self {
        let directory = directory("redis");
        let ca = directory.path().join("ca.pem");
        let tls = tls.map(|(authority, identity)| {
            std::fs::write(&ca, authority.pem()).unwrap();
            let (certificate, key) = identity.write(directory.path(), "server");
            [certificate, key].map(|path| path.display().to_string())
        });
        let recipe = Recipe {
            name: "redis-server",
            directory,
            end: Signal::SIGTERM,
            command: |directory: &Path, port: u16| {
                let (port, data) = (port.to_string(), directory.display().to_string());
                let mut redis = Command::new(&programs.server);
                redis.args([
                    "--bind",
                    "127.0.0.1",
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                    "--dir",
                    &data,
                ]);
                match &tls {
                    None => redis.args(["--port", &port]),
                    Some([certificate, key]) => redis
                        .args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"])
                        .args(["--tls-cert-file", certificate, "--tls-key-file", key]),
                };
                redis
            },
        };
        let insecure: &[&str] = if tls.is_some() {
            &["--tls", "--insecure"]
        } else {
            &[]
        };
        let daemon = recipe
            .start(async |address| {
                let said = programs
                    .ask(address, &[insecure, &["SET", "name", name]].concat())
                    .await;
                if said.stdout.trim() == "OK" {
                    Ok(())
                } else {
                    Err(format!("{said:?}"))
                }
            })
            .await;
        Self {
            daemon,
            programs: programs.clone(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.daemon.address()
    }

    /// The server.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Asks at `address` (a proxy's, or its own).
    pub async fn ask(&self, address: SocketAddr, arguments: &[&str]) -> Said {
        self.programs.ask(address, arguments).await
    }
}
