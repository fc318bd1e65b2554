//! The older endpoints: one section of the document each, in the shape of Traefik's own API, for scripts.
//!
//! A Traefik must never poll them: it would take what it finds for a document, and one without routes.

use serde_json::{Map, Value, json};

/// The sections that there are.
pub(super) const SECTIONS: [(&str, &str); 8] = [
    ("http", "routers"),
    ("http", "services"),
    ("http", "middlewares"),
    ("tcp", "routers"),
    ("tcp", "services"),
    ("tcp", "middlewares"),
    ("udp", "routers"),
    ("udp", "services"),
];

/// The provider by whose name a Traefik knows what it polls.
const PROVIDER: &str = "http";

/// The objects of one section, by name.
pub(super) fn list(document: &Value, section: &str, kind: &str) -> Value {
    let objects = document.get(section).and_then(|section| section.get(kind));
    let objects = objects.and_then(Value::as_object).into_iter().flatten();
    let routers = document.get(section).and_then(|section| section.get("routers"));
    objects
        .map(|(name, object)| shown(name, object, kind, routers))
        .collect()
}

fn shown(name: &str, object: &Value, kind: &str, routers: Option<&Value>) -> Value {
    let mut shown: Map<String, Value> = object.as_object().cloned().unwrap_or_default();
    shown.insert("name".to_owned(), format!("{name}@{PROVIDER}").into());
    shown.insert("provider".to_owned(), PROVIDER.into());
    shown.insert("status".to_owned(), "enabled".into());
    if kind == "routers" {
        return shown.into();
    }
    let of_kind = object.as_object().and_then(|object| object.keys().next());
    if let Some(of_kind) = of_kind {
        shown.insert("type".to_owned(), of_kind.to_ascii_lowercase().into());
    }
    shown.insert("usedBy".to_owned(), used_by(name, kind, routers).into());
    if let Some(servers) = object.pointer("/loadBalancer/servers").and_then(Value::as_array) {
        let address = |server: &Value| {
            let of = server.get("url").or_else(|| server.get("address"))?.as_str()?;
            Some((of.to_owned(), json!("UP")))
        };
        let up: Map<String, Value> = servers.iter().filter_map(address).collect();
        shown.insert("serverStatus".to_owned(), up.into());
    }
    shown.into()
}

/// The routers that name it.
fn used_by(name: &str, kind: &str, routers: Option<&Value>) -> Vec<String> {
    let names = |router: &Value| match kind {
        "services" => router.get("service").and_then(Value::as_str) == Some(name),
        _ => router
            .get("middlewares")
            .and_then(Value::as_array)
            .is_some_and(|named| named.iter().any(|named| named == name)),
    };
    let routers = routers.and_then(Value::as_object).into_iter().flatten();
    routers
        .filter(|(_, router)| names(router))
        .map(|(router, _)| format!("{router}@{PROVIDER}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_has_the_shape_of_traefiks_api() {
        let document = json!({"http": {
            "routers": {"a": {"rule": "Host(`a`)", "service": "s", "middlewares": ["m"]}},
            "services": {"s": {"loadBalancer": {"servers": [{"url": "http://b"}]}}},
            "middlewares": {"m": {"compress": {}}},
        }});
        assert_eq!(
            list(&document, "http", "routers"),
            json!([{
                "rule": "Host(`a`)", "service": "s", "middlewares": ["m"],
                "name": "a@http", "provider": "http", "status": "enabled",
            }])
        );
        assert_eq!(
            list(&document, "http", "services"),
            json!([{
                "loadBalancer": {"servers": [{"url": "http://b"}]}, "name": "s@http", "provider": "http",
                "status": "enabled", "type": "loadbalancer", "usedBy": ["a@http"], "serverStatus": {"http://b": "UP"},
            }])
        );
        assert_eq!(
            list(&document, "http", "middlewares")[0]["usedBy"],
            json!(["a@http"])
        );
        assert_eq!(list(&document, "tcp", "routers"), json!([]));
    }
}
