//! Requests that a proxy in front of this node hands over, each with the name of its service in its path.
//!
//! What belongs to the client has been done by then: its headers say where it came from, rules were asked and middlewares
//! have run. So nothing is added here, and only the name is taken off. The service is served by its instances here or at
//! another node, which serves the request itself or refuses it: nothing ever goes back to the proxy in front.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use constellation_table::{RequestMeta, Turn, Way, decide_service, path};
use http::{HeaderName, HeaderValue, Method, Version};
use pingora_core::protocols::http::ServerSession;
use pingora_error::Result;

use super::answer;
use super::connection::Connection;
use super::exchange::Exchange;
use super::forwarded::{self, Upgrade};
use super::meshed;
use super::proxy::App;
use super::refusal::Refusal;
use super::retry::Repeatable;
use super::routing::{Outcome, check_http2, retarget};
use crate::named;

/// Who the client is, as the proxy in front says.
const CLIENT: HeaderName = HeaderName::from_static("x-real-ip");

impl App {
    /// Decides a request that names its service.
    pub(super) fn route_by_service(
        &self,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        over: &Arc<Connection>,
    ) -> Result<Outcome> {
        exchange.connection = Some(over.clone());
        let limits = over.entry_point.limits;
        exchange.upgrade = forwarded::asked_upgrade(session.req_header());
        session.set_read_timeout(limits.read_timeout.filter(|_| exchange.upgrade == Upgrade::None));
        session.set_write_timeout(limits.write_timeout);
        let request = session.req_header_mut();
        if request.version == Version::HTTP_2
            && let Err(refusal) = check_http2(request, limits.max_headers)
        {
            return Ok(Outcome::Refuse(refusal));
        }
        if request.method == Method::CONNECT {
            return Ok(Outcome::Refuse(Refusal::Connect));
        }
        if let Err(refusal) = forwarded::apply_connection(request) {
            return Ok(Outcome::Refuse(refusal));
        }
        meshed::strip(request);
        let connection = Arc::new(self.on_behalf(over, request.headers.get(CLIENT)));
        exchange.connection = Some(connection.clone());
        let Some((name, rest)) = named::split(request.uri.path()) else {
            return Ok(Outcome::Answer(answer::NO_ROUTE));
        };
        let rest = if rest.is_empty() { "/" } else { rest };
        let Ok(normal) = path::normalise(rest) else {
            return Ok(Outcome::Refuse(Refusal::Path));
        };
        let query = request.uri.query();
        let target = match query {
            Some(query) => format!("{}?{query}", normal.clean),
            None => normal.clean.clone().into_owned(),
        };
        let repeatable = Repeatable::of(request);
        let meta = RequestMeta {
            entry_point: connection.entry_point.id,
            tls: false,
            method: request.method.as_str(),
            host: "",
            path: &normal.routing,
            query: query.unwrap_or_default(),
            headers: &request.headers,
            client: connection.client.ip(),
            repeatable: repeatable.is(),
            now: exchange.started,
            turn: Turn::Take,
        };
        let generation = self.edge.published.load();
        let Some((service, candidates)) = decide_service(&generation.table, &name, &meta) else {
            // The proxy in front knows a service that is gone here, or not there yet.
            return Ok(Outcome::Answer(answer::UNAVAILABLE.retry_after(1)));
        };
        if candidates.order.is_empty() {
            return Ok(Outcome::Answer(
                answer::UNAVAILABLE.retry_after(service.retry_after),
            ));
        }
        exchange.repeatable = repeatable.by(&service.policy);
        exchange.add_leg(service, candidates, Way::default());
        exchange.target = Some(String::from_utf8_lossy(request.raw_path()).into());
        retarget(request, &target)?;
        Ok(Outcome::Forward)
    }

    /// The connection as that of the client, if the proxy in front says who that is.
    fn on_behalf(&self, over: &Arc<Connection>, client: Option<&HeaderValue>) -> Connection {
        let said = client.and_then(|value| value.to_str().ok()?.trim().parse::<IpAddr>().ok());
        let client = said.map_or(over.client, |ip| SocketAddr::new(ip, 0));
        let ip = client.ip().to_canonical();
        let tell = self
            .edge
            .settings
            .served_by_for
            .iter()
            .any(|network| network.contains(&ip));
        let mut connection = Connection::new(
            over.entry_point.clone(),
            over.peer,
            client,
            over.local,
            tell,
            over.closing.clone(),
        );
        connection.carrier = Some(over.clone());
        connection
    }
}
