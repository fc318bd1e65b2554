//! Connections to back ends of one worker: idle ones of HTTP/1 kept here, those of HTTP/2 by pingora's connector.
//!
//! An idle connection belongs to an endpoint. It is closed when its time is over, when the back end closed it, and when
//! the endpoint left every generation.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use constellation_table::Live;
use nix::errno::Errno;
use nix::sys::socket::MsgFlags;
use pingora_core::connectors::ConnectorOptions;
use pingora_core::connectors::http::v2::Connector;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v1::client::HttpSession as Http1Session;
use pingora_core::upstreams::peer::{HttpPeer, Peer as _};
use pingora_error::Result;
use tokio::io::{AsyncRead, ReadBuf};

use super::backlog::Patient;

/// Idle connections kept per worker; below the number of concurrent requests, half of them would connect anew.
const MAX_IDLE: usize = 1024;
/// How long an idle connection is kept where nobody says otherwise.
const IDLE: Duration = Duration::from_secs(90);

/// What makes connections interchangeable: the endpoint's template (scheme, trust, transport) and the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// A hash of the template.
    pub(super) template: u64,
    /// The address connected to.
    pub(super) address: SocketAddr,
}

/// The connections of one worker.
pub(super) struct Pool {
    connector: Connector,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    endpoints: HashMap<Key, Bucket, ahash::RandomState>,
    count: usize,
    /// Whose the connections of HTTP/2 are, by the connector's own key.
    shared: HashMap<u64, Weak<Live>, ahash::RandomState>,
}

struct Bucket {
    /// Held by nobody else once the endpoint has left every generation and its last request is over.
    owner: Arc<Live>,
    /// The most recently used last.
    streams: Vec<Kept>,
}

struct Kept {
    stream: Stream,
    until: Instant,
}

impl Pool {
    /// An empty pool. Panics, as pingora does, when the system's certificate authorities can't be loaded.
    pub(super) fn new() -> Self {
        let options = ConnectorOptions::new(MAX_IDLE);
        Self {
            connector: Connector::new(Some(options)),
            idle: Mutex::default(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Idle) -> T) -> T {
        act(&mut self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An idle HTTP/1 connection. `surely`: ask the kernel too whether the back end has closed it, for requests that
    /// can't be repeated.
    pub(super) fn idle(&self, key: Key, surely: bool) -> Option<HttpSession> {
        loop {
            let mut kept = self.with(|idle| {
                let bucket = idle.endpoints.get_mut(&key)?;
                let kept = bucket.streams.pop()?;
                idle.count -= 1;
                Some(kept)
            })?;
            if kept.until > Instant::now() && is_open(&mut kept.stream, surely) {
                return Some(HttpSession::H1(Http1Session::new(kept.stream)));
            }
        }
    }

    /// Connects, or opens a stream on an HTTP/2 connection there is. Says whether the connection was used before.
    pub(super) async fn connect(&self, peer: &HttpPeer) -> Result<(HttpSession, bool)> {
        let h1 = |stream| HttpSession::H1(Http1Session::new(Box::new(Patient::new(stream))));
        if peer.options.alpn.get_max_http_version() == 1 {
            let stream = self.connector.transport().new_stream(peer).await?;
            return Ok((h1(stream), false));
        }
        if let Some(session) = self.connector.reused_http_session(peer).await? {
            return Ok((HttpSession::H2(session), true));
        }
        Ok(match self.connector.new_http_session(peer).await? {
            HttpSession::H1(session) => (h1(session.into_inner()), false),
            other => (other, false),
        })
    }

    /// From now on `peer` is asked for HTTP/1 only.
    pub(super) fn prefer_h1(&self, peer: &HttpPeer) {
        self.connector.prefer_h1(peer);
    }

    /// Takes back a connection whose request is over and whose response was read to its end; one that can't be used
    /// again is closed.
    pub(super) async fn release(
        &self,
        session: HttpSession,
        key: Key,
        owner: &Arc<Live>,
        peer: Option<&HttpPeer>,
        idle_for: Option<Duration>,
    ) {
        match session {
            HttpSession::H1(mut h1) => {
                h1.respect_keepalive();
                let Some(stream) = h1.reuse().await else {
                    return;
                };
                let until = Instant::now() + idle_for.unwrap_or(IDLE);
                self.with(|idle| idle.put(key, owner, Kept { stream, until }));
            }
            HttpSession::H2(session) => {
                if let Some(peer) = peer {
                    let owner = Arc::downgrade(owner);
                    self.with(|idle| idle.shared.insert(peer.reuse_hash(), owner));
                    self.connector.release_http_session(session, peer, idle_for);
                }
            }
            HttpSession::Custom(()) => {}
        }
    }

    /// Closes what is over, what the back end closed, and what belongs to endpoints that are gone. To be called about once a second.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.with(|idle| {
            idle.endpoints.retain(|_, bucket| {
                if Arc::strong_count(&bucket.owner) == 1 || bucket.owner.departed() {
                    bucket.streams.clear();
                }
                bucket
                    .streams
                    .retain_mut(|kept| kept.until > now && is_open(&mut kept.stream, false));
                !bucket.streams.is_empty()
            });
            idle.count = idle.endpoints.values().map(|bucket| bucket.streams.len()).sum();
            idle.shared.retain(|key, owner| {
                let owner = owner.upgrade();
                if owner.as_ref().is_none_or(|owner| owner.departed()) {
                    // One with streams of requests that still run is found here when they are over.
                    while self.connector.idle_pool().get(key).is_some() {}
                }
                owner.is_some()
            });
        });
    }
}

