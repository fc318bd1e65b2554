//! Cases about middlewares: one route each, with one to three of them, in a file or as labels.
//!
//! One file for a group of kinds: what options there are ([`path`], [`redirect`], [`headers`], [`access`], [`limit`],
//! [`content`]), and which requests they are about.

mod access;
mod content;
mod headers;
mod limit;
mod path;
mod redirect;

use fastrand::Rng;
use serde_json::{Map, Value, json};

use super::vocabulary::{chance, pick};
use super::{Draft, labels};
use crate::differential::backend::{REPLY, Reply};
use crate::differential::case::{Body, Case, Container, Hello, Request, entry_point};
use crate::differential::site::{self, BACKENDS, PORTS};

/// The host of all these cases.
const HOST: &str = "a.test";

/// What makes the options of a kind, and what makes a request to be about them.
struct Kind {
    name: &'static str,
    options: fn(&mut Rng, &Place) -> Value,
    ask: fn(&mut Rng, &mut Request),
}

/// Where a middleware stands.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Third byte of the addresses of this run.
    pub(super) site: u8,
    /// A service that answers for others.
    pub(super) pages: String,
    /// Other middlewares of the case.
    pub(super) others: Vec<String>,
}

impl Place {
    /// The URL of a back end that is no service of the case.
    fn server(&self) -> String {
        format!("http://{}:{}", site::backend(self.site, BACKENDS - 1), PORTS[1])
    }
}

const KINDS: &[Kind] = &[
    path::ADD_PREFIX,
    path::STRIP_PREFIX,
    path::STRIP_PREFIX_REGEX,
    path::REPLACE_PATH,
    path::REPLACE_PATH_REGEX,
    path::ENCODED_CHARACTERS,
    redirect::SCHEME,
    redirect::REGEX,
    headers::CUSTOM,
    headers::CORS,
    headers::SECURITY,
    headers::PASS_CERTIFICATE,
    headers::GRPC_WEB,
    access::ALLOW_LIST,
    access::WHITE_LIST,
    access::BASIC,
    access::DIGEST,
    access::FORWARD,
    limit::RATE,
    limit::IN_FLIGHT,
    limit::BUFFERING,
    limit::RETRY,
    limit::CIRCUIT_BREAKER,
    content::COMPRESS,
    content::TYPE,
    content::ERRORS,
    content::CHAIN,
    content::PLUGIN,
];

/// The names of all kinds.
pub(in crate::differential) fn kinds() -> Vec<&'static str> {
    KINDS.iter().map(|kind| kind.name).collect()
}

/// Makes the case of this number, about `kind` when one is named.
pub(super) fn case(rng: &mut Rng, number: u64, site: u8, kind: Option<&str>) -> Case {
    let mut draft = Draft::new(number, site);
    let mut kinds = Vec::new();
    let named = kind.and_then(|name| KINDS.iter().find(|kind| kind.name == name));
    kinds.push(named.unwrap_or_else(|| &KINDS[rng.usize(..KINDS.len())]));
    while chance(rng, 25) && kinds.len() < 3 {
        kinds.push(&KINDS[rng.usize(..KINDS.len())]);
    }
    rng.shuffle(&mut kinds);
    let subjects: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
    draft.case.subject = subjects.join(", ");
    let names: Vec<String> = (0..kinds.len())
        .map(|index| draft.name(&format!("m{index}")))
        .collect();
    let mut middlewares = Map::new();
    for (index, kind) in kinds.iter().enumerate() {
        let place = Place {
            site,
            pages: format!("{}@file", draft.name("pages")),
            others: names
                .iter()
                .filter(|name| **name != names[index])
                .cloned()
                .collect(),
        };
        let options = (kind.options)(rng, &place);
        middlewares.insert(names[index].clone(), options);
    }
    // What `errors` asks.
    let pages = json!({ "loadBalancer": { "servers": [{ "url": format!("http://{}:{}", site::backend(site, 2), PORTS[1]) }] } });
    let name = draft.name("pages");
    draft.case.section("services").insert(name, pages);
    let mut order = names.clone();
    if chance(rng, 4) {
        order.push(order[0].clone());
    }
    if chance(rng, 2) {
        order.push(draft.name("missing"));
    }
    if chance(rng, 35) {
        in_labels(rng, &mut draft, &middlewares, &order);
    } else {
        in_file(rng, &mut draft, middlewares, &order);
    }
    for _ in 0..rng.usize(30..=50) {
        let request = ask(rng, &kinds);
        draft.case.requests.push(request);
    }
    draft.case
}

