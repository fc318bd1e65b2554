//! Whose connection it is: the peer's, or that of the client for whom a trusted peer speaks.

use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{EntryPointState, Proxy, TooMany};
use crate::l4::proxy_protocol::{Over, Tlvs, receive, rule_out};
use crate::metrics::Refusal;
use crate::sources::Counted;

/// The two ends of a connection as rules, limits, logs and back ends see them.
#[derive(Debug)]
pub(super) struct Ends {
    /// The client's address.
    pub(super) client: SocketAddr,
    /// Where the client connected to.
    pub(super) local: SocketAddr,
    /// What else a trusted peer says of the client, for back ends that are told as well.
    pub(super) tlvs: Tlvs,
    /// The client's place among the connections of its source, where that wasn't the peer's.
    pub(super) _of_source: Option<Counted>,
}

impl Ends {
    /// Those of the TCP connection.
    pub(super) fn of(client: SocketAddr, local: SocketAddr) -> Self {
        Self {
            client,
            local,
            tlvs: Tlvs::default(),
            _of_source: None,
        }
    }

    /// Those that the peer may tell in a PROXY protocol header, on an entry point where somebody is trusted; who isn't
    /// is refused with one. What was read besides stays in `first`. `None`: the connection is over, and counted where
    /// it was refused.
    pub(super) async fn ask(
        self,
        proxy: &Proxy,
        entry_point: &EntryPointState,
        socket: &mut TcpStream,
        first: &mut Vec<u8>,
        deadline: Instant,
    ) -> Option<Self> {
        let peer = self.client.ip();
        let asked = if entry_point.settings.proxy_protocol.trusts(peer) {
            self.told(entry_point, socket, first, deadline).await
        } else if proxy.server_may_speak_first(entry_point) {
            // Nobody knows whether the client will say anything before it has heard the server.
            Ok(self)
        } else {
            rule_out(socket, first, deadline).await.map(|()| self)
        };
        match asked {
            Ok(ends) => Some(ends),
            Err(Over::Left) => None,
            Err(Over::Refused(reason)) => {
                proxy.edge.refused(&entry_point.settings, peer, reason);
                None
            }
        }
    }

    /// What a trusted peer says.
    async fn told(
        self,
        entry_point: &EntryPointState,
        socket: &mut TcpStream,
        first: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<Self, Over> {
        let header = receive(socket, first, deadline).await?;
        let ends = match header.as_ref().and_then(|header| header.addresses) {
            Some(addresses) => Self::of(addresses.source(), addresses.destination()),
            None => self,
        };
        // The peer was not counted when it was accepted: it brings the connections of many.
        let of_source = entry_point
            .admit(ends.client.ip())
            .map_err(|TooMany| Over::Refused(Refusal::TooManyFromSource))?;
        Ok(Self {
            _of_source: of_source,
            tlvs: header.map(|header| header.tlvs).unwrap_or_default(),
            ..ends
        })
    }
}
