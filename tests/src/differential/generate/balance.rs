//! Cases about services: which server of several gets a request, cookies that hold clients, services made of services.

use fastrand::Rng;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Draft;
use super::vocabulary::{chance, pick};
use crate::differential::backend::{REPLY, Reply};
use crate::differential::case::{Body, Case, Expect, Request, entry_point};
use crate::differential::site::{self, BACKENDS, PORTS};

const HOST: &str = "a.test";

/// Makes the case of this number.
pub(super) fn case(rng: &mut Rng, number: u64, site: u8) -> Case {
    let mut draft = Draft::new(number, site);
    draft.case.subject = "balance".to_owned();
    let (service, requests) = match rng.u8(..7) {
        0 => shares(rng, &mut draft),
        1 => weighted(rng, &mut draft),
        2 => sticky_servers(rng, &mut draft),
        3 => sticky_services(rng, &mut draft),
        4 => mirroring(rng, &mut draft),
        5 => errors(rng, &mut draft),
        _ => by_address(rng, &mut draft),
    };
    let router = json!({
        "rule": format!("Host(`{HOST}`)"), "service": service, "entryPoints": [entry_point(draft.case.place(), 1)],
    });
    let name = draft.name("r");
    draft.case.section("routers").insert(name, router);
    draft.case.requests = requests;
    draft.case
}

/// The URL of the server at this place; different ones for different places.
fn url(draft: &Draft, which: u8) -> String {
    let address = site::backend(draft.site, which % BACKENDS);
    format!("http://{address}:{}", PORTS[usize::from(which / BACKENDS)])
}

/// Adds a service and returns its name.
fn add(draft: &mut Draft, name: &str, service: Value) -> String {
    let name = draft.name(name);
    draft.case.section("services").insert(name.clone(), service);
    name
}

/// Adds a service with one server.
fn one(draft: &mut Draft, which: u8) -> String {
    let url = url(draft, which);
    add(
        draft,
        &format!("s{which}"),
        json!({ "loadBalancer": { "servers": [{ "url": url }] } }),
    )
}

fn get() -> Request {
    Request {
        // The first one may be special.
        entry: 1,
        method: "GET".into(),
        target: "/".into(),
        version: "HTTP/1.1",
        headers: vec![("Host".into(), HOST.into())],
        ..Request::default()
    }
}

/// As many requests as give everybody whole turns: Traefik's shares are exact then.
fn whole_turns(rng: &mut Rng, draft: &mut Draft, total: u32) -> Vec<Request> {
    draft.case.expect = Expect::Shares;
    let turns = rng.u32(2..6);
    (0..total * turns).map(|_| get()).collect()
}

fn shares(rng: &mut Rng, draft: &mut Draft) -> (String, Vec<Request>) {
    let mut total = 0;
    let mut servers = Vec::new();
    for which in 0..rng.u8(2..5) {
        let mut server = json!({ "url": url(draft, which) });
        let weight = rng.u32(0..6);
        if chance(rng, 60) {
            server["weight"] = json!(weight);
            total += weight;
        } else {
            total += 1;
        }
        servers.push(server);
    }
    let service = add(draft, "s", json!({ "loadBalancer": { "servers": servers } }));
    (service, whole_turns(rng, draft, total.max(1)))
}

fn weighted(rng: &mut Rng, draft: &mut Draft) -> (String, Vec<Request>) {
    let mut total = 0;
    let mut parts = Vec::new();
    for which in 0..rng.u8(2..5) {
        let mut part = json!({ "name": one(draft, which) });
        let weight = rng.u32(0..5);
        if chance(rng, 80) {
            part["weight"] = json!(weight);
            total += weight;
        } else {
            total += 1;
        }
        parts.push(part);
    }
    let service = add(draft, "w", json!({ "weighted": { "services": parts } }));
    (service, whole_turns(rng, draft, total.max(1)))
}

fn cookie(rng: &mut Rng) -> Value {
    let mut cookie = json!({ "name": pick(rng, &["lb", "sticky", "a.b"]) });
    let mut maybe = |name: &str, value: Value| {
        if chance(rng, 35) {
            cookie[name] = value;
        }
    };
    maybe("secure", json!(true));
    maybe("httpOnly", json!(true));
    maybe("maxAge", json!(100));
    maybe("path", json!("/x"));
    maybe("domain", json!("a.test"));
    let same_site = pick(rng, &["none", "lax", "strict", "Lax", ""]);
    if chance(rng, 35) {
        cookie["sameSite"] = json!(same_site);
    }
    cookie
}

/// What Traefik has in a cookie for this server or service.
fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Requests with cookies: of those that lead somewhere, and with one member only any.
fn held(rng: &mut Rng, name: &Value, members: &[String]) -> Vec<Request> {
    let name = name.as_str().unwrap_or_default();
    let mut requests = Vec::new();
    for _ in 0..40 {
        let mut request = get();
        let member = &members[rng.usize(..members.len())];
        let value = match rng.u8(..6) {
            0 => member.clone(),
            1 if members.len() == 1 => pick(rng, &["", "x", "0123456789abcdef", "\"\""]).to_owned(),
            2 => format!("\"{}\"", hash(member)),
            _ => hash(member),
        };
        let line = match rng.u8(..5) {
            0 => format!("a=b; {name}={value}"),
            1 => format!("{name}={value}; c=d"),
            2 => format!("x{name}=1;{name}={value}"),
            _ => format!("{name}={value}"),
        };
        if members.len() > 1 || chance(rng, 80) {
            request.headers.push(("Cookie".into(), line));
        }
        requests.push(request);
    }
    requests
}

