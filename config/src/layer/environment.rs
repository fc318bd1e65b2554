//! The environment: `CONSTELLATION__A__B=v` for any key, and the variables that users of the earlier system have.

use std::collections::BTreeMap;

use super::Setting;
use crate::document::{Node, Value};
use crate::{ConfigError, Origin};

/// Names the configuration file.
pub(crate) const CONFIG_FILE: &str = "CONFIG_FILE";
const PREFIX: &str = "CONSTELLATION__";

/// Variables that stand for one key. The first one of a key that is set counts. An empty one counts as not set,
/// because Compose files hand on variables that way.
const SIMPLE: [(&str, &str); 9] = [
    ("TS_HOSTNAME", "node.name"),
    ("NODE_NAME", "node.name"),
    ("DOMAIN", "node.domain"),
    ("NODE_PRIORITY", "node.priority"),
    ("DATA_DIR", "node.dataDir"),
    ("TAILSCALE_IP", "cluster.advertise"),
    (
        "SMARTPROXY_TIMEOUT",
        "serversTransport.forwardingTimeouts.dialTimeout",
    ),
    (
        "SMARTPROXY_IDLE_TIMEOUT",
        "serversTransport.forwardingTimeouts.idleConnTimeout",
    ),
    (
        "SMARTPROXY_MAX_IDLE_CONNS_PER_HOST",
        "serversTransport.maxIdleConnsPerHost",
    ),
];

/// Variables that replace the port of an address between nodes.
const CLUSTER_PORTS: [(&str, &str); 2] = [
    ("RAFT_PORT", "cluster.raft.address"),
    ("BIND_PORT", "cluster.gossip.address"),
];

/// The port where a Traefik polls; it switches the section on.
const PROVIDER_PORT: &str = "TRAEFIK_HTTP_PROVIDER_PORT";
/// The resolver of TLS routers, where there is a document that they stand in.
const CERT_RESOLVER: &str = "TRAEFIK_CERT_RESOLVER";

/// Variables that replace the port of an entry point, where it exists.
const PORTS: [(&str, &str); 2] = [
    ("TRAEFIK_WEB_PORT", "web"),
    ("TRAEFIK_WEBSECURE_PORT", "websecure"),
];

/// What the environment says, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    pub(crate) settings: Vec<Setting>,
    pub(crate) warnings: Vec<String>,
    pub(crate) errors: Vec<ConfigError>,
}

/// The settings of `CONSTELLATION__A__B` variables.
pub(crate) fn variables(env: &BTreeMap<String, String>) -> Vec<Setting> {
    env.iter()
        .filter_map(|(name, value)| {
            let prefix = name.get(..PREFIX.len())?;
            prefix.eq_ignore_ascii_case(PREFIX).then(|| Setting {
                key: name[PREFIX.len()..].split("__").map(str::to_owned).collect(),
                value: value.clone(),
                origin: variable(name),
            })
        })
        .collect()
}

/// The settings of the other variables. They depend on what the file says: a port variable keeps the host of the
/// address, and one for an entry point that isn't there has no effect.
pub(crate) fn lay_contract(root: &Node, env: &BTreeMap<String, String>) -> Environment {
    let get = |name: &str| env.get(name).filter(|value| !value.is_empty());
    let mut found = Environment::default();
    let mut taken = Vec::new();
    for (name, key) in SIMPLE {
        if let (Some(value), false) = (get(name), taken.contains(&key)) {
            taken.push(key);
            found.settings.push(Setting::at(key, value, variable(name)));
        }
    }
    for (name, entry_point) in PORTS {
        if let Some(value) = get(name) {
            port_of(root, name, value, entry_point, &mut found);
        }
    }
    for (name, key) in CLUSTER_PORTS {
        if let Some(number) = get(name).and_then(|value| port(name, value, &mut found)) {
            let address = with_port(root.at(key).map_or("", text_of), number);
            found.settings.push(Setting::at(key, address, variable(name)));
        }
    }
    control(root, get("BIND_ADDR"), get("API_PORT"), &mut found);
    provider(root, get(PROVIDER_PORT), get(CERT_RESOLVER), &mut found);
    let docker = root.at("providers.docker").filter(|docker| !docker.is_null());
    if docker.is_some() {
        let mut set = |name: &str, key: &str, value: String| {
            let key = format!("providers.docker.{key}");
            found.settings.push(Setting::at(&key, value, variable(name)));
        };
        if let Some(endpoint) = get("DOCKER_HOST") {
            set("DOCKER_HOST", "endpoint", endpoint.clone());
        }
        if let (Some(directory), Some(_)) = (get("DOCKER_CERT_PATH"), get("DOCKER_TLS_VERIFY")) {
            for (key, file) in [
                ("tls.ca", "ca.pem"),
                ("tls.cert", "cert.pem"),
                ("tls.key", "key.pem"),
            ] {
                set(
                    "DOCKER_CERT_PATH",
                    key,
                    format!("{}/{file}", directory.trim_end_matches('/')),
                );
            }
        }
    }
    found
}

