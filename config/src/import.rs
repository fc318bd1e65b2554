//! A static configuration of Traefik, read as one of ours.
//!
//! Traefik's keys are ours where both have the concept, so most of it is taken over as it is. What is not is told apart: what
//! stands in for it here ([`Verdict::Differs`]), and what this version has not ([`Verdict::Refused`]). Where Traefik's default
//! is another one, the default is written out.

mod yaml;

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use crate::document::{self, Node, Value};
use crate::load::shape;
use crate::schema::read;
use crate::{ConfigError, ConfigErrors, Format, Origin, unsupported};

pub use yaml::to_yaml;

/// What became of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It means the same here.
    Taken,
    /// It is left out, and something stands in for it.
    Differs,
    /// It is left out, and nothing stands in for it.
    Refused,
}

/// A key of Traefik's configuration, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where it stands.
    pub origin: Origin,
    /// The key as a path.
    pub key: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Why, and what to do; empty for what is taken as it is.
    pub message: String,
}

/// What an import gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Import {
    /// Our configuration.
    pub config: Json,
    /// Every key, in the order of the text.
    pub findings: Vec<Finding>,
    /// Defaults that were written out, one sentence each.
    pub notes: Vec<String>,
}

/// Keys that this version has not, though it knows them; the others have something that stands in.
const LOST: [&str; 13] = [
    "accessLog.otlp",
    "certificatesResolvers",
    "experimental",
    "log.otlp",
    "providers.docker.password",
    "providers.docker.username",
    "providers.swarm",
    "spiffe",
    "tcpServersTransport.tls.spiffe",
    "tcpServersTransport.spiffe",
    "serversTransport.spiffe",
    "dns",
    "tracing",
];

/// Reads a static configuration of Traefik.
///
/// # Errors
/// When the text can't be read at all.
pub fn traefik(text: &str, format: Format, path: &Path) -> Result<Import, ConfigErrors> {
    let document = document::parse(text, format, path)?;
    let root = match document.root.is_null() {
        true => Node::map(document.root.origin, Vec::new()),
        false => document.root,
    };
    if !matches!(root.value, Value::Map(_)) {
        let error = ConfigError::new(root.origin.clone(), "", "the configuration is not a map")
            .expected("keys such as entryPoints, providers, log");
        return Err(ConfigErrors(vec![error]));
    }
    let reading = read(&root, shape(), &unsupported::explain);
    let mut findings: Vec<Finding> = document
        .errors
        .into_iter()
        .chain(reading.errors)
        .map(refused)
        .collect();
    for resolvers in root.get("certificatesResolvers").into_iter() {
        findings.push(Finding {
            origin: resolvers.origin.clone(),
            key: "certificatesResolvers".to_owned(),
            verdict: Verdict::Refused,
            message:
                "this version orders no certificates: give them in a dynamic file (tls.certificates) or by \
                      providers.certificates"
                    .to_owned(),
        });
    }
    let mut taken = Vec::new();
    leaves("", &root, &mut taken);
    for (key, origin) in taken {
        if !findings.iter().any(|finding| covers(&finding.key, &key)) {
            findings.push(Finding {
                origin,
                key,
                verdict: Verdict::Taken,
                message: String::new(),
            });
        }
    }
    findings.sort_by(|a, b| (&a.origin, &a.key).cmp(&(&b.origin, &b.key)));
    let mut config = reading.value.as_object().cloned().unwrap_or_default();
    config.remove("certificatesResolvers");
    let notes = write_out_defaults(&mut config);
    Ok(Import {
        config: Json::Object(config),
        findings,
        notes,
    })
}

fn refused(error: ConfigError) -> Finding {
    let known = unsupported::hint(&error.key);
    let lost = LOST.iter().any(|lost| unsupported::same(lost, &error.key));
    let (verdict, message) = match known {
        Some(hint) if !lost => (
            Verdict::Differs,
            hint.strip_prefix("remove it: ").unwrap_or(hint).to_owned(),
        ),
        _ => {
            let advice = [&error.expected, &error.hint];
            let advice: Vec<&str> = advice.into_iter().flatten().map(String::as_str).collect();
            let message = match advice.is_empty() {
                true => error.message.clone(),
                false => format!("{} ({})", error.message, advice.join("; ")),
            };
            (Verdict::Refused, message)
        }
    };
    Finding {
        origin: error.origin,
        key: error.key,
        verdict,
        message,
    }
}

