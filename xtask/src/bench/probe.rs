//! Checks that a proxy does the work before it is measured: with curl, which speaks everything that is measured.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::backend;
use super::identity::Identity;
use super::scenario::{Scenario, Transport};
use crate::workspace;

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    /// As curl calls it: 1.1, 2.
    version: String,
    body: Vec<u8>,
}

/// Asks proxies.
#[derive(Debug)]
pub(super) struct Probe {
    curl: PathBuf,
}

impl Probe {
    /// Finds curl.
    pub(super) fn find() -> Result<Self> {
        let curl = workspace::program("curl").context("`curl` (package curl) is not installed")?;
        Ok(Self { curl })
    }

    /// Fails unless the proxy at `port` does what `scenario` is about.
    pub(super) fn check(&self, scenario: Scenario, port: u16, identity: &Identity) -> Result<()> {
        let ask = |host: &str, path: &str| self.ask(scenario.transport(), host, port, path, identity);
        let version = if scenario.transport() == Transport::Http2 {
            "2"
        } else {
            "1.1"
        };
        for host in scenario.hosts().samples() {
            let answer = ask(&host, &scenario.path())?;
            ensure!(
                answer.status == 200,
                "{host} answers {}, expected 200",
                answer.status
            );
            ensure!(
                answer.version == version,
                "{host} answers HTTP/{}, expected {version}",
                answer.version
            );
            let right = answer.body == backend::body(scenario.body());
            ensure!(
                right,
                "{host} answers other bytes than the back end's ({} of them)",
                answer.body.len()
            );
        }
        let host = scenario.hosts().samples().remove(0);
        let head = ask(&host, "/head")?.body;
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let has = |line: &str| head.lines().any(|candidate| candidate.trim_end() == line);
        // Not which address: Envoy names the machine's own instead of a loopback one.
        ensure!(
            head.contains("\nx-forwarded-for: "),
            "X-Forwarded-For is not added; the back end sees: {head}"
        );
        ensure!(
            has(&format!("host: {host}")) || has(&format!("host: {host}:{port}")),
            "the client's Host is not passed on; the back end sees: {head}"
        );
        let stranger = ask("stranger.test", &scenario.path())?.status;
        ensure!(
            stranger != 200,
            "a host without a route answers 200: hosts are not matched"
        );
        Ok(())
    }

    /// How many connections the back end at `port` has accepted, this one included.
    pub(super) fn backend_connections(&self, port: u16) -> Result<u64> {
        let mut command = self.command();
        let answer = run(command.arg(format!("http://127.0.0.1:{port}/connections")))?;
        let count = String::from_utf8_lossy(&answer.body).parse();
        count.context("the back end names no number of connections")
    }

    fn ask(
        &self,
        transport: Transport,
        host: &str,
        port: u16,
        path: &str,
        identity: &Identity,
    ) -> Result<Answer> {
        let mut command = self.command();
        command.args(["--connect-to", &format!("{host}:{port}:127.0.0.1:{port}")]);
        let scheme = match transport {
            Transport::Plain => {
                command.arg("--http1.1");
                "http"
            }
            Transport::Tls => {
                command
                    .args(["--http1.1", "--tlsv1.3", "--cacert"])
                    .arg(&identity.certificate);
                "https"
            }
            Transport::Http2 => {
                command
                    .args(["--http2", "--tlsv1.3", "--cacert"])
                    .arg(&identity.certificate);
                "https"
            }
        };
        // The name of a stranger is not in the certificate, and need not be.
        if host == "stranger.test" {
            command.arg("--insecure");
        }
        run(command.arg(format!("{scheme}://{host}:{port}{path}")))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.curl);
        // `--disable`: no settings of the user; the proxy variables of the environment don't count either.
        command.args([
            "--disable",
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--max-time",
            "10",
        ]);
        command.args(["--write-out", "%{stderr}%{http_code} %{http_version}"]);
        command
    }
}

fn run(command: &mut Command) -> Result<Answer> {
    let output = command.output().context("cannot run curl")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{}", stderr.trim());
    }
    let line = stderr.lines().last().unwrap_or_default();
    let (status, version) = line.split_once(' ').context("curl printed no status")?;
    Ok(Answer {
        status: status.parse().context("curl printed no status")?,
        version: version.to_owned(),
        body: output.stdout,
    })
}
