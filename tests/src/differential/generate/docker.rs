//! Cases about the Docker provider: which containers count, how they are named, where they are reached, and which rule
//! a router without one gets.

use fastrand::Rng;
use serde_json::{Value, json};

use super::Draft;
use super::requests::server_name;
use super::template::{Facts, Template, normalize};
use super::vocabulary::{chance, pick};
use crate::differential::batch::MARKING;
use crate::differential::case::{
    Attached, Case, Container, Expect, Hello, NETWORK, Request, Setting, entry_point,
};
use crate::differential::site::{self, BACKENDS, DEAD_PORT, PORTS};

const COMPOSE_PROJECT: &str = "com.docker.compose.project";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";

/// Networks that containers may be on, besides [`NETWORK`].
const NETWORKS: &[&str] = &["back", "shop_default", "Edge"];

/// Options of the provider for a batch, and the template among them.
pub(super) fn surroundings(rng: &mut Rng) -> (Setting, Template) {
    let mut setting = Setting::default();
    let docker = &mut setting.docker;
    docker.insert("exposedByDefault".into(), json!(rng.bool()));
    let template = if chance(rng, 85) {
        let template = Template::some(rng);
        docker.insert("defaultRule".into(), json!(template.text));
        template
    } else {
        Template::default()
    };
    if chance(rng, 40) {
        let constraint = format!("Label(`{MARKING}`, `true`) || {}", constraint(rng, 2));
        // Mostly for containers that say so, and then for some of the others.
        let constraint = if chance(rng, 50) {
            constraint + " || Label(`zone`, `a`) || Label(`zone`, ``)"
        } else {
            constraint
        };
        docker.insert("constraints".into(), json!(constraint));
    }
    if chance(rng, 30) {
        docker.insert("network".into(), json!(pick(rng, &[NETWORK, "back", "missing"])));
    }
    if chance(rng, 30) {
        docker.insert("useBindPortIP".into(), json!(true));
    }
    if chance(rng, 50) {
        docker.insert("allowEmptyServices".into(), json!(true));
    }
    (setting, template)
}

fn constraint(rng: &mut Rng, depth: u8) -> String {
    if depth > 0 && chance(rng, 60) {
        let [a, b] = [constraint(rng, depth - 1), constraint(rng, depth - 1)];
        return match rng.u8(..4) {
            0 => format!("({a} && {b})"),
            1 => format!("({a}||{b})"),
            2 => format!("!({a})"),
            _ => format!("({a} || !{b})"),
        };
    }
    let key = pick(
        rng,
        &["tier", "zone", "traefik.enable", COMPOSE_PROJECT, "missing"],
    );
    match rng.u8(..6) {
        0 => format!("Label(`{key}`, ``)"),
        1 | 2 => format!("Label(`{key}`, `{}`)", pick(rng, &["front", "a", "true", "B"])),
        3 => format!("Label(\"{key}\",\"front\")"),
        _ => {
            let pattern = pick(
                rng,
                &["fr", "^front$", ".*", ".+", "^(a|b)$", "(?i)FRONT", "^$", "[a-f]"],
            );
            format!("LabelRegex(`{key}`, `{pattern}`)")
        }
    }
}

/// Makes the case of this number.
pub(super) fn case(rng: &mut Rng, number: u64, site: u8, setting: &Setting, template: &Template) -> Case {
    let mut draft = Draft::new(number, site);
    let mut wishes = Vec::new();
    for index in 0..rng.usize(1..=4) {
        let container = container(rng, &draft, index, setting, &mut wishes, template);
        if chance(rng, 12) {
            let mut replica = container.clone();
            replica.name += "b";
            replica.address = site::backend(site, rng.u8(..BACKENDS));
            draft.case.containers.push(replica);
            draft.case.expect = Expect::Somebody;
        }
        draft.case.containers.push(container);
    }
    let down = !draft.case.containers.iter().all(Container::is_ready);
    draft.case.subject = if down { "docker, not ready" } else { "docker" }.to_owned();
    for _ in 0..rng.usize(15..=25) {
        let request = ask(rng, &wishes);
        draft.case.requests.push(request);
    }
    draft
        .case
        .requests
        .sort_by(|a, b| (&a.tls, a.entry, a.client).cmp(&(&b.tls, b.entry, b.client)));
    draft.case
}

/// A request that a container may have asked for.
#[derive(Clone, Debug)]
struct Wish {
    host: String,
    path: String,
    entry: u8,
}

