//! What an operator or a script asks for, with what the configuration says where it is silent.

use std::net::IpAddr;
use std::time::Duration;

use constellation_config::Chase as ChaseConfig;
use constellation_ebpf_loader::Error;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The body of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wish {
    /// Addresses and networks that have moved; none: those of `edge.chase.addresses`, or to end it, all.
    pub addresses: Vec<String>,
    /// Who had them, at most one of each family; none: `edge.chase.previous`.
    pub previous: Vec<String>,
    /// For how long, such as `90s` or `10m`; nothing: `edge.chase.for`.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
}

/// Why it is not done; to be shown to whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It makes no sense.
    #[error("{0}")]
    Senseless(String),
    /// The chase is not used here.
    #[error("{0}")]
    Unavailable(String),
    /// The kernel is against it.
    #[error("{0}")]
    Failed(String),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match error {
            Error::NoNeighbour { .. }
            | Error::AmbiguousNeighbour { .. }
            | Error::OtherFamily { .. }
            | Error::OwnAddress(_)
            | Error::TooManyMoved(_) => Self::Senseless(error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// A wish with everything in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Moves {
    pub(super) addresses: Vec<(IpNet, IpAddr)>,
    pub(super) duration: Duration,
}

fn senseless<T>(text: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::Senseless(text.into()))
}

impl Wish {
    /// What has moved, from whom, and for how long.
    pub(super) fn moves(&self, config: &ChaseConfig) -> Result<Moves, Refused> {
        let mut nets = self.nets()?;
        if nets.is_empty() {
            nets.clone_from(&config.addresses);
        }
        if nets.is_empty() {
            return senseless(
                "no address is named: expected --address, edge.chase.addresses, or entry points with addresses of their own",
            );
        }
        let mut previous = Vec::new();
        for text in &self.previous {
            let Ok(address) = text.trim().parse::<IpAddr>() else {
                return senseless(format!(
                    "{text:?} is no address: expected one of the previous holder's own, such as 192.0.2.7 or fd00::7"
                ));
            };
            let address = address.to_canonical();
            if previous
                .iter()
                .any(|other: &IpAddr| other.is_ipv4() == address.is_ipv4())
            {
                return senseless(format!(
                    "{address} is a second previous holder: expected one address of each family"
                ));
            }
            previous.push(address);
        }
        if previous.is_empty() {
            previous.clone_from(&config.previous);
        }
        let addresses: Result<Vec<(IpNet, IpAddr)>, Refused> = nets
            .into_iter()
            .map(|net| {
                let is_v6 = net.addr().is_ipv6();
                let same_family = previous.iter().find(|address| address.is_ipv6() == is_v6);
                let Some(address) = same_family.or_else(|| previous.iter().find(|_| !is_v6)) else {
                    let family = if is_v6 { "an IPv6 address" } else { "an address" };
                    return senseless(format!(
                        "who had {net} before is not said: expected {family} of that node's own by --previous or in \
                         edge.chase.previous"
                    ));
                };
                Ok((net, *address))
            })
            .collect();
        Ok(Moves {
            addresses: addresses?,
            duration: self.duration(config)?,
        })
    }

    /// What is named.
    pub(super) fn nets(&self) -> Result<Vec<IpNet>, Refused> {
        let nets = self.addresses.iter().map(|text| {
            let text = text.trim();
            let address = text
                .parse::<IpAddr>()
                .map(|address| address.to_canonical().into());
            address.or_else(|_| text.parse::<IpNet>()).map(|net| net.trunc()).or_else(|_| {
                senseless(format!(
                    "{text:?} is no address: expected one, or a network, such as 192.0.2.1 or 2001:db8::/64"
                ))
            })
        });
        nets.collect()
    }

    fn duration(&self, config: &ChaseConfig) -> Result<Duration, Refused> {
        let Some(text) = &self.duration else {
            return Ok(config.duration);
        };
        let expected = "expected 1s to 24h, such as 90s or 10m";
        match humantime::parse_duration(text.trim()) {
            Ok(duration) if ChaseConfig::DURATION.contains(&duration) => Ok(duration),
            Ok(_) => senseless(format!("{text} is out of range: {expected}")),
            Err(_) => senseless(format!("{text:?} is no duration: {expected}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(addresses: &[&str], previous: &[&str], duration: Option<&str>) -> Wish {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Wish {
            addresses: owned(addresses),
            previous: owned(previous),
            duration: duration.map(str::to_owned),
        }
    }

    fn config() -> ChaseConfig {
        ChaseConfig {
            addresses: vec!["10.0.0.1/32".parse().unwrap()],
            previous: vec!["10.0.0.7".parse().unwrap()],
            ..ChaseConfig::default()
        }
    }

    #[test]
    fn what_is_not_said_is_configured() {
        let moves = wish(&[], &[], None).moves(&config()).unwrap();
        let pair = |net: &str, address: &str| (net.parse().unwrap(), address.parse().unwrap());
        assert_eq!(moves.addresses, [pair("10.0.0.1/32", "10.0.0.7")]);
        assert_eq!(moves.duration, Duration::from_secs(600));
        let said = wish(
            &["192.0.2.9/24", "fd00::1", "::ffff:192.0.2.1"],
            &["192.0.2.2", "fd00::2"],
            Some("90s"),
        );
        let moves = said.moves(&config()).unwrap();
        assert_eq!(
            moves.addresses,
            [
                pair("192.0.2.0/24", "192.0.2.2"),
                pair("fd00::1/128", "fd00::2"),
                pair("192.0.2.1/32", "192.0.2.2"),
            ]
        );
        assert_eq!(moves.duration, Duration::from_secs(90));
        // An IPv4 address may well be with a neighbour that is known by an IPv6 one.
        let moves = wish(&["192.0.2.1"], &["fd00::2"], None).moves(&config()).unwrap();
        assert_eq!(moves.addresses, [pair("192.0.2.1/32", "fd00::2")]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        let table = [
            (wish(&["10.0.0.256"], &[], None), "\"10.0.0.256\" is no address"),
            (wish(&[], &["edge-2"], None), "\"edge-2\" is no address"),
            (
                wish(&[], &["10.0.0.2", "10.0.0.3"], None),
                "10.0.0.3 is a second previous holder",
            ),
            (
                wish(&["fd00::1"], &["10.0.0.2"], None),
                "expected an IPv6 address",
            ),
            (wish(&[], &[], Some("soon")), "\"soon\" is no duration"),
            (wish(&[], &[], Some("0s")), "out of range"),
            (wish(&[], &[], Some("25h")), "out of range"),
        ];
        for (wish, expected) in table {
            let refused = wish.moves(&config()).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
        let nothing = ChaseConfig::default();
        assert!(
            wish(&[], &["10.0.0.2"], None)
                .moves(&nothing)
                .unwrap_err()
                .to_string()
                .contains("no address is named")
        );
        let nobody = wish(&["10.0.0.1"], &[], None)
            .moves(&nothing)
            .unwrap_err()
            .to_string();
        assert!(
            nobody.contains("who had 10.0.0.1/32 before is not said"),
            "{nobody}"
        );
    }
}
