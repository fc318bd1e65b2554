//! `serversTransports`: how services reach their servers, with every PEM file loaded.

use std::sync::Arc;
use std::time::Duration;

use constellation_config::duration;
use constellation_config::dynamic::ServersTransport;
use constellation_table::{Timeouts, Transport};

use super::names;
use super::pem::PemFiles;

/// What compile made of one transport definition.
#[derive(Debug)]
pub(super) struct TransportEntry {
    /// The qualified name.
    pub(super) name: Arc<str>,
    /// The transport, or why there is none.
    pub(super) outcome: Result<Arc<Transport>, String>,
    /// What deserves a look although the transport works.
    pub(super) warnings: Vec<String>,
}

/// Builds the transport `name` of `provider`; an equal one of the last compile is kept, and so are the connection
/// pools that belong to it.
pub(super) fn compile(
    provider: &str,
    name: &str,
    definition: &ServersTransport,
    default: &Transport,
    files: &mut PemFiles,
    previous: Option<&TransportEntry>,
) -> TransportEntry {
    let qualified = previous.map_or_else(|| names::qualify(name, provider), |entry| entry.name.clone());
    let mut warnings = Vec::new();
    if definition.certificates.len() > 1 {
        warnings.push(format!(
            "certificates has {} entries, the first one is presented to the servers: keep one",
            definition.certificates.len()
        ));
    }
    let outcome = match names::http_refusal(name) {
        Some(refusal) => Err(refusal),
        None => build(qualified.clone(), definition, default, files).map(|transport| {
            previous
                .and_then(|entry| entry.outcome.as_ref().ok())
                .filter(|old| ***old == transport)
                .cloned()
                .unwrap_or_else(|| Arc::new(transport))
        }),
    };
    TransportEntry {
        name: qualified,
        outcome,
        warnings,
    }
}

fn build(
    name: Arc<str>,
    definition: &ServersTransport,
    default: &Transport,
    files: &mut PemFiles,
) -> Result<Transport, String> {
    let root_cas = definition
        .root_cas
        .iter()
        .map(|source| files.load(source).map_err(|error| format!("rootCAs: {error}")))
        .collect::<Result<_, _>>()?;
    let client_certificate = definition
        .certificates
        .first()
        .map(|pair| {
            let certificate = files.load(&pair.cert_file);
            let certificate = certificate.map_err(|error| format!("certificates: certFile: {error}"))?;
            let key = files.load(&pair.key_file);
            let key = key.map_err(|error| format!("certificates: keyFile: {error}"))?;
            Ok::<_, String>((certificate, key))
        })
        .transpose()?;
    let timeouts = definition.forwarding_timeouts.as_ref();
    let limit = |key: &str, text: Option<&String>, default| match text {
        None => Ok(default),
        Some(text) => parse_limit(text).map_err(|error| format!("forwardingTimeouts.{key}: {error}")),
    };
    Ok(Transport {
        name,
        server_name: definition
            .server_name
            .as_deref()
            .filter(|name| !name.is_empty())
            .map(Into::into),
        insecure_skip_verify: definition.insecure_skip_verify,
        root_cas,
        client_certificate,
        disable_http2: definition.disable_http2,
        max_idle_connections_per_host: definition
            .max_idle_conns_per_host
            .unwrap_or(default.max_idle_connections_per_host),
        timeouts: Timeouts {
            dial: limit(
                "dialTimeout",
                timeouts.and_then(|t| t.dial_timeout.as_ref()),
                default.timeouts.dial,
            )?,
            response_header: limit(
                "responseHeaderTimeout",
                timeouts.and_then(|t| t.response_header_timeout.as_ref()),
                default.timeouts.response_header,
            )?,
            idle: limit(
                "idleConnTimeout",
                timeouts.and_then(|t| t.idle_conn_timeout.as_ref()),
                default.timeouts.idle,
            )?,
        },
        stream: Default::default(),
    })
}

/// A Go duration or a number of seconds; zero is no limit.
fn parse_limit(text: &str) -> Result<Option<Duration>, String> {
    match duration::parse(text) {
        Some(limit) => Ok(Some(limit).filter(|limit| !limit.is_zero())),
        None => Err(format!(
            "{text:?} is no duration: expected {}",
            duration::EXPECTED
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use constellation_config::dynamic::{CertificatePair, ForwardingTimeouts};

    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

    fn compile_one(definition: &ServersTransport, previous: Option<&TransportEntry>) -> TransportEntry {
        let default = Transport::default();
        compile(
            "file",
            "t",
            definition,
            &default,
            &mut PemFiles::default(),
            previous,
        )
    }

    #[test]
    fn durations_are_gos_or_seconds() {
        for (text, expected) in [
            ("30s", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("1.5s", Some(1_500)),
            ("300ms", Some(300)),
            ("10", Some(10_000)),
            ("0", None),
            ("0s", None),
        ] {
            assert_eq!(
                parse_limit(text),
                Ok(expected.map(Duration::from_millis)),
                "{text}"
            );
        }
        for text in ["", "abc", "10 parsecs", "-1s", "1s2", ".", "s", "1e99h"] {
            assert!(parse_limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_equal_transport_is_the_same_object_and_a_new_file_makes_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        fs::write(&path, PEM).unwrap();
        let definition = ServersTransport {
            root_cas: vec![path.to_str().unwrap().to_owned()],
            ..ServersTransport::default()
        };
        let first = compile_one(&definition, None);
        let second = compile_one(&definition, Some(&first));
        assert!(Arc::ptr_eq(
            first.outcome.as_ref().unwrap(),
            second.outcome.as_ref().unwrap()
        ));
        fs::write(&path, format!("{PEM}{PEM}")).unwrap();
        let third = compile_one(&definition, Some(&second));
        assert!(!Arc::ptr_eq(
            second.outcome.as_ref().unwrap(),
            third.outcome.as_ref().unwrap()
        ));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key() {
        let missing_key = ServersTransport {
            certificates: vec![CertificatePair {
                cert_file: PEM.to_owned(),
                key_file: "/does/not/exist.pem".to_owned(),
                ..CertificatePair::default()
            }],
            ..ServersTransport::default()
        };
        let bad_time = ServersTransport {
            forwarding_timeouts: Some(ForwardingTimeouts {
                dial_timeout: Some("soon".to_owned()),
                ..ForwardingTimeouts::default()
            }),
            ..ServersTransport::default()
        };
        for (definition, expected) in [
            (missing_key, "keyFile: cannot read \"/does/not/exist.pem\""),
            (bad_time, "forwardingTimeouts.dialTimeout: \"soon\""),
        ] {
            let error = compile_one(&definition, None).outcome.unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
