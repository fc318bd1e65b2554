//! Cases about routing: routers, their rules, priorities, entry points, TLS, and their services, in a file or as labels.

use std::collections::BTreeSet;

use fastrand::Rng;
use serde_json::{Value, json};

use super::rule::{self, Maker, Node};
use super::vocabulary::{chance, pick};
use super::{Draft, requests, services};
use crate::differential::case::{Case, Container, Hello, entry_point};
use crate::differential::side::{REDIRECTION, Special};
use crate::differential::site::{self, BACKENDS, PORTS};

/// A router before it is written down.
#[derive(Clone, Debug)]
struct Router {
    name: String,
    rule: String,
    entry_points: Vec<String>,
    /// As a document or a label has it.
    priority: Option<Value>,
    tls: Option<bool>,
}

/// Makes the case of this number.
pub(super) fn case(rng: &mut Rng, number: u64, site: u8) -> Case {
    let maker = Maker::new(rng, site);
    let mut draft = Draft::new(number, site);
    draft.case.subject = "routing".to_owned();
    let count = rng.usize(1..=5);
    let mut rules = Vec::new();
    let mut routers = Vec::new();
    for index in 0..count {
        let odd = chance(rng, 7);
        let node = maker.rule(rng, 3);
        let rule = if odd {
            rule::odd(rng).to_owned()
        } else {
            node.text(rng)
        };
        routers.push(router(rng, &draft, index, rule));
        // Requests of a rule that is no tree are those of the others.
        if !odd {
            rules.push(node);
        }
    }
    if chance(rng, 40) {
        labels(rng, &mut draft, routers);
    } else {
        file(rng, &mut draft, routers);
    }
    ask(rng, &mut draft, &rules);
    draft.case
}

fn router(rng: &mut Rng, draft: &Draft, index: usize, rule: String) -> Router {
    let place = draft.case.place();
    let all = [entry_point(place, 0), entry_point(place, 1)];
    let mut entry_points = match rng.u8(..10) {
        0..=5 => vec![all[0].clone()],
        6 => vec![all[1].clone()],
        _ => all.to_vec(),
    };
    if chance(rng, 3) {
        entry_points.insert(rng.usize(..=entry_points.len()), "missing".to_owned());
    }
    if chance(rng, 1) {
        entry_points = vec!["missing".to_owned()];
    }
    // Without any it is reached everywhere, which only one place may have.
    if Special::of(place) == Special::Default && chance(rng, 60) {
        entry_points.clear();
    }
    let priority = match rng.u8(..20) {
        0 => Some(json!(rng.i32(-3..5))),
        1 => Some(json!(rng.i32(5..60))),
        2 => Some(json!(1000)),
        3 => Some(match rng.u8(..6) {
            0 => json!(0),
            1 => json!(-1),
            2 => json!(i64::MAX - 1000),
            3 => json!(i64::MAX - 999),
            4 => json!(i64::MIN),
            _ => json!(i64::MAX),
        }),
        _ => None,
    };
    Router {
        name: draft.name(&format!("r{index}")),
        rule,
        entry_points,
        priority,
        tls: match rng.u8(..10) {
            0..=1 => Some(true),
            _ => None,
        },
    }
}

/// Equal priorities are decided by chance in Traefik, so that each gets one of its own.
fn part(rng: &mut Rng, routers: &mut [Router]) {
    let mut used = BTreeSet::from([REDIRECTION]);
    for router in routers {
        loop {
            let priority = router
                .priority
                .as_ref()
                .and_then(Value::as_i64)
                .filter(|p| *p != 0);
            let priority = priority.unwrap_or(i64::try_from(router.rule.len()).unwrap_or(i64::MAX));
            if used.insert(priority) {
                break;
            }
            router.priority = Some(json!(rng.i32(1..400)));
        }
    }
}

fn file(rng: &mut Rng, draft: &mut Draft, mut routers: Vec<Router>) {
    part(rng, &mut routers);
    for (index, router) in routers.into_iter().enumerate() {
        // In a file it would be a template.
        if router.rule.contains("{{") {
            continue;
        }
        let service = services::file(rng, draft, index);
        let mut object = json!({ "rule": router.rule, "service": service });
        if !router.entry_points.is_empty() {
            object["entryPoints"] = json!(router.entry_points);
        }
        if let Some(priority) = router.priority {
            object["priority"] = priority;
        }
        if router.tls.is_some() {
            object["tls"] = json!({});
        }
        draft.case.section("routers").insert(router.name, object);
    }
}

