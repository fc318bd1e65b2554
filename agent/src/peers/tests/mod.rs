//! What nodes tell each other, and what follows for the tables of each.

mod exports;
mod merging;
mod seeded;

use std::collections::BTreeMap;
use std::sync::Arc;

use constellation_config::dynamic::Dynamic;
use constellation_config::{Config, EntryPoint};
use constellation_table::{Condition, Snapshot};
use serde_json::{Value, json};

use super::{Export, Fit, Own, Peer, Standing, merge};
use crate::compile::{Compiler, Statics};
use crate::sources::{Contribution, ServerOrigin};

fn reading(provider: &'static str, document: Value) -> Arc<Contribution> {
    let dynamic: Dynamic = serde_json::from_value(document).unwrap();
    Arc::new(Contribution {
        provider,
        dynamic,
        ..Contribution::default()
    })
}

/// A reading of Docker with one HTTP service behind `Host(NAME.d.test)`, with these servers; those marked `false` are
/// stopped.
fn containers(name: &str, servers: &[(&str, bool)]) -> Arc<Contribution> {
    let urls: Vec<Value> = servers.iter().map(|(url, _)| json!({ "url": url })).collect();
    let mut reading = Contribution::clone(&reading(
        "docker",
        json!({"http": {
            "routers": {name: {"rule": format!("Host(`{name}.d.test`)"), "service": name}},
            "services": {name: {"loadBalancer": {"servers": urls}}},
        }}),
    ));
    let origins = servers.iter().map(|(url, ready)| {
        let condition = match ready {
            true => Condition::Ready,
            false => Condition::Unavailable("container exited (0)".into()),
        };
        let origin = ServerOrigin {
            name: (*url).into(),
            condition,
        };
        ((*url).to_owned(), origin)
    });
    reading.origins.insert(name.to_owned(), origins.collect());
    Arc::new(reading)
}

fn own(node: &str) -> Own {
    Own {
        node: node.into(),
        region: "here".into(),
        domain: "d.test".into(),
    }
}

/// What a node that has this reading is to the others.
fn peer(node: &str, readings: &[Arc<Contribution>]) -> Peer {
    let exported = Export::of(readings).encode().unwrap();
    Peer {
        node: node.into(),
        region: "here".into(),
        priority: 100,
        addresses: vec!["192.0.2.1:8300".to_owned()],
        standing: Standing::Ready,
        export: Arc::new(Export::decode(&exported.bytes).unwrap()),
        fit: BTreeMap::new(),
    }
}

fn compiler() -> Compiler {
    let config = Config {
        entry_points: vec![EntryPoint::new("web", vec!["127.0.0.1:8000".parse().unwrap()])],
        ..Config::default()
    };
    Compiler::new(Statics::new(&config, &[]).unwrap())
}

/// The table of a node.
fn table(own: &Own, readings: &[Arc<Contribution>], peers: &[Peer]) -> Snapshot {
    compiler().compile(&merge(own, readings, peers), 1).snapshot
}

/// The endpoints of a service: name, whether it is ready, weight.
fn endpoints(table: &Snapshot, service: &str) -> Vec<(String, bool, u32)> {
    let service = table
        .service(service)
        .unwrap_or_else(|| panic!("no service {service}"));
    let endpoints = service.endpoints.iter();
    endpoints
        .map(|endpoint| {
            let ready = endpoint.condition == Condition::Ready;
            (endpoint.name.to_string(), ready, endpoint.weight)
        })
        .collect()
}
