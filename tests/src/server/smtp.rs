//! An SMTP server with STARTTLS (aiosmtpd of the distribution), and a client (the library of Python).
//!
//! The server speaks first, as SMTP servers do.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::daemon::{Daemon, Recipe, directory};
use crate::certificates::{Authority, Identity};
use crate::client::command::{Said, command};

/// The distribution's own Python: another one in `PATH` does not have its packages.
const PYTHON: &str = "/usr/bin/python3";

/// Sends a message, over TLS after STARTTLS when there is an authority to trust.
const SEND: &str = "
import smtplib, ssl, sys
host, port, name, subject, ca = sys.argv[1:]
server = smtplib.SMTP(host, int(port), timeout=30)
server._host = name
if ca:
    server.starttls(context=ssl.create_default_context(cafile=ca))
server.sendmail('a@sender.test', ['b@receiver.test'], f'Subject: {subject}\\r\\n\\r\\nA message.\\r\\n')
server.quit()
print('sent')
";

/// The program that both need.
pub fn python() -> Result<PathBuf, String> {
    let python = PathBuf::from(PYTHON);
    let has = std::process::Command::new(&python)
        .args(["-c", "import aiosmtpd, smtplib"])
        .output();
    if has.is_ok_and(|output| output.status.success()) {
        Ok(python)
    } else {
        Err("`aiosmtpd` (package python3-aiosmtpd) is not installed".into())
    }
}

/// A server that prints every message.
#[derive(Debug)]
pub struct Smtp {
    daemon: Daemon,
    python: PathBuf,
}

impl Smtp {
    /// Starts a server; with an identity it offers STARTTLS and takes mail only after it.
    pub async fn start(python: &Path, identity: Option<&Identity>) -> Self {
        let directory = directory("smtp");
        let tls = identity.map(|identity| {
            let (certificate, key) = identity.write(directory.path(), "server");
            [certificate, key].map(|path| path.display().to_string())
        });
        let recipe = Recipe {
            name: "aiosmtpd",
            directory,
            end: Signal::SIGTERM,
            command: |directory: &Path, port: u16| {
                let mut smtp = Command::new(python);
                smtp.current_dir(directory).env("PYTHONUNBUFFERED", "1");
                smtp.args([
                    "-m",
                    "aiosmtpd",
                    "--nosetuid",
                    "--listen",
                    &format!("127.0.0.1:{port}"),
                ]);
                if let Some([certificate, key]) = &tls {
                    smtp.args(["--tlscert", certificate, "--tlskey", key]);
                }
                smtp
            },
        };
        let daemon = recipe
            .start(async |address| greeting(address).await.map(drop))
            .await;
        Self {
            daemon,
            python: python.to_owned(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.daemon.address()
    }

    /// Sends a message with this subject through `address` (a proxy's, or its own). With an authority: after STARTTLS
    /// with the server that calls itself `name`.
    pub async fn send(&self, address: SocketAddr, subject: &str, tls: Option<(&str, &Authority)>) -> Said {
        let ca = self.daemon.directory().join("ca.pem");
        let (name, ca) = match tls {
            None => ("localhost", String::new()),
            Some((name, authority)) => {
                std::fs::write(&ca, authority.pem()).unwrap();
                (name, ca.display().to_string())
            }
        };
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        command(&self.python, &["-c", SEND, &host, &port, name, subject, &ca], &[]).await
    }

    /// Whether a message with this subject arrived.
    pub fn received(&self, subject: &str) -> bool {
        self.daemon.log().contains(&format!("Subject: {subject}\n"))
    }
}

/// The line with which a server at `address` begins, before it hears anything.
pub async fn greeting(address: SocketAddr) -> Result<String, String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| error.to_string())?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    let read = reader.read_line(&mut line);
    let read = tokio::time::timeout(crate::PATIENCE, read).await;
    read.map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    if line.starts_with("220 ") {
        Ok(line)
    } else {
        Err(format!("{line:?} is no greeting"))
    }
}
