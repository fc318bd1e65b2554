//! Transports: how servers are reached.

use constellation_config::dynamic::{CertificatePair, ServersTransport, TcpServersTransport};
use serde_json::Value;

use super::names::Names;
use super::object::{Object, check_key};
use super::{Draft, Objects, names_of};

/// The transports that are in the document.
pub(super) struct Transports {
    names: Names,
    pub(super) objects: Objects,
}

impl Transports {
    /// The bare name of a transport that a document of `provider` names; `None`: it is not in the document.
    pub(super) fn resolve(&self, reference: &str, provider: &str) -> Option<&str> {
        let bare = self.names.resolve(reference, provider)?;
        self.objects.contains_key(bare).then_some(bare)
    }
}

/// Those of HTTP.
pub(super) fn http(draft: &mut Draft<'_>) -> Transports {
    let all = draft.each(|reading| &reading.dynamic.http.servers_transports);
    collect(draft, "serversTransport", &all, of_http)
}

/// Those of TCP.
pub(super) fn tcp(draft: &mut Draft<'_>) -> Transports {
    let all = draft.each(|reading| &reading.dynamic.tcp.servers_transports);
    collect(draft, "serversTransport tcp/", &all, of_tcp)
}

fn collect<T>(
    draft: &mut Draft<'_>,
    kind: &str,
    all: &[(&'static str, &String, &T)],
    write: impl Fn(&T, bool) -> Result<Object, String>,
) -> Transports {
    let names = names_of(all);
    let mut objects = Objects::new();
    for (provider, name, transport) in all {
        let Some(bare) = names.bare(provider, name) else {
            continue;
        };
        let written = check_key(bare).and_then(|()| write(transport, draft.terms.certificates));
        match written {
            Ok(object) => {
                objects.insert(bare.to_owned(), object);
            }
            Err(reason) => draft.leave_out(kind, provider, name, reason),
        }
    }
    Transports { names, objects }
}

fn of_http(transport: &ServersTransport, keys: bool) -> Result<Object, String> {
    let timeouts = match &transport.forwarding_timeouts {
        None => Object::default(),
        Some(timeouts) => Object::default()
            .duration("dialTimeout", timeouts.dial_timeout.as_deref())?
            .duration(
                "responseHeaderTimeout",
                timeouts.response_header_timeout.as_deref(),
            )?
            .duration("idleConnTimeout", timeouts.idle_conn_timeout.as_deref())?,
    };
    let object = Object::default()
        .text("serverName", transport.server_name.as_deref())
        .on("insecureSkipVerify", transport.insecure_skip_verify)
        .texts("rootCAs", transport.root_cas.iter().map(String::as_str))
        .number("maxIdleConnsPerHost", transport.max_idle_conns_per_host)
        .object("forwardingTimeouts", Some(timeouts))
        .on("disableHTTP2", transport.disable_http2);
    let object = match pairs(&transport.certificates, keys)? {
        Some(pairs) => object.list("certificates", pairs),
        None => object,
    };
    // One that says nothing is the default one, and an object with nothing in it would be refused.
    Ok(match object.is_empty() {
        true => object.flag("insecureSkipVerify", Some(false)),
        false => object,
    })
}

fn of_tcp(transport: &TcpServersTransport, keys: bool) -> Result<Object, String> {
    let tls = match &transport.tls {
        None => Object::default(),
        Some(tls) if tls.peer_cert_uri.is_some() || tls.spiffe.is_some() => {
            return Err("it names a SPIFFE identity, which this node does not serve".to_owned());
        }
        Some(tls) => {
            let object = Object::default()
                .text("serverName", tls.server_name.as_deref())
                .on("insecureSkipVerify", tls.insecure_skip_verify)
                .texts("rootCAs", tls.root_cas.iter().map(String::as_str));
            match pairs(&tls.certificates, keys)? {
                Some(pairs) => object.list("certificates", pairs),
                None => object,
            }
        }
    };
    let version = transport.proxy_protocol.as_ref().map(|p| p.version.unwrap_or(2));
    let object = Object::default()
        .duration("dialTimeout", transport.dial_timeout.as_deref())?
        .duration("dialKeepAlive", transport.dial_keep_alive.as_deref())?
        .duration("terminationDelay", transport.termination_delay.as_deref())?
        .object(
            "proxyProtocol",
            version.map(|v| Object::default().number("version", Some(v))),
        )
        .object("tls", Some(tls));
    match object.is_empty() {
        true => object.duration("dialTimeout", Some("30s")),
        false => Ok(object),
    }
}

/// Pairs of certificate and key; `None`: there are none. Inline keys are told only where that is asked for.
pub(super) fn pairs(pairs: &[CertificatePair], keys: bool) -> Result<Option<Vec<Value>>, String> {
    if pairs.is_empty() {
        return Ok(None);
    }
    pairs
        .iter()
        .map(|one| pair(one, keys).map(Value::from))
        .collect::<Result<_, _>>()
        .map(Some)
}

/// One pair.
pub(super) fn pair(pair: &CertificatePair, keys: bool) -> Result<Object, String> {
    if pair.cert_file.is_empty() || pair.key_file.is_empty() {
        return Err("a certificate without a file, or without one for its key".to_owned());
    }
    if pair.key_file.contains("-----BEGIN") && !keys {
        return Err(
            "it holds a private key, which is told only with traefikProvider.certificates".to_owned(),
        );
    }
    Ok(Object::default()
        .text("certFile", Some(&pair.cert_file))
        .text("keyFile", Some(&pair.key_file))
        .texts("stores", pair.stores.iter().map(String::as_str)))
}
