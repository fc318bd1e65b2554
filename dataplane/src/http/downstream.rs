//! The client's side of one request.

use bytes::Bytes;
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, Result};
use pingora_http::ResponseHeader;

use super::attempt::Chunk;

/// Sends the head of a response. `end`: nothing follows it.
pub(super) async fn send_head(
    session: &mut ServerSession,
    head: Box<ResponseHeader>,
    end: bool,
) -> Result<()> {
    match session {
        ServerSession::H2(h2) => h2.write_response_header(head, end),
        other => other.write_response_header(head).await,
    }
    .map_err(Error::into_down)
}

/// Sends a piece of a response body over HTTP/1; not its end.
pub(super) async fn send_chunk(session: &mut ServerSession, chunk: Chunk<'_>) -> Result<()> {
    match (session, chunk) {
        // An empty piece would be the end of a chunked body.
        (_, Chunk::Buffered([])) => Ok(()),
        (_, Chunk::Owned(data)) if data.is_empty() => Ok(()),
        (ServerSession::H1(h1), Chunk::Buffered(data)) => h1.write_body(data).await.map(|_| ()),
        (ServerSession::H1(h1), Chunk::Owned(data)) => h1.write_body(&data).await.map(|_| ()),
        (session, chunk) => return send_data(session, chunk.into_bytes(), false).await,
    }
    .map_err(Error::into_down)
}

/// Sends a piece of a response body. `end`: it is the last one.
pub(super) async fn send_data(session: &mut ServerSession, data: Bytes, end: bool) -> Result<()> {
    if data.is_empty() && !end {
        return Ok(());
    }
    session
        .write_response_body(data, end)
        .await
        .map_err(Error::into_down)
}

/// Whether a final response has begun.
pub(super) fn has_begun(session: &ServerSession) -> bool {
    session
        .response_written()
        .is_some_and(|head| !head.status.is_informational() || head.status.as_u16() == 101)
}
