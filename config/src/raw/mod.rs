//! The static configuration as it is written: names, shapes and defaults of every key.
//!
//! These types are only the grammar. Their documentation becomes the JSON schema and the example file, so it says units
//! and ranges; `resolve` turns them into [`crate::Config`].

mod access_log;
mod chase;
mod cluster;
mod edge;
mod entry_point;
mod guard;
mod leaf;
mod provider;
mod stream;
mod traefik_provider;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use access_log::{RawAccessLog, RawFilters};
pub(crate) use chase::RawChase;
pub(crate) use cluster::RawCluster;
pub(crate) use edge::RawEdge;
pub(crate) use entry_point::{RawEntryPoint, RawEntryPointTls, RawRedirection};
pub(crate) use guard::{AUTO, RawGuard, RawGuardAttack, RawGuardFeed, RawGuardRate};
pub(crate) use leaf::network_list;
pub use leaf::{Bytes, Time};
pub(crate) use provider::{RawCertificates, RawDocker, RawDockerTls, RawFile, RawProviders};
pub(crate) use stream::RawTcpServersTransport;
pub(crate) use traefik_provider::{RawProviderTls, RawTraefikProvider};

use crate::dynamic::ServiceOptions;
use crate::resolved::{LogFormat, LogLevel, Proxy, ServersTransport};
use crate::{Node, Secret};

