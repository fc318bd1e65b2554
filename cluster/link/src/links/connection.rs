//! One open connection: calls go out with a number, answers come back in any order, and the end tells all that wait.
//!
//! A call that nobody waits for any more keeps its place until its answer comes, as the other side works on it still. So
//! neither side can have more on its hands than [`Service::in_flight`] says.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use constellation_identity::tls::Credentials;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::counters::{Counters, Direction};
use crate::error::{LinkError, of_tls};
use crate::frame::{Expect, Kind, Service};
use crate::io::{Outgoing, ReadError, read_body, read_header, write_frame};

/// A connection that carried nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(120);
/// How long the farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// One connection, for those who call.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Outgoing>,
}

/// The other end of it: what the task that owns the stream has.
pub(super) struct Served {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Outgoing>,
}

#[derive(Debug)]
struct Shared {
    peer: String,
    credentials: Arc<Credentials>,
    places: [Arc<Semaphore>; 3],
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    last: u32,
    waiting: HashMap<u32, Waiting>,
    /// When something was asked or answered.
    used: Option<Instant>,
    /// Whether anything was answered.
    fruitful: bool,
    ended: Option<End>,
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) at: Instant,
    pub(super) error: LinkError,
    /// Nothing was answered on it, as where somebody refuses after the handshake.
    pub(super) fruitless: bool,
}

impl End {
    /// What it means for a call that was not sent.
    pub(super) fn unsent(self) -> LinkError {
        match self.error {
            LinkError::NoAnswer { peer, detail } => LinkError::Unreachable { peer, detail },
            other => other,
        }
    }
}

#[derive(Debug)]
struct Waiting {
    service: Service,
    answer: oneshot::Sender<Result<Vec<u8>, LinkError>>,
    _place: OwnedSemaphorePermit,
}

impl Calls {
    fn end(&mut self, error: &LinkError) {
        let fruitless = !self.fruitful;
        self.ended.get_or_insert_with(|| End {
            at: Instant::now(),
            error: error.clone(),
            fruitless,
        });
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn no_answer(&self, detail: impl Into<String>) -> LinkError {
        LinkError::NoAnswer {
            peer: self.peer.clone(),
            detail: detail.into(),
        }
    }

    /// Tells all that wait, and whoever comes later.
    fn end(&self, error: &LinkError) {
        let waiting = {
            let mut calls = self.lock();
            calls.end(error);
            std::mem::take(&mut calls.waiting)
        };
        for (_, waiting) in waiting {
            // Who does not wait any more misses nothing.
            drop(waiting.answer.send(Err(error.clone())));
        }
    }
}

impl Connection {
    pub(super) fn new(peer: String, credentials: Arc<Credentials>) -> (Self, Served) {
        let shared = Arc::new(Shared {
            peer,
            credentials,
            places: Service::ALL.map(|service| Arc::new(Semaphore::new(service.in_flight()))),
            calls: Mutex::default(),
        });
        // There is room for as many as have a place.
        let places = Service::ALL.iter().map(|service| service.in_flight()).sum();
        let (sender, queue) = mpsc::channel(places);
        let served = Served {
            shared: Arc::clone(&shared),
            queue,
        };
        (
            Self {
                shared,
                queue: sender,
            },
            served,
        )
    }

    /// Whether it was opened with these.
    pub(super) fn is_of(&self, credentials: &Arc<Credentials>) -> bool {
        Arc::ptr_eq(&self.shared.credentials, credentials)
    }

    /// When it ended and why, if it has.
    pub(super) fn ended(&self) -> Option<End> {
        self.shared.lock().ended.clone()
    }