fn sticky_servers(rng: &mut Rng, draft: &mut Draft) -> (String, Vec<Request>) {
    let urls: Vec<String> = (0..rng.u8(1..4)).map(|which| url(draft, which)).collect();
    let cookie = cookie(rng);
    let servers: Vec<Value> = urls.iter().map(|url| json!({ "url": url })).collect();
    let requests = held(rng, &cookie["name"], &urls);
    let service = json!({ "loadBalancer": { "servers": servers, "sticky": { "cookie": cookie } } });
    (add(draft, "s", service), requests)
}

fn sticky_services(rng: &mut Rng, draft: &mut Draft) -> (String, Vec<Request>) {
    let names: Vec<String> = (0..rng.u8(1..4)).map(|which| one(draft, which)).collect();
    let cookie = cookie(rng);
    let parts: Vec<Value> = names
        .iter()
        .map(|name| json!({ "name": name, "weight": rng.u8(1..4) }))
        .collect();
    let requests = held(rng, &cookie["name"], &names);
    let service = json!({ "weighted": { "services": parts, "sticky": { "cookie": cookie } } });
    (add(draft, "w", service), requests)
}

fn mirroring(rng: &mut Rng, draft: &mut Draft) -> (String, Vec<Request>) {
    let main = one(draft, 0);
    let mut mirrors = Vec::new();
    let mut copies = 0;
    for which in 1..rng.u8(2..4) {
        let all = chance(rng, 70);
        copies += usize::from(all);
        mirrors.push(json!({ "name": one(draft, which), "percent": if all { 100 } else { 0 } }));
    }
    let mut service = json!({ "service": main, "mirrors": mirrors });
    let body = !chance(rng, 30);
    if !body {
        service["mirrorBody"] = json!(false);
    }
    draft.case.expect = Expect::Copies(copies);
    let mut requests = Vec::new();
    for _ in 0..30 {
        let mut request = get();
        request.method = pick(rng, &["GET", "POST", "PUT", "DELETE"]).to_owned();
        // Without its body Traefik's copy of such a request never becomes whole.
        if body && request.method.starts_with('P') {
            request.body = if rng.bool() {
                Body::Sized("a body".into())
            } else {
                Body::Chunked("a chunked body".into())
            };
        }
        request.target = pick(rng, &["/", "/a%20b", "/x?y=1", "/a//b"]).to_owned();
        requests.push(request);
    }
    (add(draft, "m", json!({ "mirroring": service })), requests)
}

fn errors(rng: &mut Rng, draft: &mut Draft) -> (String, Vec<Request>) {
    let checked = |draft: &mut Draft, which: u8| {
        let server = json!({ "url": url(draft, which) });
        let check = json!({ "path": "/", "interval": "1h" });
        add(
            draft,
            &format!("s{which}"),
            json!({ "loadBalancer": { "servers": [server], "healthCheck": check } }),
        )
    };
    let (main, fallback) = (checked(draft, 0), checked(draft, 1));
    let status = pick(rng, &["500-599", "503", "404,500-502"]);
    let status: Vec<&str> = status.split(',').collect();
    let service =
        json!({ "failover": { "service": main, "fallback": fallback, "errors": { "status": status } } });
    let mut requests = Vec::new();
    for number in 0..40 {
        let mut request = get();
        request.method = pick(rng, &["GET", "PUT", "HEAD"]).to_owned();
        let reply = Reply {
            // Seldom, or the servers count as broken and the tries as too many.
            status: if number % 8 == 7 {
                [404, 500, 502, 503][rng.usize(..4)]
            } else {
                200
            },
            body: "words".into(),
            ..Reply::default()
        };
        let reply = serde_json::to_string(&reply).expect("a reply is JSON");
        request.headers.push((REPLY.into(), reply));
        requests.push(request);
    }
    (add(draft, "f", service), requests)
}

fn by_address(rng: &mut Rng, draft: &mut Draft) -> (String, Vec<Request>) {
    let count = rng.u8(1..6);
    let service = if rng.bool() {
        let servers: Vec<Value> = (0..count)
            .map(|which| json!({ "url": url(draft, which) }))
            .collect();
        json!({ "loadBalancer": { "servers": servers, "strategy": "hrw" } })
    } else {
        let parts: Vec<Value> = (0..count)
            .map(|which| json!({ "name": one(draft, which), "weight": rng.u8(1..4) }))
            .collect();
        json!({ "highestRandomWeight": { "services": parts } })
    };
    draft.case.expect = Expect::Somebody;
    let mut requests = Vec::new();
    for _ in 0..20 {
        let mut request = get();
        request.client = rng.u8(..2);
        requests.push(request);
    }
    (add(draft, "h", service), requests)
}
