//! Requests between nodes: what one says of them to another, and what follows from that there.
//!
//! The node that a client has connected to makes all decisions that belong to a client: forwarding headers, middlewares,
//! limits. It sends the request to the service at the other node, which chooses among its own instances and adds nothing;
//! so a back end sees what it would have seen from there.

use std::sync::Arc;
use std::time::Duration;

use constellation_table::{Endpoint, Peer, RequestMeta, Turn, Way, decide_here};
use http::HeaderValue;
use http::header::HOST;
use http::uri::Authority;
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use super::answer;
use super::attempt::Failed;
use super::connection::Connection;
use super::exchange::Exchange;
use super::forwarded;
use super::proxy::App;
use super::retry::{Failure, Repeatable};
use super::routing::Outcome;
use crate::mesh::Refused;
use crate::mesh::head::{self, Kind, Refusal, StreamHead};
use crate::metrics::{MeshDirection, MeshKind, MeshOutcome};

/// Removes what only nodes may say.
pub(super) fn strip(request: &mut RequestHeader) {
    let found: smallvec::SmallVec<[http::HeaderName; 4]> =
        head::reserved(&request.headers).cloned().collect();
    for name in found {
        request.remove_header(&name);
    }
}

/// Removes from a back end's response what only nodes may say.
pub(super) fn strip_response(response: &mut ResponseHeader) {
    let found: smallvec::SmallVec<[http::HeaderName; 4]> =
        head::reserved(&response.headers).cloned().collect();
    for name in found {
        response.remove_header(&name);
    }
}

/// Whether HTTP/2 can carry the request as it is. What it can't goes to a node by HTTP/1.1 in a tunnel.
pub(super) fn fits_http2(request: &RequestHeader) -> bool {
    let authority = answer::authority(request);
    request.raw_path_is_utf8()
        && request.raw_path().starts_with(b"/")
        && !authority.is_empty()
        && !authority.contains('@')
        && Authority::try_from(authority).is_ok()
}

/// Says to another node what it has to know of the request.
pub(super) fn introduce(
    request: &mut RequestHeader,
    peer: &Peer,
    connection: &Connection,
    deadline: Option<Duration>,
) -> Result<()> {
    let head = StreamHead {
        kind: Kind::Request((*peer.service).into()),
        client: connection.client,
        local: connection.local,
        deadline,
        tell: connection.tell_served_by,
    };
    let mut written = Ok(());
    head.write(|name, value| {
        if written.is_ok() {
            written = request.insert_header(name, value);
        }
    });
    written
}

/// What the answer of a node says when it has not taken the request.
pub(super) fn refusal_of(endpoint: &Endpoint, response: &ResponseHeader) -> Option<Failed> {
    endpoint.peer.as_ref()?;
    let refusal = Refusal::read(&response.headers)?;
    Some(failed(&Refused::Refusal(refusal)))
}

/// How an attempt fails that a node has not taken. Nothing was done for it.
pub(super) fn failed(refused: &Refused) -> Failed {
    let failure = match refused {
        // It is busy, or closing: that is no fault, and others may have room.
        Refused::Refusal(Refusal::Busy) => Failure::NotProcessed,
        Refused::Connect(_) | Refused::Refusal(_) => Failure::Connect { timed_out: false },
    };
    Failed {
        failure,
        error: Error::explain(ErrorType::ConnectError, refused.to_string()).into_up(),
    }
}

impl App {
    /// Decides a request that another node has sent: to instances of this node, or to none.
    pub(super) fn route_from_node(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        over: &Arc<Connection>,
    ) -> Result<Outcome> {
        let request = session.req_header_mut();
        let said = StreamHead::read(&request.headers);
        strip(request);
        let metrics = self.edge.metrics.mesh();
        let count = |outcome| metrics.stream(MeshDirection::In, MeshKind::Request, outcome);
        let mut refuse = |refusal: Refusal| {
            exchange.refusal = Some(refusal);
            exchange.connection = Some(over.clone());
            count(MeshOutcome::of(refusal));
            Ok(Outcome::Answer(answer::UNAVAILABLE.retry_after(1)))
        };
        let (name, said) = match said {
            Ok(StreamHead {
                kind: Kind::Request(service),
                client,
                local,
                deadline,
                tell,
            }) => (service, (client, local, deadline, tell)),
            Ok(_) => return refuse(Refusal::Malformed),
            Err(error) => {
                tracing::warn!(%error, "a request of another node can't be understood; are the versions of both nodes close?");
                return refuse(Refusal::Malformed);
            }
        };
        let (client, local, deadline, tell) = said;
        let closing = over.closing.clone();
        let mut connection =
            Connection::new(over.entry_point.clone(), over.peer, client, local, tell, closing);
        connection.node.clone_from(&over.node);
        connection.deadline = deadline.map(|deadline| exchange.started + deadline);
        let connection = Arc::new(connection);
        let upgrade = forwarded::asked_upgrade(session.req_header());
        session.set_read_timeout(None);
        let request = session.req_header();
        let repeatable = Repeatable::of(request);
        let meta = RequestMeta {
            entry_point: connection.entry_point.id,
            tls: false,
            method: request.method.as_str(),
            host: "",
            path: request.uri.path(),
            query: request.uri.query().unwrap_or_default(),
            headers: &request.headers,
            client: connection.client.ip(),
            repeatable: repeatable.is(),
            now: exchange.started,
            turn: Turn::Take,
        };
        let generation = self.edge.published.load();
        let Some((service, candidates)) = decide_here(&generation.table, &name, &meta) else {
            return refuse(Refusal::NoInstance);
        };
        if candidates.order.is_empty() {
            return refuse(Refusal::NoInstance);
        }
        count(MeshOutcome::Taken);
        exchange.connection = Some(connection);
        exchange.upgrade = upgrade;
        exchange.repeatable = repeatable.by(&service.policy);
        exchange.add_leg(service, candidates, Way::default());
        Ok(Outcome::Forward)
    }
}

/// The host of a request that names none: HTTP/1.1 must have the field.
pub(super) fn no_host(request: &mut RequestHeader) -> Result<()> {
    match request.headers.contains_key(HOST) {
        true => Ok(()),
        false => request.insert_header(HOST, HeaderValue::from_static("")),
    }
}