    /// One call. May be dropped.
    pub(super) async fn call(&self, service: Service, body: Vec<u8>) -> Result<Vec<u8>, LinkError> {
        let gone = || self.shared.no_answer("the connection has ended");
        let place = Arc::clone(&self.shared.places[service.index()])
            .acquire_owned()
            .await
            .map_err(|_| gone())?;
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut calls = self.shared.lock();
            if let Some(end) = &calls.ended {
                return Err(end.clone().unsent());
            }
            // A number is free again long before it comes around.
            calls.last = calls.last.wrapping_add(1);
            let id = calls.last;
            calls.used = Some(Instant::now());
            let waiting = Waiting {
                service,
                answer,
                _place: place,
            };
            calls.waiting.insert(id, waiting);
            id
        };
        let frame = Outgoing {
            id,
            service,
            kind: Kind::Request,
            body,
        };
        self.queue.send(frame).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Served {
    /// Until the other side closes it, it breaks, its node is removed, nobody uses it, or this node stops.
    pub(super) async fn serve(
        self,
        stream: TlsStream<TcpStream>,
        removed: impl Future<Output = String>,
        counters: &Counters,
        stop: &CancellationToken,
    ) {
        let Self { shared, mut queue } = self;
        let (mut read, mut write) = tokio::io::split(stream);
        let error = tokio::select! {
            () = stop.cancelled() => LinkError::Stopped,
            reason = removed => LinkError::Refused {
                peer: shared.peer.clone(),
                reason,
            },
            () = idle(&shared) => shared.no_answer("the connection was closed, as it was not used"),
            error = read_answers(&shared, &mut read, counters) => error,
            error = write_calls(&shared, &mut write, &mut queue, counters) => error,
        };
        tracing::debug!(peer = shared.peer, %error, "a connection to another node ended");
        shared.end(&error);
        drop(queue);
        // It is over, with or without it.
        if let Ok(Err(error)) = timeout(FAREWELL, write.shutdown()).await {
            tracing::trace!(%error, "a connection ended without a farewell");
        }
    }
}

/// Returns when nothing was asked and nothing waits for long; from then on nothing is.
async fn idle(shared: &Shared) {
    let opened = Instant::now();
    loop {
        let left = {
            let mut calls = shared.lock();
            let since = calls.used.unwrap_or(opened).elapsed();
            match IDLE.checked_sub(since) {
                Some(left) if !left.is_zero() => left,
                _ if !calls.waiting.is_empty() => IDLE,
                _ => {
                    let error = shared.no_answer("the connection was closed, as it was not used");
                    calls.end(&error);
                    return;
                }
            }
        };
        sleep(left).await;
    }
}

async fn read_answers<R: AsyncRead + Unpin>(shared: &Shared, read: &mut R, counters: &Counters) -> LinkError {
    loop {
        if let Err(error) = read_answer(shared, read, counters).await {
            return error;
        }
    }
}

async fn read_answer<R: AsyncRead + Unpin>(
    shared: &Shared,
    read: &mut R,
    counters: &Counters,
) -> Result<(), LinkError> {
    let failed = |error: ReadError| match error {
        ReadError::Io(error) => match of_tls(&shared.peer, &error) {
            LinkError::Unreachable { detail, .. } => shared.no_answer(detail),
            other => other,
        },
        ReadError::Malformed(error) => {
            tracing::warn!(peer = shared.peer, %error, "a connection is ended: what came are not the answers of this release");
            shared.no_answer(error.to_string())
        }
        other => shared.no_answer(other.to_string()),
    };
    let header = read_header(read, Expect::Answers).await.map_err(failed)?;
    let body = read_body(read, &header).await.map_err(failed)?;
    if header.kind == Kind::Refused {
        return Err(LinkError::Refused {
            peer: shared.peer.clone(),
            reason: String::from_utf8_lossy(&body)
                .chars()
                .filter(|c| !c.is_control())
                .collect(),
        });
    }
    counters.frame(header.service, Direction::In, body.len());
    let waiting = {
        let mut calls = shared.lock();
        calls.used = Some(Instant::now());
        calls.fruitful = true;
        calls.waiting.remove(&header.id)
    };
    match waiting {
        Some(waiting) if waiting.service == header.service => {
            let answer = match header.kind {
                Kind::Answer => Ok(body),
                _ => Err(shared.no_answer("it dropped the call")),
            };
            // Who does not wait any more misses nothing.
            drop(waiting.answer.send(answer));
            Ok(())
        }
        _ => Err(shared.no_answer(format!("it answered call {}, which was not made", header.id))),
    }
}

async fn write_calls<W: AsyncWrite + Unpin>(
    shared: &Shared,
    write: &mut W,
    queue: &mut mpsc::Receiver<Outgoing>,
    counters: &Counters,
) -> LinkError {
    while let Some(frame) = queue.recv().await {
        let given_up = {
            let mut calls = shared.lock();
            let given_up = calls
                .waiting
                .get(&frame.id)
                .is_none_or(|waiting| waiting.answer.is_closed());
            if given_up {
                calls.waiting.remove(&frame.id);
            }
            given_up
        };
        if !given_up {
            counters.call(frame.service, Direction::Out);
            if let Err(error) = write_frame(write, &frame).await {
                return shared.no_answer(error.to_string());
            }
            counters.frame(frame.service, Direction::Out, frame.body.len());
        }
        if queue.is_empty()
            && let Err(error) = write.flush().await
        {
            return shared.no_answer(error.to_string());
        }
    }
    // Nobody can call any more. What was asked is answered still, by the reader.
    drained(shared).await;
    shared.no_answer("the connection was closed, as it was replaced")
}

/// Returns when nothing waits.
async fn drained(shared: &Shared) {
    /// How often that is looked at, at the end of a connection.
    const AGAIN: Duration = Duration::from_millis(20);
    while !shared.lock().waiting.is_empty() {
        sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use constellation_identity::tls::Credentials;
    use constellation_identity::{
        Authority, ClusterId, NODE_VALIDITY, NodeKey, SigningRequest, Trust, UnixSeconds,
    };
    use tokio::time::{Instant, advance, timeout};

    use super::{Connection, IDLE, LinkError, Service, idle};

    fn credentials() -> Arc<Credentials> {
        let (cluster, now) = (ClusterId::generate().unwrap(), UnixSeconds::now());
        let authority = Authority::generate(cluster, now).unwrap();
        let key = NodeKey::generate().unwrap();
        let request = SigningRequest::parse(&key.signing_request().unwrap()).unwrap();
        let certificate = authority
            .certify(&"a".parse().unwrap(), &request, now, NODE_VALIDITY)
            .unwrap();
        let trust = Trust::new(cluster, vec![authority.certificate().clone()]).unwrap();
        Arc::new(Credentials::new(certificate, key, trust, now).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_closed_when_nobody_uses_it_and_not_under_a_call() {
        let (connection, served) = Connection::new("node b".to_owned(), credentials());
        let started = Instant::now();
        let closing = idle(&served.shared);
        tokio::pin!(closing);
        // A call that is never answered keeps it.
        {
            let call = connection.call(Service::Control, Vec::new());
            tokio::pin!(call);
            let waited = timeout(3 * IDLE, async {
                tokio::select! {
                    () = &mut closing => panic!("closed under a call"),
                    answer = &mut call => panic!("{answer:?}"),
                }
            });
            waited.await.unwrap_err();
        }
        served.shared.lock().waiting.clear();
        closing.await;
        assert!(started.elapsed() > 3 * IDLE);
        advance(Duration::from_secs(1)).await;
        // Nobody finds it open, and who had it already is told that nothing was sent.
        assert!(connection.ended().is_some_and(|end| end.fruitless));
        let late = connection.call(Service::Raft, Vec::new()).await;
        assert!(matches!(late, Err(LinkError::Unreachable { .. })), "{late:?}");
    }
}
