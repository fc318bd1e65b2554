//! A connection of a member: calls come in, are answered beside each other, and the answers go out as they come.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use constellation_identity::NodeIdentity;
use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::{Handler, Shared};
use crate::counters::{Counters, Direction, Refused};
use crate::frame::{Expect, Header, Kind, Service};
use crate::hello::Purpose;
use crate::io::{Outgoing, ReadError, read_body, read_header, write_frame};
use crate::membership::{not_a_member, removed};

/// How long a handler may take. Callers have given up long before.
const HANDLER: Duration = Duration::from_secs(60);
/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// Calls of all services at a time.
const IN_FLIGHT: usize = Service::Raft.in_flight() + Service::Control.in_flight() + Service::Bulk.in_flight();

/// An answer on its way, with the place of its call, which is free once it is written.
type Answer = (Outgoing, OwnedSemaphorePermit);

/// Why a connection ended.
enum End {
    Stopped,
    NotAMember,
    Read(ReadError),
    Write(std::io::Error),
}

impl<H: Handler> Shared<H> {
    /// Until the other side closes it, breaks it, sends what it should not, is removed, or this node stops.
    pub(super) async fn serve_peer(
        &self,
        stream: TlsStream<TcpStream>,
        peer: NodeIdentity,
        from: SocketAddr,
        stop: &CancellationToken,
    ) {
        let (mut read, mut write) = tokio::io::split(stream);
        let admitted = self.members.borrow().admits(&peer);
        if !admitted {
            self.refuse(Refused::NotAMember, from);
            farewell(&mut write, Some(&peer)).await;
            return;
        }
        self.counters.accept(Purpose::Peer);
        let peer = Arc::new(peer);
        let mut calls = JoinSet::new();
        let within = AtomicBool::new(false);
        let end = {
            let (answers, queue) = mpsc::channel(IN_FLIGHT);
            tokio::select! {
                () = stop.cancelled() => End::Stopped,
                () = removed(&self.members, &peer) => End::NotAMember,
                error = self.read_calls(&mut read, &peer, answers, &mut calls) => End::Read(error),
                error = write_answers(&mut write, queue, &within, &self.counters) => End::Write(error),
            }
        };
        calls.shutdown().await;
        let node = &peer.node;
        match &end {
            End::Stopped => {}
            End::NotAMember => {
                self.counters.refuse(Refused::Removed);
                tracing::info!(%node, %from, "the connection of a node that was removed is cut");
            }
            End::Read(ReadError::Malformed(error)) => {
                self.counters.refuse(Refused::Malformed);
                if let Some(left_out) = self.known.pass(Instant::now()) {
                    tracing::warn!(%node, %from, %error, left_out, "a connection of another node is ended: what it sends are not the \
                         calls of this release");
                }
            }
            End::Read(ReadError::Closed) => tracing::debug!(%node, %from, "another node closed a connection"),
            End::Read(error) => tracing::debug!(%node, %from, %error, "a connection of another node broke"),
            End::Write(error) => tracing::debug!(%node, %from, %error, "a connection of another node broke"),
        }
        // In the middle of a frame nothing else can be said.
        if !within.load(Ordering::Relaxed) {
            let removed = matches!(end, End::NotAMember).then_some(&*peer);
            farewell(&mut write, removed).await;
        }
    }

    async fn read_calls<R: AsyncRead + Unpin>(
        &self,
        read: &mut R,
        peer: &Arc<NodeIdentity>,
        answers: mpsc::Sender<Answer>,
        calls: &mut JoinSet<()>,
    ) -> ReadError {
        let places = Service::ALL.map(|service| Arc::new(Semaphore::new(service.in_flight())));
        loop {
            match self.read_call(read, &places).await {
                Ok((header, body, place)) => {
                    let call = answer(
                        Arc::clone(&self.handler),
                        Arc::clone(peer),
                        header,
                        body,
                        place,
                        answers.clone(),
                    );
                    calls.spawn(call);
                }
                Err(error) => return error,
            }
            while calls.try_join_next().is_some() {}
        }
    }

    /// The next call. Its body is read once there is a place for it.
    async fn read_call<R: AsyncRead + Unpin>(
        &self,
        read: &mut R,
        places: &[Arc<Semaphore>; 3],
    ) -> Result<(Header, Vec<u8>, OwnedSemaphorePermit), ReadError> {
        let header = read_header(read, Expect::Requests).await?;
        let place = Arc::clone(&places[header.service.index()])
            .acquire_owned()
            .await
            .map_err(|_| ReadError::Closed)?;
        let body = read_body(read, &header).await?;
        self.counters.call(header.service, Direction::In);
        self.counters.frame(header.service, Direction::In, body.len());
        Ok((header, body, place))
    }
}

