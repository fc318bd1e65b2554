//! `constellation routes`: the routes of the running node.

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::client::Ask;
use super::{Failure, print, print_json, table};

/// `routes`.
#[derive(Debug, Args)]
pub(super) struct RoutesArgs {
    #[command(flatten)]
    ask: Ask,
}

/// What the table shows of `/api/v1/routes`.
#[derive(Debug, Deserialize)]
struct Routes {
    routes: Vec<Route>,
}

#[derive(Debug, Deserialize)]
struct Route {
    name: String,
    protocol: String,
    reason: Option<String>,
    rule: String,
    priority: Option<i64>,
    entry_points: Vec<String>,
    tls: Option<bool>,
    #[serde(default)]
    passthrough: bool,
    service: Option<String>,
    redirect_to: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
    endpoints: usize,
    ready_endpoints: usize,
}

pub(super) fn run(args: &RoutesArgs) -> Result<(), Failure> {
    let node = args.ask.node.find(&args.ask.settings)?;
    if args.ask.json {
        return print_json(&node.get::<Value>("/api/v1/routes", &[])?);
    }
    let Routes { routes } = node.get("/api/v1/routes", &[])?;
    if routes.is_empty() {
        return print("no routes: add a file to the file provider, or labels to a container\n");
    }
    print(&render(&routes))
}

fn render(routes: &[Route]) -> String {
    let (served, disabled): (Vec<&Route>, Vec<&Route>) =
        routes.iter().partition(|route| route.reason.is_none());
    let rows: Vec<_> = served.into_iter().map(row).collect();
    let header = [
        "ROUTER",
        "PROTOCOL",
        "ENTRY POINTS",
        "TLS",
        "PRIORITY",
        "SERVICE",
        "READY",
        "RULE",
    ];
    let mut text = if rows.is_empty() {
        String::new()
    } else {
        table::render(header, &rows)
    };
    for route in routes {
        for warning in &route.warnings {
            text.push_str(&format!("warning: {}: {warning}\n", route.name));
        }
    }
    for route in disabled {
        let reason = route.reason.as_deref().unwrap_or_default();
        text.push_str(&format!("not served: {}: {reason}\n", route.name));
    }
    text
}

fn row(route: &Route) -> [String; 8] {
    let service = match (&route.service, &route.redirect_to) {
        (Some(service), _) => service.clone(),
        (None, Some(target)) => format!("-> {target}"),
        (None, None) => "-".to_owned(),
    };
    let ready = if route.service.is_some() {
        format!("{}/{}", route.ready_endpoints, route.endpoints)
    } else {
        "-".to_owned()
    };
    [
        route.name.clone(),
        route.protocol.clone(),
        route.entry_points.join(","),
        match (route.tls, route.passthrough) {
            (Some(true), true) => "passthrough",
            (Some(true), false) => "yes",
            (Some(false), _) => "no",
            (None, _) => "-",
        }
        .to_owned(),
        route
            .priority
            .map_or_else(|| "-".to_owned(), |priority| priority.to_string()),
        service,
        ready,
        if route.rule.is_empty() {
            "-".to_owned()
        } else {
            route.rule.clone()
        },
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn served_routes_make_a_table_and_the_others_say_why() {
        let answer = json!({"generation": 3, "routes": [
            {"name": "a@file", "protocol": "http", "status": "enabled", "rule": "Host(`a`)", "priority": 9, "entry_points": ["web", "alt"],
             "tls": false, "service": "s@file", "endpoints": 2, "ready_endpoints": 1},
            {"name": "r@internal", "protocol": "http", "status": "enabled", "rule": "PathPrefix(`/`)", "priority": 1, "entry_points": ["web"],
             "tls": true, "service": null, "redirect_to": "https:8443", "endpoints": 0, "ready_endpoints": 0},
            {"name": "tcp/db@file", "protocol": "tcp", "status": "enabled", "rule": "HostSNI(`db`)", "priority": 13,
             "entry_points": ["pg"], "tls": true, "passthrough": true, "service": "tcp/db@file", "endpoints": 1,
             "ready_endpoints": 1, "warnings": ["rule: odd", "never gets one"]},
            {"name": "udp/dns@file", "protocol": "udp", "status": "enabled", "rule": "", "priority": null,
             "entry_points": ["dns"], "tls": null, "service": "udp/dns@file", "endpoints": 1, "ready_endpoints": 0},
            {"name": "b@docker", "protocol": "http", "status": "disabled", "reason": "it has no rule", "rule": "", "priority": null,
             "entry_points": [], "tls": null, "service": null, "endpoints": 0, "ready_endpoints": 0},
        ]});
        let Routes { routes } = serde_json::from_value(answer).unwrap();
        assert_eq!(
            render(&routes),
            "\
ROUTER        PROTOCOL  ENTRY POINTS  TLS          PRIORITY  SERVICE        READY  RULE
a@file        http      web,alt       no           9         s@file         1/2    Host(`a`)
r@internal    http      web           yes          1         -> https:8443  -      PathPrefix(`/`)
tcp/db@file   tcp       pg            passthrough  13        tcp/db@file    1/1    HostSNI(`db`)
udp/dns@file  udp       dns           -            -         udp/dns@file   0/1    -
warning: tcp/db@file: rule: odd
warning: tcp/db@file: never gets one
not served: b@docker: it has no rule
"
        );
    }
}
