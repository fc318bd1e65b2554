//! One endpoint as its checks see it: what is asked, where, and whom the connection trusts.

use std::sync::Arc;

use bytes::Bytes;
use constellation_table::policy::{CheckMode, HealthCheck};
use constellation_table::{Endpoint, Scheme, Service, Transport};
use http::{HeaderMap, Method, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::timeout_at;

use super::answer::Rest;
use super::connection::{Connection, Deadline, Net, Place, Route};
use super::failure::{Failure, shown};
use super::{grpc, tcp, web};
use crate::http::Trust;
use crate::l4::secure::{self, Tls};
use crate::metrics::CheckOutcome;

/// What an endpoint is asked.
pub(super) struct Target {
    pub(super) check: HealthCheck,
    /// Where the first request goes to.
    pub(super) origin: Place,
    pub(super) transport: Arc<Transport>,
    /// `Err` says why the transport can't be used.
    trust: Arc<Result<Trust, Arc<str>>>,
    /// What TCP checks of endpoints with TLS speak: the TLS of their streams.
    pub(super) tls: Option<Result<Tls, Arc<str>>>,
}

/// A request to one place.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) place: Place,
    /// `Host` or `:authority`.
    pub(super) authority: String,
    /// Path and query.
    pub(super) path: String,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Target {
    pub(super) fn new(
        service: &Service,
        endpoint: &Endpoint,
        check: &HealthCheck,
        trust: Arc<Result<Trust, Arc<str>>>,
    ) -> Self {
        let origin = origin(endpoint, check);
        let transport = service.transport.clone();
        let over_tls = check.mode == CheckMode::Tcp && origin.scheme == Scheme::Tls;
        let tls = || Tls::new(&transport, secure::client_config(&transport)?, &origin.host);
        Self {
            check: check.clone(),
            tls: over_tls.then(tls),
            origin,
            transport,
            trust,
        }
    }

    /// Whether this is what the endpoint is to be asked.
    pub(super) fn asks(&self, service: &Service, endpoint: &Endpoint, check: &HealthCheck) -> bool {
        self.check == *check
            && self.origin == origin(endpoint, check)
            && (Arc::ptr_eq(&self.transport, &service.transport) || self.transport == service.transport)
    }

    /// Asks once. `kept` is the connection of the last check, and then the one for the next.
    ///
    /// Cancel safe: a check that is dropped loses its connection and nothing else.
    pub(super) async fn ask(
        &self,
        kept: &mut Option<Connection>,
        net: &Net,
    ) -> (Result<(), Failure>, Option<Rest>) {
        let deadline = Deadline::new(self.check.timeout);
        let asking = async {
            match self.check.mode {
                CheckMode::Http => web::ask(self, kept, net, deadline).await,
                CheckMode::Grpc => (grpc::ask(self, kept, net, deadline).await, None),
                CheckMode::Tcp => (tcp::ask(self, net, deadline).await, None),
            }
        };
        // The steps keep to the deadline themselves and say what they waited for; this is for what lies between them.
        timeout_at(deadline.at, asking)
            .await
            .unwrap_or_else(|_| (Err(Failure::no_answer(deadline.limit)), None))
    }

    /// `Host` of the first request.
    pub(super) fn authority(&self) -> String {
        match &self.check.hostname {
            Some(hostname) => hostname.to_string(),
            None => self.origin.authority(),
        }
    }

    /// Sends a request over `slot`, or over a new connection that stays there.
    pub(super) async fn send(
        &self,
        ask: &Ask,
        slot: &mut Option<Connection>,
        net: &Net,
        deadline: Deadline,
    ) -> Result<Response<Incoming>, Failure> {
        if let Some(mut connection) = slot.take().filter(|kept| kept.place == ask.place)
            && connection.ready().await
        {
            match connection.send(ask.request(connection.is_h2())?, deadline).await {
                Ok(answer) => {
                    *slot = Some(connection);
                    return Ok(answer);
                }
                Err(failure) if failure.outcome == CheckOutcome::Timeout => return Err(failure),
                // The back end may have closed it while it was idle: a new one tells.
                Err(_) => {}
            }
        }
        let route = self.route(&ask.place)?;
        let mut connection = Connection::open(&route, net, deadline).await?;
        let answer = connection
            .send(ask.request(connection.is_h2())?, deadline)
            .await?;
        *slot = Some(connection);
        Ok(answer)
    }

    /// How a place is reached.
    pub(super) fn route<'a>(&'a self, place: &'a Place) -> Result<Route<'a>, Failure> {
        let trust = self.trust.as_ref().as_ref();
        Ok(Route {
            place,
            transport: &self.transport,
            trust: trust.map_err(|why| Failure::settings(why))?,
            h2_only: self.check.mode == CheckMode::Grpc,
            known: place.host == self.origin.host,
        })
    }
}

/// Whether an endpoint can be checked so. What speaks UDP says nothing about itself, but another port of it may.
pub(super) fn can_be_checked(endpoint: &Endpoint, check: &HealthCheck) -> bool {
    endpoint.scheme != Scheme::Udp || (check.mode == CheckMode::Tcp && check.port.is_some())
}

/// Where the first request goes to.
fn origin(endpoint: &Endpoint, check: &HealthCheck) -> Place {
    let scheme = match (check.mode, check.scheme.unwrap_or(endpoint.scheme)) {
        // gRPC in clear text is HTTP/2 with prior knowledge.
        (CheckMode::Grpc, Scheme::Http) => Scheme::H2c,
        (_, scheme) => scheme,
    };
    Place {
        scheme,
        host: endpoint.host.clone(),
        port: check.port.unwrap_or(endpoint.port),
    }
}

impl Ask {
    /// The request as HTTP/1 or HTTP/2 wants it.
    fn request(&self, h2: bool) -> Result<Request<Full<Bytes>>, Failure> {
        let settings = |what: &str| {
            let reason = format!(
                "the health check can't be asked: {} is no {what}",
                shown(&self.authority)
            );
            Failure::new(CheckOutcome::Settings, reason)
        };
        let uri = match h2 {
            true => Uri::builder()
                .scheme(self.place.scheme_name())
                .authority(self.authority.as_str())
                .path_and_query(self.path.as_str())
                .build(),
            false => Uri::builder().path_and_query(self.path.as_str()).build(),
        };
        let uri = uri.map_err(|_| {
            let reason = format!(
                "the health check can't be asked: {} at the host {} is no request target",
                shown(&self.path),
                shown(&self.authority)
            );
            Failure::new(CheckOutcome::Settings, reason)
        })?;
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        let headers = request.headers_mut();
        for ours in [
            header::HOST,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::CONNECTION,
        ] {
            headers.remove(ours);
        }
        if [Method::POST, Method::PUT, Method::PATCH].contains(&self.method) {
            headers.insert(header::CONTENT_LENGTH, self.body.len().into());
        }
        if !h2 {
            let host = self.authority.parse().map_err(|_| settings("host"))?;
            headers.insert(header::HOST, host);
        }
        Ok(request)
    }
}
