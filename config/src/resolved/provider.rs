//! `providers`: where routes come from.

use std::path::PathBuf;
use std::time::Duration;

/// The providers that are switched on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Providers {
    /// Labels of containers. On by default, and off when the file has a `providers` section that doesn't name it.
    pub docker: Option<DockerProvider>,
    /// Files of Traefik dynamic configuration.
    pub file: Option<FileProvider>,
    /// Directories of certificates.
    pub certificates: Option<CertificatesProvider>,
}

impl Default for Providers {
    fn default() -> Self {
        Self {
            docker: Some(DockerProvider::default()),
            file: None,
            certificates: None,
        }
    }
}

/// `providers.file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProvider {
    /// What is read.
    pub source: FileSource,
    /// Whether changes are picked up while running.
    pub watch: bool,
}

/// `filename` or `directory`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileSource {
    /// One document.
    File(PathBuf),
    /// Every `.yaml`, `.yml`, `.toml` and `.json` below this directory.
    Directory(PathBuf),
}

/// `providers.certificates`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatesProvider {
    /// What is read, at least one.
    pub directories: Vec<PathBuf>,
    /// Whether changes are picked up while running.
    pub watch: bool,
}

/// `providers.docker`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerProvider {
    /// `unix:///path`, `tcp://host:port`, `http://host:port` or `https://host:port`.
    pub endpoint: String,
    /// TLS towards a TCP endpoint.
    pub tls: Option<DockerTls>,
    /// Whether containers without `traefik.enable` are exposed.
    pub exposed_by_default: bool,
    /// The network whose address is used when a container names none; empty: none.
    pub network: String,
    /// Rule template of routers without a rule.
    pub default_rule: String,
    /// Traefik constraint expression that containers must satisfy, checked by the provider; `None`: all.
    pub constraints: Option<String>,
    /// Use the host port binding rather than the container's address.
    pub use_bind_port_ip: bool,
    /// Time for one request to the engine; `None`: no limit.
    pub http_client_timeout: Option<Duration>,
    /// How long the route of a removed container stays, answering 503.
    pub removed_grace_period: Duration,
    /// How long the route of a stopped container stays while the container exists; `None`: as long as it exists.
    pub stopped_grace_period: Option<Duration>,
}

impl DockerProvider {
    /// The engine's usual socket.
    pub const DEFAULT_ENDPOINT: &str = "unix:///var/run/docker.sock";
    /// Traefik's default rule.
    pub const DEFAULT_RULE: &str = "Host(`{{ normalize .Name }}`)";
}

impl Default for DockerProvider {
    fn default() -> Self {
        Self {
            endpoint: Self::DEFAULT_ENDPOINT.to_owned(),
            tls: None,
            exposed_by_default: false,
            network: String::new(),
            default_rule: Self::DEFAULT_RULE.to_owned(),
            constraints: None,
            use_bind_port_ip: false,
            http_client_timeout: None,
            removed_grace_period: Duration::from_secs(600),
            stopped_grace_period: None,
        }
    }
}

/// `providers.docker.tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DockerTls {
    /// Trust anchors, PEM file; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Client certificate, PEM file; present together with `key`.
    pub cert: Option<PathBuf>,
    /// Client key, PEM file.
    pub key: Option<PathBuf>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
}
