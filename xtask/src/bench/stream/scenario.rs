//! What is asked of every relay.

use clap::ValueEnum;
use serde::Serialize;

/// What one unit of a scenario is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// 1,000,000 bytes.
    Megabyte,
    /// A message and its echo.
    RoundTrip,
    /// A connection with one message and its echo.
    Connection,
    /// A datagram, there or back.
    Datagram,
}

/// One kind of work over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Tcp {
    /// One stream from the back end to the client, as fast as it goes.
    #[value(name = "bulk-1")]
    Bulk1,
    /// 64 of them.
    #[value(name = "bulk-64")]
    Bulk64,
    /// 64 bytes there and back, one connection.
    #[value(name = "ping-1")]
    Ping1,
    /// The same on 32 connections at once.
    #[value(name = "ping-32")]
    Ping32,
    /// A connection for each 64 bytes there and back, which the back end closes; 16 at once.
    #[value(name = "connect")]
    Connect,
}

/// One kind of work over UDP: 64 bytes there and back, up to 64 clients with a datagram under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Udp {
    /// 64 clients.
    #[value(name = "udp-64")]
    Clients64,
    /// 1,000 clients.
    #[value(name = "udp-1000")]
    Clients1000,
}

/// What the load generator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Work {
    /// Takes what comes.
    Bulk,
    /// Messages and their echoes.
    Ping,
    /// A connection for each message.
    Connect,
    /// Datagrams and their echoes.
    Udp,
}

/// A scenario of either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Scenario {
    /// The name on the command line and in the report.
    pub(super) name: &'static str,
    #[serde(skip)]
    pub(super) work: Work,
    /// Connections, or clients, at once.
    pub(super) clients: usize,
}

impl From<Tcp> for Scenario {
    fn from(tcp: Tcp) -> Self {
        let (name, work, clients) = match tcp {
            Tcp::Bulk1 => ("bulk-1", Work::Bulk, 1),
            Tcp::Bulk64 => ("bulk-64", Work::Bulk, 64),
            Tcp::Ping1 => ("ping-1", Work::Ping, 1),
            Tcp::Ping32 => ("ping-32", Work::Ping, 32),
            Tcp::Connect => ("connect", Work::Connect, 16),
        };
        Self { name, work, clients }
    }
}

impl From<Udp> for Scenario {
    fn from(udp: Udp) -> Self {
        let (name, clients) = match udp {
            Udp::Clients64 => ("udp-64", 64),
            Udp::Clients1000 => ("udp-1000", 1000),
        };
        Self {
            name,
            work: Work::Udp,
            clients,
        }
    }
}

impl Scenario {
    pub(super) fn unit(self) -> Unit {
        match self.work {
            Work::Bulk => Unit::Megabyte,
            Work::Ping => Unit::RoundTrip,
            Work::Connect => Unit::Connection,
            Work::Udp => Unit::Datagram,
        }
    }
}

impl Unit {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Megabyte => "MB",
            Self::RoundTrip => "round trips",
            Self::Connection => "connections",
            Self::Datagram => "datagrams",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_everywhere() {
        let name = |value: Option<clap::builder::PossibleValue>| value.unwrap().get_name().to_owned();
        for tcp in Tcp::value_variants() {
            assert_eq!(name(tcp.to_possible_value()), Scenario::from(*tcp).name);
        }
        for udp in Udp::value_variants() {
            assert_eq!(name(udp.to_possible_value()), Scenario::from(*udp).name);
        }
    }
}
