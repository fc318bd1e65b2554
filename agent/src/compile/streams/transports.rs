//! `tcp.serversTransports`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use constellation_config::duration;
use constellation_config::dynamic::{ProxyProtocol, TcpServersTransport, TcpTransportTls};
use constellation_table::{ProxyProtocolVersion, Transport};

use super::{Input, Section};
use crate::compile::names;
use crate::compile::pem::PemFiles;
use crate::compile::statics::Statics;
use crate::sources::Problem;

/// All transports by qualified name; equal ones stay the same object.
pub(super) fn compile(
    inputs: &[Input],
    statics: &Statics,
    files: &mut PemFiles,
    previous: &HashMap<Arc<str>, Arc<Transport>>,
    problems: &mut Vec<Problem>,
) -> HashMap<Arc<str>, Result<Arc<Transport>, String>> {
    let mut all = HashMap::new();
    for input in inputs {
        for (name, definition) in &input.tcp.servers_transports {
            let qualified = Section::Tcp.qualify(name, input.provider);
            let mut report = |message: String| {
                problems.push(Problem {
                    subject: format!("serversTransport {qualified}"),
                    message,
                });
            };
            let default = &statics.default_stream_transport;
            let outcome = match names::refusal(name) {
                Some(refusal) => Err(refusal),
                None => build(qualified.clone(), definition, default, files, &mut report),
            };
            if let Err(error) = &outcome {
                report(error.clone());
            }
            let outcome = outcome.map(|transport| match previous.get(&qualified) {
                Some(old) if **old == transport => old.clone(),
                _ => Arc::new(transport),
            });
            all.insert(qualified, outcome);
        }
    }
    all
}

fn build(
    name: Arc<str>,
    definition: &TcpServersTransport,
    default: &Transport,
    files: &mut PemFiles,
    warn: &mut impl FnMut(String),
) -> Result<Transport, String> {
    let mut transport = Transport {
        name,
        ..default.clone()
    };
    if let Some(text) = &definition.dial_timeout {
        transport.timeouts.dial = limit("dialTimeout", text)?;
    }
    if let Some(text) = &definition.dial_keep_alive {
        transport.stream.dial_keep_alive = limit("dialKeepAlive", text)?;
    }
    if let Some(text) = &definition.termination_delay {
        transport.stream.termination_delay = match text.strip_prefix('-') {
            // Go's -1ms: no limit.
            Some(rest) if duration::parse(rest).is_some() => None,
            _ => Some(time("terminationDelay", text)?),
        };
    }
    if let Some(proxy_protocol) = &definition.proxy_protocol {
        transport.stream.proxy_protocol = Some(version(proxy_protocol)?);
    }
    if let Some(tls) = &definition.tls {
        self::tls(tls, &mut transport, files, warn)?;
    }
    Ok(transport)
}

fn tls(
    definition: &TcpTransportTls,
    transport: &mut Transport,
    files: &mut PemFiles,
    warn: &mut impl FnMut(String),
) -> Result<(), String> {
    if definition.spiffe.is_some()
        || definition
            .peer_cert_uri
            .as_deref()
            .is_some_and(|uri| !uri.is_empty())
    {
        return Err(
            "tls.spiffe and tls.peerCertURI are not supported: name the authority under tls.rootCAs and the server under \
             tls.serverName"
                .to_owned(),
        );
    }
    if definition.certificates.len() > 1 {
        warn(format!(
            "tls.certificates has {} entries, the first one is presented to the servers: keep one",
            definition.certificates.len()
        ));
    }
    let server_name = definition.server_name.as_deref().filter(|name| !name.is_empty());
    transport.server_name = server_name.map(Into::into);
    transport.insecure_skip_verify = definition.insecure_skip_verify;
    transport.root_cas = definition
        .root_cas
        .iter()
        .map(|source| {
            files
                .load(source)
                .map_err(|error| format!("tls.rootCAs: {error}"))
        })
        .collect::<Result<_, _>>()?;
    if let Some(pair) = definition.certificates.first() {
        let certificate = files.load(&pair.cert_file);
        let certificate = certificate.map_err(|error| format!("tls.certificates: certFile: {error}"))?;
        let key = files.load(&pair.key_file);
        let key = key.map_err(|error| format!("tls.certificates: keyFile: {error}"))?;
        transport.client_certificate = Some((certificate, key));
    }
    Ok(())
}

/// Which header is sent.
pub(super) fn version(definition: &ProxyProtocol) -> Result<ProxyProtocolVersion, String> {
    match definition.version {
        None | Some(2) => Ok(ProxyProtocolVersion::V2),
        Some(1) => Ok(ProxyProtocolVersion::V1),
        Some(other) => Err(format!(
            "proxyProtocol.version {other} is not known: write 1 or 2"
        )),
    }
}

/// A limit; zero is none.
fn limit(key: &str, text: &str) -> Result<Option<Duration>, String> {
    Ok(Some(time(key, text)?).filter(|limit| !limit.is_zero()))
}

fn time(key: &str, text: &str) -> Result<Duration, String> {
    duration::parse(text)
        .ok_or_else(|| format!("{key}: {text:?} is no duration: expected {}", duration::EXPECTED))
}
