//! TLS: certificates, options, and which connection is for which host.

use super::{Accepted, both, is_words, session};
use crate::differential::case::Case;
use crate::differential::compare::Part;

/// The differences that are meant there.
pub(super) const ACCEPTED: &[Accepted] = &[
    Accepted {
        name: "words of a 421",
        line: "a request that needs another connection is told `Misdirected Request`",
        meant: |pair, part| both(pair, 421) && is_words(part),
    },
    Accepted {
        name: "key of the made certificate",
        line: "the certificate for names without one has an RSA key",
        meant: |pair, part| {
            let hello = pair.request.tls.as_ref();
            let answer = [pair.theirs, pair.ours].map(|outcome| outcome.answer.as_ref().ok());
            let session = answer
                .into_iter()
                .flatten()
                .find_map(|answer| answer.session.as_ref());
            let suites = |options: &serde_json::Value| !options["cipherSuites"][0].is_null();
            [Part::Answer, Part::Backends].contains(part)
                && (hello.is_some_and(|hello| hello.suite.is_some())
                    || pair.case.options.values().any(suites))
                && session.is_some_and(|session| session.certificate.is_none())
        },
    },
    Accepted {
        name: "http/1.1 at h2 alone",
        line: "`alpnProtocols: [h2]` lets clients in that offer `http/1.1` only",
        meant: |pair, part| {
            let hello = pair.request.tls.as_ref();
            let offered = |name| hello.is_some_and(|hello| hello.protocols.contains(&name));
            [Part::Answer, Part::Backends].contains(part)
                && pair.ours.answer.is_err()
                && session(pair.theirs).is_some_and(|session| session.protocol.is_none())
                && offered("http/1.1")
                && !offered("h2")
        },
    },
    Accepted {
        name: "unknown tls.options",
        line: "a name whose router has unknown `tls.options` gets no TLS handshake",
        meant: |pair, part| {
            let missing = asking(pair.case).iter().any(|(_, options)| options == "missing");
            let none = pair.theirs.answer.is_err() && pair.ours.answer.is_ok();
            // The options of the others hold.
            let strict = pair.ours.answer.is_err() || pair.ours.status() == Some(421);
            let agreed = [Part::Protocol, Part::Version].contains(part);
            missing && (none || strict && pair.theirs.answer.is_ok() || agreed)
        },
    },
    Accepted {
        name: "unusable tls.options",
        line: "a router whose `tls.options` can't be used is disabled",
        meant: |pair, _| {
            let unusable = |options: &serde_json::Value| {
                let clients = &options["clientAuth"];
                let verifies = clients["clientAuthType"]
                    .as_str()
                    .is_some_and(|kind| kind.contains("Verify"));
                clients["caFiles"][0] == "@nowhere"
                    || clients["clientAuthType"] == "Whoever"
                    || verifies && clients["caFiles"].is_null()
            };
            // Here Traefik makes options that nobody can meet.
            let empty = |options: &serde_json::Value| {
                options["minVersion"] == "VersionTLS13"
                    && options["maxVersion"]
                        .as_str()
                        .is_some_and(|most| most != "VersionTLS13")
            };
            let host = pair.request.header("host").unwrap_or_default();
            let hello = pair.request.tls.as_ref();
            let names = [
                host.split(':').next().unwrap_or_default(),
                hello.map_or("", |hello| &hello.name),
            ]
            .map(|name| name.trim_end_matches('.').to_ascii_lowercase());
            let covers = |rule: &str| {
                let rule = rule.to_ascii_lowercase();
                names.iter().any(|name| {
                    let above = name.split_once('.').map_or("", |(_, above)| above);
                    let forms = [format!("`{name}`"), format!("`{name}.`"), format!("`*.{above}`")];
                    forms.iter().any(|form| rule.contains(form))
                })
            };
            let turned_away = pair.ours.status() == Some(421);
            asking(pair.case).iter().any(|(rule, options)| {
                let options = options
                    .strip_suffix("@file")
                    .and_then(|name| pair.case.options.get(name));
                options.is_some_and(|options| {
                    let broken = unusable(options) && (turned_away || pair.ours.answer.is_err());
                    (turned_away || covers(rule)) && (broken || empty(options))
                })
            })
        },
    },
];

/// The rules of the routers that ask for TLS options, with these.
fn asking(case: &Case) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let file = case.http.get("routers").and_then(|routers| routers.as_object());
    let file = file
        .into_iter()
        .flatten()
        .filter_map(|(_, router)| text(&router["rule"]).zip(text(&router["tls"]["options"])));
    let labels = case.containers.iter().flat_map(|container| {
        let value = |wanted: &str| {
            let mut labels = container.labels.iter();
            labels.find_map(|(name, value)| (name.eq_ignore_ascii_case(wanted)).then(|| value.clone()))
        };
        container.labels.iter().filter_map(move |(name, options)| {
            let name = name.to_ascii_lowercase();
            let router = name.strip_suffix(".tls.options")?;
            Some((value(&format!("{router}.rule"))?, options.clone()))
        })
    });
    file.chain(labels).collect()
}
