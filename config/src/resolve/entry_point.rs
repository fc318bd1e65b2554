//! `entryPoints` resolved.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::address::{self, Place};
use super::{Judge, given, networks};
use crate::raw::{RawEntryPoint, RawEntryPointTls, RawRedirection};
use crate::resolved::{
    EntryPoint, EntryPointTls, ForwardedHeaders, Limits, Prefix, Protocol, ProxyProtocol, Redirection,
    RedirectionTarget, Shutdown, Timeouts, Udp,
};
use crate::schema::nearest;

/// All entry points, and what they say about shutdown together.
pub(super) fn all(
    raw: &BTreeMap<String, RawEntryPoint>,
    judge: &mut Judge<'_>,
) -> (Vec<EntryPoint>, Shutdown) {
    let defaults;
    let raw = if raw.is_empty() {
        defaults = RawEntryPoint::defaults();
        &defaults
    } else {
        raw
    };
    // Traefik: when none says that it is a default, all are.
    let chosen = raw
        .values()
        .any(|entry_point| entry_point.as_default && !is_udp(entry_point));
    let entry_points = raw
        .iter()
        .map(|(name, one)| {
            let mut entry_point = self::one(name, one, raw, judge);
            entry_point.as_default = entry_point.protocol == Protocol::Tcp && (one.as_default || !chosen);
            entry_point
        })
        .collect();
    (entry_points, shutdown(raw, judge))
}

fn one(
    name: &str,
    raw: &RawEntryPoint,
    all: &BTreeMap<String, RawEntryPoint>,
    judge: &mut Judge<'_>,
) -> EntryPoint {
    let key = format!("entryPoints.{name}");
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 63 || !name.chars().all(allowed) {
        judge
            .refuse(&key, format!("{name:?} is not a name for an entry point"))
            .expects("letters, digits, `-` and `_`, at most 63");
    }
    let Places {
        addresses,
        prefixes,
        protocol,
    } = addresses(&key, &raw.address, judge);
    if protocol == Protocol::Udp {
        without_meaning_for_udp(&key, raw, judge);
    }
    EntryPoint {
        name: name.to_owned(),
        protocol,
        addresses,
        prefixes,
        reuse_port: raw.reuse_port,
        as_default: raw.as_default,
        forwarded_headers: ForwardedHeaders {
            insecure: raw.forwarded_headers.insecure,
            trusted_ips: networks(&raw.forwarded_headers.trusted_ips),
        },
        proxy_protocol: ProxyProtocol {
            insecure: raw.proxy_protocol.insecure,
            trusted_ips: networks(&raw.proxy_protocol.trusted_ips),
        },
        redirection: raw
            .http
            .redirections
            .entry_point
            .as_ref()
            .and_then(|redirection| self::redirection(name, redirection, all, judge)),
        tls: raw.http.tls.as_ref().map(|tls| self::tls(&key, tls, judge)),
        middlewares: raw.http.middlewares.clone(),
        timeouts: Timeouts {
            header: judge.positive(
                &format!("{key}.limits.headerTimeout"),
                raw.limits.header_timeout.0,
            ),
            handshake: judge.positive(
                &format!("{key}.limits.handshakeTimeout"),
                raw.limits.handshake_timeout.0,
            ),
            read: raw.transport.responding_timeouts.read_timeout.limit(),
            write: raw.transport.responding_timeouts.write_timeout.limit(),
            idle: raw.transport.responding_timeouts.idle_timeout.limit(),
            tcp_idle: raw.limits.tcp_idle_timeout.limit(),
        },
        limits: Limits {
            max_header_bytes: raw.http.max_header_bytes as usize,
            max_headers: raw.limits.max_headers as usize,
            max_body_bytes: Some(raw.limits.max_body_bytes).filter(|most| *most > 0),
            max_connections: raw.limits.max_connections as usize,
            max_connections_per_source: Some(raw.limits.max_connections_per_source as usize)
                .filter(|most| *most > 0),
            exempt_sources: networks(&raw.limits.exempt_sources),
            min_body_rate: NonZeroU32::new(raw.limits.min_body_rate),
            min_send_rate: NonZeroU32::new(raw.limits.min_send_rate),
            rate_grace: grace(&key, raw.limits.rate_grace.0, judge),
            max_concurrent_streams: raw.http2.max_concurrent_streams,
            max_requests_per_connection: Some(raw.transport.keep_alive_max_requests).filter(|most| *most > 0),
        },
        udp: Udp {
            timeout: judge.positive(&format!("{key}.udp.timeout"), raw.udp.timeout.0),
            max_sessions: raw.limits.udp_max_sessions as usize,
            max_sessions_per_source: Some(raw.limits.udp_max_sessions_per_source as usize)
                .filter(|most| *most > 0),
        },
    }
}

