//! Another service is asked who may pass, while the client waits: within limits of size and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use constellation_middleware::{Flow, ForwardAuth, Seen};
use http::{Method, header};
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use super::attempt::Upstream;
use super::body::Body;
use super::buffering::Gathered;
use super::chain::unfit_request;
use super::exchange::Exchange;
use super::forwarded::{self, Upgrade};
use super::meshed;
use super::outgoing;
use super::proxy::App;
use super::retry::Failure;
use super::upstream::ServiceState;

/// The time that asking may take, connecting included.
const LONGEST: Duration = Duration::from_secs(30);
/// Longest body of an answer, where the definition sets no limit.
const MOST: u64 = 4 << 20;
/// Most bytes of a request's body that are kept to go along, where the definition sets no limit.
const MOST_OF_BODY: u64 = 16 << 20;

/// What the service said: its answer, or that it said too much.
enum Said {
    Answer(Box<ResponseHeader>, Bytes),
    TooMuch,
}

impl App {
    /// Asks, and gives what follows.
    pub(super) async fn authorize<'m>(
        &self,
        auth: &'m ForwardAuth,
        session: &mut ServerSession,
        exchange: &mut Exchange,
        seen: &Seen<'_>,
    ) -> Result<Flow<'m>> {
        let mut question = auth.question(session.req_header(), seen).map_err(unfit_request)?;
        let mut body = None;
        if let Some(most) = auth.body() {
            match self
                .gather_body(session, exchange, most.min(MOST_OF_BODY))
                .await?
            {
                Gathered::Whole => body = exchange.gathered.clone(),
                Gathered::TooLong | Gathered::NoRoom => {
                    session.set_keepalive(None);
                    return Ok(auth.too_long());
                }
            }
            if let Some(body) = &body {
                question.insert_header(header::CONTENT_LENGTH, body.length())?;
            }
        }
        let waits = session.is_body_empty();
        let said = tokio::select! {
            biased;
            said = tokio::time::timeout(LONGEST, self.ask_authority(auth, &question, body)) => said,
            Err(error) = session.read_body_or_idle(true), if waits => return Err(error.into_down()),
        };
        match said {
            Ok(Ok(Said::Answer(head, body))) => auth
                .answered(&head, body, session.req_header_mut())
                .map_err(unfit_request),
            Ok(Ok(Said::TooMuch)) => Ok(auth.too_long()),
            Ok(Err(error)) => {
                tracing::debug!(%error, service = %auth.service().name, "who may pass can't be asked");
                Ok(auth.failed())
            }
            Err(_) => {
                tracing::debug!(service = %auth.service().name, "asking who may pass took too long");
                Ok(auth.failed())
            }
        }
    }

    async fn ask_authority(
        &self,
        auth: &ForwardAuth,
        question: &RequestHeader,
        body: Option<Body>,
    ) -> Result<Said> {
        let service = auth.service();
        let gone = || Error::explain(ErrorType::InternalError, "there is no endpoint").into_up();
        let endpoint = service.endpoints.first().ok_or_else(gone)?;
        // An idle connection may end just as it is used.
        let mut again = question.method == Method::GET || question.method == Method::HEAD;
        let (mut upstream, mut head) = loop {
            let beside = self.beside(service, endpoint, None).ok_or_else(gone)?;
            let towards = beside.towards().ok_or_else(gone)?;
            let head = outgoing::head_of(question, body.is_none(), false, Upgrade::None, towards)?;
            match beside.ask(head, body.clone()).await {
                Ok(reached) => break reached,
                Err(failed) => {
                    if !std::mem::take(&mut again) || failed.failure != (Failure::Broken { reused: true }) {
                        return Err(failed.error);
                    }
                }
            }
        };
        meshed::strip_response(&mut head);
        let end = upstream.begin_body(&head, &question.method)?;
        let limit = auth.most_of_answer();
        if head.status.is_success() && limit.is_none() {
            self.discard(upstream);
            return Ok(Said::Answer(head, Bytes::new()));
        }
        let body = match end {
            true => Bytes::new(),
            false => match read(&mut upstream, limit.unwrap_or(MOST).min(MOST)).await? {
                Some(body) => body,
                None if limit.is_some() => return Ok(Said::TooMuch),
                None => {
                    let error = format!("an answer of more than {MOST} bytes");
                    return Err(Error::explain(ErrorType::InternalError, error).into_up());
                }
            },
        };
        if let Some(state) = ServiceState::known(service).and_then(|known| known.of(service, endpoint)) {
            upstream.release(state.idle_for()).await;
        }
        forwarded::clean_response(&mut head);
        Ok(Said::Answer(head, body))
    }
}

/// The body of an answer; `None` when it is longer than that.
async fn read(upstream: &mut Upstream, most: u64) -> Result<Option<Bytes>> {
    let mut body = BytesMut::new();
    while let Some(chunk) = upstream.read(None).await? {
        body.extend_from_slice(&chunk.into_bytes());
        if body.len() as u64 > most {
            return Ok(None);
        }
        if upstream.look_for_end()? {
            break;
        }
    }
    upstream.end();
    Ok(Some(body.freeze()))
}
