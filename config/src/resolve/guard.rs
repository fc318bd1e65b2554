//! `edge.guard` resolved.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Judge, networks};
use crate::duration::format;
use crate::raw::{AUTO, RawGuard, RawGuardAttack, RawGuardFeed, RawGuardRate};
use crate::resolved::{Guard, GuardAttack, GuardDevices, GuardFeed, GuardMode, GuardRate, Protocol, XdpMode};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// Prefixes of each family on the allow list, as its map has room for.
const MAX_ALLOW: usize = 4096;
/// The same for the deny list.
const MAX_DENY: usize = 131_072;

pub(super) fn one(raw: &RawGuard, judge: &mut Judge<'_>) -> Guard {
    let trunc = |texts| {
        networks(texts)
            .iter()
            .map(ipnet::IpNet::trunc)
            .collect::<Vec<_>>()
    };
    let (deny, allow) = (trunc(&raw.deny), trunc(&raw.allow));
    for (position, net) in deny.iter().enumerate() {
        if net.prefix_len() == 0 && allow.is_empty() {
            judge
                .refuse(
                    &format!("edge.guard.deny[{position}]"),
                    "denies everybody, and edge.guard.allow is empty",
                )
                .advises("list in edge.guard.allow who gets in, your own address among them");
        }
    }
    for (key, list, most) in [
        ("edge.guard.deny", &deny, MAX_DENY),
        ("edge.guard.allow", &allow, MAX_ALLOW),
    ] {
        if list.len() > most {
            judge
                .refuse(key, format!("has {} items", list.len()))
                .expects(format!("at most {most}"));
        }
    }
    within("edge.guard.flowIdle", raw.flow_idle.0, SECOND..=HOUR, judge);
    Guard {
        mode: raw.mode,
        devices: devices(&raw.devices, raw.mode, judge),
        deny,
        allow,
        connections: rate("edge.guard.connections", &raw.connections, judge),
        flows: rate("edge.guard.flows", &raw.flows, judge),
        flow_idle: raw.flow_idle.0,
        ports: ports(&raw.ports, judge),
        attack: attack(&raw.attack, judge),
        feed: feed(&raw.feed, judge),
    }
}

fn within(key: &str, time: Duration, range: RangeInclusive<Duration>, judge: &mut Judge<'_>) {
    if !range.contains(&time) {
        judge.refuse(key, "is out of range").expects(format!(
            "{} to {}",
            format(*range.start()),
            format(*range.end())
        ));
    }
}

fn devices(names: &[String], mode: GuardMode, judge: &mut Judge<'_>) -> GuardDevices {
    let mut devices = GuardDevices {
        of_default_routes: false,
        names: Vec::new(),
    };
    if names.is_empty() && mode != GuardMode::Off {
        judge
            .refuse("edge.guard.devices", "is empty")
            .expects("names of network devices, or auto")
            .advises("edge.guard.mode: off switches the guard off");
    }
    for (position, name) in names.iter().enumerate() {
        if name.eq_ignore_ascii_case(AUTO) {
            devices.of_default_routes = true;
        } else if is_device(name) {
            if !devices.names.contains(name) {
                devices.names.push(name.clone());
            }
        } else {
            judge
                .refuse(
                    &format!("edge.guard.devices[{position}]"),
                    "is no name of a network device",
                )
                .expects("a name as `ip link` shows it, at most 15 characters, or auto");
        }
    }
    devices
}

/// Whether a network device can have this name.
pub(super) fn is_device(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':');
    (1..=15).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('.')
}

fn rate(key: &str, raw: &RawGuardRate, judge: &mut Judge<'_>) -> GuardRate {
    if raw.per_second == 0 && raw.burst > 0 {
        judge
            .refuse(&format!("{key}.burst"), "has no meaning without perSecond")
            .advises("set perSecond, or leave burst out");
    }
    GuardRate {
        per_second: raw.per_second,
        burst: if raw.burst == 0 { raw.per_second } else { raw.burst },
    }
}

fn ports(texts: &[String], judge: &mut Judge<'_>) -> Vec<(Protocol, u16)> {
    let mut ports = Vec::new();
    for (position, text) in texts.iter().enumerate() {
        let (port, protocol) = text.trim().split_once('/').unwrap_or((text.trim(), "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => None,
        };
        match (port.parse(), protocol) {
            (Ok(port), Some(protocol)) => ports.push((protocol, port)),
            _ => {
                judge
                    .refuse(&format!("edge.guard.ports[{position}]"), "is no port")
                    .expects("a number from 0 to 65535, with /udp behind it for UDP");
            }
        }
    }
    ports
}

fn attack(raw: &RawGuardAttack, judge: &mut Judge<'_>) -> GuardAttack {
    if raw.calm >= raw.raise && raw.xdp == XdpMode::Auto {
        judge
            .refuse(
                "edge.guard.attack.calm",
                "is not less than edge.guard.attack.raise",
            )
            .expects(format!("a number below {}", raw.raise));
    }
    let patience = raw.patience.0;
    within("edge.guard.attack.patience", patience, SECOND..=24 * HOUR, judge);
    GuardAttack {
        xdp: raw.xdp,
        raise: raw.raise,
        calm: raw.calm,
        patience,
    }
}

fn feed(raw: &RawGuardFeed, judge: &mut Judge<'_>) -> GuardFeed {
    within("edge.guard.feed.within", raw.within.0, SECOND..=HOUR, judge);
    within("edge.guard.feed.ban", raw.ban.0, SECOND..=720 * HOUR, judge);
    within(
        "edge.guard.feed.longest",
        raw.longest.0,
        raw.ban.0.clamp(SECOND, 720 * HOUR)..=720 * HOUR,
        judge,
    );
    GuardFeed {
        enabled: raw.enabled,
        offences: raw.offences,
        within: raw.within.0,
        ban: raw.ban.0,
        longest: raw.longest.0,
    }
}
