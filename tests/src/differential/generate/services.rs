//! Services of a case: mostly one server each, so that it is known which one gets a request.

use fastrand::Rng;
use serde_json::{Value, json};

use super::Draft;
use super::vocabulary::{chance, pick};
use crate::differential::site::{self, BACKENDS, DEAD_PORT, PORTS};

/// Adds a service to the file and returns how a router names it.
pub(super) fn file(rng: &mut Rng, draft: &mut Draft, index: usize) -> String {
    let name = draft.name(&format!("s{index}"));
    let mut balancer = json!({ "servers": [server(rng, draft.site)] });
    match rng.u8(..40) {
        0 => balancer["servers"] = json!([]),
        1 => {
            let address = site::backend(draft.site, 0);
            balancer["servers"] = json!([{ "url": format!("http://{address}:{DEAD_PORT}") }]);
        }
        2..=4 => balancer["passHostHeader"] = json!(false),
        5 => balancer["passHostHeader"] = json!(true),
        6 => balancer["servers"][0]["preservePath"] = json!(true),
        7..=8 => {
            // Named after what is served there, or with a path of its own.
            let url = balancer["servers"][0]["url"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            balancer["servers"][0]["url"] = json!(format!(
                "{url}{}",
                pick(rng, &["/", "/base", "/base/", "/b%20c", "/a%2Fb", "/b//c"])
            ));
            balancer["servers"][0]["preservePath"] = json!(rng.bool());
        }
        9 => balancer["servers"][0]["weight"] = json!(rng.u8(1..5)),
        _ => {}
    }
    if chance(rng, 4) {
        return pick(
            rng,
            &["missing", "missing@file", "missing@docker", "api@internal2"],
        )
        .to_owned();
    }
    draft
        .case
        .section("services")
        .insert(name.clone(), json!({ "loadBalancer": balancer }));
    match rng.u8(..10) {
        0 => format!("{name}@file"),
        _ => name,
    }
}

fn server(rng: &mut Rng, site: u8) -> Value {
    let address = site::backend(site, rng.u8(..BACKENDS));
    let port = PORTS[rng.usize(..PORTS.len())];
    json!({ "url": format!("http://{address}:{port}") })
}

/// Adds labels of a container's service and returns how its routers name it, where they have to or may.
pub(super) fn labels(
    rng: &mut Rng,
    draft: &Draft,
    index: usize,
    labels: &mut Vec<(String, String)>,
) -> Option<String> {
    let name = draft.name(&format!("s{index}"));
    let label = |key: &str, value: &str| {
        (
            format!("traefik.http.services.{name}.loadbalancer.{key}"),
            value.to_owned(),
        )
    };
    match rng.u8(..8) {
        // One by default, on the lowest port.
        0..=2 => return None,
        3..=5 => labels.push(label("server.port", &PORTS[rng.usize(..PORTS.len())].to_string())),
        6 => {
            labels.push(label("passhostheader", pick(rng, &["false", "true", "0"])));
        }
        _ => labels.push(label("server.scheme", "http")),
    }
    match rng.u8(..4) {
        0 => None,
        1 => Some(format!("{name}@docker")),
        _ => Some(name),
    }
}
