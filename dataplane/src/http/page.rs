//! Pages in the place of errors: fetched from another service while the client waits, within limits of size and time.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use constellation_middleware::{Answer, Page};
use constellation_table::{Endpoint, RequestMeta, Service, Turn, decide_target, host};
use http::{Method, header};
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use super::answer::{self, Own};
use super::body::Share;
use super::exchange::Exchange;
use super::forwarded::{self, Upgrade};
use super::meshed;
use super::outgoing;
use super::proxy::App;
use super::routing::retarget;
use super::upstream::ServiceState;

/// Longest page.
const MOST: usize = 4 << 20;
/// The time that fetching one may take, all attempts together.
const LONGEST: Duration = Duration::from_secs(10);
/// Endpoints that are asked for one page.
const ATTEMPTS: usize = 3;

/// What belongs to the client's request and not to a GET without a body.
const OF_THE_REQUEST: [header::HeaderName; 3] =
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::EXPECT];

impl App {
    /// The page, with the status that it is to have. Where it can't be had, that status and a few words.
    pub(super) async fn fetch(
        &self,
        session: &mut ServerSession,
        exchange: &Exchange,
        page: &Page,
    ) -> Result<Own> {
        let fetching = tokio::time::timeout(LONGEST, self.page(session.req_header(), exchange, page));
        let mut own = match fetching.await {
            Ok(Ok(Some(own))) => own,
            Ok(Ok(None)) => answer::UNAVAILABLE.clone().into_own()?,
            Ok(Err(error)) => {
                tracing::debug!(%error, target = page.target, "a page can't be had");
                unavailable()?
            }
            Err(_) => {
                tracing::debug!(target = page.target, "a page took too long");
                unavailable()?
            }
        };
        own.head.set_status(page.status)?;
        Ok(own)
    }

    /// `None`: nobody can serve it.
    async fn page(&self, client: &RequestHeader, exchange: &Exchange, page: &Page) -> Result<Option<Own>> {
        let mut request = client.clone();
        for name in page.hidden(&client.headers).iter().chain(&OF_THE_REQUEST) {
            request.remove_header(name);
        }
        request.set_method(Method::GET);
        retarget(&mut request, &page.target)?;
        let mut failure = None;
        for (service, endpoint) in candidates(&request, exchange, page) {
            match self.page_of(&request, exchange, &service, &endpoint).await {
                Ok(own) => return Ok(Some(own)),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    async fn page_of(
        &self,
        request: &RequestHeader,
        exchange: &Exchange,
        service: &Arc<Service>,
        endpoint: &Arc<Endpoint>,
    ) -> Result<Own> {
        let gone = || Error::explain(ErrorType::InternalError, "the endpoint is gone").into_up();
        let beside = self
            .beside(service, endpoint, exchange.connection.as_ref())
            .ok_or_else(gone)?;
        let towards = beside.towards().ok_or_else(gone)?;
        let from_http2 = request.version == http::Version::HTTP_2;
        let mut head = outgoing::head_of(request, true, from_http2, Upgrade::None, towards)?;
        beside.introduce(&mut head, LONGEST)?;
        let (mut upstream, mut head) = beside.ask(head, None).await.map_err(|failed| failed.error)?;
        if let Some(refused) = meshed::refusal_of(endpoint, &head) {
            return Err(refused.error);
        }
        let mut body = BytesMut::new();
        let mut room = Share::of(&self.edge.kept);
        if !upstream.begin_body(&head, &Method::GET)? {
            while let Some(chunk) = upstream.read(None).await? {
                let chunk = chunk.into_bytes();
                body.extend_from_slice(&chunk);
                if body.len() > MOST || !room.take(chunk.len() as u64) {
                    let error = "the page is too long, or there is no room for it";
                    return Err(Error::explain(ErrorType::InternalError, error).into_up());
                }
                if upstream.look_for_end()? {
                    break;
                }
            }
            upstream.end();
        }
        if let Some(state) = ServiceState::known(service).and_then(|known| known.of(service, endpoint)) {
            upstream.release(state.idle_for()).await;
        }
        clean(&mut head)?;
        head.set_content_length(body.len())?;
        Ok(Own {
            head: *head,
            body: body.freeze(),
            close: false,
            _room: Some(room),
        })
    }
}

/// Whom to ask, in this order.
fn candidates(
    request: &RequestHeader,
    exchange: &Exchange,
    page: &Page,
) -> Vec<(Arc<Service>, Arc<Endpoint>)> {
    let Some(connection) = &exchange.connection else {
        return Vec::new();
    };
    let name = host::canonical(answer::authority(request)).unwrap_or_default();
    let meta = RequestMeta {
        entry_point: connection.entry_point.id,
        tls: connection.tls.is_some(),
        method: "GET",
        host: &name,
        path: request.uri.path(),
        query: request.uri.query().unwrap_or_default(),
        headers: &request.headers,
        client: connection.client.ip(),
        repeatable: true,
        now: std::time::Instant::now(),
        turn: Turn::Take,
    };
    let choice = decide_target(&page.service, &meta);
    let first = (choice.service, choice.candidates);
    let further = choice.via.into_iter().flat_map(|via| via.further);
    let legs = std::iter::once(first).chain(further.map(|leg| (leg.service, leg.candidates)));
    let endpoints = legs.flat_map(|(service, candidates)| {
        let order = candidates.order.into_iter();
        order.map(move |candidate| (service.clone(), candidate.endpoint.clone()))
    });
    endpoints.take(ATTEMPTS).collect()
}

/// What no client may see, or is said anew.
fn clean(head: &mut ResponseHeader) -> Result<()> {
    meshed::strip_response(head);
    forwarded::clean_response(head);
    head.set_version(http::Version::HTTP_11);
    head.set_reason_phrase(None)?;
    for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::TRAILER] {
        head.remove_header(&name);
    }
    Ok(())
}

fn unavailable() -> Result<Own> {
    Own::of_middleware(Answer::plain(502, "Bad Gateway"))
}
