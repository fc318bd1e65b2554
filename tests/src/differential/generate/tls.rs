//! Cases about TLS and HTTP/2: which certificate is shown, what the options of a router ask of a client, what happens when
//! the host is not that of the handshake, and which version of HTTP is spoken on either side.

use fastrand::Rng;
use serde_json::{Map, Value, json};

use super::vocabulary::{chance, pick};
use super::{Draft, labels};
use crate::differential::case::{
    Body, Case, Container, Hello, Presented, Request, Setting, Version, entry_point,
};
use crate::differential::side::Special;
use crate::differential::site::{self, BACKENDS, PORTS};

/// Options of all routers without any, and the certificate of names that have none, for a batch.
pub(super) fn setting(rng: &mut Rng) -> Setting {
    Setting {
        options: chance(rng, 40).then(|| {
            let mut options = options(rng);
            // Otherwise little is left to compare.
            for rare in ["clientAuth", "sniStrict"] {
                if chance(rng, 70) {
                    options.as_object_mut().map(|options| options.remove(rare));
                }
            }
            options
        }),
        certificate: chance(rng, 50).then(|| certificate(rng, "default.test")),
        ..Setting::default()
    }
}

/// Makes the case of this number.
pub(super) fn case(rng: &mut Rng, number: u64, site: u8) -> Case {
    let mut draft = Draft::new(number, site);
    draft.case.subject = "tls".to_owned();
    let own = format!("c{number}.test");
    let hosts: Vec<String> = ["a", "b", "c", "x.a"]
        .map(|label| format!("{label}.{own}"))
        .into();
    certificates(rng, &mut draft, &own);
    let mut names = Vec::new();
    for index in 0..rng.usize(0..=3) {
        let name = draft.name(&format!("o{index}"));
        let options = options(rng);
        draft.case.options.insert(name.clone(), options);
        names.push(name);
    }
    let middleware = chance(rng, 50).then(|| draft.name("certificate"));
    if let Some(name) = &middleware {
        let options = pass_certificate(rng);
        draft.case.section("middlewares").insert(name.clone(), options);
    }
    // With names that overlap, chance decides which options a connection gets.
    let same = chance(rng, 35).then(|| names.pop()).flatten();
    let overlapping = same.is_some() || names.is_empty();
    for index in 0..rng.usize(2..=4) {
        let (rule, named) = rule(rng, &hosts, &own, overlapping);
        let mut router = json!({ "rule": rule, "entryPoints": [entry_point(draft.case.place(), 0)] });
        if chance(rng, 30) {
            router["entryPoints"] = json!([
                entry_point(draft.case.place(), 0),
                entry_point(draft.case.place(), 1)
            ]);
        }
        // An entry point with TLS gives it to those without, with the default options.
        if !chance(rng, 12) || Special::of(draft.case.place()) == Special::Secure {
            router["tls"] = json!({});
            if let Some(name) = &same {
                router["tls"]["options"] = json!(format!("{name}@file"));
            } else if named && !names.is_empty() && chance(rng, 70) {
                let name = names[rng.usize(..names.len())].clone();
                router["tls"]["options"] = json!(format!("{name}@file"));
            } else if chance(rng, 2) {
                router["tls"]["options"] = json!("missing");
            }
        }
        if let Some(name) = middleware.as_ref().filter(|_| chance(rng, 60)) {
            router["middlewares"] = json!([format!("{name}@file")]);
        }
        // Equal ones are decided by chance.
        router["priority"] = json!(u32::from(rng.u8(..)) * 4 + u32::try_from(index).unwrap_or(0) + 1);
        write(rng, &mut draft, index, router);
    }
    for _ in 0..rng.usize(15..=25) {
        let request = ask(rng, &hosts, &own);
        draft.case.requests.push(request);
    }
    draft
        .case
        .requests
        .sort_by(|a, b| (&a.tls, a.entry, a.client).cmp(&(&b.tls, b.entry, b.client)));
    draft.case
}

fn write(rng: &mut Rng, draft: &mut Draft, index: usize, router: Value) {
    let (name, service) = (draft.name(&format!("r{index}")), draft.name(&format!("s{index}")));
    let address = site::backend(draft.site, rng.u8(..BACKENDS));
    let port = PORTS[rng.usize(..PORTS.len())];
    let scheme = pick(rng, &["http", "http", "h2c"]);
    if chance(rng, 25) {
        let mut all = vec![("traefik.enable".to_owned(), "true".to_owned())];
        labels::flatten(rng, &format!("traefik.http.routers.{name}"), &router, &mut all);
        let balancer = format!("traefik.http.services.{service}.loadbalancer.server");
        all.push((format!("{balancer}.port"), port.to_string()));
        if scheme == "h2c" {
            all.push((format!("{balancer}.scheme"), scheme.to_owned()));
        }
        let container = Container {
            name: draft.name(&format!("web{index}")),
            labels: all,
            exposed: vec![format!("{port}/tcp")],
            address,
            ..Container::default()
        };
        draft.case.containers.push(container);
        return;
    }
    let mut router = router;
    router["service"] = json!(service);
    draft.case.section("routers").insert(name, router);
    let url = format!("{scheme}://{address}:{port}");
    draft.case.section("services").insert(
        service,
        json!({ "loadBalancer": { "servers": [{ "url": url }] } }),
    );
}

