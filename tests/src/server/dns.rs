//! A DNS server over UDP and TCP (dnsmasq), and `dig`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use tokio::process::Command;

use super::daemon::{Daemon, Recipe, directory};
use crate::client::command::{Said, command};
use crate::require;

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    dnsmasq: PathBuf,
    dig: PathBuf,
}

impl Programs {
    /// Finds server and client.
    pub fn find() -> Result<Self, String> {
        Ok(Self {
            dnsmasq: require::program("dnsmasq")?,
            dig: require::program("dig")?,
        })
    }

    /// Asks the server behind `address`; prints the answers alone. One try, so that a lost datagram shows.
    pub async fn dig(&self, address: SocketAddr, question: &[&str]) -> Said {
        let (server, port) = (format!("@{}", address.ip()), address.port().to_string());
        let mut arguments = vec!["-r", &server, "-p", &port, "+short", "+tries=1", "+time=10"];
        arguments.extend(question);
        command(&self.dig, &arguments, &[]).await
    }
}

/// How many texts `large.test` has: their answer is a little below 4 KB.
pub const TEXTS: usize = 15;

/// A server that knows `name.test` (a text), `host0.test` to `host99.test` (`10.9.8.0` to `10.9.8.99`) and `large.test`.
#[derive(Debug)]
pub struct Dns {
    daemon: Daemon,
}

impl Dns {
    /// Starts a server that answers `name.test` with this text.
    pub async fn start(programs: &Programs, name: &str) -> Self {
        let directory = directory("dns");
        let mut config = format!("txt-record=name.test,{name}\n");
        for host in 0..100 {
            // Writing to a string can't fail.
            writeln!(config, "host-record=host{host}.test,10.9.8.{host}").unwrap_or_default();
        }
        for text in 0..TEXTS {
            writeln!(config, "txt-record=large.test,\"{text:0>250}\"").unwrap_or_default();
        }
        let file = directory.path().join("dnsmasq.conf");
        std::fs::write(&file, config).unwrap();
        let recipe = Recipe {
            name: "dnsmasq",
            directory,
            end: Signal::SIGTERM,
            command: |_: &Path, port: u16| {
                let mut dnsmasq = Command::new(&programs.dnsmasq);
                dnsmasq
                    .arg("--keep-in-foreground")
                    .arg(format!("--conf-file={}", file.display()));
                dnsmasq.args([
                    "--no-resolv",
                    "--no-hosts",
                    "--local=/test/",
                    "--log-facility=-",
                    "--pid-file",
                ]);
                dnsmasq.args([
                    "--listen-address=127.0.0.1",
                    "--bind-interfaces",
                    "--edns-packet-max=4096",
                ]);
                // Without a change of users, which only root can do.
                dnsmasq
                    .args(["--user=", "--group="])
                    .arg(format!("--port={port}"));
                dnsmasq
            },
        };
        let expected = format!("\"{name}\"");
        let daemon = recipe
            .start(async |address| {
                let said = programs.dig(address, &["name.test", "TXT", "+tcp"]).await;
                if said.stdout.trim() == expected {
                    Ok(())
                } else {
                    Err(format!("{said:?}"))
                }
            })
            .await;
        Self { daemon }
    }

    /// Where it listens, UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.daemon.address()
    }

    /// The server.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}
