//! What is known of one request while it lasts: its route, its candidates, its figures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use constellation_middleware::{Later, Retrying};
use constellation_table::Failover;
use constellation_table::{Carried, Endpoint, EntryPointId, Probe, Router, Service};
use http::{HeaderValue, Method, header};
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use smallvec::SmallVec;

use super::Edge;
use super::body::Body;
use super::buffering::Held;
use super::chain::Transforms;
use super::connection::Connection;
use super::forwarded::{self, Upgrade};
use super::mirror::Copies;
use super::runtime::ServiceRuntime;
use super::upstream::{EndpointState, ServiceState};
use crate::access_log::AttemptLine;
use crate::mesh::head::Refusal as MeshRefusal;
use crate::metrics::{InFlight, RouteMetrics, RouterMetrics};

/// What is known of one request while it lasts.
pub(crate) struct Exchange {
    pub(super) started: Instant,
    pub(super) connection: Option<Arc<Connection>>,
    pub(super) route: Option<Route>,
    /// The services that may take it, in that order.
    pub(super) legs: SmallVec<[Leg; 1]>,
    pub(super) candidates: SmallVec<[Candidate; 4]>,
    /// Where copies of it go.
    pub(super) copies: Option<Box<Copies>>,
    /// Which candidate answered, or was asked last.
    pub(super) candidate: usize,
    pub(super) attempts: usize,
    /// The request body received so far.
    pub(super) body: u64,
    pub(super) upgrade: Upgrade,
    /// Whether doing the request twice has the effect of doing it once.
    pub(super) repeatable: bool,
    pub(super) running: Option<InFlight>,
    /// The target as received, when it was rewritten.
    pub(super) target: Option<Box<str>>,
    /// How long back ends were busy with it, all attempts together.
    pub(super) origin_duration: Duration,
    pub(super) origin_status: Option<u16>,
    pub(super) origin_bytes: u64,
    /// An endpoint may have done something for it.
    pub(super) reached: bool,
    /// Why nothing was done for it, for the node that has sent it.
    pub(super) refusal: Option<MeshRefusal>,
    /// The attempts that ended, once one has failed.
    pub(super) lines: SmallVec<[AttemptLine; 2]>,
    /// Whose request it is, as far as a middleware found out.
    pub(super) user: Option<Box<str>>,
    /// What middlewares do when the response comes, in the order in which they saw the request.
    pub(super) later: Vec<Later>,
    /// What the request's body goes through on its way to the service.
    pub(super) incoming: Transforms,
    /// Bodies are taken whole before they go on.
    pub(super) held: Option<Held>,
    /// The method of the request, where that is asked for when an attempt is over.
    pub(super) method: Method,
    /// The request's body, once it was taken whole.
    pub(super) gathered: Option<Body>,
    /// Middlewares that ask for more attempts, the outermost first.
    pub(super) retrying: SmallVec<[Arc<Retrying>; 1]>,
}

/// A service that may take the request.
pub(super) struct Leg {
    pub(super) service: Arc<Service>,
    /// What the service's sticky cookie says.
    pub(super) carried: Carried,
    /// Cookies to be set when it answers, by the kinds of services on the way to it.
    pub(super) cookies: SmallVec<[HeaderValue; 1]>,
    /// Where it is the main one; some answers are left to the next leg.
    pub(super) failovers: SmallVec<[Arc<Failover>; 1]>,
}

impl Leg {
    /// Whether an answer with this status is left to the next leg.
    pub(super) fn moves_on(&self, status: u16) -> bool {
        let errors =
            |failover: &Arc<Failover>| failover.spec.errors.as_ref().is_some_and(|e| e.covers(status));
        self.failovers.iter().any(errors)
    }
}

/// An endpoint that may be asked.
pub(super) struct Candidate {
    /// The number of its service's leg.
    pub(super) leg: usize,
    pub(super) endpoint: Arc<Endpoint>,
    /// The request is the probe of this endpoint.
    pub(super) probe: Option<Probe>,
    pub(super) tried: bool,
}

/// The route a request took.
pub(super) struct Route {
    pub(super) router: Arc<Router>,
    /// None when the router answers by itself.
    pub(super) service: Option<Arc<Service>>,
}

impl Route {
    /// The counters of the router, looked up on its first request.
    pub(super) fn metrics(&self, edge: &Edge, entry_point: EntryPointId) -> Option<&RouteMetrics> {
        let metrics: &RouterMetrics = self
            .router
            .slot
            .get_or_init(|| edge.metrics.router(&self.router))?;
        metrics.on(entry_point)
    }
}

/// A body that is not what its head says.
fn unreadable(error: Box<Error>) -> Box<Error> {
    Error::because(
        ErrorType::HTTPStatus(400),
        "the request body can't be read",
        error,
    )
    .into_down()
}