fn container(
    rng: &mut Rng,
    draft: &Draft,
    index: usize,
    setting: &Setting,
    wishes: &mut Vec<Wish>,
    template: &Template,
) -> Container {
    let words = [
        "web",
        "web_1",
        "my.app",
        "Web",
        "x__y",
        "api-1.2",
        "_a_",
        "shop_web-1",
    ];
    let mut container = Container {
        name: draft.name(pick(rng, &words)) + &index.to_string(),
        address: site::backend(draft.site, rng.u8(..BACKENDS)),
        ..Container::default()
    };
    let mut labels = own_labels(rng, draft, index);
    let name = match (find(&labels, COMPOSE_SERVICE), find(&labels, COMPOSE_PROJECT)) {
        (Some(service), Some(project)) => normalize(&format!("{service}_{project}")),
        _ => normalize(&container.name),
    };
    let facts = Facts {
        name,
        container_name: container.name.clone(),
        labels: labels.clone(),
    };
    let services = services(rng, draft, index, &mut labels);
    let routers = if chance(rng, 30) { 0 } else { rng.usize(1..=2) };
    for router in 0..routers {
        let router = draft.name(&format!("r{index}-{router}"));
        let mut label =
            |key: &str, value: String| labels.push((format!("traefik.http.routers.{router}.{key}"), value));
        let which = u8::from(chance(rng, 20));
        let everywhere = chance(rng, 10);
        if !everywhere {
            label("entrypoints", entry_point(draft.case.place(), which));
        }
        let entry = if everywhere { 2 + which } else { which };
        if chance(rng, 30) {
            let host = format!("{router}.test");
            label("rule", format!("Host(`{host}`)"));
            let path = "/".to_owned();
            wishes.push(Wish { host, path, entry });
        } else {
            // Two routers with the same rule are one too many; nor is it that of the redirection.
            label(
                "priority",
                (rng.u8(6..=90) * 2 + u8::try_from(index % 2).unwrap_or(0)).to_string(),
            );
        }
        if let Some(service) = services.first().filter(|_| chance(rng, 40)) {
            label("service", service.clone());
        }
        for _ in 0..6 {
            let (host, path) = template.wishes(rng, &facts);
            wishes.push(Wish { host, path, entry });
        }
        if routers == 2 && !everywhere && router.ends_with("-0") {
            // The other one has its own rule, or another entry point.
            continue;
        }
    }
    for _ in 0..6 {
        let (host, path) = template.wishes(rng, &facts);
        let entry = if routers == 0 { 2 } else { 0 };
        wishes.push(Wish { host, path, entry });
    }
    rng.shuffle(&mut labels);
    container.labels = labels;
    container.exposed = ports(rng);
    attach(rng, draft, &mut container, setting);
    live(rng, &mut container);
    container
}

fn find<'l>(labels: &'l [(String, String)], key: &str) -> Option<&'l str> {
    let found = labels.iter().find(|(name, _)| name == key);
    found.map(|(_, value)| value.as_str())
}

/// Labels that define nothing.
fn own_labels(rng: &mut Rng, draft: &Draft, index: usize) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let mut label = |key: &str, value: String| labels.push((key.to_owned(), value));
    match rng.u8(..20) {
        0..=5 => {}
        6 => label("traefik.enable", "false".into()),
        7 => label(
            "traefik.enable",
            pick(rng, &["maybe", "", "yes", "TRUE", "0", "1", "T"]).into(),
        ),
        8 => label("Traefik.Enable", "true".into()),
        _ => label("traefik.enable", "true".into()),
    }
    if chance(rng, 50) {
        label("tier", pick(rng, &["front", "Front", "", "back"]).to_owned());
    }
    if chance(rng, 40) {
        label("site", draft.name(&format!("site_{index}")));
    }
    if chance(rng, 40) {
        label("zone", pick(rng, &["a", "b", "B"]).to_owned());
    }
    let (project, service) = match rng.u8(..20) {
        0..=6 => (true, true),
        7 => (true, false),
        8 => (false, true),
        _ => (false, false),
    };
    if project {
        let project = pick(rng, &["shop", "My_Proj", "a.b"]);
        label(COMPOSE_PROJECT, project.to_owned());
    }
    if service {
        let service = draft.name(pick(rng, &["web", "web_x", "Front-end", "-api-"]));
        label(COMPOSE_SERVICE, format!("{service}{index}"));
    }
    labels
}

/// Labels of services, and how routers may name these.
fn services(rng: &mut Rng, draft: &Draft, index: usize, labels: &mut Vec<(String, String)>) -> Vec<String> {
    let count = match rng.u8(..10) {
        0..=4 => 0,
        5..=8 => 1,
        _ => 2,
    };
    let mut names = Vec::new();
    for number in 0..count {
        let name = draft.name(&format!("s{index}-{number}"));
        let mut label = |key: &str, value: String| {
            labels.push((format!("traefik.http.services.{name}.loadbalancer.{key}"), value));
        };
        match rng.u8(..12) {
            0..=5 => label("server.port", PORTS[rng.usize(..PORTS.len())].to_string()),
            6 => label("server.port", DEAD_PORT.to_string()),
            7 => label(
                "server.scheme",
                pick(rng, &["http", "HTTP", "", "gopher"]).to_owned(),
            ),
            8 => {
                let address = site::backend(draft.site, rng.u8(..BACKENDS));
                label("server.url", format!("http://{address}:{}", PORTS[1]));
            }
            9 => label("server.weight", rng.u8(0..4).to_string()),
            10 => label("server.port", site::host_port(draft.site).to_string()),
            _ => label("passhostheader", "false".to_owned()),
        }
        names.push(name);
    }
    if chance(rng, 6) {
        names.insert(0, draft.name("s0-0"));
    }
    names
}