/// Whether a finding about `above` says all there is to say about `key`.
fn covers(above: &str, key: &str) -> bool {
    let Some(start) = key.get(..above.len()) else {
        return false;
    };
    let rest = &key[above.len()..];
    start.eq_ignore_ascii_case(above) && (rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Every value that is no map, and every map that is empty.
fn leaves(above: &str, node: &Node, found: &mut Vec<(String, Origin)>) {
    for entry in node.entries() {
        let key = match above {
            "" => entry.key.clone(),
            above => format!("{above}.{}", entry.key),
        };
        match &entry.node.value {
            Value::Map(entries) if !entries.is_empty() => leaves(&key, &entry.node, found),
            _ => found.push((key, entry.origin.clone())),
        }
    }
}

/// Where nobody says anything, Traefik and this node do not always mean the same.
fn write_out_defaults(config: &mut Map<String, Json>) -> Vec<String> {
    let mut notes = Vec::new();
    let nothing =
        |value: Option<&Json>| value.is_none_or(|value| value.as_object().is_some_and(Map::is_empty));
    if nothing(config.get("entryPoints")) {
        config.insert("entryPoints".to_owned(), json!({"http": {"address": ":80"}}));
        notes.push("entryPoints: Traefik listens on port 80 where none is given".to_owned());
    }
    let providers = config.entry("providers").or_insert_with(|| json!({}));
    let Some(providers) = providers.as_object_mut() else {
        return notes;
    };
    match providers.get_mut("docker") {
        Some(Json::Object(docker)) => {
            if !docker.contains_key("exposedByDefault") {
                docker.insert("exposedByDefault".to_owned(), true.into());
                notes.push(
                    "providers.docker.exposedByDefault: true is Traefik's default; here it is false, which is safer"
                        .to_owned(),
                );
            }
        }
        Some(_) => {}
        None => {
            providers.insert("docker".to_owned(), json!({"enabled": false}));
            notes.push(
                "providers.docker: off, as it is in Traefik where it is not named; here it is on".to_owned(),
            );
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(text: &str) -> Import {
        traefik(text, Format::Yaml, Path::new("traefik.yml")).unwrap()
    }

    fn of(import: &Import, key: &str) -> (Verdict, String) {
        let found = import.findings.iter().find(|finding| finding.key == key);
        let found = found.unwrap_or_else(|| panic!("nothing is said of {key}: {:#?}", import.findings));
        (found.verdict, found.message.clone())
    }

    const TRAEFIK: &str = "\
global: {sendAnonymousUsage: false}
api: {dashboard: true, insecure: true}
log: {level: WARN, filePath: /var/log/traefik.log}
accessLog: {}
entryPoints:
  web: {address: ':80', http: {redirections: {entryPoint: {to: websecure}}}}
  websecure:
    address: ':443'
    reusePort: true
    http: {tls: {certResolver: le}, middlewares: [auth@file]}
    http3: {}
providers:
  docker: {network: edge, watch: true}
  file: {directory: /etc/traefik/dynamic}
  consul: {}
certificatesResolvers: {le: {acme: {email: a@b.test, storage: acme.json}}}
tracing: {otlp: {http: {endpoint: x}}}
colour: red
";

    #[test]
    fn every_key_is_accounted_for() {
        let import = import(TRAEFIK);
        for (key, verdict, words) in [
            ("global", Verdict::Differs, "no version check"),
            ("api", Verdict::Differs, "always served at control.address"),
            ("log.level", Verdict::Taken, ""),
            ("log.filePath", Verdict::Differs, "standard error"),
            ("accessLog", Verdict::Taken, ""),
            ("entryPoints.web.address", Verdict::Taken, ""),
            ("entryPoints.websecure.reusePort", Verdict::Taken, ""),
            (
                "entryPoints.web.http.redirections.entryPoint.to",
                Verdict::Taken,
                "",
            ),
            ("entryPoints.websecure.http.middlewares", Verdict::Taken, ""),
            ("entryPoints.websecure.http3", Verdict::Differs, "HTTP/2"),
            ("providers.docker.network", Verdict::Taken, ""),
            ("providers.docker.watch", Verdict::Differs, "always watched"),
            ("providers.file.directory", Verdict::Taken, ""),
            ("providers.consul", Verdict::Refused, "providers.file"),
            (
                "certificatesResolvers",
                Verdict::Refused,
                "orders no certificates",
            ),
            ("tracing", Verdict::Refused, "not supported"),
            ("colour", Verdict::Refused, "unknown key"),
        ] {
            let (found, message) = of(&import, key);
            assert_eq!(found, verdict, "{key}: {message}");
            assert!(message.contains(words), "{key}: {message}");
        }
        // In the order of the text, each once.
        let keys: Vec<&str> = import
            .findings
            .iter()
            .map(|finding| finding.key.as_str())
            .collect();
        assert_eq!(keys.first(), Some(&"global"));
        assert_eq!(keys.last(), Some(&"colour"));
        let mut once = keys.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), keys.len(), "{keys:?}");
    }

    #[test]
    fn what_is_written_is_a_configuration_of_ours() {
        let text = to_yaml(&import(TRAEFIK).config);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("constellation.yaml");
        std::fs::write(&file, &text).unwrap();
        let options = crate::LoadOptions {
            file: Some(file),
            host_name: Some("n1".to_owned()),
            ..crate::LoadOptions::default()
        };
        let config = match crate::Config::load(options) {
            Ok(loaded) => loaded.config,
            Err(errors) => panic!("{errors}\n{text}"),
        };
        let names: Vec<&str> = config.entry_points.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["web", "websecure"]);
        assert!(config.entry_points[1].reuse_port);
        let docker = config.providers.docker.unwrap();
        assert!(docker.exposed_by_default);
        assert_eq!(docker.network, "edge");
    }

    #[test]
    fn defaults_of_traefik_are_written_out() {
        let import = import("");
        assert_eq!(import.config["entryPoints"], json!({"http": {"address": ":80"}}));
        assert_eq!(import.config["providers"], json!({"docker": {"enabled": false}}));
        assert_eq!(import.findings, []);
        assert_eq!(import.notes.len(), 2);
    }

    #[test]
    fn toml_is_read_as_well() {
        let text = "[entryPoints.web]\naddress = ':80'\n[providers.docker]\nexposedByDefault = false\n";
        let import = traefik(text, Format::Toml, Path::new("traefik.toml")).unwrap();
        assert_eq!(import.config["providers"]["docker"]["exposedByDefault"], false);
        assert!(
            import
                .findings
                .iter()
                .all(|finding| finding.verdict == Verdict::Taken)
        );
    }
}