impl Exchange {
    /// A request of which nothing is known yet.
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            connection: None,
            route: None,
            legs: SmallVec::new(),
            candidates: SmallVec::new(),
            copies: None,
            candidate: 0,
            attempts: 0,
            body: 0,
            upgrade: Upgrade::None,
            repeatable: false,
            running: None,
            target: None,
            origin_duration: Duration::ZERO,
            origin_status: None,
            origin_bytes: 0,
            reached: false,
            refusal: None,
            lines: SmallVec::new(),
            user: None,
            later: Vec::new(),
            incoming: Transforms::default(),
            held: None,
            method: Method::GET,
            gathered: None,
            retrying: SmallVec::new(),
        }
    }

    /// Why nothing was done for it, where another node has sent it.
    pub(super) fn refusal_to_node(&self) -> Option<MeshRefusal> {
        let from_node = self.connection.as_ref()?.node.is_some();
        self.refusal.filter(|_| from_node)
    }

    /// The service of the candidate that answered, or was asked last; of the route, when none was.
    pub(super) fn service(&self) -> Option<&Arc<Service>> {
        self.leg_of(self.candidate)
            .map(|leg| &leg.service)
            .or_else(|| self.route.as_ref()?.service.as_ref())
    }

    /// Adds the client to `X-Forwarded-For`, where the client itself has sent the request and no middleware hides it, and takes
    /// away an upgrade that is none. Neither rules nor middlewares see that.
    pub(super) fn settle_headers(&self, request: &mut RequestHeader) -> Result<()> {
        forwarded::keep_upgrade(request, self.upgrade);
        let hidden = self.later.iter().any(Later::hides_client);
        match &self.connection {
            // Whoever has handed it over has done that.
            Some(connection) if connection.node.is_none() && !connection.entry_point.by_service => {
                if hidden && !forwarded::tells_of_client(request) {
                    return Ok(());
                }
                forwarded::append_for(request, connection)
            }
            _ => Ok(()),
        }
    }

    /// The leg of a candidate.
    pub(super) fn leg_of(&self, candidate: usize) -> Option<&Leg> {
        self.legs.get(self.candidates.get(candidate)?.leg)
    }

    /// Most bytes of the request body that are kept.
    pub(super) fn replay_bytes(&self) -> u64 {
        let failovers = self.legs.iter().flat_map(|leg| &leg.failovers);
        let asked = failovers.filter_map(|failover| failover.spec.errors.as_ref()?.max_request_body_bytes);
        let kept = self
            .service()
            .map_or(0, |service| service.policy.retry.replay_bytes);
        let by_middleware = self
            .retrying
            .iter()
            .filter_map(|retrying| retrying.max_body)
            .max();
        asked.chain([by_middleware.unwrap_or(kept)]).max().unwrap_or(0)
    }

    /// Takes in what was read of the request body. Whether that was all.
    pub(super) fn take_in(
        &mut self,
        data: Option<Bytes>,
        session: &mut ServerSession,
        body: &Body,
    ) -> Result<bool> {
        let end = data.is_none() || session.is_body_done();
        if let Some(data) = data {
            self.body += data.len() as u64;
            if self.body_is_too_large() {
                let error = Error::explain(ErrorType::HTTPStatus(413), "the request body is too large");
                return Err(error.into_down());
            }
            let data = match self.incoming.is_empty() {
                true => data,
                false => self.incoming.push(data).map_err(unreadable)?,
            };
            if let Some(copies) = &mut self.copies {
                copies.push(&data);
            }
            body.push(data);
        }
        if end {
            if !self.incoming.is_empty() {
                body.push(self.incoming.finish(&mut None).map_err(unreadable)?);
            }
            body.finish();
        }
        Ok(end)
    }

    /// The last piece of the response is about to go out: whoever gets it may come again at once, and finds the places free
    /// that middlewares gave to this request.
    pub(super) fn give_places_back(&mut self) {
        if !self.later.is_empty() {
            self.later.retain(|later| !matches!(later, Later::Place(_)));
        }
    }

    /// Whether the request announces a body that its service doesn't take. The wire checks ask for the entry point.
    pub(super) fn announces_too_much(&self, request: &RequestHeader) -> bool {
        let limit = self.service().and_then(|s| s.policy.limits.max_body_bytes);
        let announced = || {
            request
                .headers
                .get(header::CONTENT_LENGTH)?
                .to_str()
                .ok()?
                .parse()
                .ok()
        };
        let announced: Option<u64> = limit.and_then(|_| announced());
        limit
            .zip(announced)
            .is_some_and(|(limit, announced)| announced > limit)
    }

    /// Whether more came of the request body than is allowed.
    fn body_is_too_large(&self) -> bool {
        let entry_point = self
            .connection
            .as_ref()
            .and_then(|c| c.entry_point.limits.max_body_bytes);
        let service = self.service().and_then(|s| s.policy.limits.max_body_bytes);
        let limit = [entry_point, service].into_iter().flatten().min();
        self.upgrade == Upgrade::None && limit.is_some_and(|limit| self.body > limit)
    }

    /// Makes sure that what hangs on the service is there.
    pub(super) fn prepare(edge: &Edge, service: &Service) -> Option<Arc<ServiceRuntime>> {
        service
            .slot
            .get_or_init(|| ServiceState::new(service, &edge.metrics))?;
        super::runtime_of(edge, service)
    }

    /// The endpoint that answered, or was asked last.
    pub(super) fn endpoint(&self) -> Option<(&Arc<Endpoint>, &EndpointState)> {
        let endpoint = &self.candidates.get(self.candidate)?.endpoint;
        let service = self.service()?;
        let state = ServiceState::known(service)?.of(service, endpoint)?;
        Some((endpoint, state))
    }
}