fn port_of(root: &Node, name: &str, value: &str, entry_point: &str, found: &mut Environment) {
    let Some(port) = port(name, value, found) else {
        return;
    };
    let Some(node) = root.at(&format!("entryPoints.{entry_point}")) else {
        let warning = format!("{name} has no effect: there is no entry point named {entry_point}");
        found.warnings.push(warning);
        return;
    };
    let addresses = match node.get("address").map(|address| &address.value) {
        Some(Value::Scalar(scalar)) => scalar.text.split(',').map(|text| with_port(text, port)).collect(),
        Some(Value::List(items)) => items.iter().map(|item| with_port(text_of(item), port)).collect(),
        _ => vec![format!(":{port}")],
    };
    let key = format!("entryPoints.{entry_point}.address");
    let setting = Setting::at(&key, addresses.join(","), variable(name));
    found.settings.push(setting);
}

fn control(root: &Node, host: Option<&String>, port_text: Option<&String>, found: &mut Environment) {
    let default = crate::Control::default().address.to_string();
    let mut address = root
        .at("control.address")
        .map_or(default.as_str(), text_of)
        .to_owned();
    let mut origin = None;
    if let Some(host) = host {
        let (_, port) = address.rsplit_once(':').unwrap_or((&address, "8080"));
        let bracketed = host.contains(':') && !host.starts_with('[');
        address = if bracketed {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        origin = Some("BIND_ADDR");
    }
    if let Some(number) = port_text.and_then(|value| port("API_PORT", value, found)) {
        address = with_port(&address, number);
        origin = origin.or(Some("API_PORT"));
    }
    if let Some(name) = origin {
        let setting = Setting::at("control.address", address, variable(name));
        found.settings.push(setting);
    }
}

fn provider(root: &Node, number: Option<&String>, resolver: Option<&String>, found: &mut Environment) {
    let section = root.at("traefikProvider").filter(|section| !section.is_null());
    if let Some(number) = number.and_then(|value| port(PROVIDER_PORT, value, found)) {
        let default = crate::TraefikProvider::default().address.to_string();
        let key = "traefikProvider.address";
        let address = with_port(root.at(key).map_or(default.as_str(), text_of), number);
        found
            .settings
            .push(Setting::at(key, address, variable(PROVIDER_PORT)));
    }
    let mode = root.at("edge.mode").map_or("", text_of);
    let polled = section.is_some() || number.is_some() || !["", "direct"].contains(&mode);
    if let Some(resolver) = resolver.filter(|_| polled) {
        let key = "traefikProvider.certResolver";
        found
            .settings
            .push(Setting::at(key, resolver, variable(CERT_RESOLVER)));
    }
}

fn port(name: &str, value: &str, found: &mut Environment) -> Option<u16> {
    let port = value.trim().parse();
    if port.is_err() {
        let error = ConfigError::new(variable(name), "", "is not a port number")
            .value(format!("{value:?}"))
            .expected("a number from 0 to 65535");
        found.errors.push(error);
    }
    port.ok()
}

/// The address with another port; the host stays.
fn with_port(address: &str, port: u16) -> String {
    let host = address.trim().rsplit_once(':').map_or("", |(host, _)| host);
    format!("{host}:{port}")
}

fn text_of(node: &Node) -> &str {
    match &node.value {
        Value::Scalar(scalar) => &scalar.text,
        _ => "",
    }
}

fn variable(name: &str) -> Origin {
    Origin::Variable { name: name.into() }
}
