//! `traefikProvider` resolved.

use std::path::PathBuf;

use super::{Judge, address, given, secret};
use crate::raw::{RawProviderTls, RawTraefikProvider};
use crate::resolved::{EntryPoint, ProviderFailover, ProviderTls, TraefikProvider};

const KEY: &str = "traefikProvider";

pub(super) fn one(
    raw: &RawTraefikProvider,
    entry_points: &[EntryPoint],
    judge: &mut Judge<'_>,
) -> TraefikProvider {
    let defaults = TraefikProvider::default();
    let mut at = |key: &str, text: &str, default| match address::parse(text) {
        Ok(address) => address,
        Err(refusal) => {
            refusal.report(&format!("{KEY}.{key}"), judge);
            default
        }
    };
    let address = at("address", &raw.address, defaults.address);
    let failover = at(
        "failover.address",
        &raw.failover.address,
        defaults.failover.address,
    );
    let advertise = given::<String>(Some(&raw.failover.advertise));
    if advertise.as_deref().is_some_and(|text| !is_authority(text)) {
        judge
            .refuse(&format!("{KEY}.failover.advertise"), "is not HOST:PORT")
            .expects("a host name or IP address with a port, such as host.docker.internal:8082");
    }
    if failover.ip().is_unspecified() {
        judge
            .refuse(
                &format!("{KEY}.failover.address"),
                "can be reached at every address of this machine",
            )
            .expects(
                "an address that only Traefik reaches, such as 127.0.0.1:8082 or that of a Docker bridge",
            );
    }
    if let Some(name) = entry_points
        .iter()
        .map(|e| &e.name)
        .find(|name| *name == TraefikProvider::ENTRANCE)
    {
        judge
            .refuse(
                &format!("entryPoints.{name}"),
                format!("has the name of {KEY}.failover"),
            )
            .advises("give the entry point another name");
    }
    let token = secret(
        &format!("{KEY}.token"),
        raw.token.as_ref(),
        given(raw.token_file.as_deref()),
        judge,
    );
    let provider = TraefikProvider {
        address,
        cert_resolver: given(Some(&raw.cert_resolver)),
        certificates: raw.certificates,
        entry_points: raw.entry_points.clone(),
        failover: ProviderFailover {
            address: failover,
            advertise,
        },
        file: raw.file.as_deref().and_then(|file| given::<PathBuf>(Some(file))),
        tls: raw.tls.as_ref().map(|tls| self::tls(tls, judge)),
        token,
        withdraw: raw.withdraw,
    };
    if !provider.is_protected() {
        if provider.certificates {
            judge
                .refuse(
                    &format!("{KEY}.certificates"),
                    format!("would hand private keys to whoever reaches {address}"),
                )
                .advises("set tokenFile or tls.clientAuth.caFiles, or use 127.0.0.1");
        } else {
            judge.warn(format!(
                "{KEY}.address {address} can be reached from other machines without a token; set {KEY}.tokenFile or \
                 {KEY}.tls.clientAuth, or use 127.0.0.1"
            ));
        }
    }
    provider
}

fn tls(raw: &RawProviderTls, judge: &mut Judge<'_>) -> ProviderTls {
    for (key, file) in [("certFile", &raw.cert_file), ("keyFile", &raw.key_file)] {
        if file.trim().is_empty() {
            judge
                .refuse(&format!("{KEY}.tls.{key}"), "is missing")
                .expects("a PEM file");
        }
    }
    ProviderTls {
        cert_file: raw.cert_file.as_str().into(),
        key_file: raw.key_file.as_str().into(),
        client_cas: raw.client_auth.ca_files.iter().map(PathBuf::from).collect(),
    }
}

/// Whether a text is `HOST:PORT` as a URL takes it.
fn is_authority(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    is_host && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::is_authority;

    #[test]
    fn only_a_host_with_a_port_is_advertised() {
        for (text, expected) in [
            ("host.docker.internal:8082", true),
            ("172.17.0.1:8082", true),
            ("[fd00::1]:8082", true),
            ("172.17.0.1", false),
            ("172.17.0.1:0", false),
            (":8082", false),
            ("fd00::1:8082", false),
            ("http://a:1", false),
            ("a/b:1", false),
        ] {
            assert_eq!(is_authority(text), expected, "{text}");
        }
    }
}