/// Static configuration of Constellation. Keys are the same in any case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Constellation static configuration")]
pub(crate) struct RawConfig {
    /// Who this node is.
    pub(crate) node: RawNode,
    /// Where clients come in, by name. A section of your own replaces the default `web` and `websecure`.
    pub(crate) entry_points: BTreeMap<String, RawEntryPoint>,
    /// How this node holds its addresses.
    pub(crate) edge: RawEdge,
    /// How the nodes of a cluster reach each other. A node is in one after `constellation init` or `join`; without them
    /// nothing of this is used.
    pub(crate) cluster: RawCluster,
    /// Where routes come from. A section of your own replaces the default, which is Docker alone.
    pub(crate) providers: RawProviders,
    /// Health, metrics and API.
    pub(crate) control: RawControl,
    /// The document of all routes for a Traefik. Off without this section where `edge.mode` is `direct`;
    /// `traefikProvider: true` switches it on as it is.
    pub(crate) traefik_provider: Option<RawTraefikProvider>,
    /// The process log, on standard error.
    pub(crate) log: RawLog,
    /// The access log. Off without this section; `accessLog: true` switches it on as it is.
    pub(crate) access_log: Option<RawAccessLog>,
    /// How servers are reached when a service names no transport of its own.
    pub(crate) servers_transport: RawServersTransport,
    /// The same for TCP services.
    pub(crate) tcp_servers_transport: RawTcpServersTransport,
    /// Properties of the proxy as a whole.
    pub(crate) proxy: RawProxy,
    /// Health, failover and limits of every service, as far as a service says nothing else: by labels
    /// `constellation.http.services.NAME...`, or in a dynamic file below `constellation.http.services.NAME`. TCP and UDP
    /// services (`tcp` and `udp` instead of `http`) take from here what has a meaning for them.
    pub(crate) service_defaults: ServiceOptions,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            node: RawNode::default(),
            entry_points: RawEntryPoint::defaults(),
            edge: RawEdge::default(),
            cluster: RawCluster::default(),
            providers: RawProviders {
                docker: Some(RawDocker::default()),
                file: None,
                certificates: None,
            },
            control: RawControl::default(),
            traefik_provider: None,
            log: RawLog::default(),
            access_log: None,
            servers_transport: RawServersTransport::default(),
            tcp_servers_transport: RawTcpServersTransport::default(),
            proxy: RawProxy::default(),
            service_defaults: ServiceOptions::built_in(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawNode {
    /// Name of this node: letters, digits and `-`, at most 63. Empty: the first label of the host name.
    pub(crate) name: String,
    /// Preference among nodes, 0 to 65535; lower is preferred.
    pub(crate) priority: u16,
    /// Region of this node, any text; empty: none.
    pub(crate) region: String,
    /// Domain of the cluster, such as example.org; empty: none.
    pub(crate) domain: String,
    /// Folder of what has to outlive the node: who it is in its cluster, the replicated log, bans that were added while it
    /// ran.
    pub(crate) data_dir: String,
}

impl Default for RawNode {
    fn default() -> Self {
        Self {
            name: String::new(),
            priority: Node::default().priority,
            region: String::new(),
            domain: String::new(),
            data_dir: Node::default().data_dir.display().to_string(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawControl {
    /// IP address and port of health, metrics and API; port 0 picks a free one.
    pub(crate) address: String,
    /// Token that callers from other machines must send as `Authorization: Bearer TOKEN`; null: they send none.
    pub(crate) token: Option<Secret>,
    /// File that holds the token instead; blanks at its ends are dropped.
    pub(crate) token_file: Option<String>,
}

impl Default for RawControl {
    fn default() -> Self {
        Self {
            address: crate::Control::default().address.to_string(),
            token: None,
            token_file: None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawLog {
    /// The least severe level that is written.
    pub(crate) level: LogLevel,
    /// Directives as in RUST_LOG, such as `info,constellation_dataplane=debug`; they replace the level.
    pub(crate) filter: Option<String>,
    /// `common` for people, `json` for one object a line.
    pub(crate) format: LogFormat,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawServersTransport {
    /// Accept any certificate of a server.
    pub(crate) insecure_skip_verify: bool,
    /// PEM files with the authorities that sign the certificates of servers; empty: those of the system.
    #[serde(rename = "rootCAs")]
    pub(crate) root_cas: Vec<String>,
    /// Idle connections kept for each server, 1 to 100000; further ones are closed after a second of idleness.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) max_idle_conns_per_host: u32,
    /// Time limits towards servers.
    pub(crate) forwarding_timeouts: RawForwardingTimeouts,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawForwardingTimeouts {
    /// Time to connect, TLS included; more than 0.
    pub(crate) dial_timeout: Time,
    /// Time from the end of a request to the head of its response, and longest pause inside the response; 0: no
    /// limit. Leave it at 0 where responses are long streams.
    pub(crate) response_header_timeout: Time,
    /// How long an idle connection is kept; 0: for ever.
    pub(crate) idle_conn_timeout: Time,
}

impl Default for RawServersTransport {
    fn default() -> Self {
        Self {
            insecure_skip_verify: false,
            root_cas: Vec::new(),
            max_idle_conns_per_host: ServersTransport::default().max_idle_conns_per_host,
            forwarding_timeouts: RawForwardingTimeouts::default(),
        }
    }
}

impl Default for RawForwardingTimeouts {
    fn default() -> Self {
        let defaults = ServersTransport::default();
        Self {
            dial_timeout: defaults.dial_timeout.into(),
            response_header_timeout: defaults.response_header_timeout.into(),
            idle_conn_timeout: defaults.idle_conn_timeout.into(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawProxy {
    /// Worker threads, 0 to 1024; 0: one for each CPU that this process may use.
    #[schemars(range(max = 1024))]
    pub(crate) workers: u16,
    /// Keep each worker on one CPU, and give it the TCP connections that this CPU receives. Saves CPU time where the network
    /// card has a receive queue for each CPU; with fewer queues some workers would have nothing to do.
    pub(crate) cpu_affinity: bool,
    /// Clients (addresses or networks) that are told in response headers who served them; empty: nobody.
    #[schemars(schema_with = "network_list")]
    pub(crate) served_by_for: Vec<String>,
    /// `Retry-After` of the 503 that is answered while no server of a service can serve: whole seconds, 1s to 1h.
    pub(crate) retry_after: Time,
}

impl Default for RawProxy {
    fn default() -> Self {
        Self {
            workers: 0,
            cpu_affinity: false,
            served_by_for: Vec::new(),
            retry_after: Proxy::default().retry_after.into(),
        }
    }
}