fn ports(rng: &mut Rng) -> Vec<String> {
    let all = [PORTS[0], PORTS[1], DEAD_PORT, 10_000];
    let mut ports = Vec::new();
    let count = match rng.u8(..10) {
        0 => 0,
        1..=6 => 1,
        _ => rng.usize(2..=4),
    };
    for _ in 0..count {
        let port = if chance(rng, 70) {
            all[rng.usize(..2)]
        } else {
            all[rng.usize(..all.len())]
        };
        let protocol = if chance(rng, 10) { "udp" } else { "tcp" };
        let port = format!("{port}/{protocol}");
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    ports
}

/// Puts it into networks, and on ports of the host.
fn attach(rng: &mut Rng, draft: &Draft, container: &mut Container, setting: &Setting) {
    let address = |rng: &mut Rng| site::backend(draft.site, rng.u8(..BACKENDS));
    let wanted = setting.docker.get("network").and_then(Value::as_str);
    match rng.u8(..20) {
        0..=2 => {
            // Which of several networks is taken has to be said: without it chance decides.
            let mut all = vec![(NETWORK.to_owned(), address(rng))];
            let first = rng.usize(..NETWORKS.len());
            all.push((NETWORKS[first].to_owned(), address(rng)));
            if rng.bool() {
                all.push((NETWORKS[(first + 1) % NETWORKS.len()].to_owned(), address(rng)));
            }
            if !all.iter().any(|(name, _)| Some(name.as_str()) == wanted) || rng.bool() {
                let chosen = all[rng.usize(..all.len())].0.clone();
                container.labels.push(("traefik.docker.network".into(), chosen));
            }
            container.attached = Attached::Networks(all);
        }
        3 => {
            // One that it is not on.
            container
                .labels
                .push(("traefik.docker.network".into(), "nowhere".into()));
        }
        4 => {
            container.attached =
                Attached::Networks(vec![(pick(rng, NETWORKS).to_owned(), container.address)]);
        }
        5 | 6 => {
            container.attached = Attached::Host;
            if chance(rng, 70) {
                let service = draft.name("host");
                let port = site::host_port(draft.site).to_string();
                let has_one = container
                    .labels
                    .iter()
                    .any(|(key, _)| key.starts_with("traefik.http.services."));
                if !has_one {
                    let key = format!(
                        "traefik.http.services.{service}-{}.loadbalancer.server.port",
                        normalize(&container.name)
                    );
                    container.labels.push((key, port));
                }
            }
        }
        7 => {
            let others = draft.case.containers.iter().map(|other| other.name.clone());
            let mut others: Vec<String> = others.collect();
            others.push(draft.name("nobody"));
            let other = others[rng.usize(..others.len())].clone();
            container.attached = Attached::Container(other);
        }
        8 => container.attached = Attached::Networks(Vec::new()),
        _ => {}
    }
    if chance(rng, 40) {
        for port in container.exposed.clone() {
            if chance(rng, 60) {
                let on_host = match rng.u8(..5) {
                    0 => "0.0.0.0".to_owned(),
                    1 => String::new(),
                    2 => "::".to_owned(),
                    _ => address(rng).to_string(),
                };
                container
                    .bound
                    .push((port, on_host, PORTS[rng.usize(..PORTS.len())]));
            }
        }
    }
}

fn live(rng: &mut Rng, container: &mut Container) {
    match rng.u8(..20) {
        0 | 1 => container.status = pick(rng, &["exited", "paused", "restarting", "created", "dead"]),
        2 => container.health = Some(pick(rng, &["starting", "unhealthy"])),
        3 => container.health = Some("healthy"),
        _ => {}
    }
    if chance(rng, if container.status == "running" { 3 } else { 40 }) {
        let allowed = pick(rng, &["true", "true", "false"]);
        let allowed = allowed.to_owned();
        container
            .labels
            .push(("traefik.docker.allownonrunning".into(), allowed));
    }
    // Without a port or an address it never had a route.
    if !container.is_ready() {
        container.attached = Attached::Usual;
        if container.exposed.is_empty() {
            container.exposed.push(format!("{}/tcp", PORTS[0]));
        }
    }
}

fn ask(rng: &mut Rng, wishes: &[Wish]) -> Request {
    let mut wish = wishes[rng.usize(..wishes.len())].clone();
    if chance(rng, 5) {
        wish.entry = rng.u8(..4);
    }
    if chance(rng, 4) {
        wish.host = format!("sub.{}", wish.host);
    }
    let host: String = wish
        .host
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() || "-._".contains(letter) {
                letter
            } else {
                '-'
            }
        })
        .collect();
    let mut headers = vec![("Host".to_owned(), host.clone())];
    if chance(rng, 5) {
        headers.push(("X-A".to_owned(), pick(rng, &["a", "b"]).to_owned()));
    }
    Request {
        entry: wish.entry,
        tls: chance(rng, 3).then(|| Hello::named(server_name(&host))),
        client: rng.u8(..2),
        method: "GET".to_owned(),
        target: wish.path,
        version: "HTTP/1.1",
        headers,
        ..Request::default()
    }
}
