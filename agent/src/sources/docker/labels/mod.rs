//! The labels of one container, read exactly as Traefik 3.7 reads them.
//!
//! Pure: strings in, typed objects or the first error out. A container with an error in its labels is not used at all,
//! as in Traefik, and hurts no other. Options of our own (`constellation.`) are read apart and cost nothing but
//! themselves. Labels outside `traefik.enable`, `traefik.docker`, `traefik.http`, `traefik.tcp`,
//! `traefik.udp` and `traefik.tls.stores.default` are not looked at; that includes those of Traefik 1.

mod decode;
mod middleware_schema;
mod schema;
mod streams;
#[cfg(test)]
mod tests;
mod tree;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use constellation_config::dynamic::{
    Extensions, LoadBalancer, Middleware, Router, ServiceOptions, TlsStore, options_from_labels,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::sources::Section;

pub use self::values::middleware;

pub use self::streams::{
    LabelledTcp, LabelledTcpServer, LabelledTcpService, LabelledUdp, LabelledUdpService,
};

/// The root of our own labels.
const OPTIONS: &str = "constellation";

/// A label that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("label `{key}`: {message}")]
pub struct LabelError {
    /// The key as far as it was understood.
    pub key: String,
    /// What is wrong and what was expected.
    pub message: String,
}

impl LabelError {
    fn new(key: &str, message: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            message: message.into(),
        }
    }
}

/// How the container itself is to be treated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerOptions {
    /// `traefik.enable`.
    pub enable: Option<bool>,
    /// `traefik.docker.network`; empty counts as absent.
    pub network: Option<String>,
}

/// What the labels define.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelledRoutes {
    /// HTTP routers by name; rule and service may be missing.
    pub routers: BTreeMap<String, Router>,
    /// HTTP services by name.
    pub services: BTreeMap<String, LabelledService>,
    /// HTTP middlewares by name.
    pub middlewares: BTreeMap<String, Middleware>,
    /// TLS stores by name.
    pub stores: BTreeMap<String, TlsStore>,
    /// TCP routers, services and middlewares.
    pub tcp: LabelledTcp,
    /// UDP routers and services.
    pub udp: LabelledUdp,
}

/// A service as labels can define it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelledService {
    /// Everything but the server; `None` when the labels set only what has no label form.
    pub load_balancer: Option<LoadBalancer>,
    /// The one server.
    pub server: LabelledServer,
    /// Middlewares of the service.
    pub middlewares: Vec<String>,
}

/// The server of a service, before the container's address is known. Empty strings count as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LabelledServer {
    /// A whole URL, instead of scheme and port.
    pub url: String,
    /// Default `http`.
    pub scheme: String,
    /// Default: the lowest exposed port.
    pub port: String,
    /// Relative weight.
    pub weight: Option<u32>,
    /// Keep the URL's path in front of the request's.
    pub preserve_path: bool,
}

impl ContainerOptions {
    /// Reads `traefik.enable` and `traefik.docker`.
    pub fn read(labels: &BTreeMap<String, String>) -> Result<Self, LabelError> {
        let root = tree::grow(labels, &["traefik.enable", "traefik.docker."])?;
        let options = decode::object(&root, &schema::CONTAINER, tree::ROOT)?;
        let network = options.get("docker").and_then(|docker| docker.get("network"));
        Ok(Self {
            enable: options.get("enable").and_then(Value::as_bool),
            network: network
                .and_then(Value::as_str)
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
        })
    }
}

impl LabelledRoutes {
    /// Reads the sections that define routes.
    pub fn read(labels: &BTreeMap<String, String>) -> Result<Self, LabelError> {
        let prefixes = [
            "traefik.http",
            "traefik.tcp",
            "traefik.udp",
            "traefik.tls.stores.default",
        ];
        let root = tree::grow(labels, &prefixes)?;
        let mut sections = decode::object(&root, &schema::ROUTES, tree::ROOT)?;
        let mut http = section(sections.remove("http"));
        let mut routes = Self {
            tcp: LabelledTcp::read(section(sections.remove("tcp")))?,
            udp: LabelledUdp::read(section(sections.remove("udp")))?,
            ..Self::default()
        };
        for (name, router) in section(http.remove("routers")) {
            let key = format!("traefik.http.routers.{name}");
            routes.routers.insert(name, typed(&key, router)?);
        }
        for (name, options) in section(http.remove("services")) {
            let key = format!("traefik.http.services.{name}");
            routes
                .services
                .insert(name, service(&key, section(Some(options)))?);
        }
        for (name, middleware) in section(http.remove("middlewares")) {
            let key = format!("traefik.http.middlewares.{name}");
            routes.middlewares.insert(name, typed(&key, middleware)?);
        }
        for (name, store) in section(section(sections.remove("tls")).remove("stores")) {
            let key = format!("traefik.tls.stores.{name}");
            routes.stores.insert(name, typed(&key, store)?);
        }
        Ok(routes)
    }
}

/// The options below `constellation`: those that can be used, and what is wrong with the others, which never costs a
/// container its routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelledOptions {
    /// By the section and the name of the service.
    pub services: BTreeMap<(Section, String), Arc<ServiceOptions>>,
    /// One text for each label that can't be used.
    pub errors: Vec<String>,
}

impl LabelledOptions {
    /// Reads them.
    pub fn read(labels: &BTreeMap<String, String>) -> Self {
        let (tree, unreadable) = tree::grow_leniently(labels, OPTIONS);
        let mut errors: Vec<String> = unreadable.iter().map(ToString::to_string).collect();
        if tree.children.is_empty() {
            return Self {
                errors,
                ..Self::default()
            };
        }
        let salvaged = options_from_labels(decode::raw(&tree));
        errors.extend(salvaged.errors.iter().map(ToString::to_string));
        let Extensions { http, tcp, udp } = salvaged.options;
        let of_sections = [(Section::Http, http), (Section::Tcp, tcp), (Section::Udp, udp)];
        let services = of_sections.into_iter().flat_map(|(section, options)| {
            let services = options.services.into_iter();
            services.map(move |(name, options)| ((section, name), options))
        });
        Self {
            services: services.collect(),
            errors,
        }
    }
}

fn service(key: &str, mut options: Map<String, Value>) -> Result<LabelledService, LabelError> {
    let middlewares = options.remove("middlewares").unwrap_or_default();
    let mut service = LabelledService {
        middlewares: typed::<Option<Vec<String>>>(key, middlewares)?.unwrap_or_default(),
        ..LabelledService::default()
    };
    let Some(Value::Object(mut balancer)) = options.remove("loadBalancer") else {
        return Ok(service);
    };
    if let Some(Value::Array(servers)) = balancer.remove("server")
        && let Some(server) = servers.into_iter().next()
    {
        service.server = typed(&format!("{key}.loadBalancer.server"), server)?;
    }
    service.load_balancer = Some(typed(&format!("{key}.loadBalancer"), Value::Object(balancer))?);
    Ok(service)
}

/// The schema has the same names and types as the document, so what is left to refuse is a range (a negative weight).
fn typed<T: DeserializeOwned>(key: &str, value: Value) -> Result<T, LabelError> {
    serde_json::from_value(value).map_err(|error| LabelError::new(key, error.to_string()))
}

fn section(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(section)) => section,
        _ => Map::new(),
    }
}