fn in_file(rng: &mut Rng, draft: &mut Draft, middlewares: Map<String, Value>, order: &[String]) {
    let order: Vec<String> = order
        .iter()
        .map(|name| match rng.u8(..12) {
            0 => format!("{name}@file"),
            _ => name.clone(),
        })
        .collect();
    let (router, service) = (draft.name("r"), draft.name("s"));
    let url = format!("http://{}:{}", site::backend(draft.site, 1), PORTS[0]);
    let definition = json!({ "loadBalancer": { "servers": [{ "url": url }] } });
    draft.case.section("services").insert(service.clone(), definition);
    let entries = [0, 1].map(|which| entry_point(draft.case.place(), which));
    let definition = json!({
        "rule": format!("Host(`{HOST}`)"), "entryPoints": entries, "service": service, "middlewares": order,
    });
    draft
        .case
        .section("routers")
        .insert(router.clone(), definition.clone());
    let mut secure = definition;
    secure["tls"] = json!({});
    draft
        .case
        .section("routers")
        .insert(format!("{router}-tls"), secure);
    *draft.case.section("middlewares") = middlewares;
}

fn in_labels(rng: &mut Rng, draft: &mut Draft, middlewares: &Map<String, Value>, order: &[String]) {
    let router = draft.name("r");
    let mut all = vec![("traefik.enable".to_owned(), "true".to_owned())];
    for (name, options) in middlewares {
        labels::flatten(
            rng,
            &format!("traefik.http.middlewares.{name}"),
            options,
            &mut all,
        );
    }
    let entries = [0, 1]
        .map(|which| entry_point(draft.case.place(), which))
        .join(",");
    for (name, tls) in [(router.clone(), false), (format!("{router}-tls"), true)] {
        let label = |key: &str, value: &str| (format!("traefik.http.routers.{name}.{key}"), value.to_owned());
        all.push(label("rule", &format!("Host(`{HOST}`)")));
        all.push(label("entrypoints", &entries));
        all.push(label("middlewares", &order.join(",")));
        if tls {
            all.push(label("tls", "true"));
        }
    }
    let container = Container {
        name: draft.name("web"),
        labels: all,
        exposed: vec![format!("{}/tcp", PORTS[0])],
        address: site::backend(draft.site, 1),
        ..Container::default()
    };
    draft.case.containers.push(container);
}

const PATHS: &[&str] = &[
    "/",
    "/api",
    "/api/",
    "/api/v1",
    "/api/42/x",
    "/foo",
    "/foobar",
    "/foo/bar/x",
    "/a%20b",
    "/a%2Fb",
    "/api%2Fv1",
    "/Api",
    "/%61pi/x",
    "/api.",
    "/api./x",
    "/api../x",
    "/api//x",
    "/a.b",
    "/%C3%BC",
    "/x?q=1",
    "/api?q=1&r=a%20b",
    "/api?",
    "/api/..",
    "/a;b",
    "/a%3Bb",
    "/a%25b",
    "/a%00b",
    "/a%5Cb",
    "/a%3Fb",
    "/a%23b",
    "/a+b",
    "/a'b",
    "/a(b)",
    "/a@b",
    "/a:b",
    "/a,b",
];

