//! From the raw configuration to the resolved one: what can be judged only when the meaning of a value is known.
//!
//! Nothing stops at the first error. A part that is wrong takes its default, so that the rest is still judged.

mod access_log;
mod address;
mod chase;
mod cluster;
mod edge;
mod entry_point;
mod guard;
mod provider;
mod traefik_provider;
mod virtual_ip;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::document::Node as Tree;
use crate::dynamic::ServiceOptions;
use crate::raw::{
    RawConfig, RawControl, RawNode, RawProxy, RawServersTransport, RawTcpServersTransport, RawTraefikProvider,
};
use crate::resolved::{Config, Control, EdgeMode, Log, Node, Proxy, ServersTransport, TcpServersTransport};
use crate::{ConfigError, Origin, Secret, duration, schema};

/// What resolving gives.
pub(crate) struct Resolution {
    pub(crate) config: Config,
    pub(crate) errors: Vec<ConfigError>,
    pub(crate) warnings: Vec<String>,
}

/// Resolves `raw`, which was read from `tree`. `host_name` names the node that has no name of its own.
pub(crate) fn resolve(raw: &RawConfig, tree: &Tree, host_name: &str) -> Resolution {
    let mut judge = Judge {
        tree,
        errors: Vec::new(),
        warnings: Vec::new(),
    };
    let (mut entry_points, shutdown) = entry_point::all(&raw.entry_points, &mut judge);
    if raw.edge.mode != EdgeMode::Direct {
        edge::give_to_traefik(&mut entry_points);
    }
    let control = control(&raw.control, &mut judge);
    let wanted = raw.traefik_provider.clone().or_else(|| match raw.edge.mode {
        EdgeMode::Direct => None,
        EdgeMode::BehindTraefik | EdgeMode::ProviderOnly => Some(RawTraefikProvider::default()),
    });
    let traefik_provider = wanted.map(|provider| traefik_provider::one(&provider, &entry_points, &mut judge));
    let mut others = vec![("control.address", control.address)];
    if let Some(provider) = &traefik_provider {
        others.push(("traefikProvider.address", provider.address));
        if raw.edge.mode != EdgeMode::ProviderOnly {
            others.push(("traefikProvider.failover.address", provider.failover.address));
        }
    }
    address::no_overlaps(&entry_points, &others, &mut judge);
    let config = Config {
        edge: edge::one(&raw.edge, &entry_points, &mut judge),
        node: node(&raw.node, host_name, &mut judge),
        cluster: cluster::one(&raw.cluster, &mut judge),
        providers: provider::all(&raw.providers, &mut judge),
        control,
        traefik_provider,
        log: Log {
            level: raw.log.level,
            filter: given(raw.log.filter.as_deref()),
            format: raw.log.format,
        },
        access_log: raw
            .access_log
            .as_ref()
            .map(|raw| access_log::one(raw, &mut judge)),
        servers_transport: servers_transport(&raw.servers_transport, &mut judge),
        tcp_servers_transport: tcp_servers_transport(&raw.tcp_servers_transport, &mut judge),
        proxy: proxy(&raw.proxy, &mut judge),
        service_defaults: service_defaults(&raw.service_defaults, &mut judge),
        entry_points,
        shutdown,
    };
    Resolution {
        config,
        errors: judge.errors,
        warnings: judge.warnings,
    }
}

/// Collects what is wrong, with the places from the tree.
struct Judge<'t> {
    tree: &'t Tree,
    errors: Vec<ConfigError>,
    warnings: Vec<String>,
}

impl Judge<'_> {
    /// Refuses the value at `key`. A key that isn't written has the place of what it belongs to.
    fn refuse(&mut self, key: &str, message: impl Into<String>) -> &mut ConfigError {
        let node = self.tree.at(key);
        let mut origin = node.map(|node| node.origin.clone());
        let mut parent = key;
        while let (None, Some((above, _))) = (&origin, parent.rsplit_once('.')) {
            origin = self.tree.at(above).map(|node| node.origin.clone());
            parent = above;
        }
        let mut error = ConfigError::new(origin.unwrap_or(Origin::Default), key, message);
        error.value = node.map(|node| schema::shown(node, key));
        self.errors.push(error);
        let last = self.errors.len() - 1;
        &mut self.errors[last]
    }

    fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// A duration that must be more than nothing.
    fn positive(&mut self, key: &str, time: Duration) -> Duration {
        if time.is_zero() {
            let error = self.refuse(key, "must be more than 0");
            error.expected = Some("a duration such as 10s".to_owned());
        }
        time
    }
}

impl ConfigError {
    fn expects(&mut self, expected: impl Into<String>) -> &mut Self {
        self.expected = Some(expected.into());
        self
    }

    fn advises(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }
}

fn node(raw: &RawNode, host_name: &str, judge: &mut Judge<'_>) -> Node {
    let name = if raw.name.is_empty() {
        label_from(host_name)
    } else {
        raw.name.clone()
    };
    if !is_label(&name) {
        judge
            .refuse("node.name", "is not a DNS label")
            .expects("letters, digits and `-`, at most 63, no `-` at the ends");
    }
    if !raw.data_dir.starts_with('/') {
        judge
            .refuse("node.dataDir", "is not an absolute path")
            .expects("a folder such as /opt/constellation/data");
    }
    let domain = raw.domain.trim_end_matches('.').to_ascii_lowercase();
    let is_domain = domain.len() <= 253 && domain.split('.').all(is_label);
    if !domain.is_empty() && !is_domain {
        judge
            .refuse("node.domain", "is not a domain name")
            .expects("labels of letters, digits and `-` with dots between them, such as example.org");
    }
    Node {
        name,
        priority: raw.priority,
        region: raw.region.clone(),
        domain,
        data_dir: PathBuf::from(&raw.data_dir),
    }
}