/// Whether an entry point takes datagrams; what its addresses are worth is judged elsewhere.
fn is_udp(raw: &RawEntryPoint) -> bool {
    let mut addresses = raw.address.iter();
    addresses.any(|text| matches!(address::parse_any(text), Ok((_, Protocol::Udp))))
}

/// Says which options of an entry point have no effect because it takes datagrams. Traefik takes them in silence.
fn without_meaning_for_udp(key: &str, raw: &RawEntryPoint, judge: &mut Judge<'_>) {
    let default = RawEntryPoint::default();
    let given = [
        ("asDefault", raw.as_default),
        (
            "forwardedHeaders",
            raw.forwarded_headers != default.forwarded_headers,
        ),
        ("http", raw.http != default.http),
        ("http2", raw.http2 != default.http2),
        ("proxyProtocol", raw.proxy_protocol != default.proxy_protocol),
    ];
    for (option, _) in given.iter().filter(|(_, given)| *given) {
        judge.warn(format!(
            "{key}.{option} has no effect: the entry point takes datagrams (/udp); remove it"
        ));
    }
}

fn grace(key: &str, grace: Duration, judge: &mut Judge<'_>) -> Duration {
    if grace < Duration::from_secs(1) || grace > Duration::from_secs(3600) {
        judge
            .refuse(&format!("{key}.limits.rateGrace"), "is out of range")
            .expects("1s to 1h; to switch a rate off, set `minBodyRate` or `minSendRate` to 0");
    }
    grace
}

/// Where an entry point is reached, and what comes in there.
#[derive(Default)]
struct Places {
    addresses: Vec<std::net::SocketAddr>,
    prefixes: Vec<Prefix>,
    protocol: Protocol,
}

fn addresses(key: &str, raw: &[String], judge: &mut Judge<'_>) -> Places {
    let key = format!("{key}.address");
    if raw.is_empty() {
        judge
            .refuse(&key, "the entry point has no address")
            .expects("`:PORT` or `IP:PORT`, or a list of them");
    }
    let mut places = Places::default();
    let mut common = None;
    for (index, text) in raw.iter().enumerate() {
        let key = match raw.len() {
            1 => key.clone(),
            _ => format!("{key}[{index}]"),
        };
        match address::parse_any(text) {
            Ok((_, protocol)) if common.is_some_and(|common| common != protocol) => {
                judge
                    .refuse(&key, "mixes TCP and UDP in one entry point")
                    .advises("write two entry points, one for each; they may share the port");
            }
            Ok((Place::Address(address), protocol)) => {
                common = Some(protocol);
                places.addresses.push(address);
            }
            Ok((Place::Prefix(_), Protocol::Udp)) => {
                judge
                    .refuse(&key, "is a network, and those are for TCP only")
                    .advises("list the addresses one by one, or use `:PORT/udp` for all");
            }
            Ok((Place::Prefix(prefix), protocol)) => {
                common = Some(protocol);
                places.prefixes.push(prefix);
            }
            Err(refusal) => refusal.report(&key, judge),
        }
    }
    for prefix in &places.prefixes {
        let v6 = prefix.network.addr().is_ipv6();
        // `[::]` takes IPv4 as well.
        let serves = |address: &std::net::SocketAddr| {
            address.is_ipv6() == v6 || (address.is_ipv6() && address.ip().is_unspecified())
        };
        if !places.addresses.iter().any(serves) {
            let (family, such) = if v6 {
                ("IPv6", "[::1]:0")
            } else {
                ("IPv4", "127.0.0.1:0")
            };
            judge
                .refuse(
                    &key,
                    format!("holds the network {prefix}, and no {family} address beside it to listen on"),
                )
                .advises(format!("add one, such as {such}"));
        }
    }
    places.protocol = common.unwrap_or_default();
    places
}

