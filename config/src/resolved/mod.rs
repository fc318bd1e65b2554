//! The resolved static configuration: every value typed, checked and present.
//!
//! The agent reads these types and nothing else of the configuration. How text becomes them is the business of the
//! other modules; `Config::default()` is what runs when there is no file and no variable.

mod access_log;
mod chase;
mod cluster;
mod edge;
mod entry_point;
mod guard;
mod provider;
mod traefik_provider;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use access_log::{AccessLog, AccessLogFilters, AccessLogFormat, FieldMode, StatusRange};
pub use chase::Chase;
pub use cluster::{Cluster, ClusterProfile, ListenAt};
pub use edge::{Edge, EdgeMode, Lease, Serve, Standby, SteeringMode};
pub use entry_point::{
    EntryPoint, EntryPointTls, ForwardedHeaders, Limits, Prefix, Protocol, ProxyProtocol, Redirection,
    RedirectionTarget, Timeouts, Udp,
};
pub use guard::{Guard, GuardAttack, GuardDevices, GuardFeed, GuardMode, GuardRate, XdpMode};
pub use provider::{CertificatesProvider, DockerProvider, DockerTls, FileProvider, FileSource, Providers};
pub use traefik_provider::{ProviderFailover, ProviderTls, TraefikProvider};

use crate::Secret;
use crate::dynamic::ServiceOptions;

/// The static configuration of one node, fixed for the life of the process.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// At least one, sorted by name. Their names are unique, and so are their addresses but for port 0. They have none where
    /// `edge.mode` says that they are Traefik's.
    pub entry_points: Vec<EntryPoint>,
    /// How this node holds its addresses.
    pub edge: Edge,
    /// How it and the other nodes of its cluster reach each other.
    pub cluster: Cluster,
    /// Where routes come from.
    pub providers: Providers,
    /// Health, metrics and API.
    pub control: Control,
    /// The document for a Traefik; `None`: there is none.
    pub traefik_provider: Option<TraefikProvider>,
    /// The process log.
    pub log: Log,
    /// The access log; `None`: not written.
    pub access_log: Option<AccessLog>,
    /// How back ends are reached when a service names no transport.
    pub servers_transport: ServersTransport,
    /// How the back ends of TCP services are reached when a service names no transport.
    pub tcp_servers_transport: TcpServersTransport,
    /// Properties of the proxy as a whole.
    pub proxy: Proxy,
    /// What applies to a service that says nothing else; complete.
    pub service_defaults: ServiceOptions,
    /// What SIGTERM does. From `entryPoints.*.transport.lifeCycle`, the longest of each.
    pub shutdown: Shutdown,
}

/// `node`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name of this node, a DNS label. `node.name`, else `TS_HOSTNAME`, `NODE_NAME`, the host name.
    pub name: String,
    /// Preference among nodes, the lower the better; 0 to 65,535.
    pub priority: u16,
    /// Region; empty: none.
    pub region: String,
    /// Domain of the cluster; empty: none.
    pub domain: String,
    /// Folder of what has to outlive the node, made when there is something to keep.
    pub data_dir: PathBuf,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: "localhost".to_owned(),
            priority: 100,
            region: String::new(),
            domain: String::new(),
            data_dir: PathBuf::from("/opt/constellation/data"),
        }
    }
}

/// `control`.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    /// Where health, metrics and the API are served.
    pub address: SocketAddr,
    /// What callers that are not on this machine must send as `Authorization: Bearer TOKEN`; `None`: nothing.
    pub token: Option<Secret>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            token: None,
        }
    }
}

/// `log`: the process log, written to standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// Directives as in `RUST_LOG` (`info,constellation_dataplane=debug`); when set they replace `level`.
    pub filter: Option<String>,
    /// Shape of a line.
    pub format: LogFormat,
}

/// `log.level`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What a developer wants.
    Debug,
    /// What an operator wants.
    #[default]
    Info,
    /// What an operator should look at.
    Warn,
    /// What failed.
    Error,
}

impl LogLevel {
    /// The directive of this level.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// `log.format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Common,
    /// One JSON object a line.
    Json,
}

/// `serversTransport`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServersTransport {
    /// Accept any certificate of a back end.
    pub insecure_skip_verify: bool,
    /// Files with trust anchors; empty: the system's.
    pub root_cas: Vec<PathBuf>,
    /// Idle connections kept per back end, 1 to 100,000; further ones close after a second.
    pub max_idle_conns_per_host: u32,
    /// Time to connect, TLS included; never zero.
    pub dial_timeout: Duration,
    /// Time from the end of the request to the head of the response; `None`: no limit.
    pub response_header_timeout: Option<Duration>,
    /// How long an idle connection is kept; `None`: for ever.
    pub idle_conn_timeout: Option<Duration>,
}

impl Default for ServersTransport {
    fn default() -> Self {
        Self {
            insecure_skip_verify: false,
            root_cas: Vec::new(),
            max_idle_conns_per_host: 200,
            dial_timeout: Duration::from_secs(30),
            response_header_timeout: None,
            idle_conn_timeout: Some(Duration::from_secs(90)),
        }
    }
}

/// `tcpServersTransport`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpServersTransport {
    /// Time to connect, TLS included; never zero.
    pub dial_timeout: Duration,
    /// Between two probes of TCP keep-alive; `None`: none are sent.
    pub dial_keep_alive: Option<Duration>,
    /// Once one side has ended what it sends: the longest silence of the other; `None`: no limit.
    pub termination_delay: Option<Duration>,
    /// Accept any certificate of a back end.
    pub insecure_skip_verify: bool,
    /// Files with trust anchors; empty: the system's.
    pub root_cas: Vec<PathBuf>,
}

impl Default for TcpServersTransport {
    fn default() -> Self {
        Self {
            dial_timeout: Duration::from_secs(30),
            dial_keep_alive: Some(Duration::from_secs(15)),
            termination_delay: Some(Duration::from_secs(600)),
            insecure_skip_verify: false,
            root_cas: Vec::new(),
        }
    }
}

/// `proxy`: properties of the data plane as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Worker threads; `None`: one for each CPU this process may use.
    pub workers: Option<NonZeroUsize>,
    /// Whether each worker stays on one CPU and gets the TCP connections that this CPU receives.
    pub cpu_affinity: bool,
    /// Clients that are told in response headers who served them; empty: nobody.
    pub served_by_for: Vec<IpNet>,
    /// `Retry-After` of the 503 that is answered while no server of a service can serve; whole seconds, 1 s to 1 h.
    pub retry_after: Duration,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            workers: None,
            cpu_affinity: false,
            served_by_for: Vec::new(),
            retry_after: Duration::from_secs(5),
        }
    }
}

/// What SIGTERM does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// How long requests are still accepted, while `/health` already says that the node is going; 0: not at all.
    pub accept_grace: Duration,
    /// How long requests and WebSockets may take to finish after that.
    pub drain: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            accept_grace: Duration::ZERO,
            drain: Duration::from_secs(10),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: Node::default(),
            entry_points: EntryPoint::defaults(),
            edge: Edge::default(),
            cluster: Cluster::default(),
            providers: Providers::default(),
            control: Control::default(),
            traefik_provider: None,
            log: Log::default(),
            access_log: None,
            servers_transport: ServersTransport::default(),
            tcp_servers_transport: TcpServersTransport::default(),
            proxy: Proxy::default(),
            service_defaults: ServiceOptions::built_in(),
            shutdown: Shutdown::default(),
        }
    }
}