/// A rule, and whether it is about exact names.
fn rule(rng: &mut Rng, hosts: &[String], own: &str, overlapping: bool) -> (String, bool) {
    let mut host = || hosts[rng.usize(..hosts.len())].clone();
    let [first, second] = [host(), host()];
    let rule = match rng.u8(..if overlapping { 20 } else { 16 }) {
        0..=9 => format!("Host(`{first}`)"),
        10 => format!("Host(`{}`)", first.to_ascii_uppercase()),
        11 | 12 if overlapping => format!("Host(`{first}`) || Host(`{second}`)"),
        11..=13 => format!("Host(`{first}`) && PathPrefix(`/api`)"),
        14 => return ("PathPrefix(`/`)".to_owned(), false),
        15 => return (format!("HostRegexp(`^[a-c]\\.{own}$`)"), false),
        16 => format!("Host(`*.{own}`)"),
        17 => format!("PathPrefix(`/api`) && !Host(`{first}`)"),
        18 => format!("Host(`{own}`) || PathPrefix(`/x`)"),
        _ => format!("Host(`{first}.`)"),
    };
    (rule, true)
}

fn certificates(rng: &mut Rng, draft: &mut Draft, own: &str) {
    let all = [
        format!("a.{own}"),
        format!("*.{own}"),
        format!("b.{own},a.{own}"),
        own.to_owned(),
        format!("*.a.{own}"),
        format!("c.{own},*.{own}"),
        format!("C.{own}"),
        "127.0.0.1".to_owned(),
    ];
    let mut chosen: Vec<&String> = all.iter().filter(|_| chance(rng, 30)).collect();
    rng.shuffle(&mut chosen);
    // Of two certificates for the same name chance takes one.
    let mut used: Vec<String> = Vec::new();
    for names in chosen {
        let each: Vec<String> = names.split(',').map(str::to_ascii_lowercase).collect();
        if each.iter().any(|name| used.contains(name)) {
            continue;
        }
        used.extend(each);
        let certificate = certificate(rng, names);
        draft.case.certificates.push(certificate);
    }
    if chance(rng, 4) {
        draft
            .case
            .certificates
            .push(json!({ "certFile": "@nowhere", "keyFile": "@nowhere" }));
    }
    if chance(rng, 3) {
        // A key of another one.
        draft
            .case
            .certificates
            .push(json!({ "certFile": format!("@crt:y.{own}"), "keyFile": format!("@key:z.{own}") }));
    }
}

fn certificate(rng: &mut Rng, names: &str) -> Value {
    if chance(rng, 30) {
        json!({ "certFile": format!("@pem-crt:{names}"), "keyFile": format!("@pem-key:{names}") })
    } else {
        json!({ "certFile": format!("@crt:{names}"), "keyFile": format!("@key:{names}") })
    }
}

fn options(rng: &mut Rng) -> Value {
    let mut options = Map::new();
    if chance(rng, 30) {
        let version = pick(
            rng,
            &[
                "VersionTLS12",
                "VersionTLS12",
                "VersionTLS13",
                "VersionTLS13",
                "VersionTLS10",
                "VersionTLS11",
            ],
        );
        options.insert("minVersion".into(), json!(version));
    }
    if chance(rng, 20) {
        let version = pick(rng, &["VersionTLS12", "VersionTLS12", "VersionTLS13"]);
        options.insert("maxVersion".into(), json!(version));
    }
    if chance(rng, 20) {
        options.insert("sniStrict".into(), json!(rng.bool()));
    }
    if chance(rng, 35) {
        let protocols: &[&[&str]] = &[
            &["http/1.1"],
            &["h2"],
            &["h2", "http/1.1"],
            &["http/1.1", "h2"],
            &["foo"],
            &["foo", "http/1.1"],
            &[],
        ];
        options.insert(
            "alpnProtocols".into(),
            json!(protocols[rng.usize(..protocols.len())]),
        );
    }
    if chance(rng, 20) {
        let mut suites: Vec<&str> = SUITES
            .iter()
            .map(|(theirs, _)| *theirs)
            .filter(|_| chance(rng, 40))
            .collect();
        rng.shuffle(&mut suites);
        options.insert("cipherSuites".into(), json!(suites));
    }
    if chance(rng, 10) {
        let curves: &[&[&str]] = &[
            &["CurveP256"],
            &["X25519"],
            &["X25519", "CurveP384"],
            &["CurveP384"],
        ];
        options.insert(
            "curvePreferences".into(),
            json!(curves[rng.usize(..curves.len())]),
        );
    }
    if chance(rng, 10) {
        options.insert("disableSessionTickets".into(), json!(true));
    }
    if chance(rng, 50) {
        options.insert("clientAuth".into(), client_auth(rng));
    }
    Value::Object(options)
}

