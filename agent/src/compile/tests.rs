//! Whole compiles: documents in, tables and problems out.

mod access;
mod carried;
mod kinds;
mod middlewares;
mod objects;
mod options;
mod shaping;
mod tls;
mod traefik;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use constellation_config::dynamic::Dynamic;
use constellation_config::{EntryPoint, EntryPointTls, Redirection as RedirectionConfig, RedirectionTarget};
use constellation_table::{Action, Condition, Decision, EntryPointId, RequestMeta, Turn, decide};
use serde_json::{Value, json};

use super::*;
use crate::sources::ServerOrigin;

const WEB: EntryPointId = EntryPointId(0);
const WEBSECURE: EntryPointId = EntryPointId(1);

fn config() -> constellation_config::Config {
    let mut web = EntryPoint::new("web", vec!["127.0.0.1:8000".parse().unwrap()]);
    let mut websecure = EntryPoint::new("websecure", vec!["127.0.0.1:8443".parse().unwrap()]);
    websecure.tls = Some(EntryPointTls::default());
    web.redirection = None;
    constellation_config::Config {
        entry_points: vec![web, websecure],
        ..constellation_config::Config::default()
    }
}

fn compiler() -> Compiler {
    Compiler::new(Statics::new(&config(), &[]).unwrap())
}

fn reading(provider: &'static str, document: Value) -> Arc<Contribution> {
    let dynamic: Dynamic = serde_json::from_value(document).unwrap();
    Arc::new(Contribution {
        provider,
        dynamic,
        ..Contribution::default()
    })
}

/// A document with a service for each router, one server each.
fn document(routers: &[(&str, Value)]) -> Value {
    let routers: BTreeMap<&str, Value> = routers.iter().cloned().collect();
    json!({"http": {
        "routers": routers,
        "services": {"s": {"loadBalancer": {"servers": [{"url": "http://10.0.0.1:80"}]}}},
    }})
}

fn router(rule: &str) -> Value {
    json!({"rule": rule, "service": "s"})
}

/// The name of the router that a request for `host` gets.
fn routed(compiled: &Compiled, entry_point: EntryPointId, tls: bool, host: &str) -> Option<String> {
    let headers = http::HeaderMap::new();
    let request = RequestMeta {
        entry_point,
        tls,
        method: "GET",
        host,
        path: "/",
        query: "",
        headers: &headers,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        repeatable: true,
        now: std::time::Instant::now(),
        turn: Turn::Look,
    };
    match decide(&compiled.snapshot, &request) {
        Decision::Forward { router, .. }
        | Decision::Unavailable { router, .. }
        | Decision::Redirect { router, .. } => Some(router.spec.name.to_string()),
        Decision::NoRoute => None,
    }
}

fn router_named<'a>(compiled: &'a Compiled, name: &str) -> &'a Arc<Router> {
    let mut routers = compiled.snapshot.routers().iter();
    routers
        .find(|router| &*router.spec.name == name)
        .unwrap_or_else(|| panic!("no router {name}"))
}

fn reason<'a>(compiled: &'a Compiled, name: &str) -> &'a str {
    let disabled = compiled.disabled.iter().find(|disabled| disabled.name == name);
    &disabled
        .unwrap_or_else(|| panic!("{name} is not disabled"))
        .reason
}

fn names(list: &[Arc<str>]) -> Vec<&str> {
    list.iter().map(AsRef::as_ref).collect()
}
