//! Back ends: each writes down what it received and answers as the request asks it to.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::site::{BACKENDS, PORTS, Site};
use super::wire::{Head, Reader, text};

/// The header that names a request; its value says by which proxy it went.
pub(super) const PROBE: &str = "X-Probe";
/// The header with the [`Reply`] that a back end shall give.
pub(super) const REPLY: &str = "X-Reply";

/// The same for a back end that is asked for `/auth...`.
pub(super) const AUTH_REPLY: &str = "X-Auth-Reply";
/// The same for a back end that is asked for `/err...`.
pub(super) const PAGE_REPLY: &str = "X-Page-Reply";

/// What a request asks its back end to answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Reply {
    /// Status; 0: 200.
    pub(super) status: u16,
    /// Headers in this order.
    pub(super) headers: Vec<(String, String)>,
    /// The body is this, so many times.
    pub(super) body: String,
    /// See `body`; 0: once.
    pub(super) times: usize,
    /// Chunked, rather than with a length.
    pub(super) chunked: bool,
}

/// A request as it came to a back end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// Address of the back end.
    pub(super) backend: SocketAddr,
    /// Request line without the version.
    pub(super) line: String,
    /// Of HTTP: 1 or 2.
    pub(super) version: u8,
    /// Header lines by name in lower case, in their order.
    pub(super) headers: BTreeMap<String, Vec<String>>,
    /// The body.
    pub(super) body: String,
}

impl Received {
    /// The lines of a header.
    pub(super) fn lines(&self, name: &str) -> &[String] {
        self.headers.get(name).map_or(&[], Vec::as_slice)
    }
}

/// What all back ends received, by the value of [`PROBE`].
#[derive(Clone, Debug, Default)]
pub(super) struct Journal(Arc<Pages>);

#[derive(Debug, Default)]
struct Pages {
    written: Mutex<HashMap<String, Vec<Received>>>,
    /// Tells that something was written.
    more: Notify,
}

impl Journal {
    /// Takes out what came for a request.
    pub(super) fn take(&self, probe: &str) -> Vec<Received> {
        self.0.written.lock().unwrap().remove(probe).unwrap_or_default()
    }

    /// Takes out what came for a request, once it is so much or the time is over.
    pub(super) async fn take_all(&self, probe: &str, count: usize, within: Duration) -> Vec<Received> {
        let mut taken = Vec::new();
        let taking = async {
            loop {
                let more = self.0.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                taken.extend(self.take(probe));
                if taken.len() >= count {
                    return;
                }
                more.await;
            }
        };
        // Too few are a difference, which whoever compares finds.
        drop(timeout(within, taking).await);
        taken
    }

    fn write(&self, received: Received) {
        let probe = received.headers.get(&PROBE.to_ascii_lowercase());
        let probe = probe.map(|values| values.join(",")).unwrap_or_default();
        self.0
            .written
            .lock()
            .unwrap()
            .entry(probe)
            .or_default()
            .push(received);
        self.0.more.notify_waiters();
    }
}

/// The running back ends; they end when dropped.
#[derive(Debug)]
pub(super) struct Backends {
    /// What they received.
    pub(super) journal: Journal,
    tasks: JoinSet<()>,
}

impl Backends {
    /// Starts all of a site.
    pub(super) async fn start(site: &Site) -> io::Result<Self> {
        let journal = Journal::default();
        let mut tasks = JoinSet::new();
        for which in 0..BACKENDS {
            for port in PORTS {
                let listener = TcpListener::bind((site.backend(which), port)).await?;
                tasks.spawn(accept(listener, journal.clone()));
            }
        }
        let host = TcpListener::bind(site.host()).await?;
        tasks.spawn(accept(host, journal.clone()));
        Ok(Self { journal, tasks })
    }