impl Idle {
    fn put(&mut self, key: Key, owner: &Arc<Live>, kept: Kept) {
        if self.count >= MAX_IDLE || owner.departed() {
            return;
        }
        self.count += 1;
        let bucket = self.endpoints.entry(key).or_insert_with(|| Bucket {
            owner: owner.clone(),
            streams: Vec::new(),
        });
        bucket.streams.push(kept);
    }
}

/// Whether an idle connection is still open. Bytes that nobody asked for count as the end: they would be taken for the
/// next response.
fn is_open(stream: &mut Stream, surely: bool) -> bool {
    if surely && !is_open_by_kernel(stream) {
        return false;
    }
    let mut byte = [0; 1];
    let mut buffer = ReadBuf::new(&mut byte);
    let mut context = Context::from_waker(Waker::noop());
    matches!(
        Pin::new(stream).poll_read(&mut context, &mut buffer),
        Poll::Pending
    )
}

/// The runtime hears of a closed connection only when it next looks; the kernel knows at once. Any byte counts as the end
/// here: of TLS it is more likely the alert before the close than a late ticket, and a new connection harms nobody.
fn is_open_by_kernel(stream: &Stream) -> bool {
    let mut byte = [0; 1];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    nix::sys::socket::recv(stream.id(), &mut byte, flags) == Err(Errno::EAGAIN)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener};

    use rustls_pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A back end that speaks TLS, and says good-bye when it is told to, but leaves its socket open.
    fn farewell() -> (SocketAddr, std::sync::mpsc::Sender<()>) {
        let made = rcgen::generate_simple_self_signed(vec!["app.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(crate::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut socket = listener.accept().unwrap().0;
            let mut session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = rustls::Stream::new(&mut session, &mut socket);
            let mut word = [0; 4];
            stream.read_exact(&mut word).unwrap();
            stream.write_all(&word).unwrap();
            told.recv().unwrap();
            session.send_close_notify();
            session.write_tls(&mut socket).unwrap();
            // Until the test is over.
            told.recv().unwrap_err();
        });
        (address, tell)
    }

    #[tokio::test]
    async fn a_farewell_that_nobody_has_read_ends_a_tls_connection() {
        let (address, tell) = farewell();
        let mut peer = HttpPeer::new(address, true, "app.test".to_owned());
        peer.options.verify_cert = false;
        peer.options.verify_hostname = false;
        let pool = Pool::new();
        let mut stream = pool.connector.transport().new_stream(&peer).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        stream.flush().await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        assert!(is_open(&mut stream, true));
        tell.send(()).unwrap();
        // Not awaited: the runtime must not look at the socket meanwhile.
        let until = Instant::now() + Duration::from_secs(10);
        let mut byte = [0; 1];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        while nix::sys::socket::recv(stream.id(), &mut byte, flags).is_err() {
            assert!(Instant::now() < until, "no farewell");
            std::thread::yield_now();
        }
        assert!(!is_open(&mut stream, true));
    }
}