fn ask(rng: &mut Rng, kinds: &[&Kind]) -> Request {
    let mut request = Request {
        method: if chance(rng, 70) {
            "GET"
        } else {
            pick(rng, &["POST", "HEAD", "PUT", "OPTIONS", "DELETE"])
        }
        .to_owned(),
        target: pick(rng, PATHS).to_owned(),
        version: "HTTP/1.1",
        headers: vec![("Host".to_owned(), HOST.to_owned())],
        client: rng.u8(..2),
        entry: u8::from(chance(rng, 10)),
        tls: chance(rng, 15).then(|| Hello::named(HOST.to_owned())),
        ..Request::default()
    };
    if ["POST", "PUT"].contains(&&*request.method) {
        request.body = match rng.u8(..4) {
            0 => Body::Chunked("a chunked body".into()),
            1 => Body::Sized("short".into()),
            2 => Body::Sized("longer than it should be".into()),
            _ => Body::None,
        };
    }
    let mut reply = Reply::default();
    if chance(rng, 40) {
        reply.status = [
            200, 201, 204, 301, 302, 304, 400, 401, 403, 404, 418, 429, 500, 502, 503,
        ][rng.usize(..15)];
    }
    if chance(rng, 50) {
        reply.body = pick(rng, &["body", "<html>page</html>", "0123456789abcdef", "{}"]).to_owned();
        reply.times = one_of(rng, &[1, 1, 10, 64, 100, 1000]);
        reply.chunked = rng.bool();
    }
    for _ in 0..rng.usize(..3) {
        let (name, value) = REPLY_HEADERS[rng.usize(..REPLY_HEADERS.len())];
        reply.headers.push((name.to_owned(), value.to_owned()));
    }
    say(&mut request, REPLY, &reply);
    for kind in kinds {
        if chance(rng, 75) {
            (kind.ask)(rng, &mut request);
        }
    }
    request
}

const REPLY_HEADERS: &[(&str, &str)] = &[
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Type", "application/json"),
    ("Content-Type", "image/png"),
    ("X-A", "one"),
    ("X-A", "two"),
    ("Set-Cookie", "a=b; Path=/"),
    ("Vary", "Cookie"),
    ("ETag", "\"abc\""),
    ("Location", "/elsewhere"),
    ("Server", "backend"),
    ("Access-Control-Allow-Origin", "https://backend.test"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Cache-Control", "no-store"),
    ("Content-Encoding", "identity"),
    ("WWW-Authenticate", "Basic realm=\"backend\""),
];

/// Adds what a back end shall answer, unless that is nothing special.
fn say(request: &mut Request, header: &str, reply: &Reply) {
    if *reply != Reply::default() {
        let text = serde_json::to_string(reply).expect("a reply is JSON");
        request.headers.push((header.to_owned(), text));
    }
}

/// Adds one of these header lines.
fn add(rng: &mut Rng, request: &mut Request, name: &str, values: &[&str]) {
    request
        .headers
        .push((name.to_owned(), pick(rng, values).to_owned()));
}

/// Nothing special.
fn anything(_: &mut Rng, _: &mut Request) {}

/// An object of those options that are not null. Where none is left, the middleware is none: an empty object would have Traefik
/// refuse everything.
fn options(kind: &str, options: Value) -> Value {
    let Value::Object(all) = options else {
        return json!({ kind: options });
    };
    let given: Map<String, Value> = all.into_iter().filter(|(_, value)| !value.is_null()).collect();
    if given.is_empty() && kind != "compress" {
        return json!({});
    }
    json!({ kind: given })
}

/// One of these.
fn one_of<T: Copy>(rng: &mut Rng, values: &[T]) -> T {
    values[rng.usize(..values.len())]
}

/// One of these, or nothing.
fn maybe<T: Clone + Into<Value>>(rng: &mut Rng, percent: u8, values: &[T]) -> Value {
    if chance(rng, percent) {
        values[rng.usize(..values.len())].clone().into()
    } else {
        Value::Null
    }
}

/// Up to so many of these, in an order of their own.
fn several(rng: &mut Rng, most: usize, values: &[&str]) -> Value {
    let count = rng.usize(1..=most);
    let chosen: Vec<&str> = (0..count).map(|_| pick(rng, values)).collect();
    json!(chosen)
}