    /// Ends all, and waits until none listens any more.
    pub(super) async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn accept(listener: TcpListener, journal: Journal) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let journal = journal.clone();
                // A connection that breaks shows at the client.
                connections.spawn(async move { serve(stream, &journal).await.unwrap_or_default() });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// How HTTP/2 begins where nobody has agreed on it.
const PREFACE: &[u8] = b"PRI ";

async fn serve(stream: TcpStream, journal: &Journal) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let backend = stream.local_addr()?;
    let mut first = [0; PREFACE.len()];
    // Both proxies write more at once than this.
    if stream.peek(&mut first).await? == first.len() && first == PREFACE {
        return serve_two(stream, backend, journal).await;
    }
    let mut reader = Reader::new(stream);
    while let Some(head) = reader.head().await? {
        let body = match head.length() {
            _ if head.chunked() => reader.chunks().await?,
            Some(length) => reader.exactly(length).await?,
            None => Vec::new(),
        };
        let target = head.first.split(' ').nth(1).unwrap_or_default();
        let asks = asked_in(target);
        let reply = head.get(asks).and_then(|text| serde_json::from_str(text).ok());
        let answer = answer(&head, &reply.unwrap_or_default());
        let line = head.first.rsplit_once(' ').map_or(&*head.first, |(line, _)| line);
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &head.headers {
            let values = headers.entry(name.to_ascii_lowercase()).or_default();
            values.push(value.clone());
        }
        journal.write(Received {
            backend,
            line: line.to_owned(),
            version: 1,
            headers,
            body: text(&body),
        });
        reader.stream.write_all(&answer).await?;
    }
    Ok(())
}

/// The header with the reply to a request for this target.
fn asked_in(target: &str) -> &'static str {
    match target {
        auth if auth.starts_with("/auth") => AUTH_REPLY,
        page if page.starts_with("/err") => PAGE_REPLY,
        _ => REPLY,
    }
}

async fn serve_two(stream: TcpStream, backend: SocketAddr, journal: &Journal) -> io::Result<()> {
    let answer = |request: http::Request<Incoming>| {
        let journal = journal.clone();
        async move { answer_two(request, backend, &journal).await }
    };
    http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await
        .map_err(io::Error::other)
}

async fn answer_two(
    request: http::Request<Incoming>,
    backend: SocketAddr,
    journal: &Journal,
) -> io::Result<http::Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let target = head.uri.path_and_query().map_or("*", |target| target.as_str());
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if let Some(authority) = head.uri.authority() {
        headers.insert("host".to_owned(), vec![authority.to_string()]);
    }
    for (name, value) in &head.headers {
        let values = headers.entry(name.as_str().to_owned()).or_default();
        values.push(text(value.as_bytes()));
    }
    let asks = asked_in(target).to_ascii_lowercase();
    let reply = headers.get(&asks).and_then(|lines| lines.first());
    let reply: Reply = reply
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    journal.write(Received {
        backend,
        line: format!("{} {target}", head.method),
        version: 2,
        headers,
        body: text(&body),
    });
    let status = if reply.status == 0 { 200 } else { reply.status };
    let mut response = http::Response::builder().status(status);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    let body = match (status, head.method) {
        (204 | 304, _) | (_, http::Method::HEAD) => String::new(),
        _ => reply.body.repeat(reply.times.max(1)),
    };
    response
        .body(Full::new(Bytes::from(body)))
        .map_err(io::Error::other)
}

fn answer(head: &Head, reply: &Reply) -> Vec<u8> {
    let status = if reply.status == 0 { 200 } else { reply.status };
    let mut out = format!("HTTP/1.1 {status} Status\r\n");
    for (name, value) in &reply.headers {
        out += &format!("{name}: {value}\r\n");
    }
    let bodiless = matches!(status, 204 | 304);
    let body = reply.body.repeat(reply.times.max(1));
    if !bodiless {
        out += &if reply.chunked {
            "Transfer-Encoding: chunked\r\n".to_owned()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
    }
    out += "\r\n";
    if !bodiless && !head.first.starts_with("HEAD ") {
        out += &match reply.chunked {
            true if body.is_empty() => "0\r\n\r\n".to_owned(),
            true => format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
            false => body,
        };
    }
    out.into_bytes()
}