fn labels(rng: &mut Rng, draft: &mut Draft, mut routers: Vec<Router>) {
    part(rng, &mut routers);
    let containers = rng.usize(1..=2);
    for index in 0..containers {
        let address = site::backend(draft.site, rng.u8(..BACKENDS));
        let mut labels = vec![("traefik.enable".to_owned(), "true".to_owned())];
        let service = services::labels(rng, draft, index, &mut labels);
        for (number, router) in routers.iter().enumerate() {
            if number % containers == index {
                write_router(rng, router, service.as_deref(), &mut labels);
            }
        }
        if chance(rng, 3) {
            labels.push(odd_label(rng, &draft.name("odd")));
        }
        rng.shuffle(&mut labels);
        let mut exposed = vec![format!("{}/tcp", PORTS[0])];
        if chance(rng, 30) {
            exposed.push(format!("{}/tcp", PORTS[1]));
        }
        let container = Container {
            name: draft.name(pick(rng, &["web", "web_1", "my.app", "_x_", "Web"])) + &index.to_string(),
            labels,
            exposed,
            address,
            ..Container::default()
        };
        draft.case.containers.push(container);
    }
}

fn write_router(rng: &mut Rng, router: &Router, service: Option<&str>, labels: &mut Vec<(String, String)>) {
    let mut label = |rng: &mut Rng, key: &str, value: String| {
        let key = match rng.u8(..10) {
            0 => key.to_ascii_lowercase(),
            1 => key.to_ascii_uppercase(),
            _ => key.to_owned(),
        };
        let section = if chance(rng, 5) {
            "HTTP.Routers"
        } else {
            "http.routers"
        };
        labels.push((format!("traefik.{section}.{}.{key}", router.name), value));
    };
    label(rng, "rule", router.rule.clone());
    if !router.entry_points.is_empty() {
        let comma = if chance(rng, 20) { ", " } else { "," };
        label(rng, "entryPoints", router.entry_points.join(comma));
    }
    if let Some(priority) = &router.priority {
        label(rng, "priority", priority.to_string());
    }
    if let Some(service) = service {
        label(rng, "service", service.to_owned());
    }
    if router.tls.is_some() {
        let value = pick(rng, &["true", "", "True", "1"]);
        label(rng, "tls", value.to_owned());
    } else if chance(rng, 5) {
        label(rng, "tls", "false".to_owned());
    }
}

/// A label that is not usual, with its value.
fn odd_label(rng: &mut Rng, name: &str) -> (String, String) {
    let all = [
        ("http.routers.NAME.rul", "PathPrefix(`/`)"),
        ("http.routers.NAME.priority", "ten"),
        ("http.routers.NAME.priority", "1.5"),
        ("http.routers.NAME.tls", "maybe"),
        ("http.routers.NAME.ruleSyntax", "v3"),
        ("http.services.NAME.loadbalancer.server.port", "http"),
        ("http.services.NAME.loadbalancer.bogus", "1"),
        ("http.services.NAME.loadbalancer.passhostheader", "yes"),
        ("foo.bar", "1"),
        ("http.foo.bar.baz", "1"),
        ("docker.network", "nowhere"),
        ("docker.lbswarm", "true"),
        ("docker.bogus", "true"),
        ("frontend.rule", "Host:a.test"),
        ("port", "80"),
        ("http", "1"),
        ("http.routers", "1"),
        ("http.routers.NAME", "1"),
        ("tags", "a,b"),
    ];
    let (label, value) = all[rng.usize(..all.len())];
    (
        format!("traefik.{}", label.replace("NAME", name)),
        value.to_owned(),
    )
}

fn ask(rng: &mut Rng, draft: &mut Draft, rules: &[Node]) {
    let special = Special::of(draft.case.place());
    let count = rng.usize(30..=60);
    for _ in 0..count {
        let mut request = requests::request(rng, rules);
        request.entry = u8::from(chance(rng, 25));
        let secure = if special == Special::Secure { 60 } else { 15 };
        if chance(rng, secure) {
            let name = request.headers.first().map(|(_, host)| host.clone());
            request.tls = Some(Hello::named(requests::server_name(&name.unwrap_or_default())));
        }
        draft.case.requests.push(request);
    }
    // Neighbours on a connection are handled one after the other; handshakes are what costs.
    draft
        .case
        .requests
        .sort_by(|a, b| (&a.tls, a.entry, a.client).cmp(&(&b.tls, b.entry, b.client)));
}