/// Has one call answered, whatever its handler does.
async fn answer<H: Handler>(
    handler: Arc<H>,
    peer: Arc<NodeIdentity>,
    header: Header,
    body: Vec<u8>,
    place: OwnedSemaphorePermit,
    answers: mpsc::Sender<Answer>,
) {
    let service = header.service;
    let node = &peer.node;
    let answered = AssertUnwindSafe(handler.answer(&peer, service, body)).catch_unwind();
    let answer = match timeout(HANDLER, answered).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => {
            tracing::error!(%node, ?service, "answering a call has panicked; it is dropped");
            None
        }
        Err(_) => {
            tracing::warn!(%node, ?service, "answering a call took more than {} s; it is dropped", HANDLER.as_secs());
            None
        }
    };
    let answer = answer.filter(|answer| {
        let (size, limit) = (answer.len(), service.answer_limit());
        if size > limit {
            tracing::error!(%node, ?service, size, limit, "an answer is too long; the call is dropped");
        }
        size <= limit
    });
    let frame = Outgoing {
        id: header.id,
        service,
        kind: if answer.is_some() {
            Kind::Answer
        } else {
            Kind::Dropped
        },
        body: answer.unwrap_or_default(),
    };
    if answers.send((frame, place)).await.is_err() {
        tracing::trace!(%node, "the connection ended before an answer");
    }
}

/// Writes answers as they come. `within` tells whether a frame is half written.
async fn write_answers<W: AsyncWrite + Unpin>(
    write: &mut W,
    mut queue: mpsc::Receiver<Answer>,
    within: &AtomicBool,
    counters: &Counters,
) -> std::io::Error {
    while let Some((frame, place)) = queue.recv().await {
        within.store(true, Ordering::Relaxed);
        if let Err(error) = write_frame(write, &frame).await {
            return error;
        }
        within.store(false, Ordering::Relaxed);
        counters.frame(frame.service, Direction::Out, frame.body.len());
        drop(place);
        if queue.is_empty()
            && let Err(error) = write.flush().await
        {
            return error;
        }
    }
    // The reader has a sender for as long as it runs, and its end is seen first.
    std::future::pending().await
}

/// Closes a connection; says why to somebody who is no member.
async fn farewell<W: AsyncWrite + Unpin>(write: &mut W, stranger: Option<&NodeIdentity>) {
    let words = async {
        if let Some(peer) = stranger {
            let body = not_a_member(&peer.node);
            let frame = Outgoing {
                id: 0,
                service: Service::Control,
                kind: Kind::Refused,
                body: body.into_bytes(),
            };
            write_frame(write, &frame).await?;
        }
        write.shutdown().await
    };
    // The connection is over, with or without them.
    if let Ok(Err(error)) = timeout(FAREWELL, words).await {
        tracing::trace!(%error, "a connection ended without a farewell");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use constellation_identity::{ClusterId, NodeIdentity, PublicKeyDigest};
    use tokio::sync::{Semaphore, mpsc};
    use tokio::time::Instant;

    use super::{HANDLER, Handler, Header, Kind, Service, answer};

    struct Bad;

    impl Handler for Bad {
        async fn answer(&self, _: &NodeIdentity, service: Service, body: Vec<u8>) -> Option<Vec<u8>> {
            match &*body {
                b"panic" => panic!("as it was told"),
                b"long" => Some(vec![0; service.answer_limit() + 1]),
                _ => std::future::pending().await,
            }
        }

        async fn join(&self, _: Vec<u8>) -> Option<Vec<u8>> {
            None
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_answered_whatever_its_handler_does() {
        let peer = Arc::new(NodeIdentity {
            cluster: ClusterId::from_bytes([1; 16]),
            node: "a".parse().unwrap(),
            public_key: PublicKeyDigest([2; 32]),
        });
        let header = Header {
            id: 7,
            service: Service::Control,
            kind: Kind::Request,
            length: 0,
        };
        let places = Arc::new(Semaphore::new(1));
        for body in ["panic", "long", "never"] {
            let (answers, mut queue) = mpsc::channel(1);
            let place = Arc::clone(&places).acquire_owned().await.unwrap();
            let started = Instant::now();
            let body_bytes = body.as_bytes().to_vec();
            answer(
                Arc::new(Bad),
                Arc::clone(&peer),
                header,
                body_bytes,
                place,
                answers,
            )
            .await;
            let (frame, place) = queue.recv().await.unwrap();
            assert_eq!(
                (frame.id, frame.kind, frame.body.len()),
                (7, Kind::Dropped, 0),
                "{body}"
            );
            assert_eq!(started.elapsed() >= HANDLER, body == "never");
            // It is free once the answer is written.
            assert_eq!(places.available_permits(), 0);
            drop(place);
            assert_eq!(places.available_permits(), 1);
        }
    }
}