fn redirection(
    name: &str,
    raw: &RawRedirection,
    all: &BTreeMap<String, RawEntryPoint>,
    judge: &mut Judge<'_>,
) -> Option<Redirection> {
    let key = format!("entryPoints.{name}.http.redirections.entryPoint");
    if !["http", "https"].contains(&raw.scheme.as_str()) {
        judge
            .refuse(&format!("{key}.scheme"), "is not a scheme that is served")
            .expects("http or https");
    }
    let to_key = format!("{key}.to");
    let to = match raw.to.strip_prefix(':') {
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => RedirectionTarget::Port(port),
            _ => {
                judge
                    .refuse(&to_key, "is not a port")
                    .expects("`:` and a number from 1 to 65535");
                return None;
            }
        },
        None if raw.to == name => {
            judge
                .refuse(&to_key, "the entry point redirects to itself")
                .advises("name another entry point");
            return None;
        }
        None if all.get(&raw.to).is_some_and(is_udp) => {
            judge
                .refuse(&to_key, "the entry point takes datagrams")
                .advises("name one that takes connections");
            return None;
        }
        None if all.contains_key(&raw.to) => RedirectionTarget::EntryPoint(raw.to.clone()),
        None => {
            let others = all.keys().map(String::as_str).filter(|other| *other != name);
            let names: Vec<&str> = others.collect();
            let meant =
                nearest(&raw.to, names.iter().copied()).map(|meant| format!("did you mean `{meant}`?"));
            let message = match raw.to.as_str() {
                "" => "is missing",
                _ => "is not the name of an entry point",
            };
            let expected = match names.len() {
                0 => "a port such as `:8443`, because there is no other entry point".to_owned(),
                _ => format!("one of {}, or a port such as `:8443`", names.join(", ")),
            };
            let error = judge.refuse(&to_key, message);
            error.expects(expected);
            error.hint = meant;
            return None;
        }
    };
    Some(Redirection {
        to,
        scheme: raw.scheme.clone(),
        permanent: raw.permanent,
        priority: raw.priority,
    })
}

fn tls(key: &str, raw: &RawEntryPointTls, judge: &mut Judge<'_>) -> EntryPointTls {
    let cert_resolver = given(raw.cert_resolver.as_deref());
    if let Some(resolver) = &cert_resolver {
        judge.warn(format!(
            "{key}.http.tls.certResolver: this version orders no certificates, so {resolver:?} has no effect; give \
             certificates in a dynamic file (tls.certificates)"
        ));
    }
    EntryPointTls {
        options: given(raw.options.as_deref()),
        cert_resolver,
        domains: raw.domains.clone(),
    }
}

/// A node stops as a whole, so the longest times of all entry points count.
fn shutdown(raw: &BTreeMap<String, RawEntryPoint>, judge: &mut Judge<'_>) -> Shutdown {
    let mut longest = |name: &str, times: Vec<Duration>| {
        let longest = times.iter().max().copied().unwrap_or_default();
        if times.iter().any(|time| *time != longest) {
            let shown = crate::duration::format(longest);
            judge.warn(format!(
                "entryPoints.*.transport.lifeCycle.{name} differs between entry points; {shown}, the longest, counts for \
                 all"
            ));
        }
        longest
    };
    let cycles = || raw.values().map(|entry_point| &entry_point.transport.life_cycle);
    Shutdown {
        accept_grace: longest(
            "requestAcceptGraceTimeout",
            cycles()
                .map(|cycle| cycle.request_accept_grace_timeout.0)
                .collect(),
        ),
        drain: longest(
            "graceTimeOut",
            cycles().map(|cycle| cycle.grace_time_out.0).collect(),
        ),
    }
}
