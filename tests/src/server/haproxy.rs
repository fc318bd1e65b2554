//! HAProxy as a second implementation of the PROXY protocol: in front of a node, or behind it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use tokio::net::TcpStream;
use tokio::process::Command;

use super::daemon::{Daemon, Recipe, directory};
use crate::require;

/// The version of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl Version {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];
}

/// A running one.
#[derive(Debug)]
pub struct Haproxy {
    daemon: Daemon,
}

/// Finds the program.
pub fn program() -> Result<PathBuf, String> {
    require::program("haproxy")
}

impl Haproxy {
    /// Takes connections and passes them on to `to` behind a header of this version.
    pub async fn in_front_of(program: &Path, to: SocketAddr, version: Version) -> Self {
        let send = match version {
            Version::V1 => "send-proxy",
            Version::V2 => "send-proxy-v2",
        };
        Self::start(program, |port| {
            format!("listen front\n  mode tcp\n  bind 127.0.0.1:{port}\n  server node {to} {send}\n")
        })
        .await
    }

    /// Wants a header before every request, and answers with the source address and port that the header names.
    pub async fn behind(program: &Path) -> Self {
        Self::start(program, |port| {
            format!(
                "frontend back\n  mode http\n  bind 127.0.0.1:{port} accept-proxy\n\
                 \x20 http-request return status 200 content-type text/plain lf-string \"%[src]:%[src_port]\"\n"
            )
        })
        .await
    }

    async fn start(program: &Path, section: impl Fn(u16) -> String) -> Self {
        let recipe = Recipe {
            name: "haproxy",
            directory: directory("haproxy"),
            end: Signal::SIGTERM,
            command: |directory: &Path, port: u16| {
                let config = directory.join("haproxy.cfg");
                let text = format!(
                    "defaults\n  timeout connect 30s\n  timeout client 60s\n  timeout server 60s\n{}",
                    section(port)
                );
                std::fs::write(&config, text).unwrap();
                let mut haproxy = Command::new(program);
                haproxy.args(["-db", "-q", "-f"]).arg(config);
                haproxy
            },
        };
        let daemon = recipe
            .start(async |address| {
                let stream = TcpStream::connect(address).await;
                stream.map(drop).map_err(|error| error.to_string())
            })
            .await;
        Self { daemon }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.daemon.address()
    }
}
