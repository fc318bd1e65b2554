//! A request beside the exchange that it belongs to: a copy for a mirror, a page in the place of an error.

use std::sync::Arc;
use std::time::Duration;

use constellation_table::{Endpoint, Peer, Service};
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use super::attempt::{self, Failed, Reached, Upstream};
use super::body::Body;
use super::connection::Connection;
use super::dial::{self, Manner};
use super::exchange::Exchange;
use super::meshed;
use super::outgoing::Towards;
use super::pool::Pool;
use super::proxy::App;
use super::race::is_interim;
use super::upstream::{Names, ServiceState};
use crate::mesh::Links;

/// How such a request is sent: simply, and only over a connection that is open for sure.
const MANNER: Manner = Manner {
    impatient: false,
    h1_only: true,
    fresh: false,
    surely: true,
};

/// The way to one endpoint for one request. It needs nothing of the exchange any more.
pub(super) struct Beside {
    pool: Arc<Pool>,
    names: Arc<Names>,
    links: Arc<Links>,
    service: Arc<Service>,
    endpoint: Arc<Endpoint>,
    /// The node that has the endpoint, and the connection of the client that it is told of.
    through: Option<(Arc<Peer>, Arc<Connection>)>,
}

impl App {
    /// The way to an endpoint of a service; `None` when nothing is known of it.
    pub(super) fn beside(
        &self,
        service: &Arc<Service>,
        endpoint: &Arc<Endpoint>,
        connection: Option<&Arc<Connection>>,
    ) -> Option<Beside> {
        Exchange::prepare(&self.edge, service)?;
        Some(Beside {
            pool: self.pool.clone(),
            names: self.names.clone(),
            links: self.links.clone(),
            service: service.clone(),
            endpoint: endpoint.clone(),
            through: endpoint.peer.clone().zip(connection.cloned()),
        })
    }
}

impl Beside {
    /// Where the head of the request goes; `None` when the service has no such endpoint any more.
    pub(super) fn towards(&self) -> Option<Towards<'_>> {
        Some(Towards {
            service: &self.service,
            endpoint: &self.endpoint,
            state: ServiceState::known(&self.service)?.of(&self.service, &self.endpoint)?,
            http2: false,
        })
    }

    /// Adds what a node has to know, where the request goes through one. It has so long.
    pub(super) fn introduce(&self, head: &mut RequestHeader, longest: Duration) -> Result<()> {
        match &self.through {
            Some((peer, connection)) => meshed::introduce(head, peer, connection, Some(longest)),
            None => Ok(()),
        }
    }

    /// Sends the request and waits for the head of the final response. There is no limit of time here.
    pub(super) async fn ask(
        self,
        head: Box<RequestHeader>,
        body: Option<Body>,
    ) -> Result<(Box<Upstream>, Box<ResponseHeader>), Failed> {
        let upstream = match dial::idle(&self.pool, &self.service, &self.endpoint, MANNER) {
            Some(upstream) => upstream,
            None => match self.through {
                Some((peer, connection)) => {
                    let ends = [connection.client, connection.local];
                    dial::connect_to_node(self.pool, self.links, self.endpoint, peer, ends, MANNER).await?
                }
                None => dial::connect(self.pool, self.names, self.service, self.endpoint, MANNER).await?,
            },
        };
        let mut reached = attempt::ask(upstream, head, body.clone(), None).await;
        loop {
            match reached {
                Reached::Head(upstream, head) if is_interim(&head) => {
                    reached = attempt::wait(upstream, body.clone(), None).await;
                }
                Reached::Head(upstream, head) => return Ok((upstream, head)),
                Reached::Failed(failed) => return Err(failed),
            }
        }
    }
}
