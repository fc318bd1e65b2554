//! From a checked request to a decision: forwarding headers, host and path, one question to the routing core.

use std::sync::Arc;

use constellation_table::{Candidates, Decision, RequestMeta, Router, Service, Turn, decide, host, path};
use constellation_table::{Step, Way};
use http::{Method, Version, header};
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::RequestHeader;

use super::answer::{self, Answer};
use super::connection::Connection;
use super::exchange::{Candidate, Exchange, Leg, Route};
use super::forwarded::{self, Upgrade};
use super::meshed;
use super::mirror::Copies;
use super::proxy::App;
use super::refusal::Refusal;
use super::retry::Repeatable;
use crate::Generation;

/// What is to be done with a request.
pub(super) enum Outcome {
    Answer(Answer),
    Refuse(Refusal),
    Forward,
}

/// What the wire checks say of HTTP/1 and the library of HTTP/2 leaves open.
pub(super) fn check_http2(request: &RequestHeader, max_headers: usize) -> Result<(), Refusal> {
    let headers = &request.headers;
    // The crumbs of one cookie header are one header (RFC 9113 section 8.2.3).
    let crumbs = headers.get_all(header::COOKIE).iter().count();
    if headers.len() - crumbs.saturating_sub(1) > max_headers {
        return Err(Refusal::TooManyHeaders);
    }
    if headers.get_all(header::CONTENT_LENGTH).iter().count() > 1 {
        return Err(Refusal::ContentLength);
    }
    Ok(())
}

impl App {
    /// Decides the request, changing its headers on the way.
    pub(super) fn route(&self, session: &mut ServerSession, exchange: &mut Exchange) -> Result<Outcome> {
        let Some(connection) = connection_of(session) else {
            return Err(Error::explain(
                ErrorType::InternalError,
                "a request without a connection",
            ));
        };
        if connection.node.is_some() {
            return self.route_from_node(session, exchange, &connection);
        }
        if connection.entry_point.by_service {
            return self.route_by_service(session, exchange, &connection);
        }
        exchange.connection = Some(connection.clone());
        let limits = connection.entry_point.limits;
        if connection.is_last_request() {
            session.set_keepalive(None);
        }
        exchange.upgrade = forwarded::asked_upgrade(session.req_header());
        // An upgraded connection may be silent for hours.
        session.set_read_timeout(limits.read_timeout.filter(|_| exchange.upgrade == Upgrade::None));
        session.set_write_timeout(limits.write_timeout);
        let request = session.req_header_mut();
        if request.version == Version::HTTP_2
            && let Err(refusal) = check_http2(request, limits.max_headers)
        {
            return Ok(Outcome::Refuse(refusal));
        }
        if let Err(refusal) = forwarded::apply_connection(request) {
            return Ok(Outcome::Refuse(refusal));
        }
        meshed::strip(request);
        forwarded::set(request, &connection, &self.server, exchange.upgrade)?;
        let generation = self.edge.published.load();
        let decided = self.decide(&generation, request, &connection, exchange);
        Ok(match decided {
            Ok((outcome, rewritten)) => {
                if let Some(target) = rewritten {
                    exchange.target = Some(String::from_utf8_lossy(request.raw_path()).into());
                    retarget(request, &target)?;
                }
                outcome
            }
            Err(refusal) => Outcome::Refuse(refusal),
        })
    }

