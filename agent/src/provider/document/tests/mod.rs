//! The document of readings that tests write down as files.

mod any;
mod elsewhere;
mod http;
mod streams;

use std::path::Path;
use std::sync::Arc;

use constellation_config::{Format, dynamic};
use constellation_table::{Condition, EndpointSpec, Locality, Peer, Scheme};
use serde_json::Value;

use super::{Document, Terms, document};
use crate::sources::{Contribution, ServerOrigin};

/// A reading of `provider` with this document.
fn reading(provider: &'static str, text: &str) -> Contribution {
    Contribution {
        provider,
        dynamic: dynamic::parse(text, Format::Yaml, Path::new("d.yaml")).unwrap(),
        ..Contribution::default()
    }
}

/// Adds that another node has the service, by its key.
fn at_peer(mut reading: Contribution, key: &str, condition: Condition) -> Contribution {
    let peer = Peer {
        node: "n2".into(),
        service: format!("{key}@{}", reading.provider).into(),
        instances: [].into(),
    };
    let endpoint = EndpointSpec {
        name: "node n2".into(),
        scheme: Scheme::Http,
        host: "n2".into(),
        port: 0,
        base_path: "".into(),
        weight: 1,
        condition,
        url_as_written: "".into(),
        locality: Locality::default(),
        peer: Some(Arc::new(peer)),
    };
    reading.peers.entry(key.to_owned()).or_default().push(endpoint);
    reading
}

/// Adds that a server of the service can't serve.
fn stopped(mut reading: Contribution, key: &str, server: &str) -> Contribution {
    let origin = ServerOrigin {
        name: "c".into(),
        condition: Condition::Unavailable("container exited (0)".into()),
    };
    let origins = reading.origins.entry(key.to_owned()).or_default();
    origins.insert(server.to_owned(), origin);
    reading
}

fn terms() -> Terms {
    Terms {
        failover: Some("127.0.0.1:8082".to_owned()),
        ..Terms::default()
    }
}

fn made(readings: impl IntoIterator<Item = Contribution>) -> Document {
    let readings: Vec<Arc<Contribution>> = readings.into_iter().map(Arc::new).collect();
    document(&readings, &terms())
}

fn at<'d>(document: &'d Document, pointer: &str) -> &'d Value {
    let found = document.value.pointer(pointer);
    found.unwrap_or_else(|| panic!("there is no {pointer} in {}", document.value))
}

/// Whether something was left out whose subject is this, with these words in the reason.
fn is_left_out(document: &Document, subject: &str, words: &str) -> bool {
    let of = |problem: &&crate::sources::Problem| problem.subject == subject;
    document
        .left_out
        .iter()
        .filter(of)
        .any(|problem| problem.message.contains(words))
}
