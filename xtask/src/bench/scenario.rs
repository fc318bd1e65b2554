//! What is asked of every proxy.

use clap::ValueEnum;
use serde::Serialize;

/// The host of every scenario but the one with many.
pub(super) const HOST: &str = "bench.test";

/// Routes of the scenario with many.
pub(super) const MANY: usize = 10_000;

/// The prefix that the chain of middlewares strips.
pub(super) const CHAIN_PREFIX: &str = "/bench";

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
pub(super) enum Scenario {
    /// HTTP/1.1 with keep-alive, bodies of 128 bytes.
    #[value(name = "h1-128")]
    #[serde(rename = "h1-128")]
    H1Small,
    /// HTTP/1.1 with keep-alive, bodies of 64 KiB.
    #[value(name = "h1-64k")]
    #[serde(rename = "h1-64k")]
    H1Large,
    /// The first one over TLS 1.3.
    #[value(name = "tls-128")]
    #[serde(rename = "tls-128")]
    TlsSmall,
    /// HTTP/2 over TLS 1.3, bodies of 128 bytes.
    #[value(name = "h2-128")]
    #[serde(rename = "h2-128")]
    H2Small,
    /// The first one with 10,000 host routes, requests spread over all of them.
    #[value(name = "r10000")]
    #[serde(rename = "r10000")]
    ManyHosts,
    /// The first one through five middlewares: an address list, a rate limit, headers, a prefix to strip, compression. Only
    /// for proxies that read Traefik's configuration.
    #[value(name = "chain5")]
    #[serde(rename = "chain5")]
    Chain,
}

/// What a request is sent over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// HTTP/1.1 in the clear.
    Plain,
    /// HTTP/1.1 over TLS 1.3.
    Tls,
    /// HTTP/2 over TLS 1.3.
    Http2,
}

/// Which hosts a proxy has routes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hosts {
    /// [`HOST`].
    One,
    /// [`many_host`] of every number below this.
    Many(usize),
}

impl Hosts {
    /// Every host name.
    pub(super) fn names(self) -> impl Iterator<Item = String> {
        let (one, many) = match self {
            Self::One => (Some(HOST.to_owned()), 0),
            Self::Many(count) => (None, count),
        };
        one.into_iter().chain((0..many).map(many_host))
    }

    /// The hosts that are worth a check: the first, one in the middle, the last.
    pub(super) fn samples(self) -> Vec<String> {
        match self {
            Self::One => vec![HOST.to_owned()],
            Self::Many(count) => [0, count / 2, count.saturating_sub(1)].map(many_host).into(),
        }
    }
}

/// The host with this number.
pub(super) fn many_host(number: usize) -> String {
    format!("h{number:05}.{HOST}")
}

impl Scenario {
    /// The name on the command line and in the report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::H1Small => "h1-128",
            Self::H1Large => "h1-64k",
            Self::TlsSmall => "tls-128",
            Self::H2Small => "h2-128",
            Self::ManyHosts => "r10000",
            Self::Chain => "chain5",
        }
    }

    pub(super) fn transport(self) -> Transport {
        match self {
            Self::H1Small | Self::H1Large | Self::ManyHosts | Self::Chain => Transport::Plain,
            Self::TlsSmall => Transport::Tls,
            Self::H2Small => Transport::Http2,
        }
    }

    pub(super) fn hosts(self) -> Hosts {
        match self {
            Self::ManyHosts => Hosts::Many(MANY),
            _ => Hosts::One,
        }
    }

    /// Bytes of a response body.
    pub(super) fn body(self) -> usize {
        match self {
            Self::H1Large => 65_536,
            _ => 128,
        }
    }

    /// Path of the requests.
    pub(super) fn path(self) -> String {
        let prefix = if self.has_chain() { CHAIN_PREFIX } else { "" };
        format!("{prefix}/bytes/{}", self.body())
    }

    /// Whether the router runs middlewares.
    pub(super) fn has_chain(self) -> bool {
        self == Self::Chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_everywhere() {
        for scenario in Scenario::value_variants() {
            let value = scenario.to_possible_value().unwrap();
            assert_eq!(value.get_name(), scenario.name());
            assert_eq!(serde_json::to_value(scenario).unwrap(), scenario.name());
        }
    }

    #[test]
    fn samples_are_among_the_names() {
        for hosts in [Hosts::One, Hosts::Many(1), Hosts::Many(10)] {
            let names: Vec<String> = hosts.names().collect();
            assert!(
                hosts.samples().iter().all(|sample| names.contains(sample)),
                "{hosts:?}"
            );
        }
    }
}