fn client_auth(rng: &mut Rng) -> Value {
    let kind = pick(
        rng,
        &[
            "NoClientCert",
            "RequestClientCert",
            "RequireAnyClientCert",
            "VerifyClientCertIfGiven",
            "RequireAndVerifyClientCert",
            "RequireAndVerifyClientCert",
        ],
    );
    let mut options = json!({ "clientAuthType": kind });
    let authorities: &[&[&str]] = &[
        &["@clients"],
        &["@clients"],
        &["@clients", "@others"],
        &["@others"],
        &["@nowhere"],
        &[],
    ];
    let chosen = if chance(rng, 80) {
        0..3
    } else {
        0..authorities.len()
    };
    let chosen = authorities[rng.usize(chosen)];
    if !chosen.is_empty() {
        options["caFiles"] = json!(chosen);
    }
    if chance(rng, 3) {
        options["clientAuthType"] = json!("Whoever");
    }
    options
}

/// Cipher suites of TLS 1.2 as configurations call them, and as clients do.
const SUITES: &[(&str, &str)] = &[
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ),
];

fn pass_certificate(rng: &mut Rng) -> Value {
    let mut options = json!({});
    if chance(rng, 60) {
        options["pem"] = json!(true);
    }
    if chance(rng, 60) {
        let mut info = json!({});
        for flag in ["notAfter", "notBefore", "sans", "serialNumber"] {
            if chance(rng, 50) {
                info[flag] = json!(true);
            }
        }
        for name in ["subject", "issuer"] {
            if chance(rng, 60) {
                info[name] = json!({ "commonName": true });
                for flag in ["country", "organization", "domainComponent"] {
                    if chance(rng, 30) {
                        info[name][flag] = json!(true);
                    }
                }
            }
        }
        if info.as_object().is_some_and(|info| !info.is_empty()) {
            options["info"] = info;
        }
    }
    if options.as_object().is_some_and(Map::is_empty) {
        options["pem"] = json!(true);
    }
    json!({ "passTLSClientCert": options })
}

fn ask(rng: &mut Rng, hosts: &[String], own: &str) -> Request {
    let mut host = || match rng.u8(..20) {
        0 => own.to_owned(),
        1 => "other.test".to_owned(),
        2 => format!("q.{own}"),
        _ => hosts[rng.usize(..hosts.len())].clone(),
    };
    let [name, other] = [host(), host()];
    let asked = match rng.u8(..20) {
        0..=3 => other,
        4 => name.to_ascii_uppercase(),
        5 => format!("{name}:{}", pick(rng, &["443", "8443"])),
        6 => format!("{name}."),
        _ => name.clone(),
    };
    let mut request = Request {
        entry: u8::from(chance(rng, 15)),
        client: rng.u8(..2),
        method: pick(rng, &["GET", "GET", "GET", "POST", "HEAD", "OPTIONS", "PUT"]).to_owned(),
        target: pick(rng, &["/", "/api", "/api/x?q=1&p=%20", "/x", "/a//b/../c"]).to_owned(),
        version: "HTTP/1.1",
        headers: vec![("Host".to_owned(), asked)],
        ..Request::default()
    };
    if ["POST", "PUT"].contains(&&*request.method) {
        request.body = match rng.u8(..4) {
            0 => Body::Chunked("some chunked body".into()),
            1 => Body::Sized(String::new()),
            _ => Body::Sized("a body".into()),
        };
    }
    for (header, value) in [
        ("X-Forwarded-Tls-Client-Cert", "forged"),
        ("X-Forwarded-Proto", "http"),
        ("Te", "trailers"),
        ("Cookie", "a=1; b=2"),
        ("Accept-Encoding", "gzip"),
        ("User-Agent", "somebody"),
    ] {
        if chance(rng, 12) {
            request.headers.push((header.to_owned(), value.to_owned()));
        }
    }
    if chance(rng, 8) {
        request.prior = chance(rng, 60);
        return request;
    }
    let protocols: &[&[&'static str]] = &[
        &["http/1.1"],
        &["h2", "http/1.1"],
        &["h2", "http/1.1"],
        &["http/1.1", "h2"],
        &["h2"],
        &[],
        &["bar"],
        &["bar", "http/1.1"],
    ];
    let usual = if chance(rng, 80) { 3 } else { protocols.len() };
    let presented = [
        Presented::Trusted,
        Presented::Trusted,
        Presented::Other,
        Presented::Stranger,
        Presented::Expired,
        Presented::ServerOnly,
    ];
    request.tls = Some(Hello {
        name: if chance(rng, 6) { String::new() } else { name },
        protocols: protocols[rng.usize(..usual)].to_vec(),
        version: match rng.u8(..10) {
            0 | 1 => Some(Version::Two),
            2 => Some(Version::Three),
            _ => None,
        },
        suite: None,
        presented: if chance(rng, 45) {
            presented[rng.usize(..presented.len())]
        } else {
            Presented::Nothing
        },
    });
    if let Some(hello) = request.tls.as_mut().filter(|_| chance(rng, 8)) {
        hello.version = Some(Version::Two);
        hello.suite = Some(SUITES[rng.usize(..SUITES.len())].1);
    }
    request
}
