//! A connection of somebody who wants to join: one request, one answer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::{Handler, Shared};
use crate::counters::Refused;
use crate::frame::{Expect, JOIN_ANSWER_BYTES, Kind, Service};
use crate::hello::Purpose;
use crate::io::{Outgoing, ReadError, read_body, read_header, write_frame};

/// How long the request may take to come.
const REQUEST: Duration = Duration::from_secs(5);
/// How long all of it may take. The answer waits for the log and for a signature.
const ALL: Duration = Duration::from_secs(30);

impl<H: Handler> Shared<H> {
    pub(super) async fn serve_joiner(
        &self,
        stream: TlsStream<TcpStream>,
        from: SocketAddr,
        stop: &CancellationToken,
    ) {
        let served = tokio::select! {
            () = stop.cancelled() => return,
            served = timeout(ALL, self.answer_joiner(stream)) => served,
        };
        match served {
            Ok(Ok(())) => {}
            Ok(Err(ReadError::Malformed(error))) => {
                self.counters.refuse(Refused::Malformed);
                self.complain(|left_out| tracing::warn!(%from, %error, left_out, "not what a joiner sends"));
            }
            Ok(Err(error)) => tracing::debug!(%from, %error, "a joiner went away"),
            Err(_) => tracing::info!(%from, "a joiner was not answered within {} s", ALL.as_secs()),
        }
    }

    async fn answer_joiner(&self, mut stream: TlsStream<TcpStream>) -> Result<(), ReadError> {
        let request = async {
            let header = read_header(&mut stream, Expect::JoinRequest).await?;
            read_body(&mut stream, &header).await
        };
        let body = timeout(REQUEST, request)
            .await
            .unwrap_or(Err(ReadError::Stalled))?;
        self.counters.accept(Purpose::Join);
        let answer = self
            .handler
            .join(body)
            .await
            .filter(|answer| answer.len() <= JOIN_ANSWER_BYTES);
        let frame = Outgoing {
            id: 0,
            service: Service::Control,
            kind: if answer.is_some() {
                Kind::Answer
            } else {
                Kind::Dropped
            },
            body: answer.unwrap_or_default(),
        };
        write_frame(&mut stream, &frame).await?;
        match stream.shutdown().await {
            // The other side has what it wanted and may be gone.
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error.into()),
            _ => Ok(()),
        }
    }
}