    /// Asks the routing core. Also returns the target for the back end when it differs from what came.
    fn decide(
        &self,
        generation: &Generation,
        request: &RequestHeader,
        connection: &Connection,
        exchange: &mut Exchange,
    ) -> Result<(Outcome, Option<String>), Refusal> {
        if request.method == Method::CONNECT {
            return Err(Refusal::Connect);
        }
        let authority = answer::authority(request);
        let name = match authority {
            // HTTP/1.0 may leave it out; the wire checks saw to it that nobody else does.
            "" if request.version == Version::HTTP_10 => "".into(),
            authority => host::canonical(authority).map_err(|_| Refusal::HostInvalid)?,
        };
        let raw = request.uri.path();
        if raw == "*" {
            // The wire checks refuse it with other methods; this is for HTTP/2.
            return match request.method {
                Method::OPTIONS => Ok((Outcome::Answer(answer::OPTIONS), None)),
                _ => Err(Refusal::Target),
            };
        }
        let query = request.uri.query();
        let normal = path::normalise(raw).map_err(|_| Refusal::Path)?;
        let repeatable = Repeatable::of(request);
        let meta = RequestMeta {
            entry_point: connection.entry_point.id,
            tls: connection.tls.is_some(),
            method: request.method.as_str(),
            host: &name,
            path: &normal.routing,
            query: query.unwrap_or_default(),
            headers: &request.headers,
            client: connection.client.ip(),
            repeatable: repeatable.is(),
            now: exchange.started,
            turn: Turn::Take,
        };
        let target = || match query {
            Some(query) => format!("{}?{query}", normal.clean),
            None => normal.clean.clone().into_owned(),
        };
        let route = |router: &Arc<Router>, service: Option<&Arc<Service>>| {
            Some(Route {
                router: router.clone(),
                service: service.cloned(),
            })
        };
        // What the options ask of clients is asked of everybody whom the router serves.
        let misdirected = |router: &Router| {
            let wanted = || {
                generation
                    .tls
                    .options_name_of(meta.entry_point, &router.spec.name)
            };
            connection
                .tls
                .as_ref()
                .is_some_and(|tls| *tls.options != *wanted())
        };
        let outcome = match decide(&generation.table, &meta) {
            Decision::Forward { router, .. }
            | Decision::Unavailable { router, .. }
            | Decision::Redirect { router, .. }
                if misdirected(router) =>
            {
                return Err(Refusal::Misdirected);
            }
            Decision::Forward {
                router,
                service,
                candidates,
                via,
            } => {
                match via {
                    None => exchange.add_leg(service, candidates, Way::default()),
                    Some(via) => {
                        exchange.add_leg(service, candidates, via.way);
                        for leg in via.further {
                            exchange.add_leg(leg.service, leg.candidates, leg.way);
                        }
                        exchange.copies = Copies::of(via.mirrors, &self.edge.copied);
                    }
                }
                exchange.repeatable = repeatable.by(&service.policy);
                exchange.route = route(router, Some(service));
                Outcome::Forward
            }
            Decision::Unavailable { router, service, .. } => {
                exchange.route = route(router, Some(service));
                Outcome::Answer(answer::UNAVAILABLE.retry_after(service.retry_after))
            }
            Decision::Redirect { .. } if name.is_empty() => return Err(Refusal::HostMissing),
            Decision::Redirect { router, redirect } => {
                exchange.route = route(router, None);
                Outcome::Answer(Answer::redirect(redirect, &request.method, &name, &target()))
            }
            Decision::NoRoute => Outcome::Answer(answer::NO_ROUTE),
        };
        // An absolute target goes on in origin form.
        let changed = raw != normal.clean || !request.raw_path().starts_with(b"/");
        Ok((outcome, changed.then(target)))
    }
}

impl Exchange {
    pub(super) fn add_leg(&mut self, service: &Arc<Service>, candidates: Candidates<'_>, way: Way<'_>) {
        let leg = self.legs.len();
        let main = |step: Step<'_>| match step {
            Step::Failover {
                node,
                fallback: false,
            } if node.spec.errors.is_some() => Some(node.clone()),
            _ => None,
        };
        self.legs.push(Leg {
            service: service.clone(),
            carried: candidates.carried,
            cookies: way.cookies,
            failovers: way.steps.into_iter().filter_map(main).collect(),
        });
        let candidate = |candidate: constellation_table::Candidate<'_>| Candidate {
            leg,
            endpoint: candidate.endpoint.clone(),
            probe: candidate.probe,
            tried: false,
        };
        self.candidates
            .extend(candidates.order.into_iter().map(candidate));
    }
}

/// The connection a request came in on.
pub(super) fn connection_of(session: &ServerSession) -> Option<Arc<Connection>> {
    let handle = session.digest()?.proxy_digest.as_ref()?;
    handle
        .user_data
        .as_ref()?
        .downcast_ref::<Arc<Connection>>()
        .cloned()
}

/// Replaces path and query, keeping the authority of an HTTP/2 request.
pub(super) fn retarget(request: &mut RequestHeader, target: &str) -> Result<()> {
    if request.uri.authority().is_none() {
        return request.set_raw_path(target.as_bytes());
    }
    let mut parts = request.uri.clone().into_parts();
    let invalid =
        |_| Error::explain(ErrorType::InvalidHTTPHeader, "a path that can't be rewritten").into_down();
    parts.path_and_query = Some(target.parse().map_err(invalid)?);
    let uri = http::Uri::from_parts(parts).map_err(|_| {
        Error::explain(ErrorType::InvalidHTTPHeader, "a target that can't be rewritten").into_down()
    })?;
    request.set_uri(uri);
    Ok(())
}
