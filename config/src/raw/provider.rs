//! `providers` as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;
use crate::resolved::DockerProvider;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawProviders {
    /// Labels of Docker containers. `docker: {}` or `docker: true` for the defaults.
    pub(crate) docker: Option<RawDocker>,
    /// Files of Traefik dynamic configuration.
    pub(crate) file: Option<RawFile>,
    /// Directories of certificates with their keys, chosen by the names inside. They go with any other provider.
    pub(crate) certificates: Option<RawCertificates>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawDocker {
    /// Keep services whose containers can't serve. They are always kept: a route never vanishes because its
    /// container stopped; `false` is said to have no effect.
    pub(crate) allow_empty_services: bool,
    /// Expression that containers must satisfy, such as Label(`tier`, `edge`); null: every container.
    pub(crate) constraints: Option<String>,
    /// Rule of routers without one: a template of the container's Name, ContainerName and Labels.
    pub(crate) default_rule: String,
    /// Whether the provider is on.
    pub(crate) enabled: bool,
    /// Where the engine listens: unix:///path, tcp://host:port, http://host:port or https://host:port.
    pub(crate) endpoint: String,
    /// Whether containers without the label traefik.enable are exposed.
    pub(crate) exposed_by_default: bool,
    /// Time for one request to the engine; 0: no limit.
    pub(crate) http_client_timeout: Time,
    /// Network whose address is used when a container names none; empty: the first by name.
    pub(crate) network: String,
    /// How long the route of a removed container stays, answering 503.
    pub(crate) removed_grace_period: Time,
    /// How long the route of a stopped container stays, answering 503; 0: as long as the container exists.
    pub(crate) stopped_grace_period: Time,
    /// TLS towards a TCP endpoint.
    pub(crate) tls: Option<RawDockerTls>,
    /// Use the port binding on the host rather than the container's address.
    #[serde(rename = "useBindPortIP")]
    pub(crate) use_bind_port_ip: bool,
}

impl Default for RawDocker {
    fn default() -> Self {
        let defaults = DockerProvider::default();
        Self {
            allow_empty_services: true,
            constraints: None,
            default_rule: defaults.default_rule,
            enabled: true,
            endpoint: defaults.endpoint,
            exposed_by_default: defaults.exposed_by_default,
            http_client_timeout: defaults.http_client_timeout.into(),
            network: defaults.network,
            removed_grace_period: defaults.removed_grace_period.into(),
            stopped_grace_period: defaults.stopped_grace_period.into(),
            tls: None,
            use_bind_port_ip: defaults.use_bind_port_ip,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawDockerTls {
    /// PEM file with the authorities that sign the engine's certificate; null: those of the system.
    pub(crate) ca: Option<String>,
    /// PEM file with the client certificate; together with `key`.
    pub(crate) cert: Option<String>,
    /// PEM file with the client key.
    pub(crate) key: Option<String>,
    /// Accept any certificate of the engine.
    pub(crate) insecure_skip_verify: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawFile {
    /// Directory whose .yaml, .yml, .toml and .json files are read, those of its subdirectories too.
    pub(crate) directory: Option<String>,
    /// One file, instead of a directory.
    pub(crate) filename: Option<String>,
    /// Whether changes are picked up while running.
    pub(crate) watch: bool,
}

impl Default for RawFile {
    fn default() -> Self {
        Self {
            directory: None,
            filename: None,
            watch: true,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawCertificates {
    /// Directory, or a list of them, with pairs such as NAME.crt and NAME.key, single PEM files with chain and key, and
    /// folders such as NAME with fullchain.pem and privkey.pem.
    pub(crate) directory: Vec<String>,
    /// Whether changes are picked up while running.
    pub(crate) watch: bool,
}

impl Default for RawCertificates {
    fn default() -> Self {
        Self {
            directory: Vec::new(),
            watch: true,
        }
    }
}