/// RFC 1123, section 2.1.
fn is_label(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=63).contains(&text.len())
        && text.chars().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The first label of a host name, in a form that is one.
fn label_from(host_name: &str) -> String {
    let first = host_name.trim().split('.').next().unwrap_or_default();
    let label: String = first
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    let label = label.trim_matches('-');
    if label.is_empty() {
        Node::default().name
    } else {
        label.to_owned()
    }
}

fn control(raw: &RawControl, judge: &mut Judge<'_>) -> Control {
    let address = match address::parse(&raw.address) {
        Ok(address) => address,
        Err(refusal) => {
            refusal.report("control.address", judge);
            Control::default().address
        }
    };
    let token = secret(
        "control.token",
        raw.token.as_ref(),
        given(raw.token_file.as_deref()),
        judge,
    );
    if !address.ip().is_loopback() && token.is_none() {
        judge.warn(format!(
            "control.address {address} can be reached from other machines without a token; set control.tokenFile, or use \
             127.0.0.1"
        ));
    }
    Control { address, token }
}

/// A secret given as a value or as a file.
fn secret(key: &str, value: Option<&Secret>, file: Option<String>, judge: &mut Judge<'_>) -> Option<Secret> {
    let file_key = format!("{key}File");
    match (value, file) {
        (Some(_), Some(_)) => {
            let message = format!("and {key} are both given");
            judge.refuse(&file_key, message).advises("keep one of them");
            None
        }
        (Some(value), None) if value.expose().trim().is_empty() => {
            judge
                .refuse(key, "is empty")
                .advises("give the secret, or leave the key out");
            None
        }
        (Some(value), None) => Some(value.clone()),
        (None, Some(path)) => match std::fs::read_to_string(path) {
            Ok(text) if text.trim().is_empty() => {
                judge
                    .refuse(&file_key, "the file is empty")
                    .advises("put the secret into it");
                None
            }
            Ok(text) => Some(Secret::new(text.trim())),
            Err(error) => {
                judge
                    .refuse(&file_key, format!("the file can't be read: {error}"))
                    .advises("check the path and its permissions");
                None
            }
        },
        (None, None) => None,
    }
}

fn servers_transport(raw: &RawServersTransport, judge: &mut Judge<'_>) -> ServersTransport {
    let dial_key = "serversTransport.forwardingTimeouts.dialTimeout";
    if raw.insecure_skip_verify {
        judge.warn(
            "serversTransport.insecureSkipVerify is true: the certificates of servers are not verified",
        );
    }
    ServersTransport {
        insecure_skip_verify: raw.insecure_skip_verify,
        root_cas: raw.root_cas.iter().map(PathBuf::from).collect(),
        max_idle_conns_per_host: raw.max_idle_conns_per_host,
        dial_timeout: judge.positive(dial_key, raw.forwarding_timeouts.dial_timeout.0),
        response_header_timeout: raw.forwarding_timeouts.response_header_timeout.limit(),
        idle_conn_timeout: raw.forwarding_timeouts.idle_conn_timeout.limit(),
    }
}

fn tcp_servers_transport(raw: &RawTcpServersTransport, judge: &mut Judge<'_>) -> TcpServersTransport {
    if raw.tls.insecure_skip_verify {
        judge.warn(
            "tcpServersTransport.tls.insecureSkipVerify is true: the certificates of servers are not verified",
        );
    }
    TcpServersTransport {
        dial_timeout: judge.positive("tcpServersTransport.dialTimeout", raw.dial_timeout.0),
        dial_keep_alive: raw.dial_keep_alive.limit(),
        // The schema has checked the form, so what is no duration here is one below zero.
        termination_delay: duration::parse(&raw.termination_delay),
        insecure_skip_verify: raw.tls.insecure_skip_verify,
        root_cas: raw.tls.root_cas.iter().map(PathBuf::from).collect(),
    }
}

fn proxy(raw: &RawProxy, judge: &mut Judge<'_>) -> Proxy {
    let retry_after = raw.retry_after.0;
    let whole = retry_after.subsec_nanos() == 0;
    if !whole || !(1..=3600).contains(&retry_after.as_secs()) {
        judge
            .refuse("proxy.retryAfter", "is out of range")
            .expects("whole seconds from 1s to 1h");
    }
    Proxy {
        workers: NonZeroUsize::new(raw.workers.into()),
        cpu_affinity: raw.cpu_affinity,
        served_by_for: networks(&raw.served_by_for),
        retry_after,
    }
}

/// What applies to all services; 403 says something of one service's meaning, and never of all.
fn service_defaults(raw: &ServiceOptions, judge: &mut Judge<'_>) -> ServiceOptions {
    let statuses = raw.retry.as_ref().and_then(|retry| retry.statuses.as_deref());
    if statuses.is_some_and(|statuses| statuses.contains(&403)) {
        judge
            .refuse("serviceDefaults.retry.statuses", "holds 403, which can't be tried again for every service")
            .expects("429, or statuses from 500 to 599")
            .advises("set it for the services that mean \"ask another server\" by it: constellation.http.services.NAME.retry.statuses");
    }
    raw.clone()
}

/// An optional text; an empty one is none.
fn given<T: for<'t> From<&'t str>>(text: Option<&str>) -> Option<T> {
    text.filter(|text| !text.trim().is_empty()).map(T::from)
}

/// Networks, whose form the schema has checked.
fn networks(texts: &[String]) -> Vec<ipnet::IpNet> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
