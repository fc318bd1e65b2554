//! The sections `traefik.tcp` and `traefik.udp`.

use std::collections::BTreeMap;

use constellation_config::dynamic::{TcpLoadBalancer, TcpMiddleware, TcpRouter, UdpRouter};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{LabelError, section, typed};

/// `traefik.tcp`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelledTcp {
    /// By name; rule and service may be missing.
    pub routers: BTreeMap<String, TcpRouter>,
    /// By name.
    pub services: BTreeMap<String, LabelledTcpService>,
    /// By name.
    pub middlewares: BTreeMap<String, TcpMiddleware>,
}

/// A TCP service as labels can define it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelledTcpService {
    /// Everything but the server; `None` when the labels set only what has no label form.
    pub load_balancer: Option<TcpLoadBalancer>,
    /// The one server.
    pub server: LabelledTcpServer,
}

/// The server of a TCP service, before the container's address is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LabelledTcpServer {
    /// Default: the lowest port exposed for TCP.
    pub port: String,
    /// Whether TLS is spoken with it.
    pub tls: bool,
}

/// `traefik.udp`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelledUdp {
    /// By name; the service may be missing.
    pub routers: BTreeMap<String, UdpRouter>,
    /// By name.
    pub services: BTreeMap<String, LabelledUdpService>,
}

/// A UDP service as labels can define it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelledUdpService {
    /// Whether there is a `loadbalancer`; without one the labels set only what has no label form.
    pub load_balancer: bool,
    /// The server's port; empty: the lowest port exposed for UDP.
    pub port: String,
}

impl LabelledTcp {
    /// Reads what was decoded of `traefik.tcp`.
    pub(super) fn read(mut tcp: Map<String, Value>) -> Result<Self, LabelError> {
        let mut labelled = Self::default();
        for (name, router) in section(tcp.remove("routers")) {
            let key = format!("traefik.tcp.routers.{name}");
            labelled.routers.insert(name, typed(&key, router)?);
        }
        for (name, options) in section(tcp.remove("services")) {
            let key = format!("traefik.tcp.services.{name}");
            let (balancer, server) = server(options);
            let service = LabelledTcpService {
                load_balancer: match balancer {
                    Some(balancer) => Some(typed(&format!("{key}.loadBalancer"), Value::Object(balancer))?),
                    None => None,
                },
                server: typed(&format!("{key}.loadBalancer.server"), Value::Object(server))?,
            };
            labelled.services.insert(name, service);
        }
        for (name, middleware) in section(tcp.remove("middlewares")) {
            let key = format!("traefik.tcp.middlewares.{name}");
            labelled.middlewares.insert(name, typed(&key, middleware)?);
        }
        Ok(labelled)
    }

    /// Whether there are routers or services; middlewares alone define no TCP.
    pub fn defines(&self) -> bool {
        !self.routers.is_empty() || !self.services.is_empty()
    }
}

impl LabelledUdp {
    /// Reads what was decoded of `traefik.udp`.
    pub(super) fn read(mut udp: Map<String, Value>) -> Result<Self, LabelError> {
        let mut labelled = Self::default();
        for (name, router) in section(udp.remove("routers")) {
            let key = format!("traefik.udp.routers.{name}");
            labelled.routers.insert(name, typed(&key, router)?);
        }
        for (name, options) in section(udp.remove("services")) {
            let (balancer, server) = server(options);
            let port = server.get("port").and_then(Value::as_str).unwrap_or_default();
            let service = LabelledUdpService {
                load_balancer: balancer.is_some(),
                port: port.to_owned(),
            };
            labelled.services.insert(name, service);
        }
        Ok(labelled)
    }

    /// Whether there are routers or services.
    pub fn defines(&self) -> bool {
        !self.routers.is_empty() || !self.services.is_empty()
    }
}

/// `loadBalancer` of a service without its server, and the server.
fn server(options: Value) -> (Option<Map<String, Value>>, Map<String, Value>) {
    let Some(Value::Object(mut balancer)) = section(Some(options)).remove("loadBalancer") else {
        return (None, Map::new());
    };
    let server = match balancer.remove("server") {
        Some(Value::Array(servers)) => section(servers.into_iter().next()),
        _ => Map::new(),
    };
    (Some(balancer), server)
}
